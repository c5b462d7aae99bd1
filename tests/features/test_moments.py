"""Moments, extremes, crossings and slope: parity with the reference, and the promised accuracy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from smoothdistill.features import families
from smoothdistill.features.kernels.moments import MOMENTS
from smoothdistill.reference.features.moments import moments

from .engine_checks import (
    BATCHES,
    CHANNELS,
    WIDTHS,
    check_parity,
    compute,
    names_of_family,
    same_bits,
)
from .error_bounds import U, rounding

FAMILY = names_of_family("moments")
# What does not change if all samples are alike.
STILL = ("std", "var", "ptp", "mean_ad", "zcr", "mcr", "zcr_count", "mcr_count", "slope")
RATIOS = ("skew", "kurtosis", "autocorr_lag1")


def still_sensor(window_samples: int, *, seed: int = 3) -> np.ndarray:
    """A sensor at rest, 9.81 +- 0.002 m/s^2, in float32: 21 windows of one channel."""
    noise = np.random.default_rng([seed, window_samples]).standard_normal((21, 1, window_samples))
    return (9.81 + 0.002 * noise).astype(np.float32)


def exact_moments(window: np.ndarray) -> dict[str, float]:
    """Variance, skewness and excess kurtosis in rational numbers, rounded once."""
    samples = [Fraction(float(value)) for value in window]
    mean = sum(samples) / len(samples)
    second, third, fourth = (
        sum((sample - mean) ** power for sample in samples) / len(samples) for power in (2, 3, 4)
    )
    return {
        "mean": float(mean),
        "var": float(second),
        "skew": float(np.copysign(np.sqrt(float(third**2 / second**3)), float(third))),
        "kurtosis": float(fourth / second**2 - 3),
    }


def test_the_kernel_has_the_features_of_the_family() -> None:
    assert set(FAMILY) | {"autocorr_lag1"} == set(MOMENTS)
    assert set(moments(np.ones((1, 4)))) == set(MOMENTS)


@pytest.mark.parametrize("window_samples", WIDTHS)
def test_every_window_length(window_samples: int) -> None:
    check_parity("moments", 17, 3, window_samples)


@pytest.mark.parametrize("num_channels", CHANNELS)
@pytest.mark.parametrize("num_windows", BATCHES)
def test_every_number_of_windows_and_channels(num_windows: int, num_channels: int) -> None:
    check_parity("moments", num_windows, num_channels, 29)


@pytest.mark.parametrize("ddof", [0, 1, 2])
@pytest.mark.parametrize("slope_rate_hz", [1.0, 33.3])
def test_options(ddof: int, slope_rate_hz: float) -> None:
    check_parity("moments", 33, 1, 12, ddof=ddof, slope_rate_hz=slope_rate_hz)


@pytest.mark.parametrize("window_samples", [1, 2, 9])
def test_ratios_to_nothing_are_zero_if_asked_for(window_samples: int) -> None:
    check_parity("moments", 17, 3, window_samples, undefined=0.0)


def test_a_variance_of_no_degrees_of_freedom_is_no_number() -> None:
    """A single sample says nothing about the spread, and 0 / 0 is NaN in NumPy too."""
    got = compute(["var", "std"], np.ones((3, 1, 1)), ddof=1)
    assert np.isnan(got["x__var"]).all()
    assert np.isnan(got["x__std"]).all()


@pytest.mark.parametrize(("window_samples", "ddof"), [(1, 2), (3, 3), (3, 5), (40, 100)])
def test_a_variance_of_too_few_samples_is_undefined(window_samples: int, ddof: int) -> None:
    """And neither negative nor infinite, also where NaN are left out."""
    windows = np.random.default_rng(4).standard_normal((17, 1, window_samples))
    got = compute(["var", "std"], windows, ddof=ddof)
    assert all(np.isnan(column).all() for column in got.values())
    longer = np.concatenate([windows, np.full((17, 1, ddof), np.nan)], axis=2)
    got = compute(["var", "std"], longer, ddof=ddof, nan_policy="omit")
    assert all(np.isnan(column).all() for column in got.values())
    zeros = compute(["var", "std"], windows, ddof=ddof, undefined=0.0)
    assert all(same_bits(column, np.zeros(17)) for column in zeros.values())
    windows[3, 0, 0] = np.nan
    zeros = compute(["var", "std"], windows, ddof=ddof, undefined=0.0)
    assert all(np.flatnonzero(np.isnan(column)).tolist() == [3] for column in zeros.values())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("window_samples", [100, 256])
def test_a_still_sensor_keeps_its_digits(window_samples: int, dtype: type) -> None:
    """The promise: variance to 1e-12 (1e-6 in float32), skewness and kurtosis to 1e-10 (1e-5)."""
    windows = still_sensor(window_samples)
    got = compute(["mean", "var", "skew", "kurtosis"], windows, dtype=dtype)
    promised = {"mean": 0.0, "var": 1e-12, "skew": 1e-10, "kurtosis": 1e-10}
    if dtype is np.float32:
        promised = {"mean": 0.0, "var": 1e-6, "skew": 1e-5, "kurtosis": 1e-5}
    for number, window in enumerate(windows[:, 0]):
        for name, truth in exact_moments(window).items():
            error = abs(float(got[f"x__{name}"][number]) - truth)
            if (
                name == "mean"
            ):  # to the last digit: half a unit of it, or one where it falls between
                assert error <= 2 * U * 9.82 + rounding(dtype) * 9.82
            else:
                assert error <= promised[name] * (truth if name == "var" else 1.0), (name, number)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("window_samples", WIDTHS)
def test_a_constant_window_varies_by_exactly_nothing(window_samples: int, dtype: type) -> None:
    constants = np.array([0.0, -0.0, 0.1, 9.81, -1e-30, 3e7, 1 / 3], dtype)
    windows = np.broadcast_to(constants[:, None, None], (7, 1, window_samples)).copy()
    got = compute([*FAMILY, "autocorr_lag1"], windows)
    for name in STILL if window_samples > 1 else ("std", "var", "ptp", "mean_ad"):
        assert same_bits(got[f"x__{name}"], np.zeros(7)), name
    for name in ("mean", "min", "max"):
        assert np.array_equal(got[f"x__{name}"], constants), name
    for name in RATIOS:
        assert np.isnan(got[f"x__{name}"]).all(), name
    zeros = compute(list(RATIOS), windows, undefined=0.0)
    assert all(same_bits(column, np.zeros(7)) for column in zeros.values())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("glitch", [1e4, 3e38, -np.inf, np.nan])
def test_a_glitch_leaves_no_trace_elsewhere(glitch: float, dtype: type) -> None:
    """Running sums would carry it on to all that comes behind."""
    windows = still_sensor(64).astype(dtype)
    clean = compute([*FAMILY, "autocorr_lag1"], windows, is_interleaved=True)
    spoilt = windows.copy()
    spoilt[4, 0, 10] = glitch
    got = compute([*FAMILY, "autocorr_lag1"], spoilt, is_interleaved=True)
    others = np.arange(len(windows)) != 4
    for name, column in got.items():
        assert same_bits(column[others], clean[name][others]), name


def test_no_variance_is_negative() -> None:
    """A running variance is, on a constant stretch behind a large value."""
    rng = np.random.default_rng(0)
    windows = 10.0 ** rng.uniform(-8, 8, (200, 1, 1)) + rng.integers(0, 2, (200, 1, 25)) * 1e-9
    got = compute(["var", "std", "energy", "rms"], windows)
    assert all((column >= 0).all() for column in got.values())


def test_float64_samples_are_not_rounded() -> None:
    windows = 1.0 + 1e-12 * np.random.default_rng(1).standard_normal((5, 1, 40))
    got = compute(["var", "ptp", "max"], windows)
    for number, window in enumerate(windows[:, 0]):
        # Samples next to 1 are multiples of 2^-52, so their deviations are known to 1e-4 of 1e-12.
        assert got["x__var"][number] == pytest.approx(exact_moments(window)["var"], rel=1e-6)
        assert got["x__ptp"][number] == window.max() - window.min()


def test_the_largest_float32_do_not_overflow() -> None:
    windows = np.full((2, 1, 30), 3e38, np.float32)
    windows[1, 0, ::2] *= -1
    got = compute(["mean", "std", "rms", "ptp", "skew"], windows)
    assert got["x__mean"] == pytest.approx([windows[0, 0, 0].astype(float), 0.0])
    assert got["x__std"] == pytest.approx([0.0, 3e38], rel=1e-6)
    assert got["x__ptp"] == pytest.approx([0.0, 6e38], rel=1e-6)


def test_the_public_function() -> None:
    windows = np.random.default_rng(2).standard_normal((5, 2, 30))
    per_sample, per_second = families.moments(windows), families.moments(windows, sample_rate_hz=50)
    assert set(per_sample) == set(FAMILY)
    for number in range(2):
        for name, column in moments(windows[:, number]).items():
            if name in FAMILY:
                assert per_sample[name].shape == (5, 2)
                assert per_sample[name][:, number] == pytest.approx(column, rel=1e-12, abs=1e-15)
    assert per_second["slope"] == pytest.approx(50 * per_sample["slope"])
    unbiased = families.moments(windows, ddof=1)
    assert unbiased["var"] == pytest.approx(per_sample["var"] * 30 / 29)
