"""Libraries of features, for the statistical set and its like: each called as its users call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rivals.workload import CHANNEL_NAMES, SAMPLE_RATE_HZ, Answer, Case, Workload

if TYPE_CHECKING:
    import pandas as pd


def columns_by_channel(
    table: Mapping[str, NDArray], name: Callable[[str], str]
) -> NDArray[np.floating]:
    """[windows, channels] from a table with one column per channel."""
    return np.stack([np.asarray(table[name(channel)]) for channel in CHANNEL_NAMES], axis=1)


def long_frame(case: Case) -> pd.DataFrame:
    """Every window's samples one after the other, as tsfresh wants them."""
    import pandas as pd

    long = case.windows().transpose(0, 2, 1).reshape(-1, case.num_channels).astype(np.float64)
    frame = pd.DataFrame(long, columns=list(CHANNEL_NAMES))
    frame["id"] = np.repeat(np.arange(case.num_windows), case.window_samples)
    frame["time"] = np.tile(np.arange(case.window_samples), case.num_windows)
    return frame


def make_skdh(case: Case) -> Workload:
    from skdh import features
    from skdh.utility.windowing import get_windowed_view

    names = (
        "mean", "std_ddof1", "skew_unbiased", "kurtosis_unbiased", "mcr_per_sample", "ptp", "iqr",
        "std_ddof1_again", "autocorr_pearson", "slope",
    )  # fmt: skip
    bank = features.Bank()
    bank.add(
        [
            features.Mean(),
            features.StdDev(),
            features.Skewness(),
            features.Kurtosis(),
            features.MeanCrossRate(),
            features.Range(),
            features.IQR(),
            features.RMS(),
            features.Autocorrelation(),
            features.LinearSlope(),
        ]
    )

    def call() -> NDArray:
        view = get_windowed_view(case.signal, case.window_samples, case.step_samples)
        return bank.compute(view, fs=SAMPLE_RATE_HZ, axis=1)

    def answer(values: object) -> Answer:
        found = dict(zip(names, np.asarray(values), strict=True))
        found.pop("std_ddof1_again")  # its RMS is the standard deviation
        return found

    return Workload(call, answer)


def make_seglearn(case: Case) -> Workload:
    from seglearn import feature_functions as functions
    from seglearn.transform import FeatureRep

    chosen = {
        "mean": functions.mean,
        "median": functions.median,
        "abs_energy": functions.abs_energy,
        "std": functions.std,
        "var": functions.var,
        "min": functions.minimum,
        "max": functions.maximum,
        "mad": functions.median_absolute_deviation,
        "skew": functions.skew,
        "kurtosis": functions.kurt,
        "rms": functions.root_mean_square,
        "zcr_count": functions.mean_crossings,  # its mean crossings never subtract the mean
        "always_one_less_than_the_window": functions.zero_crossing(),
    }
    segments = case.windows().astype(np.float64).transpose(0, 2, 1)
    representation = FeatureRep(features=chosen)

    def answer(values: object) -> Answer:
        values = np.asarray(values).reshape(len(segments), len(chosen), case.num_channels)
        found = {name: values[:, number] for number, name in enumerate(chosen)}
        del found["always_one_less_than_the_window"]
        return found

    return Workload(lambda: representation.fit_transform(segments), answer)


def make_tsfresh(case: Case) -> Workload:
    from tsfresh import extract_features

    names = {
        "mean": "mean",
        "standard_deviation": "std",
        "variance": "var",
        "minimum": "min",
        "maximum": "max",
        "median": "median",
        "root_mean_square": "rms",
        "skewness": "skew_unbiased",
        "kurtosis": "kurtosis_unbiased",
        "abs_energy": "abs_energy",
        "number_crossing_m__m_0": "zcr_count",
        'linear_trend__attr_"slope"': "slope_per_sample",
        "autocorrelation__lag_1": "autocorr_adjusted",
        "quantile__q_0.25": "q25",
        "quantile__q_0.75": "q75",
    }
    settings: dict[str, list[dict[str, object]] | None] = dict.fromkeys(list(names)[:10])
    settings |= {
        "number_crossing_m": [{"m": 0}],
        "linear_trend": [{"attr": "slope"}],
        "autocorrelation": [{"lag": 1}],
        "quantile": [{"q": 0.25}, {"q": 0.75}],
    }
    frame = long_frame(case)

    def call() -> pd.DataFrame:
        return extract_features(
            frame, column_id="id", column_sort="time", default_fc_parameters=settings, n_jobs=0,
            disable_progressbar=True,
        )  # fmt: skip

    def answer(table: object) -> Answer:
        return {
            name: columns_by_channel(table, lambda channel, theirs=theirs: f"{channel}__{theirs}")
            for theirs, name in names.items()
        }

    return Workload(call, answer)


def tsfel_workload(case: Case, names: Mapping[str, str | None]) -> Workload:
    """`names`: tsfel's name of a feature to the definition that it follows, if any here."""
    import tsfel

    config = {
        domain: {name: about for name, about in features.items() if name in names}
        for domain, features in tsfel.get_features_by_domain().items()
    }
    for features in config.values():
        for about in features.values():
            about["use"] = "yes"
    windows = list(case.windows().transpose(0, 2, 1).astype(np.float64))

    def call() -> object:
        return tsfel.time_series_features_extractor(
            config, windows, fs=SAMPLE_RATE_HZ, verbose=0, n_jobs=None,
            header_names=list(CHANNEL_NAMES),
        )  # fmt: skip

    def answer(table: object) -> Answer:
        return {
            name: columns_by_channel(table, lambda channel, theirs=theirs: f"{channel}_{theirs}")
            for theirs, name in names.items()
            if name is not None
        }

    return Workload(call, answer)


TSFEL = {
    "Mean": "mean",
    "Standard deviation": "std",
    "Variance": "var",
    "Min": "min",
    "Max": "max",
    "Median": "median",
    "Interquartile range": "iqr",
    "Root mean square": "rms",
    "Median absolute deviation": "mad",
    "Skewness": "skew",
    "Kurtosis": "kurtosis",
    "Zero crossing rate": "zcr_sign_count",
    "Absolute energy": "abs_energy",
    "Peak to peak distance": "ptp",
    "Slope": "slope_per_sample",
}


def make_mne_features(case: Case) -> Workload:
    from mne_features.feature_extraction import extract_features

    names = (
        "mean", "var_ddof1", "std_ddof1", "ptp", "skew", "kurtosis_not_excess", "rms", "median",
        "zcr_count",
    )  # fmt: skip
    functions = [
        "mean", "variance", "std", "ptp_amp", "skewness", "kurtosis", "rms", "quantile",
        "zero_crossings",
    ]  # fmt: skip
    windows = case.windows().astype(np.float64)

    def call() -> NDArray:
        return extract_features(
            windows, SAMPLE_RATE_HZ, functions, funcs_params={"quantile__q": 0.5}
        )

    def answer(values: object) -> Answer:
        values = np.asarray(values).reshape(len(windows), len(names), case.num_channels)
        return {name: values[:, number] for number, name in enumerate(names)}

    return Workload(call, answer)


def make_aeon(case: Case) -> Workload:
    from aeon.transformations.collection.feature_based import SevenNumberSummary

    names = ("mean", "std", "min", "max", "q25", "median", "q75")
    windows = np.ascontiguousarray(case.windows(), np.float64)
    summary = SevenNumberSummary()

    def answer(values: object) -> Answer:
        values = np.asarray(values).reshape(len(windows), len(names), case.num_channels)
        return {name: values[:, number] for number, name in enumerate(names)}

    return Workload(lambda: summary.fit_transform(windows), answer)
