"""Features of windows: ours against what others offer, on one thread.

    python bench/features/bench_rivals.py --json bench/results/features-NAME.json
    pytest bench/features/bench_rivals.py -o python_files='bench_*.py' --benchmark-enable

Three workloads on 1,000,000 x 3 float32 samples at 50 Hz: `statistical` (17 values per channel, the
signal magnitude area and three correlations) and `spectral` (9 values per channel) of windows of
100 samples every 60, and `dense`, the statistical set of windows of 256 every sample. Times are
per window and channel ("window-axis"). Slow rivals are timed on fewer windows, and get their input
in the form they like best, ready made; ours goes from the array to a pandas frame.

Everybody's values are held against extended precision first, each to its own definition. The
rivals are in `requirements.txt`; those that are missing are left out and named.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rivals.measure import (
    COMPARISONS,
    all_errors,
    check,
    describe_machine,
    measure,
    missing,
    one_thread,
)
from rivals.workload import moving_signal

PLACES = [
    pytest.param(comparison, provider, id=f"{comparison.name}-{provider.name}")
    for comparison in COMPARISONS.values()
    for provider in comparison.providers
]


@pytest.mark.filterwarnings("ignore")  # of the rivals, about themselves
@pytest.mark.parametrize(("comparison", "provider"), PLACES)
def test_provider(benchmark, comparison, provider):
    if lacks := missing(provider):
        pytest.skip(f"{lacks} cannot be imported")
    with one_thread():
        mistakes = all_errors(comparison, provider, 50)
        check(provider, mistakes["moving"])
        num_windows = (provider.num_windows or 20_000) if benchmark.enabled else 50
        num_samples = comparison.window_samples + comparison.step_samples * (num_windows - 1)
        case = comparison.case(moving_signal(num_samples))
        benchmark.group = comparison.name
        benchmark.extra_info["windows"] = case.num_windows
        benchmark(provider.make(case).call)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMPARISONS)
def test_ratios(name, capsys):
    with one_thread():
        found = measure(COMPARISONS[name], num_rounds=5)
    with capsys.disabled():
        print(f"\n{words(found)}")


def words(found: dict) -> str:
    """One line for each provider, and the names of those that are left out."""
    lines = [
        f"{row['workload']:12} {row['provider']:45} {row['num_features']:3} values "
        f"{row['median_nanoseconds']:14,.0f} ns ({row['quartile_1_nanoseconds']:,.0f} to "
        f"{row['quartile_3_nanoseconds']:,.0f})  "
        + "  ".join(
            f"{name} {'-' if error is None else format(error, '.0e')}"
            for name, error in row["shown_errors"].items()
        )
        for row in found["times"]
    ]
    lines += [
        f"{row['workload']:12} {row['against']:45} {row['ratio']:,.1f} times "
        f"({row['ratio_low']:,.1f} to {row['ratio_high']:,.1f}) {row['provider']}"
        for row in found["ratios"]
    ]
    lines += [f"left out: {row['provider']} ({row['reason']})" for row in found["left_out"]]
    return "\n".join(lines)


def main() -> None:
    """Measure the comparisons and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--only", nargs="*", choices=list(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    features: dict[str, list] = {"times": [], "ratios": [], "left_out": []}

    def report(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    with one_thread():
        for name in arguments.only:
            found = measure(COMPARISONS[name], num_rounds=arguments.rounds, report=report)
            for key, rows in found.items():
                features[key] += rows
            print(words(found), flush=True)
    if arguments.json is not None:
        result = {"features": features, "machine": describe_machine()}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
