"""One window per sample: the dense engine, what each of its parts costs, and what others take.

    pytest bench/features/bench_dense.py -o python_files='bench_*.py' --benchmark-enable -s

1,000,000 x 3 float32 samples, windows of 256, step 1, float32 results, one thread; times are per
window and channel. `stack` is the fastest of bottleneck, polars, pandas and numbagg for each of the
columns that they have, and is compared with ours of those columns only; NumPy is timed on 30,000
windows. `bench_rivals.py` has the same workload from array to frame, and more rivals.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rivals.dense import make_best_of_breed
from rivals.measure import errors, one_thread
from rivals.statistical import numpy_best, numpy_usual
from rivals.truth import DEFINITIONS
from rivals.workload import CHANNEL_PAIRS, SAMPLE_RATE_HZ, Case, moving_signal

from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.features.kernels.cross_channel import TRIAD
from smoothdistill.features.kernels.dense import dense_call
from smoothdistill.features.kernels.moments import MOMENTS
from smoothdistill.features.kernels.order import ORDER
from smoothdistill.features.kernels.statistics import statistics_engine

NUM_SAMPLES = 1_000_000
WINDOW = 256
NUM_NUMPY_WINDOWS = 30_000

POWERS = ("mean", "std", "var", "skew", "kurtosis")
EXTREMES = ("min", "max", "ptp")
STATISTICAL = (
    *(*POWERS, *EXTREMES, *ORDER, "rms", "energy", "zcr", "mcr", "slope", "autocorr_lag1"),
    *("corr", "sma"),
)
STACK = (*POWERS, "min", "max", "median", "q25", "q75", "corr")
PARTS = {
    "all": STATISTICAL,
    "columns of the stack": STACK,
    "mean": ("mean",),
    "mean std var skew kurtosis": POWERS,
    "  and slope, autocorr_lag1": (*POWERS, "slope", "autocorr_lag1"),
    "mean min max ptp": ("mean", *EXTREMES),
    "mean zcr": ("mean", "zcr"),
    "mean mcr": ("mean", "mcr"),
    "mean mean_ad": ("mean", "mean_ad"),
    "median iqr": ("median", "iqr"),
    "median iqr mad": ORDER,
    "corr": ("corr",),
    "sma": ("sma",),
}


def prepare(case: Case, features, dtype=np.float32):
    """Calls of the dense and of the block engine, and how their columns read as an answer."""
    features = set(features)
    columns: dict[tuple[str, int], int] = {}

    def place(feature: str, owner: int) -> int:
        return columns.setdefault((feature, owner), len(columns)) if feature in features else -1

    channels = range(case.num_channels)
    moments = np.array([[place(name, channel) for name in MOMENTS] for channel in channels])
    order = np.array(
        [[place(name, channel) for name in (*ORDER, "q25", "q75")] for channel in channels]
    )
    pairs = np.array(CHANNEL_PAIRS)
    correlations = np.array([place("corr", pair) for pair in range(len(pairs))])
    triads = np.array([[0, 1, 2]])
    of_triad = np.array([[place(name, 0) for name in TRIAD]])
    out = np.zeros((len(columns) + 1, case.num_windows + 16), dtype)[:-1, : case.num_windows]
    offsets = np.arange(case.num_windows) * case.step_samples * case.num_channels
    flat, quantiles = case.signal.reshape(-1), np.array([0.25, 0.75])
    tables = (moments, order, pairs, correlations, of_triad)
    wanted = (triads, 0, SAMPLE_RATE_HZ, 0, 9.81, np.nan, quantiles, *tables)
    engine = dense_call(case.window_samples, case.num_channels, *wanted)
    block = (case.window_samples, case.num_channels, True, *wanted)

    def answer(_=None):
        names = dict.fromkeys(name for name, _ in columns)
        return {
            name: np.stack([out[place] for (of, _), place in columns.items() if of == name], axis=1)
            for name in names
        }

    calls = {
        "ours": lambda: engine(flat, offsets, out),
        "block engine": lambda: statistics_engine(flat, offsets, *block, out),
    }
    return calls, answer


def check(case: Case, answer) -> None:
    """Within some roundings of float32 of the truth, at both ends."""
    for name, found in errors(case, answer).items():
        assert found["scaled"] < 1e-4, (name, found)


def dense_case(num_samples: int = NUM_SAMPLES) -> Case:
    return Case(moving_signal(num_samples), WINDOW, 1)


@pytest.mark.parametrize("part", PARTS)
def test_part(benchmark, part):
    case = dense_case(NUM_SAMPLES if benchmark.enabled else 2000)
    calls, answer = prepare(case, PARTS[part])
    calls["ours"]()
    check(case, {name: values for name, values in answer().items() if name in DEFINITIONS})
    benchmark.group = "dense, window 256, step 1"
    benchmark.extra_info["windows"] = case.num_windows
    benchmark(calls["ours"])


def report(timings, per_call, capsys) -> None:
    """Nanoseconds per window and channel, and the ratio to the first, from rounds by turns."""
    first = next(iter(timings))
    with capsys.disabled():
        print()
        for name, timing in timings.items():
            low, high = (quartile / per_call[name] * 1e9 for quartile in timing.quartiles)
            line = f"{name:32} {timing.median / per_call[name] * 1e9:9.1f} ns"
            line += f" ({low:.1f} to {high:.1f})"
            if name != first:
                ratio = compare(timings[first], timing)
                share = per_call[first] / per_call[name]
                line += f"  {ratio.median * share:7.2f} times {first}"
            print(line)


@pytest.mark.parametrize("num_rounds", [7])
def test_parts_by_turns(benchmark, num_rounds, capsys):
    if not benchmark.enabled:
        pytest.skip("takes a minute")
    case = dense_case()
    calls = {name: prepare(case, features)[0]["ours"] for name, features in PARTS.items()}
    timings = time_in_turns(calls, num_rounds=num_rounds)
    report(timings, dict.fromkeys(calls, 3 * case.num_windows), capsys)
    benchmark.extra_info["windows"] = case.num_windows
    benchmark(calls["all"])


@pytest.mark.filterwarnings("ignore")  # of the rivals, about themselves
def test_ratios(benchmark, capsys):
    """By turns: all columns against the block engine and NumPy, those of the stack against it."""
    is_quick = not benchmark.enabled
    case = dense_case(2000 if is_quick else NUM_SAMPLES)
    few = case.first(NUM_NUMPY_WINDOWS)
    calls, _ = prepare(case, STATISTICAL)
    per_call = dict.fromkeys(calls, 3 * case.num_windows)
    with one_thread():
        for name, make in (("NumPy, strided view", numpy_usual), ("NumPy at its best", numpy_best)):
            workload = make(few, dtype=np.float64, chunk=256)
            check(few, workload.answer(workload.call()))
            calls[name], per_call[name] = workload.call, 3 * few.num_windows
        report(time_in_turns(calls, num_rounds=1 if is_quick else 5), per_call, capsys)
        for module in ("bottleneck", "numbagg", "pandas", "polars"):
            pytest.importorskip(module)
        workload = make_best_of_breed(case)
        check(case, workload.answer(workload.call()))
        ours, answer = prepare(case, STACK)
        ours["ours"]()
        check(case, answer())
        calls = {"ours, columns of the stack": ours["ours"], "stack": workload.call}
        timings = time_in_turns(calls, num_rounds=1 if is_quick else 5)
        report(timings, dict.fromkeys(calls, 3 * case.num_windows), capsys)
    benchmark(ours["ours"])
