"""catch22: parity with the reference, pycatch22 and aeon, invariants, and what is undefined."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdistill.features.kernels import blocks, catch22_scaling
from smoothdistill.features.kernels.catch22 import (
    LEAST_SAMPLES,
    PUBLISHED_NAMES,
    SLOTS,
    catch22_engine,
)
from smoothdistill.reference.features import catch22 as reference

from .costly_engines import KINDS, WIDTHS, assert_same_bits, make_series, make_windows, run

U = 2.0**-53

# Places, lags and counts over lengths: equal or wrong.
DISCRETE = {
    *("catch22_acf_first_min", "catch22_high_fluctuation", "catch22_stretch_high"),
    *("catch22_stretch_decreasing", "catch22_periodicity", "catch22_ami_timescale"),
    *("catch22_whiten_timescale", "catch22_outlier_timing_pos", "catch22_outlier_timing_neg"),
    *("catch22_rs_range", "catch22_dfa", "catch22_centroid_freq", "catch22_transition_variance"),
}


def describe(windows, **options):
    return run(catch22_engine, SLOTS, windows, **options)


def describe_one(samples, **options):
    values = describe(np.asarray(samples, np.float64)[None, None], **options)
    return {name: value[0, 0] for name, value in values.items()}


def bound(name, samples):
    """How far kernel and reference may be apart.

    They have the same z-scores to the last bit: both sum from left to right. What follows is a
    sum of W terms, of z-scores below sqrt(W) or their products, and a division: 16 W U. The mean of
    the z-scores is 0 but for W U of the greatest sample, in standard deviations; only the
    reference takes that off the correlations. Where the autocorrelation crosses 1/e, its error is
    divided by a step of at least some 1 / W; the cube of a step is up to (2 sqrt(W))^3.
    """
    width = len(samples)
    if name in DISCRETE:
        return 4 * U * width
    offset = np.abs(samples).max() / max(samples.std(), 1e-30)
    amplification = {"catch22_acf_timescale": width * (1 + offset), "catch22_trev": width}
    return 16 * U * max(width, 8) * amplification.get(name, 1)


@pytest.mark.parametrize("window_samples", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parity_with_the_reference(window_samples, dtype):
    windows = make_windows(window_samples).astype(dtype)
    values = describe(windows)
    for window, channel in np.ndindex(windows.shape[:2]):
        samples = windows[window, channel].astype(np.float64)
        expected = reference.catch22(samples)
        for name in SLOTS:
            if name == "catch22_centroid_freq" and window_samples == 3:
                continue  # half of the power of three coarse samples may lie at one frequency
            np.testing.assert_allclose(
                values[name][window, channel],
                expected[name],
                rtol=0,
                atol=bound(name, samples),
                err_msg=f"{name} {KINDS[channel]}",
            )


def test_names():
    assert tuple(reference.FEATURES) == SLOTS
    assert reference.LEAST_SAMPLES == LEAST_SAMPLES
    assert len(SLOTS) == len(set(PUBLISHED_NAMES.values())) == 22


def test_layouts_and_dtypes_agree():
    windows = make_windows(60, num_windows=19)[:, :4].astype(np.float32)
    planar = describe(windows)
    assert_same_bits(planar, describe(windows, is_interleaved=True))
    assert_same_bits(planar, describe(windows.astype(np.float64)))
    single = describe(windows, dtype=np.float32)
    assert_same_bits({k: v.astype(np.float32) for k, v in planar.items()}, single)


def test_a_window_depends_on_no_other(monkeypatch):
    windows = make_windows(45, num_windows=37)
    windows[5, 2] = 1.0  # a constant one leaves nothing behind either
    together = describe(windows)
    for i in (0, 15, 16, 36):
        alone = describe(windows[[i]])
        assert_same_bits({k: v[[i]] for k, v in together.items()}, alone)
    monkeypatch.setattr(blocks, "CHUNK_VALUES", 1)  # one block of 16 windows in a chunk
    assert_same_bits(together, describe(windows))


@pytest.mark.parametrize("name", SLOTS)
def test_one_feature_alone_is_as_in_the_set(name):
    windows = make_windows(64)
    everything = describe(windows, triads=[[0, 1, 2]])
    asked = [(8, name), (4, name)]
    some = describe(windows, triads=[[0, 1, 2]], only=asked)
    for signal in (4, 8):
        np.testing.assert_array_equal(some[name][:, signal], everything[name][:, signal])
    assert sum(int((value != -777.0).sum()) for value in some.values()) == 2 * len(windows)


def test_norms_are_those_of_the_channels():
    windows = make_windows(50, num_windows=5)[:, 2:5].astype(np.float32)
    values = describe(windows, triads=[[0, 1, 2]])
    x, y, z = windows.astype(np.float64).swapaxes(0, 1)
    expected = describe(np.sqrt(x * x + y * y + z * z)[:, None])
    assert_same_bits({k: v[:, [3]] for k, v in values.items()}, expected)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="threads of plain Python take turns")
def test_threads_do_not_meet():
    windows = make_windows(50, num_windows=64)
    expected = describe(windows)
    with ThreadPoolExecutor(4) as pool:
        for values in pool.map(describe, [windows] * 8):
            assert_same_bits(values, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_spoils_its_own_series_alone(bad):
    windows = make_windows(40, num_windows=18)
    clean = describe(windows, undefined=0.0)
    windows[3, 2, 0] = windows[17, 5, 39] = bad
    values = describe(windows, undefined=0.0)
    for name in SLOTS:
        is_bad = np.zeros(clean[name].shape, bool)
        is_bad[3, 2] = is_bad[17, 5] = True
        assert np.isnan(values[name][is_bad]).all()
        np.testing.assert_array_equal(values[name][~is_bad], clean[name][~is_bad])


@pytest.mark.parametrize("value", [0.0, 0.1, -9.81, 1e300])
def test_a_constant_window_has_no_features(value):
    assert describe_one([value] * 50, undefined=-5.0) == dict.fromkeys(SLOTS, -5.0)


def test_samples_that_overflow_have_no_features():
    assert all(math.isnan(value) for value in describe_one([1e300, -1e300] * 20).values())


@pytest.mark.parametrize("name", SLOTS)
def test_a_window_that_is_too_short(name):
    least = LEAST_SAMPLES.get(name, 2)
    samples = np.random.default_rng(0).standard_normal(least)
    assert not math.isnan(describe_one(samples)[name])
    assert math.isnan(describe_one(samples[:-1])[name])


def test_scales_suffice_from_the_least_length_on():
    for length in (*range(1, 300), 999, 1000, 4096):
        has_scales = catch22_scaling.fluctuation_scales(length).size > 0
        assert has_scales == (length >= LEAST_SAMPLES["catch22_dfa"])


def test_a_ramp_has_no_whitening():
    values = describe_one(np.arange(60) * 0.1)
    assert math.isnan(values["catch22_whiten_timescale"])
    assert values["catch22_stretch_decreasing"] == 1.0
    assert values["catch22_trev"] == pytest.approx((math.sqrt(12 / 60 / 61)) ** 3)


def test_known_values():
    square = describe_one(np.tile([-1.0, -1.0, 1.0, 1.0], 16))
    assert square["catch22_periodicity"] == 3.0  # the peak is at lag 4
    assert square["catch22_entropy_pairs"] == pytest.approx(math.log(4.0), abs=1e-3)
    sine = describe_one(np.sin(2 * np.pi * np.arange(128) / 16))
    assert sine["catch22_centroid_freq"] == pytest.approx(2 * np.pi / 16)
    assert sine["catch22_periodicity"] == 15.0
    spike = describe_one(np.eye(1, 50, 20)[0])
    assert spike["catch22_outlier_timing_pos"] == pytest.approx(21 / 25 - 1)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), window_samples=st.integers(1, 70), power=st.integers(-20, 20))
def test_invariants(seed, window_samples, power):
    samples = make_series("noise", 1, window_samples, seed=seed)[0]
    values = describe_one(samples, undefined=0.0)
    scaled = describe_one(np.ldexp(samples, power), undefined=0.0)
    assert scaled == values  # z-scores have the same bits
    negated = describe_one(-samples, undefined=0.0)
    assert negated["catch22_outlier_timing_neg"] == values["catch22_outlier_timing_pos"]
    assert negated["catch22_outlier_timing_pos"] == values["catch22_outlier_timing_neg"]
    for name in ("catch22_trev", "catch22_mode_5"):
        assert negated[name] == pytest.approx(-values[name], abs=1e-12)
    for name in ("catch22_low_freq_power", "catch22_acf_timescale", "catch22_forecast_error"):
        assert negated[name] == pytest.approx(values[name], abs=1e-12)
    if window_samples > 1:
        shifted = describe_one(samples + 4096.0, undefined=0.0)
        # A shift costs the z-scores 12 of their bits.
        assert shifted["catch22_low_freq_power"] == pytest.approx(
            values["catch22_low_freq_power"], abs=1e-7
        )


# --- Others' values ------------------------------------------------------------------------------


def formula(window_samples, number):
    """A signal without random numbers: waves and a jagged part."""
    time = np.arange(window_samples)
    jagged = (time * time * 31 + 17 * number * time) % 101 / 101.0
    return np.sin(0.21 * time + number) + 0.4 * np.sin(1.3 * time) + 0.8 * jagged


FROZEN_FROM_PYCATCH22_0_5_0 = {
    (64, 1): (
        0.755102794817,
        0.56321644131,
        5.34955264314,
        13.0,
        0.30726754385,
        -0.0122085178076,
        0.904761904762,
        15.0,
        0.0617283950617,
        3.0,
        0.344253450362,
        6.0,
        0.285714285714,
        0.0390625,
        -0.25,
        0.807245947926,
        5.0,
        1.87415063459,
        0.777777777778,
        0.333333333333,
        0.196349540849,
        0.682164519927,
    ),
    (100, 2): (
        -0.0613060378144,
        -1.06146911025,
        5.42463536013,
        3.0,
        0.229460575988,
        -0.00564743606724,
        0.939393939394,
        14.0,
        0.015306122449,
        3.0,
        0.297811163894,
        2.0,
        0.142857142857,
        0.14,
        -0.09,
        0.732827278536,
        5.0,
        1.88844902201,
        0.714285714286,
        0.342857142857,
        0.196349540849,
        0.787947206552,
    ),
    (250, 3): (
        -0.927527572674,
        -1.14030361811,
        5.5746615255,
        13.0,
        0.27075515588,
        0.02709970768,
        0.939759036145,
        18.0,
        0.0141496598639,
        24.0,
        0.337720144416,
        6.0,
        0.285714285714,
        0.1,
        0.024,
        0.830233611365,
        5.0,
        1.81859714861,
        0.511627906977,
        0.255813953488,
        0.220893233456,
        0.679289863538,
    ),
}


@pytest.mark.parametrize(("window_samples", "number"), FROZEN_FROM_PYCATCH22_0_5_0)
def test_frozen_values(window_samples, number):
    samples = formula(window_samples, number)
    values, twin = describe_one(samples), reference.catch22(samples)
    for name, expected in zip(
        SLOTS, FROZEN_FROM_PYCATCH22_0_5_0[window_samples, number], strict=True
    ):
        # The frozen values have 12 digits.
        assert values[name] == pytest.approx(expected, rel=1e-11, abs=1e-11), name
        assert twin[name] == pytest.approx(expected, rel=1e-11, abs=1e-11), name


# What pycatch22 computes otherwise since that version.
CHANGED = {
    (0, 6): (
        "catch22_periodicity",
        "catch22_ami_timescale",
        "catch22_stretch_high",
        "catch22_stretch_decreasing",
    ),
    (1, 0): (
        *("catch22_mode_5", "catch22_mode_10", "catch22_ami2", "catch22_transition_variance"),
        *("catch22_embedding_dist", "catch22_whiten_timescale", "catch22_entropy_pairs"),
        *("catch22_rs_range", "catch22_dfa", "catch22_centroid_freq", "catch22_low_freq_power"),
    ),
}


@pytest.mark.parametrize("window_samples", [40, 100, 128, 250])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_parity_with_pycatch22(kind, window_samples):
    pycatch22 = pytest.importorskip("pycatch22")
    version = tuple(int(part) for part in metadata.version("pycatch22").split(".")[:2])
    changed = {name for since, names in CHANGED.items() if version >= since for name in names}
    values = describe(make_series(kind, 10, window_samples)[:, None])
    for window, samples in enumerate(make_series(kind, 10, window_samples)):
        found = pycatch22.catch22_all(samples.tolist(), short_names=True)
        theirs = dict(zip(found["short_names"], found["values"], strict=True))
        if version < (0, 6):  # where two short names were exchanged, and one was another
            theirs = dict(zip(found["names"], found["values"], strict=True))
            theirs = {name[8:]: theirs[PUBLISHED_NAMES[name]] for name in SLOTS}
        for name in set(SLOTS) - changed:
            # Their transforms and fits round otherwise; z-scores of "still" have lost 4 digits.
            assert values[name][window, 0] == pytest.approx(theirs[name[8:]], rel=1e-9, abs=1e-9), (
                f"{name} {kind} {window}"
            )


@pytest.mark.slow  # aeon compiles for half a minute
@pytest.mark.filterwarnings("ignore")
def test_parity_with_aeon():
    feature_based = pytest.importorskip("aeon.transformations.collection.feature_based")
    # Its outlier timings are some thresholds off in one of forty windows, and in coarse data its
    # z-scores, if not in ours, may round across the border of a bin.
    slots = [name for name in SLOTS if "outlier" not in name]
    names = [PUBLISHED_NAMES[name] for name in slots]
    for window_samples in (100, 128):
        windows = make_windows(window_samples, num_windows=10)
        windows = np.delete(windows, KINDS.index("counts"), axis=1)
        z = np.apply_along_axis(reference.standardize, 2, windows)
        transformer = feature_based.Catch22(features=names, outlier_norm=False)
        expected = transformer.fit_transform(z.reshape(-1, 1, window_samples))
        values = describe(windows)
        for column, name in enumerate(slots):
            np.testing.assert_allclose(
                values[name].reshape(-1), expected[:, column], rtol=1e-9, atol=1e-9, err_msg=name
            )
