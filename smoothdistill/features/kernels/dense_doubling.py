"""Sums over all windows of a chunk by doubling: two halves make a whole, log2(W) times.

NOTE [Doubling]
Windows that start at neighbouring samples overlap almost entirely. A running sum would use that,
but it carries a NaN, or what a glitch has rounded away, on to all that follow. Here each size of
window comes from the one before, `S_2n[i] = merge(S_n[i], S_n[i + n])`, in log2(W) passes over a
chunk that stays in the cache: a window's numbers are made of its own samples alone, in an order
that follows from W alone. The sizes are the leading bits of W, and a bit of 1 adds one sample
behind the two halves: 1, 3, 6, 12, 25, 50, 100.

Means and power sums merge as Chan, Golub and LeVeque (1979) and Pébay (2008) have it. The co-moment
with time needs only the difference of the means, for the halves lie n samples apart.

Where windows start at every step-th sample, the samples lie in `step` rows: row r has samples r,
r + step, ... Starts of one row are neighbours then, and a pass computes only the rows that later
passes ask for: one of full size, at most twice as many with each halving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import (
    LANES,
    fma,
    load,
    splat,
    store,
    widen,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int64

__all__ = [
    "NUM_STATES",
    "double_moments",
    "double_pair",
    "list_sizes",
    "plan_rows",
    "spot",
]

NUM_STATES = 6
"""Planes of `double_moments`: mean, M2, M3, M4, co-moment with time, squared differences."""


def list_sizes(window_samples: int, *, may_overlap: bool) -> Int64[np.ndarray, " sizes"]:
    """Sizes of windows from 1 on. For extremes the parts of a window may overlap."""
    if may_overlap:
        powers = range((window_samples - 1).bit_length() + 1)
        return np.array([min(1 << power, window_samples) for power in powers], np.int64)
    shifts = range(window_samples.bit_length() - 1, -1, -1)
    return np.array([window_samples >> shift for shift in shifts], np.int64)


def plan_rows(
    sizes: Int64[np.ndarray, " sizes"], step_samples: int, num_windows: int
) -> tuple[Bool[np.ndarray, "sizes step_samples"], Int64[np.ndarray, " sizes"]]:
    """Which rows each size is needed of, and of how many starts, in whole vectors."""
    is_needed = np.zeros((len(sizes), step_samples), np.bool_)
    counts = np.empty(len(sizes), np.int64)
    is_needed[-1, 0] = True
    counts[-1] = -(-num_windows // LANES) * LANES
    for i in range(len(sizes) - 2, -1, -1):
        offset = int(min(sizes[i], sizes[i + 1] - sizes[i]))
        rows = np.flatnonzero(is_needed[i + 1])
        is_needed[i, rows] = True
        is_needed[i, (rows + offset) % step_samples] = True
        starts = counts[i + 1] + (step_samples - 1 + offset) // step_samples
        counts[i] = -(-starts // LANES) * LANES
    return is_needed, counts


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def spot(sample: int, step_samples: int, row_length: int) -> int:
    """Place of a sample of the chunk in a plane of `step_samples` rows."""
    return sample % step_samples * row_length + sample // step_samples


# --- Moments -------------------------------------------------------------------------------------


@njit(error_model="numpy", nogil=True, cache=True)
def double_moments(
    signal: Float[np.ndarray, " values"],
    sizes: Int64[np.ndarray, " sizes"],
    is_needed: Bool[np.ndarray, "sizes step_samples"],
    counts: Int64[np.ndarray, " sizes"],
    row_length: int,
    degree: int,
    has_trend: int,
    has_differences: int,
    planes: Float64[np.ndarray, "halves values"],
) -> int:
    """Moments up to `degree` (1, 2 or 4) of all windows.

    The last plane holds the squared differences of neighbours in a window: with M2 and the two ends
    they give its autocovariance.

    Returns:
        Which half of `planes` has the results, in row 0 of each plane; always the first one for a
        step of 1, which needs no other.
    """
    step = is_needed.shape[1]
    plane = planes.shape[1] // NUM_STATES
    half = 0
    first_size = min(1, sizes.size - 1)
    for row in range(step):
        if is_needed[first_size, row]:
            second = spot(row + 1, step, row_length)
            third = spot(row + 2, step, row_length)
            _begin(
                signal,
                row * row_length,
                second,
                third,
                sizes[first_size],
                counts[first_size],
                plane,
                degree,
                planes[0],
            )
    for i in range(1, sizes.size - 1):
        n = sizes[i]
        target = 1 - half if step > 1 else half  # rows feed one another; one row alone does not
        for row in range(step):
            if is_needed[i + 1, row]:
                _merge(
                    signal,
                    row * row_length,
                    spot(row + n, step, row_length),
                    spot(row + n - 1, step, row_length),
                    spot(row + 2 * n, step, row_length),
                    spot(row + 2 * n - 1, step, row_length),
                    n,
                    sizes[i + 1] > 2 * n,
                    counts[i + 1],
                    plane,
                    degree,
                    has_trend,
                    has_differences,
                    planes[half],
                    planes[target],
                )
        half = target
    return half


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _begin(
    signal: Float[np.ndarray, " values"],
    first: int,
    second: int,
    third: int,
    size: int,
    count: int,
    plane: int,
    degree: int,
    target: Float64[np.ndarray, " values"],
) -> None:
    """Windows of 1, 2 or 3 samples."""
    for i in range(0, count, LANES):
        a = widen(load(signal, first + i))
        mean, m2, m3 = a, a * 0.0, a * 0.0
        m4, trend, squares = m2, m2, m2
        if size > 1:
            b = widen(load(signal, second + i))
            delta = b - a
            mean = fma(delta, splat(0.5), a)
            squares = delta * delta
            m2 = squares * 0.5
            m4 = m2 * m2 * 0.5
            trend = delta * 0.5
            if size > 2:
                c = widen(load(signal, third + i))
                delta = c - mean
                share = delta / 3.0
                part = share * delta  # delta^2 / 3
                mean = mean + share
                trend = trend + delta
                m4 = m4 + share * (share * m2) * 6.0 + part * part * 2.0
                m3 = share * (part * 2.0 - m2 * 3.0)
                m2 = m2 + part * 2.0
                c = c - b
                squares = squares + c * c
        place = first + i
        store(target, place, mean)
        if degree > 1:
            store(target, plane + place, m2)
        if degree > 2:
            store(target, 2 * plane + place, m3)
            store(target, 3 * plane + place, m4)
        store(target, 4 * plane + place, trend)
        store(target, 5 * plane + place, squares)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _merge(
    signal: Float[np.ndarray, " values"],
    first: int,
    second: int,
    before_second: int,
    single: int,
    before_single: int,
    n: int,
    has_single: bool,
    count: int,
    plane: int,
    degree: int,
    has_trend: int,
    has_differences: int,
    source: Float64[np.ndarray, " values"],
    target: Float64[np.ndarray, " values"],
) -> None:
    """Windows of 2n samples, or 2n + 1, from those of n."""
    half, half_square, eighth = splat(0.5 * n), splat(0.5 * n * n), splat(0.125 * n)
    whole, twice, weight = splat(1.0 * n), splat(2.0 * n), splat(1.0 / (2.0 * n + 1.0))
    cubic = splat(2.0 * n * (2.0 * n - 1.0))
    quartic = splat(2.0 * n * (4.0 * n * n - 2.0 * n + 1.0))
    for i in range(0, count, LANES):
        a, b = first + i, second + i
        mean = load(source, a)
        delta = load(source, b) - mean
        mean = fma(delta, splat(0.5), mean)
        last, share, part = mean, mean, mean
        if has_single:
            last = widen(load(signal, single + i)) - mean
            share = last * weight
            part = last * share
            mean = mean + share
        store(target, a, mean)
        if has_trend:
            p, q = load(source, 4 * plane + a), load(source, 4 * plane + b)
            trend = fma(delta, half_square, p + q)
            if has_single:
                trend = fma(last, whole, trend)
            store(target, 4 * plane + a, trend)
        if has_differences:
            squares = load(source, 5 * plane + a) + load(source, 5 * plane + b)
            jump = widen(load(signal, b)) - widen(load(signal, before_second + i))
            squares = fma(jump, jump, squares)
            if has_single:
                jump = widen(load(signal, single + i)) - widen(load(signal, before_single + i))
                squares = fma(jump, jump, squares)
            store(target, 5 * plane + a, squares)
        if degree > 1:
            square = delta * delta
            p, q = load(source, plane + a), load(source, plane + b)
            m2 = p + q
            if degree > 2:
                r, s = load(source, 2 * plane + a), load(source, 2 * plane + b)
                m3 = fma(delta * 1.5, q - p, r + s)
                m4 = load(source, 3 * plane + a) + load(source, 3 * plane + b)
                m4 = fma(square, fma(square, eighth, m2 * 1.5), m4)
                m4 = fma(delta + delta, s - r, m4)
            m2 = fma(square, half, m2)
            if degree > 2:
                if has_single:
                    fourth = fma(share, fma(part, quartic, m2 * 6.0), m3 * -4.0)
                    m4 = fma(share, fourth, m4)
                    m3 = fma(share, fma(part, cubic, m2 * -3.0), m3)
                store(target, 2 * plane + a, m3)
                store(target, 3 * plane + a, m4)
            if has_single:
                m2 = fma(part, twice, m2)
            store(target, plane + a, m2)


# --- Co-moments of two channels ------------------------------------------------------------------


@njit(error_model="numpy", nogil=True, cache=True)
def double_pair(
    signal_x: Float[np.ndarray, " values"],
    signal_y: Float[np.ndarray, " values"],
    sizes: Int64[np.ndarray, " sizes"],
    is_needed: Bool[np.ndarray, "sizes step_samples"],
    counts: Int64[np.ndarray, " sizes"],
    row_length: int,
    planes: Float64[np.ndarray, "halves values"],
) -> int:
    """Sum of products of the deviations from both means, in the first plane.

    Returns:
        Which half of `planes` has the results, in row 0.
    """
    step = is_needed.shape[1]
    plane = planes.shape[1] // NUM_STATES
    half = 0
    for size in range(min(1, sizes.size - 1), sizes.size):
        # Windows of 2n samples, or 2n + 1, from those of n; at first from the samples themselves.
        n = sizes[max(size - 1, 0)]
        is_first = size <= 1
        has_single = sizes[size] > 2 * n
        half_n, weight, product_weight = 0.5 * n, 1.0 / (2.0 * n + 1.0), 2.0 * n / (2.0 * n + 1.0)
        source = planes[half]
        half = 1 - half if step > 1 and not is_first else half
        target = planes[half]
        for row in range(step):
            if not is_needed[size, row]:
                continue
            first = row * row_length
            second = first if sizes[size] == 1 else spot(row + n, step, row_length)
            single = spot(row + 2 * n, step, row_length)
            for i in range(0, counts[size], LANES):
                a, b = first + i, second + i
                if is_first:
                    mean_x, mean_y = widen(load(signal_x, a)), widen(load(signal_y, a))
                    delta_x = widen(load(signal_x, b)) - mean_x
                    delta_y = widen(load(signal_y, b)) - mean_y
                    products = delta_x * half_n * delta_y
                else:
                    mean_x, mean_y = load(source, plane + a), load(source, 2 * plane + a)
                    delta_x = load(source, plane + b) - mean_x
                    delta_y = load(source, 2 * plane + b) - mean_y
                    products = load(source, a) + load(source, b)
                    products = fma(delta_x * half_n, delta_y, products)
                mean_x = fma(delta_x, splat(0.5), mean_x)
                mean_y = fma(delta_y, splat(0.5), mean_y)
                if has_single:
                    last_x = widen(load(signal_x, single + i)) - mean_x
                    last_y = widen(load(signal_y, single + i)) - mean_y
                    products = fma(last_x * product_weight, last_y, products)
                    mean_x = mean_x + last_x * weight
                    mean_y = mean_y + last_y * weight
                store(target, a, products)
                store(target, plane + a, mean_x)
                store(target, 2 * plane + a, mean_y)
    return half
