"""What the preprocessing computes, one channel and one stretch at a time, in float64.

A stretch is the samples of one channel between two that are not finite, within one group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float64, Int, Int64

__all__ = [
    "butter_lowpass",
    "by_stretches",
    "jerk",
    "magnitude",
    "median3",
    "resample",
    "run_chain",
]

Phase = Literal["causal", "zero"]


def by_stretches(
    signal: Float64[np.ndarray, "time channels"],
    function: Callable[[Float64[np.ndarray, " time"]], Float64[np.ndarray, " time"]],
    groups: Int[np.ndarray, " time"] | None = None,
) -> Float64[np.ndarray, "time channels"]:
    """Apply a function to every stretch; NaN elsewhere."""
    signal = np.asarray(signal, dtype=np.float64)
    out = np.full(signal.shape, np.nan)
    number = np.zeros(len(signal)) if groups is None else groups
    for channel in range(signal.shape[1]):
        start = 0
        for stop in range(1, len(signal) + 1):
            values = signal[start:stop, channel]
            goes_on = (
                stop < len(signal)
                and number[stop] == number[start]
                and np.isfinite(signal[stop, channel]) == np.isfinite(values[0])
            )
            if not goes_on:
                if np.isfinite(values[0]):
                    out[start:stop, channel] = function(values)
                start = stop
    return out


def median3(values: Float64[np.ndarray, " time"], phase: Phase) -> Float64[np.ndarray, " time"]:
    """Median of a sample and the two before it, or of a sample and its neighbours.

    Outside of the stretch, its end samples are repeated.
    """
    padded = np.pad(values, (2, 0) if phase == "causal" else (1, 1), mode="edge")
    out: Float64[np.ndarray, " time"] = np.median(
        np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1
    )
    return out


def butter_lowpass(
    values: Float64[np.ndarray, " time"],
    cutoff_hz: float,
    sample_rate_hz: float,
    order: int,
    phase: Phase,
) -> Float64[np.ndarray, " time"]:
    """Butterworth low-pass of one stretch, from the steady state of its first sample."""
    from scipy.signal import butter, sosfilt, sosfilt_zi, sosfiltfilt

    sections = butter(order, cutoff_hz, fs=sample_rate_hz, output="sos")
    out: Float64[np.ndarray, " time"]
    if phase == "causal":
        out = sosfilt(sections, values, zi=sosfilt_zi(sections) * values[0])[0]
    else:  # the first of the two lengths is SciPy's default
        out = sosfiltfilt(sections, values, padlen=min(3 * (order + 1), len(values) - 1))
    return out


def jerk(
    values: Float64[np.ndarray, " time"], sample_rate_hz: float
) -> Float64[np.ndarray, " time"]:
    """Change since the sample before, per second; 0 for the first sample."""
    return np.diff(values, prepend=values[0]) * sample_rate_hz


def magnitude(axes: Float64[np.ndarray, "time 3"]) -> Float64[np.ndarray, " time"]:
    """Euclidean length."""
    out: Float64[np.ndarray, " time"] = np.sqrt((axes**2).sum(axis=1))
    return out


def run_chain(
    triad: Float64[np.ndarray, "time 3"],
    sample_rate_hz: float,
    *,
    has_median: bool,
    lowpass_hz: float | None,
    gravity_hz: float | None,
    order: int,
    phase: Phase,
    groups: Int[np.ndarray, " time"] | None = None,
) -> dict[str, Float64[np.ndarray, "time columns"]]:
    """Body, gravity and jerk of a triad, and the length of each; without a split no gravity."""
    signal = by_stretches(triad, lambda values: values, groups)
    if has_median:
        signal = by_stretches(signal, lambda values: median3(values, phase), groups)
    if lowpass_hz is not None:
        signal = by_stretches(
            signal, lambda v: butter_lowpass(v, lowpass_hz, sample_rate_hz, order, phase), groups
        )
    parts = {"body": signal}
    if gravity_hz is not None:
        gravity = by_stretches(
            signal, lambda v: butter_lowpass(v, gravity_hz, sample_rate_hz, order, phase), groups
        )
        parts = {"body": signal - gravity, "gravity": gravity}
    parts["jerk"] = by_stretches(parts["body"], lambda v: jerk(v, sample_rate_hz), groups)
    return parts | {f"{name}_mag": magnitude(part)[:, None] for name, part in parts.items()}


def resample(
    signal: Float64[np.ndarray, "time channels"],
    times_seconds: Float64[np.ndarray, " time"],
    sample_rate_hz: float,
    max_gap_seconds: float,
) -> tuple[
    Float64[np.ndarray, "samples channels"],
    Float64[np.ndarray, " samples"],
    Int64[np.ndarray, " n"],
]:
    """Values, times after the first one, and numbers of stretches, for times that differ."""
    elapsed = times_seconds - times_seconds[0]
    cuts = np.flatnonzero(np.diff(elapsed) > max_gap_seconds) + 1
    values, times, numbers = [], [], []
    for number, part in enumerate(np.split(np.arange(len(elapsed)), cuts)):
        points = np.arange(
            np.ceil(elapsed[part[0]] * sample_rate_hz - 1e-4),
            np.floor(elapsed[part[-1]] * sample_rate_hz + 1e-4) + 1,
        )
        grid = points / sample_rate_hz
        columns = [np.interp(grid, elapsed[part], column[part]) for column in signal.T]
        values.append(np.stack(columns, axis=1))
        times.append(grid)
        numbers.append(np.full(len(grid), number))
    return np.concatenate(values), np.concatenate(times), np.concatenate(numbers)
