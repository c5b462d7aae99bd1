"""Order statistics of 16 windows at once: one sorting network, and everything is read from it.

The network merges sorted runs (Batcher's bitonic merge, with the first stage mirrored so that all
comparisons point upwards). Three stages at a time are done on eight vectors in registers: the
processor stores one vector in a cycle but compares two, so storing after each stage would cost more
than comparing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import (
    LANES,
    load,
    maximum,
    minimum,
    splat,
    store,
    widen,
)
from smoothdistill.features.kernels.tiles import put

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["ORDER", "order", "sort_lanes", "sorting_size"]

ORDER = ("median", "iqr", "mad")
"""Slots of the kernel, in the order of its columns; the quantiles asked for come behind them."""


@njit(error_model="numpy", nogil=True, cache=True)
def sorting_size(window_samples: int) -> int:
    """Vectors that `sort_lanes` needs room for: the next power of two, at least 8."""
    size = 8
    while size < window_samples:
        size *= 2
    return size


@njit(error_model="numpy", nogil=True, cache=True)
def sort_lanes(values: Float[np.ndarray, " values"], num_values: int) -> None:
    """Sort each lane of `num_values` vectors in ascending order, in place.

    What lies behind them, up to `sorting_size`, must be at least as large as any value: it stays
    where it is, so stages that would only touch it are left out.
    """
    for start in range(0, num_values, 8):
        _sort_8(values, start * LANES)
    half = 8  # length of the sorted runs
    while half < num_values:
        quarter = half // 4
        for start in range(0, num_values - half, 2 * half):
            for i in range(start, start + quarter):
                _mirror_8(
                    values, i * LANES, (2 * start + 2 * half - 1 - i) * LANES, quarter * LANES
                )
        distance = half // 8
        while distance >= 4:
            _clean_8(values, num_values, half, distance)
            distance //= 8
        if distance == 2:
            _clean_4(values, num_values, half)
        elif distance == 1:
            _clean_2(values, num_values, half)
        half *= 2


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _sort_8(values: Float[np.ndarray, " values"], place: int) -> None:
    """Sort 8 neighbouring vectors: 19 comparisons, the least possible."""
    a, b = load(values, place), load(values, place + LANES)
    c, d = load(values, place + 2 * LANES), load(values, place + 3 * LANES)
    e, f = load(values, place + 4 * LANES), load(values, place + 5 * LANES)
    g, h = load(values, place + 6 * LANES), load(values, place + 7 * LANES)
    a, c = minimum(a, c), maximum(a, c)
    b, d = minimum(b, d), maximum(b, d)
    e, g = minimum(e, g), maximum(e, g)
    f, h = minimum(f, h), maximum(f, h)
    a, e = minimum(a, e), maximum(a, e)
    b, f = minimum(b, f), maximum(b, f)
    c, g = minimum(c, g), maximum(c, g)
    d, h = minimum(d, h), maximum(d, h)
    a, b = minimum(a, b), maximum(a, b)
    c, d = minimum(c, d), maximum(c, d)
    e, f = minimum(e, f), maximum(e, f)
    g, h = minimum(g, h), maximum(g, h)
    c, e = minimum(c, e), maximum(c, e)
    d, f = minimum(d, f), maximum(d, f)
    b, e = minimum(b, e), maximum(b, e)
    d, g = minimum(d, g), maximum(d, g)
    b, c = minimum(b, c), maximum(b, c)
    d, e = minimum(d, e), maximum(d, e)
    f, g = minimum(f, g), maximum(f, g)
    store(values, place, a)
    store(values, place + LANES, b)
    store(values, place + 2 * LANES, c)
    store(values, place + 3 * LANES, d)
    store(values, place + 4 * LANES, e)
    store(values, place + 5 * LANES, f)
    store(values, place + 6 * LANES, g)
    store(values, place + 7 * LANES, h)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _mirror_8(values: Float[np.ndarray, " values"], low: int, high: int, stride: int) -> None:
    """Three stages of a merge, on four vectors upwards from `low` and four down from `high`."""
    a, h = load(values, low), load(values, high)
    b, g = load(values, low + stride), load(values, high - stride)
    c, f = load(values, low + 2 * stride), load(values, high - 2 * stride)
    d, e = load(values, low + 3 * stride), load(values, high - 3 * stride)
    a, h = minimum(a, h), maximum(a, h)
    b, g = minimum(b, g), maximum(b, g)
    c, f = minimum(c, f), maximum(c, f)
    d, e = minimum(d, e), maximum(d, e)
    a, c = minimum(a, c), maximum(a, c)
    b, d = minimum(b, d), maximum(b, d)
    e, g = minimum(e, g), maximum(e, g)
    f, h = minimum(f, h), maximum(f, h)
    store(values, low, minimum(a, b))
    store(values, low + stride, maximum(a, b))
    store(values, low + 2 * stride, minimum(c, d))
    store(values, low + 3 * stride, maximum(c, d))
    store(values, high - 3 * stride, minimum(e, f))
    store(values, high - 2 * stride, maximum(e, f))
    store(values, high - stride, minimum(g, h))
    store(values, high, maximum(g, h))


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _clean_8(
    values: Float[np.ndarray, " values"], num_values: int, half: int, distance: int
) -> None:
    """Stages of `distance`, half and a quarter of it, in all merges of two runs of `half`."""
    stride = distance // 4 * LANES
    # A run without a partner is sorted already, but begins where the next merge would.
    end = num_values if num_values % (2 * half) > half else num_values - num_values % (2 * half)
    for start in range(0, end, 2 * distance):
        for i in range(start, start + distance // 4):
            p = i * LANES
            a, b = load(values, p), load(values, p + stride)
            c, d = load(values, p + 2 * stride), load(values, p + 3 * stride)
            e, f = load(values, p + 4 * stride), load(values, p + 5 * stride)
            g, h = load(values, p + 6 * stride), load(values, p + 7 * stride)
            a, e = minimum(a, e), maximum(a, e)
            b, f = minimum(b, f), maximum(b, f)
            c, g = minimum(c, g), maximum(c, g)
            d, h = minimum(d, h), maximum(d, h)
            a, c = minimum(a, c), maximum(a, c)
            b, d = minimum(b, d), maximum(b, d)
            e, g = minimum(e, g), maximum(e, g)
            f, h = minimum(f, h), maximum(f, h)
            store(values, p, minimum(a, b))
            store(values, p + stride, maximum(a, b))
            store(values, p + 2 * stride, minimum(c, d))
            store(values, p + 3 * stride, maximum(c, d))
            store(values, p + 4 * stride, minimum(e, f))
            store(values, p + 5 * stride, maximum(e, f))
            store(values, p + 6 * stride, minimum(g, h))
            store(values, p + 7 * stride, maximum(g, h))


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _clean_4(values: Float[np.ndarray, " values"], num_values: int, half: int) -> None:
    """The stages of distances 2 and 1."""
    end = num_values if num_values % (2 * half) > half else num_values - num_values % (2 * half)
    for start in range(0, end, 4):
        p = start * LANES
        a, b = load(values, p), load(values, p + LANES)
        c, d = load(values, p + 2 * LANES), load(values, p + 3 * LANES)
        a, c = minimum(a, c), maximum(a, c)
        b, d = minimum(b, d), maximum(b, d)
        store(values, p, minimum(a, b))
        store(values, p + LANES, maximum(a, b))
        store(values, p + 2 * LANES, minimum(c, d))
        store(values, p + 3 * LANES, maximum(c, d))


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _clean_2(values: Float[np.ndarray, " values"], num_values: int, half: int) -> None:
    """The stage of distance 1."""
    end = num_values if num_values % (2 * half) > half else num_values - num_values % (2 * half)
    for start in range(0, end, 2):
        p = start * LANES
        a, b = load(values, p), load(values, p + LANES)
        store(values, p, minimum(a, b))
        store(values, p + LANES, maximum(a, b))


@njit(error_model="numpy", nogil=True, cache=True)
def order(
    tile: Float[np.ndarray, " values"],
    channel: int,
    window_samples: int,
    first: int,
    count: int,
    quantiles: Float64[np.ndarray, " quantiles"],
    columns: Int64[np.ndarray, " slots"],
    summary: Float64[np.ndarray, " values"],
    values: Float[np.ndarray, " values"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Write median, interquartile range, median absolute deviation and quantiles of a channel.

    `values` is scratch of `sorting_size` vectors.
    """
    base = channel * window_samples * LANES
    infinity = splat(np.inf)
    for place in range(0, window_samples * LANES, LANES):
        store(values, place, load(tile, base + place))
    for place in range(window_samples * LANES, values.size, LANES):
        store(values, place, infinity)  # each time: comparisons carry a NaN in either direction
    sort_lanes(values, window_samples)
    poison = load(summary, (3 * channel + 2) * LANES)
    median = _quantile(values, window_samples, 0.5) + poison
    put(out, columns[0], first, count, median)
    if columns[1] >= 0:
        upper, lower = (
            _quantile(values, window_samples, 0.75),
            _quantile(values, window_samples, 0.25),
        )
        put(out, columns[1], first, count, upper - lower + poison)
    if columns[2] >= 0:
        put(out, columns[2], first, count, _median_deviation(values, window_samples, median))
    for number in range(quantiles.size):
        if columns[3 + number] >= 0:
            quantile = _quantile(values, window_samples, quantiles[number]) + poison
            put(out, columns[3 + number], first, count, quantile)


@njit(error_model="numpy", nogil=True, cache=True)
def _quantile(values, num_values, quantile):  # type: ignore[no-untyped-def]
    """Linear interpolation between neighbours (Hyndman and Fan's seventh)."""
    position = quantile * (num_values - 1)
    lower = min(int(position), num_values - 1)
    fraction = position - lower
    below = widen(load(values, lower * LANES))
    if fraction == 0.0:
        return below
    return below + (widen(load(values, (lower + 1) * LANES)) - below) * fraction


@njit(error_model="numpy", nogil=True, cache=True)
def _median_deviation(values, num_values, median):  # type: ignore[no-untyped-def]
    """Median of the distances from the median, without sorting them.

    The k values nearest to the median are neighbours in the sorted order: the k-th distance is the
    least, over all stretches of k neighbours, of the distance to the farther end.
    """
    nearest = num_values // 2 + 1
    least, second = splat(np.inf), splat(np.inf)  # of so many neighbours, and of one less
    above = widen(load(values, (nearest - 2) * LANES)) - median if nearest > 1 else splat(np.inf)
    for start in range(num_values - nearest + 1):
        below = median - widen(load(values, start * LANES))
        second = minimum(maximum(below, above), second)
        above = widen(load(values, (start + nearest - 1) * LANES)) - median
        least = minimum(maximum(below, above), least)
    if num_values % 2 == 0:  # the mean of both
        below = median - widen(load(values, (num_values - nearest + 1) * LANES))
        second = minimum(maximum(below, above), second)
        least = (least + second) * 0.5
    return least + (median - median)
