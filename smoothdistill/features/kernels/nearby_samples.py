"""Numba kernels of what depends on a sample and its neighbours: median of three, jerk, magnitude.

A recording is one flat array of rows; `borders` are the rows where stretches begin, and its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.quads import load_first, norms_of_three, store_first

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = ["jerk", "magnitudes", "median3"]


@njit(error_model="numpy", nogil=True, cache=True)
def median3(
    flat: Float[np.ndarray, " values"],
    num_channels: int,
    borders: Int64[np.ndarray, " borders"],
    out: Float[np.ndarray, " values"],
) -> None:
    """Median of each value and its neighbours in time; a missing one counts as the value."""
    for stretch in range(borders.size - 1):
        start, stop = borders[stretch] * num_channels, borders[stretch + 1] * num_channels
        for index in range(start, min(start + num_channels, stop)):
            out[index] = flat[index] if abs(flat[index]) < np.inf else np.nan
        for index in range(max(start, stop - num_channels), stop):
            out[index] = flat[index] if abs(flat[index]) < np.inf else np.nan
        # Four views and one index: LLVM vectorises this.
        past, future = flat[start : stop - 2 * num_channels], flat[start + 2 * num_channels : stop]
        present = flat[start + num_channels : stop - num_channels]
        target = out[start + num_channels : stop - num_channels]
        for index in range(present.size):
            value = present[index]
            before = past[index] if abs(past[index]) < np.inf else value
            after = future[index] if abs(future[index]) < np.inf else value
            low = before if before < value else value
            high = value if before < value else before
            below = high if high < after else after
            median = low if low > below else below
            target[index] = median if abs(value) < np.inf else np.nan


@njit(error_model="numpy", nogil=True, cache=True)
def jerk(
    flat: Float[np.ndarray, " values"],
    num_channels: int,
    borders: Int64[np.ndarray, " borders"],
    rate: float,
    out: Float[np.ndarray, " values"],
) -> None:
    """Step from the sample before, times the rate; 0 where there is none that is finite."""
    for stretch in range(borders.size - 1):
        start, stop = borders[stretch] * num_channels, borders[stretch + 1] * num_channels
        for index in range(start, min(start + num_channels, stop)):
            out[index] = 0.0 if abs(flat[index]) < np.inf else np.nan
        past, present = flat[start : stop - num_channels], flat[start + num_channels : stop]
        target = out[start + num_channels : stop]
        for index in range(present.size):
            value, before = np.float64(present[index]), np.float64(past[index])
            before = before if abs(before) < np.inf else value
            target[index] = (value - before) * rate if abs(value) < np.inf else np.nan


@njit(error_model="numpy", nogil=True, cache=True)
def magnitudes(
    flat: Float[np.ndarray, " values"],
    num_samples: int,
    num_channels: int,
    first_channel: int,
    out: Float[np.ndarray, "time triads"],
    triad: int,
) -> None:
    """Euclidean length of three neighbouring channels, for three samples at a time."""
    place = first_channel
    lengths = np.empty(3, flat.dtype)
    for sample in range(0, num_samples, 3):
        one = load_first(flat, place, 3)
        two, three = one, one
        if sample + 1 < num_samples:
            two = load_first(flat, place + num_channels, 3)
        if sample + 2 < num_samples:
            three = load_first(flat, place + 2 * num_channels, 3)
        store_first(lengths, 0, norms_of_three(one, two, three), 3)
        for ahead in range(min(3, num_samples - sample)):
            out[sample + ahead, triad] = lengths[ahead]
        place += 3 * num_channels
