"""What any `conv_pool` must do. The tests hold the op to it, and the mutants must fail it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from smoothdistill import reference

from .guarded import Guards, assert_within

ConvPoolOp = Callable[..., Any]
CPU = torch.device("cpu")
NAN, INFINITY = float("nan"), float("inf")

# One off the vector width of each instruction set, and off the rows of windows computed at once.
BATCHES = (1, 2, 15, 16, 17, 63, 64, 65, 130, 300)
IN_CHANNELS = (1, 2, 3, 6, 9, 32, 33)
OUT_CHANNELS = (1, 2, 3, 32, 64, 65)
KERNELS = (1, 2, 3, 8, 9)
SURPLUS = (1, 2, 3, 4, 13, 28, 46, 47, 92, 191)  # samples beyond the kernel: even and odd outputs
_MOST_PRODUCTS = 4_000_000  # of the convolution, so that a test is quick


@dataclass(frozen=True)
class Case:
    """Shapes of a call and its numbers, drawn from a fixed seed.

    `integers` are small enough that every sum is exact, in whatever order: the results must be
    equal to the last bit, and there are many ties and zeros.
    """

    batch: int = 3
    in_channels: int = 3
    time: int = 20
    out_channels: int = 5
    kernel: int = 9
    values: str = "normal"  # or "integers"
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default=CPU)

    @property
    def pooled(self) -> int:
        return (self.time - self.kernel + 1) // 2

    def inputs(self) -> Inputs:
        """The tensors of the call."""
        generator = torch.Generator().manual_seed(1000 * self.batch + self.time)

        def draw(*shape: int) -> Tensor:
            if self.values == "integers":
                drawn = torch.randint(-2, 3, shape, generator=generator)
            else:
                drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            return drawn.to(self.device, self.dtype)

        return Inputs(
            draw(self.batch, self.in_channels, self.time),
            draw(self.out_channels, self.in_channels, self.kernel),
            draw(self.out_channels),
            draw(self.batch, self.out_channels, self.pooled),
        )


@dataclass
class Inputs:
    """The tensors of a call, and the gradient that comes back."""

    signals: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor

    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.signals, self.weight, self.bias


VARIANTS = {
    "smallest": Case(1, 1, 2, 1, 1),
    "one output": Case(2, 3, 10, 4, 9),
    "odd last output": Case(2, 3, 11, 4, 9),
    "published, first layer": Case(17, 1, 100, 32, 9),
    "published, second layer": Case(16, 32, 46, 64, 9),
    "axes, first layer": Case(17, 3, 100, 32, 9),
    "one tap": Case(5, 4, 15, 3, 1),
    "long filter": Case(3, 2, 150, 3, 131),
    "many channels": Case(2, 130, 12, 140, 3),
    "long window": Case(2, 2, 1001, 3, 9),
}


def shapes_of(batch: int) -> list[Case]:
    """Seven cases of a batch; over all of `BATCHES` each two of the lists meet in every pair."""
    cases = []
    for turn, in_channels in enumerate(IN_CHANNELS):
        number = turn * len(BATCHES) + BATCHES.index(batch)
        out_channels = OUT_CHANNELS[(number + turn) % len(OUT_CHANNELS)]
        kernel = KERNELS[(3 * number + turn) % len(KERNELS)]
        products = batch * in_channels * out_channels * kernel
        surplus = [s for s in SURPLUS if s * products <= _MOST_PRODUCTS] or [1]
        cases.append(
            Case(batch, in_channels, kernel + surplus[number % len(surplus)], out_channels, kernel)
        )
    return cases


def check_case(op: ConvPoolOp, case: Case) -> None:
    """Outputs and gradients against the float64 reference, and unchanged inputs."""
    check_inputs(op, case, case.inputs())


def check_inputs(op: ConvPoolOp, case: Case, inputs: Inputs) -> None:
    """As `check_case`, over tensors that the caller made.

    Where rounding may choose the other of a pair, or open the ReLU, no gradient is sent.
    """
    wide = Inputs(*(t.double() for t in (*inputs.leaves(), inputs.grad)))
    expected, choice = reference.conv_pool(*wide.leaves())
    bound = forward_bound(case, inputs)
    uncertain = is_uncertain(case, inputs)
    wide.grad = wide.grad.masked_fill(uncertain, 0.0)

    guards = Guards()
    leaves = [guards.place(t).requires_grad_() for t in inputs.leaves()]
    grad = guards.place(inputs.grad.masked_fill(uncertain, 0.0))
    guards.freeze([*leaves, grad])
    pooled = op(*leaves)
    assert pooled.dtype is case.dtype
    assert_within(pooled, expected, bound)
    pooled.backward(grad)
    guards.check()
    arguments = wide.grad, choice, wide.signals, wide.weight
    gradients = reference.conv_pool_backward(*arguments, True)
    for leaf, gradient, limit in zip(
        leaves, gradients, _gradient_bounds(case, *arguments), strict=True
    ):
        assert leaf.grad is not None, "an input has no gradient"
        assert leaf.grad.dtype is case.dtype
        assert gradient is not None
        assert_within(leaf.grad, gradient, limit)


def _roundings(case: Case, num_terms: int) -> float:
    """Relative error of a sum of products, as a share of the sum of their magnitudes.

    In the worst order a term is rounded once as a product and then with every addition, half an
    eps each; doubled for the oracle of float64, which rounds as well. Integers are exact.
    """
    if case.values == "integers":
        return 0.0
    return torch.finfo(case.dtype).eps * (num_terms + 2)


def _pairs(filtered: Tensor) -> Tensor:
    """[batch, out_channels, pooled, 2]: what the pool chooses from."""
    return filtered[..., : filtered.shape[-1] // 2 * 2].unflatten(-1, (-1, 2))


def forward_bound(case: Case, inputs: Inputs) -> Tensor:
    """By how much an output may be off, for finite inputs; what is not finite counts as 0."""
    sizes = [t.double().nan_to_num(0.0, 0.0, 0.0).abs() for t in inputs.leaves()]
    share = _roundings(case, case.in_channels * case.kernel + 1)
    return share * _pairs(functional.conv1d(*sizes)).amax(-1)


def is_uncertain(case: Case, inputs: Inputs) -> Tensor:
    """Where the choice may differ by rounding."""
    filtered = _pairs(functional.conv1d(*(t.double() for t in inputs.leaves())))
    bound = forward_bound(case, inputs)
    gap = (filtered[..., 0] - filtered[..., 1]).abs()
    largest = filtered.amax(-1)
    is_open = largest > -bound  # else the pair's order is of no matter
    return (largest.abs() < bound) | (is_open & (gap < 2.0 * bound))


def _gradient_bounds(
    case: Case, grad: Tensor, choice: Tensor, signals: Tensor, weight: Tensor
) -> list[Tensor]:
    sizes = reference.conv_pool_backward(grad.abs(), choice, signals.abs(), weight.abs(), True)
    num_terms = (
        case.out_channels * case.kernel,
        case.batch * case.pooled,
        case.batch * case.pooled,
    )
    return [
        _roundings(case, count) * size
        for count, size in zip(num_terms, sizes, strict=True)
        if size is not None
    ]


def check_ties_and_zeros(op: ConvPoolOp, device: torch.device = CPU) -> None:
    """The first of two equals gets the gradient, and a zero none."""
    #                        equal, first, second,  zero, closed,  zero twice
    values = [[2.0, 2.0, 3.0, 1.0, 1.0, 4.0, 0.0, -1.0, -3.0, -2.0, 0.0, 0.0]]
    signals = torch.tensor([values], device=device).requires_grad_()
    weight = torch.ones(1, 1, 1, device=device).requires_grad_()
    bias = torch.zeros(1, device=device).requires_grad_()
    pooled = op(signals, weight, bias)
    assert pooled.tolist() == [[[2.0, 3.0, 4.0, 0.0, 0.0, 0.0]]]
    pooled.backward(torch.tensor([[[1.0, 10.0, 100.0, 1e3, 1e4, 1e5]]], device=device))
    assert signals.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None
    assert signals.grad[0, 0].tolist() == [1, 0, 10, 0, 0, 100, 0, 0, 0, 0, 0, 0]
    assert weight.grad.item() == 432.0
    assert bias.grad.item() == 111.0


def check_special_values(op: ConvPoolOp, device: torch.device = CPU) -> None:
    """NaN and infinity come through as in PyTorch, and reach no other output."""
    for kernel, batch, in_channels in ((1, 3, 1), (9, 17, 3), (9, 1, 2)):
        case = Case(batch, in_channels, 40, 5, kernel, device=device)
        for value in (NAN, INFINITY, -INFINITY):
            inputs = case.inputs()
            inputs.signals[0, 0, 11] = inputs.signals[-1, -1, 30] = value
            expected, _ = reference.conv_pool(*(t.double() for t in inputs.leaves()))
            assert_within(op(*inputs.leaves()), expected, forward_bound(case, inputs))
        for name in ("weight", "bias"):
            inputs = case.inputs()
            getattr(inputs, name)[2] = NAN
            isnan = op(*inputs.leaves()).isnan()
            assert isnan.all((0, 2)).tolist() == isnan.any((0, 2)).tolist()
            assert isnan.any((0, 2)).tolist() == [False, False, True, False, False]


def check_gradient_of_nan(op: ConvPoolOp, device: torch.device = CPU) -> None:
    """The gradient goes where the NaN is; a NaN that comes back stays in what it enters."""
    signals = torch.tensor([[[NAN, 5.0, 5.0, NAN, 1.0, 2.0]]], device=device).requires_grad_()
    weight = torch.full((1, 1, 1), 3.0, device=device)
    bias = torch.zeros(1, device=device).requires_grad_()
    pooled = op(signals, weight, bias)
    assert pooled.isnan().tolist() == [[[True, True, False]]]
    pooled.backward(torch.tensor([[[1.0, 10.0, 100.0]]], device=device))
    assert signals.grad is not None
    assert bias.grad is not None
    assert signals.grad[0, 0].tolist() == [3, 0, 0, 30, 0, 300]
    assert bias.grad.item() == 111.0

    case = Case(batch=2, out_channels=3, time=21, kernel=2, device=device)
    inputs = case.inputs()
    inputs.bias += 100.0  # all open
    leaves = [t.requires_grad_() for t in inputs.leaves()]
    inputs.grad[1, 2, 4] = NAN
    op(*leaves).backward(inputs.grad)
    of_signals, of_weight, of_bias = (leaf.grad for leaf in leaves)
    assert of_signals is not None
    assert of_weight is not None
    assert of_bias is not None
    assert of_weight.isnan().all((1, 2)).tolist() == [False, False, True]
    assert of_bias.isnan().tolist() == [False, False, True]
    assert not bool(of_signals[0].isnan().any())
    assert bool(of_signals[1, :, 8:11].isnan().any(1).all())


def check_closed(op: ConvPoolOp, device: torch.device = CPU) -> None:
    """Where no output passes the ReLU, or nothing comes back, everything is exactly zero."""
    for case in (Case(device=device), Case(17, 32, 40, 33, 8, device=device)):
        for is_open in (False, True):
            inputs = case.inputs()
            if is_open:
                inputs.grad.zero_()
            else:
                inputs.bias.fill_(-1e4)
            leaves = [t.requires_grad_() for t in inputs.leaves()]
            pooled = op(*leaves)
            assert pooled.shape == (case.batch, case.out_channels, case.pooled)
            assert bool(pooled.any()) == is_open
            pooled.backward(inputs.grad)
            for leaf in leaves:
                assert leaf.grad is not None
                assert not bool(leaf.grad.any())


def check_everything(
    op: ConvPoolOp, device: torch.device = CPU, *, batches: tuple[int, ...] = (17, 64)
) -> None:
    """All of the above, over the named shapes, and over all shapes at these sizes of batch."""
    check_ties_and_zeros(op, device)
    check_special_values(op, device)
    check_gradient_of_nan(op, device)
    check_closed(op, device)
    shapes = [case for batch in batches for case in shapes_of(batch)]
    for case in (*VARIANTS.values(), *shapes):
        for values in ("integers", "normal"):
            check_case(op, replace(case, values=values, device=device))
    check_case(op, Case(dtype=torch.float64, device=device))
