"""Against other people's code: equal where the definitions agree, and how they differ where not.

NumPy, SciPy and scikit-learn's own dependencies are always there; the others are compared where
they are installed. Tolerances are a few thousand roundings: nobody here promises more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from .engine_checks import RATE_HZ, compute

WIDTH = 100
CLOSE = {"rel": 1e-10, "abs": 1e-12}


def walking() -> np.ndarray:
    """Twelve windows of one axis with gravity on it, a rhythm and some noise."""
    rng = np.random.default_rng(0)
    time = np.arange(WIDTH) / RATE_HZ
    phase = rng.uniform(0, 6, (12, 1))
    return 9.81 + np.sin(2 * np.pi * 1.9 * time + phase) + 0.4 * rng.standard_normal((12, WIDTH))


WINDOWS = walking()
CENTRED = WINDOWS - WINDOWS.mean(1, keepdims=True)


def ours(name: str, windows: np.ndarray = WINDOWS, **options: Any) -> np.ndarray:
    return compute(name, windows[:, None], magnitude=False, **options)[f"x__{name}"]


def theirs(function: Callable[..., Any], windows: np.ndarray = WINDOWS, *args: Any) -> np.ndarray:
    """A function of one window, for each of them; what it warns about is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array([np.asarray(function(window, *args)).item() for window in windows])


def imported(name: str) -> Any:
    """A package that may not be there, and that may warn as it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


# --- NumPy and SciPy -----------------------------------------------------------------------------

OF_NUMPY = {
    "mean": lambda x: np.mean(x, axis=1),
    "std": lambda x: np.std(x, axis=1),
    "var": lambda x: np.var(x, axis=1),
    "min": lambda x: np.min(x, axis=1),
    "max": lambda x: np.max(x, axis=1),
    "ptp": lambda x: np.ptp(x, axis=1),
    "rms": lambda x: np.sqrt(np.mean(x**2, axis=1)),
    "abs_energy": lambda x: np.sum(x**2, axis=1),
    "median": lambda x: np.median(x, axis=1),
    "q25": lambda x: np.percentile(x, 25, axis=1),
    "q97.5": lambda x: np.percentile(x, 97.5, axis=1),
    "zcr": lambda x: np.diff(x > 0, axis=1).mean(axis=1),
    "mcr_count": lambda x: np.diff(x > x.mean(1, keepdims=True), axis=1).sum(axis=1),
    "mean_abs_diff": lambda x: np.abs(np.diff(x, axis=1)).mean(axis=1),
    "slope": lambda x: np.polyfit(np.arange(x.shape[1]), x.T, 1)[0] * RATE_HZ,
}
OF_SCIPY = {
    "skew": lambda x: stats.skew(x, axis=1),
    "kurtosis": lambda x: stats.kurtosis(x, axis=1),
    "mad": lambda x: stats.median_abs_deviation(x, axis=1),
    "iqr": lambda x: stats.iqr(x, axis=1),
    "energy": lambda x: stats.moment(x, 2, axis=1, center=0),
}


@pytest.mark.parametrize("name", OF_NUMPY)
@pytest.mark.parametrize("windows", [WINDOWS, CENTRED], ids=["gravity", "centred"])
def test_numpy(name: str, windows: np.ndarray) -> None:
    assert ours(name, windows) == pytest.approx(OF_NUMPY[name](windows), **CLOSE)


@pytest.mark.parametrize("name", OF_SCIPY)
@pytest.mark.parametrize("windows", [WINDOWS, CENTRED], ids=["gravity", "centred"])
def test_scipy(name: str, windows: np.ndarray) -> None:
    assert ours(name, windows) == pytest.approx(OF_SCIPY[name](windows), **CLOSE)


def test_slope_of_scipy() -> None:
    times = np.arange(WIDTH) / RATE_HZ
    slopes = theirs(lambda x: stats.linregress(times, x).slope)
    assert ours("slope") == pytest.approx(slopes, **CLOSE)
    assert ours("slope", slope_rate_hz=1.0) == pytest.approx(slopes / RATE_HZ, **CLOSE)


def test_correlation_of_numpy() -> None:
    windows = np.stack([WINDOWS[:6], WINDOWS[6:] + 0.3 * WINDOWS[:6]], axis=1)
    got = compute("corr", windows)["corr_c0_c1"]
    assert got == pytest.approx([np.corrcoef(*window)[0, 1] for window in windows], **CLOSE)
    assert got == pytest.approx([stats.pearsonr(*window).statistic for window in windows], **CLOSE)


def test_entropy_of_a_histogram_of_numpy() -> None:
    entropies = theirs(lambda x: stats.entropy(np.histogram(x, 10)[0], base=2))
    assert ours("hist_entropy") == pytest.approx(entropies, **CLOSE)


def test_autocorrelation_of_numpy() -> None:
    for lag in (1, 4):
        products = theirs(lambda c, k=lag: np.correlate(c, c, "full")[WIDTH - 1 + k], CENTRED)
        expected = products / (CENTRED**2).sum(1)
        assert ours(f"autocorr_lag{lag}") == pytest.approx(expected, **CLOSE)


# --- pandas: another definition for most ---------------------------------------------------------


def test_pandas_divides_by_one_less() -> None:
    pandas = imported("pandas")
    assert ours("var", ddof=1) == pytest.approx(theirs(lambda x: pandas.Series(x).var()), **CLOSE)
    assert (theirs(lambda x: pandas.Series(x).var()) > ours("var")).all()


def test_skewness_of_pandas_is_unbiased() -> None:
    """G1 = sqrt(n (n - 1)) / (n - 2) g1, and G2 likewise; SciPy's `bias=False`."""
    pandas = imported("pandas")
    n = WIDTH
    unbiased = theirs(lambda x: pandas.Series(x).skew())
    assert np.sqrt(n * (n - 1)) / (n - 2) * ours("skew") == pytest.approx(unbiased, **CLOSE)
    assert ours("skew") != pytest.approx(unbiased, rel=1e-3)
    unbiased = theirs(lambda x: pandas.Series(x).kurt())
    scaled = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * ours("kurtosis") + 6)
    assert scaled == pytest.approx(unbiased, **CLOSE)


def test_autocorrelation_of_pandas_is_of_two_pieces() -> None:
    """Pearson's correlation of the first and the last W - 1 samples, each with its own mean."""
    pandas = imported("pandas")
    pieces = theirs(lambda x: pandas.Series(x).autocorr(1))
    assert (np.abs(pieces) > np.abs(ours("autocorr_lag1"))).all()
    assert ours("autocorr_lag1") == pytest.approx(pieces, abs=0.05)
    assert ours("autocorr_lag1") != pytest.approx(pieces, rel=1e-4)


def test_quantiles_of_pandas() -> None:
    pandas = imported("pandas")
    assert ours("q10") == pytest.approx(theirs(lambda x: pandas.Series(x).quantile(0.1)), **CLOSE)


def test_quantiles_of_polars_take_the_nearest_sample() -> None:
    polars = imported("polars")
    linear = theirs(lambda x: polars.Series(x).quantile(0.1, interpolation="linear"))
    assert ours("q10") == pytest.approx(linear, **CLOSE)
    nearest = theirs(lambda x: polars.Series(x).quantile(0.1))
    assert ours("q10") != pytest.approx(nearest, rel=1e-6)


# --- statsmodels and spectrum --------------------------------------------------------------------


def test_autocorrelation_of_statsmodels() -> None:
    stattools = imported("statsmodels.tsa.stattools")
    for lag in (1, 7):
        biased = theirs(lambda x, k=lag: stattools.acf(x, nlags=k, fft=False)[k])
        assert ours(f"autocorr_lag{lag}") == pytest.approx(biased, **CLOSE)
        adjusted = theirs(lambda x, k=lag: stattools.acf(x, nlags=k, fft=False, adjusted=True)[k])
        assert ours(f"autocorr_lag{lag}") * WIDTH / (WIDTH - lag) == pytest.approx(
            adjusted, **CLOSE
        )


def test_burg_of_statsmodels() -> None:
    burg = imported("statsmodels.regression.linear_model").burg
    coefficients = np.array([burg(x, order=4, demean=True)[0] for x in WINDOWS])
    for number in range(4):
        assert ours(f"ar{number + 1}") == pytest.approx(coefficients[:, number], rel=1e-8)


def test_burg_of_spectrum_has_the_other_sign() -> None:
    """It writes the polynomial 1 + a1 z + ..., we the prediction x[t] = a1 x[t - 1] + ..."""
    arburg = imported("spectrum").arburg
    coefficients = np.array([arburg(x, 4)[0].real for x in CENTRED])
    for number in range(4):
        assert ours(f"ar{number + 1}") == pytest.approx(-coefficients[:, number], rel=1e-8)


# --- antropy -------------------------------------------------------------------------------------


def test_hjorth_of_antropy() -> None:
    antropy = imported("antropy")
    parameters = np.array([antropy.hjorth_params(x) for x in WINDOWS])
    assert ours("hjorth_mobility") == pytest.approx(parameters[:, 0], **CLOSE)
    assert ours("hjorth_complexity") == pytest.approx(parameters[:, 1], **CLOSE)


def test_zero_crossings_of_antropy() -> None:
    antropy = imported("antropy")
    counts = antropy.num_zerocross(CENTRED, axis=1)
    assert np.array_equal(ours("zcr_count", CENTRED), counts)


# --- tsfel ---------------------------------------------------------------------------------------

OF_TSFEL = {
    "abs_energy": "abs_energy",
    "max": "calc_max",
    "min": "calc_min",
    "mean": "calc_mean",
    "median": "calc_median",
    "std": "calc_std",
    "var": "calc_var",
    "rms": "rms",
    "iqr": "interq_range",
    "mean_ad": "mean_abs_deviation",
    "mad": "median_abs_deviation",
    "skew": "skewness",
    "kurtosis": "kurtosis",
    "mean_abs_diff": "mean_abs_diff",
    "wave_length": "sum_abs_diff",
    "ptp": "pk_pk_distance",
}


@pytest.mark.parametrize("name", OF_TSFEL)
def test_tsfel(name: str) -> None:
    function = getattr(imported("tsfel"), OF_TSFEL[name])
    assert ours(name) == pytest.approx(theirs(function), **CLOSE)


def test_slope_of_tsfel_is_per_sample() -> None:
    slopes = theirs(imported("tsfel").slope)
    assert ours("slope") == pytest.approx(slopes * RATE_HZ, rel=1e-8)


def test_zero_crossings_of_tsfel() -> None:
    """Counted as ours, but for a zero, which is a sign of its own there."""
    zero_cross = imported("tsfel").zero_cross
    assert np.array_equal(ours("zcr_count", CENTRED), theirs(zero_cross, CENTRED))
    touching = np.array([[-1.0, 0.0, -1.0, 1.0]])
    assert ours("zcr_count", touching) == 1
    assert theirs(zero_cross, touching) > 1


def test_turning_points_of_tsfel() -> None:
    tsfel = imported("tsfel")
    turns = theirs(tsfel.positive_turning) + theirs(tsfel.negative_turning)
    assert np.array_equal(ours("n_turning"), turns)


def test_autocorrelation_of_tsfel_is_a_lag() -> None:
    """The first at which the correlation falls below 1 / e: a number of samples, and no ratio."""
    lags = theirs(imported("tsfel").autocorr)
    assert (lags >= 1).all()
    assert (np.abs(ours("autocorr_lag1")) < 1).all()


# --- tsfresh -------------------------------------------------------------------------------------


def calculators() -> Any:
    return imported("tsfresh.feature_extraction.feature_calculators")


OF_TSFRESH = {
    "abs_energy": "abs_energy",
    "wave_length": "absolute_sum_of_changes",
    "mean_abs_diff": "mean_abs_change",
    "std": "standard_deviation",
    "var": "variance",
    "rms": "root_mean_square",
    "median": "median",
}


@pytest.mark.parametrize("name", OF_TSFRESH)
def test_tsfresh(name: str) -> None:
    assert ours(name) == pytest.approx(theirs(getattr(calculators(), OF_TSFRESH[name])), **CLOSE)


def test_tsfresh_with_parameters() -> None:
    tsfresh = calculators()
    assert ours("q10") == pytest.approx(theirs(lambda x: tsfresh.quantile(x, 0.1)), **CLOSE)
    crossings = theirs(lambda x: tsfresh.number_crossing_m(x, x.mean()))
    assert np.array_equal(ours("mcr_count"), crossings)
    nats = theirs(lambda x: tsfresh.binned_entropy(x, 10))
    assert ours("hist_entropy") * np.log(2) == pytest.approx(nats, **CLOSE)


def test_skewness_and_autocorrelation_of_tsfresh_are_adjusted() -> None:
    tsfresh, n = calculators(), WIDTH
    unbiased = theirs(tsfresh.skewness)
    assert np.sqrt(n * (n - 1)) / (n - 2) * ours("skew") == pytest.approx(unbiased, **CLOSE)
    adjusted = theirs(lambda x: tsfresh.autocorrelation(x, 1))
    assert ours("autocorr_lag1") * n / (n - 1) == pytest.approx(adjusted, **CLOSE)


# --- seglearn ------------------------------------------------------------------------------------


def test_seglearn() -> None:
    """Its mean crossings never take off the mean: they are zero crossings."""
    functions = imported("seglearn.feature_functions")
    windows = WINDOWS[:, :, None]
    for name, function in (
        ("rms", functions.root_mean_square),
        ("mad", functions.median_absolute_deviation),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ours(name) == pytest.approx(function(windows).ravel(), **CLOSE)
    crossings = functions.mean_crossings(windows).ravel()
    assert np.array_equal(crossings, ours("zcr_count"))
    assert not np.array_equal(crossings, ours("mcr_count"))
