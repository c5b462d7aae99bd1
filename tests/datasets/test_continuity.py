"""Tests of stretches, measured rates and resampling."""

from __future__ import annotations

import numpy as np
import pytest

from smoothdistill.datasets.continuity import (
    find_stretches,
    measured_rate_hz,
    resample_linearly,
)


def find(times: np.ndarray, **options: object):  # type: ignore[no-untyped-def]
    return find_stretches(times, max_gap_seconds=1.0, sample_rate_hz=20.0, **options)


def test_gaps_and_backward_steps_end_a_stretch() -> None:
    times = np.array([0.0, 0.05, 0.10, 5.0, 5.05, 2.0, 2.0, 2.05])
    stretches = find(times)
    assert stretches.edges.tolist() == [0, 3, 5, 8]
    assert (stretches.gaps, stretches.backward_steps, stretches.tied_timestamps) == (1, 1, 1)
    assert stretches.is_off_rate.tolist() == [False, False, True]


def test_a_block_border_is_no_gap() -> None:
    times = np.array([9.0, 9.05, 0.0, 0.05, 7.0])
    blocks = np.array([0, 0, 1, 1, 2])
    stretches = find(times, blocks=blocks)
    assert stretches.edges.tolist() == [0, 2, 4, 5]
    assert (stretches.gaps, stretches.backward_steps) == (0, 0)


def test_more_stretches_than_expected() -> None:
    times = np.arange(1000.0) * 2.0
    assert find(times).edges.tolist() == list(range(1001))
    assert find(np.zeros(1)).edges.tolist() == [0, 1]


def test_up_to_two_percent_of_the_steps_may_be_off() -> None:
    times = np.arange(101) / 20.0
    for num_late, is_off in ((2, False), (3, True)):
        late = times.copy()
        late[1 : 2 * num_late : 2] += 0.004  # the step after each is off as well, within 10 %
        late[1 : 2 * num_late : 2] += 0.002
        steps = np.abs(np.diff(late) * 20.0 - 1.0) > 0.1
        assert find(late).is_off_rate.tolist() == [bool(steps.sum() > 2)]
        assert is_off or steps.sum() >= 2


def test_measured_rate() -> None:
    assert measured_rate_hz(np.arange(100) / 25.0) == pytest.approx(25.0)
    assert measured_rate_hz(np.zeros(1)) is None
    assert measured_rate_hz(np.zeros(5)) is None


@pytest.mark.parametrize("rate_hz", [30.0, 60.0, 64.0, 128.0, 256.0, 400.0, 700.0])
def test_whole_milliseconds_change_no_rate(rate_hz: float) -> None:
    times = np.floor(np.arange(1000) / rate_hz * 1000.0) / 1000.0
    assert measured_rate_hz(times) == pytest.approx(rate_hz, rel=1e-4)


def test_lost_samples_gaps_and_backward_steps_change_no_rate() -> None:
    grid = np.arange(3000) / 64.0
    kept = np.random.default_rng(0).random(3000) > 0.02
    gaps = grid + 9.0 * (np.arange(3000) // 50)
    back = grid - 20.0 * (np.arange(3000) > 2000)
    for times in (grid[kept], gaps, back, grid[:6] + 9.0 * (np.arange(6) > 2)):
        assert measured_rate_hz(np.floor(times * 1000.0) / 1000.0) == pytest.approx(64.0, rel=0.02)
        assert measured_rate_hz(times) == pytest.approx(64.0)


def test_samples_that_come_four_at_once_change_no_rate() -> None:
    number = np.arange(1000)
    for within in (0.0, 0.001):
        times = number // 4 * 0.08 + number % 4 * within
        assert measured_rate_hz(times) == pytest.approx(50.0)


def test_resampling_is_exact_on_a_line_and_stays_inside() -> None:
    times = 3.0 + np.sort(np.random.default_rng(0).uniform(0.0, 9.0, 400))
    signal = np.stack([times, 2.0 * times - 1.0], axis=1).astype(np.float32)
    resampled, grid = resample_linearly(signal, times, 20.0)
    np.testing.assert_allclose(np.diff(grid), 0.05, atol=1e-12)
    assert grid[0] == times[0]
    assert times[-1] - 0.05 < grid[-1] <= times[-1] + 1e-7
    # float32 keeps 24 bits: half a unit of 2^-19 below 32, for the sample and for the result
    np.testing.assert_allclose(resampled[:, 0], grid, atol=2 * 2.0**-20)
    np.testing.assert_allclose(resampled[:, 1], 2.0 * grid - 1.0, atol=2 * 2.0**-20)


def test_resampling_an_even_grid_changes_nothing() -> None:
    times = np.arange(50) / 20.0
    signal = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    resampled, grid = resample_linearly(signal, times, 20.0)
    np.testing.assert_array_equal(grid, times)
    np.testing.assert_array_equal(resampled, signal)
