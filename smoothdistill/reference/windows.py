"""Plain NumPy twin of the segmenter and of `cut_windows`: the oracle of the tests, to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float, Float32, Float64, Int64

__all__ = ["copy_places", "cut_recording", "present_shares", "segment_recording"]

IGNORE_INDEX = -100


def segment_recording(
    num_samples: int,
    *,
    window_samples: int,
    step_samples: int,
    origin: int = 0,
    partial: str = "drop",
    targets: Mapping[str, Int64[np.ndarray, " time"]] | None = None,
    label: str = "majority",
    min_purity: float = 1.0,
    groups: Sequence[object] | None = None,
    timestamps_seconds: Float64[np.ndarray, " time"] | None = None,
    max_gap_seconds: float = np.inf,
) -> tuple[list[tuple[int, int]], dict[str, list[int]]]:
    """Places of the windows of one recording, and their labels, a Python step for each sample.

    Args:
        num_samples: Length of the recording, in samples.
        window_samples: Window length, in samples, at least 1.
        step_samples: Hop between window starts inside a stretch, in samples, at least 1.
        origin: First sample of the grid in each stretch, at least 0.
        partial: "drop", or "pad" for a shorter window where whole ones leave samples behind.
        targets: Class index of every sample per task, or -100.
        label: "pure", "last", "middle" or "majority".
        min_purity: Least share of the most frequent label of a "pure" window.
        groups: Group of every sample.
        timestamps_seconds: Time of every sample, in seconds.
        max_gap_seconds: Longest step of time inside a window, in seconds.

    Returns:
        First sample of each window with the sample behind its last; label of each window per task.

    Source:
        Definition.
    """
    targets = targets or {}
    stretches = [[0]]
    for sample in range(1, num_samples):
        is_border = False
        if timestamps_seconds is not None:
            elapsed = timestamps_seconds[sample] - timestamps_seconds[sample - 1]
            is_border |= not 0.0 <= elapsed <= max_gap_seconds
        if groups is not None:
            is_border |= groups[sample] != groups[sample - 1]
        if label == "pure" and min_purity == 1.0:
            is_border |= any(row[sample] != row[sample - 1] for row in targets.values())
        if is_border:
            stretches.append([])
        stretches[-1].append(sample)

    places: list[tuple[int, int]] = []
    for stretch in stretches:
        held = -1  # last sample of the stretch that a window holds
        for start in stretch[origin::step_samples]:
            window = [sample for sample in stretch if start <= sample < start + window_samples]
            if len(window) == window_samples or (partial == "pad" and held < stretch[-1]):
                places.append((start, window[-1] + 1))
                held = window[-1]
    return places, {
        task: [_label(row[start:stop], label, min_purity) for start, stop in places]
        for task, row in targets.items()
    }


def copy_places(
    signal: Float[np.ndarray, "time channels"],
    places: Sequence[tuple[int, int]],
    window_samples: int,
) -> Float[np.ndarray, "windows channels window_samples"]:
    """Samples of the windows, time last, with NaN where a window has none.

    Args:
        signal: Recording in any unit, float32 or float64.
        places: First sample of each window and the sample behind its last.
        window_samples: Window length, in samples.

    Source:
        Definition.
    """
    windows = np.full((len(places), signal.shape[1], window_samples), np.nan, signal.dtype)
    for window, (start, stop) in enumerate(places):
        windows[window, :, : stop - start] = signal[start:stop].T
    return windows


def present_shares(
    signal: Float[np.ndarray, "time channels"],
    places: Sequence[tuple[int, int]],
    window_samples: int,
) -> list[float]:
    """Share of each window's samples that it has and that are NaN in no channel.

    Args:
        signal: Recording in any unit.
        places: First sample of each window and the sample behind its last.
        window_samples: Window length, in samples.

    Source:
        Definition.
    """
    is_present = ~np.isnan(signal).any(axis=1)
    return [is_present[start:stop].sum() / window_samples for start, stop in places]


def cut_recording(
    signal: Float32[np.ndarray, "time channels"],
    targets: Mapping[str, Int64[np.ndarray, " time"]],
    *,
    window_samples: int,
    step_samples: int,
    label: str,
    timestamps_seconds: Float64[np.ndarray, " time"] | None = None,
    max_gap_seconds: float = np.inf,
) -> tuple[
    Int64[np.ndarray, " windows"],
    Float32[np.ndarray, "windows channels window_samples"],
    dict[str, Int64[np.ndarray, " windows"]],
]:
    """Windows of one recording that have a label in any task, as `cut_windows` cuts them.

    Args:
        signal: Samples of one recording, in any unit.
        targets: Class index of every sample per task, or -100.
        window_samples: Window length, in samples, at least 1.
        step_samples: Hop between window starts inside a stretch, in samples, at least 1.
        label: "pure", "last", "middle" or "majority".
        timestamps_seconds: Time of every sample, in seconds.
        max_gap_seconds: Longest step of time inside a window, in seconds.

    Returns:
        First samples, signals and labels per task of the windows.

    Source:
        Definition.
    """
    places, labels = segment_recording(
        len(signal),
        window_samples=window_samples,
        step_samples=step_samples,
        targets=targets,
        label=label,
        timestamps_seconds=timestamps_seconds,
        max_gap_seconds=max_gap_seconds,
    )
    kept = [
        window
        for window in range(len(places))
        if any(values[window] != IGNORE_INDEX for values in labels.values())
    ]
    return (
        np.array([places[window][0] for window in kept], np.int64),
        copy_places(signal, [places[window] for window in kept], window_samples),
        {
            task: np.array([values[window] for window in kept], np.int64)
            for task, values in labels.items()
        },
    )


def _label(labels: Int64[np.ndarray, " samples"], rule: str, min_purity: float) -> int:
    if rule == "last":
        return int(labels[-1])
    if rule == "middle":
        return int(labels[len(labels) // 2])
    values, counts = np.unique(labels, return_counts=True)
    candidates = values[counts == counts.max()]
    labelled = candidates[candidates != IGNORE_INDEX]
    if not labelled.size or (rule == "pure" and counts.max() / len(labels) < min_purity):
        return IGNORE_INDEX
    return int(labelled.min())
