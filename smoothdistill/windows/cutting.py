"""`cut_windows`: from recordings to labelled windows that cross no border."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.windows.arrays import IGNORE_INDEX, Recording, Windows
from smoothdistill.windows.checks import (
    check_labels_in_range,
    checked_class_names,
    checked_count,
    is_constant,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jaxtyping import Int64

__all__ = ["LabelRule", "cut_windows"]

LabelRule = Literal["pure", "last", "majority"]


def cut_windows(
    recordings: Iterable[Recording],
    *,
    class_names: Mapping[str, tuple[str, ...]],
    window_samples: int = 100,
    step_samples: int = 60,
    label: LabelRule = "pure",
    max_gap_seconds: float | None = None,
    name: str = "custom",
) -> Windows:
    """Cut recordings into overlapping windows that cross no border, and label them.

    A border lies between two recordings (so between two subjects or sessions), where time steps
    backwards, and where it steps on by more than `max_gap_seconds`. Equal timestamps are no border:
    phones deliver samples in bursts that share one. Windows start anew after every border; what is
    left before the next one, shorter than a window, is dropped.

    The windows are counted first and the result is allocated once, so that memory peaks at the
    recordings plus the result.

    Args:
        recordings: Recordings with the same tasks, channels and rate. Those shorter than a window
            add none.
        class_names: Names of the classes per task.
        window_samples: Window length, in samples, at least 1.
        step_samples: Hop between window starts, in samples, at least 1.
        label: "pure": a change of label in any task is a border too, so a window holds one label.
            "last": the label of the last sample. "majority": the most frequent label of the window;
            in a tie the lowest class, and a class before `IGNORE_INDEX`. A window that is
            unlabelled in every task is dropped.
        max_gap_seconds: Longest step of time inside a window, in seconds, above 0. The default is
            the larger of 2.5 sample periods (one sample may be missing) and 0.25 s: phones stamp
            bursts on arrival, so their jitter is no share of the period (in the sp_sw_har logs at
            100 Hz, 5 % of the steps exceed 2.5 periods and none exceeds 0.2 s). Used
            only where a recording has timestamps.
        name: What the data are called in reports.

    Returns:
        The windows in the order of the recordings, then of time, with `recordings` and `starts`.

    Raises:
        TypeError: If a recording or a number is of the wrong kind.
        ValueError: If an option breaks its rule.
        DataError: If the recordings disagree, a label is no class, or no window fits.
    """
    from smoothdistill.windows.kernels import copy_windows, count_windows, list_starts

    recordings = list(recordings)
    window_samples = checked_count("window_samples", window_samples)
    step_samples = checked_count("step_samples", step_samples)
    if label not in get_args(LabelRule):
        rules = ", ".join(f"'{rule}'" for rule in get_args(LabelRule))
        raise ValueError(f"`label` must be one of {rules}, but is {label!r} instead.")
    if max_gap_seconds is not None and not max_gap_seconds > 0.0:
        raise ValueError(f"`max_gap_seconds` must be above 0, but is {max_gap_seconds} instead.")
    _check_agreement(recordings)
    first = recordings[0]
    class_names = checked_class_names(class_names, first.targets, must_be_given=True)
    if max_gap_seconds is None:
        max_gap_seconds = max(2.5 / first.sample_rate_hz, 0.25)

    # Borders and labels first: 8 bytes per window and task, against 1200 for a signal of 100 x 3.
    cuts = []
    longest = 0
    for number, recording in enumerate(recordings):
        place = f"recordings[{number}].targets"
        check_labels_in_range(place, recording.targets, class_names, IGNORE_INDEX)
        borders = _borders(recording, label, max_gap_seconds)
        longest = max(longest, int(np.diff(borders).max()))
        starts = np.empty(count_windows(borders, window_samples, step_samples), np.int64)
        list_starts(borders, window_samples, step_samples, starts)
        cuts.append(_labelled(recording, starts, window_samples, label, class_names))
    num_windows = sum(len(starts) for starts, _ in cuts)
    if longest < window_samples:
        raise DataError(
            f"`window_samples` must be at most {longest} (the longest stretch without a border in "
            f"{len(recordings)} recordings), but is {window_samples} instead."
        )
    if not num_windows:
        raise DataError(
            "`recordings` must hold at least 1 window with a label, but every window is unlabelled "
            "instead."
        )

    signals = np.empty((num_windows, first.signal.shape[1], window_samples), np.float32)
    filled = 0
    for recording, (starts, _) in zip(recordings, cuts, strict=True):
        copy_windows(recording.signal, starts, signals[filled : filled + len(starts)])
        filled += len(starts)
    counts = [len(starts) for starts, _ in cuts]
    return Windows(
        signals,
        targets={
            task: np.concatenate([labels[task] for _, labels in cuts]) for task in first.targets
        },
        subjects=np.repeat([recording.subject for recording in recordings], counts),
        sample_rate_hz=first.sample_rate_hz,
        class_names=class_names,
        channel_names=first.channel_names,
        recordings=np.repeat(np.arange(len(recordings)), counts),
        starts=np.concatenate([starts for starts, _ in cuts]),
        name=name,
    )


def _check_agreement(recordings: list[Recording]) -> None:
    if not recordings:
        raise DataError("`recordings` must hold at least 1 recording, but is empty instead.")
    for number, recording in enumerate(recordings):
        if not isinstance(recording, Recording):
            raise TypeError(
                f"`recordings[{number}]` must be a Recording, but is {type(recording).__name__} "
                "instead."
            )
        first = recordings[0]
        for what, value, expected in (
            ("the tasks", sorted(recording.targets), sorted(first.targets)),
            ("the number of channels", recording.signal.shape[1], first.signal.shape[1]),
            ("the channel names", recording.channel_names, first.channel_names),
            ("the sample rate in Hz", recording.sample_rate_hz, first.sample_rate_hz),
        ):
            if value != expected:
                raise DataError(
                    f"`recordings[{number}]` must have {what} of the first recording, {expected}, "
                    f"but has {value} instead."
                )


def _borders(
    recording: Recording, label: LabelRule, max_gap_seconds: float
) -> Int64[np.ndarray, "borders"]:
    """First sample of every stretch without a border, and the length of the recording."""
    from smoothdistill.windows.kernels import mark_changes, mark_gaps

    is_border = np.zeros(len(recording) + 1, np.bool_)
    is_border[[0, -1]] = True
    if recording.timestamps_seconds is not None:
        mark_gaps(recording.timestamps_seconds, max_gap_seconds, is_border)
    if label == "pure":
        for labels in recording.targets.values():
            if not is_constant(labels):
                mark_changes(labels, is_border)
    return np.flatnonzero(is_border)


def _labelled(
    recording: Recording,
    starts: Int64[np.ndarray, "windows"],
    window_samples: int,
    label: LabelRule,
    class_names: Mapping[str, tuple[str, ...]],
) -> tuple[Int64[np.ndarray, "windows"], dict[str, Int64[np.ndarray, "windows"]]]:
    """The windows with a label in any task, and their labels per task."""
    from smoothdistill.windows.kernels import majority_labels

    targets = {}
    for task, labels in recording.targets.items():
        if label == "majority" and not is_constant(labels):
            found = np.empty(len(starts), np.int64)
            num_classes = len(class_names[task])
            run_stops = np.append(np.flatnonzero(labels[1:] != labels[:-1]) + 1, len(labels))
            majority_labels(
                labels, run_stops, starts, window_samples, num_classes, IGNORE_INDEX, found
            )
        else:  # a pure window has one label: its last
            found = labels[starts + (window_samples - 1)]
        targets[task] = found
    is_labelled = np.any([found != IGNORE_INDEX for found in targets.values()], axis=0)
    if is_labelled.all():
        return starts, targets
    return starts[is_labelled], {task: found[is_labelled] for task, found in targets.items()}
