"""What users hand over as `X`: recordings, windows, arrays and data frames, all made alike."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils import check_array

from smoothdistill.errors import DataError
from smoothdistill.windows import Recording, Segmenter, Windows
from smoothdistill.windows.checks import checked_groups, checked_targets

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = [
    "Cut",
    "Part",
    "check_agreement",
    "check_names",
    "checked_names",
    "column_names",
    "cut_part",
    "default_names",
    "is_flat",
    "is_many",
    "labelled",
    "read_part",
    "sample_groups",
]

_FEW_CHANNELS = 64  # which nobody takes for samples
SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class Part(NamedTuple):
    """One recording [time, channels], or windows [windows, channels, time].

    Args:
        values: Contiguous float32 or float64.
        names: Names of the channels, where the input had any.
        timestamps_seconds: Time of every sample of a recording, in seconds.
        targets: Class index of every sample, or of every window.
        groups: Subject of the recording, or of every window.
        sample_rate_hz: Samples per second, where the input says it.
    """

    values: Float[np.ndarray, "..."]
    names: tuple[str, ...] | None = None
    timestamps_seconds: Float64[np.ndarray, " time"] | None = None
    targets: Mapping[str, Int64[np.ndarray, " n"]] = {}
    groups: Any = None
    sample_rate_hz: float | None = None

    @property
    def num_channels(self) -> int:
        """Channels of the recording or of each window."""
        return int(self.values.shape[1])


def is_flat(X: Any) -> bool:
    """Whether `X` has two dimensions: samples and features, as scikit-learn sees it."""
    if isinstance(X, (Recording, Windows)):
        return False
    array = X if hasattr(X, "ndim") else np.asarray(X)
    return bool(array.ndim == 2)


def is_many(X: Any) -> bool:
    """Whether this is a list of recordings, and not an array written as a list."""
    return isinstance(X, (list, tuple)) and bool(X) and _is_recording(X[0])


def _is_recording(value: Any) -> bool:
    return isinstance(value, Recording) or getattr(value, "ndim", None) == 2


def read_part(X: Any, *, is_cut: bool, place: str = "X") -> Part:
    """Check and convert one recording, one array of windows, or one `Windows`.

    Args:
        X: The input.
        is_cut: Whether two dimensions mean [windows, time] of one channel.
        place: What it is called in messages.

    Raises:
        TypeError: If `X` is sparse or holds no real numbers.
        DataError: If its shape is none of those that are known.
    """
    if isinstance(X, Windows):
        return Part(
            X.signals, X.channel_names or None, None, X.targets, X.subjects, X.sample_rate_hz
        )
    if isinstance(X, Recording):
        names = X.channel_names or None
        times, rate = X.timestamps_seconds, X.sample_rate_hz
        return Part(X.signal, names, times, X.targets, X.subject, rate)
    names = None if is_cut else column_names(X)
    values = check_array(
        X,
        dtype=[np.float64, np.float32],
        order="C",
        ensure_2d=False,
        allow_nd=True,
        ensure_all_finite=False,
        input_name=place,
    )
    if values.ndim not in (2, 3) or 0 in values.shape:
        known = "[windows, time]" if is_cut else "[time, channels]"
        one = "X[None]" if is_cut else "X[:, None]"
        hint = f" Reshape your data: {one} is one channel." if values.ndim == 1 else ""
        raise DataError(
            f"`{place}` must have the shape {known} or [windows, channels, time] with at least 1 "
            f"of each, but has the shape {list(values.shape)} instead.{hint}"
        )
    if values.ndim == 2 and is_cut:
        values = values[:, None, :]
    _check_order_of_axes(place, values)
    return Part(values, names)


def column_names(X: Any) -> tuple[str, ...] | None:
    """Names of the columns of a data frame, if it is one and all are named."""
    columns = getattr(X, "columns", None)
    if columns is None or not all(isinstance(name, str) for name in columns):
        return None
    return tuple(columns)


def check_names(place: str, names: tuple[str, ...] | None, first: tuple[str, ...] | None) -> None:
    """Refuse channels other than those that came first, or in another order."""
    if None not in (names, first) and names != first:
        raise DataError(
            f"`{place}` must have the channels {first} in this order, as what came first, but has "
            f"{names} instead."
        )


def _check_order_of_axes(place: str, values: Float[np.ndarray, "..."]) -> None:
    """More channels than samples are most often axes that were mixed up.

    Of windows that may be meant, of a recording it is not, unless it is a very short one: its
    features of pairs of channels would take for ever.
    """
    if values.ndim == 2 and values.shape[1] > max(values.shape[0], _FEW_CHANNELS):
        raise DataError(
            f"`{place}` must have the axes [time, channels] and no more channels than samples, but "
            f"has the shape {list(values.shape)} instead; transpose it."
        )
    if values.ndim == 3 and values.shape[1] > values.shape[2]:
        warnings.warn(
            f"`{place}` has windows of {values.shape[1]} channels and {values.shape[2]} samples; "
            "its axes are taken as [windows, channels, time].",
            stacklevel=2,
        )


def labelled(parts: Sequence[Part], targets: Any, groups: Any, timestamps_seconds: Any) -> Part:
    """The only part, with the labels, groups and times that came beside it.

    Raises:
        DataError: If there are several parts, or the part has labels or a group of its own.
    """
    part = parts[0]
    if len(parts) > 1 or part.targets or part.groups is not None:
        raise DataError(
            "`targets`, `groups` and `timestamps_seconds` must be left out where `X` has its own "
            "or is a list, but are given instead."
        )
    times = None if timestamps_seconds is None else np.asarray(timestamps_seconds)
    if times is not None and part.values.ndim == 3:
        raise DataError(
            "`timestamps_seconds` must be left out where `X` has windows, but is given instead."
        )
    return part._replace(targets=targets or {}, groups=groups, timestamps_seconds=times)


def check_agreement(place: str, part: Part, first: Part, sample_rate_hz: float | None) -> None:
    """Refuse what cannot stand in one table with the first part, or at the extractor's rate."""
    check_names(place, part.names, first.names)
    if sorted(part.targets) != sorted(first.targets):
        raise DataError(
            f"`{place}` must have the tasks of the first recording, {sorted(first.targets)}, but "
            f"has {sorted(part.targets)} instead."
        )
    if (part.groups is None) != (first.groups is None):
        raise DataError(
            f"`{place}` must be a Recording if and only if the first one is, but is not instead."
        )
    rate = part.sample_rate_hz
    if None not in (rate, sample_rate_hz) and rate != sample_rate_hz:
        raise DataError(
            f"`sample_rate_hz` must be that of `{place}`, {rate}, but is {sample_rate_hz} instead."
        )


def default_names(num_channels: int) -> tuple[str, ...]:
    """Names of channels without any: x, y, z for three, x for one, otherwise c0, c1, ..."""
    if num_channels in (1, 3):
        return ("x", "y", "z")[:num_channels]
    return tuple(f"c{number}" for number in range(num_channels))


def checked_names(names: Sequence[str] | None, num_channels: int) -> tuple[str, ...]:
    """One different, safe name for each channel."""
    if names is None:
        return default_names(num_channels)
    given: Any = names  # whatever a user may have written
    is_sequence = isinstance(given, Iterable) and not isinstance(given, str)
    if not is_sequence or not all(isinstance(name, str) for name in given):
        raise TypeError(f"`channel_names` must be a sequence of strings, but is {names!r} instead.")
    found = tuple(names)
    if len(found) != num_channels:
        raise DataError(
            f"`channel_names` must have one name for each of the {num_channels} channels, but has "
            f"{len(found)} instead."
        )
    for name in found:
        if not SAFE_NAME.fullmatch(name) or "__" in name:
            raise DataError(
                "`channel_names` must be of letters, digits, '_', '.' and '-', without '__', but "
                f"has {name!r} instead."
            )
        if found.count(name) > 1:
            raise DataError(f"`channel_names` must differ, but has {name!r} twice instead.")
    return found


def sample_groups(part: Part, segmenter: Segmenter | None) -> Int64[np.ndarray, " time"]:
    """A number of every sample of a recording that changes at gaps and where the group changes.

    Not where the label does: a filter goes on there.
    """
    if segmenter is None:
        return np.zeros(len(part.values), np.int64)
    is_one_group = part.groups is None or isinstance(part.groups, str)
    borders = segmenter.segment(
        len(part.values),
        timestamps_seconds=part.timestamps_seconds,
        groups=None if is_one_group else part.groups,
        must_fit=False,
    ).borders
    return np.repeat(np.arange(len(borders) - 1), np.diff(borders))


class Cut(NamedTuple):
    """Where the windows of a part lie, and their labels.

    Args:
        starts: First sample of each window in its recording; 0 for windows that came as such.
        lengths: Samples of each window.
        targets: Class index of each window per task.
        groups: Group of each window, or None.
        step_samples: Hop between the windows of a recording; 0 for windows that came as such.
    """

    starts: Int64[np.ndarray, " windows"]
    lengths: Int64[np.ndarray, " windows"]
    targets: Mapping[str, Int64[np.ndarray, " windows"]]
    groups: Any
    step_samples: int


def cut_part(part: Part, segmenter: Segmenter | None, *, must_fit: bool) -> Cut:
    """Windows of a part.

    Args:
        part: The recording or windows.
        segmenter: How recordings are cut.
        must_fit: Whether a recording without a window is an error.

    Raises:
        TypeError: If labels or groups are of the wrong kind.
        ValueError: If they do not fit the part, no window fits where one must, or there is a
            recording but no segmenter.
    """
    if part.values.ndim == 3:
        num_windows, _, length = part.values.shape
        starts = np.zeros(num_windows, np.int64)
        targets = checked_targets(part.targets, num_windows, "windows") if part.targets else {}
        groups = (
            None if part.groups is None else checked_groups(part.groups, num_windows, "windows")
        )
        return Cut(starts, np.full(num_windows, length), targets, groups, 0)
    if segmenter is None:
        raise ValueError(
            "`window_samples` or `window_seconds` must be given for recordings, but both are None "
            "instead."
        )
    is_one_group = part.groups is None or isinstance(part.groups, str)
    segments = segmenter.segment(
        part.values,
        timestamps_seconds=part.timestamps_seconds,
        groups=None if is_one_group else part.groups,
        targets=part.targets or None,
        must_fit=must_fit,
    )
    owners = segments.groups
    if isinstance(part.groups, str):
        owners = np.full(len(segments), part.groups)
    return Cut(segments.starts, segments.lengths, segments.targets, owners, segmenter.hop_samples)
