"""What decides on the numbers beside the columns: the options of an extractor, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from joblib import effective_n_jobs

from smoothdistill.windows.checks import check_choice, checked_count, checked_rate

if TYPE_CHECKING:
    from smoothdistill.features.extractor import FeatureExtractor
    from smoothdistill.features.plan import Plan
    from smoothdistill.features.uci561 import UCI561

__all__ = ["NanPolicy", "Settings", "checked_bands", "checked_settings", "checked_threads"]

NanPolicy = Literal["propagate", "omit", "raise"]
STANDARD_GRAVITY_M_S2 = 9.80665
DEFAULT_BANDS_HZ = ((0.3, 3.0), (3.0, 8.0), (8.0, 15.0))
"""Behind them comes one from 15 Hz to half of the sample rate."""


@dataclass(frozen=True)
class Settings:
    """Everything but the columns that decides on a number.

    Args:
        sample_rate_hz: Samples per second; NaN where no feature needs it.
        slope_rate_hz: The same, or 1 for slopes per sample.
        ddof: Variance is divided by the number of samples less this.
        gravity: What 1 g is in the signal's unit.
        undefined: What stands for a ratio to a variance of 0.
        taper: Weights of the samples before the transform: "none" or "hann".
        weight_by_magnitude: Whether the centroid is weighted by the root of the power.
    """

    sample_rate_hz: float = np.nan
    slope_rate_hz: float = np.nan
    ddof: int = 0
    gravity: float = 9.80665
    undefined: float = np.nan
    taper: Literal["none", "hann"] = "none"
    weight_by_magnitude: bool = False


def checked_bands(bands_hz: Any, sample_rate_hz: float | None) -> list[tuple[float, float]]:
    """Edges of the bands that the presets have, in Hz: those given, or the default ones.

    Raises:
        ValueError: If they are no pairs of finite numbers of at least 0.
    """
    if bands_hz is None:
        bands = list(DEFAULT_BANDS_HZ)
        if sample_rate_hz is not None and sample_rate_hz > 2 * bands[-1][1]:
            bands.append((bands[-1][1], sample_rate_hz / 2))
        return bands
    try:
        edges = np.asarray(bands_hz, dtype=np.float64)
    except (TypeError, ValueError):
        edges = np.empty(0)
    if edges.shape[1:] != (2,) or not (np.isfinite(edges) & (edges >= 0)).all():
        raise ValueError(
            "`bands_hz` must be pairs of finite numbers of at least 0, but is "
            f"{bands_hz!r} instead."
        )
    return [(float(low), float(high)) for low, high in edges]


def checked_threads(n_jobs: Any) -> int:
    """Number of threads that `n_jobs` means, as joblib counts them.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is 0.
    """
    if n_jobs is None:
        return 1
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, (int, np.integer)):
        raise TypeError(f"`n_jobs` must be an integer or None, but is {n_jobs!r} instead.")
    if n_jobs == 0:
        raise ValueError(
            "`n_jobs` must be above 0, or below it to count from all, but is 0 instead."
        )
    return int(effective_n_jobs(int(n_jobs)))


def checked_settings(extractor: FeatureExtractor, plan: Plan | UCI561) -> Settings:
    """The settings that an extractor's parameters mean.

    Args:
        extractor: Its parameters are checked here and not in its constructor, as scikit-learn
            wants it.
        plan: Its columns, some of which may need a sample rate.

    Raises:
        TypeError: If a parameter is of the wrong kind.
        ValueError: If one breaks its rule, or the sample rate is missing.
    """
    for name, choices in (
        ("nan_policy", get_args(NanPolicy)),
        ("undefined", ("nan", "zero")),
        ("slope_per", ("second", "sample")),
        ("acceleration_unit", ("m/s^2", "g")),
        ("taper", ("none", "hann")),
        ("centroid_weight", ("power", "magnitude")),
        ("dtype", ("float64", "float32")),
    ):
        check_choice(name, getattr(extractor, name), choices)
    rate = np.nan
    if extractor.sample_rate_hz is not None:
        rate = checked_rate(extractor.sample_rate_hz)
    needing = plan.needing_rate(slope_per_second=extractor.slope_per == "second")
    if needing and np.isnan(rate):
        raise ValueError(f"`sample_rate_hz` must be given for {needing[0]!r}, but is None instead.")
    return Settings(
        sample_rate_hz=rate,
        slope_rate_hz=1.0 if extractor.slope_per == "sample" else rate,
        ddof=checked_count("ddof", extractor.ddof, at_least=0),
        gravity=1.0 if extractor.acceleration_unit == "g" else STANDARD_GRAVITY_M_S2,
        undefined=0.0 if extractor.undefined == "zero" else np.nan,
        taper=extractor.taper,
        weight_by_magnitude=extractor.centroid_weight == "magnitude",
    )
