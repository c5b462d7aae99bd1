"""The kernels as plain Python, and with their bounds checked: the same numbers, no stray access.

The whole suite runs that way too (`NUMBA_DISABLE_JIT=1 pytest tests/features`), in minutes. Here
are its most telling parts, in processes of their own: Numba reads the variables on import.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config, njit

from smoothdistill.features.kernels.lanes import LANES, broadcast, load, splat, store, store_first

from .engine_checks import assert_columns, compute, expected, make_windows, names_of_family

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


@pytest.mark.parametrize("window_samples", [1, 2, 5, 9, 16, 17, 33, 65])
def test_every_family(window_samples: int) -> None:
    """Two blocks, of one pair of dtypes: what there is time for in a process of its own."""
    windows = make_windows(17, 3, window_samples)[0]
    for family in ("moments", "order", "temporal", "cross_channel"):
        got = compute(names_of_family(family), windows, is_interleaved=True)
        assert_columns(got, *expected(family, windows, ["x", "y", "z"]))


def test_a_nan_stays_where_it_is() -> None:
    windows = make_windows(20, 3, 12)[0]
    windows[3, 1, 5] = np.nan
    got = compute(["moments", "order", "temporal", "cross_channel"], windows, nan_policy="omit")
    assert not np.isnan(got["y__mean"]).any()
    got = compute(["moments", "order", "cross_channel"], windows)
    assert np.flatnonzero(np.isnan(got["y__median"])).tolist() == [3]
    assert not np.isnan(got["x__median"]).any()


@pytest.mark.skipif(not config.BOUNDSCHECK or config.DISABLE_JIT, reason="bounds are not checked")
def test_bounds_are_checked() -> None:
    """That nothing is found in the other tests says something only if it would be."""

    @njit
    def read(array, index):
        store(array, 0, load(array, index))

    @njit
    def write(array, index):
        store(array, index, splat(1.0))

    @njit
    def write_some(array, index, count):
        store_first(array, index, splat(1.0), count)

    @njit
    def read_one(array, index):
        store(array, 0, broadcast(array, index))

    array = np.zeros(2 * LANES)
    read(array, LANES)
    read_one(array, 2 * LANES - 1)
    write_some(array, 2 * LANES - 3, 3)
    for index in (-1, LANES + 1, 1000):
        for function in (read, write):
            with pytest.raises(IndexError, match="index is out of bounds"):
                function(array, index)
    for index, count in ((LANES, LANES + 1), (2 * LANES - 2, 3), (-1, 1)):
        with pytest.raises(IndexError, match="index is out of bounds"):
            write_some(array, index, count)
    for index in (-1, 2 * LANES):
        with pytest.raises(IndexError, match="index is out of bounds"):
            read_one(array, index)


def run_tests(variable: str, cache: Path, *tests: str) -> str:
    """Run tests of this folder with a variable of Numba's set, and nothing compiled before."""
    environment = {**os.environ, variable: "1", "NUMBA_CACHE_DIR": str(cache)}
    arguments = ["-q", "-p", "no:cacheprovider", *(str(HERE / test) for test in tests)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(config.DISABLE_JIT or bool(config.BOUNDSCHECK), reason="this is that run")
def test_plain_python_gives_the_same_numbers(tmp_path: Path) -> None:
    output = run_tests(
        "NUMBA_DISABLE_JIT",
        tmp_path,
        "test_without_jit.py::test_every_family",
        "test_without_jit.py::test_a_nan_stays_where_it_is",
        "test_lanes.py",
        "test_order.py::test_the_network_sorts_anything[33-float32]",
        "test_order.py::test_the_network_sorts_all_zeros_and_ones[9]",
        "test_tiles.py",
    )
    assert " passed" in output
    assert not list(tmp_path.rglob("*.nbi")), "something was compiled"


@pytest.mark.skipif(config.DISABLE_JIT or bool(config.BOUNDSCHECK), reason="this is that run")
def test_no_kernel_leaves_its_arrays(tmp_path: Path) -> None:
    output = run_tests(
        "NUMBA_BOUNDSCHECK",
        tmp_path,
        "test_without_jit.py::test_every_family",
        "test_without_jit.py::test_a_nan_stays_where_it_is",
        "test_without_jit.py::test_bounds_are_checked",
    )
    assert " passed" in output
    assert "skipped" not in output
