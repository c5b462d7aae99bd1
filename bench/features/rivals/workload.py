"""Signals, windows and providers of the comparison with the rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Answer = Mapping[str, NDArray[np.floating]]
"""Values [windows, channels] by definition (a key of `truth.DEFINITIONS`)."""

SAMPLE_RATE_HZ = 50.0
CHANNEL_NAMES = ("x", "y", "z")
CHANNEL_PAIRS = ((0, 1), (0, 2), (1, 2))
GRAVITY = 9.81


@dataclass(frozen=True, eq=False)
class Case:
    """A recording and where its windows lie."""

    signal: NDArray[np.float32]  # [time, channels]
    window_samples: int
    step_samples: int

    @property
    def num_windows(self) -> int:
        """Whole windows in the recording."""
        return (len(self.signal) - self.window_samples) // self.step_samples + 1

    @property
    def num_channels(self) -> int:
        """Channels of the recording."""
        return self.signal.shape[1]

    def first(self, num_windows: int) -> Case:
        """The same case cut after so many windows."""
        num_windows = min(num_windows, self.num_windows)
        num_samples = (num_windows - 1) * self.step_samples + self.window_samples
        return Case(self.signal[:num_samples], self.window_samples, self.step_samples)

    def windows(self) -> NDArray[np.float32]:
        """View [windows, channels, time]."""
        view = np.lib.stride_tricks.sliding_window_view(self.signal, self.window_samples, axis=0)
        return view[:: self.step_samples]


@dataclass(frozen=True, eq=False)
class Workload:
    """A prepared call, and how its result reads as an `Answer`."""

    call: Callable[[], object]
    answer: Callable[[object], Answer]


@dataclass(frozen=True, eq=False)
class Provider:
    """One way to do the work.

    Attributes:
        name: For tables.
        num_features: Values per window and channel.
        make: Prepares the call; imports what it needs.
        needs: Modules without which it is left out.
        num_windows: Windows on which a slow one is timed; None for all.
        also: What it gives beside the values per channel, or how they differ, for the table.
        tolerance: Largest error that is not a mistake, as a share of the largest value: some
            hundred roundings of float32 by default. Another definition is off by more than 1e-3.
        is_ours: Whether the others are compared with it.
    """

    name: str
    num_features: int
    make: Callable[[Case], Workload]
    needs: tuple[str, ...] = ()
    num_windows: int | None = None
    also: str = ""
    tolerance: float = 1e-4
    is_ours: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """All providers of one workload, the first of ours being the one that ratios refer to.

    Attributes:
        name: For the command line and tables.
        window_samples: Samples per window.
        step_samples: Samples from one window to the next.
        providers: Ours and all others.
        shown: Column of the table to definitions of which the first that a provider has is shown,
            and whether its error on a still sensor is relative to each value.
    """

    name: str
    window_samples: int
    step_samples: int
    providers: tuple[Provider, ...]
    shown: Mapping[str, tuple[tuple[str, ...], bool]]

    def case(self, signal: NDArray[np.float32]) -> Case:
        """Windows of the comparison's size over a signal."""
        return Case(signal, self.window_samples, self.step_samples)


def moving_signal(num_samples: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Three axes at 50 Hz in m/s^2: gravity on one, rests, and steps of a walker with overtones."""
    generator = np.random.default_rng(seed)
    seconds = np.arange(num_samples) / SAMPLE_RATE_HZ
    runs = generator.integers(500, 1500, num_samples // 500 + 1)
    runs_of = np.repeat(np.arange(len(runs)), runs)[:num_samples]
    strength = generator.choice([0.05, 1.0, 3.0], len(runs))[runs_of]
    steps_hz = generator.uniform(0.8, 2.8, len(runs))[runs_of]
    phase = 2.0 * np.pi * np.cumsum(steps_hz) / SAMPLE_RATE_HZ
    signal = generator.standard_normal((num_samples, 3)) * (0.02 + 0.3 * strength[:, None])
    for channel, weights in enumerate(((1.0, 0.5, 0.2), (0.6, 0.3, 0.4), (1.5, 0.8, 0.3))):
        for overtone, weight in enumerate(weights, start=1):
            signal[:, channel] += strength * weight * np.sin(overtone * phase + channel + overtone)
    sway = 2.0 * np.pi * seconds[:, None] * (0.031, 0.043, 0.027)
    signal += (0.4, 0.3, 0.1) * np.sin(sway)
    signal[:, 2] += GRAVITY
    return signal.astype(np.float32)


def still_signal(num_samples: int, *, seed: int = 1) -> NDArray[np.float32]:
    """Three axes of a sensor at rest: 9.81 m/s^2 and a noise of 0.002 m/s^2."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((num_samples, 3))
    return (GRAVITY + 0.002 * noise).astype(np.float32)
