"""Benchmark of `multitask_kd_loss`, forward and backward, against eager and compiled PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothdistill.benchmark.workload import Case, Provider, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["CASES", "PROVIDERS"]

TASK_WEIGHT = 0.5
DISTILL_WEIGHT = 0.5
TEMPERATURE = 3.0

CASES = (
    Case("64 x (12, 3)", ((64, 12), (64, 3))),
    Case("4096 x (1000, 50)", ((4096, 1000), (4096, 50))),
)


def _inputs(case: Case) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    import torch

    generator = torch.Generator().manual_seed(0)
    students = [torch.randn(shape, generator=generator).requires_grad_() for shape in case.shapes]
    teachers = [torch.randn(shape, generator=generator) for shape in case.shapes]
    targets = [torch.randint(c, (b,), generator=generator) for b, c in case.shapes]
    return students, teachers, targets


def _workload(
    case: Case, loss: Callable[[list[Tensor], list[Tensor], list[Tensor]], Tensor]
) -> Workload:
    import torch

    students, teachers, targets = _inputs(case)
    latest: list[Tensor] = []

    def call() -> None:
        # The gradient that goes on into the network; nothing is accumulated into a leaf.
        total = loss(students, teachers, targets)
        latest[:] = [total, *torch.autograd.grad(total, students)]

    return Workload(call, lambda: list(latest))


def _eager_loss(students: list[Tensor], teachers: list[Tensor], targets: list[Tensor]) -> Tensor:
    import torch
    from torch.nn import functional

    total = torch.zeros(())
    for student, teacher, target in zip(students, teachers, targets, strict=True):
        divergence = functional.kl_div(
            functional.log_softmax(student / TEMPERATURE, dim=1),
            functional.softmax(teacher / TEMPERATURE, dim=1),
            reduction="batchmean",
        )
        total = total + TASK_WEIGHT * (
            functional.cross_entropy(student, target) + DISTILL_WEIGHT * TEMPERATURE**2 * divergence
        )
    return total


def _eager_all_outputs(
    students: list[Tensor], teachers: list[Tensor], targets: list[Tensor]
) -> Tensor:
    """The loss, and what the fused op gives besides: both parts and the counts of every task."""
    import torch
    from torch.nn import functional

    total = torch.zeros(())
    parts, counts = [], []
    for student, teacher, target in zip(students, teachers, targets, strict=True):
        cross_entropy = functional.cross_entropy(student, target)
        distillation = TEMPERATURE**2 * functional.kl_div(
            functional.log_softmax(student / TEMPERATURE, dim=1),
            functional.softmax(teacher / TEMPERATURE, dim=1),
            reduction="batchmean",
        )
        total = total + TASK_WEIGHT * (cross_entropy + DISTILL_WEIGHT * distillation)
        parts += [cross_entropy.detach(), distillation.detach()]
        counts += [(student.detach().argmax(dim=1) == target).sum(), (target != -100).sum()]
    torch.stack(parts)
    torch.stack(counts)
    return total


def _fused(case: Case) -> Workload:
    from smoothdistill.ops import multitask_kd_loss

    def loss(students: list[Tensor], teachers: list[Tensor], targets: list[Tensor]) -> Tensor:
        return multitask_kd_loss(
            students, teachers, targets, task_weights=TASK_WEIGHT, distill_weight=DISTILL_WEIGHT,
            temperature=TEMPERATURE,
        ).total  # fmt: skip

    return _workload(case, loss)


def _eager(case: Case) -> Workload:
    return _workload(case, _eager_loss)


def _eager_same(case: Case) -> Workload:
    return _workload(case, _eager_all_outputs)


def _compiled(case: Case) -> Workload:
    import torch

    torch.compiler.reset()  # every case gets its own, static shapes
    workload = _workload(case, torch.compile(_eager_loss, fullgraph=True, dynamic=False))
    workload.call()  # compiles; raises where there is no compiler
    return workload


def _reference(case: Case) -> Workload:
    from smoothdistill import reference

    def loss(students: list[Tensor], teachers: list[Tensor], targets: list[Tensor]) -> Tensor:
        count = len(students)
        total, *_ = reference.multitask_kd_loss(
            students, teachers, targets, task_weights=[TASK_WEIGHT] * count,
            distill_weight=[DISTILL_WEIGHT] * count, temperature=[TEMPERATURE] * count,
            label_smoothing=[0.0] * count, class_weights=[None] * count, ignore_index=-100,
        )  # fmt: skip
        return total

    return _workload(case, loss)


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("multitask_kd_loss", "fused", _fused),
        Provider("eager", "baseline", _eager),
        Provider("eager, same outputs", "baseline", _eager_same),
        Provider("torch.compile", "baseline", _compiled),
        Provider("reference", "reference", _reference),
    )
}
