"""Every feature by name: what it is, in which unit, and where it comes from; and the presets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

__all__ = [
    "FEATURES",
    "Feature",
    "catalog",
    "find",
    "write_number",
]

Family = Literal[
    "moments", "order", "temporal", "cross_channel", "spectral", "complexity", "catch22"
]


@dataclass(frozen=True)
class Feature:
    """One line of the catalog.

    Args:
        name: As it stands behind `{channel}__`; `{k}` and the like are numbers to fill in.
        family: The kernel that computes it.
        of: What it is computed of: a channel, a pair of channels, or a triad x, y, z.
        formula: With x the samples of a window, m their mean, c = x - m, W their number, dx their
            differences, and P_k = |rfft(c)_k|^2 at f_k = k fs / W, k = 0 .. W // 2.
        unit: Of the value, with *u* the signal's own.
        source: Who defined it, or "definition".
    """

    name: str
    family: Family
    of: Literal["channel", "pair", "triad"]
    formula: str
    unit: str
    source: str = "definition"

    @property
    def pattern(self) -> re.Pattern[str]:
        """What names of this feature look like, its numbers as groups."""
        number = r"(\d+(?:\.\d+)?)"
        return re.compile(re.sub(r"\\\{\w+\\\}", lambda _: number, re.escape(self.name)) + "$")

    def written(self, numbers: tuple[float, ...]) -> str:
        """The name with its numbers filled in, in their shortest form."""
        texts = iter(write_number(number) for number in numbers)
        return re.sub(r"\{\w+\}", lambda _: next(texts), self.name)


def write_number(number: float) -> str:
    """A number as it stands in names: all of its digits, and no exponent."""
    return str(np.format_float_positional(number, trim="-"))


def _channel(family: Family, *lines: tuple[str, ...]) -> tuple[Feature, ...]:
    return tuple(Feature(line[0], family, "channel", *line[1:]) for line in lines)


_ACCELEROMETRY = "van Hees et al., PLoS ONE 8(4), 2013"
_UCI = "Anguita et al., ESANN 2013"
_TSFEL = "Barandas et al., SoftwareX 11, 2020, of the demeaned signal and of power"

FEATURES: tuple[Feature, ...] = (
    *_channel(
        "moments",
        ("mean", "m = sum(x) / W", "u"),
        ("std", "sqrt(var)", "u"),
        ("var", "sum(c^2) / (W - ddof); ddof is 0 by default", "u^2"),
        ("min", "least x", "u"),
        ("max", "greatest x", "u"),
        ("ptp", "max - min", "u"),
        ("mean_ad", "mean |c|", "u"),
        ("rms", "sqrt(mean x^2), not demeaned", "u"),
        ("energy", "mean x^2", "u^2", _UCI),
        ("abs_energy", "sum x^2", "u^2"),
        ("skew", "g1 = mean c^3 / (mean c^2)^1.5, biased; undefined if nothing varies", "1"),
        ("kurtosis", "g2 = mean c^4 / (mean c^2)^2 - 3, biased, excess", "1"),
        ("zcr", "changes of (x > 0), divided by W - 1", "1"),
        ("mcr", "changes of (x > m), divided by W - 1", "1"),
        ("zcr_count", "changes of (x > 0)", "changes"),
        ("mcr_count", "changes of (x > m)", "changes"),
        ("slope", "least squares line over time", "u/s (u/sample by option)"),
    ),
    *_channel(
        "order",
        ("median", "middle of the sorted x", "u"),
        ("iqr", "q75 - q25", "u"),
        ("mad", "median |x - median|, scale 1", "u"),
        (
            "q{q}",
            "q-th percentile, linear interpolation",
            "u",
            "Hyndman and Fan, Am. Stat. 50, 1996, definition 7",
        ),
    ),
    *_channel(
        "temporal",
        ("autocorr_lag{k}", "sum c_t c_(t-k) / sum c^2, biased", "1"),
        ("mean_abs_diff", "mean |dx|", "u"),
        ("wave_length", "sum |dx|", "u"),
        ("n_turning", "number of t with dx_t dx_(t-1) < 0", "turns"),
        ("hjorth_mobility", "sqrt(var dx / var x)", "1", "Hjorth, EEG Clin. Neurophysiol., 1970"),
        (
            "hjorth_complexity",
            "mobility of dx / mobility of x",
            "1",
            "Hjorth, EEG Clin. Neurophysiol., 1970",
        ),
        ("hist_entropy", "Shannon entropy of 10 equal bins from min to max", "bits"),
        ("ar1", "c_t = sum ar_k c_(t-k) + error, Burg's method, order 4", "1", "Burg, 1975"),
        ("ar2", "as ar1", "1", "Burg, 1975"),
        ("ar3", "as ar1", "1", "Burg, 1975"),
        ("ar4", "as ar1", "1", "Burg, 1975"),
    ),
    Feature(
        "corr", "cross_channel", "pair", "Pearson: sum c_a c_b / sqrt(sum c_a^2 sum c_b^2)", "1"
    ),
    Feature("sma", "cross_channel", "triad", "mean (|x| + |y| + |z|)", "u", _UCI),
    Feature(
        "enmo", "cross_channel", "triad", "mean max(|(x, y, z)| - 1 g, 0)", "u", _ACCELEROMETRY
    ),
    Feature(
        "mad_mag",
        "cross_channel",
        "triad",
        "mean | |(x, y, z)| - its mean |",
        "u",
        "Vaha-Ypya et al., Clin. Physiol. Funct. Imaging 35, 2015",
    ),
    Feature("pitch", "cross_channel", "triad", "atan2(-m_x, sqrt(m_y^2 + m_z^2))", "rad"),
    Feature("roll", "cross_channel", "triad", "atan2(m_y, m_z)", "rad"),
    Feature(
        "angle_x", "cross_channel", "triad", "angle between x and (m_x, m_y, m_z)", "rad", _UCI
    ),
    Feature(
        "angle_y", "cross_channel", "triad", "angle between y and (m_x, m_y, m_z)", "rad", _UCI
    ),
    Feature(
        "angle_z", "cross_channel", "triad", "angle between z and (m_x, m_y, m_z)", "rad", _UCI
    ),
    *_channel(
        "spectral",
        ("power", "sum P_k", "u^2"),
        ("dom_freq", "f_k at the greatest P_k, k >= 1", "Hz"),
        ("dom_power", "greatest P_k, k >= 1", "u^2"),
        ("dom_ratio", "dom_power / power", "1"),
        ("centroid", "sum f P / sum P (sqrt(P) for P by option)", "Hz", f"{_UCI}: meanFreq"),
        ("spread", "sqrt(sum (f - centroid)^2 P / sum P)", "Hz", _TSFEL),
        ("spec_skew", "sum (f - centroid)^3 P / sum P / spread^3", "1", _TSFEL),
        ("spec_kurt", "sum (f - centroid)^4 P / sum P / spread^4", "1", _TSFEL),
        ("median_freq", "first f with half of the power up to it", "Hz"),
        (
            "spec_entropy",
            "-sum p log2 p / log2(W // 2 + 1), p = P / sum P",
            "1",
            "Inouye et al., 1991",
        ),
        ("spec_flatness", "geometric over arithmetic mean of P_k, k >= 1", "1"),
        ("max_index", "k of the greatest P_k, k >= 1", "1", f"{_UCI}: maxInds"),
        ("rolloff_{q}", "first f with q percent of the power up to it", "Hz"),
        ("band_{lo}_{hi}", "sum of P_k with lo <= f_k < hi", "u^2"),
        ("band_ratio_{lo}_{hi}", "band_{lo}_{hi} / power", "1"),
    ),
    *_channel(
        "complexity",
        (
            "sample_entropy",
            "-ln(A / B), matches of 3 and of 2 samples within 0.2 std",
            "nats",
            "Richman and Moorman, Am. J. Physiol. 278, 2000",
        ),
        (
            "perm_entropy",
            "Shannon entropy of the order of 3 neighbours",
            "bits",
            "Bandt and Pompe, Phys. Rev. Lett. 88, 2002",
        ),
        (
            "higuchi_fd",
            "fractal dimension from curve lengths at steps 1 to 10",
            "1",
            "Higuchi, Physica D 31, 1988",
        ),
        (
            "dfa",
            "exponent of the fluctuation about local lines",
            "1",
            "Peng et al., Chaos 5, 1995",
        ),
    ),
    *_channel(
        "catch22",
        *(
            (f"catch22_{name}", formula, "1", published)
            for name, published, formula in (
                ("mode_5", "DN_HistogramMode_5", "mode of a histogram of 5 bins"),
                ("mode_10", "DN_HistogramMode_10", "mode of a histogram of 10 bins"),
                ("acf_timescale", "CO_f1ecac", "lag where the autocorrelation falls below 1/e"),
                ("acf_first_min", "CO_FirstMin_ac", "first minimum of the autocorrelation"),
                ("ami2", "CO_HistogramAMI_even_2_5", "mutual information at lag 2, 5 bins"),
                ("trev", "CO_trev_1_num", "mean cubed difference"),
                ("high_fluctuation", "MD_hrv_classic_pnn40", "share of differences above 0.04 std"),
                (
                    "stretch_high",
                    "SB_BinaryStats_mean_longstretch1",
                    "longest stretch above the mean",
                ),
                (
                    "transition_variance",
                    "SB_TransitionMatrix_3ac_sumdiagcov",
                    "trace of the covariance of transitions between 3 symbols",
                ),
                ("periodicity", "PD_PeriodicityWang_th0_01", "first peak of a detrended acf"),
                (
                    "embedding_dist",
                    "CO_Embed2_Dist_tau_d_expfit_meandiff",
                    "misfit of distances in a 2-D embedding to an exponential",
                ),
                (
                    "ami_timescale",
                    "IN_AutoMutualInfoStats_40_gaussian_fmmi",
                    "first minimum of the mutual information",
                ),
                (
                    "whiten_timescale",
                    "FC_LocalSimple_mean1_tauresrat",
                    "change of the timescale after differencing",
                ),
                (
                    "outlier_timing_pos",
                    "DN_OutlierInclude_p_001_mdrmd",
                    "median place of ever larger outliers",
                ),
                (
                    "outlier_timing_neg",
                    "DN_OutlierInclude_n_001_mdrmd",
                    "median place of ever smaller outliers",
                ),
                (
                    "low_freq_power",
                    "SP_Summaries_welch_rect_area_5_1",
                    "power in the lowest fifth of frequencies",
                ),
                (
                    "stretch_decreasing",
                    "SB_BinaryStats_diff_longstretch0",
                    "longest stretch of decrease",
                ),
                (
                    "entropy_pairs",
                    "SB_MotifThree_quantile_hh",
                    "entropy of successive pairs of 3 symbols",
                ),
                (
                    "rs_range",
                    "SC_FluctAnal_2_rsrangefit_50_1_logi_prop_r1",
                    "share of scales of the first regime, rescaled range",
                ),
                (
                    "dfa",
                    "SC_FluctAnal_2_dfa_50_1_2_logi_prop_r1",
                    "share of scales of the first regime, detrended fluctuation",
                ),
                ("centroid_freq", "SP_Summaries_welch_rect_centroid", "centroid of the spectrum"),
                (
                    "forecast_error",
                    "FC_LocalSimple_mean3_stderr",
                    "error of forecasts by the mean of 3 samples",
                ),
            )
        ),
    ),
)


@lru_cache(maxsize=4096)
def find(name: str) -> tuple[Feature, tuple[float, ...]] | None:
    """The feature of a name and the numbers in it, or None: "q25" is `q{q}` with 25."""
    for feature in FEATURES:
        match = feature.pattern.match(name)
        if match:
            return feature, tuple(float(number) for number in match.groups())
    return None


def catalog() -> list[dict[str, str]]:
    """The catalog as rows of a table: name, family, what it is computed of, formula, unit, source.

    Example:
        `pandas.DataFrame(smoothdistill.features.catalog())`
    """
    return [
        {
            key: str(getattr(feature, key))
            for key in ("name", "family", "of", "formula", "unit", "source")
        }
        for feature in FEATURES
    ]
