"""Complexity: parity with the reference and antropy, invariants, and what is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdistill.features.kernels import blocks
from smoothdistill.features.kernels.complexity import (
    DEFAULT_PARAMS,
    PARAMS,
    SLOTS,
    complexity_engine,
)
from smoothdistill.reference.features.complexity import complexity, dfa, dfa_scales

from .costly_engines import KINDS, WIDTHS, assert_same_bits, make_series, make_windows, run

U = 2.0**-53


def describe(windows, **options):
    return run(complexity_engine, SLOTS, windows, **{"params": DEFAULT_PARAMS, **options})


def describe_one(samples, **options):
    values = describe(np.asarray(samples, np.float64)[None, None], **options)
    return {name: value[0, 0] for name, value in values.items()}


def slope_error(logs, relative_errors):
    """Error of a slope over `logs` from relative errors of what the logs are taken of."""
    x = logs - np.mean(logs)
    return np.sum(np.abs(x) * relative_errors) / np.sum(x * x)


def bounds(samples):
    """How far kernel and reference may be apart, by forward error analysis; both round.

    Counts are equal, and an entropy is a handful of terms below 1: 32 U. A curve's length is a sum
    of up to W terms: (W + 8) U, relative. A summed signal is off by (W + 4) U of its largest value,
    a residual by twice as much for the line, and a fluctuation by no more; relative to itself.
    """
    found = {"sample_entropy": 32 * U * 8, "perm_entropy": 32 * U}
    width = len(samples)
    found["higuchi_fd"] = 2 * slope_error(np.log(np.arange(1, 11)), (width + 8) * U) + 32 * U
    scales = dfa_scales(width)
    if len(scales) < 2:
        return found | {"dfa": 0.0}
    walk = np.cumsum(samples - samples.mean())
    # The mean that is subtracted is off by (W + 1) U of the largest sample, at each step.
    absolute = (
        3 * U * ((width + 4) * np.abs(walk).max() + width * (width + 1) * np.abs(samples).max())
    )
    spreads = []
    for scale in scales:
        segments = walk[: width // scale * scale].reshape(-1, scale)
        place = np.arange(scale) - (scale - 1) / 2
        rest = segments - segments.mean(1, keepdims=True)
        rest -= np.outer(rest @ place / (place @ place), place)
        spreads.append(math.sqrt(np.mean(rest**2)))
    return found | {"dfa": 2 * slope_error(np.log(scales), absolute / np.array(spreads)) + 32 * U}


@pytest.mark.parametrize("window_samples", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parity_with_the_reference(window_samples, dtype):
    windows = make_windows(window_samples).astype(dtype)
    values = describe(windows)
    for window, channel in np.ndindex(windows.shape[:2]):
        samples = windows[window, channel].astype(np.float64)
        expected, bound = complexity(samples), bounds(samples)
        for name in SLOTS:
            np.testing.assert_allclose(
                values[name][window, channel],
                expected[name],
                rtol=0,
                atol=bound[name],
                err_msg=f"{name} {KINDS[channel]}",
            )


@pytest.mark.parametrize(
    "params",
    [
        {"sample_entropy_order": 1, "sample_entropy_tolerance": 0.5},
        {"sample_entropy_order": 3, "perm_entropy_order": 2, "perm_entropy_delay": 3},
        {"perm_entropy_order": 4, "perm_entropy_normalize": True, "higuchi_kmax": 5},
        {"perm_entropy_order": 5, "perm_entropy_delay": 2, "higuchi_kmax": 2},
        {"perm_entropy_order": 7, "higuchi_kmax": 15},
    ],
)
def test_parity_with_other_parameters(params):
    assert len(PARAMS) == len(DEFAULT_PARAMS)
    windows = make_windows(45, num_windows=1)
    chosen = dict(zip(PARAMS, DEFAULT_PARAMS, strict=True)) | params
    values = describe(windows, params=[float(chosen[name]) for name in PARAMS])
    for channel, kind in enumerate(KINDS):
        expected = complexity(windows[0, channel], **params)
        for name in SLOTS:  # slopes over few strides, entropies of up to 39 terms: 1000 U
            assert values[name][0, channel] == pytest.approx(
                expected[name], rel=0, abs=1000 * U, nan_ok=True
            ), f"{name} {kind}"


def test_layouts_and_dtypes_agree():
    windows = make_windows(60, num_windows=19)[:, :4].astype(np.float32)
    planar = describe(windows)
    assert_same_bits(planar, describe(windows, is_interleaved=True))
    assert_same_bits(planar, describe(windows.astype(np.float64)))
    single = describe(windows, dtype=np.float32)
    assert_same_bits({k: v.astype(np.float32) for k, v in planar.items()}, single)


def test_a_window_depends_on_no_other(monkeypatch):
    windows = make_windows(40, num_windows=37)
    together = describe(windows)
    alone = [describe(windows[[i]]) for i in (0, 15, 16, 36)]
    for place, i in enumerate((0, 15, 16, 36)):
        assert_same_bits({k: v[[i]] for k, v in together.items()}, alone[place])
    monkeypatch.setattr(blocks, "CHUNK_VALUES", 1)  # one block of 16 windows in a chunk
    assert_same_bits(together, describe(windows))


def test_norms_are_those_of_the_channels():
    windows = make_windows(30, num_windows=5)[:, 2:5].astype(np.float32)
    values = describe(windows, triads=[[0, 1, 2], [2, 0, 1]])
    norm = np.sqrt((windows.astype(np.float64) ** 2).sum(axis=1))
    expected = describe(norm[:, None])
    for name in SLOTS:
        np.testing.assert_allclose(values[name][:, [3]], expected[name], rtol=1e-9, atol=1e-9)


def test_only_what_is_asked_for_is_written():
    windows = make_windows(40)
    everything = describe(windows, triads=[[0, 1, 2]])
    asked = [(8, "dfa"), (2, "dfa"), (2, "perm_entropy")]
    some = describe(windows, triads=[[0, 1, 2]], only=asked)
    for name in SLOTS:
        for signal in range(9):
            value = some[name][:, signal]
            if (signal, name) in asked:
                np.testing.assert_array_equal(value, everything[name][:, signal])
            else:
                assert (value == -777.0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_spoils_its_own_series_alone(bad):
    windows = make_windows(60, num_windows=18)
    clean = describe(windows)
    windows[3, 2, 0] = windows[17, 5, 59] = bad
    values = describe(windows, undefined=0.0)
    for name in SLOTS:
        is_bad = np.zeros(clean[name].shape, bool)
        is_bad[3, 2] = is_bad[17, 5] = True
        assert np.isnan(values[name][is_bad]).all()
        np.testing.assert_array_equal(values[name][~is_bad], np.nan_to_num(clean[name][~is_bad]))


@pytest.mark.parametrize("value", [0.0, 0.1, -9.81, 1e300])
def test_a_constant_window(value):
    assert describe_one([value] * 70, undefined=-5.0) == {
        "sample_entropy": -5.0, "perm_entropy": 0.0, "higuchi_fd": -5.0, "dfa": -5.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "least"), [("sample_entropy", 4), ("perm_entropy", 3), ("higuchi_fd", 20), ("dfa", 58)]
)
def test_a_window_that_is_too_short(name, least):
    samples = np.sin(np.arange(least)) + 0.01 * np.arange(least)
    if name == "sample_entropy":
        samples = np.array([1.0, 2.0, 1.0, 2.0, 1.0])
        least = 5  # with one sample less, no template of 3 matches
    assert math.isnan(describe_one(samples[:-1])[name])
    assert not math.isnan(describe_one(samples)[name])


def test_known_values():
    time = np.arange(500)
    assert describe_one(np.tile([1.0, 2.0], 50))["sample_entropy"] == 0.0
    assert describe_one(np.tile([1.0, 2.0], 50))["perm_entropy"] == 1.0
    assert math.isnan(describe_one(np.tile([1.0, 2.0], 50))["higuchi_fd"])  # equal 2 samples later
    assert describe_one(time * 1.0)["perm_entropy"] == 0.0
    assert describe_one(time * 1.0)["higuchi_fd"] == pytest.approx(1.0, abs=1e-12)
    # 4 5 6, 5 6 4, 6 4 8, 4 8 9: 012, 201, 102, 012
    assert describe_one([4.0, 5, 6, 4, 8, 9])["perm_entropy"] == pytest.approx(1.5)
    assert (
        describe_one([1.0, 1.0, 1.0, 2.0])["perm_entropy"] == 0.0
    )  # of equals, the earlier is less
    noise = make_series("noise", 1, 4000)[0]
    if len(WIDTHS) > 10:  # plain Python would take minutes
        assert describe_one(noise)["dfa"] == pytest.approx(0.5, abs=0.08)
        assert describe_one(np.cumsum(noise))["dfa"] == pytest.approx(1.5, abs=0.08)
        assert describe_one(noise)["higuchi_fd"] == pytest.approx(2.0, abs=0.02)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    window_samples=st.integers(1, 70),
    power=st.integers(-20, 20),
)
def test_invariants(seed, window_samples, power):
    samples = make_series("counts", 1, window_samples, seed=seed)[0]
    values = describe_one(samples)
    # Counts are whole, and so are halves: a power of two rounds nothing, but moves the logarithms.
    scaled = describe_one(np.ldexp(samples, power))
    for name in ("sample_entropy", "perm_entropy"):
        np.testing.assert_array_equal(scaled[name], values[name])
    for name in ("higuchi_fd", "dfa"):
        assert scaled[name] == pytest.approx(values[name], rel=1e-12, abs=1e-12, nan_ok=True)
    shifted = describe_one(samples + 64.0)
    for name in SLOTS:
        assert shifted[name] == pytest.approx(values[name], rel=1e-9, abs=1e-9, nan_ok=True)
    negated = describe_one(-samples)
    assert negated["sample_entropy"] == pytest.approx(values["sample_entropy"], nan_ok=True)
    assert negated["higuchi_fd"] == pytest.approx(values["higuchi_fd"], nan_ok=True)
    assert 0.0 <= describe_one(samples)["perm_entropy"] <= math.log2(6) or window_samples < 3


@pytest.mark.parametrize("window_samples", [60, 100, 250])
@pytest.mark.parametrize("kind", ["noise", "walk", "gait", "still", "counts", "spike"])
def test_parity_with_antropy(kind, window_samples):
    """antropy adds 1e-9 to the denominators of its slopes, so these differ by some 1e-8."""
    antropy = pytest.importorskip("antropy")
    if len(WIDTHS) < 10:
        pytest.skip("antropy needs its kernels compiled")
    for samples in make_series(kind, 5, window_samples):
        values = describe_one(samples)
        expected = antropy.sample_entropy(samples)
        if np.isfinite(expected):
            assert values["sample_entropy"] == pytest.approx(expected, rel=1e-12, abs=1e-12)
        else:
            assert math.isnan(values["sample_entropy"])
        assert values["perm_entropy"] == pytest.approx(antropy.perm_entropy(samples), rel=1e-12)
        assert values["higuchi_fd"] == pytest.approx(antropy.higuchi_fd(samples), abs=1e-7)
        assert values["dfa"] == pytest.approx(antropy.detrended_fluctuation(samples), abs=1e-6)


def test_reference_leaves_out_straight_lines():
    """A sum that is straight at the shortest scale has no logarithm there."""
    assert math.isnan(dfa(np.tile([1.0, -1.0], 10)))  # too short
    assert math.isnan(dfa(np.full(100, 3.0)))
