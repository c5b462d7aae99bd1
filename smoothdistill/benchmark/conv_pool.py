"""Benchmark of `conv_pool`, with and without gradients, against each order of PyTorch's layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothdistill.benchmark.workload import Case, Provider, Workload

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CASES", "PROVIDERS", "ConvPoolCase", "ConvPoolInputs", "draw_inputs"]

_KERNEL_SAMPLES = 9


@dataclass(frozen=True)
class ConvPoolCase(Case):
    """One layer; `shapes` are those of signals and weight.

    Attributes:
        has_backward: Whether the gradients are computed too.
        needs_signals: Whether that of the signals is one of them: not in a first layer.
    """

    has_backward: bool = False
    needs_signals: bool = False


def _cases() -> tuple[ConvPoolCase, ...]:
    layers = (
        # MTL-net's at the default batch: (name, batch, in_channels, time, out_channels)
        ("published, conv 1, batch 64", 64, 1, 100, 32),
        ("axes, conv 1, batch 64", 64, 3, 100, 32),
        ("conv 2, batch 64", 64, 32, 46, 64),
        ("conv 2, batch 1", 1, 32, 46, 64),
        ("conv 2, batch 1024", 1024, 32, 46, 64),
    )
    return tuple(
        ConvPoolCase(
            f"{name}, {'forward + backward' if has_backward else 'forward'}",
            ((batch, in_channels, time), (out_channels, in_channels, _KERNEL_SAMPLES)),
            has_backward=has_backward,
            needs_signals=in_channels == 32,
        )
        for name, batch, in_channels, time, out_channels in layers
        for has_backward in (False, True)
    )


CASES = _cases()


@dataclass(frozen=True)
class ConvPoolInputs:
    """The tensors of a call, and the gradient that comes back."""

    signals: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor


def draw_inputs(case: Case) -> ConvPoolInputs:
    """Whole numbers so small that each sum is exact in any order: all answers must be equal.

    With other numbers rounding would choose the other of a pair now and then, and send the
    gradient elsewhere.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    (batch, in_channels, time), (out_channels, _, kernel) = case.shapes
    pooled = (time - kernel + 1) // 2

    def draw(*shape: int) -> Tensor:
        return torch.randint(-8, 9, shape, generator=generator).float()

    return ConvPoolInputs(
        draw(batch, in_channels, time),
        draw(out_channels, in_channels, kernel),
        draw(out_channels),
        draw(batch, out_channels, pooled),
    )


def _workload(case: Case, layer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Workload:
    import torch

    assert isinstance(case, ConvPoolCase)
    inputs = draw_inputs(case)
    operands = inputs.signals, inputs.weight, inputs.bias
    latest: list[Tensor] = []

    def forward() -> None:
        with torch.no_grad():
            latest[:] = [layer(*operands)]

    if not case.has_backward:
        return Workload(forward, lambda: list(latest))
    leaves = [t.requires_grad_() for t in (operands if case.needs_signals else operands[1:])]

    def forward_and_backward() -> None:
        # The gradients that go on to the optimizer; nothing is accumulated into a leaf.
        pooled = layer(*operands)
        latest[:] = [pooled, *torch.autograd.grad(pooled, leaves, inputs.grad)]

    return Workload(forward_and_backward, lambda: list(latest))


def _relu_last(signals: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.relu(functional.max_pool1d(functional.conv1d(signals, weight, bias), 2))


def _relu_first(signals: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.max_pool1d(functional.relu(functional.conv1d(signals, weight, bias)), 2)


def _two_dimensional(signals: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As the released code has the layer: one row of a picture."""
    from torch.nn import functional

    filtered = functional.conv2d(signals.unsqueeze(2), weight.unsqueeze(2), bias)
    return functional.max_pool2d(functional.relu(filtered), (1, 2)).squeeze(2)


def _fused(case: Case) -> Workload:
    from smoothdistill.ops import conv_pool

    return _workload(case, conv_pool)


def _compiled(case: Case) -> Workload:
    import torch

    torch.compiler.reset()  # every case gets its own, static shapes
    workload = _workload(case, torch.compile(_relu_last, fullgraph=True, dynamic=False))
    workload.call()  # compiles; raises where there is no compiler
    return workload


def _reference(case: Case) -> Workload:
    from smoothdistill import reference

    assert isinstance(case, ConvPoolCase)
    inputs = draw_inputs(case)
    latest: list[Tensor] = []

    def call() -> None:
        pooled, choice = reference.conv_pool(inputs.signals, inputs.weight, inputs.bias)
        latest[:] = [pooled]
        if case.has_backward:
            gradients = reference.conv_pool_backward(
                inputs.grad, choice, inputs.signals, inputs.weight, case.needs_signals
            )
            latest.extend(gradient for gradient in gradients if gradient is not None)

    return Workload(call, lambda: list(latest))


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("conv_pool", "fused", _fused),
        Provider("relu(max_pool1d(conv1d))", "baseline", lambda case: _workload(case, _relu_last)),
        Provider("max_pool1d(relu(conv1d))", "baseline", lambda case: _workload(case, _relu_first)),
        Provider(
            "max_pool2d(relu(conv2d))", "baseline", lambda case: _workload(case, _two_dimensional)
        ),
        Provider("torch.compile", "baseline", _compiled),
        Provider("reference", "reference", _reference),
    )
}
