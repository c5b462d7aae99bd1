"""Benchmark of a whole training step of MTL-net against the same step in plain PyTorch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from smoothdistill.benchmark.workload import Case, Provider, Workload

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["CASES", "NUM_CLASSES", "PROVIDERS"]

NUM_CLASSES = {"activity": 18, "placement": 2}
DECAY = 0.999
LEARNING_RATE = 1e-3
_POOL_OF_BATCHES = 8

CASES = (Case("MTL-net, batch 64", ((64, 3, 100),)), Case("MTL-net, batch 256", ((256, 3, 100),)))


def _model() -> nn.Module:
    import torch

    from smoothdistill.models import MTLNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MTLNet(NUM_CLASSES, in_channels=3, window_samples=100)


def _batches(case: Case) -> list[tuple[Tensor, dict[str, Tensor]]]:
    import torch

    generator = torch.Generator().manual_seed(0)
    (shape,) = case.shapes
    return [
        (
            torch.randn(shape, generator=generator),
            {
                task: torch.randint(count, shape[:1], generator=generator)
                for task, count in NUM_CLASSES.items()
            },
        )
        for _ in range(_POOL_OF_BATCHES)
    ]


def _fused(case: Case) -> Workload:
    from smoothdistill.training.train_step import TrainStep

    model, batches, calls = _model(), _batches(case), [0]
    step = TrainStep(model, method="smooth-distill", lr=LEARNING_RATE, warmup_steps=0)

    def call() -> None:
        step(*batches[calls[0] % _POOL_OF_BATCHES])
        calls[0] += 1

    return Workload(call, lambda: [*model.parameters(), *step.teacher.model.parameters()])


def _plain(case: Case) -> Workload:
    import torch
    from torch.nn import functional

    model, batches, calls = _model(), _batches(case), [0]
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    averages = [parameter.detach() for parameter in teacher.parameters()]
    students = [parameter.detach() for parameter in model.parameters()]

    def call() -> None:
        signals, targets = batches[calls[0] % _POOL_OF_BATCHES]
        calls[0] += 1
        with torch.no_grad():
            teacher_logits = teacher(signals)
        student_logits = model(signals)
        total = torch.zeros(())
        for task, target in targets.items():
            divergence = functional.kl_div(
                functional.log_softmax(student_logits[task] / 3.0, dim=1),
                functional.softmax(teacher_logits[task] / 3.0, dim=1),
                reduction="batchmean",
            )
            loss = functional.cross_entropy(student_logits[task], target)
            total = total + 0.5 * (loss + 0.5 * 9.0 * divergence)
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        torch._foreach_lerp_(averages, students, 1.0 - DECAY)

    return Workload(call, lambda: [*model.parameters(), *teacher.parameters()])


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("TrainStep", "fused", _fused),
        Provider("plain PyTorch step", "baseline", _plain),
    )
}
