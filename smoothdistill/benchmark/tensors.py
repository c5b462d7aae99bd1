"""Sizes and numbers that the benchmarks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MTL_NET_SHAPES", "SIXTEEN_MILLION", "SMALL_SHAPES", "make_tensors", "size_of"]

# MTL-net with 18 activities and 2 placements on windows of 3 x 100: 12 tensors, 1.80 M elements.
MTL_NET_SHAPES: tuple[tuple[int, ...], ...] = (
    (32, 3, 9), (32,), (64, 32, 9), (64,), (1024, 1216), (1024,), (512, 1024), (512,),
    (18, 512), (18,), (2, 512), (2,),
)  # fmt: skip

# A six-layer perceptron: 12 tensors, 34.7 k elements.
SMALL_SHAPES: tuple[tuple[int, ...], ...] = (
    (32, 36), (32,), (64, 32), (64,), (128, 64), (128,), (128, 128), (128,), (48, 128), (48,),
    (8, 48), (8,),
)  # fmt: skip

SIXTEEN_MILLION: tuple[tuple[int, ...], ...] = ((1000, 1000),) * 16


def size_of(shapes: Sequence[tuple[int, ...]]) -> int:
    """Number of elements of all tensors."""
    return sum(math.prod(shape) for shape in shapes)


def make_tensors(
    shapes: Sequence[tuple[int, ...]], *, seed: int, scale: float = 0.1
) -> list[Tensor]:
    """Normal float32 tensors on the CPU; the same seed gives the same numbers."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]
