"""What the benches of the costly features share: the call of an engine, turns, and the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from rivals.workload import Case, moving_signal

from smoothdistill.benchmark.timing import Timing, compare, time_in_turns

WINDOW, STEP = 100, 60
NUM_SAMPLES = 1_000_000
NUM_WINDOWS = 2000  # on which ours is timed


@dataclass(frozen=True)
class Provider:
    """One way to compute features: `call(case, names)` gives [features, windows, channels].

    Of quick features it gives an `Answer`.
    """

    call: Callable[[Case, Sequence[str]], Any]
    needs: str = ""  # a module without which it is left out
    num_windows: int = 50  # for those that take one series at a time
    names: tuple[str, ...] = ()  # what it computes; all if empty


@lru_cache(maxsize=8)
def make_case(num_windows: int | None = None) -> Case:
    if num_windows is not None:
        return make_case().first(num_windows)
    return Case(moving_signal(NUM_SAMPLES), WINDOW, STEP)


def call_engine(
    engine: Any, slots: Sequence[str], case: Case, names: Sequence[str], params: Sequence[float]
) -> np.ndarray:
    """From the recording as it is (interleaved float32) to float64 columns."""
    num_windows, num_channels = case.num_windows, case.num_channels
    columns = np.full((num_channels, len(slots)), -1, np.int64)
    for number, name in enumerate(names):
        columns[:, slots.index(name)] = number * num_channels + np.arange(num_channels)
    out = np.empty((len(names) * num_channels, num_windows))
    engine(
        case.signal.reshape(-1),
        np.arange(num_windows) * (case.step_samples * num_channels),
        case.window_samples,
        num_channels,
        True,
        np.empty((0, 3), np.int64),
        (columns >= 0).any(axis=0).astype(np.uint8),
        np.array(params, np.float64),
        np.nan,
        columns,
        out,
    )
    return out.reshape(len(names), num_channels, num_windows).swapaxes(1, 2)


def each_series(case: Case) -> list[np.ndarray]:
    """Float64 series, windows first, channels second."""
    windows = case.windows().astype(np.float64, order="C")
    return [series for window in windows for series in window]


def cases_of(providers: Mapping[str, Provider], all_names: Sequence[str]) -> list[Any]:
    """Test parameters: each feature, and all, with each provider that computes it."""
    found = []
    for group, names in [*((name, (name,)) for name in all_names), ("all", tuple(all_names))]:
        for label, provider in providers.items():
            if not provider.names or set(names) <= set(provider.names):
                found.append(pytest.param(group, names, provider, id=f"{group}-{label}"))
    return found


def check(
    provider: Provider, names: Sequence[str], truth: Callable[[np.ndarray], Mapping[str, float]]
) -> None:
    """Hold a provider's values against the reference's on a few windows."""
    case = make_case(10)
    values = provider.call(case, names)
    assert values.shape == (len(names), 10, case.num_channels)
    for place, series in enumerate(each_series(case)):
        expected = truth(series)
        for number, name in enumerate(names):
            found = values[number, place // case.num_channels, place % case.num_channels]
            np.testing.assert_allclose(found, expected[name], rtol=1e-6, atol=1e-8, err_msg=name)


def measure(
    providers: Mapping[str, Provider], names: Sequence[str], *, num_rounds: int = 7
) -> dict[str, Timing]:
    """Seconds per series of each provider that is installed, by turns."""
    calls, num_series = {}, {}
    for label, provider in providers.items():
        if provider.needs and find_spec(provider.needs) is None:
            continue
        if provider.names and not set(names) <= set(provider.names):
            continue
        case = make_case(NUM_WINDOWS if label == "ours" else provider.num_windows)
        calls[label] = lambda provider=provider, case=case: provider.call(case, names)
        num_series[label] = case.num_windows * case.num_channels
    timings = time_in_turns(calls, num_rounds=num_rounds, round_seconds=0.1)
    return {label: Timing(timing.seconds / num_series[label]) for label, timing in timings.items()}


def lines_of(group: str, timings: Mapping[str, Timing]) -> list[str]:
    """A line for each provider: microseconds per series, and how many times ours that is."""
    lines = []
    for label, timing in timings.items():
        low, high = timing.quartiles
        ratio = compare(timings["ours"], timing)
        lines.append(
            f"{group:28} {label:22} {timing.median * 1e6:9.3f} us "
            f"({low * 1e6:.3f} to {high * 1e6:.3f})  {ratio.median:7.1f} x "
            f"({ratio.low:.1f} to {ratio.high:.1f})"
        )
    return lines
