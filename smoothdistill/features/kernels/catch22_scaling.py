"""catch22 features of scaling: where the fluctuations of the summed signal change their law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.complexity import line_through
from smoothdistill.features.kernels.lane_math import log2
from smoothdistill.features.kernels.lanes import (
    LANES,
    fma,
    load,
    maximum,
    minimum,
    select,
    splat,
    square_root,
    store,
)

if TYPE_CHECKING:
    from jaxtyping import Int64

__all__ = ["fluctuation_break", "fluctuation_scales"]

LEAST_POINTS = 6
"""Points on either side of a break."""


def fluctuation_scales(window_samples: int) -> Int64[np.ndarray, " scales"]:
    """Up to 50 lengths of segments from 5 to half the window, evenly spaced by their logs."""
    if window_samples < 10:
        return np.empty(0, np.int64)
    lengths = np.exp(np.linspace(np.log(5.0), np.log(window_samples // 2), 50))
    scales = np.unique(np.floor(lengths + 0.5).astype(np.int64))
    return scales if scales.size >= 2 * LEAST_POINTS else scales[:0]


@njit(error_model="numpy", nogil=True, cache=True)
def fluctuation_break(z, num_samples, lag, is_of_ranges, scales, logs, walk, spreads, result):  # type: ignore[no-untyped-def]
    """Share of the scales that lie before the break that two lines, one each side, fit best.

    Fluctuations are root mean squares of the residuals from local lines, or of their ranges, of
    the sum of every `lag`-th sample. `logs` are those of the scales; `walk`, `spreads` are scratch.
    """
    num_summed = num_samples // lag
    for number in range(z.shape[0]):
        series = z[number]
        height = splat(0.0)
        for sample in range(num_summed):
            height += load(series, sample * lag * LANES)
            store(walk, sample * LANES, height)
        for point in range(scales.size):
            length = scales[point]
            num_segments = num_summed // length
            squares = splat(0.0)
            for first in range(0, num_segments * length, length):
                level, slope = line_through(walk, first, length)
                lowest = highest = load(walk, first * LANES)  # the level moves no range
                for sample in range(length):
                    value = load(walk, (first + sample) * LANES)
                    tilt = splat(-float(sample))
                    if is_of_ranges:
                        residual = fma(slope, tilt, value)
                        lowest, highest = minimum(residual, lowest), maximum(residual, highest)
                    else:
                        residual = fma(slope, tilt, value - level)
                        squares = fma(residual, residual, squares)
                if is_of_ranges:
                    squares = fma(highest - lowest, highest - lowest, squares)
            mean = squares / float(num_segments if is_of_ranges else num_segments * length)
            is_known = mean > 0.0
            log = 0.5 * log2(select(is_known, mean, splat(1.0)))
            store(spreads, point * LANES, select(is_known, log, splat(np.nan)))
        best, place = splat(np.inf), splat(np.nan)
        for split in range(LEAST_POINTS, scales.size - LEAST_POINTS + 1):
            error = splat(0.0)
            for start, stop in ((0, split), (split - 1, scales.size)):
                error += _line_error(logs, spreads, start, stop)
            is_better = error < best
            best = select(is_better, error, best)
            place = select(is_better, splat(float(split)), place)
        store(result, number * LANES, place / scales.size)


@njit(error_model="numpy", nogil=True, cache=True)
def _line_error(logs, spreads, start, stop):  # type: ignore[no-untyped-def]
    """Root of the summed squares that the line through points `start` to `stop` leaves."""
    count = stop - start
    mean_x = 0.0
    for point in range(start, stop):
        mean_x += logs[point]
    mean_x /= count
    squares_x = 0.0
    total, products = splat(0.0), splat(0.0)
    for point in range(start, stop):
        x = logs[point] - mean_x
        y = load(spreads, point * LANES)
        squares_x += x * x
        total += y
        products = fma(y, splat(x), products)
    mean_y, slope = total * (1.0 / count), products * (1.0 / squares_x)
    squares = splat(0.0)
    for point in range(start, stop):
        y = load(spreads, point * LANES) - mean_y
        residual = fma(slope, splat(mean_x - logs[point]), y)
        squares = fma(residual, residual, squares)
    return square_root(squares)
