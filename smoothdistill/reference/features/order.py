"""Order statistics of windows, in plain NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float64

__all__ = ["order"]


def order(
    windows: Float64[np.ndarray, "windows time"], *, percentiles: Sequence[int] = (25, 75)
) -> dict[str, Float64[np.ndarray, " windows"]]:
    """Every feature of the family, by name.

    Args:
        windows: Samples of one channel, in any unit. A window with a NaN or an infinity has NaN in
            all features.
        percentiles: The q of the features `q{q}`, in percent, inside (0, 100).

    Returns:
        One value per window and feature.

    Source:
        Hyndman and Fan, Sample quantiles in statistical packages, The American Statistician 1996,
        definition 7 (linear interpolation); the deviation from the median has scale 1.
    """
    median = np.median(windows, axis=1)
    found = {
        "median": median,
        "iqr": np.subtract(*np.quantile(windows, [0.75, 0.25], axis=1)),
        "mad": np.median(np.abs(windows - median[:, None]), axis=1),
    }
    for percentile in percentiles:
        found[f"q{percentile}"] = np.quantile(windows, percentile / 100, axis=1)
    is_whole = np.isfinite(windows).all(1)
    return {name: np.where(is_whole, values, np.nan) for name, values in found.items()}
