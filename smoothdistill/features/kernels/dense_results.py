"""From sums over windows that overlap almost entirely to features, and what takes all samples."""

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
    select,
    splat,
    square_root,
    store,
    store_first,
    widen,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = [
    "BLOCK",
    "count_mean_crossings",
    "sum_deviations",
    "write_correlation",
    "write_mean",
    "write_moments",
]

BLOCK = 256
"""Windows whose results are gathered in the L1 cache before they go to the columns."""


@njit(error_model="numpy", nogil=True, cache=True)
def write_moments(
    signal: Float[np.ndarray, " values"],
    last_sample: int,
    states: Float64[np.ndarray, " values"],
    extremes: Float[np.ndarray, " values"],
    sides: Float64[np.ndarray, "3 windows"],
    first: int,
    num_windows: int,
    window_samples: int,
    slope_rate_hz: float,
    ddof: int,
    undefined: float,
    places: Int64[np.ndarray, " slots"],
    summary: Float64[np.ndarray, "2 windows"],
    results: Float[np.ndarray, " values"],
    out: Float[np.ndarray, " values"],
) -> None:
    """Write the moments of a channel; the slots are those of `moments.MOMENTS`.

    Args:
        signal: Samples of the chunk, in rows.
        last_sample: Place in them of the first window's last sample.
        states: What `double_moments` has left.
        extremes: What `double_extremes` has left.
        sides: Zero crossings, crossings of the mean, sums of absolute deviations.
        first: Number of the chunk's first window.
        num_windows: Windows of the chunk.
        window_samples: Window length, in samples.
        slope_rate_hz: Samples per second, or 1 for slopes per sample.
        ddof: Variance is divided by the number of samples less this.
        undefined: What stands for a ratio to a variance of 0.
        places: Where each slot's column begins, -1 where it is not asked for.
        summary: Gets each window's mean and the root of its sum of squared deviations, of which one
            is not finite where the window is not.
        results: Scratch of `BLOCK` values for each slot.
        out: Memory of the columns.
    """
    plane, lows = states.size // 6, extremes.size // 2
    zero_crossings, mean_crossings, deviations = sides[0], sides[1], sides[2]
    means, roots = summary[0], summary[1]
    share, unbiased = 1.0 / window_samples, 1.0 / np.float64(window_samples - ddof)
    unbiased_root, root_of_count = np.sqrt(unbiased), np.sqrt(np.float64(window_samples))
    nothing = splat(undefined)
    # Sum of (time - middle)^2 over the window.
    spread = window_samples * (np.float64(window_samples) * window_samples - 1.0) / 12.0
    rate = slope_rate_hz / spread
    step_share = 1.0 / np.float64(window_samples - 1)
    for begin in range(0, num_windows, BLOCK):
        stop = min(begin + BLOCK, num_windows)
        for i in range(begin, stop, LANES):
            row = i - begin
            mean = load(states, i)
            poison = mean * 0.0
            m2 = load(states, plane + i)
            root = square_root(m2)
            store(means, i, mean)
            store(roots, i, root + poison)
            is_varied = m2 > 0.0
            inverse = 1.0 / m2
            store(results, row, mean + poison)
            deviation = root * unbiased_root if window_samples > ddof else nothing
            variance = m2 * unbiased if window_samples > ddof else nothing
            store(results, BLOCK + row, deviation + poison)
            store(results, 2 * BLOCK + row, variance + poison)
            if places[3] >= 0 or places[4] >= 0 or places[5] >= 0:
                low = widen(load(extremes, i)) + poison
                high = widen(load(extremes, lows + i)) + poison
                store(results, 3 * BLOCK + row, low)
                store(results, 4 * BLOCK + row, high)
                store(results, 5 * BLOCK + row, high - low)
            if places[6] >= 0:
                store(results, 6 * BLOCK + row, load(deviations, i) * share + poison)
            if places[7] >= 0 or places[8] >= 0 or places[9] >= 0:
                energy = fma(mean, mean, m2 * share) + poison
                store(results, 7 * BLOCK + row, square_root(energy))
                store(results, 8 * BLOCK + row, energy)
                store(results, 9 * BLOCK + row, energy * window_samples)
            if places[10] >= 0 or places[11] >= 0:
                skew = load(states, 2 * plane + i) * inverse * (root * inverse) * root_of_count
                kurtosis = load(states, 3 * plane + i) * inverse * inverse * window_samples - 3.0
                store(results, 10 * BLOCK + row, select(is_varied, skew, nothing) + poison)
                store(results, 11 * BLOCK + row, select(is_varied, kurtosis, nothing) + poison)
            if places[12] >= 0 or places[14] >= 0:
                zeros = load(zero_crossings, i) + poison
                rate_of_zeros = zeros * step_share if window_samples > 1 else nothing + poison
                store(results, 12 * BLOCK + row, rate_of_zeros)
                store(results, 14 * BLOCK + row, zeros)
            if places[13] >= 0 or places[15] >= 0:
                turns = load(mean_crossings, i) + poison
                rate_of_turns = turns * step_share if window_samples > 1 else nothing + poison
                store(results, 13 * BLOCK + row, rate_of_turns)
                store(results, 15 * BLOCK + row, turns)
            if places[16] >= 0:
                slope = load(states, 4 * plane + i) * rate if window_samples > 1 else nothing
                store(results, 16 * BLOCK + row, slope + poison)
            if places[17] >= 0:
                # Each inner sample is in two of the differences, the two ends in one:
                # sum (a - b)^2 = 2 M2 - ends - 2 sum a b, deviations from the mean throughout.
                head = widen(load(signal, i)) - mean
                tail = widen(load(signal, last_sample + i)) - mean
                ends = fma(head, head, tail * tail) + load(states, 5 * plane + i)
                lagged = (m2 - ends * 0.5) * inverse
                store(results, 17 * BLOCK + row, select(is_varied, lagged, nothing) + poison)
        whole = stop - (stop - begin) % LANES
        for slot in range(places.size):
            if places[slot] >= 0:
                place = places[slot] + first
                for i in range(begin, whole, LANES):
                    store(out, place + i, load(results, slot * BLOCK + i - begin))
                if whole < stop:
                    rest = load(results, slot * BLOCK + whole - begin)
                    store_first(out, place + whole, rest, stop - whole)


@njit(error_model="numpy", nogil=True, cache=True)
def write_correlation(
    products: Float64[np.ndarray, " windows"],
    roots_x: Float64[np.ndarray, " windows"],
    roots_y: Float64[np.ndarray, " windows"],
    num_windows: int,
    undefined: float,
    place: int,
    out: Float[np.ndarray, " values"],
) -> None:
    """Pearson's correlation from the sum of products and the roots of the sums of squares."""
    nothing = splat(undefined)
    for i in range(0, num_windows, LANES):
        x, y = load(roots_x, i), load(roots_y, i)
        is_varied = (x > 0.0) & (y > 0.0)
        correlation = select(is_varied, load(products, i) / (x * y), nothing)
        correlation = correlation + (x + y) * 0.0
        if i + LANES <= num_windows:
            store(out, place + i, correlation)
        else:
            store_first(out, place + i, correlation, num_windows - i)


@njit(error_model="numpy", nogil=True, cache=True)
def write_mean(
    sums: Float64[np.ndarray, " values"],
    num_windows: int,
    window_samples: int,
    place: int,
    out: Float[np.ndarray, " values"],
) -> None:
    """Write sums that are NaN or infinite wherever a window is not finite, as means."""
    for i in range(0, num_windows, LANES):
        values = load(sums, i)
        values = values / window_samples + values * 0.0
        if i + LANES <= num_windows:
            store(out, place + i, values)
        else:
            store_first(out, place + i, values, num_windows - i)


@njit(error_model="numpy", nogil=True, cache=True)
def count_mean_crossings(
    signal: Float[np.ndarray, " values"],
    spots: Int64[np.ndarray, " window_samples"],
    means: Float64[np.ndarray, " windows"],
    num_windows: int,
    levels: Float[np.ndarray, " windows"],
    crossings: Float64[np.ndarray, " windows"],
) -> None:
    """How often each window changes sides of its mean.

    All samples of all windows are compared, in lanes of neighbouring windows: 12 ns for a window of
    256. A float32 is above the mean if it is above the greatest float32 that is not. `levels` is
    scratch; it, `means` and `crossings` have room for a multiple of 64 windows.
    """
    for i in range(0, num_windows, LANES):
        mean = load(means, i)
        store(levels, i, mean)
        level = widen(load(levels, i))
        # 0.6 to 1.25 float32 further down rounds to the next one; so does 0.75 of the smallest.
        lower = level - maximum(absolute(level) * (1.25 * 2.0**-24), splat(0.75 * 2.0**-149))
        store(levels, i, select(level > mean, lower, level))
    for first in range(0, num_windows, 4 * LANES):
        b, c, d = first + LANES, first + 2 * LANES, first + 3 * LANES
        level_a, level_b = load(levels, first), load(levels, b)
        level_c, level_d = load(levels, c), load(levels, d)
        was_a, was_b = load(signal, first) > level_a, load(signal, b) > level_b
        was_c, was_d = load(signal, c) > level_c, load(signal, d) > level_d
        store(levels, first, splat(0.0))
        count_a = load(levels, first)  # zeros of the signal's dtype
        count_b, count_c, count_d = count_a, count_a, count_a
        for time in range(1, spots.size):
            place = spots[time] + first
            is_a = load(signal, place) > level_a
            is_b = load(signal, place + LANES) > level_b
            is_c = load(signal, place + 2 * LANES) > level_c
            is_d = load(signal, place + 3 * LANES) > level_d
            # An addition under a mask, which is one instruction; adding a selected 1 or 0 is two.
            count_a = select(is_a ^ was_a, count_a + 1.0, count_a)
            count_b = select(is_b ^ was_b, count_b + 1.0, count_b)
            count_c = select(is_c ^ was_c, count_c + 1.0, count_c)
            count_d = select(is_d ^ was_d, count_d + 1.0, count_d)
            was_a, was_b, was_c, was_d = is_a, is_b, is_c, is_d
        store(crossings, first, count_a)
        store(crossings, b, count_b)
        store(crossings, c, count_c)
        store(crossings, d, count_d)


@njit(error_model="numpy", nogil=True, cache=True)
def sum_deviations(
    signal: Float[np.ndarray, " values"],
    spots: Int64[np.ndarray, " window_samples"],
    means: Float64[np.ndarray, " windows"],
    num_windows: int,
    sums: Float64[np.ndarray, " windows"],
) -> None:
    """Sum of the distances of each window's samples from its mean."""
    for first in range(0, num_windows, LANES):
        mean = load(means, first)
        even, odd = splat(0.0), splat(0.0)
        for time in range(0, spots.size - 1, 2):
            even = even + absolute(widen(load(signal, spots[time] + first)) - mean)
            odd = odd + absolute(widen(load(signal, spots[time + 1] + first)) - mean)
        if spots.size % 2:
            even = even + absolute(widen(load(signal, spots[spots.size - 1] + first)) - mean)
        store(sums, first, even + odd)
