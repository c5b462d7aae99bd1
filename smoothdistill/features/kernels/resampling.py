"""Numba kernels of the resampling: what the times hold, and an even grid walked beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.quads import QUAD, fma, load_first, splat, store_first

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["count_steps", "interpolate"]


@njit(error_model="numpy", nogil=True, cache=True)
def count_steps(
    times_seconds: Float64[np.ndarray, " time"], max_gap_seconds: float
) -> tuple[int, int, int]:
    """Steps of more than the gap, steps of no time, and steps that are not on (NaN among them)."""
    before, after = times_seconds[:-1], times_seconds[1:]
    gaps, ties, others = 0, 0, 0
    for step in range(before.size):  # two views and one index: LLVM vectorises this
        elapsed = after[step] - before[step]
        gaps += elapsed > max_gap_seconds
        ties += elapsed == 0.0
        others += not elapsed >= 0.0
    return gaps, ties, others


@njit(error_model="numpy", nogil=True, cache=True)
def interpolate(
    flat: Float[np.ndarray, " values"],
    num_channels: int,
    times_seconds: Float64[np.ndarray, " time"],
    borders: Int64[np.ndarray, " borders"],
    first_points: Int64[np.ndarray, " stretches"],
    rows: Int64[np.ndarray, " borders"],
    rate: float,
    tolerance_seconds: float,
    is_linear: bool,
    out: Float[np.ndarray, " values"],
    grid_seconds: Float64[np.ndarray, " samples"],
    stretch_ids: Int64[np.ndarray, " samples"],
    nearest: Int64[np.ndarray, " samples"],
) -> None:
    """Values on the grid `point / rate`, points counted from the first time of all.

    Stretch s has the samples `borders[s]` to `borders[s + 1]`, the rows `rows[s]` to `rows[s + 1]`
    of the output, and begins at point `first_points[s]`. Times are taken relative to the first: of
    seconds since 1970, float64 keeps 0.2 us, which is fit for a time and not for a rate.
    """
    origin = times_seconds[0]
    for stretch in range(borders.size - 1):
        sample, last = borders[stretch], borders[stretch + 1] - 1
        for row in range(rows[stretch], rows[stretch + 1]):
            time = (first_points[stretch] + row - rows[stretch]) / rate
            while sample < last and times_seconds[sample + 1] - origin <= time + tolerance_seconds:
                sample += 1
            since = time - (times_seconds[sample] - origin)
            weight, chosen = 0.0, sample
            if sample < last and since > tolerance_seconds:
                weight = since / (times_seconds[sample + 1] - times_seconds[sample])
                chosen = sample + (weight > 0.5)
            grid_seconds[row] = origin + time
            stretch_ids[row] = stretch
            nearest[row] = chosen
            is_between = is_linear and weight > 0.0  # if not, a NaN beside it is not this point's
            place, weights = (sample if is_between else chosen) * num_channels, splat(weight)
            for channel in range(0, num_channels, QUAD):
                count = min(QUAD, num_channels - channel)
                values = load_first(flat, place + channel, count)
                if is_between:
                    following = load_first(flat, place + num_channels + channel, count)
                    values = fma(weights, following - values, values)
                store_first(out, row * num_channels + channel, values, count)
