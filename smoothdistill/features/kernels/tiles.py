"""Sixteen windows side by side: how a block of a recording becomes [channels][time][lanes]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import (
    LANES,
    load,
    square_root,
    store,
    store_first,
    transpose_into,
    widen,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = ["aligned_empty", "is_any_wanted", "load_tile", "put", "tile_targets"]


@njit(error_model="numpy", nogil=True, cache=True)
def aligned_empty(size, like):  # type: ignore[no-untyped-def]
    """Uninitialised array of the dtype of `like`, on a 64-byte border.

    A vector of 16 float32 fills a cache line; across two lines, each access would cost two.
    """
    padded = np.empty(size + 64 // like.itemsize, like.dtype)
    skipped = (-padded.ctypes.data % 64) // like.itemsize
    return padded[skipped : skipped + size]


@njit(error_model="numpy", nogil=True, cache=True)
def tile_targets(
    window_samples: int, num_channels: int, is_interleaved: bool
) -> Int64[np.ndarray, " values"]:
    """Where each value of a window goes: index in the tile of its first lane."""
    targets = np.empty(window_samples * num_channels, np.int64)
    for channel in range(num_channels):
        for time in range(window_samples):
            row = (
                time * num_channels + channel if is_interleaved else channel * window_samples + time
            )
            targets[row] = (channel * window_samples + time) * LANES
    return targets


@njit(error_model="numpy", nogil=True, cache=True)
def load_tile(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    first: int,
    targets: Int64[np.ndarray, " values"],
    window_samples: int,
    num_channels: int,
    triads: Int64[np.ndarray, "triads 3"],
    places: Int64[np.ndarray, " lanes"],
    tile: Float[np.ndarray, " values"],
) -> int:
    """Fill the tile with up to 16 windows from number `first` on; return how many there are.

    Lanes beyond the last window repeat it. Behind the channels come the Euclidean norms of the
    triads. `places` is scratch of 16.
    """
    count = min(LANES, offsets.size - first)
    for lane in range(LANES):
        places[lane] = offsets[first + min(lane, count - 1)]
    num_values = targets.size
    if num_values >= LANES:
        for row in range(0, num_values - LANES + 1, LANES):
            transpose_into(flat, places, row, tile, targets)
        if num_values % LANES:  # the last square overlaps the one before it
            transpose_into(flat, places, num_values - LANES, tile, targets)
    else:
        for row in range(num_values):
            for lane in range(LANES):
                tile[targets[row] + lane] = flat[places[lane] + row]
    length = window_samples * LANES
    for triad in range(triads.shape[0]):
        x, y, z = triads[triad, 0] * length, triads[triad, 1] * length, triads[triad, 2] * length
        norm = (num_channels + triad) * length
        for place in range(0, length, LANES):
            a = widen(load(tile, x + place))
            b = widen(load(tile, y + place))
            c = widen(load(tile, z + place))
            store(tile, norm + place, a * a + b * b + c * c)
            # The root in the tile's own dtype: of float32 it takes a third of the time, and halves
            # the error of the rounding before it.
            store(tile, norm + place, square_root(load(tile, norm + place)))
    return count


@njit(error_model="numpy", nogil=True, cache=True)
def is_any_wanted(columns: Int64[np.ndarray, " slots"], start: int, stop: int) -> bool:
    """Whether a column was asked for by one of the slots."""
    wanted = False
    for slot in range(start, stop):  # `columns.max()` takes half a second more to compile
        wanted |= columns[slot] >= 0
    return wanted


@njit(error_model="numpy", nogil=True, cache=True)
def put(out, column, first, count, vector):  # type: ignore[no-untyped-def]
    """Write the results of a block into a column, unless it is not asked for (-1)."""
    if column >= 0:
        store_first(out[column], first, vector, count)
