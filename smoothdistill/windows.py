"""Recordings in, labelled windows out: the arrays that everything later works on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from smoothdistill._window_checks import (
    check_finite,
    check_labels_in_range,
    check_length,
    checked_channel_names,
    checked_class_names,
    checked_count,
    checked_indices,
    checked_rate,
    checked_subjects,
    checked_targets,
    integer_array,
    is_constant,
    real_array,
)
from smoothdistill.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jaxtyping import Float32, Float64, Int64
    from numpy.typing import ArrayLike

__all__ = ["IGNORE_INDEX", "LabelRule", "Recording", "Windows", "cut_windows"]

IGNORE_INDEX = -100
"""Class index of an unlabelled sample or window: the losses and scores pass over it."""

LabelRule = Literal["pure", "last", "majority"]


@dataclass(frozen=True, eq=False)
class Recording:
    """One uninterrupted wearing of one sensor by one subject.

    Args:
        signal: Samples, in any unit *u* (m/s² for acceleration), finite; converted to float32 and
            to C order where it is neither. Leave missing samples out and give timestamps: the hole
            then is a gap, which no window crosses.
        targets: Class index of every sample per task, or `IGNORE_INDEX` where unlabelled. A label
            that holds throughout may be `np.broadcast_to(np.int64(label), len(signal))`, which
            takes no memory.
        subject: Who wore the sensor; folds are made by it.
        sample_rate_hz: Samples per second, above 0.
        session: Which wearing it was, for messages.
        timestamps_seconds: Time of every sample, in seconds from any origin, finite.
        channel_names: One name per channel, or none.

    Raises:
        TypeError: If an array is of the wrong kind, or `subject` is no string.
        DataError: If a shape, a length or a value breaks a rule above.
    """

    signal: Float32[np.ndarray, "time channels"]
    targets: Mapping[str, Int64[np.ndarray, "time"]]
    subject: str
    sample_rate_hz: float
    session: str = ""
    timestamps_seconds: Float64[np.ndarray, "time"] | None = None
    channel_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        signal = real_array("signal", self.signal, np.float32, ("time", "channels"))
        check_finite("signal", signal)
        if not isinstance(self.subject, str):
            raise TypeError(
                f"`subject` must be a string, but is {type(self.subject).__name__} instead."
            )
        if not self.subject:
            raise DataError("`subject` must be a name of at least 1 character, but is '' instead.")
        targets = checked_targets(self.targets, len(signal), "samples", keep_constant=True)
        _set(self, "signal", signal)
        _set(self, "targets", targets)
        _set(self, "sample_rate_hz", checked_rate(self.sample_rate_hz))
        _set(self, "channel_names", checked_channel_names(self.channel_names, signal.shape[1]))
        if self.timestamps_seconds is not None:
            times = real_array("timestamps_seconds", self.timestamps_seconds, np.float64, ("time",))
            check_length("timestamps_seconds", times, len(signal), "samples")
            check_finite("timestamps_seconds", times)
            _set(self, "timestamps_seconds", times)

    def __len__(self) -> int:  # samples
        return len(self.signal)


@dataclass(frozen=True, eq=False, repr=False)
class Windows:
    """Labelled windows of equal length, and the subject behind each.

    Args:
        signals: Windows, in any unit *u*, finite; converted to float32 and to C order where it is
            neither. A memory-mapped array is kept as it is.
        targets: Class index of every window per task, in [0, number of classes) or `IGNORE_INDEX`.
            The order of the tasks is kept.
        subjects: Subject of every window, strings or integers (which become strings).
        sample_rate_hz: Samples per second, above 0.
        class_names: Names of the classes per task. A task without names gets "0", "1", ... up to
            its largest class index.
        channel_names: One name per channel, or none.
        recordings: Number of the recording that each window was cut from.
        starts: First sample of each window inside its recording, at least 0.
        name: What the data are called in reports.

    Raises:
        TypeError: If an array is of the wrong kind (labels that are no integers, for example).
        DataError: If a shape, a length or a value breaks a rule above, or there is no window.
    """

    signals: Float32[np.ndarray, "windows channels time"]
    targets: Mapping[str, Int64[np.ndarray, "windows"]]
    subjects: np.ndarray
    sample_rate_hz: float
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    recordings: Int64[np.ndarray, "windows"] | None = None
    starts: Int64[np.ndarray, "windows"] | None = None
    name: str = "custom"

    def __post_init__(self) -> None:
        signals = real_array("signals", self.signals, np.float32, ("windows", "channels", "time"))
        check_finite("signals", signals)
        targets = checked_targets(self.targets, len(signals), "windows")
        _set(self, "signals", signals)
        _set(self, "targets", targets)
        _set(self, "subjects", checked_subjects(self.subjects, len(signals)))
        _set(self, "sample_rate_hz", checked_rate(self.sample_rate_hz))
        _set(self, "class_names", checked_class_names(self.class_names, targets))
        check_labels_in_range("targets", targets, self.class_names, IGNORE_INDEX)
        _set(self, "channel_names", checked_channel_names(self.channel_names, signals.shape[1]))
        for place in ("recordings", "starts"):
            value = getattr(self, place)
            if value is not None:
                numbers = integer_array(place, value)
                check_length(place, numbers, len(signals), "windows")
                smallest = numbers.min()
                if smallest < 0:
                    raise DataError(f"`{place}` must be at least 0, but is {smallest} instead.")
                _set(self, place, numbers)

    def __len__(self) -> int:
        return len(self.signals)

    def __repr__(self) -> str:
        return f"<Windows {self.name!r}: {self.signals.shape}, classes {self.num_classes}>"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of `targets`."""
        return tuple(self.targets)

    @property
    def num_classes(self) -> dict[str, int]:
        """Number of classes per task."""
        return {task: len(names) for task, names in self.class_names.items()}

    @property
    def num_channels(self) -> int:
        """Number of sensor channels."""
        return int(self.signals.shape[1])

    @property
    def window_samples(self) -> int:
        """Length of a window, in samples."""
        return int(self.signals.shape[2])

    def select(self, indices: ArrayLike) -> Windows:
        """Copy some windows, keeping the names of all classes.

        Args:
            indices: Window numbers in any order, or one bool per window.

        Raises:
            TypeError: If `indices` is neither integer nor bool.
            DataError: If nothing is selected, or a number is outside the windows.
        """
        chosen = checked_indices(indices, len(self))
        return Windows(
            self.signals[chosen],
            targets={task: labels[chosen] for task, labels in self.targets.items()},
            subjects=self.subjects[chosen],
            sample_rate_hz=self.sample_rate_hz,
            class_names=self.class_names,
            channel_names=self.channel_names,
            recordings=None if self.recordings is None else self.recordings[chosen],
            starts=None if self.starts is None else self.starts[chosen],
            name=self.name,
        )

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of signals, labels, subjects, rate and names of classes.

        `name`, `recordings` and `starts` are left out: they say where the windows come from, not
        what they hold. The value is the same on every platform.
        """
        about = {
            "shape": self.signals.shape,
            "sample_rate_hz": self.sample_rate_hz,
            "class_names": list(self.class_names.items()),
            "channel_names": self.channel_names,
            "subjects": self.subjects.tolist(),
        }
        digest = hashlib.sha256(json.dumps(about).encode())
        digest.update(self.signals.astype("<f4", copy=False).data)
        for labels in self.targets.values():
            digest.update(labels.astype("<i8", copy=False).data)
        return digest.hexdigest()


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
    from smoothdistill._window_kernels import copy_windows, count_windows, list_starts

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
    from smoothdistill._window_kernels import mark_changes, mark_gaps

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
    from smoothdistill._window_kernels import majority_labels

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


def _set(instance: object, name: str, value: object) -> None:
    object.__setattr__(instance, name, value)  # the only door into a frozen dataclass
