"""Sets of features by name."""

from __future__ import annotations

from smoothdistill.features.definitions import FEATURES

__all__ = ["PRESETS", "PRESETS_WITH_MAGNITUDE", "names_of"]

_CORE = (
    "mean",
    "std",
    "var",
    "min",
    "max",
    "ptp",
    "median",
    "q25",
    "q75",
    "iqr",
    "mad",
    "mean_ad",
    "rms",
    "energy",
    "abs_energy",
    "skew",
    "kurtosis",
    "zcr",
    "mcr",
    "slope",
    "autocorr_lag1",
    "mean_abs_diff",
    "wave_length",
    "n_turning",
    "ar1",
    "ar2",
    "ar3",
    "ar4",
    "hjorth_mobility",
    "hjorth_complexity",
    "hist_entropy",
)
_CROSS = ("corr", "sma", "enmo", "mad_mag", "pitch", "roll", "angle_x", "angle_y", "angle_z")
_SPECTRAL = (
    "power",
    "dom_freq",
    "dom_power",
    "dom_ratio",
    "centroid",
    "spread",
    "spec_skew",
    "spec_kurt",
    "median_freq",
    "rolloff_85",
    "rolloff_95",
    "spec_entropy",
    "spec_flatness",
    "max_index",
    "bands",
)

PRESETS: dict[str, tuple[str, ...]] = {
    "basic": ("mean", "std", "min", "max", "median", "iqr", "mad", "rms", "corr", "sma"),
    "statistical": (
        "mean",
        "std",
        "var",
        "min",
        "max",
        "median",
        "iqr",
        "rms",
        "mad",
        "skew",
        "kurtosis",
        "zcr",
        "mcr",
        "energy",
        "ptp",
        "slope",
        "autocorr_lag1",
        "corr",
        "sma",
    ),
    "spectral": _SPECTRAL,
    "har": (*_CORE, *_CROSS, *_SPECTRAL),
}
"""Features by the name of a set; "bands" stands for one `band_{lo}_{hi}` for each of the bands.

"har" has the norm of each triad as a further channel. A set of another kind, "uci561", is made by
`smoothdistill.features.uci561`.
"""

PRESETS_WITH_MAGNITUDE = frozenset({"har"})


def names_of(wanted: str) -> tuple[str, ...]:
    """Names in a preset or in a family, or the name itself."""
    if wanted in PRESETS:
        return PRESETS[wanted]
    family = tuple(
        feature.name for feature in FEATURES if feature.family == wanted and "{" not in feature.name
    )
    return family or (wanted,)
