"""`conv_pool`: 1-D convolution, bias, max-pool by 2 and ReLU in one pass, and its gradient."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch

from smoothdistill import reference
from smoothdistill.ops._backend import kernels_for
from smoothdistill.ops._registration import register_op

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["conv_pool"]


def conv_pool(
    signals: Float[Tensor, "batch in_channels time"],
    weight: Float[Tensor, "out_channels in_channels kernel"],
    bias: Float[Tensor, " out_channels"],
) -> Float[Tensor, "batch out_channels pooled"]:
    """``relu(max_pool1d(conv1d(signals, weight, bias), 2))`` in one pass.

    With ``pooled = (time - kernel + 1) // 2``: an odd last output of the convolution is dropped,
    as PyTorch drops it. Differentiable once in all three; a second derivative is refused. The
    kernels take float32; other floating-point types go through the plain reference. In what the
    pass keeps for the gradient, a byte an output says which of the pair was the larger.

    Args:
        signals: Windows in any unit *u*; time is at least kernel + 1 samples.
        weight: Filters, per *u*.
        bias: One number a filter.

    Returns:
        The pooled outputs, at least 0; NaN where one of the pair is NaN.

    Raises:
        TypeError: If a tensor is of another dtype, or has no memory (fake, meta, sparse).
        ValueError: If shapes or devices do not match.

    Source:
        Definition; the layer of Smooth-Distill (arXiv 2507.00061), released code.
    """
    _check(signals, weight, bias)
    if torch.compiler.is_compiling():
        pooled: Tensor = torch.ops.smoothdistill.conv_pool(signals, weight, bias)[0]
        return pooled
    if torch.is_grad_enabled() and (
        signals.requires_grad or weight.requires_grad or bias.requires_grad
    ):
        return cast("Tensor", cast(Any, _WithGradient.apply)(signals, weight, bias))
    return _run(signals, weight, bias, keeps_choice=False)[0]


def _check(signals: Tensor, weight: Tensor, bias: Tensor) -> None:
    for name, tensor in (("signals", signals), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"`{name}` must be a tensor, but is {type(tensor).__name__} instead.")
        if tensor.layout is not torch.strided:
            raise TypeError(f"`{name}` must be a dense tensor, but is {tensor.layout} instead.")
    if not signals.is_floating_point():
        raise TypeError(
            f"`signals` must be a floating-point tensor, but is {signals.dtype} instead."
        )
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor.dtype != signals.dtype:
            raise TypeError(
                f"`{name}` must be {signals.dtype} like `signals`, but is {tensor.dtype} instead."
            )
        if tensor.device != signals.device:
            raise ValueError(
                f"`{name}` must be on {signals.device} like `signals`, but is on"
                f" {tensor.device} instead."
            )
    if weight.ndim != 3 or weight.numel() == 0:
        raise ValueError(
            "`weight` must have the shape [out_channels, in_channels, kernel] without a 0, but has"
            f" the shape {list(weight.shape)} instead."
        )
    out_channels, in_channels, kernel = weight.shape
    if bias.shape != (out_channels,):
        raise ValueError(
            f"`bias` must have the shape [{out_channels}], but has the shape {list(bias.shape)}"
            " instead."
        )
    if signals.ndim != 3 or signals.shape[1] != in_channels or signals.shape[2] <= kernel:
        raise ValueError(
            f"`signals` must have the shape [batch, {in_channels}, time] with at least"
            f" {kernel + 1} samples of time, but has the shape {list(signals.shape)} instead."
        )


def _run(
    signals: Tensor, weight: Tensor, bias: Tensor, *, keeps_choice: bool = True
) -> tuple[Tensor, Tensor]:
    """The pooled outputs, and the choice of each (empty where it is not kept)."""
    kernels = kernels_for(signals, "conv_pool") if signals.dtype is torch.float32 else None
    if kernels is None or signals.shape[0] == 0:
        with _no_autocast(signals):
            return reference.conv_pool(signals, weight, bias)
    signals, weight, bias = signals.contiguous(), weight.contiguous(), bias.contiguous()
    shape = (*signals.shape[:1], weight.shape[0], (signals.shape[2] - weight.shape[2] + 1) // 2)
    pooled = signals.new_empty(shape)
    choice = signals.new_empty(shape if keeps_choice else 0, dtype=torch.uint8)
    kernels.conv_pool(signals, weight, bias, pooled, choice if keeps_choice else None)
    return pooled, choice


def _run_backward(
    grad: Tensor, choice: Tensor, signals: Tensor, weight: Tensor, needs_signals: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of signals (empty where it is not wanted), weight and bias."""
    kernels = kernels_for(signals, "conv_pool") if signals.dtype is torch.float32 else None
    if kernels is None or signals.shape[0] == 0:
        with _no_autocast(signals):
            found = reference.conv_pool_backward(grad, choice, signals, weight, needs_signals)
        return (signals.new_empty(0) if found[0] is None else found[0], *found[1:])
    grad, choice = grad.contiguous(), choice.contiguous()
    signals, weight = signals.contiguous(), weight.contiguous()
    grad_signals = torch.empty_like(signals) if needs_signals else signals.new_empty(0)
    grad_weight, grad_bias = torch.empty_like(weight), weight.new_empty(weight.shape[0])
    kernels.conv_pool_backward(
        grad, choice, signals, weight, grad_signals if needs_signals else None,
        grad_weight, grad_bias,
    )  # fmt: skip
    return grad_signals, grad_weight, grad_bias


def _no_autocast(signals: Tensor) -> AbstractContextManager[object]:
    """The reference computes in the format of what it is given, as the kernels do."""
    kind = signals.device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def _refuse_create_graph() -> None:
    if torch.is_grad_enabled():
        raise NotImplementedError(
            "`create_graph` must be False for conv_pool, but is True instead: its gradient has no"
            " derivative of its own."
        )


class _WithGradient(torch.autograd.Function):
    """Joins the outputs to the graph; cheaper than going through the dispatcher."""

    @staticmethod
    def forward(ctx: Any, signals: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        pooled, choice = _run(signals, weight, bias)
        ctx.save_for_backward(choice, signals, weight)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        _refuse_create_graph()
        choice, signals, weight = ctx.saved_tensors
        found = _run_backward(grad, choice, signals, weight, ctx.needs_input_grad[0])
        return (found[0] if ctx.needs_input_grad[0] else None, *found[1:])


def _fake(signals: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    shape = (signals.shape[0], weight.shape[0], (signals.shape[2] - weight.shape[2] + 1) // 2)
    return signals.new_empty(shape), signals.new_empty(shape, dtype=torch.uint8)


def _fake_backward(
    grad: Tensor, choice: Tensor, signals: Tensor, weight: Tensor, needs_signals: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_signals = signals.new_empty(signals.shape) if needs_signals else signals.new_empty(0)
    return grad_signals, weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs[:2])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor]:
    _refuse_create_graph()
    choice, signals, weight = ctx.saved_tensors
    needs_signals = ctx.needs_input_grad[0]
    found = torch.ops.smoothdistill.conv_pool_backward(grad, choice, signals, weight, needs_signals)
    return (found[0] if needs_signals else None, found[1], found[2])


register_op(
    "conv_pool(Tensor signals, Tensor weight, Tensor bias) -> (Tensor pooled, Tensor choice)",
    _run,
    _fake,
)
register_op(
    "conv_pool_backward(Tensor grad, Tensor choice, Tensor signals, Tensor weight,"
    " bool needs_signals) -> (Tensor, Tensor, Tensor)",
    _run_backward,
    _fake_backward,
)
torch.library.register_autograd("smoothdistill::conv_pool", _backward, setup_context=_setup_context)
