from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothdistill.errors import DataError
from smoothdistill.features.acceleration_unit import check_acceleration_unit
from smoothdistill.features.resampling import resample
from smoothdistill.reference.features import preprocessing as reference

EPS = np.finfo(np.float64).eps
SINCE_1970 = 1.6e9


def jittered(num_samples=200, *, rate=50.0, gaps=(), seed=0, origin=0.0):
    """Times around an even grid, a fifth of a period off at most, with gaps behind some samples."""
    generator = np.random.default_rng(seed)
    times = (np.arange(num_samples) + generator.uniform(-0.2, 0.2, num_samples)) / rate
    for sample, seconds in gaps:
        times[sample:] += seconds
    return times + origin


def noise(num_samples=200, channels=3, *, seed=1, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((num_samples, channels)).astype(dtype)


# --- Resampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [7.3, 50.0, 100.0])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_it_is_numpy_interp_between_gaps(channels, rate):
    signal = noise(channels=channels)
    times = jittered(gaps=((50, 3.0), (51, 0.5), (120, 1000.01)))
    result = resample(signal, times, sample_rate_hz=rate, max_gap_seconds=0.2)
    values, grid, numbers = reference.resample(signal, times, rate, 0.2)
    # Two orders of the same operations on numbers up to 4, and a weight that rounds with the time.
    np.testing.assert_allclose(result.signal, values, rtol=0, atol=1e4 * 1000 * EPS)
    np.testing.assert_array_equal(result.stretch_ids, numbers)
    np.testing.assert_allclose(result.timestamps_seconds, times[0] + grid, rtol=4 * EPS)
    assert set(numbers) <= {0, 1, 2, 3}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("origin", [0.0, SINCE_1970])
def test_an_even_recording_comes_back_bit_for_bit(origin, dtype):
    """Of seconds since 1970, float64 keeps 0.24 us: the times are off their grid by that."""
    signal = noise(1000, dtype=dtype)
    signal[100, 1] = np.nan
    times = origin + np.arange(1000) / 50.0
    result = resample(signal, times, sample_rate_hz=50.0, max_gap_seconds=0.1)
    assert result.signal.dtype == dtype
    np.testing.assert_array_equal(result.signal, signal)
    np.testing.assert_array_equal(result.timestamps_seconds, times)
    np.testing.assert_array_equal(result.nearest_samples, np.arange(1000))
    assert not result.stretch_ids.any()


def test_times_since_1970_lose_nothing_but_their_own_digits():
    signal = noise()
    times = np.round(jittered(origin=SINCE_1970), 6)
    late = resample(signal, times, sample_rate_hz=50.0, max_gap_seconds=1.0)
    early = resample(signal, times - SINCE_1970, sample_rate_hz=50.0, max_gap_seconds=1.0)
    # A step is known to 0.24 us, of 12 ms at least; samples differ by 6 at most.
    np.testing.assert_allclose(late.signal, early.signal, rtol=0, atol=6 * 2.4e-7 / 0.012)


def test_a_line_stays_a_line():
    times = jittered()
    signal = np.stack([times, -3.0 * times, np.ones_like(times)], axis=1)
    result = resample(signal, times, sample_rate_hz=33.0, max_gap_seconds=1.0)
    grid = result.timestamps_seconds
    expected = np.stack([grid, -3.0 * grid, np.ones_like(grid)], axis=1)
    np.testing.assert_allclose(result.signal, expected, rtol=0, atol=16 * EPS * 12)


def test_points_in_gaps_are_left_out_and_the_grid_goes_on():
    times = np.array([0.0, 0.1, 0.2, 5.03, 5.1, 5.2, 9.95, 12.0])
    signal = np.arange(8.0)[:, None]
    result = resample(signal, times, sample_rate_hz=10.0, max_gap_seconds=0.15)
    np.testing.assert_allclose(
        result.timestamps_seconds, [0.0, 0.1, 0.2, 5.1, 5.2, 12.0], rtol=4 * EPS
    )
    assert result.signal[:, 0].tolist() == [0.0, 1.0, 2.0, 4.0, 5.0, 7.0]
    assert result.stretch_ids.tolist() == [0, 0, 0, 1, 1, 3]
    assert result.nearest_samples.tolist() == [0, 1, 2, 4, 5, 7]


def test_a_nan_reaches_its_neighbours_and_no_further():
    times = np.array([0.0, 1.0, 2.0, 3.0])
    signal = np.array([[0.0], [1.0], [np.nan], [3.0]])
    result = resample(signal, times, sample_rate_hz=4.0, max_gap_seconds=1.5)
    missing = result.timestamps_seconds[np.isnan(result.signal[:, 0])]
    assert missing.tolist() == [1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75]


def test_samples_of_one_time_count_as_their_mean():
    times = np.array([0.0, 1.0, 1.0, 1.0, 2.0])
    signal = np.array([[0.0], [1.0], [2.0], [6.0], [4.0]])
    result = resample(signal, times, sample_rate_hz=2.0, max_gap_seconds=1.5)
    assert result.signal[:, 0].tolist() == [0.0, 1.5, 3.0, 3.5, 4.0]
    assert result.nearest_samples.tolist() == [0, 0, 1, 1, 4]


def test_nearest_takes_samples_as_they_are():
    signal, times = noise(), jittered()
    result = resample(signal, times, sample_rate_hz=80.0, max_gap_seconds=1.0, method="nearest")
    distances = np.abs(times[:, None] - result.timestamps_seconds)
    np.testing.assert_array_equal(result.nearest_samples, distances.argmin(axis=0))
    np.testing.assert_array_equal(result.signal, signal[result.nearest_samples])


@given(
    steps=st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.03, 0.5, 10.0]), min_size=1, max_size=30),
    rate=st.sampled_from([10.0, 50.0, 120.0]),
    origin=st.sampled_from([0.0, -5.0, SINCE_1970]),
)
def test_all_points_lie_on_one_grid_within_stretches(steps, rate, origin):
    times = origin + np.cumsum(steps)
    signal = noise(len(times))
    result = resample(signal, times, sample_rate_hz=rate, max_gap_seconds=0.1)
    grid, slack = result.timestamps_seconds, 1e-5
    points = (grid - times[0]) * rate
    np.testing.assert_allclose(points, np.round(points), atol=rate * slack)
    assert (np.diff(np.round(points)) >= 1).all()
    after = np.minimum(np.searchsorted(times, grid - slack), len(times) - 1)
    before = np.maximum(np.searchsorted(times, grid + slack) - 1, 0)
    assert (times[after] - times[before] <= 0.1 + slack).all()
    starts = np.flatnonzero(np.diff(times, prepend=-np.inf) > 0.1)
    np.testing.assert_array_equal(
        result.stretch_ids, np.searchsorted(starts, result.nearest_samples, side="right") - 1
    )
    assert np.nanmax(np.abs(result.signal)) <= np.abs(signal).max() * (1 + 4 * EPS)


def test_nothing_gives_nothing():
    result = resample(np.empty((0, 3)), [], sample_rate_hz=50.0, max_gap_seconds=1.0)
    assert [len(part) for part in result] == [0, 0, 0, 0]
    single = resample(np.ones((1, 3)), [7.0], sample_rate_hz=50.0, max_gap_seconds=1.0)
    assert single.timestamps_seconds.tolist() == [7.0]


@pytest.mark.parametrize(
    ("times", "options", "error", "message"),
    [
        (
            [0.0, 0.2, 0.1, 0.3],
            {},
            DataError,
            "`timestamps_seconds` must not run backwards, but step from 0.2 to 0.1 at sample 2 i",
        ),
        (
            [0.0, np.nan, 0.1, 0.3],
            {},
            DataError,
            "`timestamps_seconds` must be finite, but is nan at sample 1 instead",
        ),
        ([0.0, 0.1, 0.2, np.inf], {}, DataError, "must be finite, but is inf at sample 3 instead"),
        (
            [0.0, 0.1],
            {},
            DataError,
            r"`timestamps_seconds` must have one value for each of the 4 samples, but has the sh",
        ),
        (
            ["a", "b", "c", "d"],
            {},
            TypeError,
            "`timestamps_seconds` must be an array of real numbers, but is an array of <U1 instead",
        ),
        (
            [0, 1, 2, 3],
            {"max_gap_seconds": 0.0},
            ValueError,
            "`max_gap_seconds` must be above 0 s and finite, but is 0.0 instead",
        ),
        (
            [0, 1, 2, 3],
            {"sample_rate_hz": -1.0},
            ValueError,
            "`sample_rate_hz` must be above 0 Hz and finite, but is -1.0 instead",
        ),
        (
            [0, 1, 2, 3],
            {"method": "cubic"},
            ValueError,
            "`method` must be 'linear' or 'nearest', but is 'cubic' instead",
        ),
    ],
)
def test_bad_input_of_resample_gets_one_sentence(times, options, error, message):
    options = {"sample_rate_hz": 50.0, "max_gap_seconds": 1.0, **options}
    with pytest.raises(error, match=message):
        resample(noise(4), times, **options)


# --- The unit of acceleration --------------------------------------------------------------------


def worn(gravity, *, num_seconds=20, moving=0.0, seed=0, rate=50):
    """Gravity in some direction, sensor noise, and as much movement as asked for."""
    generator = np.random.default_rng(seed)
    direction = np.array([0.48, -0.6, 0.64])
    signal = np.tile(direction * gravity, (num_seconds * rate, 1))
    signal += gravity * 0.003 * generator.standard_normal(signal.shape)
    half = len(signal) // 2
    signal[:half] += moving * gravity * generator.standard_normal((half, 3))
    return signal


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("unit", "gravity"), [("g", 1.0), ("m/s^2", 9.81)])
def test_the_right_unit_passes_in_silence(unit, gravity, dtype):
    signal = worn(gravity, moving=0.7).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_acceleration_unit(signal, unit=unit, sample_rate_hz=50.0) == unit


def test_the_wrong_unit_is_told_with_the_evidence():
    message = (
        r"`unit` is 'm/s\^2', but the median length of the acceleration, 0.9999 over 10 still "
        r"seconds, is what gravity is in g\."
    )
    with pytest.warns(UserWarning, match=message):
        unit = check_acceleration_unit(worn(1.0, moving=1.0), unit="m/s^2", sample_rate_hz=50.0)
    assert unit == "g"
    with pytest.warns(
        UserWarning, match=r"9\.808 over 20 still seconds, is what gravity is in m/s"
    ):
        unit = check_acceleration_unit(worn(9.81), unit="g", sample_rate_hz=50.0)
    assert unit == "m/s^2"


def test_without_still_seconds_all_samples_count():
    signal = 9.81 + np.random.default_rng(0).standard_normal((500, 3)) * [6.0, 0.5, 0.5]
    with pytest.warns(UserWarning, match="over 500 samples, is what gravity is in g"):
        check_acceleration_unit(signal / 9.81 * 0.6, unit="m/s^2", sample_rate_hz=50.0)


def test_missing_samples_are_not_evidence():
    signal = worn(9.81)
    signal[::7] = np.nan
    assert check_acceleration_unit(signal, unit="m/s^2", sample_rate_hz=50.0) == "m/s^2"
    assert check_acceleration_unit(signal * np.nan, unit="g", sample_rate_hz=50.0) is None


def test_without_gravity_nothing_is_told():
    signal = np.random.default_rng(0).standard_normal((500, 3)) * 0.05
    assert check_acceleration_unit(signal, unit="g", sample_rate_hz=50.0) is None


def test_counts_of_a_sensor_are_told():
    with pytest.warns(UserWarning, match=r"999\.8 over 20 still seconds, is gravity neither in g"):
        assert check_acceleration_unit(worn(1000.0), unit="g", sample_rate_hz=50.0) is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: check_acceleration_unit(noise(5), unit="mg", sample_rate_hz=50.0),
            ValueError,
            r"`unit` must be 'g' or 'm/s\^2', but is 'mg' instead",
        ),
        (
            lambda: check_acceleration_unit(noise(5, 2), unit="g", sample_rate_hz=50.0),
            DataError,
            "`signal` must have at least 3 channels, the axes of acceleration, but has 2 instead",
        ),
        (
            lambda: check_acceleration_unit(noise(5), unit="g", sample_rate_hz=0.0),
            ValueError,
            "`sample_rate_hz` must be above 0 Hz and finite, but is 0.0 instead",
        ),
    ],
)
def test_bad_input_of_the_unit_check_gets_one_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
