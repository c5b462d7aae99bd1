"""Errors against the truth, then times by turns, of all providers of a comparison."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from rivals import dense, ours, spectral, statistical
from rivals.truth import BANDS_HZ, band_name, truth
from rivals.workload import (
    Answer,
    Case,
    Comparison,
    Provider,
    moving_signal,
    still_signal,
)
from smoothdistill.benchmark.timing import Timing, compare, time_in_turns

NUM_SAMPLES = 1_000_000
NUM_CHECKED = 300  # windows at both ends of the recording that are held against the truth
GLITCH_AT, GLITCH = 30, 1e4  # what running sums do not forget

MOMENTS = {
    "variance": (("var", "var_ddof1", "std", "std_ddof1"), True),
    "skew": (("skew", "skew_unbiased"), False),
    "kurtosis": (("kurtosis", "kurtosis_unbiased", "kurtosis_not_excess"), False),
}
SPECTRUM = {
    "power": (("power", *(f"{band_name(*BANDS_HZ[0])}{end}" for end in ("", "_padded_raw"))), True),
    "entropy": (("spec_entropy", "spec_entropy_one_sided"), False),
    "centroid": (
        ("centroid", "centroid_magnitude_raw", "centroid_magnitude_raw_bins"),
        False,
    ),
}

COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        Comparison(
            "statistical",
            100,
            60,
            (*ours.STATISTICAL_PROVIDERS, *statistical.PROVIDERS),
            MOMENTS,
        ),
        Comparison("spectral", 100, 60, (*ours.SPECTRAL_PROVIDERS, *spectral.PROVIDERS), SPECTRUM),
        Comparison("dense", 256, 1, (*ours.STATISTICAL_PROVIDERS, *dense.PROVIDERS), MOMENTS),
    )
}
PACKAGES = (
    "aeon", "antropy", "bottleneck", "mne-features", "numba", "numbagg", "numpy", "pandas",
    "polars", "rocket-fft", "scikit-digital-health", "scikit-learn", "scipy", "seglearn", "tsfel",
    "tsflex", "tsfresh",
)  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS on one thread; polars reads POLARS_MAX_THREADS when it is imported."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def missing(provider: Provider) -> str:
    """Name of a module that the provider needs and that cannot be imported, or nothing."""
    for name in provider.needs:
        try:
            importlib.import_module(name)
        except ImportError:
            return name
    return ""


def _ends(values: np.ndarray) -> np.ndarray:
    return (
        values
        if len(values) <= 2 * NUM_CHECKED
        else np.concatenate([values[:NUM_CHECKED], values[-NUM_CHECKED:]])
    )


def errors(case: Case, answer: Answer, skip: int = 0) -> dict[str, dict[str, float]]:
    """Largest errors by definition, over the windows at both ends of the recording.

    Args:
        case: Where the windows lie.
        answer: What a provider found for all of them.
        skip: Windows at the beginning that are left out.

    Returns:
        By definition, "absolute", "relative" (of each value) and "scaled" (the absolute one as a
        share of the largest value). A NaN counts as infinite.
    """
    found = {}
    head, tail = case.first(NUM_CHECKED + skip), case
    if case.num_windows > 2 * NUM_CHECKED:
        begin = (case.num_windows - NUM_CHECKED) * case.step_samples
        tail = Case(case.signal[begin:], case.window_samples, case.step_samples)
    ends = [head, tail] if tail is not case else [case]
    parts = [truth(end, answer) for end in ends]
    for name, values in answer.items():
        pieces = [part[name] for part in parts]
        wanted = np.concatenate(pieces)[skip:]
        values = np.asarray(values)
        if len(ends) == 2:
            values = np.concatenate([values[: len(pieces[0])], values[-len(pieces[1]) :]])
        values = values[skip:]
        if values.shape != wanted.shape:
            raise AssertionError(f"{name} has shape {values.shape} in place of {wanted.shape}")
        difference = np.abs(values - wanted)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(difference == 0, 0, difference / np.abs(wanted))
        largest = {
            "absolute": difference.max(),
            "relative": relative.max(),
            "scaled": difference.max() / max(np.abs(wanted).max(), np.finfo(np.float64).tiny),
        }
        found[name] = {
            key: float(np.nan_to_num(value, nan=np.inf)) for key, value in largest.items()
        }
    return found


def all_errors(comparison: Comparison, provider: Provider, num_windows: int) -> dict[str, Any]:
    """Errors on a moving and a still sensor, and on a still one after a glitch has left."""
    num_windows = min(num_windows, provider.num_windows or num_windows)
    num_samples = comparison.window_samples + comparison.step_samples * (num_windows - 1)
    glitched = still_signal(num_samples, seed=2)
    glitched[GLITCH_AT] = GLITCH
    skip = GLITCH_AT // comparison.step_samples + 1
    found = {}
    for name, signal, first in (
        ("moving", moving_signal(num_samples), 0),
        ("still", still_signal(num_samples), 0),
        ("after a glitch", glitched, skip),
    ):
        case = comparison.case(signal)
        workload = provider.make(case)
        found[name] = errors(case, workload.answer(workload.call()), first)
    return found


def check(provider: Provider, found: dict[str, dict[str, float]]) -> None:
    """A fast wrong answer is worth nothing."""
    for name, error in found.items():
        assert error["scaled"] <= provider.tolerance, (
            f"{provider.name}: {name} is off by {error['scaled']:.1e}"
        )


def measure(
    comparison: Comparison,
    *,
    num_rounds: int = 15,
    num_samples: int = NUM_SAMPLES,
    report: Callable[[str], None] = lambda message: None,
) -> dict[str, list[dict[str, Any]]]:
    """Check all providers that are at hand, then time them by turns.

    Returns:
        ``{"times": [...], "ratios": [...], "left_out": [...]}``. Nanoseconds are per window and
        channel; a ratio is the other's time over that of ours, so above 1 ours is faster.
    """
    found: dict[str, list[dict[str, Any]]] = {"times": [], "ratios": [], "left_out": []}
    place = {"workload": comparison.name}
    signal = moving_signal(num_samples)
    calls, cases, mistakes = {}, {}, {}
    providers = {provider.name: provider for provider in comparison.providers}
    for name, provider in providers.items():
        if lacks := missing(provider):
            reason = f"{lacks} cannot be imported"
            found["left_out"].append({**place, "provider": name, "reason": reason})
            continue
        report(f"{comparison.name}: {name}")
        mistakes[name] = all_errors(comparison, provider, 20_000)
        check(provider, mistakes[name]["moving"])
        case = comparison.case(signal)
        cases[name] = case.first(provider.num_windows or case.num_windows)
        calls[name] = provider.make(cases[name]).call
    report(f"{comparison.name}: {num_rounds} rounds of {len(calls)} providers")
    timings = {
        name: Timing(timing.seconds / (cases[name].num_windows * cases[name].num_channels))
        for name, timing in time_in_turns(calls, num_rounds=num_rounds).items()
    }
    for name, timing in timings.items():
        provider = providers[name]
        low, high = timing.quartiles
        found["times"].append(
            {
                **place,
                "provider": name,
                "is_ours": provider.is_ours,
                "also": provider.also,
                "num_features": provider.num_features,
                "num_windows": cases[name].num_windows,
                "median_nanoseconds": timing.median * 1e9,
                "quartile_1_nanoseconds": low * 1e9,
                "quartile_3_nanoseconds": high * 1e9,
                "num_rounds": num_rounds,
                "shown_errors": shown_errors(comparison, mistakes[name]),
                "scaled_errors": {
                    sensor: {key: float(f"{error['scaled']:.1e}") for key, error in by_name.items()}
                    for sensor, by_name in mistakes[name].items()
                },
            }
        )
    for mine in (name for name in timings if providers[name].is_ours):
        for other in (name for name in timings if not providers[name].is_ours):
            ratio = compare(timings[mine], timings[other])
            found["ratios"].append(
                {
                    **place,
                    "provider": mine,
                    "against": other,
                    "ratio": ratio.median,
                    "ratio_low": ratio.low,
                    "ratio_high": ratio.high,
                }
            )
    return found


def shown_errors(comparison: Comparison, mistakes: dict[str, Any]) -> dict[str, float | None]:
    """The errors of the table: those on a still sensor, and the worst of all on a moving one."""
    shown: dict[str, float | None] = {}
    for column, (names, is_relative) in comparison.shown.items():
        name = next((name for name in names if name in mistakes["still"]), None)
        kind = "relative" if is_relative else "absolute"
        for signal in ("still", "after a glitch"):
            key = column if signal == "still" else f"{column}, {signal}"
            shown[key] = None if name is None else mistakes[signal][name][kind]
    shown["worst, moving"] = max(error["scaled"] for error in mistakes["moving"].values())
    return shown


def describe_machine() -> dict[str, Any]:
    """Processor and versions, without names of hosts, users or folders."""
    about = {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "threads": 1,
        "packages": {},
    }
    processors = Path("/proc/cpuinfo")
    if processors.exists():
        lines = processors.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        about["processor"] = next(iter(names), about["processor"])
    for name in PACKAGES:
        try:
            about["packages"][name] = version(name)
        except PackageNotFoundError:
            about["packages"][name] = None
    return about
