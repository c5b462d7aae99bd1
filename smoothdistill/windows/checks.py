"""The checks at the doors of `smoothdistill.windows`: one sentence per failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Int64

__all__ = [
    "check_choice",
    "check_finite",
    "check_labels_are_classes",
    "check_labels_in_range",
    "check_length",
    "checked_channel_names",
    "checked_class_names",
    "checked_count",
    "checked_groups",
    "checked_indices",
    "checked_rate",
    "checked_seconds",
    "checked_share",
    "checked_signal",
    "checked_subjects",
    "checked_targets",
    "integer_array",
    "is_constant",
    "real_array",
]

# Values are tested for finiteness in pieces: no temporary as large as a memory-mapped array.
PIECE_VALUES = 1 << 20

# Two of them still add up inside int64.
LARGEST_COUNT = 1 << 61


def real_array(
    name: str, value: Any, dtype: type[np.floating], axes: tuple[str, ...]
) -> np.ndarray:
    """`value` as a C-contiguous array of `dtype`, copied only where it is not one already."""
    array = checked_signal(name, value, axes)
    with np.errstate(over="ignore"):  # what overflows float32 is infinite, and found by the caller
        return np.ascontiguousarray(array, dtype=dtype)


def checked_signal(name: str, value: Any, axes: tuple[str, ...]) -> np.ndarray:
    """`value` as an array of real numbers with these axes, its type and order left as they are."""
    array = _array(name, value, "real numbers")
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"`{name}` must be an array of real numbers, but is an array of {array.dtype} instead."
        )
    if array.ndim != len(axes) or 0 in array.shape:
        raise DataError(
            f"`{name}` must have the shape [{', '.join(axes)}] with at least 1 of each, but has "
            f"the shape {list(array.shape)} instead."
        )
    return array


def integer_array(name: str, value: Any, *, keep_constant: bool = False) -> Int64[np.ndarray, "n"]:
    """`value` as a one-dimensional int64 array; a broadcast one stays one if `keep_constant`."""
    array = _array(name, value, "integers")
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"`{name}` must be an array of integers, but is an array of {array.dtype} instead."
        )
    if array.ndim != 1:
        raise DataError(
            f"`{name}` must have 1 dimension, but has the shape {list(array.shape)} instead."
        )
    if keep_constant and array.dtype == np.int64 and is_constant(array):
        return array
    return np.ascontiguousarray(array, dtype=np.int64)


def _array(name: str, value: Any, content: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        raise TypeError(
            f"`{name}` must be a NumPy array of {content}, but is a {type(value).__name__} that "
            f"NumPy cannot read instead ({error})."
        ) from error


def check_finite(name: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity, and say where the first one is."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, PIECE_VALUES):
        finite = np.isfinite(flat[start : start + PIECE_VALUES])
        if not finite.all():
            place = start + int(finite.argmin())
            index = [int(number) for number in np.unravel_index(place, array.shape)]
            raise DataError(
                f"`{name}` must be finite {array.dtype} numbers, but is {flat[place]} at {index} "
                "instead."
            )


def is_constant(labels: Int64[np.ndarray, "n"]) -> bool:
    """Whether one value was broadcast along the recording."""
    return labels.strides == (0,)


def check_length(name: str, array: np.ndarray, length: int, unit: str) -> None:
    """Refuse an array that has not one value for each sample or window."""
    if len(array) != length:
        raise DataError(
            f"`{name}` must have one value for each of the {length} {unit}, but has {len(array)} "
            "instead."
        )


def checked_targets(
    targets: Any, length: int, unit: str, *, keep_constant: bool = False
) -> dict[str, Int64[np.ndarray, "n"]]:
    """Labels of at least one task as int64 arrays of the given length."""
    if not isinstance(targets, Mapping):
        raise TypeError(
            f"`targets` must be a mapping of task to labels, but is {type(targets).__name__} "
            "instead."
        )
    if not targets:
        raise DataError("`targets` must hold at least 1 task, but is empty instead.")
    checked = {}
    for task, labels in targets.items():
        if not isinstance(task, str) or not task:
            raise TypeError(
                f"`targets` must have names of at least 1 character as keys, but has {task!r} "
                "instead."
            )
        name = f"targets[{task!r}]"
        checked[task] = integer_array(name, labels, keep_constant=keep_constant)
        check_length(name, checked[task], length, unit)
    return checked


def check_labels_in_range(
    place: str,
    targets: Mapping[str, Int64[np.ndarray, "n"]],
    class_names: Mapping[str, tuple[str, ...]],
    ignore_index: int,
) -> None:
    """Refuse labels outside [0, number of classes) that are not `ignore_index`."""
    for task, labels in targets.items():
        num_classes = len(class_names[task])
        values = labels[:1] if is_constant(labels) else labels
        if values.view(np.uint64).max() < num_classes:  # a negative number is a huge one here
            continue
        wrong = values.max()
        if wrong < num_classes:
            if values.min() >= 0:
                continue
            negative = values[(values < 0) & (values != ignore_index)]
            if not negative.size:
                continue
            wrong = negative[0]
        raise DataError(
            f"`{place}[{task!r}]` must be in [0, {num_classes}) or {ignore_index} (unlabelled), "
            f"but is {wrong} instead."
        )


def check_labels_are_classes(
    targets: Mapping[str, Int64[np.ndarray, "n"]], ignore_index: int
) -> None:
    """Refuse labels below 0 that are not `ignore_index`."""
    for task, labels in targets.items():
        if labels.min() < 0:
            negative = labels[(labels < 0) & (labels != ignore_index)]
            if negative.size:
                raise DataError(
                    f"`targets[{task!r}]` must be at least 0 or {ignore_index} (unlabelled), but "
                    f"is {negative[0]} instead."
                )


def checked_class_names(
    class_names: Any, tasks: Mapping[str, Int64[np.ndarray, "n"]], *, must_be_given: bool = False
) -> dict[str, tuple[str, ...]]:
    """Names of the classes per task, in the order of the tasks; numbers where none is given."""
    if not isinstance(class_names, Mapping):
        raise TypeError(
            "`class_names` must be a mapping of task to names, but is "
            f"{type(class_names).__name__} instead."
        )
    missing = set(tasks) - set(class_names) if must_be_given else set()
    if missing or set(class_names) - set(tasks):
        raise DataError(
            f"`class_names` must have the tasks {list(tasks)} as keys, but has {list(class_names)} "
            "instead."
        )
    checked = {}
    for task, labels in tasks.items():
        if task not in class_names:
            checked[task] = tuple(str(number) for number in range(int(labels.max()) + 1))
            if not checked[task]:
                raise DataError(
                    f"`targets[{task!r}]` must hold at least 1 label where `class_names` has none, "
                    "but every one is unlabelled instead."
                )
            continue
        names = class_names[task]
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(
                f"`class_names[{task!r}]` must be a sequence of strings, but is {names!r} instead."
            )
        if not names or len(set(names)) != len(names):
            raise DataError(
                f"`class_names[{task!r}]` must be at least 1 name, each different, but is "
                f"{tuple(names)!r} instead."
            )
        checked[task] = tuple(names)
    return checked


def checked_channel_names(channel_names: Any, num_channels: int) -> tuple[str, ...]:
    """No name, or one for each channel."""
    names = (channel_names,) if isinstance(channel_names, str) else tuple(channel_names)
    if names and len(names) != num_channels:
        raise DataError(
            f"`channel_names` must be {num_channels} names, one for each channel, or none, but is "
            f"{names!r} instead."
        )
    return names


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"`{name}` must be a number, but is {type(value).__name__} instead.")
    return float(value)


def checked_rate(sample_rate_hz: Any) -> float:
    """A finite rate above 0."""
    rate = _real("sample_rate_hz", sample_rate_hz)
    if not (rate > 0 and math.isfinite(rate)):
        raise DataError(
            f"`sample_rate_hz` must be above 0 and finite, but is {sample_rate_hz} instead."
        )
    return rate


def checked_seconds(name: str, value: Any) -> float:
    """A duration above 0."""
    seconds = _real(name, value)
    if not seconds > 0.0:
        raise ValueError(f"`{name}` must be above 0, but is {value} instead.")
    return seconds


def checked_share(name: str, value: Any) -> float:
    """A number in [0, 1]."""
    share = _real(name, value)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"`{name}` must be in [0, 1], but is {value} instead.")
    return share


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        names = ", ".join(f"'{choice}'" for choice in choices)
        raise ValueError(f"`{name}` must be one of {names}, but is {value!r} instead.")


def checked_count(name: str, value: Any, *, at_least: int = 1) -> int:
    """An integer of at least 1, or of `at_least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer, but is {type(value).__name__} instead.")
    if value < at_least:
        raise ValueError(f"`{name}` must be at least {at_least}, but is {value} instead.")
    if value > LARGEST_COUNT:
        raise ValueError(f"`{name}` must be at most {LARGEST_COUNT}, but is {value} instead.")
    return int(value)


def checked_indices(
    indices: Any, length: int, *, may_be_empty: bool = False
) -> Int64[np.ndarray, "n"]:
    """Window numbers inside the windows, from numbers or from one bool per window."""
    array = _array("indices", indices, "integers or bools")
    if array.dtype.kind == "b":
        check_length("indices", array, length, "windows")
        array = np.flatnonzero(array)
    if not array.size:
        if may_be_empty:
            return np.empty(0, np.int64)
        raise DataError("`indices` must select at least 1 window, but is empty instead.")
    array = integer_array("indices", array)
    outside = array[(array < 0) | (array >= length)]
    if outside.size:
        raise DataError(f"`indices` must be in [0, {length}), but is {outside[0]} instead.")
    return array


def checked_subjects(subjects: Any, length: int) -> np.ndarray:
    """One string for each window; integers become strings."""
    array = _array("subjects", subjects, "strings or integers")
    is_object_of_strings = array.dtype.kind == "O" and all(
        isinstance(subject, str) for subject in array.flat
    )
    if array.dtype.kind in "iu" or is_object_of_strings:
        array = array.astype(np.str_)
    if array.dtype.kind != "U":
        raise TypeError(
            "`subjects` must be an array of strings or integers, but is an array of "
            f"{array.dtype} instead."
        )
    if array.ndim != 1:
        raise DataError(
            f"`subjects` must have 1 dimension, but has the shape {list(array.shape)} instead."
        )
    check_length("subjects", array, length, "windows")
    return array


def checked_groups(groups: Any, length: int, unit: str = "samples") -> np.ndarray:
    """One string or integer for each sample or window, as they come: strings may be objects."""
    array = _array("groups", groups, "strings or integers")
    is_object_of_strings = array.dtype.kind == "O" and all(
        issubclass(kind, str) for kind in set(map(type, array.flat))
    )
    if array.dtype.kind not in "iuU" and not is_object_of_strings:
        raise TypeError(
            "`groups` must be an array of strings or integers, but is an array of "
            f"{array.dtype} instead."
        )
    if array.ndim != 1:
        raise DataError(
            f"`groups` must have 1 dimension, but has the shape {list(array.shape)} instead."
        )
    check_length("groups", array, length, unit)
    return array
