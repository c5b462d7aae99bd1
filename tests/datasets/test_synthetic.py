from __future__ import annotations

import re

import numpy as np
import pytest

from smoothdistill.datasets.synthetic import (
    ACTIVITIES,
    CHANNELS,
    DEFAULT_STEP_SAMPLES,
    DEFAULT_WINDOW_SAMPLES,
    PLACEMENTS,
    SAMPLE_RATE_HZ,
    synthetic_recordings,
)
from smoothdistill.windows import cut_windows

GOLDEN_MEAN = (6.523494, 2.449835, 0.4624163)
GOLDEN_STD = (4.249814, 4.215577, 4.125355)
GOLDEN_FIRST = (-2.323689, 7.096918, 6.332881)

CLASS_NAMES = {"activity": ACTIVITIES, "placement": PLACEMENTS}


def default_windows():
    return cut_windows(
        synthetic_recordings(),
        class_names=CLASS_NAMES,
        window_samples=DEFAULT_WINDOW_SAMPLES,
        step_samples=DEFAULT_STEP_SAMPLES,
    )


def test_golden_shape_and_statistics():
    windows = default_windows()
    assert windows.signals.shape == (1824, 3, 100)
    counts = np.bincount(windows.targets["activity"])
    assert counts.tolist() == [231, 225, 249, 219, 237, 243, 198, 222]
    assert np.bincount(windows.targets["placement"]).tolist() == [608, 608, 608]
    assert len(np.unique(windows.subjects)) == 20
    signals = windows.signals.astype(np.float64)
    # Means and deviations of the three axes, in m/s²: sin and exp differ by an ulp or two between
    # platforms, which float32 rounding hides but for 1e-7.
    np.testing.assert_allclose(signals.mean(axis=(0, 2)), GOLDEN_MEAN, rtol=1e-5)
    np.testing.assert_allclose(signals.std(axis=(0, 2)), GOLDEN_STD, rtol=1e-5)
    np.testing.assert_allclose(signals[0, :, 0], GOLDEN_FIRST, rtol=1e-5)


def test_same_seed_same_bytes_and_other_seed_other_bytes():
    first, again, other = (synthetic_recordings(num_subjects=2, seed=seed) for seed in (7, 7, 8))
    for one, two in zip(first, again, strict=True):
        assert one.signal.tobytes() == two.signal.tobytes()
        assert one.targets["activity"].tobytes() == two.targets["activity"].tobytes()
    assert first[0].signal[:10].tobytes() != other[0].signal[:10].tobytes()


def test_a_larger_set_contains_a_smaller_one():
    small, large = (synthetic_recordings(num_subjects=count) for count in (2, 4))
    for one, two in zip(small, large, strict=False):
        assert one.subject == two.subject
        assert one.signal.tobytes() == two.signal.tobytes()


def test_one_recording_per_subject_and_placement_all_at_one_time():
    recordings = synthetic_recordings(num_subjects=3, num_rounds=2)
    sessions = [(recording.subject, recording.session) for recording in recordings]
    assert sessions == [(f"s0{n}", place) for n in (1, 2, 3) for place in PLACEMENTS]
    for first, second, third in zip(*[iter(recordings)] * 3, strict=True):
        for other in (second, third):
            np.testing.assert_array_equal(first.targets["activity"], other.targets["activity"])
        assert [recording.targets["placement"][0] for recording in (first, second, third)] == [
            0,
            1,
            2,
        ]
        assert first.channel_names == CHANNELS
        assert first.sample_rate_hz == SAMPLE_RATE_HZ
        assert set(first.targets["activity"].tolist()) == set(range(len(ACTIVITIES)))


def test_a_still_sensor_reads_gravity():
    standing = cut_windows(
        synthetic_recordings(noise_m_s2=0.0), class_names=CLASS_NAMES, window_samples=50
    )
    chosen = standing.targets["activity"] == ACTIVITIES.index("stand")
    norms = np.linalg.norm(standing.signals[chosen].mean(axis=2), axis=1)
    # What turns within a window, in a transition above all, shortens the mean of its vectors.
    assert 0.97 * 9.80665 < np.median(norms) < 9.80665
    assert norms.min() > 0.8 * 9.80665
    assert norms.max() < 1.05 * 9.80665


def test_jogging_is_harder_on_the_body_than_lying():
    windows = default_windows()
    deviations = windows.signals.std(axis=2).mean(axis=1)
    by_activity = [
        deviations[windows.targets["activity"] == number].mean()
        for number in range(len(ACTIVITIES))
    ]
    assert ACTIVITIES[int(np.argmax(by_activity))] == "jog"
    assert max(by_activity[ACTIVITIES.index(name)] for name in ("sit", "stand", "lie")) < 1.2


def test_motion_fades_from_one_activity_to_the_next():
    recording = synthetic_recordings(num_subjects=1, noise_m_s2=0.0, seed=1)[1]
    jog = recording.targets["activity"] == ACTIVITIES.index("jog")
    first, last = np.flatnonzero(jog)[[0, -1]]
    norm = np.linalg.norm(recording.signal, axis=1)
    middle = np.ptp(norm[first + 100 : last - 100])
    assert np.ptp(norm[first : first + 10]) < middle
    assert np.ptp(norm[last - 10 : last]) < middle


def test_wearers_are_alike_without_variation():
    windows = cut_windows(
        synthetic_recordings(num_subjects=6, subject_variation=0.0, noise_m_s2=0.0),
        class_names=CLASS_NAMES,
    )
    varied = cut_windows(
        synthetic_recordings(num_subjects=6, noise_m_s2=0.0), class_names=CLASS_NAMES
    )

    def spread(data):
        chosen = (data.targets["activity"] == 6) & (data.targets["placement"] == 1)
        return data.signals[chosen].mean(axis=2).std(axis=0).max()

    # What is left is the transitions.
    assert spread(windows) < 0.6 * spread(varied)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"num_subjects": 0}, ValueError, "`num_subjects` must be at least 1, but is 0 instead."),
        ({"num_rounds": 1.5}, TypeError, "`num_rounds` must be an integer, but is float instead."),
        (
            {"bout_seconds": 1.0},
            ValueError,
            "`bout_seconds` must be at least 2.0, but is 1.0 instead.",
        ),
        (
            {"subject_variation": float("nan")},
            ValueError,
            "`subject_variation` must be at least 0.0, but is nan instead.",
        ),
        (
            {"noise_m_s2": -0.1},
            ValueError,
            "`noise_m_s2` must be at least 0.0, but is -0.1 instead.",
        ),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, but is -1 instead."),
    ],
)
def test_refuses(options, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        synthetic_recordings(**options)
