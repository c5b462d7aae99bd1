from __future__ import annotations

import ast
import inspect
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smoothdistill.errors
from smoothdistill.errors import DataError
from smoothdistill.features.preprocessing import (
    butter_lowpass,
    jerk,
    magnitude,
    median3,
    split_gravity,
)
from smoothdistill.reference.features import preprocessing as reference

RATE = 50.0
PHASES = ("causal", "zero")
EPS = np.finfo(np.float64).eps
IS_COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
EXAMPLES = 100 if IS_COMPILED else 10


def walk(num_samples=120, channels=3, *, seed=0, dtype=np.float64):
    """Noise on a gravity of 9.81."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal((num_samples, channels)) + 9.81).astype(dtype)


def with_holes(num_samples=120, channels=3, *, seed=0, dtype=np.float64):
    """Noise in which about one value of 15 is missing, at the ends too."""
    generator = np.random.default_rng(seed + 100)
    signal = walk(num_samples, channels, seed=seed, dtype=dtype)
    signal[generator.random(signal.shape) < 1 / 15] = np.nan
    signal[generator.random(signal.shape) < 1 / 40] = np.inf
    signal[0, 0] = signal[-1, -1] = np.nan
    return signal


def tolerance(signal, cutoff_hz, rate=RATE):
    """The states round once a sample each; b and a, in SciPy, lose digits where poles near 1 or -1.

    16: up to twelve states, whose errors add up before the filters forget them.
    """
    warped = np.tan(np.pi * cutoff_hz / rate)
    return 16 * EPS * np.abs(signal[np.isfinite(signal)]).max() * max(warped, 1 / warped) ** 2


def groups_of(num_samples):
    """Groups of several lengths, one sample among them."""
    borders = [0, num_samples // 3, num_samples // 3 + 1, num_samples]
    return np.repeat([7, 3, 7], np.diff(borders))


# --- Against the reference -----------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8, 12])
def test_lowpass_is_scipys(order, phase):
    signal = with_holes()
    groups = groups_of(len(signal))
    ours = butter_lowpass(
        signal, cutoff_hz=5.0, sample_rate_hz=RATE, order=order, phase=phase, groups=groups
    )
    expected = reference.by_stretches(
        signal, lambda values: reference.butter_lowpass(values, 5.0, RATE, order, phase), groups
    )
    # 4: forwards and backwards, and the mirrored samples are up to three times as large.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=4 * tolerance(signal, 5.0))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("cutoff_hz", [0.3, 1.0, 20.0, 24.9])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
def test_lowpass_of_any_cutoff_and_number_of_channels(channels, cutoff_hz, phase):
    signal = walk(100, channels)
    ours = butter_lowpass(signal, cutoff_hz=cutoff_hz, sample_rate_hz=RATE, phase=phase)
    expected = reference.by_stretches(
        signal, lambda values: reference.butter_lowpass(values, cutoff_hz, RATE, 3, phase)
    )
    np.testing.assert_allclose(ours, expected, rtol=0, atol=4 * tolerance(signal, cutoff_hz))


def test_zero_phase_is_sosfiltfilt_with_its_own_padding():
    from scipy.signal import butter, sosfiltfilt

    signal = walk(2000 if IS_COMPILED else 200)
    ours = butter_lowpass(signal, cutoff_hz=20.0, sample_rate_hz=RATE, phase="zero")
    expected = sosfiltfilt(butter(3, 20.0, fs=RATE, output="sos"), signal, axis=0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_a_low_cutoff_keeps_its_digits():
    """0.01 Hz of 1000 Hz: with b and a in float64, ten digits of 16 are gone; see the NOTE."""
    num_samples = 4000 if IS_COMPILED else 100
    signal = walk(num_samples, 1)
    ours = butter_lowpass(signal, cutoff_hz=0.01, sample_rate_hz=1000.0)[:, 0]
    warped = np.tan(np.pi * np.longdouble("0.00001"))
    exact = in_long_double(signal[:, 0], warped)
    # Samples add up in the states, and so do their roundings.
    assert np.abs(ours - exact).max() <= 4 * EPS * 9.81 * np.sqrt(num_samples)


def in_long_double(values, warped):
    """The same three poles as two integrators and one, with eleven more bits."""
    values = values.astype(np.longdouble)
    gain, scale = warped / (1 + warped), 1 / (1 + warped * (warped + 1))
    rest, slope, level = values[0], np.longdouble(0), values[0]
    out = np.empty_like(values)
    for number, value in enumerate(values):
        step = gain * (value - rest)
        first, rest = rest + step, rest + 2 * step
        change = scale * (slope + warped * (first - level))
        out[number] = level + warped * change
        slope, level = 2 * change - slope, 2 * out[number] - level
    return out


@pytest.mark.parametrize("phase", PHASES)
def test_gravity_is_the_lowpass_and_body_the_rest(phase):
    signal = with_holes(channels=5)
    groups = groups_of(len(signal))
    body, gravity = split_gravity(signal, sample_rate_hz=RATE, phase=phase, groups=groups)
    expected = butter_lowpass(
        signal, cutoff_hz=0.3, sample_rate_hz=RATE, phase=phase, groups=groups
    )
    np.testing.assert_array_equal(gravity, expected)
    present = np.isfinite(signal)
    np.testing.assert_array_equal(body[present], (signal - gravity)[present])
    assert np.isnan(body[~present]).all()
    assert body.flags.c_contiguous
    assert gravity.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_samples", [1, 2, 3, 4, 120])
def test_median_is_scipys_within_each_stretch(num_samples, dtype):
    from scipy.ndimage import median_filter

    signal = walk(num_samples, dtype=dtype)
    expected = median_filter(signal, size=(3, 1), mode="nearest")
    np.testing.assert_array_equal(median3(signal), expected)
    signal, groups = with_holes(num_samples, dtype=dtype), groups_of(num_samples)
    expected = reference.by_stretches(signal, lambda v: reference.median3(v, "zero"), groups)
    result = median3(signal, groups=groups)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jerk_starts_at_0_in_each_stretch(dtype):
    signal, groups = with_holes(dtype=dtype), groups_of(120)
    expected = reference.by_stretches(signal, lambda v: reference.jerk(v, RATE), groups)
    result = jerk(signal, sample_rate_hz=RATE, groups=groups)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected.astype(dtype))
    assert result[np.flatnonzero(np.diff(groups)) + 1, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("num_samples", [0, 1, 2, 3, 4, 5, 31])
def test_magnitude_of_any_triads(num_samples):
    signal = walk(num_samples, 7, dtype=np.float32)
    triads = ((0, 1, 2), (4, 5, 6), (6, 0, 3))
    result = magnitude(signal, triads)
    assert result.dtype == np.float32
    expected = [reference.magnitude(signal[:, list(t)].astype(np.float64)) for t in triads]
    # Rounded to float32 from float64.
    np.testing.assert_array_equal(result, np.stack(expected, axis=1).astype(np.float32))


def test_magnitude_of_a_nan_is_nan():
    signal = walk(5)
    signal[2, 1] = np.nan
    assert np.isnan(magnitude(signal))[:, 0].tolist() == [False, False, True, False, False]


# --- What must hold for any signal ---------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_a_constant_is_all_gravity(phase):
    signal = np.tile([0.1, -9.81, 1e-7], (60, 1))
    body, gravity = split_gravity(signal, sample_rate_hz=RATE, phase=phase)
    np.testing.assert_array_equal(gravity, signal)
    assert not body.any()


@settings(max_examples=EXAMPLES)
@given(
    hole=st.integers(0, 59),
    channel=st.integers(0, 2),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    phase=st.sampled_from(PHASES),
)
def test_a_missing_sample_is_missing_alone(hole, channel, value, phase):
    signal = walk(60)
    whole = butter_lowpass(signal, cutoff_hz=5.0, sample_rate_hz=RATE, phase=phase)
    signal[hole, channel] = value
    for result in (
        butter_lowpass(signal, cutoff_hz=5.0, sample_rate_hz=RATE, phase=phase),
        median3(signal),
        jerk(signal, sample_rate_hz=RATE),
    ):
        assert np.argwhere(~np.isfinite(result)).tolist() == [[hole, channel]]
    others = np.arange(3) != channel
    result = butter_lowpass(signal, cutoff_hz=5.0, sample_rate_hz=RATE, phase=phase)
    np.testing.assert_array_equal(result[:, others], whole[:, others])


@settings(max_examples=EXAMPLES)
@given(cut=st.integers(1, 59), phase=st.sampled_from(PHASES))
def test_groups_are_recordings_of_their_own(cut, phase):
    signal = walk(60)
    groups = np.repeat([0, 1], [cut, 60 - cut])
    options = {"cutoff_hz": 5.0, "sample_rate_hz": RATE, "phase": phase}
    together = butter_lowpass(signal, groups=groups, **options)
    apart = [butter_lowpass(part, **options) for part in (signal[:cut], signal[cut:])]
    np.testing.assert_array_equal(together, np.concatenate(apart))


@settings(max_examples=EXAMPLES)
@given(exponent=st.integers(-20, 20), phase=st.sampled_from(PHASES))
def test_a_filter_scales_with_its_signal(exponent, phase):
    """By powers of two bit for bit, for they round nothing."""
    signal, scale = walk(60), 2.0**exponent
    options = {"cutoff_hz": 5.0, "sample_rate_hz": RATE, "phase": phase}
    np.testing.assert_array_equal(
        butter_lowpass(signal * scale, **options), butter_lowpass(signal, **options) * scale
    )


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1000), phase=st.sampled_from(PHASES))
def test_a_filter_is_linear(seed, phase):
    one, two = walk(60, seed=seed), walk(60, seed=seed + 1)
    options = {"cutoff_hz": 5.0, "sample_rate_hz": RATE, "phase": phase}
    added = butter_lowpass(one, **options) + butter_lowpass(two, **options)
    np.testing.assert_allclose(
        butter_lowpass(one + two, **options), added, rtol=0, atol=4 * tolerance(one + two, 5.0)
    )


@settings(max_examples=EXAMPLES)
@given(num_copies=st.integers(1, 40))
def test_the_signal_counts_as_constant_before_it_begins(num_copies):
    signal = walk(40)
    longer = np.concatenate([np.repeat(signal[:1], num_copies, axis=0), signal])
    options = {"cutoff_hz": 5.0, "sample_rate_hz": RATE}
    np.testing.assert_array_equal(
        butter_lowpass(longer, **options)[num_copies:], butter_lowpass(signal, **options)
    )


@settings(max_examples=EXAMPLES)
@given(known=st.integers(1, 59))
def test_causal_means_that_the_future_is_unknown(known):
    signal = walk(60)
    changed = signal.copy()
    changed[known:] += 1.0
    options = {"cutoff_hz": 5.0, "sample_rate_hz": RATE}
    np.testing.assert_array_equal(
        butter_lowpass(signal, **options)[:known], butter_lowpass(changed, **options)[:known]
    )


@pytest.mark.parametrize("phase", PHASES)
def test_float32_is_the_float64_result_rounded(phase):
    signal = walk(60, dtype=np.float32)
    options = {"cutoff_hz": 5.0, "sample_rate_hz": RATE, "phase": phase}
    result = butter_lowpass(signal, **options)
    assert result.dtype == np.float32
    expected = butter_lowpass(signal.astype(np.float64), **options).astype(np.float32)
    np.testing.assert_array_equal(result, expected)


def test_blocks_leave_no_trace():
    """A recording of three blocks, whose first half is as long as one and a half."""
    from smoothdistill.features.kernels.preprocessing import BLOCK_SAMPLES

    if not IS_COMPILED:
        pytest.skip("thousands of samples are for compiled code")
    signal = walk(3 * BLOCK_SAMPLES, 5)
    expected = reference.by_stretches(
        signal, lambda values: reference.butter_lowpass(values, 5.0, RATE, 6, "causal")
    )
    options = {"cutoff_hz": 5.0, "sample_rate_hz": RATE, "order": 6}
    whole = butter_lowpass(signal, **options)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=4 * tolerance(signal, 5.0))
    half = butter_lowpass(signal[: 3 * BLOCK_SAMPLES // 2], **options)
    np.testing.assert_array_equal(half, whole[: len(half)])


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("num_samples", [0, 1, 2])
def test_the_shortest_recordings(num_samples, phase):
    signal = walk(num_samples)
    options = {"sample_rate_hz": RATE, "phase": phase}
    assert butter_lowpass(signal, cutoff_hz=5.0, **options).shape == signal.shape
    assert split_gravity(signal, **options).body.shape == signal.shape
    assert jerk(signal, sample_rate_hz=RATE).shape == median3(signal).shape == signal.shape
    np.testing.assert_array_equal(butter_lowpass(signal[:1], cutoff_hz=5.0, **options), signal[:1])


def test_integers_and_other_layouts_are_taken():
    signal = np.asfortranarray(np.round(walk(40)).astype(np.int16))
    expected = median3(signal.astype(np.float64))
    np.testing.assert_array_equal(median3(signal), expected)
    np.testing.assert_array_equal(median3(signal[::-1]), expected[::-1])
    assert median3(walk(5).astype(np.float16)).dtype == np.float32


def test_input_is_left_as_it_is():
    signal = with_holes()
    before = signal.copy()
    for phase in PHASES:
        split_gravity(signal, sample_rate_hz=RATE, phase=phase)
    median3(signal)
    jerk(signal, sample_rate_hz=RATE)
    magnitude(signal)
    np.testing.assert_array_equal(signal, before)


# --- How it runs ---------------------------------------------------------------------------------


def run_chains():
    """Both phases, an order that is odd and one that is not; also run in another process."""
    import numpy as np

    from smoothdistill.features.preprocessing_chain import Preprocessing

    signal = np.random.default_rng(0).standard_normal((30, 6)) + 9.81
    signal[4, 1] = signal[9, 4] = np.nan
    chains = [Preprocessing(phase=phase, order=n) for phase in ("causal", "zero") for n in (2, 5)]
    return np.stack([chain.apply(signal, sample_rate_hz=50.0).signal for chain in chains])


@pytest.mark.skipif(not IS_COMPILED, reason="the whole suite does that")
def test_the_kernels_run_as_plain_python():
    source = inspect.getsource(run_chains)
    plain = subprocess.run(
        [sys.executable, "-c", source + "print(run_chains().tobytes().hex())"],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    compiled = run_chains()
    result = np.frombuffer(bytes.fromhex(plain.stdout)).reshape(compiled.shape)
    # Apart by fused multiply-adds; a jerk is a difference of two, times the rate.
    np.testing.assert_allclose(result, compiled, rtol=0, atol=2 * RATE * 64 * EPS * 13.0)


def test_the_filters_are_vectors():
    """One instruction for three axes: no multiply-add of a single number is left in the loop."""
    if not IS_COMPILED or platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("looks into compiled x86 code")
    from numba import njit

    from smoothdistill.features.kernels.preprocessing import read_block

    fresh = njit(error_model="numpy", nogil=True)(read_block.py_func)
    flat, low = np.ones(30, np.float32), np.empty(40)
    fresh(flat, 0, 3, 3, 10, True, np.ones((2, 3)), np.full(60, np.nan), low)
    assembly = next(iter(fresh.inspect_asm().values()))
    if "vfmadd" not in assembly:
        pytest.skip("this processor has no fused multiply-add")
    assert re.search(r"vfmadd\w+pd.*%[yz]mm", assembly)
    assert not re.search(r"vfmadd\w+sd", assembly)


@pytest.mark.parametrize(
    "stem",
    [
        *("preprocessing", "preprocessing_chain", "preprocessing_checks", "filter_chain"),
        *("resampling", "acceleration_unit"),
    ],
)
def test_numba_and_scipy_are_imported_on_first_use(stem):
    path = Path(smoothdistill.errors.__file__).parent / "features" / f"{stem}.py"
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    assert found
    assert not [name for name in found if re.match(r"numba|scipy|torch|sklearn|.*kernels", name)]


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: median3(np.ones(5)),
            DataError,
            r"`signal` must have the shape \[time, channels\] w",
        ),
        (
            lambda: median3(np.ones((5, 0))),
            DataError,
            r"at least 1 channel, but has the shape \[5, 0",
        ),
        (
            lambda: median3([["a"]]),
            TypeError,
            "`signal` must be an array of real numbers, but is an",
        ),
        (lambda: median3([[1], [1, 2]]), TypeError, "but is a list that NumPy cannot read instead"),
        (lambda: median3(walk(5) * 1j), TypeError, "but is an array of complex128 instead"),
        (
            lambda: median3(walk(5), groups=[0, 1]),
            DataError,
            r"`groups` must have one value for each of the 5 samples, but has the shape \[2\]",
        ),
        (
            lambda: butter_lowpass(walk(5), cutoff_hz=25.0, sample_rate_hz=RATE),
            ValueError,
            "`cutoff_hz` must be below half of the sample rate, 25 Hz, but is 25 Hz instead",
        ),
        (
            lambda: split_gravity(walk(5), cutoff_hz=0.3, sample_rate_hz=0.5),
            ValueError,
            "`cutoff_hz` must be below half of the sample rate, 0.25 Hz, but is 0.3 Hz instead",
        ),
        (
            lambda: butter_lowpass(walk(5), cutoff_hz=0.0, sample_rate_hz=RATE),
            ValueError,
            "`cutoff_hz` must be above 0 Hz and finite, but is 0.0 instead",
        ),
        (
            lambda: jerk(walk(5), sample_rate_hz=np.nan),
            ValueError,
            "`sample_rate_hz` must be above 0 Hz and finite, but is nan instead",
        ),
        (
            lambda: jerk(walk(5), sample_rate_hz="50"),
            TypeError,
            "`sample_rate_hz` must be a number, but is str instead",
        ),
        (
            lambda: butter_lowpass(walk(5), cutoff_hz=5, sample_rate_hz=RATE, order=13),
            ValueError,
            r"`order` must be in \[1, 12\], but is 13 instead",
        ),
        (
            lambda: butter_lowpass(walk(5), cutoff_hz=5, sample_rate_hz=RATE, order=2.0),
            TypeError,
            "`order` must be an integer, but is float instead",
        ),
        (
            lambda: butter_lowpass(walk(5), cutoff_hz=5, sample_rate_hz=RATE, phase="both"),
            ValueError,
            "`phase` must be 'causal' or 'zero', but is 'both' instead",
        ),
        (
            lambda: magnitude(walk(5), ((0, 1),)),
            TypeError,
            r"`triads` must be a sequence of triples of channel numbers, but is \(\(0, 1\),\)",
        ),
        (lambda: magnitude(walk(5), 3), TypeError, "triples of channel numbers, but is 3 instead"),
        (
            lambda: magnitude(walk(5), ((0, 1, 3),)),
            DataError,
            "`signal` must have at least 4 channels for `triads`, but has 3 instead",
        ),
        (
            lambda: magnitude(walk(5), ((0, 1, 1),)),
            ValueError,
            "`triads` must be triples of different channel numbers of at least 0, but is",
        ),
        (
            lambda: magnitude(walk(5), ((0, 1, -1),)),
            ValueError,
            "`triads` must be triples of different channel numbers of at least 0, but is",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
