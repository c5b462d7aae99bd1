"""Order statistics of windows of 100 samples, every 60: ours, NumPy and SciPy.

    pytest bench/features/bench_order.py -o python_files='bench_*.py' --benchmark-enable
    python bench/features/bench_order.py

2,000 windows of 3 float32 axes. Times are per window and channel, one thread; the second form, and
`test_ratios`, take turns. Everybody's values are held against the reference's first. NumPy at its
best sorts a chunk once, in float32, and reads all from it; `np.median` and `np.quantile` are what
people write, and SciPy has two of the features.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quick import OURS, Family, in_chunks, main, of_channels, once
from rivals.numpy_forms import mad_of_sorted, quantile_of_sorted
from scipy import stats

from smoothdistill.features.kernels.order import ORDER
from smoothdistill.reference.features.order import order


@once
def ordered(chunk):
    """A view [time, channels, windows] of samples sorted where they are contiguous."""
    rows = np.ascontiguousarray(chunk.view.transpose(1, 2, 0))
    rows.sort(axis=-1)
    return rows.transpose(2, 0, 1)


def quantile(share):
    def feature(chunk):
        place = share * (chunk.num_samples - 1)
        pair = ordered(chunk)[int(place) : int(place) + 2].astype(np.float64)
        return quantile_of_sorted(pair, place % 1)

    return feature


def mad(chunk):
    return mad_of_sorted(ordered(chunk).astype(np.float64, order="C"), quantile(0.5)(chunk))


@once
def rows(chunk):
    """Windows side by side, in float64: what NumPy and SciPy select from."""
    return chunk.view.transpose(1, 2, 0).astype(np.float64, order="C")


@once
def median(chunk):
    return np.median(rows(chunk), axis=-1)


@once
def quartiles(chunk):
    return np.quantile(rows(chunk), (0.25, 0.75), axis=-1)


SORTED = {
    "median": quantile(0.5),
    "iqr": lambda chunk: quantile(0.75)(chunk) - quantile(0.25)(chunk),
    "mad": mad,
    "q25": quantile(0.25),
    "q75": quantile(0.75),
}
SELECTED = {
    "median": median,
    "iqr": lambda chunk: np.subtract(*quartiles(chunk)[::-1]),
    "mad": lambda chunk: np.median(np.abs(rows(chunk) - median(chunk)[..., None]), axis=-1),
    "q25": lambda chunk: quartiles(chunk)[0],
    "q75": lambda chunk: quartiles(chunk)[1],
}
BY_SCIPY = {
    "iqr": lambda chunk: stats.iqr(rows(chunk), axis=-1),
    "mad": lambda chunk: stats.median_abs_deviation(rows(chunk), axis=-1),
}
PROVIDERS = {
    "ours": OURS,
    "NumPy, sorted": in_chunks(SORTED),
    "NumPy, np.quantile": in_chunks(SELECTED),
    "SciPy": in_chunks(BY_SCIPY),
}
FAMILY = Family((*ORDER, "q25", "q75"), of_channels(order), PROVIDERS)


@pytest.mark.parametrize(("group", "names", "provider"), FAMILY.cases)
def test_order(benchmark, group, names, provider):
    FAMILY.bench(benchmark, group, names, provider)


@pytest.mark.parametrize("group", FAMILY.groups)
def test_ratios(group, capsys):
    with capsys.disabled():
        FAMILY.print_ratios(group, num_rounds=3)


if __name__ == "__main__":
    main(FAMILY)
