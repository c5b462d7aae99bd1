"""One function for each family of features: windows in, a dictionary of arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from smoothdistill.features.extractor import FeatureExtractor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Float64

    FamilyValues = dict[str, Float64[np.ndarray, "windows channels"]]

__all__ = ["catch22", "complexity", "cross_channel", "moments", "order", "spectral", "temporal"]


def moments(
    windows: Float[np.ndarray, "windows channels time"],
    *,
    sample_rate_hz: float | None = None,
    ddof: int = 0,
) -> FamilyValues:
    """Mean, deviation, extremes, energy, skewness, kurtosis, crossings and slope.

    Args:
        windows: Samples, in any unit *u*. A NaN makes the features of its window and channel NaN.
        sample_rate_hz: Samples per second, for slopes in *u*/s; None gives them per sample.
        ddof: Variance is divided by the number of samples less this, at least 0.

    Returns:
        An array [windows, channels] for each feature of the family in `catalog()`.

    Raises:
        TypeError: If the windows are no real numbers.
        ValueError: If their shape is wrong, or an option breaks its rule.

    Source:
        Definitions, see `catalog()`.
    """
    extractor = FeatureExtractor(
        "moments",
        sample_rate_hz=sample_rate_hz,
        ddof=ddof,
        slope_per="sample" if sample_rate_hz is None else "second",
    )
    return _by_feature(extractor, windows)


def order(
    windows: Float[np.ndarray, "windows channels time"], *, percentiles: Sequence[int] = (25, 75)
) -> FamilyValues:
    """Median, interquartile range, median absolute deviation and percentiles.

    Args:
        windows: Samples, in any unit. A NaN makes the features of its window and channel NaN.
        percentiles: The q of the features `q{q}`, in percent, inside (0, 100).

    Returns:
        An array [windows, channels] for each feature.

    Raises:
        TypeError: If the windows are no real numbers.
        ValueError: If their shape is wrong, or a percentile is outside.

    Source:
        Hyndman and Fan, Sample quantiles in statistical packages, 1996, definition 7.
    """
    names = ["order", *(f"q{percentile:g}" for percentile in percentiles)]
    return _by_feature(FeatureExtractor(names), windows)


def temporal(
    windows: Float[np.ndarray, "windows channels time"], *, lags: Sequence[int] = (1,)
) -> FamilyValues:
    """Autocorrelations, differences, turns, Hjorth's parameters, autoregression, histogram entropy.

    Args:
        windows: Samples, in any unit *u*. A NaN makes the features of its window and channel NaN.
        lags: The k of the features `autocorr_lag{k}`, in samples, at least 1.

    Returns:
        An array [windows, channels] for each feature of the family in `catalog()`.

    Raises:
        TypeError: If the windows are no real numbers.
        ValueError: If their shape is wrong, or a lag is below 1.

    Source:
        Hjorth 1970; Burg 1975; otherwise definitions, see `catalog()`.
    """
    names = ["temporal", *(f"autocorr_lag{lag}" for lag in lags)]
    return _by_feature(FeatureExtractor(names), windows)


def cross_channel(
    windows: Float[np.ndarray, "windows channels time"],
    *,
    channel_names: Sequence[str] = ("x", "y", "z"),
    acceleration_unit: Literal["m/s^2", "g"] = "m/s^2",
) -> dict[str, Float64[np.ndarray, " windows"]]:
    """Correlations of all pairs of channels, and features of triads of axes.

    Args:
        windows: Samples. A NaN makes the features that its channel is part of NaN.
        channel_names: One name per channel; x, y, z or stem_x, stem_y, stem_z are a triad.
        acceleration_unit: "m/s^2" or "g": what `enmo` takes for 1 g.

    Returns:
        An array [windows] for each column, such as "corr_x_y" and "xyz__sma".

    Raises:
        TypeError: If the windows are no real numbers.
        ValueError: If their shape is wrong, or a name is unsafe.

    Source:
        See `catalog()`.
    """
    extractor = FeatureExtractor(
        "cross_channel", channel_names=channel_names, acceleration_unit=acceleration_unit
    )
    table = extractor.extract(windows)
    return dict(zip(table.names, table.values.T, strict=True))


def spectral(
    windows: Float[np.ndarray, "windows channels time"],
    *,
    sample_rate_hz: float,
    bands_hz: Sequence[tuple[float, float]] | None = None,
    taper: Literal["none", "hann"] = "none",
    centroid_weight: Literal["power", "magnitude"] = "power",
) -> FamilyValues:
    """Features of the power spectrum of the demeaned windows.

    Args:
        windows: Samples, in any unit *u*. A NaN makes the features of its window and channel NaN.
        sample_rate_hz: Samples per second, above 0.
        bands_hz: Edges of frequency bands, in Hz; the default is `FeatureExtractor`'s.
        taper: "none" or "hann".
        centroid_weight: "power" or "magnitude".

    Returns:
        An array [windows, channels] for each feature of the preset "spectral".

    Raises:
        TypeError: If the windows are no real numbers.
        ValueError: If their shape is wrong, or an option breaks its rule.

    Source:
        See `catalog()`.
    """
    extractor = FeatureExtractor(
        "spectral",
        sample_rate_hz=sample_rate_hz,
        bands_hz=bands_hz,
        taper=taper,
        centroid_weight=centroid_weight,
    )
    return _by_feature(extractor, windows)


def complexity(windows: Float[np.ndarray, "windows channels time"]) -> FamilyValues:
    """Sample and permutation entropy, Higuchi's fractal dimension, detrended fluctuation.

    Args:
        windows: Samples, in any unit. A NaN makes the features of its window and channel NaN.

    Returns:
        An array [windows, channels] for each feature of the family in `catalog()`.

    Raises:
        TypeError: If the windows are no real numbers.
        ValueError: If their shape is wrong.

    Source:
        See `catalog()`.
    """
    return _by_feature(FeatureExtractor("complexity"), windows)


def catch22(windows: Float[np.ndarray, "windows channels time"]) -> FamilyValues:
    """The 22 canonical features of time series.

    Args:
        windows: Samples, in any unit; each window is z-scored first. A NaN makes the features of
            its window and channel NaN.

    Returns:
        An array [windows, channels] for each feature of the family in `catalog()`.

    Raises:
        TypeError: If the windows are no real numbers.
        ValueError: If their shape is wrong.

    Source:
        Lubba et al., catch22: CAnonical Time-series CHaracteristics, Data Mining and Knowledge
        Discovery 33, 2019.
    """
    return _by_feature(FeatureExtractor("catch22"), windows)


def _by_feature(
    extractor: FeatureExtractor, windows: Float[np.ndarray, "windows channels time"]
) -> FamilyValues:
    table = extractor.extract(windows)
    num_channels = len(extractor.channel_names_)
    num_features = len(table.names) // num_channels
    values = table.values.T.reshape(num_channels, num_features, len(table))
    bare = [name.partition("__")[2] for name in table.names[:num_features]]
    return {name: values[:, number].T for number, name in enumerate(bare)}
