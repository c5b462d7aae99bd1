"""Convolution and batch norm over maps whose channels lie side by side in memory.

On CPUs PyTorch's one-dimensional layers are slow: with channels innermost a 1 x 1 convolution is
one matrix product, a depthwise one and batch norm are vectors over channels. Measured on a core
with AVX-512, batch 64, forward and backward together: 2.3 to 4 times as fast for 1 x 1, 1.8 to 7
for depthwise, 1.4 to 2.9 for convolutions of 3 to 8 samples, 1.9 to 7.7 for batch norm.

Maps keep the shape [batch, channels, time], and what works element by element keeps their order in
memory. Where maps lie otherwise, as on GPUs and in exports, and where a layer is hooked into or
replaced by another kind, the layers are called as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from smoothdistill.models.hooks import any_global_hook, is_hooked

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["arrange", "convolve", "normalize", "pad"]


def arrange(
    signals: Float[Tensor, "batch channels time"],
) -> Float[Tensor, "batch channels time"]:
    """The same signals, channels innermost where that is faster."""
    if not signals.is_cpu or torch.compiler.is_compiling():
        return signals
    return signals.transpose(1, 2).contiguous().transpose(1, 2)


def convolve(
    layer: nn.Conv1d, maps: Float[Tensor, "batch channels time"]
) -> Float[Tensor, "batch filters time_out"]:
    """What the layer gives, but for rounding."""
    if not _lies_so(maps) or not _is_plain(layer) or isinstance(layer.padding, str):
        out: Tensor = layer(maps)
        return out
    (stride,), (padding,), (dilation,) = layer.stride, layer.padding, layer.dilation
    if layer.kernel_size == (1,) and (stride, padding, layer.groups) == (1, 0, 1):
        rows = functional.linear(maps.transpose(1, 2), layer.weight[:, :, 0], layer.bias)
        return rows.transpose(1, 2)
    return functional.conv2d(
        maps[:, :, None],
        layer.weight[:, :, None],
        layer.bias,
        (1, stride),
        (0, padding),
        (1, dilation),
        layer.groups,
    ).squeeze(2)


def normalize(
    norm: nn.BatchNorm1d, maps: Float[Tensor, "batch channels time"]
) -> Float[Tensor, "batch channels time"]:
    """What the layer gives, but for rounding; of a single value, what it gives in evaluation."""
    batch, _, time = maps.shape
    if norm.training and batch * time == 1:  # one value has no spread; what is remembered stands in
        return functional.batch_norm(
            maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    if not _lies_so(maps):
        out: Tensor = norm(maps)
        return out
    rows: Tensor = norm(maps.transpose(1, 2).flatten(0, 1))
    return rows.reshape(batch, time, -1).transpose(1, 2)


def pad(
    maps: Float[Tensor, "batch channels time"], before: int, after: int
) -> Float[Tensor, "batch channels longer"]:
    """Zeros before and after, in the same order in memory."""
    if not _lies_so(maps):
        return functional.pad(maps, (before, after))
    return functional.pad(maps.transpose(1, 2), (0, 0, before, after)).transpose(1, 2)


def _is_plain(layer: nn.Conv1d) -> bool:
    """Whether its weight and bias are all there is to it."""
    return (
        type(layer) is nn.Conv1d
        and layer.padding_mode == "zeros"
        and not is_hooked(layer)
        and not any_global_hook()
    )


def _lies_so(maps: Tensor) -> bool:
    return maps.is_cpu and maps.shape[0] > 0 and maps.transpose(1, 2).is_contiguous()
