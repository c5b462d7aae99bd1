"""How far a kernel may be off its reference: bounds for every feature and window.

NOTE [Error bounds]
Kernel and reference both work in float64 on the same samples, so all that may lie between them is
rounding. The bounds are those of forward error analysis: a sum of W terms in any order is off by at
most W * U * (sum of magnitudes), a centred sample by the error of the mean and one rounding, and
what is computed of them by the first derivative. They are doubled, for both sides round. A feature
that divides by something that is itself lost in rounding (the second difference of a straight
line) has an infinite bound: every value is as good as any other there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "LAGS",
    "PERCENTILES",
    "SINGLE_U",
    "U",
    "correlation_bound",
    "moment_bounds",
    "order_bounds",
    "rounding",
    "temporal_bounds",
    "triad_bounds",
]

U = 2.0**-53  # unit roundoff of float64
SINGLE_U = 2.0**-24  # of float32
LAGS = (1, 2, 7, 40)
PERCENTILES = (5, 25, 50, 75, 90)


def rounding(dtype: Any) -> float:
    """Relative error of rounding a float64 to the dtype."""
    return SINGLE_U if np.dtype(dtype) == np.float32 else 0.0


def _centred(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deviations from the mean, and how far mean and deviations may be off."""
    width = samples.shape[1]
    anchored = samples - samples[:, :1]
    c = anchored - anchored.mean(1, keepdims=True)
    reach = np.abs(anchored).max(1)
    # The anchored sum, its division, and the anchor added; nothing rounds in a constant window.
    mean_error = np.where(reach > 0, U * (np.abs(samples).max(1) + (width + 3) * reach), 0.0)
    return c, mean_error, mean_error + U * np.abs(c).max(1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient, 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = numerator / denominator
    return np.where(numerator == 0, 0.0, found)


def _unless_lost(bound: np.ndarray, *relative_errors: np.ndarray) -> np.ndarray:
    """No bound where a denominator is off by more than a tenth: the first order says nothing."""
    is_lost = np.any([~(error <= 0.1) for error in relative_errors], axis=0)
    found: np.ndarray = np.where(is_lost, np.inf, bound)
    return found


def _squares(c: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of squares, how far it may be off, and the same relative to it."""
    width = c.shape[1]
    total = (c**2).sum(1)
    bound = 2 * error * np.abs(c).sum(1) + width * error**2 + (width + 2) * U * total
    return total, bound, _ratio(bound, total)


def moment_bounds(
    samples: np.ndarray, *, slope_rate_hz: float = 1.0, ddof: int = 0
) -> dict[str, np.ndarray]:
    """Bounds of the errors of `moments`."""
    width = samples.shape[1]
    c, mean_error, error = _centred(samples)
    size = np.abs(c)
    square, d2, r2 = _squares(c, error)
    m2 = square / width
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.where(m2 > 0, (c**3).mean(1) / m2**1.5, 0.0)
        fourth = np.where(m2 > 0, (c**4).mean(1) / m2**2, 0.0)
        third = np.where(m2 > 0, (size**3).mean(1) / m2**1.5, 0.0)
    d3 = 3 * error * square + 3 * error**2 * size.sum(1) + width * error**3
    d4 = 4 * error * (size**3).sum(1) + 6 * error**2 * square
    d4 = d4 + 4 * error**3 * size.sum(1) + width * error**4
    mean = np.abs(samples.mean(1)) + mean_error
    energy = (samples**2).mean(1)
    energy_error = 2 * mean * mean_error + d2 / width + (width + 8) * U * energy
    times = np.arange(width) - (width - 1) / 2
    trend_error = error * np.abs(times).sum() + (width + 3) * U * (size * np.abs(times)).sum(1)
    spread = max((times**2).sum(), 1.0)
    # A sample so near to the mean that rounding decides on its side makes or unmakes two changes.
    crossings = 2.0 * (size < 2 * error[:, None]).sum(1)
    with np.errstate(divide="ignore"):
        var_error = (d2 + 2 * U * square) / (width - ddof)
    var = square / max(width - ddof, 1)
    nothing = np.zeros(len(samples))
    found = {
        "mean": mean_error,
        "std": _root_error(var_error, var),
        "var": var_error,
        "min": nothing,
        "max": nothing,
        "ptp": nothing,
        "mean_ad": error + (width + 2) * U * size.mean(1),
        "rms": _root_error(energy_error, energy),
        "energy": energy_error,
        "abs_energy": width * energy_error,
        "skew": _unless_lost(
            _ratio(d3 / width, m2**1.5)
            + (width + 4) * U * third
            + np.abs(skew) * (1.5 * r2 + 8 * U),
            r2,
        ),
        "kurtosis": _unless_lost(
            _ratio(d4 / width, m2**2) + fourth * (2 * r2 + (width + 13) * U) + 8 * U, r2
        ),
        "zcr": nothing + 4 * U,
        "mcr": crossings / max(width - 1, 1) + 4 * U,
        "zcr_count": nothing,
        "mcr_count": crossings,
        "slope": (trend_error / spread + 4 * U * np.abs((c * times).sum(1)) / spread)
        * slope_rate_hz,
        "autocorr_lag1": autocorrelation_bound(c, error, 1),
    }
    return {name: 2 * bound for name, bound in found.items()}


def _root_error(bound: np.ndarray, value: np.ndarray) -> np.ndarray:
    """How far a root may be off, of a value and its bound."""
    root = np.sqrt(value)
    return np.minimum(_ratio(bound, root), np.sqrt(bound)) + 2 * U * root


def autocorrelation_bound(c: np.ndarray, error: np.ndarray, lag: int) -> np.ndarray:
    square, d2, r2 = _squares(c, error)
    del square, lag  # at any lag: the products are no larger than the squares
    return _unless_lost(2 * r2 + 6 * U + 0 * d2, r2)


def order_bounds(
    samples: np.ndarray, *, percentiles: Sequence[int] = PERCENTILES
) -> dict[str, np.ndarray]:
    """Bounds of the errors of `order`: of the interpolation, and of the place in the sorted row."""
    width = samples.shape[1]
    bound = 4 * U * np.abs(samples).max(1) + (width + 4) * U * np.ptp(samples, axis=1)
    found = {"median": bound, "iqr": 2 * bound, "mad": 2 * bound}
    found |= {f"q{percentile}": bound for percentile in percentiles}
    return {name: 2 * bound for name, bound in found.items()}


def temporal_bounds(samples: np.ndarray, *, lags: Sequence[int] = LAGS) -> dict[str, np.ndarray]:
    """Bounds of the errors of `temporal`."""
    width = samples.shape[1]
    c, _, error = _centred(samples)
    largest = np.abs(c).max(1)
    steps, turns = np.diff(c, axis=1), np.diff(c, 2, axis=1)
    _, _, r2 = _squares(c, error)
    # The error of the mean is the same in all samples: of differences only the roundings are left.
    step_error = 4 * U * largest
    length = np.abs(steps).sum(1)
    wave_error = width * step_error + (width + 2) * U * length
    is_doubtful = (np.diff(samples, axis=1) != 0) & (np.abs(steps) <= 2 * step_error[:, None])
    nothing = np.zeros(len(samples))
    mobility, complexity = nothing, nothing
    if width >= 3:
        rs = _relative_spread(steps, 6 * U * largest)
        rt = _relative_spread(turns, 12 * U * largest)
        hjorth = _hjorth(c)
        with np.errstate(invalid="ignore"):  # infinity times 0
            mobility = _unless_lost(hjorth[0] * (0.5 * (rs + r2) + 6 * U), rs, r2)
            complexity = _unless_lost(hjorth[1] * (0.5 * (rt + r2) + rs + 12 * U), rt, rs, r2)
    low, ptp = samples.min(1), np.ptp(samples, axis=1)
    edges = low[:, None] + ptp[:, None] / 10 * np.arange(1, 10)
    distance = np.abs(samples[:, :, None] - edges[:, None]).min(2, initial=np.inf)
    # A sample on an edge is in one bin or in the other, which moves two terms of the entropy.
    on_edge = (distance <= (32 * U * largest + 4 * U * np.abs(low))[:, None]) & (ptp > 0)[:, None]
    per_sample = 2 * (np.log2(width) + 1.5) / width
    found = {
        "mean_abs_diff": wave_error / max(width - 1, 1),
        "wave_length": wave_error,
        "n_turning": 2.0 * is_doubtful.sum(1),
        "hjorth_mobility": mobility,
        "hjorth_complexity": complexity,
        "hist_entropy": on_edge.sum(1) * per_sample + 80 * U,
    }
    for number, bound in enumerate(_burg_bounds(c, error), 1):
        found[f"ar{number}"] = bound
    for lag in lags:
        found[f"autocorr_lag{lag}"] = autocorrelation_bound(c, error, lag)
    return {name: 2 * bound for name, bound in found.items()}


def _hjorth(c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mobility and complexity, 0 where they are undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mobility = np.sqrt(np.diff(c, axis=1).var(1) / c.var(1))
        complexity = np.sqrt(np.diff(c, 2, axis=1).var(1) / np.diff(c, axis=1).var(1)) / mobility
    return tuple(np.where(np.isfinite(found), found, 0.0) for found in (mobility, complexity))  # type: ignore[return-value]


def _relative_spread(differences: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Relative error of the variance of differences that are off by so much each."""
    width = differences.shape[1]
    deviations = differences - differences.mean(1, keepdims=True)
    error = error + (width + 3) * U * np.abs(differences).max(1)
    return _squares(deviations, error)[2]


def _burg_bounds(c: np.ndarray, error: np.ndarray, degree: int = 4) -> list[np.ndarray]:
    """Follow the recursion and let its errors grow with it."""
    ahead, behind = c[:, 1:], c[:, :-1]
    off = error  # of each forward and backward error
    values = np.empty((len(c), 0))
    bounds = np.empty((len(c), 0))
    for _ in range(degree):
        length = ahead.shape[1]
        size = np.abs(ahead).sum(1) + np.abs(behind).sum(1)
        largest = np.maximum(np.abs(ahead).max(1, initial=0), np.abs(behind).max(1, initial=0))
        power = (ahead**2).sum(1) + (behind**2).sum(1)
        reflection = _ratio(2 * (ahead * behind).sum(1), power)
        with np.errstate(invalid="ignore"):  # infinity times 0, where all is lost
            power_off = 2 * off * size + 2 * length * off**2 + (length + 2) * U * power
            relative = _ratio(power_off, power)
            reflection_off = _unless_lost(2 * relative + 3 * U, relative)
            k, dk = reflection[:, None], reflection_off[:, None]
            before, mirrored = np.abs(values), np.abs(values[:, ::-1])
            grown = bounds + np.abs(k) * bounds[:, ::-1] + dk * mirrored
            grown = grown + 4 * U * (before + mirrored)
            off = off * (1 + np.abs(reflection)) + (reflection_off + 3 * U) * largest
        bounds = np.nan_to_num(np.concatenate([grown, dk], 1), nan=np.inf, posinf=np.inf)
        off = np.nan_to_num(off, nan=np.inf, posinf=np.inf)
        values = np.concatenate([values - k * values[:, ::-1], k], axis=1)
        ahead, behind = (ahead - k * behind)[:, 1:], (behind - k * ahead)[:, :-1]
    return list(bounds.T)


def correlation_bound(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Bound of the error of `correlation`."""
    width = first.shape[1]
    a, _, error_a = _centred(first)
    b, _, error_b = _centred(second)
    (square_a, _, ra), (square_b, _, rb) = _squares(a, error_a), _squares(b, error_b)
    product = np.abs(a * b).sum(1)
    off = error_a * np.abs(b).sum(1) + error_b * np.abs(a).sum(1) + width * error_a * error_b
    off = off + (width + 3) * U * product
    return 2 * _unless_lost(
        _ratio(off, np.sqrt(square_a) * np.sqrt(square_b)) + 0.5 * (ra + rb) + 6 * U, ra, rb
    )


def triad_bounds(triad: np.ndarray) -> dict[str, np.ndarray]:
    """Bounds of the errors of `triad_features`; of windows [windows, 3, time] in their dtype."""
    width = triad.shape[2]
    samples = triad.astype(np.float64)
    norm = np.sqrt((samples**2).sum(1))
    # The norm is stored in the dtype of the samples: its square and its root are rounded to it.
    norm_error = (1.5 * rounding(triad.dtype) + 4 * U) * norm.max(1)
    mean_size = np.abs(samples).mean(2)
    x, y, z = samples.mean(2).T
    # The reference's mean is not anchored.
    dx, dy, dz = ((width + 6) * U * (mean_size + np.abs(samples).max(2))).T
    whole = _ratio(np.hypot(np.hypot(dx, dy), dz), np.hypot(np.hypot(x, y), z))
    across = _ratio(np.hypot(dy, dz), np.hypot(y, z))
    angle = _unless_lost(2 * whole + 16 * U, whole)
    found = {
        "sma": (width + 4) * U * mean_size.sum(1),
        "enmo": norm_error + (width + 3) * U * norm.max(1),
        "mad_mag": 2 * norm_error + (3 * width + 8) * U * norm.max(1),
        "pitch": angle,
        "roll": _unless_lost(2 * across + 16 * U, across),
        "angle_x": angle,
        "angle_y": angle,
        "angle_z": angle,
    }
    return {name: 2 * bound for name, bound in found.items()}
