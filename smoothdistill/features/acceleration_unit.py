"""Whether acceleration is in g or in m/s², told by the length of gravity."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.features.preprocessing import magnitude
from smoothdistill.features.preprocessing_checks import checked_number, checked_signal

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

__all__ = ["check_acceleration_unit"]

_GRAVITY = {"g": 1.0, "m/s^2": 9.80665}
# Between the units lies a factor of 9.8: a length within 1.5 times of one gravity is far from the
# other.
_LIKELY_FACTOR = 1.5
# More than ten times gravity for half of the time is no wearer's movement in either unit.
_MOST_GRAVITIES = 10.0
# A second is still if the length varies by less than a twentieth: sensor noise, and no step.
_STILL_SPREAD = 0.05
_FEWEST_STILL_SECONDS = 3


def check_acceleration_unit(
    signal: Float[np.ndarray, "time channels"],
    *,
    unit: Literal["g", "m/s^2"],
    sample_rate_hz: float,
) -> Literal["g", "m/s^2"] | None:
    """Compare the length of the acceleration with gravity, and warn where the unit cannot be right.

    The length is the median over the seconds in which the sensor is still or, where there are fewer
    than three of them, over all samples.

    Args:
        signal: Acceleration along x, y and z, gravity included, in the first three channels.
        unit: What it is said to be in.
        sample_rate_hz: Samples per second, above 0.

    Returns:
        The unit that the length speaks for; None where it speaks for neither (gravity has been
        taken out, or the numbers are in another unit), or there are no numbers.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the unit is unknown, or the rate not above 0.
        DataError: If the signal has another shape.

    Warns:
        UserWarning: If the length speaks for the other unit, or for none that acceleration has.
    """
    signal = checked_signal(signal)
    if signal.shape[1] < 3:
        raise DataError(
            "`signal` must have at least 3 channels, the axes of acceleration, but has "
            f"{signal.shape[1]} instead."
        )
    if unit not in _GRAVITY:
        raise ValueError(f"`unit` must be 'g' or 'm/s^2', but is {unit!r} instead.")
    rate = checked_number("sample_rate_hz", sample_rate_hz, unit=" Hz")
    lengths = magnitude(signal)[:, 0].astype(np.float64)
    lengths = lengths[np.isfinite(lengths)]
    if not lengths.size:
        return None
    still = _still_lengths(lengths, max(2, round(rate)))
    is_still = still.size >= _FEWEST_STILL_SECONDS
    length = float(np.median(still if is_still else lengths))
    where = f"over {still.size} still seconds" if is_still else f"over {lengths.size} samples"
    evidence = f"the median length of the acceleration, {length:.4g} {where},"
    detected: Literal["g", "m/s^2"] | None = None
    for candidate in ("g", "m/s^2"):
        gravity = _GRAVITY[candidate]
        if gravity / _LIKELY_FACTOR <= length <= gravity * _LIKELY_FACTOR:
            detected = "g" if candidate == "g" else "m/s^2"
    if detected is not None and detected != unit:
        warnings.warn(
            f"`unit` is {unit!r}, but {evidence} is what gravity is in {detected}.",
            UserWarning,
            stacklevel=2,
        )
    elif length > _MOST_GRAVITIES * _GRAVITY["m/s^2"]:
        warnings.warn(
            f"`unit` is {unit!r}, but {evidence} is gravity neither in g (1) nor in m/s^2 (9.81): "
            "the signal may be in mg or in counts of the sensor.",
            UserWarning,
            stacklevel=2,
        )
    return detected


def _still_lengths(
    lengths: Float64[np.ndarray, " time"], second_samples: int
) -> Float64[np.ndarray, " seconds"]:
    """Mean length in every second in which it hardly varies."""
    num_seconds = len(lengths) // second_samples
    seconds = lengths[: num_seconds * second_samples].reshape(num_seconds, second_samples)
    means = seconds.mean(axis=1)
    still: Float64[np.ndarray, " seconds"] = means[seconds.std(axis=1) < _STILL_SPREAD * means]
    return still
