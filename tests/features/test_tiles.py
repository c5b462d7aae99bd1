"""Sixteen windows side by side: where each value goes, and that no other memory is read."""

from __future__ import annotations

import numpy as np
import pytest

from smoothdistill.features.kernels.lanes import LANES
from smoothdistill.features.kernels.tiles import (
    aligned_empty,
    is_any_wanted,
    load_tile,
    put,
    tile_targets,
)

from .engine_checks import same_bits

NO_TRIAD = np.empty((0, 3), np.int64)


def loaded(
    windows: np.ndarray, first: int, *, is_interleaved: bool, triads: np.ndarray = NO_TRIAD
) -> tuple[int, np.ndarray]:
    """Number of windows, and the tile as [signals, time, lanes]."""
    num_windows, num_channels, window_samples = windows.shape
    values = windows.swapaxes(1, 2) if is_interleaved else windows
    flat = np.ascontiguousarray(values).reshape(-1)
    offsets = np.arange(num_windows, dtype=np.int64) * (num_channels * window_samples)
    targets = tile_targets(window_samples, num_channels, is_interleaved)
    num_signals = num_channels + len(triads)
    tile = np.full(num_signals * window_samples * LANES, -1, windows.dtype)
    places = np.empty(LANES, np.int64)
    count = load_tile(
        flat, offsets, first, targets, window_samples, num_channels, triads, places, tile
    )
    return count, tile.reshape(num_signals, window_samples, LANES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_interleaved", [True, False])
@pytest.mark.parametrize("num_channels", [1, 2, 3, 7])
@pytest.mark.parametrize("window_samples", [1, 2, 5, 8, 15, 16, 17, 33])
def test_every_value_has_its_place(
    window_samples: int, num_channels: int, is_interleaved: bool, dtype: type
) -> None:
    """Also where the values of a window are fewer than 16, or no multiple of it."""
    shape = (37, num_channels, window_samples)
    windows = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(dtype)
    for first in (0, 16, 32):
        count, tile = loaded(windows, first, is_interleaved=is_interleaved)
        assert count == min(16, 37 - first)
        numbers = np.minimum(np.arange(first, first + LANES), 36)  # the last window again
        assert np.array_equal(tile, windows[numbers].transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_come_behind_the_channels(dtype: type) -> None:
    windows = np.random.default_rng(1).standard_normal((16, 5, 9)).astype(dtype)
    triads = np.array([[4, 0, 2], [1, 2, 3]])
    _, tile = loaded(windows, 0, is_interleaved=True, triads=triads)
    for number, axes in enumerate(triads):
        squares = (windows[:, axes].astype(float) ** 2).sum(1)
        # a rounding to the dtype of the square, whose root halves it, and one of the root
        roundoff = float(np.finfo(dtype).eps) / 2
        norms = tile[5 + number].T
        assert norms == pytest.approx(np.sqrt(squares), rel=1.5 * roundoff + 1e-15)


def test_windows_may_lie_anywhere() -> None:
    """Overlapping, backwards, and up to the last value of the memory."""
    flat = np.arange(100.0)
    offsets = np.array([90, 0, 3, 2, 50, 0])
    targets = tile_targets(10, 1, True)
    tile = np.empty(10 * LANES)
    load_tile(flat, offsets, 0, targets, 10, 1, NO_TRIAD, np.empty(LANES, np.int64), tile)
    expected = offsets[[0, 1, 2, 3, 4, *[5] * 11]] + np.arange(10)[:, None]
    assert np.array_equal(tile.reshape(10, LANES), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_begin_on_a_cache_line(dtype: type) -> None:
    for size in (1, 16, 1000):
        array = aligned_empty(size, np.empty(0, dtype))
        assert (array.size, array.dtype) == (size, dtype)
        assert array.ctypes.data % 64 == 0


def test_a_column_that_was_not_asked_for_is_not_written() -> None:
    from numba import njit

    from smoothdistill.features.kernels.lanes import load

    @njit(error_model="numpy")
    def write(source, out, column, first, count):
        put(out, column, first, count, load(source, 0))

    source = np.arange(1.0, 17)
    # a slice, as the columns are that the kernels get
    out = np.zeros((4, 60))[:3, :40]
    write(source, out, -1, 0, 16)
    assert not out.any()
    write(source, out, 1, 16, 5)
    expected = np.zeros((3, 40))
    expected[1, 16:21] = source[:5]
    assert same_bits(out, expected)


def test_is_any_wanted() -> None:
    columns = np.array([-1, -1, 5, -1])
    assert is_any_wanted(columns, 0, 4)
    assert is_any_wanted(columns, 2, 3)
    assert not is_any_wanted(columns, 0, 2)
    assert not is_any_wanted(columns, 3, 4)
    assert not is_any_wanted(columns, 2, 2)
