"""How samples follow each other, in windows of 100 samples, every 60: ours, and NumPy.

    pytest bench/features/bench_temporal.py -o python_files='bench_*.py' --benchmark-enable
    python bench/features/bench_temporal.py

2,000 windows of 3 float32 axes. Times are per window and channel, one thread; the second form, and
`test_ratios`, take turns. Everybody's values are held against the reference's first. NumPy takes
all windows of a chunk at once (`quick.Chunk`). Its coefficients by Burg come from sums of lagged
products: 1.5 times as fast as errors forwards and backwards that are written down, though digits
are lost where little of the variance is left.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quick import OURS, Family, count_of, in_chunks, main, of_channels, once, sum_of

from smoothdistill.features.kernels.temporal import AR_ORDER, NUM_BINS, TEMPORAL
from smoothdistill.reference.features.temporal import temporal

LAG = 2  # lag 1 comes out of the kernel of the moments, and is in their bench


def n_turning(chunk):
    late, early = chunk.samples[1:], chunk.samples[:-1]
    is_up, is_down = late > early, late < early
    return count_of((is_up[1:] & is_down[:-1]) | (is_down[1:] & is_up[:-1]))


@once
def lagged(chunk, lag):
    return sum_of(chunk.c[lag:], chunk.c[: chunk.num_samples - lag])


def products(chunk, order):
    """Sums of c[t - i] c[t - j] over t >= order: those of their lag, less what lies outside."""
    found = np.empty((order + 1, order + 1, *chunk.mean.shape))
    for j in range(order + 1):
        for i in range(j + 1):
            late, early = chunk.c[j - i :], chunk.c[: chunk.num_samples + i - j]
            total = lagged(chunk, j - i).copy()
            for t in (*range(order - j), *range(-i, 0)):
                total -= late[t] * early[t]
            found[i, j] = found[j, i] = total
    return found


def form(one, sums, other):
    return np.einsum("icw,ijcw,jcw->cw", one, sums, other)


@once
def burg(chunk):
    weights = np.ones((1, *chunk.mean.shape))
    for order in range(1, AR_ORDER + 1):
        sums = products(chunk, order)
        forward = np.concatenate([weights, np.zeros_like(weights[:1])])
        backward = forward[::-1]
        power = form(forward, sums, forward) + form(backward, sums, backward)
        weights = forward - 2 * form(forward, sums, backward) / power * backward
    return -weights[1:]


@once
def steps(chunk):
    return chunk.x[1:] - chunk.x[:-1]


@once
def wave_length(chunk):
    return np.abs(steps(chunk)).sum(axis=0)


@once
def variance_of_steps(chunk):
    return sum_of(steps(chunk), steps(chunk)) / len(steps(chunk)) - mean_difference(chunk.x) ** 2


def mean_difference(values):
    return (values[-1] - values[0]) / (len(values) - 1)


def mobility(chunk):
    return np.sqrt(variance_of_steps(chunk) / chunk.var)


def complexity(chunk):
    turns = steps(chunk)[1:] - steps(chunk)[:-1]
    variance = sum_of(turns, turns) / len(turns) - mean_difference(steps(chunk)) ** 2
    return np.sqrt(variance / variance_of_steps(chunk)) / mobility(chunk)


def hist_entropy(chunk):
    """From how many samples lie above each edge, counted in bytes."""
    low, high = chunk.samples.min(axis=0), chunk.samples.max(axis=0)
    places = chunk.x - low
    places *= NUM_BINS / (high.astype(np.float64) - low)
    bins = places.astype(np.uint8)
    above = [count_of(bins >= edge) for edge in range(1, NUM_BINS)]
    full = np.full(low.shape, float(chunk.num_samples))
    shares = -np.diff([full, *above, 0 * full], axis=0) / chunk.num_samples
    return -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=0)


BY_NUMPY = {
    "mean_abs_diff": lambda chunk: wave_length(chunk) / (chunk.num_samples - 1),
    "wave_length": wave_length,
    "n_turning": n_turning,
    "hjorth_mobility": mobility,
    "hjorth_complexity": complexity,
    "hist_entropy": hist_entropy,
    **{f"ar{k + 1}": lambda chunk, k=k: burg(chunk)[k] for k in range(AR_ORDER)},
    f"autocorr_lag{LAG}": lambda chunk: lagged(chunk, LAG) / chunk.num_samples / chunk.var,
}
PROVIDERS = {"ours": OURS, "NumPy": in_chunks(BY_NUMPY)}
FAMILY = Family((*TEMPORAL, f"autocorr_lag{LAG}"), of_channels(temporal, lags=(LAG,)), PROVIDERS)


@pytest.mark.parametrize(("group", "names", "provider"), FAMILY.cases)
def test_temporal(benchmark, group, names, provider):
    FAMILY.bench(benchmark, group, names, provider)


@pytest.mark.parametrize("group", FAMILY.groups)
def test_ratios(group, capsys):
    with capsys.disabled():
        FAMILY.print_ratios(group, num_rounds=3)


if __name__ == "__main__":
    main(FAMILY)
