"""Plain NumPy twins of the 22 canonical features (catch22) of a window, in float64.

The definitions are those that were published in 2019, oddities included, as computed by pycatch22
below 0.6, aeon (given z-scores), sktime and others. pycatch22 0.6 changed four of them (periodicity
and ami_timescale grew by 1, both stretches count otherwise), pycatch22 1.0 most of the others.

Source of all: Lubba, Sethi, Knaute, Schultz, Fulcher & Jones 2019, "catch22: CAnonical Time-series
CHaracteristics", Data Min. Knowl. Discov. 33, 1821, after hctsa (Fulcher & Jones 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["FEATURES", "LEAST_SAMPLES", "catch22", "standardize"]


def catch22(
    window: Float64[np.ndarray, " time"], *, undefined: float = math.nan
) -> dict[str, float]:
    """All 22 features of one window, by short name.

    Args:
        window: Samples in any unit.
        undefined: What stands for a value that the definition does not give.

    Returns:
        Values by feature; all NaN if a sample is NaN or infinite.
    """
    if not np.isfinite(window).all():
        return dict.fromkeys(FEATURES, math.nan)
    values = dict.fromkeys(FEATURES, math.nan)
    if np.ptp(window) > 0.0:
        z = standardize(window)
        for name, feature in FEATURES.items():
            if len(window) >= LEAST_SAMPLES.get(name, 2):
                values[name] = feature(z)
    return {name: undefined if math.isnan(value) else value for name, value in values.items()}


def standardize(window: Float64[np.ndarray, " time"]) -> Float64[np.ndarray, " time"]:
    """z-scores, with n - 1 in the standard deviation; of a window that is not constant."""
    centred = window - _sum(window) / len(window)
    scores: Float64[np.ndarray, " time"]
    scores = centred / math.sqrt(_sum(centred**2) / (len(window) - 1))
    return scores


def _sum(values: Float64[np.ndarray, " time"]) -> float:
    """Sum from left to right, as all others add: coarse data lie on the borders of bins."""
    return float(np.cumsum(values)[-1])


def _autocorrelation(values: Float64[np.ndarray, " time"]) -> Float64[np.ndarray, " time"]:
    """At all lags, biased, 1 at lag 0."""
    centred = values - values.mean()
    products: Float64[np.ndarray, " time"] = np.correlate(centred, centred, "full")[
        len(values) - 1 :
    ]
    shares: Float64[np.ndarray, " time"] = products / products[0]
    return shares


def _first_zero(values: Float64[np.ndarray, " time"]) -> int:
    """First lag with an autocorrelation that is not above 0."""
    return int(np.argmax(_autocorrelation(values) <= 0.0))


def _histogram(
    values: Float64[np.ndarray, " time"], num_bins: int
) -> tuple[Int64[np.ndarray, " bins"], Float64[np.ndarray, " bins"]]:
    """Counts and centres of equally wide bins from the least to the greatest value."""
    step = (values.max() - values.min()) / num_bins
    places = ((values - values.min()) / step).astype(np.int64)
    counts = np.bincount(np.minimum(places, num_bins - 1), minlength=num_bins)
    edges = np.arange(num_bins + 1) * step + values.min()
    return counts, (edges[:-1] + edges[1:]) * 0.5


def _thirds(values: Float64[np.ndarray, " time"]) -> Int64[np.ndarray, " time"]:
    """0, 1 or 2 for values up to the first third of their distribution, up to the second, above."""
    low, high = np.quantile(values, [1.0 / 3.0, 2.0 * (1.0 / 3.0)], method="hazen")
    groups: Int64[np.ndarray, " time"] = (values > low).astype(np.int64) + (values > high)
    return groups


def _histogram_mode(z: Float64[np.ndarray, " time"], num_bins: int) -> float:
    """Centre of the fullest bin, or the mean of the centres of the fullest."""
    counts, centres = _histogram(z, num_bins)
    return float(centres[counts == counts.max()].mean())


def _acf_timescale(z: Float64[np.ndarray, " time"]) -> float:
    """Lag at which the autocorrelation falls below 1/e, interpolated between samples."""
    correlation = _autocorrelation(z)
    lag = int(np.argmax(correlation < math.exp(-1.0)))
    before, after = correlation[lag - 1 : lag + 1]
    return float(lag - 1 + (math.exp(-1.0) - before) / (after - before))


def _acf_first_min(z: Float64[np.ndarray, " time"]) -> float:
    """Lag of the first minimum of the autocorrelation; the window's length if there is none."""
    a = _autocorrelation(z)
    minima = np.flatnonzero((a[1:-1] < a[:-2]) & (a[1:-1] < a[2:]))
    return float(minima[0] + 1 if minima.size else len(z))


def _ami2(z: Float64[np.ndarray, " time"]) -> float:
    """Mutual information, in nats, of samples two apart in five bins that reach 0.1 beyond them."""
    step = (z.max() - z.min() + 0.2) / 5.0
    places = np.floor((z - (z.min() - 0.1)) / step).astype(np.int64)
    joint = np.zeros((5, 5))
    np.add.at(joint, (places[:-2], places[2:]), 1.0 / (len(z) - 2))
    product = joint.sum(axis=1)[:, None] * joint.sum(axis=0)
    return float(np.sum(joint[joint > 0] * np.log(joint[joint > 0] / product[joint > 0])))


def _trev(z: Float64[np.ndarray, " time"]) -> float:
    """Mean of the cubed steps."""
    return float(np.mean(np.diff(z) ** 3))


def _high_fluctuation(z: Float64[np.ndarray, " time"]) -> float:
    """Share of the steps above 0.04 in size."""
    return float(np.mean(np.abs(np.diff(z)) * 1000.0 > 40.0))


def _longest_stretch(is_inside: Float64[np.ndarray, " time"]) -> float:
    """Longest distance between two places outside, or from one to the last place.

    The first place counts as outside, so a stretch at the start is 1 shorter than one that follows.
    """
    ends = np.flatnonzero(~np.append(is_inside[:-1], False))
    return float(np.max(np.diff(np.append(0, ends))))


def _stretch_high(z: Float64[np.ndarray, " time"]) -> float:
    """Longest stretch above the mean, without the last sample."""
    return _longest_stretch((z - _sum(z) / len(z) > 0.0)[:-1])


def _stretch_decreasing(z: Float64[np.ndarray, " time"]) -> float:
    """Longest stretch of falling steps."""
    return _longest_stretch(np.diff(z) < 0.0)


def _transition_variance(z: Float64[np.ndarray, " time"]) -> float:
    """Variances of the columns of the matrix of transitions between thirds, summed.

    Only samples at multiples of the first zero of the autocorrelation are looked at.
    """
    groups = _thirds(z[:: _first_zero(z)])
    matrix = np.zeros((3, 3))
    np.add.at(matrix, (groups[:-1], groups[1:]), 1.0 / (len(groups) - 1))
    return float(matrix.var(axis=0, ddof=1).sum())


def _periodicity(z: Float64[np.ndarray, " time"]) -> float:
    """Lag, less 1, of the first peak of the autocovariance, without the trend; 0 if there is none.

    The trend is the least-squares cubic spline with one knot inside, at sample `time // 2 - 1`.
    A peak counts if it is above 0, and 0.01 above the last valley, of which there must be one.
    """
    num_samples = len(z)
    time = np.arange(num_samples) / num_samples
    knot = time[num_samples // 2 - 1]
    basis = np.stack([time**0, time, time**2, time**3, np.maximum(time - knot, 0.0) ** 3], axis=1)
    rest = z - basis @ np.linalg.lstsq(basis, z, rcond=None)[0]
    lags = range(1, math.ceil(num_samples / 3) + 1)
    covariance = [float(np.mean(rest[:-lag] * rest[lag:])) for lag in lags]
    valley = math.inf
    for i in range(1, len(covariance) - 1):
        before, here, after = covariance[i - 1 : i + 2]
        if before > here < after:
            valley = here
        if before < here > after and here >= 0.0 and here - valley >= 0.01:
            return float(i)
    return 0.0


def _embedding_dist(z: Float64[np.ndarray, " time"]) -> float:
    """Mean distance of the histogram of steps in a plane from the exponential law of equal mean.

    The plane is that of (z[t], z[t + tau]), with tau the first zero of the autocorrelation or
    a tenth of the window if that is less; the bins are Scott's. 0 where the steps hardly differ.
    """
    num_samples = len(z)
    tau = _first_zero(z)
    if tau > num_samples / 10:
        tau = num_samples // 10
    steps = np.diff(z)
    count = num_samples - tau - 1
    distances = np.sqrt(steps[:count] ** 2 + steps[tau : tau + count] ** 2)
    mean = _sum(distances) / count
    deviation = math.sqrt(_sum((distances - mean) ** 2) / (count - 1))
    if deviation < 0.001:
        return 0.0
    num_bins = math.ceil(np.ptp(distances) / (3.5 * deviation / count ** (1.0 / 3.0)))
    counts, centres = _histogram(distances, num_bins)
    return float(np.mean(np.abs(counts / count - np.exp(-centres / mean) / mean)))


def _ami_timescale(z: Float64[np.ndarray, " time"]) -> float:
    """Lag, less 1, of the first minimum of -log(1 - r^2) / 2 up to lag 40 or half the window.

    r is Pearson's correlation of the window with itself; that longest lag if there is no minimum.
    """
    longest = min(40, math.ceil(len(z) / 2))
    squares = np.full(longest, math.nan)
    for lag in range(1, longest + 1):
        head, tail = z[:-lag] - z[:-lag].mean(), z[lag:] - z[lag:].mean()
        variances = (head @ head) * (tail @ tail)
        if variances > 1e-20 * len(z) ** 2:  # else one part is constant but for rounding
            squares[lag - 1] = (head @ tail) ** 2 / variances
    inner = squares[1:-1]
    minima = np.flatnonzero((inner < squares[:-2]) & (inner < squares[2:]))
    return float(minima[0] + 1 if minima.size else longest)


def _whiten_timescale(z: Float64[np.ndarray, " time"]) -> float:
    """First zero of the autocorrelation of the steps, over that of the signal."""
    steps = np.diff(z)
    if np.sum((steps - steps.mean()) ** 2) <= 1e-26 * len(z):  # a ramp, but for rounding
        return math.nan
    return _first_zero(steps) / _first_zero(z)


def _outlier_timing(z: Float64[np.ndarray, " time"], sign: float) -> float:
    """Median, over thresholds 0, 0.01, 0.02, ..., of the median time of the samples not below.

    Thresholds go up to the greatest sample, as long as more than 2 % of the samples from 0 on, not
    counting one, are left. Time runs from -1 to 1.
    """
    values = sign * z
    if values.max() < 0.01:
        return 0.0
    medians = []
    for number in range(int(values.max() / 0.01 + 1.0)):
        times = np.flatnonzero(values >= number * 0.01) + 1
        if number > 0 and not (len(times) - 1) * 100.0 / np.sum(values >= 0.0) > 2.0:
            break
        medians.append(np.median(times) / (len(z) / 2.0) - 1.0)
    return float(np.median(medians))


def _spectrum(z: Float64[np.ndarray, " time"]) -> Float64[np.ndarray, " bins"]:
    """Power at the frequencies 2 pi k / size of the transform to the next power of two."""
    size = 2 ** math.ceil(math.log2(len(z)))
    power: Float64[np.ndarray, " bins"] = np.abs(np.fft.rfft(z, size)) ** 2 / len(z) / size
    power[1:-1] *= 2.0
    return power


def _low_freq_power(z: Float64[np.ndarray, " time"]) -> float:
    """Power in the lowest fifth of the frequencies."""
    power = _spectrum(z)
    return float(np.sum(power[: len(power) // 5]))


def _centroid_freq(z: Float64[np.ndarray, " time"]) -> float:
    """Angular frequency up to which more than half of the power lies, in radians a sample."""
    total = np.cumsum(_spectrum(z))
    return float(np.argmax(total > 0.5 * total[-1]) * math.pi / (len(total) - 1))


def _entropy_pairs(z: Float64[np.ndarray, " time"]) -> float:
    """Entropy, in nats, of the pairs of neighbouring samples in thirds of their values."""
    groups = _thirds(z)
    counts = np.bincount(3 * groups[:-1] + groups[1:])
    shares = counts[counts > 0] / (len(z) - 1)
    return float(-np.sum(shares * np.log(shares)))


def _fluctuation_break(
    z: Float64[np.ndarray, " time"], lag: int, spread: Callable[..., Float64[np.ndarray, "..."]]
) -> float:
    """Share of the scales before the break of the law of fluctuations.

    The sum of every `lag`-th sample is cut into segments of up to 50 lengths, evenly spaced by
    their logs from 5 to half the window; their fluctuation is the root mean square of `spread` of
    what a line leaves. Two lines, which share the point at the break and have 6 points at least,
    are fitted to its log; the break is where the lengths of their residuals add up to least.
    """
    num_samples = len(z)
    walk = np.cumsum(z[::lag][: num_samples // lag])
    lengths = np.exp(np.linspace(math.log(5.0), math.log(num_samples // 2), 50))
    scales = np.unique(np.floor(lengths + 0.5).astype(np.int64))
    logs = []
    for length in scales:
        segments = walk[: len(walk) // length * length].reshape(-1, length)
        basis = np.stack([np.ones(length), np.arange(length)], axis=1)
        lines = basis @ np.linalg.lstsq(basis, segments.T, rcond=None)[0]
        logs.append(0.5 * math.log(np.mean(spread(segments.T - lines) ** 2)))
    x, y = np.log(scales), np.array(logs)
    errors = [
        _line_error(x[:split], y[:split]) + _line_error(x[split - 1 :], y[split - 1 :])
        for split in range(6, len(x) - 5)
    ]
    return float((6 + np.argmin(errors)) / len(x))


def _line_error(x: Float64[np.ndarray, " points"], y: Float64[np.ndarray, " points"]) -> float:
    return float(np.linalg.norm(y - np.polyval(np.polyfit(x, y, 1), x)))


def _rs_range(z: Float64[np.ndarray, " time"]) -> float:
    """Break of the fluctuations that are ranges."""
    return _fluctuation_break(z, 1, lambda rest: np.ptp(rest, axis=0))


def _dfa(z: Float64[np.ndarray, " time"]) -> float:
    """Break of the fluctuations that are residuals, of every second sample."""
    return _fluctuation_break(z, 2, lambda rest: rest)


def _forecast_error(z: Float64[np.ndarray, " time"]) -> float:
    """Standard deviation of what the mean of the three samples before leaves of a sample."""
    return float(np.std(z[3:] - (z[:-3] + z[1:-2] + z[2:-1]) / 3.0, ddof=1))


FEATURES: dict[str, Callable[[Float64[np.ndarray, " time"]], float]] = {
    "catch22_mode_5": lambda z: _histogram_mode(z, 5),
    "catch22_mode_10": lambda z: _histogram_mode(z, 10),
    "catch22_acf_timescale": _acf_timescale,
    "catch22_acf_first_min": _acf_first_min,
    "catch22_ami2": _ami2,
    "catch22_trev": _trev,
    "catch22_high_fluctuation": _high_fluctuation,
    "catch22_stretch_high": _stretch_high,
    "catch22_transition_variance": _transition_variance,
    "catch22_periodicity": _periodicity,
    "catch22_embedding_dist": _embedding_dist,
    "catch22_ami_timescale": _ami_timescale,
    "catch22_whiten_timescale": _whiten_timescale,
    "catch22_outlier_timing_pos": lambda z: _outlier_timing(z, 1.0),
    "catch22_outlier_timing_neg": lambda z: _outlier_timing(z, -1.0),
    "catch22_low_freq_power": _low_freq_power,
    "catch22_stretch_decreasing": _stretch_decreasing,
    "catch22_entropy_pairs": _entropy_pairs,
    "catch22_rs_range": _rs_range,
    "catch22_dfa": _dfa,
    "catch22_centroid_freq": _centroid_freq,
    "catch22_forecast_error": _forecast_error,
}
"""Features of z-scores, by name."""

LEAST_SAMPLES = {
    "catch22_acf_first_min": 3,
    "catch22_ami2": 3,
    "catch22_whiten_timescale": 3,
    "catch22_embedding_dist": 3,
    "catch22_forecast_error": 5,
    "catch22_ami_timescale": 6,
    "catch22_periodicity": 10,
    "catch22_rs_range": 32,
    "catch22_dfa": 32,
}
"""Shortest windows, in samples, of the features that need more than 2."""
