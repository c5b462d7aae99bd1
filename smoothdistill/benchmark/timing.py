"""Timing several calls fairly: by turns in one process, so that a busy machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ratio", "Timing", "compare", "time_in_turns"]


@dataclass(frozen=True, eq=False)
class Timing:
    """Seconds per call, one value per round."""

    seconds: NDArray[np.float64]

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over the rounds, in seconds."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)


@dataclass(frozen=True)
class Ratio:
    """How many times faster one is than another: median and quartiles of the rounds' ratios."""

    median: float
    low: float
    high: float


def time_in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    num_rounds: int = 15,
    round_seconds: float = 0.01,
) -> dict[str, Timing]:
    """Time each call once per round, in an order that rotates from round to round.

    Args:
        calls: What to time, by name; each is warmed up first.
        num_rounds: Rounds, at least 1.
        round_seconds: About how long each call is repeated in a round, in seconds.
    """
    names = list(calls)
    repeats = {name: _repeats(calls[name], round_seconds) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(num_rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(_measure(calls[name], repeats[name]))
    return {name: Timing(np.array(values)) for name, values in seconds.items()}


def compare(ours: Timing, other: Timing) -> Ratio:
    """Ratio of the other's time to ours, round by round."""
    low, median, high = np.quantile(other.seconds / ours.seconds, (0.25, 0.5, 0.75))
    return Ratio(float(median), float(low), float(high))


def _repeats(call: Callable[[], object], round_seconds: float) -> int:
    repeats = 1
    while True:  # doubling warms caches and clocks up on the way
        elapsed = _measure(call, repeats) * repeats
        if elapsed >= round_seconds / 2:
            return max(1, round(repeats * round_seconds / elapsed))
        repeats *= 2


def _measure(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
