"""Recordings in, labelled windows out: the arrays that everything later works on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.windows.checks import (
    check_finite,
    check_labels_in_range,
    check_length,
    checked_channel_names,
    checked_class_names,
    checked_indices,
    checked_rate,
    checked_subjects,
    checked_targets,
    integer_array,
    real_array,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float32, Float64, Int64
    from numpy.typing import ArrayLike

__all__ = ["IGNORE_INDEX", "Recording", "Windows"]

IGNORE_INDEX = -100
"""Class index of an unlabelled sample or window: the losses and scores pass over it."""


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


def _set(instance: object, name: str, value: object) -> None:
    object.__setattr__(instance, name, value)  # the only door into a frozen dataclass
