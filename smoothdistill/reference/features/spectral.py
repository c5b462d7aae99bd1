"""Power, peaks, moments, entropy and bands of the spectra of windows, in plain NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float64

__all__ = ["power_spectra", "spectral"]


def power_spectra(
    windows: Float64[np.ndarray, "windows time"],
    *,
    taper: Float64[np.ndarray, " time"] | None = None,
) -> Float64[np.ndarray, "windows bins"]:
    """P_k = |rfft(x - mean)|^2 for k from 0 to W // 2.

    Args:
        windows: Samples of one channel, in any unit *u*.
        taper: What the demeaned samples are multiplied with; nothing if it is None or all 1, and
            P_0 is 0 then, as it is but for rounding.

    Returns:
        Power of each bin, in *u*².

    Source:
        Definition.
    """
    anchored = windows - windows[:, :1]
    c = anchored - anchored.mean(1, keepdims=True)
    is_tapered = taper is not None and bool((taper != 1.0).any())
    spectra = np.fft.rfft(c * taper if is_tapered else c, axis=1)
    powers = np.square(spectra.real) + np.square(spectra.imag)
    if not is_tapered:
        powers[:, 0] *= 0.0  # not = 0: a NaN stays one
    return powers


def spectral(
    windows: Float64[np.ndarray, "windows time"],
    *,
    sample_rate_hz: float,
    taper: Float64[np.ndarray, " time"] | None = None,
    weight_by_magnitude: bool = False,
    rolloffs: Sequence[float] = (),
    bands_hz: Sequence[tuple[float, float]] = (),
    undefined: float = np.nan,
) -> dict[str, Float64[np.ndarray, " windows"]]:
    """Every feature of the family, by name.

    Args:
        windows: Samples of one channel, in any unit *u*. A window with a NaN or an infinity has NaN
            in all features.
        sample_rate_hz: Samples per second, above 0.
        taper: As in `power_spectra`.
        weight_by_magnitude: Whether the centroid is weighted by the roots of the powers.
        rolloffs: Shares of the power, above 0 and at most 1.
        bands_hz: Lower edges, which belong to the band, and upper ones, which do not, in Hz.
        undefined: What a window without power gets for all that is no power, and one with all its
            power in one bin, but for what rounding spreads, for skewness and kurtosis.

    Returns:
        One value per window and feature, by name; roll-offs as "rolloff_{percent:g}", bands as
        "band_{lo:g}_{hi:g}" and "band_ratio_{lo:g}_{hi:g}".

    Source:
        Definitions. Skewness and kurtosis (which is not in excess of 3) are tsfel's formulas, with
        powers of the demeaned signal in place of magnitudes of the raw one.
    """
    num_samples = windows.shape[1]
    powers = power_spectra(windows, taper=taper)
    bins = np.arange(powers.shape[1])
    frequencies_hz = bins * sample_rate_hz / num_samples
    lines = powers[:, 1:]  # without the mean
    total = powers.sum(1)
    has_power = total > 0.0
    share = powers / np.where(has_power, total, 1.0)[:, None]
    peak = np.zeros(len(windows), np.int64)
    highest = np.zeros(len(windows))
    flatness = np.full(len(windows), undefined)
    if lines.shape[1]:
        peak = 1 + lines.argmax(1)
        highest = lines.max(1)
        mean = lines.mean(1)
        with np.errstate(divide="ignore"):  # the logarithm of a line of 0: the flatness is 0
            flatness = np.exp(np.log(lines).mean(1)) / np.where(mean > 0.0, mean, 1.0)
    logarithms = np.log2(np.where(share > 0.0, share, 1.0))
    most_bits = np.log2(max(len(bins), 2))
    centroid = share @ frequencies_hz
    distances = frequencies_hz - centroid[:, None]
    variance = (distances**2 * share).sum(1)
    spread = np.sqrt(variance)
    # Rounding spreads a single line by about its unit times all frequencies; that has no shape.
    is_spread = spread > 4 * np.finfo(np.float64).eps * len(bins) * sample_rate_hz / num_samples
    safe = np.where(is_spread, spread, 1.0)
    if weight_by_magnitude:
        amplitudes = np.sqrt(powers)
        sums = np.where(has_power, amplitudes.sum(1), 1.0)
        centroid = amplitudes @ frequencies_hz / sums

    def up_to(quantile: float) -> Float64[np.ndarray, " windows"]:
        reached = powers.cumsum(1) >= quantile * total[:, None]
        reached[:, -1] = True  # whatever rounding says
        found: Float64[np.ndarray, " windows"] = frequencies_hz[reached.argmax(1)]
        return found

    def chosen(
        is_defined: Bool[np.ndarray, " windows"], values: Float64[np.ndarray, " windows"]
    ) -> Float64[np.ndarray, " windows"]:
        return np.where(is_defined, values, undefined)

    found = {
        "power": total,
        "dom_freq": chosen(has_power, frequencies_hz[peak]),
        "dom_power": highest,
        "dom_ratio": chosen(has_power, highest / np.where(has_power, total, 1.0)),
        "centroid": chosen(has_power, centroid),
        "spread": chosen(has_power, spread),
        "spec_skew": chosen(has_power & is_spread, (distances**3 * share).sum(1) / safe**3),
        "spec_kurt": chosen(has_power & is_spread, (distances**4 * share).sum(1) / safe**4),
        "median_freq": chosen(has_power, up_to(0.5)),
        "spec_entropy": chosen(has_power, -(share * logarithms).sum(1) / most_bits),
        "spec_flatness": chosen(has_power, flatness),
        "max_index": chosen(has_power, peak.astype(np.float64)),
    }
    for quantile in rolloffs:
        found[f"rolloff_{100 * quantile:g}"] = chosen(has_power, up_to(quantile))
    for low, high in bands_hz:
        inside = powers[:, (frequencies_hz >= low) & (frequencies_hz < high)].sum(1)
        ratio = inside / np.where(has_power, total, 1.0)
        found[f"band_{low:g}_{high:g}"] = inside
        found[f"band_ratio_{low:g}_{high:g}"] = chosen(has_power, ratio)
    is_whole = np.isfinite(windows).all(1)
    return {name: np.where(is_whole, values, np.nan) for name, values in found.items()}
