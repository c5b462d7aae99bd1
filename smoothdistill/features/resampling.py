"""Irregular timestamps to a fixed rate, with the gaps marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.features.preprocessing_checks import checked_number, checked_signal

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["Resampled", "resample"]


class Resampled(NamedTuple):
    """A recording on an even grid.

    Args:
        signal: Values at the grid points, in the unit and dtype of the original.
        timestamps_seconds: The grid points: the first timestamp, and whole numbers of periods on.
        stretch_ids: Number of the stretch between gaps that a point lies in, ascending from 0: pass
            it as `groups`, and no window and no filter crosses a gap.
        nearest_samples: Number of the original sample that is nearest in time (of two, the
            earlier): `labels[nearest_samples]` are the labels on the grid.
    """

    signal: Float[np.ndarray, "samples channels"]
    timestamps_seconds: Float64[np.ndarray, " samples"]
    stretch_ids: Int64[np.ndarray, " samples"]
    nearest_samples: Int64[np.ndarray, " samples"]


def resample(
    signal: Float[np.ndarray, "time channels"],
    timestamps_seconds: Float64[np.ndarray, " time"],
    *,
    sample_rate_hz: float,
    max_gap_seconds: float,
    method: Literal["linear", "nearest"] = "linear",
) -> Resampled:
    """Bring samples with irregular timestamps to an even grid, stretch by stretch between gaps.

    All grid points are whole numbers of periods behind the first timestamp, gaps or not. Points
    inside a gap are left out: nothing is known there. A point within a millionth of a period of a
    sample (or within what float64 resolves of such times) is that sample, bit for bit.

    Nothing is smoothed: to a rate that is much lower than the original, apply
    `butter_lowpass` first, below half of the new rate.

    Args:
        signal: Samples in any unit. A NaN makes the points NaN that lie between it and a neighbour.
        timestamps_seconds: Time of every sample, in seconds since any instant (1970 included), not
            decreasing. Samples that share a time count as one, which is their mean.
        sample_rate_hz: Rate of the grid, in samples per second, above 0.
        max_gap_seconds: Longest step of time that is interpolated over, in seconds, above 0.
        method: "linear": on the line between the samples before and after. "nearest": the nearest
            sample, of two the earlier.

    Returns:
        Values, times, number of the stretch, and nearest sample of every grid point.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is not above 0, or the method unknown.
        DataError: If an array has another shape, or a time is not finite or runs backwards.

    Source:
        Definition; as numpy.interp between gaps.
    """
    from smoothdistill.features.kernels.resampling import count_steps, interpolate

    signal = checked_signal(signal)
    times = _as_times(timestamps_seconds, len(signal))
    rate = checked_number("sample_rate_hz", sample_rate_hz, unit=" Hz")
    max_gap = checked_number("max_gap_seconds", max_gap_seconds, unit=" s")
    if method not in ("linear", "nearest"):
        raise ValueError(f"`method` must be 'linear' or 'nearest', but is {method!r} instead.")
    num_gaps, num_ties, num_wrong = count_steps(times, max_gap)
    if num_wrong or not np.isfinite(times[:1]).all() or not np.isfinite(times[-1:]).all():
        _raise_for_times(times)
    firsts = None
    if num_ties:
        firsts = np.concatenate([[0], np.flatnonzero(np.diff(times)) + 1])
        signal, times = _without_ties(signal, firsts), times[firsts]

    borders = np.array([0, len(times)] if len(times) else [0], dtype=np.int64)
    if num_gaps:
        borders = np.insert(borders, 1, np.flatnonzero(np.diff(times) > max_gap) + 1)
    tolerance = _tolerance(times, rate)
    first_points, rows = _grid(times, borders, rate, tolerance)
    num_rows = int(rows[-1])
    out = np.empty((num_rows, signal.shape[1]), dtype=signal.dtype)
    grid, stretch_ids = np.empty(num_rows), np.empty(num_rows, dtype=np.int64)
    nearest = np.empty(num_rows, dtype=np.int64)
    if num_rows:
        interpolate(
            signal.reshape(-1),
            signal.shape[1],
            times,
            borders,
            first_points,
            rows,
            rate,
            tolerance,
            method == "linear",
            out.reshape(-1),
            grid,
            stretch_ids,
            nearest,
        )
    return Resampled(out, grid, stretch_ids, nearest if firsts is None else firsts[nearest])


def _as_times(timestamps_seconds: Any, num_samples: int) -> Float64[np.ndarray, " time"]:
    times = np.asarray(timestamps_seconds)
    if times.dtype.kind not in "fiu":
        raise TypeError(
            "`timestamps_seconds` must be an array of real numbers, but is an array of "
            f"{times.dtype} instead."
        )
    if times.shape != (num_samples,):
        raise DataError(
            f"`timestamps_seconds` must have one value for each of the {num_samples} samples, but "
            f"has the shape {list(times.shape)} instead."
        )
    return np.ascontiguousarray(times, dtype=np.float64)


def _raise_for_times(times: Float64[np.ndarray, " time"]) -> None:
    """Say where times are not finite, or run backwards."""
    is_finite = np.isfinite(times)
    if not is_finite.all():
        sample = int(np.argmin(is_finite))
        raise DataError(
            f"`timestamps_seconds` must be finite, but is {times[sample]} at sample {sample} "
            "instead."
        )
    sample = int(np.argmin(np.diff(times) >= 0.0)) + 1
    raise DataError(
        f"`timestamps_seconds` must not run backwards, but step from {times[sample - 1]} to "
        f"{times[sample]} at sample {sample} instead."
    )


def _without_ties(
    signal: Float[np.ndarray, "time channels"], firsts: Int64[np.ndarray, " samples"]
) -> Float[np.ndarray, "samples channels"]:
    """Mean of the samples that share a time; `firsts` are the first of them."""
    counts = np.diff(firsts, append=len(signal))
    sums = np.add.reduceat(signal, firsts, axis=0, dtype=np.float64)
    means = (sums / counts[:, np.newaxis]).astype(signal.dtype)
    return np.where(counts[:, np.newaxis] == 1, signal[firsts], means)


def _tolerance(times: Float64[np.ndarray, " time"], rate: float) -> float:
    """How near to a sample a grid point is that sample, in seconds."""
    largest = float(np.abs(times[[0, -1]]).max()) if len(times) else 0.0
    return max(1e-6 / rate, 2.0 * float(np.spacing(largest)))


def _grid(
    times: Float64[np.ndarray, " time"],
    borders: Int64[np.ndarray, " borders"],
    rate: float,
    tolerance: float,
) -> tuple[Int64[np.ndarray, " stretches"], Int64[np.ndarray, " borders"]]:
    """Number of the first grid point of every stretch, and the rows where stretches begin."""
    starts, stops = borders[:-1], borders[1:] - 1
    origin = times[0] if len(times) else 0.0
    first = np.ceil((times[starts] - origin - tolerance) * rate).astype(np.int64)
    last = np.floor((times[stops] - origin + tolerance) * rate).astype(np.int64)
    first[1:] = np.maximum(first[1:], np.maximum.accumulate(last)[:-1] + 1)
    rows = np.concatenate([[0], np.cumsum(np.maximum(last - first + 1, 0))]).astype(np.int64)
    return first, rows
