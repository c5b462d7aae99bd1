"""How the samples of windows follow each other, in plain NumPy, one window at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float64

__all__ = ["burg", "temporal"]

NUM_BINS = 10
AR_ORDER = 4


def temporal(
    windows: Float64[np.ndarray, "windows time"],
    *,
    lags: Sequence[int] = (),
    undefined: float = np.nan,
) -> dict[str, Float64[np.ndarray, " windows"]]:
    """Every feature of the family, by name.

    Args:
        windows: Samples of one channel, in any unit *u*. A window with a NaN or an infinity has NaN
            in all features.
        lags: The k of the features `autocorr_lag{k}`, in samples, at least 1.
        undefined: What stands for a ratio to a variance of 0, and where the window is too short.

    Returns:
        One value per window and feature.

    Source:
        Hjorth, EEG analysis based on time domain properties, 1970; Burg, Maximum entropy spectral
        analysis, 1975; otherwise definitions.
    """
    rows = [_features(window, lags, undefined) for window in windows]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _features(
    window: Float64[np.ndarray, " time"], lags: Sequence[int], undefined: float
) -> dict[str, float]:
    num_samples = len(window)
    c = window - (window[0] + (window - window[0]).mean())
    steps, turns = np.diff(c), np.diff(c, 2)
    is_varied = bool((c**2).sum() > 0)
    found = {
        "mean_abs_diff": float(np.abs(steps).mean()) if num_samples > 1 else undefined,
        "wave_length": float(np.abs(steps).sum()),
        "n_turning": float((steps[1:] * steps[:-1] < 0).sum()),
        "hjorth_mobility": undefined,
        "hjorth_complexity": undefined,
        "hist_entropy": _histogram_entropy(window - window[0]),
    }
    if num_samples >= 3 and is_varied:
        mobility = np.sqrt(steps.var() / c.var())
        found["hjorth_mobility"] = float(mobility)
        if steps.var() > 0:
            found["hjorth_complexity"] = float(np.sqrt(turns.var() / steps.var()) / mobility)
    has_order = is_varied and num_samples > AR_ORDER
    coefficients = burg(c, AR_ORDER) if has_order else [undefined] * AR_ORDER
    for number, coefficient in enumerate(coefficients, 1):
        found[f"ar{number}"] = float(coefficient)
    for lag in lags:
        is_defined = is_varied and lag < num_samples
        found[f"autocorr_lag{lag}"] = (
            float((c[lag:] * c[:-lag]).sum() / (c**2).sum()) if is_defined else undefined
        )
    if not np.isfinite(window).all():
        return dict.fromkeys(found, np.nan)
    return found


def _histogram_entropy(values: Float64[np.ndarray, " time"]) -> float:
    """Shannon entropy, in bits, of 10 bins of equal width between the extremes."""
    low, high = values.min(), values.max()
    if not (high > low and np.isfinite(values).all()):
        return 0.0
    number = np.arange(1, NUM_BINS)
    # Ten times the edges: nothing is rounded of counts, which often lie on one.
    edges = low * (NUM_BINS - number) + high * number
    bins = np.searchsorted(edges, NUM_BINS * values, side="right")
    counts = np.bincount(bins, minlength=NUM_BINS)
    shares = counts[counts > 0] / len(values)
    return float(-(shares * np.log2(shares)).sum())


def burg(values: Float64[np.ndarray, " time"], degree: int) -> Float64[np.ndarray, " degree"]:
    """Coefficients of x[t] = sum of a[k] x[t - k], by the least error forwards and backwards."""
    forward, backward = values[1:], values[:-1]
    coefficients = np.empty(0)
    for _ in range(degree):
        power = (forward**2).sum() + (backward**2).sum()
        reflection = 2 * (forward * backward).sum() / power if power > 0 else 0.0
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        forward, backward = (
            (forward - reflection * backward)[1:],
            (backward - reflection * forward)[:-1],
        )
    return coefficients
