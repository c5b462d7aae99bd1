"""Chunks of float64 vectors from windows of any dtype, for kernels that each compute one feature.

NOTE [One kernel for each costly feature]
The costly features take microseconds a window to run and up to a second each to compile. So their
kernels are compiled for float64 only, one by one, and only those that are asked for; what they
share (scratch, z-scores) stays in memory between them, in chunks that the L2 cache holds. An engine
that called all of them from one compiled function would compile everything twice or three times
over, once for each level of calls, and again for each pair of input and output dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import LANES, load, square_root, store, widen
from smoothdistill.features.kernels.tiles import load_tile, tile_targets

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["run_in_chunks", "vectors"]

CHUNK_VALUES = 1 << 16
"""Values of a chunk: half a megabyte, of which the kernels keep a second copy."""


def vectors(*shape: int) -> Float64[np.ndarray, "*rows values"]:
    """Memory on a 64-byte border; the last length counts vectors of `LANES` values."""
    size = math.prod(shape) * LANES
    padded = np.empty(size + 8)
    skipped = -padded.ctypes.data % 64 // 8
    return padded[skipped : skipped + size].reshape(*shape[:-1], shape[-1] * LANES)


def run_in_chunks(
    kernel: Callable[
        [Float64[np.ndarray, "series values"]], Float64[np.ndarray, "slots series*lanes"]
    ],
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    window_samples: int,
    num_channels: int,
    is_interleaved: bool,
    triads: Int64[np.ndarray, "triads 3"],
    columns: Int64[np.ndarray, "signals slots"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Fill the columns of all windows; a column of -1 was not asked for.

    Args:
        kernel: Turns [series, time * LANES] into [slots, series * LANES]. A series is one signal
            of 16 windows; signals of which nothing is asked for are left out.
        flat: Signal memory.
        offsets: Place in `flat` of each window's first value; a window's values are its samples
            channel by channel, or interleaved.
        window_samples: Window length, in samples, at least 1.
        num_channels: Channels of a window.
        is_interleaved: Whether the values of one sample are neighbours.
        triads: Channels of which the Euclidean norm is a further signal.
        columns: Column of each signal's slot.
        out: Results, written in place.
    """
    is_wanted = columns >= 0
    signals = np.flatnonzero(is_wanted.any(axis=1))
    if signals.size == 0 or offsets.size == 0:
        return
    is_wanted, wanted_columns = is_wanted[signals], columns[signals][is_wanted[signals]]
    num_blocks = max(1, CHUNK_VALUES // (signals.size * window_samples * LANES))
    num_blocks = min(num_blocks, -(-offsets.size // LANES))
    targets = tile_targets(window_samples, num_channels, is_interleaved)
    places = np.empty(LANES, np.int64)
    tile = np.empty(num_channels * window_samples * LANES, flat.dtype)
    values = vectors(num_blocks * signals.size, window_samples)
    for first in range(0, offsets.size, num_blocks * LANES):
        part = offsets[first : first + num_blocks * LANES]
        num_series = _load_series(
            flat, part, targets, window_samples, num_channels, triads, signals, places, tile, values
        )
        results = kernel(values[:num_series])
        table = results.reshape(len(results), -1, signals.size, LANES).transpose(2, 0, 1, 3)
        table = table.reshape(signals.size, len(results), -1)[:, :, : part.size]
        out[wanted_columns, first : first + part.size] = table[is_wanted]


@njit(error_model="numpy", nogil=True, cache=True)
def _load_series(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    targets: Int64[np.ndarray, " values"],
    window_samples: int,
    num_channels: int,
    triads: Int64[np.ndarray, "triads 3"],
    signals: Int64[np.ndarray, " signals"],
    places: Int64[np.ndarray, " lanes"],
    tile: Float[np.ndarray, " values"],
    values: Float64[np.ndarray, "series values"],
) -> int:
    """Write the signals of each block of windows; return how many series there are."""
    length = window_samples * LANES
    num_series = 0
    for first in range(0, offsets.size, LANES):
        load_tile(
            flat, offsets, first, targets, window_samples, num_channels, triads[:0], places, tile
        )
        for signal in signals:
            series = values[num_series]
            num_series += 1
            if signal < num_channels:
                for place in range(0, length, LANES):
                    store(series, place, widen(load(tile, signal * length + place)))
            else:  # not by `load_tile`, which would round the norms to the signal's dtype
                triad = triads[signal - num_channels]
                x, y, z = triad[0] * length, triad[1] * length, triad[2] * length
                for place in range(0, length, LANES):
                    a = widen(load(tile, x + place))
                    b = widen(load(tile, y + place))
                    c = widen(load(tile, z + place))
                    store(series, place, square_root(a * a + b * b + c * c))
    return num_series
