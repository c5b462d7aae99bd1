"""Plain NumPy twin of the window cutting: the oracle of the tests, written for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float32, Float64, Int64

__all__ = ["cut_recording"]


def cut_recording(
    signal: Float32[np.ndarray, "time channels"],
    targets: Mapping[str, Int64[np.ndarray, " time"]],
    *,
    window_samples: int,
    step_samples: int,
    label: str,
    timestamps_seconds: Float64[np.ndarray, " time"] | None = None,
    max_gap_seconds: float = np.inf,
    ignore_index: int = -100,
) -> tuple[
    Int64[np.ndarray, " windows"],
    Float32[np.ndarray, "windows channels window_samples"],
    dict[str, Int64[np.ndarray, " windows"]],
]:
    """Windows of one recording, one Python step per sample and per window.

    Args:
        signal: Samples of one recording, in any unit.
        targets: Class index of every sample per task, or `ignore_index`.
        window_samples: Window length, in samples, at least 1.
        step_samples: Hop between window starts inside a segment, in samples, at least 1.
        label: "pure", "last" or "majority".
        timestamps_seconds: Time of every sample, in seconds.
        max_gap_seconds: Longest step of time inside a window, in seconds.
        ignore_index: The mark of an unlabelled sample.

    Returns:
        First samples, signals and labels per task of the windows that have a label in any task.

    Source:
        Definition.
    """
    segments = [[0]] if len(signal) else []
    for sample in range(1, len(signal)):
        is_border = False
        if timestamps_seconds is not None:
            elapsed = timestamps_seconds[sample] - timestamps_seconds[sample - 1]
            is_border = not 0.0 <= elapsed <= max_gap_seconds
        if label == "pure":
            is_border |= any(row[sample] != row[sample - 1] for row in targets.values())
        if is_border:
            segments.append([])
        segments[-1].append(sample)

    starts: list[int] = []
    labels: dict[str, list[int]] = {task: [] for task in targets}
    for segment in segments:
        for start in segment[::step_samples]:
            stop = start + window_samples
            if stop > segment[-1] + 1:
                break
            found = {
                task: _label(row[start:stop], label, ignore_index) for task, row in targets.items()
            }
            if all(value == ignore_index for value in found.values()):
                continue
            starts.append(start)
            for task, value in found.items():
                labels[task].append(value)

    signals = np.empty((len(starts), signal.shape[1], window_samples), np.float32)
    for window, start in enumerate(starts):
        signals[window] = signal[start : start + window_samples].T
    return (
        np.array(starts, np.int64),
        signals,
        {task: np.array(values, np.int64) for task, values in labels.items()},
    )


def _label(labels: Int64[np.ndarray, " window_samples"], rule: str, ignore_index: int) -> int:
    if rule != "majority":
        return int(labels[-1])
    values, counts = np.unique(labels, return_counts=True)
    candidates = values[counts == counts.max()]
    labelled = candidates[candidates != ignore_index]
    return int(labelled.min()) if labelled.size else ignore_index
