"""catch22 features of steps from sample to sample: sizes, asymmetry, predictability, embedding."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from smoothdistill.features.kernels.catch22_symbols import count_code
from smoothdistill.features.kernels.lane_math import exp2
from smoothdistill.features.kernels.lanes import (
    LANES,
    absolute,
    floor,
    load,
    maximum,
    minimum,
    select,
    splat,
    square_root,
    store,
)

__all__ = ["embedding_dist", "forecast_error", "high_fluctuation", "trev"]


@njit(error_model="numpy", nogil=True, cache=True)
def trev(z, num_samples, result):  # type: ignore[no-untyped-def]
    """Mean of the cubed differences."""
    for number in range(z.shape[0]):
        series = z[number]
        total = splat(0.0)
        for place in range(LANES, num_samples * LANES, LANES):
            step = load(series, place) - load(series, place - LANES)
            total += step * step * step
        store(result, number * LANES, total / (num_samples - 1.0))


@njit(error_model="numpy", nogil=True, cache=True)
def high_fluctuation(z, num_samples, result):  # type: ignore[no-untyped-def]
    """Share of differences above 0.04 in size."""
    for number in range(z.shape[0]):
        series = z[number]
        count = splat(0.0)
        for place in range(LANES, num_samples * LANES, LANES):
            step = absolute(load(series, place) - load(series, place - LANES))
            count = select(step * 1000.0 > 40.0, count + 1.0, count)
        store(result, number * LANES, count / (num_samples - 1.0))


@njit(error_model="numpy", nogil=True, cache=True)
def forecast_error(z, num_samples, residuals, result):  # type: ignore[no-untyped-def]
    """Standard deviation of what the mean of the three samples before leaves of a sample."""
    count = num_samples - 3
    for number in range(z.shape[0]):
        series = z[number]
        total = splat(0.0)
        for place in range(0, count * LANES, LANES):
            before = load(series, place) + load(series, place + LANES)
            before += load(series, place + 2 * LANES)
            residual = load(series, place + 3 * LANES) - before / 3.0
            store(residuals, place, residual)
            total += residual
        mean = total / count
        squares = splat(0.0)
        for place in range(0, count * LANES, LANES):
            deviation = load(residuals, place) - mean
            squares += deviation * deviation
        store(result, number * LANES, square_root(squares / (count - 1.0)))


@njit(error_model="numpy", nogil=True, cache=True)
def embedding_dist(z, num_samples, first_zeros, scott, shifted, distances, codes, few, result):  # type: ignore[no-untyped-def]
    """How far the histogram of steps in the plane (x[t], x[t + tau]) is from an exponential law.

    tau is the first zero of the autocorrelation, a tenth of the window at most. The bins are
    Scott's, the law has the mean of the steps. 0 where the steps hardly differ. `scott` has the
    width of a bin, in standard deviations, by the number of steps. `few` is scratch of 2 vectors;
    `shifted`, `distances` and `codes` are scratch of a series.
    """
    zero, one = splat(0.0), splat(1.0)
    for number in range(z.shape[0]):
        series = z[number]
        for lane in range(LANES):
            tau = int(first_zeros[number * LANES + lane])
            if tau > num_samples / 10:
                tau = num_samples // 10
            count = num_samples - tau - 1
            few[lane] = count
            few[LANES + lane] = scott[count]
            for place in range(lane, (count + 1) * LANES, LANES):
                shifted[place] = series[place + tau * LANES]
        count, relative_width = load(few, 0), load(few, LANES)
        total, lowest, highest = zero, splat(np.inf), splat(-np.inf)
        for sample in range(num_samples - 1):
            place = sample * LANES
            across = load(series, place + LANES) - load(series, place)
            up = load(shifted, place + LANES) - load(shifted, place)
            distance = square_root(across * across + up * up)
            store(distances, place, distance)
            is_there = count > float(sample)
            total = select(is_there, total + distance, total)
            lowest = select(is_there, minimum(distance, lowest), lowest)
            highest = select(is_there, maximum(distance, highest), highest)
        mean = total / count
        squares = zero
        for sample in range(num_samples - 1):
            deviation = load(distances, sample * LANES) - mean
            squares = select(count > float(sample), squares + deviation * deviation, squares)
        deviation = square_root(squares / (count - one))
        is_spread = deviation >= 0.001
        width = select(is_spread, deviation * relative_width, one)
        num_bins = select(is_spread, zero - floor((lowest - highest) / width), one)
        step = select(is_spread, (highest - lowest) / num_bins, one)
        for sample in range(num_samples - 1):
            code = floor((load(distances, sample * LANES) - lowest) / step)
            code = select(count > float(sample), minimum(code, num_bins - one), splat(-1.0))
            store(codes, sample * LANES, code)
        mean = select(is_spread, mean, one)
        rate = splat(-1.0 / math.log(2.0)) / mean
        expected, ratio = exp2((lowest + 0.5 * step) * rate) / mean, exp2(step * rate)
        store(few, 0, num_bins)
        most_bins = 0
        for lane in range(LANES):
            most_bins = max(most_bins, int(few[lane]))
        total = zero
        for code in range(most_bins):
            share = count_code(codes, num_samples - 1, code) / count
            total = select(num_bins > float(code), total + absolute(share - expected), total)
            expected *= ratio
        store(result, number * LANES, select(is_spread, total / num_bins, zero))
