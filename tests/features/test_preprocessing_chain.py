from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdistill.errors import DataError
from smoothdistill.features.preprocessing_chain import Preprocessing
from smoothdistill.reference.features import preprocessing as reference

RATE = 50.0
EPS = np.finfo(np.float64).eps
IS_COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
EXAMPLES = 100 if IS_COMPILED else 10
ACCELEROMETER = ("acc_x", "acc_y", "acc_z")
BOTH = (*ACCELEROMETER, "gyro_x", "gyro_y", "gyro_z")
# With b and a, SciPy loses a factor of 1 / tan(pi 0.3 Hz / 50 Hz)² at 0.3 Hz; 64: four filters of
# several states, forwards and backwards; 13 is the largest sample; the jerk takes differences.
TOLERANCE = 64 * EPS * 13.0 / np.tan(np.pi * 0.3 / RATE) ** 2


def walk(num_samples=100, channels=3, *, seed=0, dtype=np.float64, holes=False):
    """Noise on a gravity of 9.81, a value of 15 missing if asked for."""
    generator = np.random.default_rng(seed)
    signal = (generator.standard_normal((num_samples, channels)) + 9.81).astype(dtype)
    if holes:
        signal[generator.random(signal.shape) < 1 / 15] = np.nan
        signal[generator.random(signal.shape) < 1 / 60] = -np.inf
    return signal


def expected_of(chain, triad, groups=None, *, is_split=True):
    """The reference's columns of one triad: body, gravity, jerk, then the magnitudes."""
    parts = reference.run_chain(
        triad,
        RATE,
        has_median=chain.median,
        lowpass_hz=chain.lowpass_hz,
        gravity_hz=chain.gravity_hz if is_split else None,
        order=chain.order,
        phase=chain.phase,
        groups=groups,
    )
    kinds = [kind for kind in ("body", "gravity", "jerk") if kind in parts]
    return np.hstack([parts[kind] for kind in kinds] + [parts[f"{kind}_mag"] for kind in kinds])


# --- Against the reference -----------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"median": False},
        {"lowpass_hz": None},
        {"gravity_hz": None},
        {"median": False, "lowpass_hz": None},
        {"median": False, "lowpass_hz": None, "gravity_hz": None},
        {"order": 1},
        {"order": 2, "lowpass_hz": 5.0},
        {"order": 6, "gravity_hz": 1.0},
    ],
    ids=str,
)
def test_a_chain_is_its_parts_one_after_the_other(options, holes, phase):
    chain = Preprocessing(phase=phase, **options)
    signal = walk(holes=holes)
    groups = np.repeat([1, 2], [40, 60])
    result = chain.apply(signal, sample_rate_hz=RATE, groups=groups).signal
    expected = expected_of(chain, signal, groups)
    # 2 * RATE: a jerk is the difference of two samples, times the rate.
    np.testing.assert_allclose(result, expected, rtol=0, atol=2 * RATE * TOLERANCE)
    not_jerk = [c for c in range(9) if c not in (6, 7, 8)] if chain.gravity_hz else [0, 1, 2]
    np.testing.assert_allclose(result[:, not_jerk], expected[:, not_jerk], rtol=0, atol=TOLERANCE)


def test_two_sensors_and_a_channel_beside_them():
    chain = Preprocessing(triads=((0, 1, 2), (4, 5, 6)))
    signal = walk(channels=8, holes=True)
    names = (*ACCELEROMETER, "pressure", "gyro_x", "gyro_y", "gyro_z", "light")
    result, result_names = chain.apply(signal, sample_rate_hz=RATE, channel_names=names)
    assert len(result_names) == result.shape[1]
    columns = dict(zip(result_names, result.T, strict=True))
    accelerometer = expected_of(chain, signal[:, :3])
    gyroscope = expected_of(chain, signal[:, 4:7], is_split=False)
    others = expected_of(chain, signal[:, [3, 7, 7]], is_split=False)
    expected = {
        **{f"body_acc_{axis}": accelerometer[:, n] for n, axis in enumerate("xyz")},
        **{f"gravity_acc_{axis}": accelerometer[:, 3 + n] for n, axis in enumerate("xyz")},
        **{f"body_jerk_acc_{axis}": accelerometer[:, 6 + n] for n, axis in enumerate("xyz")},
        **{f"gyro_{axis}": gyroscope[:, n] for n, axis in enumerate("xyz")},
        **{f"jerk_gyro_{axis}": gyroscope[:, 3 + n] for n, axis in enumerate("xyz")},
        "pressure": others[:, 0],
        "light": others[:, 1],
        "jerk_pressure": others[:, 3],
        "jerk_light": others[:, 4],
        "body_acc_mag": accelerometer[:, 9],
        "gravity_acc_mag": accelerometer[:, 10],
        "body_jerk_acc_mag": accelerometer[:, 11],
        "gyro_mag": gyroscope[:, 6],
        "jerk_gyro_mag": gyroscope[:, 7],
    }
    assert tuple(expected) == result_names
    for name, values in expected.items():
        np.testing.assert_allclose(
            columns[name], values, rtol=0, atol=2 * RATE * TOLERANCE, err_msg=name
        )


@pytest.mark.parametrize("phase", ["causal", "zero"])
def test_float32_is_the_float64_result_rounded(phase):
    chain, signal = Preprocessing(phase=phase), walk(dtype=np.float32, holes=True)
    result = chain.apply(signal, sample_rate_hz=RATE).signal
    assert result.dtype == np.float32
    expected = chain.apply(signal.astype(np.float64), sample_rate_hz=RATE).signal
    np.testing.assert_array_equal(result, expected.astype(np.float32))


def test_triads_of_scattered_channels():
    chain = Preprocessing(triads=((5, 1, 3),), magnitude=False)
    signal = walk(channels=6)
    result, names = chain.apply(signal, sample_rate_hz=RATE, channel_names=tuple("abcdef"))
    plain = Preprocessing().apply(
        np.ascontiguousarray(signal[:, [5, 1, 3]]), sample_rate_hz=RATE, channel_names=tuple("fbd")
    )
    assert names[:9] == plain.channel_names[:9]
    np.testing.assert_array_equal(result[:, :9], plain.signal[:, :9])
    assert names[9:] == ("a", "c", "e", "jerk_a", "jerk_c", "jerk_e")


# --- Batch and stream ----------------------------------------------------------------------------


@settings(max_examples=EXAMPLES)
@given(
    cuts=st.lists(st.integers(0, 100), max_size=8),
    seed=st.integers(0, 100),
    dtype=st.sampled_from([np.float32, np.float64]),
    options=st.fixed_dictionaries(
        {
            "median": st.booleans(),
            "lowpass_hz": st.sampled_from([None, 20.0]),
            "gravity_hz": st.sampled_from([None, 0.3]),
            "jerk": st.booleans(),
            "magnitude": st.booleans(),
            "order": st.integers(1, 5),
            "triads": st.sampled_from([(), ((0, 1, 2),), ((0, 1, 2), (3, 4, 6))]),
        }
    ),
)
def test_a_stream_gives_the_bits_of_the_batch(cuts, seed, dtype, options):
    chain = Preprocessing(**options)
    signal = walk(100, 7, seed=seed, dtype=dtype, holes=True)
    whole = chain.apply(signal, sample_rate_hz=RATE)
    stream = chain.stream(RATE, 7)
    parts = [stream.push(part) for part in np.split(signal, sorted(cuts))]
    result = np.concatenate(parts)
    assert stream.channel_names == whole.channel_names
    assert result.dtype == whole.signal.dtype
    assert result.tobytes() == whole.signal.tobytes()


@pytest.mark.skipif(not IS_COMPILED, reason="thousands of samples are for compiled code")
@pytest.mark.parametrize("chunk", [1, 7, 500, 512, 513, 3000])
def test_blocks_begin_where_they_do_in_the_batch(chunk):
    """Behind noise, nothing: the states fall below what is dropped at the start of a block."""
    chain, signal = Preprocessing(lowpass_hz=2.0, gravity_hz=None), np.zeros((6000, 3))
    signal[:600] = walk(600)
    whole = chain.apply(signal, sample_rate_hz=RATE).signal
    stream = chain.stream(RATE, 3)
    parts = [stream.push(signal[n : n + chunk]) for n in range(0, 6000, chunk)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.skipif(not IS_COMPILED, reason="thousands of samples are for compiled code")
def test_states_of_a_constant_do_not_linger_below_the_normal_numbers():
    """There, each operation would take a hundred times as long."""
    stream = Preprocessing().stream(RATE, 3)
    stream.push(walk(100))
    for _ in range(8):
        result = stream.push(np.zeros((5000, 3)))
    assert not result.any()
    states = np.abs(stream._memory.states)
    assert states[states > 0].min(initial=1.0) >= 1e-200


def test_a_stream_starts_anew_after_a_reset():
    chain, signal = Preprocessing(), walk()
    stream = chain.stream(RATE, 3)
    stream.push(signal[:40])
    stream.reset()
    expected = chain.apply(signal[40:], sample_rate_hz=RATE).signal
    np.testing.assert_array_equal(stream.push(signal[40:]), expected)


def test_a_stream_can_be_copied_and_goes_on():
    signal = walk()
    stream = Preprocessing().stream(RATE, 3)
    stream.push(signal[:40])
    twins = copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))
    expected = stream.push(signal[40:])
    for twin in twins:
        np.testing.assert_array_equal(twin.push(signal[40:]), expected)


# --- What must hold for any signal ---------------------------------------------------------------


@pytest.mark.parametrize("phase", ["causal", "zero"])
def test_of_a_constant_only_gravity_is_left(phase):
    signal = np.tile([0.3, -9.81, 1e-3], (50, 1))
    result = Preprocessing(phase=phase).apply(signal, sample_rate_hz=RATE).signal
    np.testing.assert_array_equal(result[:, 3:6], signal)
    assert not result[:, [0, 1, 2, 6, 7, 8, 9, 11]].any()


@settings(max_examples=EXAMPLES)
@given(
    hole=st.integers(0, 49),
    channel=st.integers(0, 2),
    phase=st.sampled_from(["causal", "zero"]),
    value=st.sampled_from([np.nan, np.inf]),
)
def test_a_missing_sample_is_missing_alone(hole, channel, phase, value):
    signal = walk(50)
    signal[hole, channel] = value
    result = Preprocessing(phase=phase).apply(signal, sample_rate_hz=RATE).signal
    columns = [channel, 3 + channel, 6 + channel, 9, 10, 11]
    assert np.argwhere(~np.isfinite(result)).tolist() == [[hole, column] for column in columns]


@settings(max_examples=EXAMPLES)
@given(cut=st.integers(1, 49), phase=st.sampled_from(["causal", "zero"]))
def test_groups_are_recordings_of_their_own(cut, phase):
    chain, signal = Preprocessing(phase=phase), walk(50, 5, holes=True)
    groups = np.repeat(["first", "second"], [cut, 50 - cut])
    together = chain.apply(signal, sample_rate_hz=RATE, groups=groups).signal
    apart = [chain.apply(part, sample_rate_hz=RATE).signal for part in (signal[:cut], signal[cut:])]
    np.testing.assert_array_equal(together, np.concatenate(apart))


@settings(max_examples=EXAMPLES)
@given(offset=st.sampled_from([-9.81, 1.0, 100.0]))
def test_an_offset_goes_to_gravity(offset):
    chain, signal = Preprocessing(), walk(50)
    moved = chain.apply(signal + offset, sample_rate_hz=RATE).signal
    here = chain.apply(signal, sample_rate_hz=RATE).signal
    # 64: as many roundings as a filter remembers, of numbers as large as the signal.
    atol = 64 * EPS * (13.0 + abs(offset))
    np.testing.assert_allclose(moved[:, :3], here[:, :3], rtol=0, atol=atol)
    np.testing.assert_allclose(moved[:, 3:6], here[:, 3:6] + offset, rtol=0, atol=atol)


def test_a_spike_of_one_sample_leaves_no_trace():
    chain = Preprocessing()
    signal = np.ones((50, 3))
    clean = chain.apply(signal, sample_rate_hz=RATE).signal
    signal[20, 1] = 1e4
    np.testing.assert_array_equal(chain.apply(signal, sample_rate_hz=RATE).signal, clean)


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("num_samples", [0, 1, 2])
def test_the_shortest_recordings(num_samples, phase):
    signal = walk(num_samples, dtype=np.float32)
    result = Preprocessing(phase=phase).apply(signal, sample_rate_hz=RATE)
    assert result.signal.shape == (num_samples, 12)
    if phase == "causal" or num_samples == 1:
        np.testing.assert_array_equal(result.signal[:1, 3:6], signal[:1])


# --- The description -----------------------------------------------------------------------------


def test_the_ten_signals_of_uci_har_in_their_order():
    names = Preprocessing(triads=((0, 1, 2), (3, 4, 5))).names(BOTH)
    assert [name.replace("_x", "") for name in names if name.endswith(("_x", "_mag"))] == [
        *("body_acc", "gravity_acc", "body_jerk_acc", "gyro", "jerk_gyro"),
        *("body_acc_mag", "gravity_acc_mag", "body_jerk_acc_mag", "gyro_mag", "jerk_gyro_mag"),
    ]


@pytest.mark.parametrize(
    ("options", "channel_names", "expected"),
    [
        ({"jerk": False}, "xyz", "body_x body_y body_z gravity_x gravity_y gravity_z body_mag "
         "gravity_mag"),
        ({"gravity_hz": None, "jerk": False}, "xyz", "x y z mag"),
        ({"gravity_hz": None, "magnitude": False}, "xyz", "x y z jerk_x jerk_y jerk_z"),
        ({"triads": (), "jerk": False}, "ab", "a b"),
        (
            {"triads": ((0, 1, 2), (3, 4, 5)), "gravity_hz": None, "jerk": False},
            "abcdef",
            "a b c d e f a_b_c_mag d_e_f_mag",
        ),
        (
            {"triads": ((0, 1, 2), (3, 4, 5)), "gravity_triads": (1,), "jerk": False},
            ("gx", "gy", "gz", "ax", "ay", "az"),
            "gx gy gz body_ax body_ay body_az gravity_ax gravity_ay gravity_az g_mag body_a_mag "
            "gravity_a_mag",
        ),
    ],
)  # fmt: skip
def test_names(options, channel_names, expected):
    assert Preprocessing(**options).names(tuple(channel_names)) == tuple(expected.split())


def test_names_without_names():
    result = Preprocessing(jerk=False, magnitude=False).apply(walk(5, 4), sample_rate_hz=RATE)
    assert result.channel_names == (
        *("body_channel_0", "body_channel_1", "body_channel_2"),
        *("gravity_channel_0", "gravity_channel_1", "gravity_channel_2", "channel_3"),
    )


def test_a_description_is_a_value():
    chain = Preprocessing(lowpass_hz=5, triads=[[0, 1, 2]], gravity_triads=np.array([0]))
    assert chain == Preprocessing(lowpass_hz=5.0)
    assert hash(chain) == hash(pickle.loads(pickle.dumps(chain)))
    assert repr(chain) == (
        "Preprocessing(median=True, lowpass_hz=5.0, gravity_hz=0.3, jerk=True, magnitude=True, "
        "order=3, phase='causal', triads=((0, 1, 2),), gravity_triads=(0,))"
    )
    with pytest.raises(AttributeError):
        chain.order = 4


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Preprocessing(median=1), TypeError, "`median` must be True or False, but is 1 i"),
        (
            lambda: Preprocessing(lowpass_hz=-1),
            ValueError,
            "`lowpass_hz` must be above 0 Hz and finite, but is -1 instead",
        ),
        (
            lambda: Preprocessing(gravity_hz=True),
            TypeError,
            "`gravity_hz` must be a number, but is bool instead",
        ),
        (
            lambda: Preprocessing(lowpass_hz=1.0, gravity_hz=1.0),
            ValueError,
            "`gravity_hz` must be below `lowpass_hz`, 1 Hz, but is 1 Hz instead",
        ),
        (
            lambda: Preprocessing(triads=((0, 1, 2), (2, 3, 4))),
            ValueError,
            r"`triads` must name a channel once at most, but is \(\(0, 1, 2\), \(2, 3, 4\)\)",
        ),
        (
            lambda: Preprocessing(gravity_triads=(1,)),
            ValueError,
            r"`gravity_triads` must be different places in `triads`, in \[0, 1\), but is \(1,\) i",
        ),
        (
            lambda: Preprocessing(gravity_triads=0),
            TypeError,
            "`gravity_triads` must be a sequence of integers, but is 0 instead",
        ),
        (
            lambda: Preprocessing().apply(walk(5), sample_rate_hz=40.0),
            ValueError,
            "`lowpass_hz` must be below half of the sample rate, 20 Hz, but is 20 Hz instead",
        ),
        (
            lambda: Preprocessing().apply(walk(5, 2), sample_rate_hz=RATE),
            DataError,
            "`signal` must have at least 3 channels for `triads`, but has 2 instead",
        ),
        (
            lambda: Preprocessing().names(("x", "y", "a z")),
            DataError,
            r"`channel_names` must consist of letters, digits, '_', '\.' and '-', but has 'a z' i",
        ),
        (
            lambda: Preprocessing().names(("x", "y", "y")),
            DataError,
            "`channel_names` must be 3 different names, one for each channel, but is",
        ),
        (
            lambda: Preprocessing().apply(walk(5), sample_rate_hz=RATE, channel_names="xyz"),
            DataError,
            r"`channel_names` must be 3 different names, one for each channel, but is \('xyz',\)",
        ),
        (
            lambda: Preprocessing().names((1, 2, 3)),
            TypeError,
            r"`channel_names` must be strings, but is \(1, 2, 3\) instead",
        ),
        (
            lambda: Preprocessing().names(("x", "y", "z", "body_x")),
            DataError,
            r"`channel_names` must lead to different names of columns, but .* 'body_x' twice",
        ),
        (
            lambda: Preprocessing(phase="zero").stream(RATE, 3),
            ValueError,
            "`phase` must be 'causal' for a stream, but is 'zero' instead",
        ),
        (
            lambda: Preprocessing().stream(RATE, 0),
            ValueError,
            "`num_channels` must be at least 1, but is 0 instead",
        ),
        (
            lambda: Preprocessing().stream(RATE, 3.0),
            TypeError,
            "`num_channels` must be an integer, but is float instead",
        ),
        (
            lambda: Preprocessing().stream(RATE, 3).push(walk(5, 4)),
            DataError,
            "`samples` must have 3 channels, but have 4 instead",
        ),
        (
            lambda: Preprocessing().stream(RATE, 3).push(walk(5)[0]),
            DataError,
            r"must have the shape \[time, channels\] with at least 1 channel, but has",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
