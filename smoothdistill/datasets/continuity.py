"""Where a log is continuous: stretches between gaps, measured rates, and resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, Int64

__all__ = ["Stretches", "find_stretches", "measured_rate_hz", "resample_linearly"]

_RATE_TOLERANCE = 0.10  # a step is on the grid within 10 % of the nominal one
_MOST_STEPS_OFF = 0.02  # a stretch is off the rate if more than 2 % of its steps are
_SPAN_STEPS = 16  # more would hold a lost sample or a gap each, fewer would feel the jitter
_SPAN_TOLERANCE = 0.75  # of a step: a lost sample makes a whole one, whole milliseconds mostly less
_LIKELY_STRETCHES = 64


class Stretches(NamedTuple):
    """The continuous stretches of a log, and what parts them.

    Args:
        edges: First sample of each stretch, and the end of the last one.
        is_off_rate: Whether more than 2 % of the steps of a stretch are off the nominal one by more
            than 10 %.
        gaps: Steps on by more than the gap.
        backward_steps: Steps back in time.
        tied_timestamps: Steps of no time.
    """

    edges: Int64[np.ndarray, " edges"]
    is_off_rate: Bool[np.ndarray, " stretches"]
    gaps: int
    backward_steps: int
    tied_timestamps: int


def find_stretches(
    times_seconds: Float64[np.ndarray, " time"],
    *,
    max_gap_seconds: float,
    sample_rate_hz: float,
    blocks: Int64[np.ndarray, " time"] | None = None,
) -> Stretches:
    """Cut where time steps back or on by more than the gap, and where a block ends.

    Args:
        times_seconds: Time of every sample, in seconds.
        max_gap_seconds: Longest step inside a stretch, in seconds.
        sample_rate_hz: Nominal rate, in samples per second.
        blocks: A number that changes where the caller knows of a border. Steps in time at such a
            border are not counted: they part wearings, not samples of one.
    """
    from smoothdistill.datasets.continuity_kernels import walk_steps

    if blocks is None:
        blocks = np.broadcast_to(np.int64(0), len(times_seconds))
    blocks = np.ascontiguousarray(blocks)
    times_seconds = np.ascontiguousarray(times_seconds)
    capacity = _LIKELY_STRETCHES
    while True:
        edges = np.zeros(capacity + 1, dtype=np.int64)
        num_off = np.zeros(capacity + 1, dtype=np.int64)
        counts = np.zeros(3, dtype=np.int64)
        num_stretches = walk_steps(
            times_seconds,
            blocks,
            max_gap_seconds,
            sample_rate_hz,
            _RATE_TOLERANCE,
            edges,
            num_off,
            counts,
        )
        if num_stretches <= capacity:
            break
        capacity = num_stretches
    edges = edges[: num_stretches + 1]
    gaps, backward_steps, tied_timestamps = counts.tolist()
    is_off_rate = num_off[:num_stretches] > _MOST_STEPS_OFF * (np.diff(edges) - 1)
    return Stretches(edges, is_off_rate, gaps, backward_steps, tied_timestamps)


def measured_rate_hz(times_seconds: Float64[np.ndarray, " time"]) -> float | None:
    """One over the mean step, in samples per second; None where time does not advance.

    The mean is over spans of 16 steps (fewer in a short log), of which those are left out that are
    longer or shorter than the median one by most of a step: a gap, a lost sample or a step back
    lies in them. A single step tells less: stamps in whole milliseconds turn 64 Hz into 62.5, those
    of a phone that delivers four samples at once 50 Hz into 1000.
    """
    if len(times_seconds) < 2:
        return None
    num_steps = max(1, min(_SPAN_STEPS, (len(times_seconds) - 1) // 4))
    spans = times_seconds[num_steps:] - times_seconds[:-num_steps]
    typical = float(np.median(spans))
    if not typical > 0.0:
        return None
    is_whole = np.abs(spans - typical) <= _SPAN_TOLERANCE * typical / num_steps
    return float(num_steps / spans[is_whole].mean())


def resample_linearly(
    signal: Float32[np.ndarray, "time channels"],
    times_seconds: Float64[np.ndarray, " time"],
    sample_rate_hz: float,
) -> tuple[Float32[np.ndarray, "samples channels"], Float64[np.ndarray, " samples"]]:
    """Linear interpolation on an even grid that begins with the first sample.

    Args:
        signal: Samples of one stretch.
        times_seconds: Their times, in seconds, not decreasing.
        sample_rate_hz: Rate of the grid, in samples per second.

    Returns:
        The samples on the grid, none of them beyond the last time, and the grid in seconds.
    """
    num_samples = int((times_seconds[-1] - times_seconds[0]) * sample_rate_hz + 1e-6) + 1
    grid = times_seconds[0] + np.arange(num_samples) / sample_rate_hz
    resampled = np.empty((num_samples, signal.shape[1]), dtype=np.float32)
    for channel in range(signal.shape[1]):
        resampled[:, channel] = np.interp(grid, times_seconds, signal[:, channel])
    return resampled, grid
