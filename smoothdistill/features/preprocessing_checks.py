"""The checks at the doors of the preprocessing: one sentence per failure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from smoothdistill.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = [
    "MAX_ORDER",
    "PHASES",
    "Phase",
    "check_below_nyquist",
    "check_triads_fit",
    "checked_bool",
    "checked_borders",
    "checked_number",
    "checked_order",
    "checked_phase",
    "checked_places",
    "checked_signal",
    "checked_triads",
    "safe_names",
]

Phase = Literal["causal", "zero"]
PHASES = ("causal", "zero")
MAX_ORDER = 12
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")


def checked_signal(signal: Any) -> Float[np.ndarray, "time channels"]:
    """`signal` as a C-contiguous float32 or float64 array; integers become float64."""
    try:
        array = np.asarray(signal)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "`signal` must be an array of real numbers, but is a "
            f"{type(signal).__name__} that NumPy cannot read instead ({error})."
        ) from error
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"`signal` must be an array of real numbers, but is an array of {array.dtype} instead."
        )
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            "`signal` must have the shape [time, channels] with at least 1 channel, but has the "
            f"shape {list(array.shape)} instead."
        )
    is_float32 = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return np.ascontiguousarray(array, dtype=np.float32 if is_float32 else np.float64)


def checked_number(name: str, value: Any, *, unit: str = "") -> float:
    """A finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"`{name}` must be a number, but is {type(value).__name__} instead.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{name}` must be above 0{unit} and finite, but is {value} instead.")
    return float(value)


def check_below_nyquist(name: str, cutoff_hz: float, sample_rate_hz: float) -> None:
    """Refuse a cutoff that no filter at this rate can have."""
    if not cutoff_hz < sample_rate_hz / 2:
        raise ValueError(
            f"`{name}` must be below half of the sample rate, {sample_rate_hz / 2:g} Hz, but is "
            f"{cutoff_hz:g} Hz instead."
        )


def checked_order(order: Any) -> int:
    """An integer from 1 to `MAX_ORDER`."""
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)):
        raise TypeError(f"`order` must be an integer, but is {type(order).__name__} instead.")
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"`order` must be in [1, {MAX_ORDER}], but is {order} instead.")
    return int(order)


def checked_phase(phase: Any) -> Phase:
    """One of `PHASES`."""
    if phase not in PHASES:
        raise ValueError(f"`phase` must be 'causal' or 'zero', but is {phase!r} instead.")
    return "causal" if phase == "causal" else "zero"


def checked_bool(name: str, value: Any) -> bool:
    """A truth value, and nothing that merely counts as one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False, but is {value!r} instead.")
    return bool(value)


def checked_borders(groups: Any, num_samples: int) -> Int64[np.ndarray, " borders"]:
    """First sample of each stretch of one group number, and the end."""
    if groups is None:
        return np.array([0, num_samples], dtype=np.int64)
    numbers = np.asarray(groups)
    if numbers.shape != (num_samples,):
        raise DataError(
            f"`groups` must have one value for each of the {num_samples} samples, but has the "
            f"shape {list(numbers.shape)} instead."
        )
    changes = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    return np.concatenate([[0], changes, [num_samples]]).astype(np.int64)


def checked_triads(triads: Any) -> tuple[tuple[int, int, int], ...]:
    """Triples of different channel numbers."""
    kinds = (tuple, list, np.ndarray)
    rows = list(triads) if isinstance(triads, kinds) else [triads]
    if any(
        not isinstance(row, kinds)
        or len(row) != 3
        or any(isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) for axis in row)
        for row in rows
    ):
        raise TypeError(
            f"`triads` must be a sequence of triples of channel numbers, but is {triads!r} instead."
        )
    if any(len(set(row)) < 3 or min(row) < 0 for row in rows):
        raise ValueError(
            "`triads` must be triples of different channel numbers of at least 0, but is "
            f"{triads!r} instead."
        )
    return tuple((int(x), int(y), int(z)) for x, y, z in rows)


def checked_places(gravity_triads: Any, num_triads: int) -> tuple[int, ...]:
    """Different places in the triads; the first if none is given and there is one."""
    if gravity_triads is None:
        return (0,) if num_triads else ()
    if not isinstance(gravity_triads, (tuple, list, np.ndarray)) or any(
        isinstance(place, bool) or not isinstance(place, (int, np.integer))
        for place in gravity_triads
    ):
        raise TypeError(
            f"`gravity_triads` must be a sequence of integers, but is {gravity_triads!r} instead."
        )
    places = tuple(int(place) for place in gravity_triads)
    if len(set(places)) != len(places) or any(not 0 <= place < num_triads for place in places):
        raise ValueError(
            f"`gravity_triads` must be different places in `triads`, in [0, {num_triads}), but is "
            f"{gravity_triads!r} instead."
        )
    return places


def check_triads_fit(triads: tuple[tuple[int, int, int], ...], num_channels: int) -> None:
    """Refuse a triad of a channel that the signal does not have."""
    highest = max((channel for triad in triads for channel in triad), default=-1)
    if highest >= num_channels:
        raise DataError(
            f"`signal` must have at least {highest + 1} channels for `triads`, but has "
            f"{num_channels} instead."
        )


def safe_names(channel_names: Any, num_channels: int) -> tuple[str, ...]:
    """A different name of safe characters for each channel; x, y, z or numbers by default."""
    if channel_names is None:
        if num_channels == 3:
            return ("x", "y", "z")
        return tuple(f"channel_{number}" for number in range(num_channels))
    if isinstance(channel_names, str):
        names: tuple[Any, ...] = (channel_names,)
    else:
        names = tuple(channel_names)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"`channel_names` must be strings, but is {channel_names!r} instead.")
    if len(names) != num_channels or len(set(names)) != num_channels:
        raise DataError(
            f"`channel_names` must be {num_channels} different names, one for each channel, but is "
            f"{names!r} instead."
        )
    for name in names:
        if not name or _UNSAFE.search(name):
            raise DataError(
                "`channel_names` must consist of letters, digits, '_', '.' and '-', but has "
                f"{name!r} instead."
            )
    return names
