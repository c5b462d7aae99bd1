"""Convolution, max-pool by 2 and ReLU in plain PyTorch: oracle and fallback of `conv_pool`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

__all__ = ["conv_pool", "conv_pool_backward"]

_NEITHER = 2  # of the pair has a gradient


def conv_pool(
    signals: Float[Tensor, "batch in_channels time"],
    weight: Float[Tensor, "out_channels in_channels kernel"],
    bias: Float[Tensor, " out_channels"],
) -> tuple[Float[Tensor, "batch out_channels pooled"], UInt8[Tensor, "batch out_channels pooled"]]:
    """``relu(max_pool1d(conv1d(signals, weight, bias), 2))``, and where each maximum came from.

    With ``pooled = (time - kernel + 1) // 2``: an odd last output of the convolution is dropped.

    Args:
        signals: In any unit *u*; time is at least kernel + 1 samples.
        weight: Filters, per *u*.
        bias: One number a filter.

    Returns:
        The pooled outputs, at least 0, and for each its choice: 0 where the first of the pair is
        the larger or both are equal, 1 where the second is, 2 where the larger is not above 0,
        so that no gradient passes. A NaN is larger than every number.

    Source:
        Definition; the layer of Smooth-Distill (arXiv 2507.00061), released code.
    """
    filtered = functional.conv1d(signals, weight, bias)
    end = filtered.shape[-1] // 2 * 2
    first, second = filtered[..., 0:end:2], filtered[..., 1:end:2]
    is_second = (second > first) | second.isnan()
    largest = torch.where(is_second, second, first)
    choice = is_second.to(torch.uint8).masked_fill(largest <= 0, _NEITHER)
    return largest.relu(), choice


def conv_pool_backward(
    grad: Float[Tensor, "batch out_channels pooled"],
    choice: UInt8[Tensor, "batch out_channels pooled"],
    signals: Float[Tensor, "batch in_channels time"],
    weight: Float[Tensor, "out_channels in_channels kernel"],
    needs_signals: bool,
) -> tuple[
    Float[Tensor, "batch in_channels time"] | None,
    Float[Tensor, "out_channels in_channels kernel"],
    Float[Tensor, " out_channels"],
]:
    """Gradients with respect to what `conv_pool` was given, from that of its outputs.

    Args:
        grad: Gradient with respect to the pooled outputs.
        choice: As `conv_pool` returned it.
        signals: As given to `conv_pool`.
        weight: As given to `conv_pool`.
        needs_signals: Whether the gradient of the signals is wanted.

    Returns:
        Gradients of signals (None where it is not wanted), weight and bias.

    Source:
        Definition (chain rule).
    """
    pairs = torch.stack([torch.where(choice == place, grad, 0.0) for place in (0, 1)], dim=-1)
    num_filtered = signals.shape[-1] - weight.shape[-1] + 1
    spread = functional.pad(pairs.flatten(-2), (0, num_filtered % 2))
    windows = signals.unfold(-1, weight.shape[-1], 1)
    return (
        functional.conv_transpose1d(spread, weight) if needs_signals else None,
        torch.einsum("bot,bitk->oik", spread, windows),
        pairs.sum((0, 2, 3)),
    )
