"""Moments, extremes, crossings and trend of windows, in plain NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = ["moments"]


def moments(
    windows: Float64[np.ndarray, "windows time"],
    *,
    slope_rate_hz: float = 1.0,
    ddof: int = 0,
    undefined: float = np.nan,
) -> dict[str, Float64[np.ndarray, " windows"]]:
    """Every feature of the family, by name.

    Args:
        windows: Samples of one channel, in any unit *u*. A window with a NaN or an infinity has NaN
            in all features.
        slope_rate_hz: Samples per second, for a slope in *u*/s; 1 for a slope per sample.
        ddof: Variance is divided by the number of samples less this.
        undefined: What stands for a ratio to a variance of 0, or for what one sample cannot say.

    Returns:
        One value per window and feature.

    Source:
        Definitions; skewness and excess kurtosis are the biased ones (g1, g2).
    """
    num_samples = windows.shape[1]
    steps = num_samples - 1
    anchor = windows[:, :1]
    mean = anchor + (windows - anchor).mean(1, keepdims=True)
    c = windows - mean
    m2 = (c**2).mean(1)
    is_varied = m2 > 0
    safe = np.where(is_varied, m2, 1.0)
    times = np.arange(num_samples) - steps / 2
    zero_count = np.diff(windows > 0, axis=1).sum(1).astype(float)
    mean_count = np.diff(c > 0, axis=1).sum(1).astype(float)
    one_sample = np.full(len(windows), undefined)
    variance = (c**2).sum(1) / (num_samples - ddof) if num_samples > ddof else one_sample
    found = {
        "mean": mean[:, 0],
        "std": np.sqrt(variance),
        "var": variance,
        "min": windows.min(1),
        "max": windows.max(1),
        "ptp": np.ptp(windows, axis=1),
        "mean_ad": np.abs(c).mean(1),
        "rms": np.sqrt((windows**2).mean(1)),
        "energy": (windows**2).mean(1),
        "abs_energy": (windows**2).sum(1),
        "skew": np.where(is_varied, (c**3).mean(1) / safe**1.5, undefined),
        "kurtosis": np.where(is_varied, (c**4).mean(1) / safe**2 - 3, undefined),
        "zcr": zero_count / steps if steps else one_sample,
        "mcr": mean_count / steps if steps else one_sample,
        "zcr_count": zero_count,
        "mcr_count": mean_count,
        "slope": (c * times).sum(1) / (times**2).sum() * slope_rate_hz if steps else one_sample,
        "autocorr_lag1": np.where(
            is_varied, (c[:, 1:] * c[:, :-1]).sum(1) / (safe * num_samples), undefined
        ),
    }
    is_whole = np.isfinite(windows).all(1)
    return {name: np.where(is_whole, values, np.nan) for name, values in found.items()}
