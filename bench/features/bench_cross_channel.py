"""Correlations and triads of axes in windows of 100 samples, every 60: ours, and NumPy.

    pytest bench/features/bench_cross_channel.py -o python_files='bench_*.py' --benchmark-enable
    python bench/features/bench_cross_channel.py

2,000 windows of 3 float32 axes; `corr` is three correlations. Times are per window and axis, one
thread; the second form, and `test_ratios`, take turns. Everybody's values are held against the
reference's first. NumPy is at its best: `quick.Chunk` says how. `np.corrcoef` takes one window at a
time, so it gets fewer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from costly import Provider
from quick import OURS, Family, in_chunks, main, once
from rivals.workload import CHANNEL_PAIRS

from smoothdistill.features.kernels.cross_channel import TRIAD
from smoothdistill.features.settings import STANDARD_GRAVITY_M_S2 as GRAVITY
from smoothdistill.reference.features.cross_channel import correlation, triad_features


def truth(case):
    windows = case.windows().astype(np.float64)
    pairs = [correlation(windows[:, a], windows[:, b]) for a, b in CHANNEL_PAIRS]
    triad = triad_features(windows, gravity=GRAVITY)
    return {name: values[:, None] for name, values in triad.items()} | {"corr": np.stack(pairs, 1)}


@once
def norm(chunk):
    """In the float32 of the samples, as ours."""
    return np.sqrt(np.einsum("tcw,tcw->tw", chunk.samples, chunk.samples))


def mad_mag(chunk):
    mean = norm(chunk).mean(axis=0, dtype=np.float64)
    return np.abs(norm(chunk) - mean.astype(np.float32)).mean(axis=0, dtype=np.float64)


def enmo(chunk):
    return np.maximum(norm(chunk) - np.float32(GRAVITY), 0).mean(axis=0, dtype=np.float64)


def angle(axis):
    """Between an axis and the mean acceleration."""
    others = [other for other in range(3) if other != axis]
    return lambda chunk: np.arctan2(np.hypot(*chunk.mean[others]), chunk.mean[axis])


def corr(chunk):
    deviation = np.sqrt(chunk.var)
    c = chunk.c
    return np.stack(
        [
            np.einsum("tw,tw->w", c[:, a], c[:, b])
            / chunk.num_samples
            / (deviation[a] * deviation[b])
            for a, b in CHANNEL_PAIRS
        ]
    )


def corrcoef(case, names):
    assert tuple(names) == ("corr",)
    matrices = [np.corrcoef(window) for window in case.windows().astype(np.float64)]
    return {"corr": np.array([[matrix[pair] for pair in CHANNEL_PAIRS] for matrix in matrices])}


BY_NUMPY = {
    "sma": lambda chunk: np.abs(chunk.x).sum(axis=(0, 1)) / chunk.num_samples,
    "enmo": enmo,
    "mad_mag": mad_mag,
    "pitch": lambda chunk: np.arctan2(-chunk.mean[0], np.hypot(*chunk.mean[1:])),
    "roll": lambda chunk: np.arctan2(chunk.mean[1], chunk.mean[2]),
    "angle_x": angle(0),
    "angle_y": angle(1),
    "angle_z": angle(2),
    "corr": corr,
}
PROVIDERS = {
    "ours": OURS,
    "NumPy": in_chunks(BY_NUMPY),
    "np.corrcoef": Provider(corrcoef, num_windows=300, names=("corr",)),
}
FAMILY = Family(
    (*TRIAD, "corr"),
    truth,
    PROVIDERS,
    tolerance=3e-6,  # 2 roundings to float32 of norms of up to 25 m/s^2, as which they are kept
)


@pytest.mark.parametrize(("group", "names", "provider"), FAMILY.cases)
def test_cross_channel(benchmark, group, names, provider):
    FAMILY.bench(benchmark, group, names, provider)


@pytest.mark.parametrize("group", FAMILY.groups)
def test_ratios(group, capsys):
    with capsys.disabled():
        FAMILY.print_ratios(group, num_rounds=3)


if __name__ == "__main__":
    main(FAMILY)
