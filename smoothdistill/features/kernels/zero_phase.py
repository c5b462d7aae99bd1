"""Numba kernels of the zero-phase chain: every filter runs forwards, then backwards.

What the causal chain does in two passes over a block is here five over a whole stretch, for a
backward run begins at its end; its memory is 64 bytes a sample. (Leaving only states behind and
running forwards again, block by block on the way back, took 18 ns a sample and axis in place
of 22 for 1,000,000 samples, but 15 in place of 10 for 20,000, which stay in the cache.)
Filters, groups, and what a NaN means are those of `kernels/preprocessing.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.preprocessing import (
    BLOCK_SAMPLES,
    CHANNEL,
    COUNT,
    FILTERS,
    GRAVITY,
    drop_small,
    filter_more,
    filter_row,
    first_order,
    second_order,
    write_block,
)
from smoothdistill.features.kernels.quads import (
    QUAD,
    any_nan,
    load_first,
    maximum,
    minimum,
    nan_to,
    splat,
    store_first,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["run_zero_phase"]


@njit(error_model="numpy", nogil=True, cache=True)
def _read(
    flat: Float[np.ndarray, " values"],
    place: int,
    stride: int,
    count: int,
    samples: int,
    first: int,
    stop: int,
    has_median: bool,
    margin: int,
    low: Float64[np.ndarray, " values"],
) -> None:
    """Samples `first` to `stop` of a stretch, or their medians with their neighbours."""
    here = place + first * stride
    value = load_first(flat, here, count)
    before = load_first(flat, here - stride, count) if first > 0 else value
    for sample in range(first, stop):
        after = value
        if sample + 1 < samples:
            here += stride
            after = load_first(flat, here, count)
        smooth = value
        if has_median:
            smooth = maximum(minimum(before, after), minimum(maximum(before, after), value))
        store_first(low, (margin + sample) * QUAD, smooth, QUAD)
        before, value = value, after


@njit(error_model="numpy", nogil=True, cache=True)
def _mirror(
    source: Float64[np.ndarray, " values"],
    margin: int,
    samples: int,
    pad: int,
    values: Float64[np.ndarray, " values"],
) -> None:
    """Put `pad` samples of the source, mirrored through its ends, on both sides of `values`."""
    first, last = margin * QUAD, (margin + samples - 1) * QUAD
    left, right = load_first(source, first, QUAD), load_first(source, last, QUAD)
    for away in range(QUAD, (pad + 1) * QUAD, QUAD):
        ahead, behind = (
            load_first(source, first + away, QUAD),
            load_first(source, last - away, QUAD),
        )
        store_first(values, first - away, left + left - ahead, QUAD)
        store_first(values, last + away, right + right - behind, QUAD)


@njit(error_model="numpy", nogil=True, cache=True)
def _filter_pair(
    source: Float64[np.ndarray, " values"],
    values: Float64[np.ndarray, " values"],
    place: int,
    step: int,
    samples: int,
    sections: Float64[np.ndarray, "rows 3"],
    state: Float64[np.ndarray, " states"],
) -> None:
    """The first two rows of a filter, from `source` to `values`, in either direction."""
    has_first, has_second = sections[0, 0] > 0.0, sections.shape[0] > 1
    gains, row = filter_row(sections[0]), filter_row(sections[min(1, sections.shape[0] - 1)])
    zero = splat(0.0)
    rest, slope = load_first(state, 0, QUAD), load_first(state, QUAD, QUAD)
    level = load_first(state, 2 * QUAD, QUAD)
    for _ in range(samples):
        value = load_first(source, place, QUAD)
        if any_nan(level):
            rest = nan_to(level, value, rest)
            slope = nan_to(level, zero, slope)
            level = nan_to(level, value, level)
        if has_first:
            value, rest = first_order(value, rest, gains[0], gains[1])
        if has_second:
            value, slope, level = second_order(value, slope, level, row)
        store_first(values, place, value, QUAD)
        place += step
    store_first(state, 0, rest, QUAD)
    store_first(state, QUAD, slope, QUAD)
    store_first(state, 2 * QUAD, level, QUAD)


@njit(error_model="numpy", nogil=True, cache=True)
def _sweep(
    source: Float64[np.ndarray, " values"],
    values: Float64[np.ndarray, " values"],
    first: int,
    step: int,
    samples: int,
    sections: Float64[np.ndarray, "rows 3"],
    state: Float64[np.ndarray, " states"],
) -> None:
    """A whole filter over samples from number `first` on, in steps of 1 or -1, block by block."""
    done, at = 0, int(np.int64(0))
    while done < samples:
        block = min(BLOCK_SAMPLES, samples - done)
        drop_small(state)
        place = (first + step * done) * QUAD
        _filter_pair(source, values, place, step * QUAD, block, sections, state)
        filter_more(values, values, place, step * QUAD, block, sections, state, at)
        done += block


@njit(error_model="numpy", nogil=True, cache=True)
def _filter_stretch(
    flat: Float[np.ndarray, " values"],
    place: int,
    stride: int,
    count: int,
    samples: int,
    has_median: bool,
    lowpass: Float64[np.ndarray, "rows 3"],
    gravity: Float64[np.ndarray, "rows 3"],
    has_gravity: bool,
    pads: Int64[np.ndarray, "2"],
    state: Float64[np.ndarray, " states"],
    low: Float64[np.ndarray, " values"],
    still: Float64[np.ndarray, " values"],
) -> None:
    """Low-passed samples and their gravity, for a stretch of a group without a gap.

    The samples lie behind a margin. A filter begins `pad` samples before them, runs to as many
    behind them, and returns to the first; a stretch shorter than that is mirrored as far as it
    goes.
    """
    margin = max(pads[0], pads[1])
    begin, forwards, backwards = int(np.int64(0)), int(np.int64(1)), int(np.int64(-1))
    block = BLOCK_SAMPLES if pads[0] > 0 else samples
    pad = min(pads[0], samples - 1)
    stop = margin + samples
    _read(flat, place, stride, count, samples, begin, pad + 1, has_median, margin, low)
    _read(flat, place, stride, count, samples, samples - pad - 1, samples, has_median, margin, low)
    _mirror(low, margin, samples, pad, low)
    state[:] = np.nan
    _sweep(low, low, margin - pad, forwards, pad, lowpass, state)
    first = begin
    while first < samples:  # block by block: what is read is filtered while it is in the cache
        end = min(first + block, samples)
        _read(flat, place, stride, count, samples, first, end, has_median, margin, low)
        if pads[0] > 0:
            _sweep(low, low, margin + first, forwards, end - first, lowpass, state)
        first = end
    _sweep(low, low, stop, forwards, pad, lowpass, state)
    if pads[0] > 0:
        state[:] = np.nan
        _sweep(low, low, stop + pad - 1, backwards, samples + pad, lowpass, state)
    if has_gravity:
        pad = min(pads[1], samples - 1)
        _mirror(low, margin, samples, pad, still)
        state[:] = np.nan
        _sweep(still, still, margin - pad, forwards, pad, gravity, state)
        _sweep(low, still, margin, forwards, samples, gravity, state)
        _sweep(still, still, stop, forwards, pad, gravity, state)
        state[:] = np.nan
        _sweep(still, still, stop + pad - 1, backwards, samples + pad, gravity, state)


@njit(error_model="numpy", nogil=True, cache=True)
def _count_finite(flat: Float[np.ndarray, " values"], place: int, stride: int, samples: int) -> int:
    """How many samples of one channel, from `place` on, are finite before the first that is not."""
    for sample in range(samples):
        if not np.isfinite(flat[place]):
            return sample
        place += stride
    return samples


@njit(error_model="numpy", nogil=True, cache=True)
def run_zero_phase(
    flat: Float[np.ndarray, " values"],
    num_channels: int,
    borders: Int64[np.ndarray, " borders"],
    groups: Int64[np.ndarray, "groups 6"],
    has_median: bool,
    lowpass: Float64[np.ndarray, "rows 3"],
    gravity: Float64[np.ndarray, "rows 3"],
    pads: Int64[np.ndarray, "2"],
    rate: float,
    row_stride: int,
    out: Float[np.ndarray, " values"],
) -> None:
    """Run the zero-phase chain over the stretches between successive borders.

    `pads` are the mirrored samples of the low-pass and of the gravity filter, 0 where there is
    none. A stretch in which a channel of a group is not finite is filtered channel by channel.
    Formulas: `smoothdistill/reference/features/preprocessing.py`.
    """
    longest = 0
    for stretch in range(borders.size - 1):
        longest = max(longest, borders[stretch + 1] - borders[stretch])
    margin = max(pads[0], pads[1])
    room = (longest + 2 * margin) * QUAD
    low = np.empty(room)
    still = np.empty(room if pads[1] > 0 else 0)
    at_filter, alone = int(np.int64(FILTERS)), int(np.int64(1))  # variables: see `run_causal`
    num_rows = max(2, max(lowpass.shape[0], gravity.shape[0]))
    state = np.empty(at_filter + QUAD * (2 * num_rows - 1))
    passes_all = np.zeros((1, 3))
    for stretch in range(borders.size - 1):
        start, samples = borders[stretch], borders[stretch + 1] - borders[stretch]
        for number in range(groups.shape[0]):
            group = groups[number]
            count, has_gravity = group[COUNT], group[GRAVITY] >= 0
            place = start * num_channels + group[CHANNEL]
            num_whole = 0
            for lane in range(count):
                num_whole += _count_finite(flat, place + lane, num_channels, samples) == samples
            if num_whole == count:
                _filter_stretch(
                    flat,
                    place,
                    num_channels,
                    count,
                    samples,
                    has_median,
                    lowpass,
                    gravity,
                    has_gravity,
                    pads,
                    state,
                    low,
                    still,
                )
            else:
                low[:] = np.nan
                still[:] = np.nan
                part_low, part_still = np.empty_like(low), np.empty_like(still)
                for lane in range(count):
                    first = 0
                    while first < samples:
                        lane_place = place + lane + first * num_channels
                        run = _count_finite(flat, lane_place, num_channels, samples - first)
                        if run > 0:
                            _filter_stretch(
                                flat,
                                lane_place,
                                num_channels,
                                alone,
                                run,
                                has_median,
                                lowpass,
                                gravity,
                                has_gravity,
                                pads,
                                state,
                                part_low,
                                part_still,
                            )
                            for sample in range(margin, margin + run):
                                target = (sample + first) * QUAD + lane
                                low[target] = part_low[sample * QUAD]
                                if has_gravity:
                                    still[target] = part_still[sample * QUAD]
                        first += run + 1
            state[:] = np.nan
            write_block(
                low,
                still,
                margin * QUAD,
                samples,
                passes_all,
                state,
                at_filter,
                rate,
                group,
                start * row_stride,
                row_stride,
                out,
            )
