"""The 22 canonical features of time series (catch22), of 16 windows at once.

`smoothdistill/reference/features/catch22.py` has the definitions. All features of a constant window
are undefined, and those of a window shorter than `LEAST_SAMPLES` says; so is
catch22_whiten_timescale where all steps are the same, and so are catch22_rs_range and catch22_dfa
where the summed signal leaves no residual. (pycatch22 has 0 there, or what rounding makes of it.)
A window with a NaN or an infinity has NaN in all of them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.blocks import run_in_chunks, vectors
from smoothdistill.features.kernels.catch22_correlation import (
    LAG_CHUNK,
    ami_timescale,
    autocorrelation_landmarks,
    detrending_basis,
    periodicity,
    whiten_timescale,
)
from smoothdistill.features.kernels.catch22_distribution import histogram_mode, outlier_timing
from smoothdistill.features.kernels.catch22_increments import (
    embedding_dist,
    forecast_error,
    high_fluctuation,
    trev,
)
from smoothdistill.features.kernels.catch22_scaling import fluctuation_break, fluctuation_scales
from smoothdistill.features.kernels.catch22_spectrum import spectrum_features, transform_plan
from smoothdistill.features.kernels.catch22_symbols import (
    ami2,
    entropy_pairs,
    longest_stretch,
    thirds,
    transition_variance,
)
from smoothdistill.features.kernels.lanes import (
    LANES,
    load,
    maximum,
    minimum,
    select,
    splat,
    square_root,
    store,
)
from smoothdistill.features.kernels.order import sorting_size

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64, UInt8

    _Array = Float64[np.ndarray, "..."]

__all__ = ["LEAST_SAMPLES", "PUBLISHED_NAMES", "SLOTS", "catch22_engine"]

PUBLISHED_NAMES = {
    "catch22_mode_5": "DN_HistogramMode_5",
    "catch22_mode_10": "DN_HistogramMode_10",
    "catch22_acf_timescale": "CO_f1ecac",
    "catch22_acf_first_min": "CO_FirstMin_ac",
    "catch22_ami2": "CO_HistogramAMI_even_2_5",
    "catch22_trev": "CO_trev_1_num",
    "catch22_high_fluctuation": "MD_hrv_classic_pnn40",
    "catch22_stretch_high": "SB_BinaryStats_mean_longstretch1",
    "catch22_transition_variance": "SB_TransitionMatrix_3ac_sumdiagcov",
    "catch22_periodicity": "PD_PeriodicityWang_th0_01",
    "catch22_embedding_dist": "CO_Embed2_Dist_tau_d_expfit_meandiff",
    "catch22_ami_timescale": "IN_AutoMutualInfoStats_40_gaussian_fmmi",
    "catch22_whiten_timescale": "FC_LocalSimple_mean1_tauresrat",
    "catch22_outlier_timing_pos": "DN_OutlierInclude_p_001_mdrmd",
    "catch22_outlier_timing_neg": "DN_OutlierInclude_n_001_mdrmd",
    "catch22_low_freq_power": "SP_Summaries_welch_rect_area_5_1",
    "catch22_stretch_decreasing": "SB_BinaryStats_diff_longstretch0",
    "catch22_entropy_pairs": "SB_MotifThree_quantile_hh",
    "catch22_rs_range": "SC_FluctAnal_2_rsrangefit_50_1_logi_prop_r1",
    "catch22_dfa": "SC_FluctAnal_2_dfa_50_1_2_logi_prop_r1",
    "catch22_centroid_freq": "SP_Summaries_welch_rect_centroid",
    "catch22_forecast_error": "FC_LocalSimple_mean3_stderr",
}
"""Names of the features in hctsa, under which they were published, by ours."""

SLOTS = tuple(PUBLISHED_NAMES)
"""Features in the order of the engine's columns."""

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

NEED_LANDMARKS = {
    "catch22_acf_timescale",
    "catch22_acf_first_min",
    "catch22_transition_variance",
    "catch22_embedding_dist",
    "catch22_whiten_timescale",
}


def catch22_engine(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    window_samples: int,
    num_channels: int,
    is_interleaved: bool,
    triads: Int64[np.ndarray, "triads 3"],
    wants: UInt8[np.ndarray, " slots"],
    params: Float64[np.ndarray, " params"],
    undefined: float,
    columns: Int64[np.ndarray, "signals slots"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Fill the columns of all windows; a column of -1 was not asked for.

    Args:
        flat: Signal memory.
        offsets: Place in `flat` of each window's first value.
        window_samples: Window length, in samples, at least 1.
        num_channels: Channels of a window.
        is_interleaved: Whether the values of one sample are neighbours.
        triads: Channels of which the Euclidean norm is a further signal.
        wants: Whether any signal's column of a slot is asked for.
        params: None: the features have no parameters.
        undefined: What stands for a value that the definition does not give.
        columns: Column of each signal's slot.
        out: Results, written in place.
    """
    run_in_chunks(
        _Kernels(window_samples, wants, undefined),
        flat,
        offsets,
        window_samples,
        num_channels,
        is_interleaved,
        triads,
        columns,
        out,
    )


class _Plan:
    """Tables that depend on the window length alone."""

    def __init__(self, window_samples: int) -> None:
        self.places, self.twiddles = transform_plan(window_samples)
        self.scales = fluctuation_scales(window_samples)
        self.log_scales = np.log2(self.scales)
        self.basis = detrending_basis(window_samples)
        with np.errstate(divide="ignore"):
            self.scott = 3.5 / np.cbrt(np.arange(window_samples + 1.0))


_plan_of = functools.lru_cache(maxsize=8)(_Plan)


class _Kernels:
    """The kernels of the features that are asked for, and the memory that they share."""

    def __init__(
        self, window_samples: int, wants: UInt8[np.ndarray, " slots"], undefined: float
    ) -> None:
        self.window_samples = window_samples
        self.undefined = undefined
        self.slots = {
            name: slot
            for slot, name in enumerate(SLOTS)
            if wants[slot] and window_samples >= LEAST_SAMPLES.get(name, 2)
        }
        self.plan = _plan_of(window_samples)
        self.z = vectors(0, 1)
        self.few = vectors(25)
        self.products = vectors(3 * LAG_CHUNK)
        self.series = vectors(window_samples + LAG_CHUNK)
        self.more_series = vectors(window_samples)
        self.codes = vectors(window_samples // 2 + 1).view(np.float32)
        self.ordered = vectors(sorting_size(window_samples))
        self.ordered[:] = np.inf
        self.spectrum = vectors(2, self.plan.places.size)
        self.spreads = vectors(self.plan.scales.size)
        self.links = np.zeros((2, window_samples + 2), np.int64)
        self.tallies = np.zeros(2 * window_samples + 2, np.int64)
        self.medians = np.zeros(window_samples, np.int64)

    def __call__(
        self, values: Float64[np.ndarray, "series values"]
    ) -> Float64[np.ndarray, "slots lanes"]:
        if len(self.z) < len(values):
            self.z = vectors(len(values), self.window_samples + LAG_CHUNK)
            self.z[:] = 0.0
        z = self.z[: len(values)]
        summary = vectors(5, len(values))
        _standardize(values, self.window_samples, z, summary)
        results = vectors(len(SLOTS), len(values))
        results[:] = np.nan
        rows = {name: results[slot] for name, slot in self.slots.items()}
        self._describe_values(z, summary, rows)
        self._describe_steps(z, summary, rows)
        self._describe_correlation(z, summary, rows)
        self._describe_scales(z, rows)
        results[(summary[0] == 0.0) | np.isnan(results)] = self.undefined
        results += summary[1]
        return results

    def _describe_values(self, z: _Array, summary: _Array, rows: dict[str, _Array]) -> None:
        _, _, _, lows, highs = summary
        for name, num_bins in (("catch22_mode_5", 5), ("catch22_mode_10", 10)):
            if name in rows:
                histogram_mode(
                    z, self.window_samples, lows, highs, num_bins, self.codes, rows[name]
                )
        for name, sign in (
            ("catch22_outlier_timing_pos", 1.0),
            ("catch22_outlier_timing_neg", -1.0),
        ):
            if name in rows:
                outlier_timing(
                    z,
                    self.window_samples,
                    sign,
                    self.ordered,
                    self.links,
                    self.tallies,
                    self.medians,
                    rows[name],
                )

    def _describe_steps(self, z: _Array, summary: _Array, rows: dict[str, _Array]) -> None:
        length = self.window_samples
        if "catch22_trev" in rows:
            trev(z, length, rows["catch22_trev"])
        if "catch22_high_fluctuation" in rows:
            high_fluctuation(z, length, rows["catch22_high_fluctuation"])
        if "catch22_forecast_error" in rows:
            forecast_error(z, length, self.series, rows["catch22_forecast_error"])
        for name, is_of_falls in (
            ("catch22_stretch_high", False),
            ("catch22_stretch_decreasing", True),
        ):
            if name in rows:
                longest_stretch(z, length, summary[2], is_of_falls, rows[name])

    def _describe_symbols(
        self, z: _Array, summary: _Array, first_zeros: _Array, rows: dict[str, _Array]
    ) -> None:
        length = self.window_samples
        low, high = vectors(2, len(z))
        if "catch22_ami2" in rows:
            _, _, _, lows, highs = summary
            ami2(z, length, lows, highs, self.codes, self.few, rows["catch22_ami2"])
        if "catch22_entropy_pairs" in rows:
            thirds(z, length, np.ones(first_zeros.size), self.ordered, low, high)
            entropy_pairs(z, length, low, high, self.codes, rows["catch22_entropy_pairs"])
        if "catch22_transition_variance" in rows:
            thirds(z, length, first_zeros, self.ordered, low, high)
            transition_variance(
                z,
                length,
                first_zeros,
                low,
                high,
                self.codes,
                np.zeros(9, np.int64),
                rows["catch22_transition_variance"],
            )

    def _describe_correlation(self, z: _Array, summary: _Array, rows: dict[str, _Array]) -> None:
        length, products, few = self.window_samples, self.products, self.few
        timescales, first_minima, first_zeros = vectors(3, len(z))
        if not rows.keys().isdisjoint(NEED_LANDMARKS):
            autocorrelation_landmarks(
                z, length, summary[0], products, few, timescales, first_minima, first_zeros
            )
            for name, row in (
                ("catch22_acf_timescale", timescales),
                ("catch22_acf_first_min", first_minima),
            ):
                if name in rows:
                    rows[name][:] = row
        self._describe_symbols(z, summary, first_zeros, rows)
        if "catch22_embedding_dist" in rows:
            embedding_dist(
                z,
                length,
                first_zeros,
                self.plan.scott,
                self.series,
                self.more_series,
                self.codes,
                few,
                rows["catch22_embedding_dist"],
            )
        if "catch22_whiten_timescale" in rows:
            whiten_timescale(
                z, length, first_zeros, self.series, products, few, rows["catch22_whiten_timescale"]
            )
        if "catch22_ami_timescale" in rows:
            ami_timescale(z, length, products, self.series, rows["catch22_ami_timescale"])
        if "catch22_periodicity" in rows:
            periodicity(
                z, length, self.plan.basis, self.series, products, few, rows["catch22_periodicity"]
            )

    def _describe_scales(self, z: _Array, rows: dict[str, _Array]) -> None:
        plan = self.plan
        low_powers, frequencies = vectors(2, len(z))
        if "catch22_low_freq_power" in rows or "catch22_centroid_freq" in rows:
            spectrum_features(
                z,
                self.window_samples,
                plan.places,
                plan.twiddles,
                self.spectrum[0],
                self.spectrum[1],
                low_powers,
                frequencies,
            )
            for name, row in (
                ("catch22_low_freq_power", low_powers),
                ("catch22_centroid_freq", frequencies),
            ):
                if name in rows:
                    rows[name][:] = row
        for name, lag in (("catch22_rs_range", 1), ("catch22_dfa", 2)):
            if name in rows:
                fluctuation_break(
                    z,
                    self.window_samples,
                    lag,
                    name == "catch22_rs_range",
                    plan.scales,
                    plan.log_scales,
                    self.series,
                    self.spreads,
                    rows[name],
                )


@njit(error_model="numpy", nogil=True, cache=True)
def _standardize(values, window_samples, z, summary):  # type: ignore[no-untyped-def]
    """Write z-scores (n - 1 in the deviation), or zeros where there are none.

    `summary` gets whether a window has z-scores, a NaN where a sample is not finite (0 elsewhere),
    and mean, least and greatest of the z-scores.
    """
    zero, one = splat(0.0), splat(1.0)
    for number in range(values.shape[0]):
        raw, scores = values[number], z[number]
        total, poison = splat(0.0), splat(0.0)
        lowest = highest = load(raw, 0)
        for place in range(0, window_samples * LANES, LANES):
            value = load(raw, place)
            total += value
            poison += value - value
            lowest, highest = minimum(value, lowest), maximum(value, highest)
        mean = total / window_samples
        squares = splat(0.0)
        for place in range(0, window_samples * LANES, LANES):
            deviation = load(raw, place) - mean
            squares += deviation * deviation
        deviation = square_root(squares / max(window_samples - 1, 1))
        # By the samples too, not by the deviation alone: rounding of the mean may leave a constant
        # window one.
        is_good = (lowest < highest) & (deviation > 0.0) & (deviation < np.inf) & (poison == 0.0)
        deviation = select(is_good, deviation, one)
        total = splat(0.0)
        for place in range(0, window_samples * LANES, LANES):
            score = select(is_good, (load(raw, place) - mean) / deviation, zero)
            store(scores, place, score)
            total += score
        first = number * LANES
        store(summary[0], first, select(is_good, one, zero))
        store(summary[1], first, poison)
        store(summary[2], first, total / window_samples)
        store(summary[3], first, select(is_good, (lowest - mean) / deviation, zero))
        store(summary[4], first, select(is_good, (highest - mean) / deviation, zero))
