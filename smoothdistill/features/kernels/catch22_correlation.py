"""catch22 features of correlation in time: autocorrelation, mutual information, periodicity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import LANES, fma, load, maximum, select, splat, store

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = [
    "LAG_CHUNK",
    "ami_timescale",
    "autocorrelation_landmarks",
    "detrending_basis",
    "lag_products",
    "periodicity",
    "whiten_timescale",
]

LAG_CHUNK = 16
"""Lags that are computed at once, until the last lane has found what is looked for."""


def detrending_basis(window_samples: int) -> Float64[np.ndarray, "time 5"]:
    """Orthonormal basis of the cubic splines with one inner knot, at sample `time // 2 - 1`."""
    time = np.arange(window_samples) / window_samples
    knot = time[max(window_samples // 2 - 1, 0)]
    powers = np.stack([time**0, time, time**2, time**3, np.maximum(time - knot, 0.0) ** 3], axis=1)
    return np.ascontiguousarray(np.linalg.qr(powers)[0])


@njit(error_model="numpy", nogil=True, cache=True)
def lag_products(series, num_samples, first_lag, products):  # type: ignore[no-untyped-def]
    """Write the sums of x[t] x[t + lag] for LAG_CHUNK lags; LAG_CHUNK zeros follow the series."""
    for row in range(0, LAG_CHUNK, 4):
        a, b, c, d = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        lag = first_lag + row
        shift = lag * LANES
        for place in range(0, (num_samples - lag) * LANES, LANES):
            value = load(series, place)
            a = fma(value, load(series, place + shift), a)
            b = fma(value, load(series, place + shift + LANES), b)
            c = fma(value, load(series, place + shift + 2 * LANES), c)
            d = fma(value, load(series, place + shift + 3 * LANES), d)
        store(products, row * LANES, a)
        store(products, (row + 1) * LANES, b)
        store(products, (row + 2) * LANES, c)
        store(products, (row + 3) * LANES, d)


@njit(error_model="numpy", nogil=True, cache=True)
def _is_any(mask, flags):  # type: ignore[no-untyped-def]
    store(flags, 0, select(mask, splat(1.0), splat(0.0)))
    is_any = False
    for lane in range(LANES):
        is_any |= flags[lane] > 0.0
    return is_any


@njit(error_model="numpy", nogil=True, cache=True)
def autocorrelation_landmarks(  # type: ignore[no-untyped-def]
    z, num_samples, is_good, products, flags, timescales, first_minima, first_zeros
):
    """Lags where the autocorrelation first is below 1/e, has a minimum, is not above 0.

    The first is interpolated, the second is `num_samples` if there is none.
    """
    threshold = np.exp(-1.0)
    unknown = splat(-1.0)
    for number in range(z.shape[0]):
        series = z[number]
        start = select(load(is_good, number * LANES) > 0.0, unknown, splat(1.0))
        timescale = first_min = first_zero = start
        before = before_that = splat(0.0)
        power = splat(1.0)
        for first in range(0, num_samples, LAG_CHUNK):
            lag_products(series, num_samples, first, products)
            for lag in range(first, min(first + LAG_CHUNK, num_samples)):
                now = load(products, (lag - first) * LANES)
                if lag == 0:
                    power = select(now > 0.0, now, splat(1.0))
                now /= power
                if lag >= 1:
                    fall = select(now < before, before - now, splat(1.0))
                    crossing = (lag - 1.0) + (before - threshold) / fall
                    is_first = (timescale == unknown) & (now < threshold)
                    timescale = select(is_first, crossing, timescale)
                    is_first = (first_zero == unknown) & (now <= 0.0)
                    first_zero = select(is_first, splat(float(lag)), first_zero)
                if lag >= 2:
                    is_first = (first_min == unknown) & (before < before_that) & (before < now)
                    first_min = select(is_first, splat(lag - 1.0), first_min)
                before_that, before = before, now
            is_open = (timescale == unknown) | (first_min == unknown) | (first_zero == unknown)
            if not _is_any(is_open, flags):
                break
        none = splat(float(num_samples))
        store(timescales, number * LANES, timescale)
        store(first_minima, number * LANES, select(first_min == unknown, none, first_min))
        # The lags' correlations sum to -1/2, so only rounding could keep all of them above 0.
        first_zero = select(first_zero == unknown, none - 1.0, first_zero)
        store(first_zeros, number * LANES, first_zero)


@njit(error_model="numpy", nogil=True, cache=True)
def ami_timescale(z, num_samples, products, squares, result):  # type: ignore[no-untyped-def]
    """First minimum of the Gaussian automutual information -log(1 - r^2) / 2 over 40 lags.

    It is where r^2 has its first minimum, so no logarithm is taken. `products` and `squares` are
    scratch.
    """
    longest = min(40, (num_samples + 1) // 2)
    for number in range(z.shape[0]):
        series = z[number]
        for lag in range(0, longest + 1, LAG_CHUNK):
            lag_products(series, num_samples, lag, products[lag * LANES :])
        # Sums over the first and over the last samples grow from the longest lag down: subtracting
        # samples instead would cancel where one of them dwarfs the others.
        head, head_power = splat(0.0), splat(0.0)
        tail, tail_power = splat(0.0), splat(0.0)
        for sample in range(num_samples - longest - 1):
            value = load(series, sample * LANES)
            head += value
            head_power = fma(value, value, head_power)
        for sample in range(num_samples - 1, longest, -1):
            value = load(series, sample * LANES)
            tail += value
            tail_power = fma(value, value, tail_power)
        for lag in range(longest, 0, -1):
            value = load(series, (num_samples - lag - 1) * LANES)
            head += value
            head_power = fma(value, value, head_power)
            value = load(series, lag * LANES)
            tail += value
            tail_power = fma(value, value, tail_power)
            count = float(num_samples - lag)
            covariance = load(products, lag * LANES) - head * tail / count
            variances = (head_power - head * head / count) * (tail_power - tail * tail / count)
            # Parts that are constant but for rounding have no correlation.
            is_known = variances > 1e-20 * num_samples * num_samples
            square = covariance * covariance / select(is_known, variances, splat(1.0))
            store(squares, lag * LANES, select(is_known, square, splat(np.nan)))
        found = none = splat(float(longest))
        for lag in range(2, longest):
            square = load(squares, lag * LANES)
            before, after = load(squares, (lag - 1) * LANES), load(squares, (lag + 1) * LANES)
            is_first = (found == none) & (square < before) & (square < after)
            found = select(is_first, splat(lag - 1.0), found)
        store(result, number * LANES, found)


@njit(error_model="numpy", nogil=True, cache=True)
def whiten_timescale(z, num_samples, first_zeros, steps, products, flags, result):  # type: ignore[no-untyped-def]
    """First zero of the autocorrelation of the steps, over that of the signal.

    NaN if the steps are all the same but for rounding. `steps`, `products`, `flags` are scratch.
    """
    count = num_samples - 1
    unknown = splat(-1.0)
    for number in range(z.shape[0]):
        series = z[number]
        mean = (load(series, count * LANES) - load(series, 0)) / count
        power = splat(0.0)
        for place in range(0, count * LANES, LANES):
            step = load(series, place + LANES) - load(series, place) - mean
            store(steps, place, step)
            power = fma(step, step, power)
        for place in range(count * LANES, steps.size, LANES):
            store(steps, place, splat(0.0))
        found = select(power > 1e-26 * num_samples, unknown, splat(np.nan))
        for first in range(0, count, LAG_CHUNK):
            lag_products(steps, count, first, products)
            for lag in range(max(first, 1), min(first + LAG_CHUNK, count)):
                product = load(products, (lag - first) * LANES)
                is_first = (found == unknown) & (product <= 0.0)
                found = select(is_first, splat(float(lag)), found)
            if not _is_any(found == unknown, flags):
                break
        store(result, number * LANES, found / load(first_zeros, number * LANES))


@njit(error_model="numpy", nogil=True, cache=True)
def periodicity(z, num_samples, basis, detrended, products, flags, result):  # type: ignore[no-untyped-def]
    """First peak of the autocovariance that is above 0 and 0.01 above the valley before it.

    The trend, a spline, is taken off first. A peak at lag k gives k - 1, no peak gives 0.
    `detrended`, `products` and `flags` are scratch.
    """
    longest = (num_samples + 2) // 3
    unknown = splat(-1.0)
    for number in range(z.shape[0]):
        series = z[number]
        a, b, c, d, e = splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for sample in range(num_samples):
            value = load(series, sample * LANES)
            a += value * basis[sample, 0]
            b += value * basis[sample, 1]
            c += value * basis[sample, 2]
            d += value * basis[sample, 3]
            e += value * basis[sample, 4]
        for sample in range(num_samples):
            trend = a * basis[sample, 0] + b * basis[sample, 1] + c * basis[sample, 2]
            trend += d * basis[sample, 3] + e * basis[sample, 4]
            store(detrended, sample * LANES, load(series, sample * LANES) - trend)
        for place in range(num_samples * LANES, detrended.size, LANES):
            store(detrended, place, splat(0.0))
        found = unknown
        valley = splat(np.inf)
        before = before_that = splat(0.0)
        for first in range(0, longest + 1, LAG_CHUNK):
            lag_products(detrended, num_samples, first, products)
            for lag in range(max(first, 1), min(first + LAG_CHUNK, longest + 1)):
                now = load(products, (lag - first) * LANES) / float(num_samples - lag)
                if lag >= 3:
                    is_peak = (before > before_that) & (before > now)
                    is_tall = (before - valley >= 0.01) & (before >= 0.0)
                    is_first = (found == unknown) & is_peak & is_tall
                    found = select(is_first, splat(lag - 2.0), found)
                    is_valley = (before < before_that) & (before < now)
                    valley = select(is_valley, before, valley)
                before_that, before = before, now
            if not _is_any(found == unknown, flags):
                break
        store(result, number * LANES, maximum(found, splat(0.0)))
