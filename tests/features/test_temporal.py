"""How samples follow each other: parity with the reference, and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from smoothdistill.features import families
from smoothdistill.features.kernels.temporal import TEMPORAL
from smoothdistill.reference.features.temporal import burg, temporal

from .engine_checks import (
    BATCHES,
    CHANNELS,
    WIDTHS,
    check_parity,
    compute,
    expected,
    make_windows,
    names_of_family,
    same_bits,
)
from .error_bounds import LAGS

FAMILY = names_of_family("temporal")


def one_window(samples: np.ndarray) -> np.ndarray:
    return np.asarray(samples, np.float64)[None, None]


def test_the_kernel_has_the_features_of_the_family() -> None:
    assert {name for name in FAMILY if not name.startswith("autocorr")} == set(TEMPORAL)
    assert set(temporal(np.ones((1, 9)), lags=LAGS)) == set(FAMILY)


@pytest.mark.parametrize("window_samples", WIDTHS)
def test_every_window_length(window_samples: int) -> None:
    check_parity("temporal", 17, 3, window_samples)


@pytest.mark.parametrize("num_channels", CHANNELS)
@pytest.mark.parametrize("num_windows", BATCHES)
def test_every_number_of_windows_and_channels(num_windows: int, num_channels: int) -> None:
    check_parity("temporal", num_windows, num_channels, 29)


@pytest.mark.parametrize("window_samples", [1, 2, 3, 5, 9])
def test_what_is_undefined_is_zero_if_asked_for(window_samples: int) -> None:
    check_parity("temporal", 17, 3, window_samples, undefined=0.0)


@pytest.mark.parametrize("window_samples", [1, 2, 3, 4, 5, 6])
def test_a_window_that_is_too_short_for_a_feature(window_samples: int) -> None:
    """A lag needs a pair of samples, a Hjorth parameter two differences, an order its past."""
    windows = np.random.default_rng(0).standard_normal((3, 1, window_samples))
    got = compute([*FAMILY, "autocorr_lag5"], windows)
    need = {f"autocorr_lag{lag}": lag + 1 for lag in (*LAGS, 5)}
    need |= {f"ar{number}": 5 for number in range(1, 5)}
    need |= {"hjorth_mobility": 3, "hjorth_complexity": 3, "mean_abs_diff": 2}
    for name, column in got.items():
        least = need.get(name.partition("__")[2], 1)
        if name == "x__autocorr_lag1":  # one sample does not vary
            least = 2
        assert np.isnan(column).all() == (window_samples < least), name


def test_the_first_lag_is_the_same_beside_others_and_alone() -> None:
    """It comes from another kernel, so that it costs nothing beside the moments."""
    windows, _ = make_windows(20, 1, 40)
    alone = compute("autocorr_lag1", windows)["x__autocorr_lag1"]
    beside = compute(["mean", "ar1", "autocorr_lag7", "autocorr_lag1"], windows)["x__autocorr_lag1"]
    values, _ = expected("temporal", windows, ["x"])
    assert same_bits(alone, beside)
    assert alone == pytest.approx(values["x__autocorr_lag1"], nan_ok=True, abs=1e-9)


def test_turning_points() -> None:
    got = compute(
        "n_turning",
        np.concatenate(
            [
                one_window(np.arange(8)),  # none
                one_window([0, 1, 0, 1, 0, 1, 0, 1]),  # all
                one_window([0, 1, 1, 0, 0, 1, 1, 0]),  # a plateau is no turn
                one_window([5, 5, 5, 5, 5, 5, 5, 5]),
            ]
        ),
    )
    assert got["x__n_turning"].tolist() == [0, 6, 0, 0]


def test_ten_bins() -> None:
    """The last bin holds its upper edge; bins without a sample add nothing."""
    each_once = np.arange(10) + 0.5
    each_once[[0, -1]] = 0, 10
    got = compute(
        "hist_entropy",
        np.concatenate(
            [
                one_window(each_once),  # ten bins alike
                one_window([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),  # two
                one_window([0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
                one_window(np.full(10, 9.81)),  # no width at all
            ]
        ),
    )
    rare = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    assert got["x__hist_entropy"] == pytest.approx([np.log2(10), 1.0, rare, 0.0], abs=1e-15)


def test_a_bin_holds_its_lower_edge() -> None:
    """Of samples whose mean and edges are whole numbers, so that nothing is rounded."""
    got = compute("hist_entropy", one_window([-5, -4, -4, -4, 2, 5, 5, 5]))
    shares = np.array([1, 3, 1, 3]) / 8  # and not 4, 1, 3
    assert got["x__hist_entropy"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("least", "greatest"), [(-5, 5), (-50, 50), (-3, 4), (990, 1003)])
def test_counts_lie_in_their_bins(least: int, greatest: int, dtype: type) -> None:
    """Whole numbers hit the edges, and neither a mean nor a width may push them off."""
    counts = np.random.default_rng(4).integers(least, greatest + 1, (300, 1, 100))
    places = counts[:, 0] - counts[:, 0].min(1, keepdims=True)
    bins = np.minimum(10 * places // places.max(1, keepdims=True), 9)
    shares = (bins[:, :, None] == np.arange(10)).mean(1)
    entropies = -(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))).sum(1)
    for unit in (1.0, 2.0**-10):  # of a sensor of so many steps to 1 g
        got = compute("hist_entropy", (unit * counts).astype(dtype))
        assert got["x__hist_entropy"] == pytest.approx(entropies, abs=1e-14)


def test_hjorth_of_a_sine() -> None:
    """Of a sine of angle w per sample, the mobility is 2 sin(w / 2) and the complexity 1."""
    angle = 2 * np.pi / 25
    got = compute(
        ["hjorth_mobility", "hjorth_complexity"], one_window(np.sin(angle * np.arange(2000)))
    )
    # The differences miss one or two of 2,000 samples.
    assert got["x__hjorth_mobility"] == pytest.approx(2 * np.sin(angle / 2), rel=2e-3)
    assert got["x__hjorth_complexity"] == pytest.approx(1.0, rel=2e-3)


def test_a_straight_line_has_no_complexity() -> None:
    """All its differences are one: nothing moves, whatever the rounding of the line."""
    got = compute(["hjorth_complexity", "n_turning"], one_window(np.arange(64.0)))
    assert np.isnan(got["x__hjorth_complexity"]).all()
    assert got["x__n_turning"] == 0


def test_burg_finds_the_process() -> None:
    """An autoregressive process of order 2: its coefficients come out, and 0 behind them."""
    rng = np.random.default_rng(1)
    samples = np.zeros(20_000)
    for time in range(2, len(samples)):
        samples[time] = 1.5 * samples[time - 1] - 0.8 * samples[time - 2] + rng.standard_normal()
    got = compute(["ar1", "ar2", "ar3", "ar4"], one_window(samples))
    # Standard error of a coefficient: about 1 / sqrt(20,000) = 0.007.
    found = [got[f"x__ar{number}"][0] for number in range(1, 5)]
    assert found == pytest.approx([1.5, -0.8, 0, 0], abs=0.03)


def test_burg_is_stable() -> None:
    """The model it finds never grows: all roots lie inside the unit circle."""
    rng = np.random.default_rng(2)
    windows = np.cumsum(rng.standard_normal((50, 1, 30)), axis=2)
    got = compute(["ar1", "ar2", "ar3", "ar4"], windows)
    for number in range(50):
        polynomial = [1.0, *(-got[f"x__ar{k}"][number] for k in range(1, 5))]
        assert np.abs(np.roots(polynomial)).max() < 1 + 1e-9
        c = windows[number, 0] - windows[number, 0].mean()
        assert polynomial[1:] == pytest.approx(-burg(c, 4), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("window_samples", WIDTHS)
def test_a_constant_window(window_samples: int) -> None:
    got = compute(FAMILY, np.full((3, 1, window_samples), 0.1))
    for name in ("wave_length", "n_turning", "hist_entropy"):
        assert same_bits(got[f"x__{name}"], np.zeros(3)), name
    if window_samples > 1:
        assert same_bits(got["x__mean_abs_diff"], np.zeros(3))
    ratios = [name for name in got if "autocorr" in name or "__ar" in name or "hjorth" in name]
    for name in ratios:
        assert np.isnan(got[name]).all(), name


def test_the_public_function() -> None:
    windows = np.random.default_rng(3).standard_normal((5, 2, 60))
    got = families.temporal(windows, lags=LAGS)
    assert set(got) == set(FAMILY)
    for number in range(2):
        for name, column in temporal(windows[:, number], lags=LAGS).items():
            assert got[name][:, number] == pytest.approx(column, rel=1e-11, abs=1e-13), name
    assert set(families.temporal(windows)) == {*TEMPORAL, "autocorr_lag1"}
