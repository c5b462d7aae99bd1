"""Spectral features: parity with the reference, invariants, NaN, and what is undefined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from smoothdistill.features.kernels import spectral as kernel
from smoothdistill.features.kernels.fourier import transform
from smoothdistill.features.kernels.fourier_plan import plan_transform
from smoothdistill.features.kernels.lanes import LANES
from smoothdistill.features.kernels.spectral import SPECTRAL, spectral_engine
from smoothdistill.reference.features.spectral import power_spectra, spectral

from .engine_checks import assert_within, make_windows, norm_of, same_bits

U, SINGLE_U = 2.0**-53, 2.0**-24  # unit roundoffs of float64 and float32
RATE_HZ = 50.0
ROLLOFFS = (0.85, 0.95, 1.0)
BANDS_HZ = ((0.3, 3.0), (3.0, 8.0), (8.0, 15.0), (15.0, 25.0), (0.0, 100.0), (24.9, 24.95))
WIDTHS = (*range(1, 41), 64, 97, 100, 125, 128, 250, 256, 509, 1000)
NO_TRIADS = np.empty((0, 3), np.int64)
PLAIN = config.DISABLE_JIT
PLAIN_WIDTHS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 30, 31)
compiled_only = pytest.mark.skipif(
    PLAIN or bool(config.BOUNDSCHECK), reason="not the code that users run"
)


def slot_names(rolloffs=ROLLOFFS, bands_hz=BANDS_HZ) -> list[str]:
    return [
        *SPECTRAL,
        *(f"rolloff_{100 * quantile:g}" for quantile in rolloffs),
        *(f"band_{low:g}_{high:g}" for low, high in bands_hz),
        *(f"band_ratio_{low:g}_{high:g}" for low, high in bands_hz),
    ]


def describe(
    windows: np.ndarray,
    *,
    names=None,
    is_interleaved=False,
    triads=NO_TRIADS,
    taper=None,
    weight_by_magnitude=False,
    rolloffs=ROLLOFFS,
    bands_hz=BANDS_HZ,
    undefined=np.nan,
    dtype=np.float64,
) -> dict[str, np.ndarray]:
    """Features [windows, channels] of windows [windows, channels, time], by name."""
    num_windows, num_channels, window_samples = windows.shape
    slots = slot_names(rolloffs, bands_hz)
    names = slots if names is None else names
    num_signals = num_channels + len(triads)
    columns = np.full((num_signals, len(slots)), -1, np.int64)
    for place, name in enumerate(names):
        columns[:, slots.index(name)] = place * num_signals + np.arange(num_signals)
    flat = np.ascontiguousarray(windows.swapaxes(1, 2) if is_interleaved else windows).reshape(-1)
    # A row more than the columns: a slice of it is what the kernels are compiled for.
    out = np.full((num_signals * len(names) + 1, num_windows + 16), -7.0, dtype)
    out = out[:-1, :num_windows]
    spectral_engine(
        flat,
        np.arange(num_windows) * (num_channels * window_samples),
        window_samples,
        num_channels,
        is_interleaved,
        triads,
        RATE_HZ,
        np.ones(window_samples) if taper is None else taper,
        weight_by_magnitude,
        np.array(rolloffs),
        np.array(bands_hz, np.float64).reshape(-1, 2),
        undefined,
        columns,
        out,
    )
    assert (out.base[-1] == -7.0).all()
    assert (out.base[:, num_windows:] == -7.0).all()
    rows = out.reshape(len(names), num_signals, num_windows)
    return {name: rows[place].T.copy() for place, name in enumerate(names)}


# --- How far kernel and reference may be apart ---------------------------------------------------


def bounds(
    samples: np.ndarray, unit: float, *, taper=None, weight_by_magnitude=False
) -> dict[str, np.ndarray]:
    """Bounds of the errors for windows [windows, time] of one channel, by feature.

    All rests on the error of a line X_k. Centring rounds each sample by a few units relative to
    itself; a transform by stages of two points would round each line by 2 units of the root mean
    square of all, for each stage, as `test_fourier.py` holds. Then follow first derivatives, and
    sums of K terms, which round by at most K units. The float64 reference has the same bound.
    """
    powers = power_spectra(samples, taper=taper)
    num_windows, num_bins = powers.shape
    width = samples.shape[1]
    both_sides = 2 * powers.sum(1, keepdims=True)
    untapered = 2 * power_spectra(samples).sum(1, keepdims=True)
    line_error = unit * (4 * np.log2(4 * width) + 2) * np.sqrt(both_sides / width)
    line_error += 4 * unit * np.sqrt(untapered / width)
    many = (num_bins + 8) * unit
    d = 2 * np.sqrt(powers) * line_error + line_error**2 + 4 * unit * powers
    total = powers.sum(1)
    safe = np.where(total > 0, total, 1.0)
    d_total = d.sum(1) + many * total
    share, d_share = powers / safe[:, None], d / safe[:, None]
    f = np.arange(num_bins) * RATE_HZ / width
    names = slot_names()
    found = {name: np.zeros(num_windows) for name in names}
    found["power"] = d_total
    lines, d_lines = powers[:, 1:], d[:, 1:]
    if num_bins > 1:
        most, d_most = lines.max(1), d_lines.max(1)
        found["dom_power"] = d_most
        found["dom_ratio"] = (d_most + most / safe * d_total) / safe + 4 * unit * most / safe
        # Any line may be the greatest that comes as near to it as rounding.
        is_near = lines >= (most - 2 * d_most)[:, None]
        reach = np.abs(np.arange(num_bins - 1) - lines.argmax(1)[:, None]) * is_near
        found["max_index"] = reach.max(1).astype(float)
        found["dom_freq"] = (reach.max(1) + 4 * U * num_bins) * RATE_HZ / width
    c = share @ f
    d_centroid = (np.abs(f - c[:, None]) * d_share).sum(1) + 2 * many * c
    found["centroid"] = d_centroid
    if weight_by_magnitude:
        amplitudes = np.sqrt(powers)
        sums = np.where(total > 0, amplitudes.sum(1), 1.0)
        weighted = amplitudes @ f / sums
        d_amplitudes = line_error + 4 * unit * amplitudes
        reach = (np.abs(f - weighted[:, None]) * d_amplitudes).sum(1) / sums
        found["centroid"] = reach + 2 * many * weighted
    distance = f - c[:, None]
    # A distance in bins rounds once for each power of two that it passes.
    e = 4 * unit * f[-1]
    m2, m3, m4 = ((distance**power * share).sum(1) for power in (2, 3, 4))
    a1, a3 = ((np.abs(distance) ** power * share).sum(1) for power in (1, 3))
    off = distance**2 - m2[:, None]
    d2 = (np.abs(off) * d_share).sum(1) + 2 * e * a1 + e**2 + many * m2
    off = distance**3 - m3[:, None] - 3 * m2[:, None] * distance
    d3 = (np.abs(off) * d_share).sum(1) + 6 * e * m2 + many * (a3 + 3 * m2 * a1)
    off = distance**4 - m4[:, None] - 4 * m3[:, None] * distance
    d4 = (np.abs(off) * d_share).sum(1) + 8 * e * a3 + many * (m4 + 4 * a3 * a1)
    d3, d4 = d3 + 3 * e**2 * a1 + e**3, d4 + 6 * e**2 * m2 + 4 * e**3 * a1 + e**4
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(d2 > 0, d2 / m2, 0.0)
        is_lost = ~(relative < 0.1)
        # The derivative of a root is that of its argument over twice itself, or their root near 0.
        found["spread"] = np.where(is_lost, np.sqrt(m2 + d2), d2 / np.sqrt(m2))
        skew = d3 / m2**1.5 + 2 * np.abs(m3) / m2**1.5 * relative
        kurt = d4 / m2**2 + 3 * m4 / m2**2 * relative
        found["spec_skew"] = np.where(is_lost, np.inf, skew + many * np.abs(m3) / m2**1.5)
        found["spec_kurt"] = np.where(is_lost, np.inf, kurt + many * m4 / m2**2)
        # Two bins: the moments are all of one number, which is lost where its bins are.
        bits = np.log2(np.clip(share, d_share, None, where=d_share > 0, out=share.copy()))
        bits = np.where(share > 0, np.abs(bits), 0.0) + (d_share > 0) * 1.5
        entropy = -(share * np.log2(np.where(share > 0, share, 1.0))).sum(1)
        d_entropy = ((bits + entropy[:, None]) * d_share).sum(1) + (d_share * 150).sum(1) * unit
        d_entropy += (many + 8 * unit) * (entropy + 1.5)
        found["spec_entropy"] = d_entropy / np.log2(max(num_bins, 2))
        if num_bins > 1:
            weak = np.where(lines > 0, d_lines / lines, np.where(d_lines > 0, np.inf, 0.0))
            logarithms = np.abs(np.log2(np.where(share[:, 1:] > 0, share[:, 1:], 1.0))).mean(1)
            flatness = np.exp(np.log(lines).mean(1)) / lines.mean(1)
            factor = 2 * weak.mean(1) + d_total / safe + many * (logarithms + 2)
            found["spec_flatness"] = np.where(
                weak.max(1) < 0.1, np.nan_to_num(flatness) * factor, np.inf
            )
    cumulated = powers.cumsum(1)
    for name, quantile in (
        ("median_freq", 0.5),
        *((f"rolloff_{100 * quantile:g}", quantile) for quantile in ROLLOFFS),
    ):
        slack = 2 * d_total

        def first(threshold: np.ndarray) -> np.ndarray:
            reached = cumulated >= threshold[:, None]
            reached[:, -1] = True
            return f[reached.argmax(1)]

        lowest = first(quantile * total - slack)
        found[name] = first(quantile * total + slack) - lowest + 4 * U * f[-1]
    for low, high in BANDS_HZ:
        inside = (f >= low) & (f < high)
        energy = powers[:, inside].sum(1)
        d_energy = d[:, inside].sum(1) + many * energy
        found[f"band_{low:g}_{high:g}"] = d_energy
        ratio = energy / safe
        found[f"band_ratio_{low:g}_{high:g}"] = (
            d_energy + ratio * d_total
        ) / safe + 4 * unit * ratio
    return found


def assert_parity(windows: np.ndarray, *, undefined=np.nan, signals=None, **options) -> None:
    """The kernel on windows [windows, channels, time] against the reference, channel by channel."""
    unit = SINGLE_U if windows.dtype == np.float32 else U
    got = describe(windows, undefined=undefined, **options)
    terms = {key: options[key] for key in ("taper", "weight_by_magnitude") if key in options}
    signals = windows if signals is None else signals
    for channel in range(signals.shape[1]):
        samples = signals[:, channel].astype(np.float64)
        expected = spectral(
            samples,
            sample_rate_hz=RATE_HZ,
            rolloffs=ROLLOFFS,
            bands_hz=BANDS_HZ,
            undefined=undefined,
            **terms,
        )
        limits = bounds(samples, unit, **terms)
        assert set(got) == set(expected) == set(limits)
        for name, columns in got.items():
            column = columns[:, channel]
            size = np.abs(np.nan_to_num(expected[name]))
            limit = limits[name] + 4 * U * size
            if column.dtype == np.float32:
                limit = limit + SINGLE_U * size
            assert_within(column, expected[name], limit, about=f"{name} {windows.shape} {channel}")


# --- Parity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window_samples", PLAIN_WIDTHS if PLAIN else WIDTHS)
def test_parity_with_the_reference(window_samples: int, dtype) -> None:
    windows = make_windows(18, 3, window_samples)[0].astype(dtype)
    assert_parity(windows, is_interleaved=window_samples % 2 == 0)


@pytest.mark.parametrize("num_windows", [0, 1, 15, 16, 17, 33])
@pytest.mark.parametrize("num_channels", [1, 2, 5])
@pytest.mark.parametrize("is_interleaved", [False, True])
def test_parity_for_any_shape(num_windows, num_channels, is_interleaved) -> None:
    if num_windows:
        windows = make_windows(num_windows, num_channels, 20)[0]
        assert_parity(windows, is_interleaved=is_interleaved)
    else:
        windows = np.empty((0, num_channels, 20), np.float32)
        assert describe(windows, is_interleaved=is_interleaved)["power"].shape == (0, num_channels)


@pytest.mark.parametrize("window_samples", [10, 15, 24, 31])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_options(window_samples: int, dtype) -> None:
    windows = make_windows(18, 2, window_samples)[0].astype(dtype)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_samples) / window_samples)
    assert_parity(windows, taper=hann)
    assert_parity(windows, weight_by_magnitude=True)
    assert_parity(windows, taper=hann, weight_by_magnitude=True, undefined=0.0)


def test_float32_results() -> None:
    assert_parity(make_windows(18, 2, 25)[0], dtype=np.float32)


def test_norms() -> None:
    windows = make_windows(20, 4, 30)[0]
    triads = np.array([[0, 1, 3], [3, 2, 1]])
    norms = np.stack([norm_of(windows[:, axes]) for axes in triads], axis=1)
    signals = np.concatenate([windows, norms], axis=1)
    for is_interleaved in (False, True):
        assert_parity(windows, triads=triads, is_interleaved=is_interleaved, signals=signals)


@compiled_only
@pytest.mark.parametrize("window_samples", [64, 97, 100, 128, 256])
def test_what_float32_keeps(window_samples: int) -> None:
    """NOTE [What float32 keeps]: a still sensor, whose mean is 5,000 times its deviations."""
    noise = np.random.default_rng(3).standard_normal((500, 1, window_samples))
    windows = (9.81 + 0.002 * noise).astype(np.float32)
    got = describe(windows)
    expected = spectral(
        windows[:, 0].astype(np.float64),
        sample_rate_hz=RATE_HZ,
        rolloffs=ROLLOFFS,
        bands_hz=BANDS_HZ,
    )
    for name in ("power", "dom_power", "dom_ratio", "centroid", "spread", "spec_entropy"):
        error = np.abs(got[name][:, 0] / expected[name] - 1)
        assert error.max() < 3e-6, name
    for low, high in BANDS_HZ[:4]:
        share = expected[f"band_ratio_{low:g}_{high:g}"]
        error = np.abs(got[f"band_ratio_{low:g}_{high:g}"][:, 0] - share)
        assert (error < 3e-6 * np.sqrt(share)).all()


# --- One thing at a time -------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["power"], ["spec_flatness"], ["spec_kurt"], ["median_freq"]])
def test_only_what_is_asked(names) -> None:
    windows = make_windows(18, 2, 20)[0]
    everything = describe(windows)
    for name, column in describe(windows, names=names).items():
        assert same_bits(column, everything[name])


def test_channels_without_columns_stay_out() -> None:
    windows = make_windows(18, 3, 20)[0]
    columns = np.full((3, len(SPECTRAL)), -1, np.int64)
    columns[1, 0] = 0
    out = np.zeros((3, 34))[:1, :18]
    spectral_engine(
        *(windows.reshape(-1), np.arange(18) * 60, 20, 3, False, NO_TRIADS, RATE_HZ, np.ones(20)),
        *(False, np.empty(0), np.empty((0, 2)), np.nan, columns, out),
    )
    assert same_bits(out[0], describe(windows)["power"][:, 1])


@pytest.mark.parametrize("undefined", [np.nan, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window_samples", [1, 2, 5, 30, 31])
def test_a_constant_has_no_frequency(window_samples: int, dtype, undefined: float) -> None:
    for constant in (0.0, 9.81, -0.1, 1e8):
        got = describe(np.full((3, 1, window_samples), constant, dtype), undefined=undefined)
        for name, column in got.items():
            is_power = name in ("power", "dom_power") or (
                name.startswith("band_") and "ratio" not in name
            )
            expected = 0.0 if is_power else undefined
            assert np.array_equal(column, np.full((3, 1), expected), equal_nan=True), name


@pytest.mark.parametrize("undefined", [np.nan, 0.0])
def test_one_line_has_no_shape(undefined: float) -> None:
    """Two and three samples have one line at most, and a square wave has one if there are 2**n."""
    rng = np.random.default_rng(0)
    for windows in (
        rng.standard_normal((20, 1, 2)),
        rng.standard_normal((20, 1, 3)),
        np.tile([1.0, -1.0], (4, 1, 32)),
        np.tile([1.0, 0.0, -1.0, 0.0], (4, 1, 16)),
    ):
        for dtype in (np.float32, np.float64):
            got = describe(windows.astype(dtype), undefined=undefined)
            assert (got["spread"] == 0.0).all()
            assert np.array_equal(got["spec_skew"], got["spread"] + undefined, equal_nan=True)
            assert np.array_equal(got["spec_kurt"], got["spread"] + undefined, equal_nan=True)
            assert (got["dom_ratio"] == 1.0).all()
            assert (got["spec_entropy"] >= 0.0).all()
            assert (got["spec_entropy"] <= 2 * np.finfo(dtype).eps).all()
            assert not np.signbit(got["spec_entropy"]).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.floats(0.1, 100.0), st.floats(0.0, 6.3), st.floats(-100.0, 100.0))
def test_a_sine_is_found(cycles: int, amplitude: float, phase: float, offset: float) -> None:
    time = np.arange(64)
    wave = offset + amplitude * np.sin(2 * np.pi * cycles * time / 64 + phase)
    got = describe(wave[None, None])
    assert got["max_index"] == cycles
    assert got["dom_freq"] == pytest.approx(cycles * RATE_HZ / 64)
    assert got["centroid"] == pytest.approx(cycles * RATE_HZ / 64)
    assert got["median_freq"] == got["rolloff_95"] == got["dom_freq"]
    assert got["power"] == pytest.approx((64 * amplitude / 2) ** 2)
    assert got["dom_ratio"] == pytest.approx(1.0)
    assert got["spread"] == pytest.approx(0.0, abs=1e-5)
    assert got["spec_entropy"] == pytest.approx(0.0, abs=1e-9)


def test_definitions_by_hand() -> None:
    """Two lines, one at 5 Hz with power 4 and one at 10 Hz with power 1, in units of (W / 2)^2."""
    time = np.arange(50) / RATE_HZ
    wave = 3 + 2 * np.cos(2 * np.pi * 5 * time) + np.cos(2 * np.pi * 10 * time)
    got = {name: column[0, 0] for name, column in describe(wave[None, None]).items()}
    unit = 25.0**2
    assert got["power"] == pytest.approx(5 * unit)
    assert (got["dom_freq"], got["max_index"]) == (5.0, 5.0)
    assert got["dom_power"] == pytest.approx(4 * unit)
    assert got["dom_ratio"] == pytest.approx(0.8)
    assert got["centroid"] == pytest.approx(6.0)
    assert got["spread"] == pytest.approx(2.0)
    assert got["spec_skew"] == pytest.approx((0.8 * -1 + 0.2 * 64) / 8)
    assert got["spec_kurt"] == pytest.approx((0.8 * 1 + 0.2 * 256) / 16)
    assert got["median_freq"] == 5.0
    assert got["rolloff_85"] == got["rolloff_95"] == 10.0
    entropy = -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2)) / np.log2(26)
    assert got["spec_entropy"] == pytest.approx(entropy)
    assert got["band_3_8"] == pytest.approx(4 * unit)
    assert got["band_ratio_8_15"] == pytest.approx(0.2)
    assert got["band_0_100"] == pytest.approx(5 * unit)
    assert got["band_24.9_24.95"] == 0.0
    by_magnitude = describe(wave[None, None], weight_by_magnitude=True)
    assert by_magnitude["centroid"] == pytest.approx(20 / 3)


def test_a_band_has_its_lower_edge_and_not_its_upper() -> None:
    bands_hz = ((0.0, 0.5), (0.5, 1.0), (1.0, 24.5), (24.5, 25.0), (25.0, 26.0))
    windows = make_windows(20, 1, 100)[0].astype(np.float64)
    got = describe(windows, bands_hz=bands_hz)
    powers = power_spectra(windows[:, 0])
    for (low, high), stop, start in (
        (bands_hz[0], 1, 0),
        (bands_hz[1], 2, 1),
        (bands_hz[2], 49, 2),
        (bands_hz[3], 50, 49),
        (bands_hz[4], 51, 50),
    ):
        expected = powers[:, start:stop].sum(1)
        # a line of a pure ramp or square wave is rounding and nothing else
        limit = 64 * U * powers.sum(1) + 1e-9 * expected
        assert_within(got[f"band_{low:g}_{high:g}"][:, 0], expected, limit, about=f"{low}")


def test_hann_keeps_a_sine_in_three_lines() -> None:
    time = np.arange(64)
    wave = 5 + np.sin(2 * np.pi * 10.3 * time / 64)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * time / 64)
    bands_hz = ((9 * RATE_HZ / 64, 12.5 * RATE_HZ / 64),)
    plain = describe(wave[None, None], bands_hz=bands_hz)
    tapered = describe(wave[None, None], bands_hz=bands_hz, taper=taper)
    name = next(name for name in plain if name.startswith("band_ratio"))
    assert plain[name] < 0.98
    assert tapered[name] > 0.998


# --- Invariants ----------------------------------------------------------------------------------

noise = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).standard_normal((3, 2, 30))
)


@settings(max_examples=30, deadline=None)
@given(noise, st.integers(-20, 20))
def test_scaling_by_a_power_of_two_is_exact(windows: np.ndarray, exponent: int) -> None:
    for dtype in (np.float32, np.float64):
        before = describe(windows.astype(dtype))
        after = describe(windows.astype(dtype) * dtype(2.0**exponent))
        for name in before:
            is_power = name in ("power", "dom_power") or (
                name.startswith("band_") and "ratio" not in name
            )
            factor = 4.0**exponent if is_power else 1.0
            assert same_bits(after[name], before[name] * factor), name


@settings(max_examples=30, deadline=None)
@given(noise, st.integers(-1000, 1000))
def test_a_constant_changes_nothing(windows: np.ndarray, constant: int) -> None:
    """Of samples that a sum with it does not round: all that changes is how centring rounds."""
    windows = np.round(windows * 1024) / 1024
    got, shifted = describe(windows), describe(windows + constant)
    for channel in range(2):
        limits = bounds(windows[:, channel], U)
        for name in got:
            limit = 2 * limits[name] + 8 * U * np.abs(got[name][:, channel])
            assert_within(shifted[name][:, channel], got[name][:, channel], limit, about=name)


@settings(max_examples=30, deadline=None)
@given(noise)
def test_reversal_changes_nothing(windows: np.ndarray) -> None:
    got, reversed_ = describe(windows), describe(windows[:, :, ::-1])
    for channel in range(2):
        limits = bounds(windows[:, channel], U)
        for name in got:
            limit = 2 * limits[name] + 8 * U * np.abs(got[name][:, channel])
            assert_within(reversed_[name][:, channel], got[name][:, channel], limit, about=name)


@pytest.mark.parametrize("window_samples", PLAIN_WIDTHS if PLAIN else (2, 3, 25, 64, 97, 100))
def test_parseval(window_samples: int) -> None:
    """The variance is the power of both sides over W^2; the middle line has but one side."""
    windows = make_windows(18, 2, window_samples)[0].astype(np.float64)
    got = describe(windows, bands_hz=((RATE_HZ / 2, RATE_HZ),))
    middle = got[f"band_{RATE_HZ / 2:g}_{RATE_HZ:g}"]
    variance = (2 * got["power"] - middle) / window_samples**2
    size = np.abs(windows).max(2) ** 2
    np.testing.assert_allclose(variance, windows.var(2), rtol=1e-12, atol=1e-30 * size.max())


@pytest.mark.parametrize("window_samples", [20, 31, 35])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_nan_stays_in_its_window(window_samples: int, bad: float) -> None:
    for dtype in (np.float32, np.float64):
        windows = make_windows(20, 3, window_samples)[0].astype(dtype)
        whole = describe(windows, undefined=0.0)
        for place in (0, window_samples // 2, window_samples - 1):
            holed = windows.copy()
            holed[4, 1, place] = bad
            for name, column in describe(holed, undefined=0.0).items():
                assert np.isnan(column[4, 1]), name
                column[4, 1] = whole[name][4, 1]
                assert same_bits(column, whole[name]), name


def test_too_much_power_for_float32() -> None:
    """Powers are infinite or NaN, and all else is NaN, in that window alone."""
    windows = make_windows(20, 1, 30)[0]
    whole = describe(windows)
    windows[4] = 1e30 * np.sin(np.arange(30.0))
    for name, column in describe(windows, undefined=0.0).items():
        assert not np.isfinite(column[4, 0]), name
        assert np.isfinite(column[0, 0]) == np.isfinite(whole[name][0, 0])
        assert name == "power" or np.isnan(column[4, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window_samples", [25, 31, 64])
def test_a_window_knows_nothing_of_others(window_samples: int, dtype) -> None:
    """Alone, in another place, beside huge ones, with other channels: the same bits."""
    windows = make_windows(40, 3, window_samples)[0].astype(dtype)
    windows[::7] *= dtype(1e10)
    together = describe(windows)
    order = np.random.default_rng(0).permutation(40)
    shuffled = describe(windows[order], is_interleaved=True)
    for name in together:
        assert same_bits(shuffled[name], together[name][order]), name
    for window, channel in ((0, 0), (3, 2), (16, 1), (39, 2)):
        alone = describe(windows[window : window + 1, channel : channel + 1])
        for name in together:
            assert same_bits(alone[name][0, 0], together[name][window, channel]), name


# --- Parity with others --------------------------------------------------------------------------


def test_parity_with_scipy() -> None:
    """Bands of `scipy.signal.periodogram`, which is a density and of one side."""
    scipy_signal = pytest.importorskip("scipy.signal")
    windows = np.random.default_rng(1).standard_normal((10, 1, 100)) + 9.81
    got = describe(windows)
    f, density = scipy_signal.periodogram(windows[:, 0], RATE_HZ, detrend="constant")
    powers = density * RATE_HZ * 100
    powers[:, 1:-1] /= 2
    for low, high in BANDS_HZ[:4]:
        expected = powers[:, (f >= low) & (f < high)].sum(1)
        np.testing.assert_allclose(got[f"band_{low:g}_{high:g}"][:, 0], expected, rtol=1e-12)


def test_parity_with_antropy() -> None:
    """Its spectrum is a density of one side, where middle and mean count half: 5e-3 apart."""
    antropy = pytest.importorskip("antropy")
    windows = np.random.default_rng(1).standard_normal((10, 1, 100))
    expected = antropy.spectral_entropy(
        windows[:, 0], RATE_HZ, method="fft", normalize=True, axis=-1
    )
    np.testing.assert_allclose(describe(windows)["spec_entropy"][:, 0], expected, atol=5e-3)


def test_parity_with_tsfel() -> None:
    """Its moments are of magnitudes of the raw signal; of squares of the demeaned they are ours."""
    features = pytest.importorskip("tsfel.feature_extraction.features")
    windows = np.random.default_rng(1).standard_normal((5, 1, 100))
    windows -= windows.mean(2, keepdims=True)
    got = describe(windows, weight_by_magnitude=True)
    for window in range(5):
        expected = features.spectral_centroid(windows[window, 0], RATE_HZ)
        assert got["centroid"][window, 0] == pytest.approx(expected)


# --- What it is compiled to, and without compilation ---------------------------------------------


@compiled_only
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernels_are_vectors(dtype) -> None:
    from .test_vectorised import assembly, counts, has_fused_operations, has_wide_registers, loops

    plan = plan_transform(60, np.dtype(dtype).name)
    values = np.zeros(plan.scratch_values, dtype)
    describing = (False, 1.0, False, np.empty(0), np.zeros((1, 2), np.int64), 0.0, np.nan)
    slots = np.arange(len(SPECTRAL) + 2)
    results = np.empty(slots.size * LANES)
    for function, arguments in (
        (transform, (plan.program, plan.twiddles, plan.rows, values, 0)),
        (kernel._centre, (values, 0, 60, np.ones(60), False)),
        (kernel._describe, (values, 0, 60, *describing, slots, results)),
    ):
        text = assembly(function, *arguments)
        packed, scalar = counts(text)
        assert has_wide_registers(text)
        assert packed > 10
        assert scalar < packed / 4, function
        if function is not kernel._centre:
            assert has_fused_operations(text)
        bodies = [body for body in loops(text) if counts(body)[0]]
        assert bodies
        innermost = [body for body in bodies if not loops(body)]
        for body in innermost:
            assert counts(body)[1] == 0, body


@compiled_only
@pytest.mark.parametrize(
    ("variable", "widths"),
    [
        ("NUMBA_DISABLE_JIT", PLAIN_WIDTHS),
        # minutes, for each check is compiled into the code of every load and store
        pytest.param("NUMBA_BOUNDSCHECK", (1, 2, 9, 31, 100), marks=pytest.mark.slow),
    ],
)
def test_plain_python_and_checked_bounds(variable: str, widths, tmp_path: Path) -> None:
    here = Path(__file__).resolve()
    environment = {
        **os.environ,
        variable: "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(here.parents[2]), os.environ.get("PYTHONPATH")])
        ),
    }
    tests = [f"{here}::test_parity_with_the_reference[{width}-float32]" for width in widths]
    tests += [f"{here}::{name}" for name in ("test_norms", "test_one_line_has_no_shape")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=here.parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
