"""Moments, extremes, crossings and trend of windows of 100 samples, every 60: ours, NumPy, SciPy.

    pytest bench/features/bench_moments.py -o python_files='bench_*.py' --benchmark-enable
    python bench/features/bench_moments.py

2,000 windows of 3 float32 axes. Times are per window and channel, one thread; the second form, and
`test_ratios`, take turns. Everybody's values are held against the reference's first. NumPy is at
its best: `quick.Chunk` says how. SciPy has the skewness and the kurtosis.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quick import OURS, Family, count_of, in_chunks, main, of_channels, once, sum_of
from rivals.workload import SAMPLE_RATE_HZ
from scipy import stats

from smoothdistill.features.kernels.moments import MOMENTS
from smoothdistill.reference.features.moments import moments


@once
def abs_energy(chunk):
    return sum_of(chunk.x, chunk.x)


@once
def smallest(chunk):
    return chunk.samples.min(axis=0).astype(np.float64)


@once
def largest(chunk):
    return chunk.samples.max(axis=0).astype(np.float64)


@once
def zero_crossings(chunk):
    return crossings(chunk.samples > 0)


@once
def mean_crossings(chunk):
    return crossings(chunk.c > 0)


def crossings(is_above):
    return count_of(is_above[1:] ^ is_above[:-1])


def slope(chunk):
    times = np.arange(chunk.num_samples) - (chunk.num_samples - 1) / 2
    weights = times / (times @ times) * SAMPLE_RATE_HZ
    return (weights @ chunk.x.reshape(len(times), -1)).reshape(chunk.x.shape[1:])


def kurtosis(chunk):
    square = chunk.c * chunk.c
    return sum_of(square, square) / chunk.num_samples / chunk.var**2 - 3


BY_NUMPY = {
    "mean": lambda chunk: chunk.mean,
    "std": lambda chunk: np.sqrt(chunk.var),
    "var": lambda chunk: chunk.var,
    "min": smallest,
    "max": largest,
    "ptp": lambda chunk: largest(chunk) - smallest(chunk),
    "mean_ad": lambda chunk: np.abs(chunk.c).mean(axis=0),
    "rms": lambda chunk: np.sqrt(abs_energy(chunk) / chunk.num_samples),
    "energy": lambda chunk: abs_energy(chunk) / chunk.num_samples,
    "abs_energy": abs_energy,
    "skew": lambda chunk: sum_of(chunk.c, chunk.c, chunk.c) / chunk.num_samples / chunk.var**1.5,
    "kurtosis": kurtosis,
    "zcr": lambda chunk: zero_crossings(chunk) / (chunk.num_samples - 1),
    "mcr": lambda chunk: mean_crossings(chunk) / (chunk.num_samples - 1),
    "zcr_count": zero_crossings,
    "mcr_count": mean_crossings,
    "slope": slope,
    "autocorr_lag1": lambda chunk: (
        sum_of(chunk.c[1:], chunk.c[:-1]) / chunk.num_samples / chunk.var
    ),
}
BY_SCIPY = {
    "skew": lambda chunk: stats.skew(chunk.x, axis=0),
    "kurtosis": lambda chunk: stats.kurtosis(chunk.x, axis=0),
}
PROVIDERS = {"ours": OURS, "NumPy": in_chunks(BY_NUMPY), "SciPy": in_chunks(BY_SCIPY)}
FAMILY = Family(MOMENTS, of_channels(moments, slope_rate_hz=SAMPLE_RATE_HZ), PROVIDERS)


@pytest.mark.parametrize(("group", "names", "provider"), FAMILY.cases)
def test_moments(benchmark, group, names, provider):
    FAMILY.bench(benchmark, group, names, provider)


@pytest.mark.parametrize("group", FAMILY.groups)
def test_ratios(group, capsys):
    with capsys.disabled():
        FAMILY.print_ratios(group, num_rounds=3)


if __name__ == "__main__":
    main(FAMILY)
