"""Benchmark of `adam_ema_` against `torch.optim.Adam(fused=True)` and a cached EMA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smoothdistill.benchmark.tensors import (
    MTL_NET_SHAPES,
    SIXTEEN_MILLION,
    SMALL_SHAPES,
    make_tensors,
    size_of,
)
from smoothdistill.benchmark.workload import Case, Provider, Workload

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["CASES", "DECAY", "LEARNING_RATE", "PROVIDERS"]

DECAY = 0.999
LEARNING_RATE = 1e-3
# Read parameter, gradient, two moments and teacher; write all of them but the gradient.
_BYTES_PER_ELEMENT = 36

CASES = tuple(
    Case(name, shapes, _BYTES_PER_ELEMENT * size_of(shapes))
    for name, shapes in (
        ("12 small, 34.7 k", SMALL_SHAPES),
        ("MTL-net, 1.8 M", MTL_NET_SHAPES),
        ("16 M", SIXTEEN_MILLION),
    )
)


def _model(case: Case) -> nn.ParameterList:
    """The parameters of a case, each with its gradient."""
    from torch import nn

    model = nn.ParameterList(nn.Parameter(tensor) for tensor in make_tensors(case.shapes, seed=0))
    for parameter, gradient in zip(model, make_tensors(case.shapes, seed=1), strict=True):
        parameter.grad = gradient
    return model


def _answer(params: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
    return [*params, *teacher]


def _fused_optimizer(case: Case) -> Workload:
    from smoothdistill.optim import AdamEMA, EMATeacher

    model = _model(case)
    teacher = EMATeacher(model, decay=DECAY)
    optimizer = AdamEMA(model.parameters(), lr=LEARNING_RATE, teacher=teacher)
    params, averages = list(model.parameters()), list(teacher.model.parameters())
    return Workload(optimizer.step, lambda: _answer(params, averages))


def _fused_op(case: Case) -> Workload:
    import torch

    from smoothdistill.ops import adam_ema_

    model = _model(case)
    params = [parameter.detach() for parameter in model]
    grads: list[Tensor | None] = [parameter.grad for parameter in model]
    exp_avgs, exp_avg_sqs = ([torch.zeros_like(p) for p in params] for _ in range(2))
    teacher = [p.clone() for p in params]
    num_steps = 0

    def call() -> None:
        nonlocal num_steps
        num_steps += 1
        adam_ema_(
            params, grads, exp_avgs, exp_avg_sqs, teacher, lr=LEARNING_RATE, step=num_steps,
            decay=DECAY,
        )  # fmt: skip

    return Workload(call, lambda: _answer(params, teacher))


def _torch(case: Case) -> Workload:
    import torch

    model = _model(case)
    params = list(model.parameters())
    teacher = [p.detach().clone() for p in params]
    students = [p.detach() for p in params]  # the cached list of the strongest baseline
    optimizer = torch.optim.Adam(params, lr=LEARNING_RATE, fused=True)
    weight = 1.0 - DECAY

    def call() -> None:
        optimizer.step()
        torch._foreach_lerp_(teacher, students, weight)

    return Workload(call, lambda: _answer(params, teacher))


def _reference(case: Case) -> Workload:
    import torch

    from smoothdistill import reference

    model = _model(case)
    params = [parameter.detach() for parameter in model]
    grads: list[Tensor | None] = [parameter.grad for parameter in model]
    exp_avgs, exp_avg_sqs = ([torch.zeros_like(p) for p in params] for _ in range(2))
    teacher = [p.clone() for p in params]
    counts = [torch.zeros(()) for _ in params]

    def call() -> None:
        reference.adam_ema_(
            params, grads, exp_avgs, exp_avg_sqs, teacher, counts, lr=LEARNING_RATE, decay=DECAY,
            betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False, grad_scale=None,
            found_inf=None, clip_factor=1.0,
        )  # fmt: skip

    return Workload(call, lambda: _answer(params, teacher))


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("AdamEMA.step", "fused", _fused_optimizer),
        Provider("adam_ema_", "fused", _fused_op),
        Provider("Adam(fused) + _foreach_lerp_", "baseline", _torch),
        Provider("reference", "reference", _reference),
    )
}
