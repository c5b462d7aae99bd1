"""Numba kernels of the preprocessing chain: median, low-pass, gravity, jerk, magnitude in one run.

NOTE [State variables in place of b and a]
A Butterworth low-pass is run as trapezoidal state variables (one integrator for the real pole, two
for each pair of poles) and not by the coefficients b and a of its transfer function. The
transfer function is the same, that of the bilinear transform with the cutoff prewarped. But b and a
describe poles near 1 by differences of numbers near 1 and 2, which loses digits as the cutoff
falls, and here they are never formed (noise on 9.81, cutoff 0.3 Hz of 50 Hz: SciPy is off by 9e-13,
this by 2e-14; 0.01 Hz of 1000 Hz: 1e-7 and 1e-13). The last state *is* the constant that the
filter rests at: it starts without a jump by being set to the first sample, a constant goes through
without a single rounding, and body, which is what gravity leaves, is then exactly 0.

NOTE [Passes over a block]
One loop that does all of it, compiled for one set of options, takes 20 ns a sample of three axes;
two passes over a block that stays in the L1 cache take 18 with all options open (and 17
compiled for one set). From reading a sample to its last magnitude are some 110 cycles of latency,
and a processor that looks 224 instructions ahead sees two samples; each pass has half of that
chain. (Measured on a Skylake Xeon at 3.1 GHz.)

NOTE [A NaN is a restart]
A state that is NaN stands for "no sample yet". So a NaN in one channel makes its states NaN, and
the next number there starts them anew, as the first sample of a recording does; no flags are kept.

NOTE [Small states become 0]
While a signal is constant, states decay, and would end below what float64 holds in full, where
each operation takes a hundred times as long (zeros for an hour: 400 ns a sample and axis for 6).
So what is below 1e-200 is set to 0 before each block. Blocks are counted from where the filters
began, not from where a call did: a stream does the same at the same samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.quads import (
    QUAD,
    any_nan,
    fma,
    load_first,
    maximum,
    minimum,
    nan_to,
    norms_of_three,
    only_finite,
    splat,
    store_first,
)

if TYPE_CHECKING:
    from typing import Any

    from jaxtyping import Float, Float64, Int64

__all__ = [
    "BLOCK_SAMPLES",
    "CHANNEL",
    "COUNT",
    "FILTERS",
    "GRAVITY",
    "drop_small",
    "filter_more",
    "filter_row",
    "first_order",
    "read_block",
    "run_causal",
    "second_order",
    "write_block",
]

# 16 kB of scratch: half of the smallest L1 cache in use. 64 cost 13 % more, 1024 as much.
BLOCK_SAMPLES = 512

SMALLEST_STATE = 1e-200

# A group is up to four channels that are filtered together: first channel, number of channels, and
# where in the output the first row of its body, gravity, jerk and magnitudes begins (-1: not
# wanted).
CHANNEL, COUNT, BODY, GRAVITY, JERK, MAGNITUDE = range(6)

# A filter is an array of rows: the first-order section (gain, 2 * gain, 0), all 0 if the order is
# even, then one row (a, b, c) for each second-order section. A filter that passes all is one row of
# 0.

# Places of the quads in a group's state; the filters' states follow: 1 + 2 for each pair of poles.
LAST, BEFORE, BODY_BEFORE, FILTERS = 0, QUAD, 2 * QUAD, 3 * QUAD


@njit(error_model="numpy", nogil=True, cache=True)
def first_order(value: Any, rest: Any, gain: Any, twice: Any) -> tuple[Any, Any]:
    """One integrator: the low-passed value, and the next state."""
    error = value - rest
    return fma(gain, error, rest), fma(twice, error, rest)


@njit(error_model="numpy", nogil=True, cache=True)
def second_order(
    value: Any, slope: Any, level: Any, row: tuple[Any, Any, Any, Any]
) -> tuple[Any, Any, Any]:
    """Two integrators: the low-passed value, and the next states; `row` ends in one half."""
    error = value - level
    following = fma(row[2], error, fma(row[1], slope, level))
    return (
        fma(row[3], following, row[3] * level),
        fma(row[1], error, row[0] * slope),
        following,
    )


@njit(error_model="numpy", nogil=True, cache=True)
def filter_row(row: Float64[np.ndarray, "3"]) -> tuple[Any, Any, Any, Any]:
    """A row of a filter in vectors, and one half."""
    return splat(row[0]), splat(row[1]), splat(row[2]), splat(0.5)


@njit(error_model="numpy", nogil=True, cache=True)
def read_block(
    flat: Float[np.ndarray, " values"],
    place: int,
    stride: int,
    count: int,
    samples: int,
    has_median: bool,
    lowpass: Float64[np.ndarray, "rows 3"],
    state: Float64[np.ndarray, " states"],
    low: Float64[np.ndarray, " values"],
) -> None:
    """Median of the last three and the first two sections of the low-pass, into `low`."""
    has_first, has_second = lowpass[0, 0] > 0.0, lowpass.shape[0] > 1
    gains, row = filter_row(lowpass[0]), filter_row(lowpass[min(1, lowpass.shape[0] - 1)])
    zero = splat(0.0)
    pair = FILTERS + QUAD
    last, before = load_first(state, LAST, QUAD), load_first(state, BEFORE, QUAD)
    rest = load_first(state, FILTERS, QUAD)
    slope, level = load_first(state, pair, QUAD), load_first(state, pair + QUAD, QUAD)
    for sample in range(samples):
        value = only_finite(load_first(flat, place, count))
        place += stride
        if any_nan(last):
            before = nan_to(last, value, before)
            rest = nan_to(last, value, rest)
            slope = nan_to(last, zero, slope)
            level = nan_to(last, value, level)
            last = nan_to(last, value, last)
        smooth = value
        if has_median:
            smooth = maximum(minimum(before, last), minimum(maximum(before, last), value))
        before = last
        last = value
        if has_first:
            smooth, rest = first_order(smooth, rest, gains[0], gains[1])
        if has_second:
            smooth, slope, level = second_order(smooth, slope, level, row)
        store_first(low, sample * QUAD, smooth, QUAD)
    store_first(state, LAST, last, QUAD)
    store_first(state, BEFORE, before, QUAD)
    store_first(state, FILTERS, rest, QUAD)
    store_first(state, pair, slope, QUAD)
    store_first(state, pair + QUAD, level, QUAD)


@njit(error_model="numpy", nogil=True, cache=True)
def filter_more(
    source: Float64[np.ndarray, " values"],
    values: Float64[np.ndarray, " values"],
    place: int,
    step: int,
    samples: int,
    sections: Float64[np.ndarray, "rows 3"],
    state: Float64[np.ndarray, " states"],
    at: int,
) -> None:
    """The rows of a filter from the third on, from `source` to `values`, in either direction."""
    zero = splat(0.0)
    for number in range(2, sections.shape[0]):
        row, pair = filter_row(sections[number]), at + QUAD * (2 * number - 1)
        slope, level = load_first(state, pair, QUAD), load_first(state, pair + QUAD, QUAD)
        index = place
        for _ in range(samples):
            value = load_first(source, index, QUAD)
            if any_nan(level):
                slope = nan_to(level, zero, slope)
                level = nan_to(level, value, level)
            value, slope, level = second_order(value, slope, level, row)
            store_first(values, index, value, QUAD)
            index += step
        store_first(state, pair, slope, QUAD)
        store_first(state, pair + QUAD, level, QUAD)
        source = values


@njit(error_model="numpy", nogil=True, cache=True)
def write_block(
    low: Float64[np.ndarray, " values"],
    gravity: Float64[np.ndarray, " values"],
    place: int,
    samples: int,
    sections: Float64[np.ndarray, "rows 3"],
    state: Float64[np.ndarray, " states"],
    at: int,
    rate: float,
    group: Int64[np.ndarray, "6"],
    row_start: int,
    row_stride: int,
    out: Float[np.ndarray, " values"],
) -> None:
    """The first two sections of the gravity filter on `gravity`, and all that follows from it."""
    has_first, has_second = sections[0, 0] > 0.0, sections.shape[0] > 1
    gains, row = filter_row(sections[0]), filter_row(sections[min(1, sections.shape[0] - 1)])
    zero, rates = splat(0.0), splat(rate)
    pair = at + QUAD
    body_before, rest = load_first(state, BODY_BEFORE, QUAD), load_first(state, at, QUAD)
    slope, level = load_first(state, pair, QUAD), load_first(state, pair + QUAD, QUAD)
    count = group[COUNT]
    has_gravity, has_jerk = group[GRAVITY] >= 0, group[JERK] >= 0
    has_magnitude = group[MAGNITUDE] >= 0
    num_magnitudes = 1 + has_gravity + has_jerk
    is_plain = not (has_gravity or has_jerk or has_magnitude)
    body_at = group[BODY] + row_start
    gravity_at = group[GRAVITY] + row_start
    jerk_at = group[JERK] + row_start
    magnitude_at = group[MAGNITUDE] + row_start
    if is_plain:  # 5 cycles a sample in place of 10
        for sample in range(samples):
            smooth = load_first(low, place + sample * QUAD, QUAD)
            store_first(out, body_at + sample * row_stride, smooth, count)
        return
    for _ in range(samples):
        body = load_first(low, place, QUAD)
        still, jerk = body, body
        is_restart = any_nan(body_before)
        if has_gravity:
            still = load_first(gravity, place, QUAD)
            if is_restart:
                rest = nan_to(body_before, still, rest)
                slope = nan_to(body_before, zero, slope)
                level = nan_to(body_before, still, level)
            if has_first:
                still, rest = first_order(still, rest, gains[0], gains[1])
            if has_second:
                still, slope, level = second_order(still, slope, level, row)
            body = body - still
            store_first(out, gravity_at, still, count)
        store_first(out, body_at, body, count)
        if is_restart:
            body_before = nan_to(body_before, body, body_before)
        if has_jerk:
            jerk = (body - body_before) * rates
            store_first(out, jerk_at, jerk, count)
        if has_magnitude:
            second = still if has_gravity else jerk
            store_first(out, magnitude_at, norms_of_three(body, second, jerk), num_magnitudes)
        body_before = body
        place += QUAD
        body_at += row_stride
        gravity_at += row_stride
        jerk_at += row_stride
        magnitude_at += row_stride
    store_first(state, BODY_BEFORE, body_before, QUAD)
    store_first(state, at, rest, QUAD)
    store_first(state, pair, slope, QUAD)
    store_first(state, pair + QUAD, level, QUAD)


@njit(error_model="numpy", nogil=True, cache=True)
def drop_small(values: Float64[np.ndarray, " states"]) -> None:
    """Set to 0 what is below `SMALLEST_STATE`; a NaN stays."""
    for index in range(values.size):
        if abs(values[index]) < SMALLEST_STATE:
            values[index] = 0.0


@njit(error_model="numpy", nogil=True, cache=True)
def run_causal(
    flat: Float[np.ndarray, " values"],
    num_channels: int,
    borders: Int64[np.ndarray, " borders"],
    groups: Int64[np.ndarray, "groups 6"],
    has_median: bool,
    lowpass: Float64[np.ndarray, "rows 3"],
    gravity: Float64[np.ndarray, "rows 3"],
    rate: float,
    states: Float64[np.ndarray, "groups states"],
    position: Int64[np.ndarray, "1"],
    row_stride: int,
    out: Float[np.ndarray, " values"],
) -> None:
    """Run the causal chain over the stretches between successive borders.

    States, and the position in a block, are read, so that a stream goes on; at every inner border
    they are set to NaN and 0, which starts all filters anew. Formulas:
    `smoothdistill/reference/features/preprocessing.py`.
    """
    scratch = np.empty((2, BLOCK_SAMPLES * QUAD))
    low, still = scratch[0], scratch[1]
    # As variables: of literals, Numba would compile each function once for every value.
    begin, quad, at_lowpass = int(np.int64(0)), int(np.int64(QUAD)), int(np.int64(FILTERS))
    at_gravity = at_lowpass + QUAD * (2 * max(lowpass.shape[0], 2) - 1)
    for stretch in range(borders.size - 1):
        if stretch > 0:
            states[:] = np.nan
            position[0] = 0
        start = borders[stretch]
        while start < borders[stretch + 1]:
            samples = min(BLOCK_SAMPLES - position[0], borders[stretch + 1] - start)
            for number in range(groups.shape[0]):
                group, state = groups[number], states[number]
                if position[0] == 0:
                    drop_small(state[FILTERS:])
                place = start * num_channels + group[CHANNEL]
                read_block(
                    flat,
                    place,
                    num_channels,
                    group[COUNT],
                    samples,
                    has_median,
                    lowpass,
                    state,
                    low,
                )
                filter_more(low, low, begin, quad, samples, lowpass, state, at_lowpass)
                source = low
                if group[GRAVITY] >= 0 and gravity.shape[0] > 2:
                    source = still
                    filter_more(low, still, begin, quad, samples, gravity, state, at_gravity)
                write_block(
                    low,
                    source,
                    begin,
                    samples,
                    gravity,
                    state,
                    at_gravity,
                    rate,
                    group,
                    start * row_stride,
                    row_stride,
                    out,
                )
            start += samples
            position[0] = (position[0] + samples) % BLOCK_SAMPLES
