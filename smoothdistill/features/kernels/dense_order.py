"""Order statistics of windows that overlap almost entirely: sorted windows that slide.

Sixteen places of a chunk, far from one another, are the lanes; each keeps its window sorted in a
buffer [rank][lanes]. A step takes one pass over the ranks, which removes the oldest sample and
inserts the newest, and all order statistics are read from the buffer. Whatever path a window slid
along, its buffer holds its own samples in order, so its numbers depend on nothing else.

In the samples, a NaN has become +infinity, so that it can be removed again, and -0 has become 0,
which compares equal but has other bits. A window with an infinity at one of its ends is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import lower_builtin, type_callable

from smoothdistill.features.kernels.lanes import (
    LANES,
    Lanes,
    load,
    maximum,
    minimum,
    select,
    splat,
    store,
    transpose_into,
    widen,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["PADDING", "fill_buffer", "slide"]

PADDING = 2
"""Ranks of infinity in front of the buffer and behind it: what is next to the outermost value."""

ALL_LANES = (1 << LANES) - 1


def lane_bits(mask: Any) -> int:
    """Bit i of the number is lane i of the mask."""
    return int(np.sum(np.left_shift(1, np.arange(LANES))[mask]))


@type_callable(lane_bits)
def _type_lane_bits(_):  # type: ignore[no-untyped-def]
    return lambda mask: types.intp if mask == Lanes(types.boolean) else None


@lower_builtin(lane_bits, Lanes)  # type: ignore[no-untyped-call]
def _lower_lane_bits(context, builder, sig, args):  # type: ignore[no-untyped-def]
    return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))


@njit(error_model="numpy", nogil=True, cache=True)
def fill_buffer(
    signal: Float[np.ndarray, " values"],
    starts: Int64[np.ndarray, " lanes"],
    window_samples: int,
    multiples: Int64[np.ndarray, " numbers"],
    buffer: Float[np.ndarray, " values"],
) -> None:
    """Fill a buffer with the windows that start at 16 places, unsorted, and with what pads them."""
    for time in range(0, window_samples, LANES):  # beyond the window, overwritten below
        transpose_into(signal, starts, time, buffer, multiples[PADDING:])
    for place in range(0, PADDING * LANES, LANES):
        store(buffer, place, splat(-np.inf))
    for place in range((PADDING + window_samples) * LANES, buffer.size, LANES):
        store(buffer, place, splat(np.inf))


@njit(error_model="numpy", nogil=True, cache=True)
def slide(
    signal: Float[np.ndarray, " values"],
    first_windows: Int64[np.ndarray, " lanes"],
    windows_per_lane: int,
    step_samples: int,
    window_samples: int,
    ranks: Float64[np.ndarray, " ranks"],
    places: Int64[np.ndarray, " slots"],
    multiples: Int64[np.ndarray, " numbers"],
    buffer: Float[np.ndarray, " values"],
    old: Float[np.ndarray, " values"],
    new: Float[np.ndarray, " values"],
    results: Float[np.ndarray, " values"],
    first: int,
    out: Float[np.ndarray, " values"],
) -> None:
    """Write the order statistics of a chunk.

    All is in one function: a call that passes arrays counts references, which costs more than to
    read all statistics of a window.

    Args:
        signal: Samples of the chunk.
        first_windows: Number in the chunk of each lane's first window.
        windows_per_lane: Windows of each lane; lanes may overlap.
        step_samples: Hop between windows, in samples.
        window_samples: Window length, in samples.
        ranks: Rank of the median, of both quartiles, and of the quantiles asked for.
        places: Where the columns of median, interquartile range, median deviation and quantiles
            begin, -1 where they are not asked for.
        multiples: 0, `LANES`, 2 `LANES` and so on, for as many as fit into `old`.
        buffer: Each lane's first window, sorted, with `PADDING`.
        old: Scratch for the samples that leave.
        new: Scratch for the samples that enter.
        results: Scratch for the results of as many windows as samples fit into `old`.
        first: Number of the chunk's first window.
        out: Memory of the columns.
    """
    begin, end = PADDING * LANES, (PADDING + window_samples - 1) * LANES
    block = results.size // places.size
    capacity = block // LANES
    leaving, entering = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    nearest = begin
    for part in range(0, windows_per_lane, capacity):
        num_windows = min(capacity, windows_per_lane - part)
        for lane in range(LANES):
            leaving[lane] = (first_windows[lane] + max(part - 1, 0)) * step_samples
            entering[lane] = leaving[lane] + window_samples
        for time in range(0, (num_windows - (part == 0)) * step_samples, LANES):
            transpose_into(signal, leaving, time, old, multiples)
            transpose_into(signal, entering, time, new, multiples)
        sample = 0
        for window in range(num_windows):
            for _ in range(step_samples if part + window > 0 else 0):
                # Remove `gone` and insert `come` in each lane. `rest` is the buffer without `gone`;
                # between two neighbours of it comes one of them, or `come`. Four ranks at a time:
                # 15 for 20 ns a window of 256.
                gone, come = load(old, sample), load(new, sample)
                before, here = load(buffer, begin - LANES), load(buffer, begin)
                rank = begin
                while rank + 4 * LANES <= end:
                    a, b = load(buffer, rank + LANES), load(buffer, rank + 2 * LANES)
                    c, d = load(buffer, rank + 3 * LANES), load(buffer, rank + 4 * LANES)
                    rest_0, rest_1 = select(here < gone, here, a), select(a < gone, a, b)
                    rest_2, rest_3 = select(b < gone, b, c), select(c < gone, c, d)
                    store(buffer, rank, minimum(maximum(before, come), rest_0))
                    store(buffer, rank + LANES, minimum(maximum(rest_0, come), rest_1))
                    store(buffer, rank + 2 * LANES, minimum(maximum(rest_1, come), rest_2))
                    store(buffer, rank + 3 * LANES, minimum(maximum(rest_2, come), rest_3))
                    before, here = rest_3, d
                    rank += 4 * LANES
                while rank < end:
                    a = load(buffer, rank + LANES)
                    rest_0 = select(here < gone, here, a)
                    store(buffer, rank, minimum(maximum(before, come), rest_0))
                    before, here = rest_0, a
                    rank += LANES
                store(buffer, end, maximum(before, come))
                sample += LANES

            row = window * LANES
            poison = widen(load(buffer, begin) * 0.0 + load(buffer, end) * 0.0)
            rank, share = _split(ranks[0])
            median = _between(load(buffer, rank), load(buffer, rank + LANES), share)
            if places[0] >= 0:
                store(results, row, median + poison)
            if places[1] >= 0:
                rank, share = _split(ranks[1])
                lower = _between(load(buffer, rank), load(buffer, rank + LANES), share)
                rank, share = _split(ranks[2])
                upper = _between(load(buffer, rank), load(buffer, rank + LANES), share)
                store(results, block + row, upper - lower + poison)
            for slot in range(3, places.size):
                if places[slot] >= 0:
                    rank, share = _split(ranks[slot])
                    value = _between(load(buffer, rank), load(buffer, rank + LANES), share)
                    store(results, slot * block + row, value + poison)
            if places[2] < 0:
                continue

            # Of the k nearest values to the median, all but one lie between two ranks k - 2 apart,
            # and the lower of them is where both distances are first in balance. That rank differs
            # from lane to lane but moves little with a step: the search begins at the lowest of
            # the window before, and ends where all lanes are through. Sums of two float32 are exact
            # in float64.
            k = (window_samples + 1) // 2
            reach, stop = (k - 1) * LANES, begin + (window_samples - k) * LANES
            twice = median + median
            rank = nearest
            while rank > begin and lane_bits(
                widen(load(buffer, rank - LANES)) + widen(load(buffer, rank - LANES + reach))
                >= twice
            ):
                rank -= LANES
            nearest = rank
            low, lower_low = load(buffer, rank - LANES), load(buffer, rank - 2 * LANES)
            high, upper_high = load(buffer, rank + reach), load(buffer, rank + reach + LANES)
            while rank <= stop:
                here = load(buffer, rank)
                is_below = widen(here) + widen(load(buffer, rank + reach)) < twice
                bits = lane_bits(is_below)
                if bits == 0:
                    break
                rank += LANES
                if bits == ALL_LANES:
                    nearest = rank
                lower_low, low = select(is_below, low, lower_low), select(is_below, here, low)
                high = select(is_below, load(buffer, rank + reach), high)
                upper_high = select(is_below, load(buffer, rank + reach + LANES), upper_high)
            down, up = median - widen(low), widen(high) - median
            distance = minimum(down, up)
            if window_samples % 2 == 0:
                outer = minimum(median - widen(lower_low), widen(upper_high) - median)
                distance = (distance + minimum(maximum(down, up), outer)) * 0.5
            store(results, 2 * block + row, distance + poison)

        for slot in range(places.size):
            if places[slot] < 0:
                continue
            for window in range(0, num_windows, LANES):
                source = results[slot * block + window * LANES :]
                for lane in range(LANES):
                    leaving[lane] = places[slot] + first + first_windows[lane] + part + window
                if window + LANES <= num_windows:
                    transpose_into(source, multiples, 0, out, leaving)
                    continue
                for i in range(num_windows - window):
                    for lane in range(LANES):
                        out[leaving[lane] + i] = source[i * LANES + lane]


@njit(error_model="numpy", nogil=True, cache=True)
def _split(rank: float) -> tuple[int, float]:
    """Place in the buffer of the rank below, and how far it is from there."""
    below = int(rank)
    return (PADDING + below) * LANES, rank - below


@njit(error_model="numpy", nogil=True, cache=True)
def _between(below, above, share):  # type: ignore[no-untyped-def]
    """Linear interpolation (Hyndman and Fan's seventh); what is above may be infinite."""
    below = widen(below)
    if share == 0.0:
        return below
    return below + (widen(above) - below) * share
