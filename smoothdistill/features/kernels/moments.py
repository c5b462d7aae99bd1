"""Moments, extremes, crossings and trend of 16 windows at once, in float64.

The mean is anchored at the window's first sample, and the second pass is centred: a still sensor
at 9.81 m/s² keeps all digits of its variance, and a constant window has a variance of exactly 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import (
    LANES,
    absolute,
    fma,
    load,
    maximum,
    minimum,
    select,
    splat,
    square_root,
    store,
    widen,
)
from smoothdistill.features.kernels.tiles import put

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["MOMENTS", "moments"]

MOMENTS = (
    "mean",
    "std",
    "var",
    "min",
    "max",
    "ptp",
    "mean_ad",
    "rms",
    "energy",
    "abs_energy",
    "skew",
    "kurtosis",
    "zcr",
    "mcr",
    "zcr_count",
    "mcr_count",
    "slope",
    "autocorr_lag1",
)
"""Slots of the kernel, in the order of its columns."""


@njit(error_model="numpy", nogil=True, cache=True)
def moments(
    tile: Float[np.ndarray, " values"],
    channel: int,
    window_samples: int,
    first: int,
    count: int,
    slope_rate_hz: float,
    ddof: int,
    undefined: float,
    times: Float64[np.ndarray, " time"],
    columns: Int64[np.ndarray, " slots"],
    summary: Float64[np.ndarray, " values"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Write the moments of a channel of the tile.

    `times` are the places of the samples relative to the middle of the window. `summary` gets three
    vectors per channel for the kernels that follow: the mean, the sum of squared deviations, and 0
    or, where the window holds a NaN or an infinity, NaN.
    """
    base = channel * window_samples * LANES
    head = load(tile, base)
    anchor = widen(head)
    even, odd = splat(0.0), splat(0.0)
    low, high = head, head
    for time in range(0, window_samples - 1, 2):
        a = load(tile, base + time * LANES)
        b = load(tile, base + (time + 1) * LANES)
        even = even + (widen(a) - anchor)
        odd = odd + (widen(b) - anchor)
        low = minimum(minimum(a, b), low)
        high = maximum(maximum(a, b), high)
    if window_samples % 2:
        a = load(tile, base + (window_samples - 1) * LANES)
        even = even + (widen(a) - anchor)
        low = minimum(a, low)
        high = maximum(a, high)
    total = even + odd
    poison = total * 0.0
    inverse = 1.0 / window_samples
    mean = anchor + total * inverse

    m2, m3, m4 = splat(0.0), splat(0.0), splat(0.0)
    trend = splat(0.0)
    before = anchor - mean
    was_above_mean = before > 0.0
    was_above_zero = head > 0.0
    mean_crossings, zero_crossings = splat(0.0), splat(0.0)
    lagged = splat(0.0) - before * before  # what the first turn of the loop adds
    for time in range(window_samples):
        x = load(tile, base + time * LANES)
        c = widen(x) - mean
        squared = c * c
        m2 = m2 + squared
        m3 = fma(squared, c, m3)
        m4 = fma(squared, squared, m4)
        trend = fma(c, splat(times[time]), trend)
        lagged = fma(c, before, lagged)
        before = c
        is_above_mean = c > 0.0
        mean_crossings = select(
            is_above_mean ^ was_above_mean, mean_crossings + 1.0, mean_crossings
        )
        was_above_mean = is_above_mean
        is_above_zero = x > 0.0
        zero_crossings = select(
            is_above_zero ^ was_above_zero, zero_crossings + 1.0, zero_crossings
        )
        was_above_zero = is_above_zero

    place = 3 * channel * LANES
    store(summary, place, mean)
    store(summary, place + LANES, m2)
    store(summary, place + 2 * LANES, poison)

    mean = mean + poison
    second = m2 * inverse
    deviation = square_root(second)
    energy = fma(mean, mean, second)
    is_varied = m2 > 0.0
    nothing = splat(undefined) + poison
    variance = nothing
    if window_samples > ddof:
        variance = m2 / (1.0 * (window_samples - ddof)) + poison
    lowest, highest = widen(low) + poison, widen(high) + poison
    put(out, columns[0], first, count, mean)
    put(out, columns[1], first, count, square_root(variance))
    put(out, columns[2], first, count, variance)
    put(out, columns[3], first, count, lowest)
    put(out, columns[4], first, count, highest)
    put(out, columns[5], first, count, highest - lowest)
    if columns[6] >= 0:
        distance = splat(0.0)
        for time in range(window_samples):
            distance = distance + absolute(widen(load(tile, base + time * LANES)) - mean)
        put(out, columns[6], first, count, distance * inverse)
    put(out, columns[7], first, count, square_root(energy))
    put(out, columns[8], first, count, energy)
    put(out, columns[9], first, count, energy * window_samples)
    # One division for three features. Where nothing varies it is infinite, and not selected.
    precision = splat(1.0) / second
    skew = m3 * inverse * precision * precision * deviation
    kurtosis = m4 * inverse * precision * precision - 3.0
    put(out, columns[10], first, count, select(is_varied, skew, nothing))
    put(out, columns[11], first, count, select(is_varied, kurtosis, nothing))
    zeros, crossings = zero_crossings + poison, mean_crossings + poison
    zero_rate, mean_rate, slope = nothing, nothing, nothing
    if window_samples > 1:
        rate = 1.0 / (window_samples - 1)
        zero_rate, mean_rate = zeros * rate, crossings * rate
        # the sum of (time - middle)^2 over the window
        spread = window_samples * (window_samples * window_samples - 1.0) / 12.0
        slope = trend * (slope_rate_hz / spread) + poison
    put(out, columns[12], first, count, zero_rate)
    put(out, columns[13], first, count, mean_rate)
    put(out, columns[14], first, count, zeros)
    put(out, columns[15], first, count, crossings)
    put(out, columns[16], first, count, slope)
    lagged = lagged * inverse * precision
    put(out, columns[17], first, count, select(is_varied, lagged, nothing))
