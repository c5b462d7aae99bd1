"""Every definition that a provider follows, in extended precision, straight from its formula.

Plain names are the definitions of this project. A name with a suffix is how others define the same
word: every provider is held to its own definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from rivals.workload import CHANNEL_PAIRS, SAMPLE_RATE_HZ, Case

Windows = NDArray[np.longdouble]  # [windows, channels, time]
Values = NDArray[np.longdouble]  # [windows, channels]

BANDS_HZ = ((0.3, 3.0), (3.0, 8.0), (8.0, 15.0), (15.0, SAMPLE_RATE_HZ / 2))


def _centred(x: Windows) -> Windows:
    return x - x.mean(axis=-1, keepdims=True)


def _moment(x: Windows, power: int) -> Values:
    return (_centred(x) ** power).mean(axis=-1)


def _skew(x: Windows) -> Values:
    return _moment(x, 3) / _moment(x, 2) ** np.longdouble(1.5)


def _kurtosis(x: Windows) -> Values:
    return _moment(x, 4) / _moment(x, 2) ** 2 - 3


def _skew_unbiased(x: Windows) -> Values:
    n = np.longdouble(x.shape[-1])
    return _skew(x) * np.sqrt(n * (n - 1)) / (n - 2)


def _kurtosis_unbiased(x: Windows) -> Values:
    n = np.longdouble(x.shape[-1])
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * _kurtosis(x) + 6)


def _quantile(x: Windows, share: float) -> Values:
    return np.quantile(x, share, axis=-1)


def _mad(x: Windows) -> Values:
    return np.median(np.abs(x - np.median(x, axis=-1, keepdims=True)), axis=-1)


def _changes(above: NDArray[np.bool_]) -> Values:
    return (above[..., 1:] != above[..., :-1]).sum(axis=-1).astype(np.longdouble)


def _sign_changes(x: Windows) -> Values:
    return (np.diff(np.sign(x), axis=-1) != 0).sum(axis=-1).astype(np.longdouble)


def _slope_per_sample(x: Windows) -> Values:
    time = np.arange(x.shape[-1], dtype=np.longdouble)
    time -= time.mean()
    return (x * time).sum(axis=-1) / (time * time).sum()


def _autocovariance_sum(x: Windows) -> Values:
    c = _centred(x)
    return (c[..., 1:] * c[..., :-1]).sum(axis=-1)


def _autocorr(x: Windows) -> Values:
    return _autocovariance_sum(x) / (_centred(x) ** 2).sum(axis=-1)


def _autocorr_pearson(x: Windows) -> Values:
    early, late = _centred(x[..., :-1]), _centred(x[..., 1:])
    norm = np.sqrt((early**2).sum(axis=-1) * (late**2).sum(axis=-1))
    return (early * late).sum(axis=-1) / norm


def _sma(x: Windows) -> Values:
    return np.abs(x).sum(axis=1, keepdims=True).mean(axis=-1)


def _correlation(x: Windows) -> Values:
    c = _centred(x)
    norm = np.sqrt((c * c).sum(axis=-1))
    return np.stack(
        [(c[:, a] * c[:, b]).sum(axis=-1) / (norm[:, a] * norm[:, b]) for a, b in CHANNEL_PAIRS],
        axis=1,
    )


def _power(x: Windows) -> Windows:
    spectrum = scipy.fft.rfft(_centred(x), axis=-1)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def frequencies_hz(window_samples: int) -> NDArray[np.longdouble]:
    """f_k = k fs / W."""
    return np.arange(window_samples // 2 + 1) * np.longdouble(SAMPLE_RATE_HZ) / window_samples


def _dom_freq(x: Windows) -> Values:
    return frequencies_hz(x.shape[-1])[1 + _power(x)[..., 1:].argmax(axis=-1)]


def _dom_power(x: Windows) -> Values:
    return _power(x)[..., 1:].max(axis=-1)


def _entropy_bits(power: Windows) -> Values:
    share = power / power.sum(axis=-1, keepdims=True)
    logarithm = np.log2(np.where(share > 0, share, 1))
    return -(share * logarithm).sum(axis=-1)


def _spec_entropy(x: Windows) -> Values:
    return _entropy_bits(_power(x)) / np.log2(np.longdouble(x.shape[-1] // 2 + 1))


def _centroid(x: Windows) -> Values:
    power = _power(x)
    return (power * frequencies_hz(x.shape[-1])).sum(axis=-1) / power.sum(axis=-1)


def _band(low_hz: float, high_hz: float) -> Callable[[Windows], Values]:
    def band(x: Windows) -> Values:
        f = frequencies_hz(x.shape[-1])
        return _power(x)[..., (f >= low_hz) & (f < high_hz)].sum(axis=-1)

    return band


def _spec_entropy_one_sided(x: Windows) -> Values:
    power = _power(x)
    power[..., 1 : (x.shape[-1] + 1) // 2] *= 2  # a density of one side counts the other's power
    return _entropy_bits(power) / np.log2(np.longdouble(x.shape[-1] // 2 + 1))


def _centroid_magnitude_raw(x: Windows) -> Values:
    magnitude = np.abs(scipy.fft.rfft(x, axis=-1))
    return (magnitude * frequencies_hz(x.shape[-1])).sum(axis=-1) / magnitude.sum(axis=-1)


def _human_range_raw(x: Windows) -> Values:
    power = np.abs(scipy.fft.rfft(x, axis=-1)) ** 2
    f = frequencies_hz(x.shape[-1])
    low, high = np.abs(f - 0.6).argmin(), np.abs(f - 2.5).argmin()
    return power[..., low:high].sum(axis=-1) / power.sum(axis=-1)


def _padded_raw(x: Windows) -> tuple[Windows, NDArray[np.longdouble]]:
    length = 1 << (x.shape[-1] - 1).bit_length()
    power = np.abs(scipy.fft.rfft(x, length, axis=-1)) ** 2
    return power, np.arange(length // 2 + 1) * np.longdouble(SAMPLE_RATE_HZ) / length


def _dom_freq_padded_raw(x: Windows) -> Values:
    power, f = _padded_raw(x)
    allowed = f >= BANDS_HZ[0][0]
    return f[allowed][power[..., allowed].argmax(axis=-1)]


def _band_padded_raw(low_hz: float, high_hz: float) -> Callable[[Windows], Values]:
    def band(x: Windows) -> Values:
        power = _padded_raw(x)[0][..., :-1]
        # Its edges count as if the last bin but one lay at half the sample rate.
        f = np.linspace(0.0, SAMPLE_RATE_HZ / 2, power.shape[-1])
        return power[..., (f >= low_hz) & (f <= high_hz)].sum(axis=-1)

    return band


def band_name(low_hz: float, high_hz: float) -> str:
    """Name of a band's definition."""
    return f"band_{low_hz:g}_{high_hz:g}"


DEFINITIONS: dict[str, Callable[[Windows], Values]] = {
    "mean": lambda x: x.mean(axis=-1),
    "std": lambda x: np.sqrt(_moment(x, 2)),
    "var": lambda x: _moment(x, 2),
    "min": lambda x: x.min(axis=-1),
    "max": lambda x: x.max(axis=-1),
    "median": lambda x: np.median(x, axis=-1),
    "q25": lambda x: _quantile(x, 0.25),
    "q75": lambda x: _quantile(x, 0.75),
    "iqr": lambda x: _quantile(x, 0.75) - _quantile(x, 0.25),
    "rms": lambda x: np.sqrt((x * x).mean(axis=-1)),
    "mad": _mad,
    "skew": _skew,
    "kurtosis": _kurtosis,
    "zcr": lambda x: _changes(x > 0) / (x.shape[-1] - 1),
    "mcr": lambda x: _changes(_centred(x) > 0) / (x.shape[-1] - 1),
    "energy": lambda x: (x * x).mean(axis=-1),
    "ptp": lambda x: x.max(axis=-1) - x.min(axis=-1),
    "slope": lambda x: _slope_per_sample(x) * np.longdouble(SAMPLE_RATE_HZ),
    "autocorr_lag1": _autocorr,
    "sma": _sma,
    "corr": _correlation,
    "std_ddof1": lambda x: np.sqrt(_moment(x, 2) * x.shape[-1] / (x.shape[-1] - 1)),
    "var_ddof1": lambda x: _moment(x, 2) * x.shape[-1] / (x.shape[-1] - 1),
    "skew_unbiased": _skew_unbiased,
    "kurtosis_unbiased": _kurtosis_unbiased,
    "kurtosis_not_excess": lambda x: _kurtosis(x) + 3,
    "abs_energy": lambda x: (x * x).sum(axis=-1),
    "zcr_count": lambda x: _changes(x > 0),
    "zcr_sign_count": _sign_changes,
    "mcr_per_sample": lambda x: _sign_changes(_centred(x)) / x.shape[-1],
    "slope_per_sample": _slope_per_sample,
    "autocorr_adjusted": lambda x: _autocorr(x) * x.shape[-1] / (x.shape[-1] - 1),
    "autocorr_pearson": _autocorr_pearson,
    "dom_freq": _dom_freq,
    "dom_power": _dom_power,
    "spec_entropy": _spec_entropy,
    "centroid": _centroid,
    "power": lambda x: _power(x).sum(axis=-1),
    **{band_name(low, high): _band(low, high) for low, high in BANDS_HZ},
    "spec_entropy_one_sided": _spec_entropy_one_sided,
    "centroid_magnitude_raw": _centroid_magnitude_raw,
    "centroid_magnitude_raw_bins": lambda x: (
        _centroid_magnitude_raw(x) * x.shape[-1] / np.longdouble(SAMPLE_RATE_HZ)
    ),
    "human_range_raw": _human_range_raw,
    "dom_freq_padded_raw": _dom_freq_padded_raw,
    **{f"{band_name(low, high)}_padded_raw": _band_padded_raw(low, high) for low, high in BANDS_HZ},
}


def truth(case: Case, names: Iterable[str]) -> dict[str, Values]:
    """Values of the named definitions for every window of the case."""
    windows = case.windows().astype(np.longdouble)
    return {name: DEFINITIONS[name](windows) for name in names}
