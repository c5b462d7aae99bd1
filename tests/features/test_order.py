"""Order statistics: parity with the reference, and the network that sorts 16 windows at once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from smoothdistill.features import families
from smoothdistill.features.kernels.lanes import LANES
from smoothdistill.features.kernels.order import ORDER, sort_lanes, sorting_size
from smoothdistill.reference.features.order import order

from .engine_checks import (
    BATCHES,
    CHANNELS,
    WIDTHS,
    check_parity,
    compute,
    names_of_family,
    same_bits,
)
from .error_bounds import PERCENTILES

FAMILY = names_of_family("order")


def sorted_by_network(rows: np.ndarray) -> np.ndarray:
    """Each row [rows, values] sorted by `sort_lanes`, 16 rows at a time."""
    num_rows, num_values = rows.shape
    found = np.empty_like(rows)
    room = np.empty(sorting_size(num_values) * LANES, rows.dtype)
    padded = np.concatenate([rows, np.zeros((-num_rows % LANES, num_values), rows.dtype)])
    for first in range(0, len(padded), LANES):
        room[:] = np.inf  # behind the values, where the network may look
        room[: num_values * LANES] = padded[first : first + LANES].T.ravel()
        sort_lanes(room, num_values)
        assert np.isinf(room[num_values * LANES :]).all(), "padding was moved in between the values"
        block = room[: num_values * LANES].reshape(num_values, LANES).T
        found[first : first + LANES] = block[: num_rows - first]
    return found


def test_the_kernel_has_the_features_of_the_family() -> None:
    assert {name for name in FAMILY if not name.startswith("q")} == set(ORDER)
    assert set(order(np.ones((1, 4)), percentiles=PERCENTILES)) == set(FAMILY)


@pytest.mark.parametrize("window_samples", WIDTHS)
def test_every_window_length(window_samples: int) -> None:
    check_parity("order", 17, 3, window_samples)


@pytest.mark.parametrize("num_channels", CHANNELS)
@pytest.mark.parametrize("num_windows", BATCHES)
def test_every_number_of_windows_and_channels(num_windows: int, num_channels: int) -> None:
    check_parity("order", num_windows, num_channels, 29)


@pytest.mark.parametrize("num_values", range(1, 17))
def test_the_network_sorts_all_zeros_and_ones(num_values: int) -> None:
    """A network that sorts these sorts everything (Knuth, volume 3, 5.3.4, theorem Z)."""
    codes = np.arange(2**num_values)[:, None]
    rows = ((codes >> np.arange(num_values)) & 1).astype(np.float32)
    found = sorted_by_network(rows)
    assert np.array_equal(found, np.sort(rows, axis=1))


@pytest.mark.parametrize("num_values", [32, *(width for width in WIDTHS if 16 < width < 300)])
def test_each_merge_sorts_all_zeros_and_ones(num_values: int) -> None:
    """On each level, every pair of runs has every pair of numbers of zeros.

    That is the whole of what can come out of the level before, if that one sorts.
    """
    half = 8
    while half < num_values:
        zeros = np.array(list(product(range(half + 1), repeat=2)))
        rows = np.ones((len(zeros), num_values), np.float32)
        for start in range(0, num_values, half):
            is_right = start // half % 2
            length = min(half, num_values - start)
            # The zeros of a run that is cut off by the end are as many as fit.
            rows[:, start : start + length] = np.arange(length) >= zeros[:, is_right, None]
        found = sorted_by_network(rows)
        assert np.array_equal(found, np.sort(rows, axis=1)), half
        half *= 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_values", [*WIDTHS, 511, 513])
def test_the_network_sorts_anything(num_values: int, dtype: type) -> None:
    rng = np.random.default_rng(num_values)
    rows = rng.standard_normal((96, num_values)).astype(dtype)
    rows[16:32] = np.round(rows[16:32])  # ties
    rows[32:48] = np.sort(rows[32:48], axis=1)[:, ::-1]  # the wrong way round
    rows[48:64][rng.random((16, num_values)) < 0.2] = -np.inf
    rows[64:80][rng.random((16, num_values)) < 0.2] = np.inf
    rows[80:96] = rng.integers(0, 2, (16, num_values)) * np.finfo(dtype).max
    assert np.array_equal(sorted_by_network(rows), np.sort(rows, axis=1))


@pytest.mark.parametrize("num_values", [5, 16, 33, 100])
def test_a_nan_stays_in_its_lane(num_values: int) -> None:
    rng = np.random.default_rng(num_values)
    rows = rng.standard_normal((LANES, num_values))
    spoilt = rows.copy()
    spoilt[3, num_values // 2] = np.nan
    spoilt[9] = np.nan
    others = np.delete(np.arange(LANES), [3, 9])
    room = np.full(sorting_size(num_values) * LANES, np.inf)
    room[: num_values * LANES] = spoilt.T.ravel()
    sort_lanes(room, num_values)
    found = room[: num_values * LANES].reshape(num_values, LANES).T
    assert np.array_equal(found[others], np.sort(rows[others], axis=1))


@pytest.mark.parametrize("window_samples", [5, 33, 100])
def test_a_nan_spoils_neither_its_block_nor_the_next_one(window_samples: int) -> None:
    """The padding behind the values takes part in comparisons, which carry a NaN either way."""
    windows = np.random.default_rng(4).standard_normal((48, 1, window_samples))
    clean = compute(FAMILY, windows)
    windows[5, 0, -1] = np.nan
    windows[15, 0, :] = np.nan
    got = compute(FAMILY, windows)
    spoilt = np.isin(np.arange(48), [5, 15])
    for name, column in got.items():
        assert np.isnan(column[spoilt]).all(), name
        assert same_bits(column[~spoilt], clean[name][~spoilt]), name


def test_samples_of_the_input_come_out_unchanged() -> None:
    """An odd number of samples has its median among them, in either dtype."""
    windows = np.random.default_rng(5).standard_normal((20, 1, 31)).astype(np.float32)
    got = compute(["median", "q10", "q90"], windows)
    ordered = np.sort(windows[:, 0], axis=1)
    assert np.array_equal(got["x__median"], ordered[:, 15])
    assert np.array_equal(got["x__q10"], ordered[:, 3])
    assert np.array_equal(got["x__q90"], ordered[:, 27])


@pytest.mark.parametrize("window_samples", WIDTHS)
def test_a_constant_window(window_samples: int) -> None:
    got = compute(FAMILY, np.full((3, 1, window_samples), 9.81))
    for name, column in got.items():
        expected = 0.0 if name in ("x__iqr", "x__mad") else 9.81
        assert np.array_equal(column, [expected] * 3), name


def test_percentiles_need_not_be_whole() -> None:
    windows = np.random.default_rng(6).standard_normal((4, 1, 50))
    got = compute(["q2.5", "q97.5", "q99.9"], windows)
    for percent in (2.5, 97.5, 99.9):
        truth = np.percentile(windows[:, 0], percent, axis=1)
        assert got[f"x__q{percent}"] == pytest.approx(truth, rel=1e-14)


def test_the_public_function() -> None:
    windows = np.random.default_rng(7).standard_normal((5, 2, 30))
    got = families.order(windows, percentiles=PERCENTILES)
    assert set(got) == set(FAMILY)
    for number in range(2):
        for name, column in order(windows[:, number], percentiles=PERCENTILES).items():
            assert got[name][:, number] == pytest.approx(column, rel=1e-14, abs=1e-16), name
    assert set(families.order(windows)) == {*ORDER, "q25", "q75"}
