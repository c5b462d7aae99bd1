"""catch22 of windows of 100 samples, every 60, of 1,000,000 x 3: ours, aeon and pycatch22.

    pytest bench/features/bench_catch22.py -o python_files='bench_*.py' --benchmark-enable
    python bench/features/bench_catch22.py

Times are per window and channel, one thread; the second form, and `test_ratios`, take turns.
Everybody's values are held against the reference's first. aeon gets z-scores ready made, which it
needs to compute what was published, and is compared without its outlier timings, which are
some thresholds off in some windows; pycatch22 is compared by value only below version 0.6, when it
changed definitions. Each is left out where it is missing.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from costly import Provider, call_engine, check, each_series, lines_of, make_case, measure

from smoothdistill.features.kernels.catch22 import PUBLISHED_NAMES, SLOTS, catch22_engine
from smoothdistill.reference.features.catch22 import catch22, standardize


def ours(case, names):
    return call_engine(catch22_engine, SLOTS, case, names, ())


@lru_cache(maxsize=4)
def z_scores(case):
    return np.stack([standardize(samples) for samples in each_series(case)])[:, None]


@lru_cache(maxsize=1)
def aeon_transformer(names):
    from aeon.transformations.collection.feature_based import Catch22

    return Catch22(features=[PUBLISHED_NAMES[name] for name in names], outlier_norm=False)


def by_aeon(case, names):
    values = aeon_transformer(tuple(names)).fit_transform(z_scores(case))
    return values.T.reshape(len(names), case.num_windows, case.num_channels)


def by_pycatch22(case, names):
    import pycatch22

    places, rows = {}, []
    for samples in each_series(case):
        found = pycatch22.catch22_all(samples.tolist())
        places = places or {name: place for place, name in enumerate(found["names"])}
        rows.append(found["values"])
    if not is_old_pycatch22():  # another order, other names and other values
        order = range(len(names))
    else:
        order = [places[PUBLISHED_NAMES[name]] for name in names]
    values = np.array(rows, np.float64)[:, order]
    return values.T.reshape(len(names), case.num_windows, case.num_channels)


def is_old_pycatch22():
    return tuple(int(part) for part in metadata.version("pycatch22").split(".")[:2]) < (0, 6)


PROVIDERS = {
    "ours": Provider(ours),
    "aeon": Provider(by_aeon, needs="aeon", num_windows=300),
    "pycatch22": Provider(by_pycatch22, needs="pycatch22"),
}


@pytest.mark.filterwarnings("ignore")  # of the rivals, about themselves
@pytest.mark.parametrize("label", PROVIDERS)
def test_catch22(benchmark, label):
    provider = PROVIDERS[label]
    if provider.needs:
        pytest.importorskip(provider.needs)
    if label == "aeon":
        check(provider, [name for name in SLOTS if "outlier" not in name], catch22)
    elif label == "ours" or is_old_pycatch22():
        check(provider, SLOTS, catch22)
    case = make_case(2000 if label == "ours" else provider.num_windows)
    benchmark.group = "catch22"
    benchmark.extra_info["series"] = case.num_windows * case.num_channels
    benchmark(provider.call, case, SLOTS)


@pytest.mark.parametrize("name", SLOTS)
def test_one_feature(benchmark, name):
    case = make_case(2000)
    benchmark.group = "catch22, one feature"
    benchmark.extra_info["series"] = case.num_windows * case.num_channels
    benchmark(ours, case, (name,))


@pytest.mark.filterwarnings("ignore")
def test_ratios(capsys):
    lines = lines_of("catch22", measure(PROVIDERS, SLOTS, num_rounds=3))
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def main() -> None:
    print("\n".join(lines_of("catch22", measure(PROVIDERS, SLOTS))))


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
