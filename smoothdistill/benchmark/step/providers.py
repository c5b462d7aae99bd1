"""The ways to do one training step: the published loop, tuned PyTorch, and ours.

All do the same: forward of student and teacher, both cross-entropies and distillations, backward,
Adam, and the moving average.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal

from smoothdistill.benchmark.step.case import LAYOUTS

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.benchmark.step.case import Layout, StepCase
    from smoothdistill.benchmark.step.networks import PlainNet
    from smoothdistill.models import MTLNet
    from smoothdistill.training.train_step import TrainStep

__all__ = [
    "DECAY",
    "LEARNING_RATE",
    "PROVIDERS",
    "PreparedStep",
    "StepProvider",
    "build_train_step",
    "kd_loss",
    "tuned_form",
]

DECAY = 0.999
LEARNING_RATE = 1e-3
TEMPERATURE, DISTILL_WEIGHT, TASK_WEIGHT = 3.0, 0.5, 0.5

Step = Callable[["Tensor", "dict[str, Tensor]"], "Tensor | float"]


@dataclass(frozen=True, eq=False)
class PreparedStep:
    """A step that is ready to be called.

    Attributes:
        step: Trains by one batch and returns its loss.
        prepare: Brings signals into the form that `step` takes, before anything is timed.
    """

    step: Step
    prepare: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class StepProvider:
    """One way to do the step.

    Attributes:
        name: For tables.
        kind: Ours ("fused") or PyTorch's ("baseline").
        make: Prepares the step, beginning with the weights of the case's model. A baseline may
            raise, and is then left out, with the reason.
        layouts: Where it differs from another provider.
        precision: Number format of forward and backward; decides what losses may differ by.
    """

    name: str
    kind: Literal["fused", "baseline"]
    make: Callable[[StepCase], PreparedStep]
    layouts: tuple[Layout, ...] = LAYOUTS
    precision: Literal["float32", "bfloat16"] = "float32"


def kd_loss(
    student: dict[str, Tensor], teacher: dict[str, Tensor], targets: dict[str, Tensor]
) -> Tensor:
    """The loss in plain PyTorch: cross-entropy plus T² KL of every task, weighted and added."""
    from torch.nn import functional

    parts = []
    for task, logits in student.items():
        cross_entropy = functional.cross_entropy(logits, targets[task])
        divergence = functional.kl_div(
            functional.log_softmax(logits / TEMPERATURE, dim=1),
            functional.softmax(teacher[task] / TEMPERATURE, dim=1),
            reduction="batchmean",
        )
        parts.append(TASK_WEIGHT * (cross_entropy + DISTILL_WEIGHT * TEMPERATURE**2 * divergence))
    return reduce(add, parts)


def _published(case: StepCase) -> PreparedStep:
    """As the released code has it: default Adam, a Python loop for the average, losses read."""
    import torch
    from torch.nn import functional

    from smoothdistill.benchmark.step.networks import conv2d_form, relu_first_form

    net = (conv2d_form if case.layout == "published" else relu_first_form)(case.model())
    teacher = copy.deepcopy(net).eval()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)

    def step(rows: Tensor, targets: dict[str, Tensor]) -> float:
        optimizer.zero_grad()
        student_logits = net(rows)
        with torch.no_grad():
            teacher_logits = teacher(rows)
        parts = []
        for task, logits in student_logits.items():
            cross_entropy = functional.cross_entropy(logits, targets[task])
            divergence = functional.kl_div(
                functional.log_softmax(logits / TEMPERATURE, dim=1),
                functional.softmax(teacher_logits[task] / TEMPERATURE, dim=1),
                reduction="batchmean",
            )
            distillation = divergence * TEMPERATURE**2
            parts.append(TASK_WEIGHT * (cross_entropy + DISTILL_WEIGHT * distillation))
            correct = (logits.argmax(dim=1) == targets[task]).sum()
            _ = cross_entropy.item(), distillation.item(), correct.item()
        total = reduce(add, parts)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), net.parameters(), strict=True):
                slow.data = DECAY * slow.data + (1.0 - DECAY) * fast.data
        return float(total.item())

    return PreparedStep(step, net.prepare)


def tuned_form(model: MTLNet) -> PlainNet:
    """The network that tuned PyTorch trains: the published layout keeps its published form."""
    from smoothdistill.benchmark.step.networks import conv2d_form, pool_first_form

    return (conv2d_form if model.layout == "published" else pool_first_form)(model)


def _tuned(case: StepCase) -> PreparedStep:
    return _tuned_step(case, tuned_form(case.model()))


def _tuned_live(case: StepCase) -> PreparedStep:
    from smoothdistill.benchmark.step.networks import pool_first_form

    return _tuned_step(case, pool_first_form(case.model()))


def _tuned_compiled(case: StepCase) -> PreparedStep:
    """Forward and loss compiled; live rows only, which is the faster of the two."""
    import torch

    from smoothdistill.benchmark.step.networks import pool_first_form

    torch.compiler.reset()  # every case gets its own, static shapes
    return _tuned_step(case, pool_first_form(case.model()), is_compiled=True)


def _tuned_bfloat16(case: StepCase) -> PreparedStep:
    """Forward under autocast; live rows only."""
    from smoothdistill.benchmark.step.networks import pool_first_form

    return _tuned_step(case, pool_first_form(case.model()), uses_autocast=True)


def _tuned_step(
    case: StepCase, net: PlainNet, *, is_compiled: bool = False, uses_autocast: bool = False
) -> PreparedStep:
    """Fused Adam, one `_foreach_lerp_` over cached lists, and no reading."""
    import torch

    teacher = copy.deepcopy(net).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    averages = [parameter.detach() for parameter in teacher.parameters()]
    students = [parameter.detach() for parameter in net.parameters()]

    def loss(rows: Tensor, targets: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            teacher_logits = teacher(rows)
        student_logits = net(rows)
        if uses_autocast:  # the loss is float32 in every mixed-precision recipe
            student_logits = {task: logits.float() for task, logits in student_logits.items()}
            teacher_logits = {task: logits.float() for task, logits in teacher_logits.items()}
        return kd_loss(student_logits, teacher_logits, targets)

    if is_compiled:
        # On a GPU inside CUDA graphs of PyTorch's own.
        mode = "reduce-overhead" if case.device == "cuda" else None
        loss = torch.compile(loss, fullgraph=True, dynamic=False, mode=mode)
        signals, targets = case.batches()[0]
        loss(net.prepare(signals), targets)  # compiles; raises where there is no compiler

    def step(rows: Tensor, targets: dict[str, Tensor]) -> Tensor:
        with torch.autocast(case.device, torch.bfloat16, enabled=uses_autocast):
            total = loss(rows, targets)
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        torch._foreach_lerp_(averages, students, 1.0 - DECAY)
        return total.detach()

    return PreparedStep(step, net.prepare)


def build_train_step(model: MTLNet, **options: Any) -> TrainStep:
    """`TrainStep` with the numbers that all providers share."""
    from smoothdistill.training.train_step import TrainStep

    return TrainStep(model, "smooth-distill", lr=LEARNING_RATE, warmup_steps=0, **options)


def _ours(**options: Any) -> Callable[[StepCase], PreparedStep]:
    def make(case: StepCase) -> PreparedStep:
        step = build_train_step(case.model(), **options)
        return PreparedStep(
            lambda signals, targets: step(signals, targets).total, lambda signals: signals
        )

    return make


PROVIDERS = {
    provider.name: provider
    for provider in (
        StepProvider("ours, float32", "fused", _ours()),
        StepProvider("ours, bfloat16", "fused", _ours(precision="bfloat16"), precision="bfloat16"),
        StepProvider("ours, general path", "fused", _ours(path="general")),
        StepProvider("published form", "baseline", _published),
        StepProvider("tuned PyTorch", "baseline", _tuned),
        StepProvider("tuned, live rows only", "baseline", _tuned_live, layouts=("published",)),
        StepProvider("tuned + torch.compile", "baseline", _tuned_compiled),
        StepProvider(
            "tuned + bfloat16 autocast", "baseline", _tuned_bfloat16, precision="bfloat16"
        ),
    )
}
