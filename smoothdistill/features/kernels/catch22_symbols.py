"""catch22 features of symbols: runs, pairs, transitions and joint histograms of coarse values."""

from __future__ import annotations

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lane_math import log2
from smoothdistill.features.kernels.lanes import (
    LANES,
    floor,
    load,
    maximum,
    select,
    splat,
    store,
    widen,
)
from smoothdistill.features.kernels.order import sort_lanes

__all__ = [
    "ami2",
    "count_code",
    "entropy_pairs",
    "longest_stretch",
    "thirds",
    "transition_variance",
]


@njit(error_model="numpy", nogil=True, cache=True)
def count_code(codes, num_samples, code):  # type: ignore[no-untyped-def]
    """How often a number occurs among float32 codes, in each lane."""
    zero, one = splat(np.float32(0.0)), splat(np.float32(1.0))
    count = zero
    for place in range(0, num_samples * LANES, LANES):
        count = select(load(codes, place) == code, count + one, count)
    return widen(count)


@njit(error_model="numpy", nogil=True, cache=True)
def _times_log(count):  # type: ignore[no-untyped-def]
    """Each n ln n; 0 for 0."""
    return count * log2(maximum(count, splat(1.0))) * np.log(2.0)


@njit(error_model="numpy", nogil=True, cache=True)
def longest_stretch(z, num_samples, means, is_of_falls, result):  # type: ignore[no-untyped-def]
    """Longest stretch of samples above the mean, or of falling steps.

    As published: of the samples, the last is left out; a stretch counts the sample or step that
    ends it, unless it is the last.
    """
    for number in range(z.shape[0]):
        series = z[number]
        mean = load(means, number * LANES)
        last, longest = splat(0.0), splat(0.0)
        for sample in range(num_samples - 1):
            value = load(series, sample * LANES)
            height = value - (load(series, (sample + 1) * LANES) if is_of_falls else mean)
            here = splat(float(sample))
            end = select(height > 0.0, last, here)
            if sample == num_samples - 2:
                end = here
            longest = maximum(end - last, longest)
            last = end
        store(result, number * LANES, longest)


@njit(error_model="numpy", nogil=True, cache=True)
def thirds(z, num_samples, distances, ordered, low, high):  # type: ignore[no-untyped-def]
    """Quantiles 1/3 and 2/3, between the midpoints of their steps (Hyndman and Fan's fifth).

    They are those of every sample at a multiple of `distances`. `ordered` is scratch of
    `sorting_size` vectors, infinite from `num_samples` on.
    """
    for number in range(z.shape[0]):
        series = z[number]
        first = number * LANES
        distance = load(distances, first)
        phase = splat(0.0)
        for place in range(0, num_samples * LANES, LANES):
            is_there = phase == 0.0
            store(ordered, place, select(is_there, load(series, place), splat(np.inf)))
            phase += 1.0
            phase = select(phase == distance, splat(0.0), phase)
        sort_lanes(ordered, num_samples)
        for lane in range(LANES):
            count = (num_samples - 1) // int(distances[first + lane]) + 1
            position = count * (1.0 / 3.0) - 0.5
            place = int(position) * LANES + lane
            below, above = ordered[place], ordered[place + LANES]
            low[first + lane] = below + (above - below) * (position - int(position))
            position = count * (2.0 * (1.0 / 3.0)) - 0.5
            place = int(position) * LANES + lane
            below, above = ordered[place], ordered[place + LANES]
            high[first + lane] = below + (above - below) * (position - int(position))


@njit(error_model="numpy", nogil=True, cache=True)
def _group(value, low, high):  # type: ignore[no-untyped-def]
    zero, one = splat(0.0), splat(1.0)
    return select(value > low, one, zero) + select(value > high, one, zero)


@njit(error_model="numpy", nogil=True, cache=True)
def entropy_pairs(z, num_samples, lows, highs, codes, result):  # type: ignore[no-untyped-def]
    """Entropy, in nats, of the nine pairs of neighbouring samples in thirds of the values."""
    num_pairs = num_samples - 1
    for number in range(z.shape[0]):
        series = z[number]
        low, high = load(lows, number * LANES), load(highs, number * LANES)
        group = _group(load(series, 0), low, high)
        for place in range(0, num_pairs * LANES, LANES):
            before, group = group, _group(load(series, place + LANES), low, high)
            store(codes, place, before * 3.0 + group)
        total = splat(0.0)
        for code in range(9):
            total += _times_log(count_code(codes, num_pairs, code))
        store(result, number * LANES, np.log(float(num_pairs)) - total / num_pairs)


@njit(error_model="numpy", nogil=True, cache=True)
def transition_variance(z, num_samples, distances, lows, highs, codes, counts, result):  # type: ignore[no-untyped-def]
    """Variances of the columns of the transition matrix of thirds, summed.

    From each sample at a multiple of `distances` to the next such one. `counts` is scratch of 9.
    """
    for number in range(z.shape[0]):
        series = z[number]
        low, high = load(lows, number * LANES), load(highs, number * LANES)
        for place in range(0, num_samples * LANES, LANES):
            store(codes, place, _group(load(series, place), low, high))
        for lane in range(LANES):
            distance = int(distances[number * LANES + lane])
            counts[:] = 0
            group = int(codes[lane])
            for sample in range(distance, num_samples, distance):
                before, group = group, int(codes[sample * LANES + lane])
                counts[3 * before + group] += 1
            scale = 1.0 / ((num_samples - 1) // distance)
            total = 0.0
            for column in range(3):
                a, b, c = counts[column], counts[3 + column], counts[6 + column]
                mean = (a + b + c) / 3.0
                total += (a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2
            result[number * LANES + lane] = 0.5 * total * scale * scale


@njit(error_model="numpy", nogil=True, cache=True)
def ami2(z, num_samples, lowest, highest, codes, cells, result):  # type: ignore[no-untyped-def]
    """Mutual information, in nats, of samples two apart in five bins that reach 0.1 beyond them.

    `cells` is scratch of 25 vectors.
    """
    num_pairs = num_samples - 2
    for number in range(z.shape[0]):
        series = z[number]
        base = load(lowest, number * LANES) - 0.1
        step = (load(highest, number * LANES) - load(lowest, number * LANES) + 0.2) / 5.0
        for place in range(0, num_pairs * LANES, LANES):
            first = floor((load(series, place) - base) / step)
            second = floor((load(series, place + 2 * LANES) - base) / step)
            store(codes, place, first * 5.0 + second)
        for cell in range(25):
            store(cells, cell * LANES, count_code(codes, num_pairs, cell))
        information = splat(num_pairs * np.log(float(num_pairs)))
        for line in range(5):
            row, column = splat(0.0), splat(0.0)
            for other in range(5):
                count = load(cells, (5 * line + other) * LANES)
                information += _times_log(count)
                row += count
                column += load(cells, (5 * other + line) * LANES)
            information -= _times_log(row) + _times_log(column)
        store(result, number * LANES, information / num_pairs)
