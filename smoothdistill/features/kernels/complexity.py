"""Complexity of 16 windows at once: sample and permutation entropy, Higuchi dimension, DFA.

`smoothdistill/reference/features/complexity.py` has the definitions. What they leave undefined:

| window | sample_entropy | perm_entropy | higuchi_fd | dfa |
|---|---|---|---|---|
| constant | undefined (antropy: NaN or 0) | 0 | undefined | undefined |
| no match of either length | undefined (antropy: NaN, inf) | | | |
| equal to itself some samples later | | | undefined | |
| too short: samples below | order + 2 | (order - 1) delay + 1 | 2 kmax | 58 |

A window with a NaN or an infinity has NaN in all of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.blocks import run_in_chunks, vectors
from smoothdistill.features.kernels.lane_math import log2
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

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64, UInt8

__all__ = [
    "DEFAULT_PARAMS",
    "PARAMS",
    "SLOTS",
    "complexity_engine",
    "line_through",
]

SLOTS = ("sample_entropy", "perm_entropy", "higuchi_fd", "dfa")
"""Features in the order of the engine's columns."""

PARAMS = (
    "sample_entropy_order",
    "sample_entropy_tolerance",
    "perm_entropy_order",
    "perm_entropy_delay",
    "perm_entropy_normalize",
    "higuchi_kmax",
)
"""Names of the engine's parameters, in their order; meaning and range as in the reference."""

DEFAULT_PARAMS = (2.0, 0.2, 3.0, 1.0, 0.0, 10.0)


def complexity_engine(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    window_samples: int,
    num_channels: int,
    is_interleaved: bool,
    triads: Int64[np.ndarray, "triads 3"],
    wants: UInt8[np.ndarray, " slots"],
    params: Float64[np.ndarray, " params"],
    undefined: float,
    columns: Int64[np.ndarray, "signals slots"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Fill the columns of all windows; a column of -1 was not asked for.

    Args:
        flat: Signal memory.
        offsets: Place in `flat` of each window's first value.
        window_samples: Window length, in samples, at least 1.
        num_channels: Channels of a window.
        is_interleaved: Whether the values of one sample are neighbours.
        triads: Channels of which the Euclidean norm is a further signal.
        wants: Whether any signal's column of a slot is asked for.
        params: Values of `PARAMS`.
        undefined: What stands for a value that the definition does not give.
        columns: Column of each signal's slot.
        out: Results, written in place.
    """
    order, tolerance, pattern_order, delay, is_normalized, kmax = params.tolist()
    pattern_order = int(pattern_order)
    num_patterns = max(window_samples - (pattern_order - 1) * int(delay), 0)
    shares = np.arange(1, num_patterns + 1) / max(num_patterns, 1)
    bits = np.concatenate([[0.0], -shares * np.log2(shares)])
    if is_normalized:
        bits /= math.log2(math.factorial(pattern_order))
    scales = np.array(_dfa_scales(window_samples), np.int64)
    log_strides = np.log2(np.arange(1.0, kmax + 1.0))
    walk = vectors(window_samples)
    points = vectors(max(scales.size, log_strides.size))
    codes = vectors(num_patterns // 2 + 1).view(np.float32)

    def kernel(values: Float64[np.ndarray, "series values"]) -> Float64[np.ndarray, "slots lanes"]:
        means, lowest, highest, poison = summary = vectors(4, len(values))
        results = vectors(len(SLOTS), len(values))
        _summarize(values, window_samples, summary)
        if wants[0]:
            _sample_entropy(values, window_samples, means, int(order), tolerance, results[0])
        if wants[1]:
            _perm_entropy(
                values,
                pattern_order,
                int(delay),
                bits,
                math.factorial(pattern_order),
                codes,
                results[1],
            )
        if wants[2]:
            _higuchi_fd(values, window_samples, log_strides, points, results[2])
        if wants[3]:
            _dfa(values, window_samples, means, scales, np.log2(scales), walk, points, results[3])
        for slot in np.flatnonzero(wants):
            is_known = ~np.isnan(results[slot])
            if SLOTS[slot] != "perm_entropy":
                is_known &= lowest < highest
            results[slot] = np.where(is_known, results[slot], undefined) + poison
        return results

    run_in_chunks(
        kernel,
        flat,
        offsets,
        window_samples,
        num_channels,
        is_interleaved,
        triads,
        columns,
        out,
    )


def _dfa_scales(window_samples: int) -> list[int]:
    """Lengths of segments, as `dfa_scales` of the reference."""
    scales: list[int] = []
    length = 4.0
    while length <= window_samples / 10:
        if not scales or int(length) > scales[-1]:
            scales.append(int(length))
        length *= 1.2
    return scales


@njit(error_model="numpy", nogil=True, cache=True)
def _summarize(values, window_samples, summary):  # type: ignore[no-untyped-def]
    """Mean, least, greatest value, and NaN where a value is not finite (0 elsewhere)."""
    for number in range(values.shape[0]):
        series = values[number]
        total, poison = splat(0.0), splat(0.0)
        lowest = highest = load(series, 0)
        for place in range(0, window_samples * LANES, LANES):
            value = load(series, place)
            total += value
            poison += value - value
            lowest, highest = minimum(value, lowest), maximum(value, highest)
        store(summary[0], number * LANES, total / window_samples)
        store(summary[1], number * LANES, lowest)
        store(summary[2], number * LANES, highest)
        store(summary[3], number * LANES, poison)


@njit(error_model="numpy", nogil=True, cache=True)
def line_through(series, first, num_samples):  # type: ignore[no-untyped-def]
    """Value at the first sample, and slope, of the line through neighbouring vectors."""
    middle = 0.5 * (num_samples - 1)
    total, tilt = splat(0.0), splat(0.0)
    for sample in range(num_samples):
        value = load(series, (first + sample) * LANES)
        total += value
        tilt = fma(value, splat(sample - middle), tilt)
    slope = tilt * (12.0 / (num_samples * (num_samples * num_samples - 1.0)))
    return total * (1.0 / num_samples) - slope * middle, slope


@njit(error_model="numpy", nogil=True, cache=True)
def _sample_entropy(values, window_samples, means, order, tolerance, result):  # type: ignore[no-untyped-def]
    """Count matches lag by lag: a run of matches along a lag is a match of templates."""
    # Runs and counts of one lag are float32: half the registers, and exact below 2^24 samples.
    zero, one = splat(np.float32(0.0)), splat(np.float32(1.0))
    for number in range(values.shape[0]):
        series = values[number]
        mean = load(means, number * LANES)
        squares = splat(0.0)
        for place in range(0, window_samples * LANES, LANES):
            deviation = load(series, place) - mean
            squares += deviation * deviation
        radius = square_root(squares / window_samples) * tolerance
        num_short, num_long = splat(0.0), splat(0.0)
        for lag in range(1, window_samples - order):
            run, short, long = zero, zero, zero
            distance = lag * LANES
            end = (window_samples - lag - 1) * LANES
            for place in range(0, end, LANES):
                is_match = absolute(load(series, place + distance) - load(series, place)) < radius
                run = select(is_match, run + one, zero)
                short = select(run >= order, short + one, short)
                long = select(run > order, long + one, long)
            # The last sample only lengthens templates: both lengths count the same templates.
            is_match = absolute(load(series, end + distance) - load(series, end)) < radius
            long = select(is_match, select(run >= order, long + one, long), long)
            num_short += widen(short)
            num_long += widen(long)
        is_known = num_long > 0.0
        ratio = num_short / select(is_known, num_long, splat(1.0))
        entropy = log2(select(is_known, ratio, splat(1.0))) * math.log(2.0)
        store(result, number * LANES, select(is_known, entropy, splat(np.nan)))


@njit(error_model="numpy", nogil=True, cache=True)
def _perm_entropy(values, order, delay, bits, num_codes, codes, result):  # type: ignore[no-untyped-def]
    """Number each pattern by how many later samples are below each of its samples."""
    num_patterns = bits.size - 1
    zero, one = splat(np.float32(0.0)), splat(np.float32(1.0))
    for number in range(values.shape[0]):
        series = values[number]
        for start in range(num_patterns):
            code = zero
            for earlier in range(order - 1):
                value = load(series, (start + earlier * delay) * LANES)
                code = code * (order - earlier)
                for later in range(earlier + 1, order):
                    other = load(series, (start + later * delay) * LANES)
                    code = select(other < value, code + one, code)
            store(codes, start * LANES, code)
        first = number * LANES
        entropy = splat(0.0 if num_patterns > 0 else np.nan)
        for pattern in range(num_codes):
            count = zero
            for place in range(0, num_patterns * LANES, LANES):
                count = select(load(codes, place) == pattern, count + one, count)
            store(result, first, count)
            for place in range(first, first + LANES):
                result[place] = bits[int(result[place])]
            entropy += load(result, first)
        store(result, first, entropy)


@njit(error_model="numpy", nogil=True, cache=True)
def _higuchi_fd(values, window_samples, log_strides, points, result):  # type: ignore[no-untyped-def]
    if window_samples < 2 * log_strides.size:
        result[:] = np.nan
        return
    for number in range(values.shape[0]):
        series = values[number]
        for stride in range(1, log_strides.size + 1):
            mean = splat(0.0)
            for start in range(stride):
                num_steps = (window_samples - 1 - start) // stride
                walked = splat(0.0)
                before = load(series, start * LANES)
                for step in range(1, num_steps + 1):
                    after = load(series, (start + step * stride) * LANES)
                    walked += absolute(after - before)
                    before = after
                mean += walked / num_steps
            scale = (window_samples - 1.0) / (float(stride) * stride * stride)
            length = select(mean > 0.0, mean * scale, splat(np.nan))
            store(points, (stride - 1) * LANES, length)
        store(result, number * LANES, splat(0.0) - _log_slope(log_strides, points))


@njit(error_model="numpy", nogil=True, cache=True)
def _dfa(values, window_samples, means, scales, log_scales, walk, points, result):  # type: ignore[no-untyped-def]
    for number in range(values.shape[0]):
        series = values[number]
        mean = load(means, number * LANES)
        height = splat(0.0)
        for place in range(0, window_samples * LANES, LANES):
            height += load(series, place) - mean
            store(walk, place, height)
        for point in range(scales.size):
            length = scales[point]
            num_segments = window_samples // length
            squares = splat(0.0)
            for first in range(0, num_segments * length, length):
                level, slope = line_through(walk, first, length)
                for sample in range(length):
                    height = load(walk, (first + sample) * LANES) - level
                    residual = fma(slope, splat(-float(sample)), height)
                    squares = fma(residual, residual, squares)
            store(points, point * LANES, square_root(squares / (num_segments * length)))
        store(result, number * LANES, _log_slope(log_scales, points))


@njit(error_model="numpy", nogil=True, cache=True)
def _log_slope(logs, points):  # type: ignore[no-untyped-def]
    """Slope of the line through the logs of the points, without those that are 0.

    NaN if a point is NaN or fewer than two are left.
    """
    left_out, one = splat(np.inf), splat(1.0)
    num_points, sum_x, sum_y = splat(0.0), splat(0.0), splat(0.0)
    for point in range(logs.size):
        value = load(points, point * LANES)
        is_zero = value == 0.0
        y = log2(select(is_zero, one, value)) + (value - value)  # a NaN stays one
        num_points = select(is_zero, num_points, num_points + 1.0)
        sum_x = select(is_zero, sum_x, sum_x + logs[point])
        sum_y += y
        store(points, point * LANES, select(is_zero, left_out, y))
    mean_x, mean_y = sum_x / maximum(num_points, one), sum_y / maximum(num_points, one)
    products, squares = splat(0.0), splat(0.0)
    for point in range(logs.size):
        y = load(points, point * LANES)
        x = select(y == left_out, splat(0.0), logs[point] - mean_x)
        products += x * (select(y == left_out, mean_y, y) - mean_y)
        squares += x * x
    return products / select(squares > 0.0, squares, splat(np.nan))
