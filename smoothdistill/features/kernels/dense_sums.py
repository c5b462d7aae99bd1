"""Plain sums and extremes of all windows of a chunk: see NOTE [Doubling]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.dense_doubling import spot
from smoothdistill.features.kernels.lanes import LANES, load, maximum, minimum, store

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int64

__all__ = ["double_extremes", "double_sums"]


@njit(error_model="numpy", nogil=True, cache=True)
def double_sums(
    summands: Float64[np.ndarray, " values"],
    sizes: Int64[np.ndarray, " sizes"],
    is_needed: Bool[np.ndarray, "sizes step_samples"],
    counts: Int64[np.ndarray, " sizes"],
    row_length: int,
    planes: Float64[np.ndarray, "halves values"],
) -> int:
    """Sums over all windows, in the first plane.

    Returns:
        Which half of `planes` has the results, in row 0.
    """
    step = is_needed.shape[1]
    half = 0
    source = summands
    for size in range(min(1, sizes.size - 1), sizes.size):
        n = sizes[max(size - 1, 0)]
        target = planes[half]
        for row in range(step):
            if not is_needed[size, row]:
                continue
            a = row * row_length
            b, single = spot(row + n, step, row_length), spot(row + 2 * n, step, row_length)
            for i in range(0, counts[size], LANES):
                both = load(source, a + i)
                if sizes[size] > 1:
                    both = both + load(source, b + i)
                if sizes[size] > 2 * n:
                    both = both + load(summands, single + i)
                store(target, a + i, both)
        source = target
        half = 1 - half if step > 1 else half
    return 1 - half if step > 1 else half


@njit(error_model="numpy", nogil=True, cache=True)
def double_extremes(
    signal: Float[np.ndarray, " values"],
    sizes: Int64[np.ndarray, " sizes"],
    is_needed: Bool[np.ndarray, "sizes step_samples"],
    counts: Int64[np.ndarray, " sizes"],
    row_length: int,
    planes: Float[np.ndarray, "halves values"],
) -> int:
    """Minima and maxima of all windows, in the first and the second of two planes.

    Returns:
        Which half of `planes` has the results, in row 0.
    """
    step = is_needed.shape[1]
    half = 0
    source, plane, length = signal, 0, planes.shape[1] // 2
    for size in range(min(1, sizes.size - 1), sizes.size):
        offset = sizes[size] - sizes[max(size - 1, 0)]
        target = planes[half]
        for row in range(step):
            if is_needed[size, row]:
                a, b = row * row_length, spot(row + offset, step, row_length)
                for i in range(0, counts[size], LANES):
                    lower, higher = load(source, a + i), load(source, plane + a + i)
                    store(target, a + i, minimum(lower, load(source, b + i)))
                    store(target, length + a + i, maximum(higher, load(source, plane + b + i)))
        source, plane = target, length
        half = 1 - half if step > 1 else half
    return 1 - half if step > 1 else half
