"""Complexity features of windows of 100 samples, every 60, of 1,000,000 x 3: ours and antropy.

    pytest bench/features/bench_complexity.py -o python_files='bench_*.py' --benchmark-enable
    python bench/features/bench_complexity.py

Times are per window and channel, one thread; the second form, and `test_ratios`, take turns.
antropy takes one series at a time, so it gets fewer windows; its perm_entropy also takes many
series at once, which is a provider of its own. Everybody's values are held against the reference's
first. antropy is left out where it is missing (`requirements.txt`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from costly import Provider, call_engine, cases_of, check, each_series, lines_of, make_case, measure

from smoothdistill.features.kernels.complexity import DEFAULT_PARAMS, SLOTS, complexity_engine
from smoothdistill.reference.features.complexity import complexity


def ours(case, names):
    return call_engine(complexity_engine, SLOTS, case, names, DEFAULT_PARAMS)


def antropy_one_by_one(case, names):
    import antropy

    functions = {
        "sample_entropy": antropy.sample_entropy,
        "perm_entropy": antropy.perm_entropy,
        "higuchi_fd": antropy.higuchi_fd,
        "dfa": antropy.detrended_fluctuation,
    }
    series = each_series(case)
    values = [[functions[name](samples) for samples in series] for name in names]
    return np.reshape(values, (len(names), case.num_windows, case.num_channels))


def antropy_at_once(case, names):
    import antropy

    series = case.windows().astype(np.float64, order="C").reshape(-1, case.window_samples)
    assert names == ("perm_entropy",)
    return antropy.perm_entropy(series).reshape(1, case.num_windows, case.num_channels)


PROVIDERS = {
    "ours": Provider(ours),
    "antropy": Provider(antropy_one_by_one, needs="antropy"),
    "antropy, 2-D": Provider(
        antropy_at_once, needs="antropy", num_windows=1000, names=("perm_entropy",)
    ),
}


@pytest.mark.filterwarnings("ignore")  # of the rivals, about themselves
@pytest.mark.parametrize(("group", "names", "provider"), cases_of(PROVIDERS, SLOTS))
def test_complexity(benchmark, group, names, provider):
    if provider.needs:
        pytest.importorskip(provider.needs)
    check(provider, names, complexity)
    num_windows = provider.num_windows if provider is not PROVIDERS["ours"] else 2000
    case = make_case(num_windows)
    benchmark.group = group
    benchmark.extra_info["series"] = case.num_windows * case.num_channels
    benchmark(provider.call, case, names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*SLOTS, "all"])
def test_ratios(name, capsys):
    names = SLOTS if name == "all" else (name,)
    lines = lines_of(name, measure(PROVIDERS, names, num_rounds=3))
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def main() -> None:
    for name in (*SLOTS, "all"):
        names = SLOTS if name == "all" else (name,)
        print("\n".join(lines_of(name, measure(PROVIDERS, names))), flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
