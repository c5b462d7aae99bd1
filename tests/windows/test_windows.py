from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smoothdistill.errors import DataError
from smoothdistill.reference.windows import cut_recording
from smoothdistill.windows import IGNORE_INDEX, Recording, Windows, cut_windows, kernels

CLASS_NAMES = {"activity": ("walk", "sit", "lie"), "placement": ("wrist", "hip")}
RULES = ("pure", "last", "middle", "majority")


def make_recording(labels=None, placement=None, *, length=50, channels=3, seed=0, **options):
    """A recording whose sample values are all different, so that a misplaced one is seen."""
    labels = np.zeros(length, np.int64) if labels is None else np.asarray(labels, np.int64)
    length = len(labels)
    signal = np.random.default_rng(seed).permutation(length * channels).astype(np.float32)
    options = {"subject": "s1", "sample_rate_hz": 20.0, **options}
    return Recording(
        signal.reshape(length, channels),
        {
            "activity": labels,
            "placement": np.full(length, 1) if placement is None else placement,
        },
        **options,
    )


def cut(recordings, **options):
    return cut_windows(recordings, class_names=CLASS_NAMES, **options)


@st.composite
def random_recordings(draw):
    """Up to three recordings with runs of labels, unlabelled stretches, gaps and channels."""
    channels = draw(st.sampled_from([1, 2, 3, 4, 6]))
    with_timestamps = draw(st.booleans())
    recordings = []
    for number in range(draw(st.integers(1, 3))):
        runs = draw(
            st.lists(
                st.tuples(
                    st.integers(1, 12),
                    st.sampled_from([0, 1, 2, IGNORE_INDEX]),
                    st.sampled_from([0, 1, IGNORE_INDEX]),
                ),
                min_size=1,
                max_size=8,
            )
        )
        lengths = [run[0] for run in runs]
        length = sum(lengths)
        timestamps = None
        if with_timestamps:
            steps = draw(
                st.lists(
                    st.sampled_from([0.05, 0.05, 0.05, 0.0, 0.05, -0.05, 1.0]),
                    min_size=length,
                    max_size=length,
                )
            )
            timestamps = np.cumsum(steps)
        placement = np.repeat([run[2] for run in runs], lengths)
        if draw(st.booleans()):
            placement = np.broadcast_to(np.int64(1), length)
        recordings.append(
            make_recording(
                np.repeat([run[1] for run in runs], lengths),
                placement,
                channels=channels,
                seed=number,
                subject=f"s{number}",
                timestamps_seconds=timestamps,
            )
        )
    return recordings


def reference(recordings, **options):
    parts = [
        cut_recording(
            recording.signal,
            recording.targets,
            timestamps_seconds=recording.timestamps_seconds,
            **options,
        )
        for recording in recordings
    ]
    return {
        "signals": np.concatenate([part[1] for part in parts]),
        "starts": np.concatenate([part[0] for part in parts]),
        "recordings": np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]),
        "targets": {
            task: np.concatenate([part[2][task] for part in parts]) for task in CLASS_NAMES
        },
    }


@given(
    recordings=random_recordings(),
    window_samples=st.integers(1, 20),
    step_samples=st.integers(1, 25),
    label=st.sampled_from(RULES),
    max_gap_seconds=st.sampled_from([0.02, 0.25, 2.0]),
)
@settings(max_examples=200)
def test_equals_the_reference(recordings, window_samples, step_samples, label, max_gap_seconds):
    options = {
        "window_samples": window_samples,
        "step_samples": step_samples,
        "label": label,
        "max_gap_seconds": max_gap_seconds,
    }
    expected = reference(recordings, **options)
    if not len(expected["starts"]):
        with pytest.raises(DataError, match=r"`(window_samples|recordings)` must"):
            cut(recordings, **options)
        return
    windows = cut(recordings, **options)
    np.testing.assert_array_equal(windows.signals, expected["signals"])
    np.testing.assert_array_equal(windows.starts, expected["starts"])
    np.testing.assert_array_equal(windows.recordings, expected["recordings"])
    for task in CLASS_NAMES:
        np.testing.assert_array_equal(windows.targets[task], expected["targets"][task])
    subjects = [recordings[number].subject for number in windows.recordings]
    assert windows.subjects.tolist() == subjects


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize(("window_samples", "step_samples"), [(100, 60), (128, 1), (5000, 700)])
def test_long_recordings_equal_the_reference(channels, window_samples, step_samples):
    length = 12 * kernels.BLOCK_SAMPLES + 17  # several blocks, the last one cut short
    recording = make_recording(length=length, channels=channels)
    windows = cut([recording], window_samples=window_samples, step_samples=step_samples)
    view = np.lib.stride_tricks.sliding_window_view(recording.signal, window_samples, axis=0)
    np.testing.assert_array_equal(windows.signals, view[::step_samples])


@given(recordings=random_recordings(), step_samples=st.integers(1, 4), label=st.sampled_from(RULES))
@example(recordings=[make_recording([0] * 9 + [1] * 7)], step_samples=2, label="majority")
@settings(max_examples=40)
def test_kernels_give_the_same_as_plain_python(plain_kernels, recordings, step_samples, label):
    try:
        first = cut(recordings, window_samples=4, step_samples=step_samples, label=label)
    except DataError:
        return
    with plain_kernels():
        second = cut(recordings, window_samples=4, step_samples=step_samples, label=label)
    assert first.fingerprint() == second.fingerprint()
    np.testing.assert_array_equal(first.starts, second.starts)


def test_pure_windows_start_anew_at_every_change_of_label():
    recording = make_recording([0] * 12 + [1] * 15 + [2] * 9)
    windows = cut([recording], window_samples=10, step_samples=5)
    assert windows.starts.tolist() == [0, 12, 17]
    assert windows.targets["activity"].tolist() == [0, 1, 1]


def test_pure_windows_start_anew_at_a_change_in_any_task():
    recording = make_recording(np.zeros(30), np.repeat([0, 1], 15))
    windows = cut([recording], window_samples=10, step_samples=10)
    assert windows.starts.tolist() == [0, 15]


@pytest.mark.parametrize(
    ("label", "expected"), [("last", [0, 1, 1]), ("middle", [0, 0, 1]), ("majority", [0, 0, 1])]
)
def test_windows_of_the_other_rules_span_a_change_of_label(label, expected):
    recording = make_recording([0] * 12 + [1] * 8)
    windows = cut([recording], label=label, window_samples=10, step_samples=5)
    assert windows.starts.tolist() == [0, 5, 10]
    assert windows.targets["activity"].tolist() == expected


@pytest.mark.parametrize(("window_samples", "expected"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_the_middle_is_the_later_of_two_samples(window_samples, expected):
    windows = cut([make_recording([0, 1, 2, 0, 1])], label="middle", window_samples=window_samples)
    assert windows.targets["activity"].tolist()[0] == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([2, 2, 1, 1], 1),
        ([1, 1, 2, 2], 1),
        ([2, 2, -100, -100], 2),
        ([-100, -100, 1, 1], 1),
        ([0, 1, 0, 2], 0),
    ],
)
def test_a_tie_goes_to_the_lowest_class_and_to_a_class_before_none(labels, expected):
    windows = cut([make_recording(labels)], window_samples=4, label="majority")
    assert windows.targets["activity"].tolist() == [expected]


def test_windows_without_any_label_are_dropped():
    labels = [0] * 10 + [IGNORE_INDEX] * 10
    both = make_recording(labels, labels)
    one = make_recording(labels)
    assert cut([both], window_samples=10).starts.tolist() == [0]
    kept = cut([one], window_samples=10)
    assert kept.targets["activity"].tolist() == [0, IGNORE_INDEX]
    assert kept.targets["placement"].tolist() == [1, 1]


@pytest.mark.parametrize("label", RULES)
@pytest.mark.parametrize("jump_seconds", [-0.01, 0.3])
def test_no_window_crosses_a_jump_of_time(label, jump_seconds):
    steps = np.full(40, 0.05)
    steps[25] = jump_seconds
    recording = make_recording(np.zeros(40), timestamps_seconds=np.cumsum(steps))
    windows = cut([recording], window_samples=10, step_samples=10, label=label)
    assert windows.starts.tolist() == [0, 10, 25]


def test_bursts_that_share_a_timestamp_are_no_border():
    times = np.repeat(np.arange(10) * 0.2, 4)  # four samples at a time, at 20 Hz on average
    recording = make_recording(np.zeros(40), timestamps_seconds=times)
    assert cut([recording], window_samples=40).starts.tolist() == [0]


@pytest.mark.parametrize(("rate", "largest"), [(1.0, 2.5), (50.0, 0.25)])
def test_default_gap_is_the_larger_of_two_and_a_half_periods_and_a_quarter_second(rate, largest):
    for gap, expected in ((largest, 1), (np.nextafter(largest, 9.0), 0)):
        recording = make_recording(
            np.zeros(2), timestamps_seconds=np.array([0.0, gap]), sample_rate_hz=rate
        )
        options = {"window_samples": 2}
        if expected:
            assert len(cut([recording], **options)) == expected
        else:
            with pytest.raises(DataError, match="`window_samples` must be at most 1"):
                cut([recording], **options)


def test_no_window_crosses_two_recordings_and_short_ones_add_none():
    recordings = [make_recording(length=length, subject=f"s{length}") for length in (25, 7, 12)]
    windows = cut(recordings, window_samples=10, step_samples=10)
    assert windows.recordings.tolist() == [0, 0, 2]
    assert windows.starts.tolist() == [0, 10, 0]
    assert windows.subjects.tolist() == ["s25", "s25", "s12"]


def test_names_and_rate_are_handed_on():
    recording = make_recording(channel_names=("x", "y", "z"))
    windows = cut([recording], window_samples=10, name="mine")
    assert windows.channel_names == ("x", "y", "z")
    assert windows.sample_rate_hz == 20.0
    assert windows.name == "mine"
    assert windows.num_classes == {"activity": 3, "placement": 2}
    assert windows.tasks == ("activity", "placement")
    assert (windows.num_channels, windows.window_samples) == (3, 10)


def test_recordings_are_left_as_they_were():
    recording = make_recording()
    before = [recording.signal.copy(), recording.targets["activity"].copy()]
    cut([recording], window_samples=10)
    np.testing.assert_array_equal(recording.signal, before[0])
    np.testing.assert_array_equal(recording.targets["activity"], before[1])


def test_a_constant_label_takes_no_memory():
    recording = make_recording(placement=np.broadcast_to(np.int64(1), 50))
    assert recording.targets["placement"].strides == (0,)


def test_read_only_and_strided_input_is_read():
    signal = np.arange(60, dtype=np.float64).reshape(10, 6)[:, ::2]
    labels = np.zeros(20, np.int32)[::2]
    labels.setflags(write=False)
    recording = Recording(signal, {"activity": labels, "placement": labels}, "s1", 20.0)
    recording.signal.setflags(write=False)
    windows = cut([recording], window_samples=10)
    np.testing.assert_array_equal(windows.signals[0], signal.T.astype(np.float32))


def test_importing_windows_does_not_import_numba():
    probe = "import sys, smoothdistill.windows; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_peak_memory_is_the_result_and_little_more():
    import tracemalloc

    recording = make_recording(length=200_000)
    cut([recording], window_samples=100)  # compiled and imported before counting
    tracemalloc.start()
    windows = cut([recording], window_samples=100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # On top: border marks (1 byte a sample), one piece of the finite check, labels and starts.
    assert peak < windows.signals.nbytes + 200_000 + 2**20 + 400 * len(windows)


# --- Windows ---------------------------------------------------------------------------------


def make_windows(num_windows=6, **options):
    options = {
        "signals": np.arange(num_windows * 12, dtype=np.float32).reshape(num_windows, 3, 4),
        "targets": {"activity": np.arange(num_windows) % 3},
        "subjects": np.arange(num_windows) // 2,
        "sample_rate_hz": 50.0,
        **options,
    }
    return Windows(**options)


def test_own_arrays_get_numbered_classes_and_string_subjects():
    windows = make_windows(targets={"activity": np.array([0, 2, 1, 0, -100, 2])})
    assert windows.class_names == {"activity": ("0", "1", "2")}
    assert windows.subjects.tolist() == ["0", "0", "1", "1", "2", "2"]
    assert len(windows) == 6


def test_contiguous_arrays_are_not_copied_and_others_are_converted():
    signals = np.ones((6, 3, 4), np.float32)
    assert make_windows(signals=signals).signals is signals
    for other in (np.ones((6, 4, 3)).transpose(0, 2, 1), torch.ones(6, 3, 4, dtype=torch.float64)):
        converted = make_windows(signals=other).signals
        assert converted.dtype == np.float32
        assert converted.flags.c_contiguous
    assert make_windows(subjects=np.array(["a"] * 6, object)).subjects.dtype.kind == "U"


def test_a_memory_mapped_array_is_kept(tmp_path):
    path = tmp_path / "signals.npy"
    np.save(path, np.ones((6, 3, 4), np.float32))
    mapped = np.load(path, mmap_mode="r")
    assert np.shares_memory(make_windows(signals=mapped).signals, mapped)


def test_select_takes_numbers_and_bools_and_keeps_the_classes():
    windows = make_windows(recordings=np.arange(6), starts=np.arange(6) * 4)
    chosen = windows.select([4, 1])
    np.testing.assert_array_equal(chosen.signals, windows.signals[[4, 1]])
    assert chosen.targets["activity"].tolist() == [1, 1]
    assert chosen.num_classes == {"activity": 3}
    assert chosen.starts.tolist() == [16, 4]
    assert chosen.subjects.tolist() == ["2", "0"]
    mask = np.array([False, True, False, False, True, False])
    assert windows.select(mask).fingerprint() == windows.select([1, 4]).fingerprint()


def test_fingerprint_is_fixed_and_follows_the_content():
    windows = make_windows()
    golden = "0f0dba28c1c265df9159ad5b16605a2bddfeed836a895ec1c2e9781554771f85"
    assert windows.fingerprint() == golden
    assert make_windows(name="other", starts=np.arange(6)).fingerprint() == golden
    signals = windows.signals.copy()
    signals[5, 2, 3] += 1
    for change in (
        {"signals": signals},
        {"targets": {"activity": np.zeros(6, int)}},
        {"targets": {"posture": np.arange(6) % 3}},
        {"subjects": np.arange(6)},
        {"sample_rate_hz": 51.0},
        {"class_names": {"activity": ("a", "b", "c")}},
        {"channel_names": ("x", "y", "z")},
    ):
        assert make_windows(**change).fingerprint() != golden, change


# --- One sentence for each kind of bad input -------------------------------------------------


def with_nan(shape, place):
    array = np.zeros(shape)
    array[place] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (
            {"signals": np.ones((6, 3))},
            DataError,
            "`signals` must have the shape [windows, channels, time] with at least 1 of each, but "
            "has the shape [6, 3] instead.",
        ),
        (
            {"signals": np.ones((0, 3, 4)), "targets": {"activity": np.ones(0, int)}},
            DataError,
            "but has the shape [0, 3, 4] instead.",
        ),
        (
            {"signals": np.ones((6, 3, 4), bool)},
            TypeError,
            "`signals` must be an array of real numbers, but is an array of bool instead.",
        ),
        (
            {"signals": [[1.0], [1.0, 2.0]]},
            TypeError,
            "`signals` must be a NumPy array of real numbers, but is a list that NumPy cannot read",
        ),
        (
            {"signals": torch.ones(6, 3, 4, requires_grad=True)},
            TypeError,
            "`signals` must be a NumPy array of real numbers, but is a Tensor that NumPy cannot",
        ),
        (
            {"signals": with_nan((6, 3, 4), (2, 1, 3))},
            DataError,
            "`signals` must be finite float32 numbers, but is nan at [2, 1, 3] instead.",
        ),
        (
            {"signals": np.full((6, 3, 4), 1e39)},
            DataError,
            "`signals` must be finite float32 numbers, but is inf at [0, 0, 0] instead.",
        ),
        (
            {"targets": np.zeros(6, int)},
            TypeError,
            "`targets` must be a mapping of task to labels, but is ndarray instead.",
        ),
        ({"targets": {}}, DataError, "`targets` must hold at least 1 task, but is empty instead."),
        (
            {"targets": {"": np.zeros(6, int)}},
            TypeError,
            "`targets` must have names of at least 1 character as keys, but has '' instead.",
        ),
        (
            {"targets": {"activity": np.zeros(6)}},
            TypeError,
            "`targets['activity']` must be an array of integers, but is an array of float64 "
            "instead.",
        ),
        (
            {"targets": {"activity": np.zeros((6, 1), int)}},
            DataError,
            "`targets['activity']` must have 1 dimension, but has the shape [6, 1] instead.",
        ),
        (
            {"targets": {"activity": np.zeros(5, int)}},
            DataError,
            "`targets['activity']` must have one value for each of the 6 windows, but has 5 "
            "instead.",
        ),
        (
            {"targets": {"activity": np.array([0, 1, 2, -1, 0, 0])}},
            DataError,
            "`targets['activity']` must be in [0, 3) or -100 (unlabelled), but is -1 instead.",
        ),
        (
            {"class_names": {"activity": ("a", "b")}},
            DataError,
            "`targets['activity']` must be in [0, 2) or -100 (unlabelled), but is 2 instead.",
        ),
        (
            {"targets": {"activity": np.full(6, -100)}},
            DataError,
            "`targets['activity']` must hold at least 1 label where `class_names` has none, but "
            "every one is unlabelled instead.",
        ),
        (
            {"class_names": {"posture": ("a", "b")}},
            DataError,
            "`class_names` must have the tasks ['activity'] as keys, but has ['posture'] instead.",
        ),
        (
            {"class_names": ("a", "b")},
            TypeError,
            "`class_names` must be a mapping of task to names, but is tuple instead.",
        ),
        (
            {"class_names": {"activity": "abc"}},
            TypeError,
            "`class_names['activity']` must be a sequence of strings, but is 'abc' instead.",
        ),
        (
            {"class_names": {"activity": ("a", "b", "a")}},
            DataError,
            "`class_names['activity']` must be at least 1 name, each different, but is "
            "('a', 'b', 'a') instead.",
        ),
        (
            {"channel_names": ("x", "y")},
            DataError,
            "`channel_names` must be 3 names, one for each channel, or none, but is ('x', 'y') "
            "instead.",
        ),
        (
            {"subjects": np.zeros(6)},
            TypeError,
            "`subjects` must be an array of strings or integers, but is an array of float64 "
            "instead.",
        ),
        (
            {"subjects": np.zeros((6, 1), int)},
            DataError,
            "`subjects` must have 1 dimension, but has the shape [6, 1] instead.",
        ),
        (
            {"subjects": ["a"]},
            DataError,
            "`subjects` must have one value for each of the 6 windows, but has 1 instead.",
        ),
        (
            {"sample_rate_hz": 0.0},
            DataError,
            "`sample_rate_hz` must be above 0 and finite, but is 0.0 instead.",
        ),
        (
            {"sample_rate_hz": "50"},
            TypeError,
            "`sample_rate_hz` must be a number, but is str instead.",
        ),
        (
            {"starts": np.arange(6) - 1},
            DataError,
            "`starts` must be at least 0, but is -1 instead.",
        ),
    ],
)
def test_windows_refuses(change, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        make_windows(**change)


@pytest.mark.parametrize(
    ("indices", "error", "sentence"),
    [
        ([], DataError, "`indices` must select at least 1 window, but is empty instead."),
        (np.zeros(6, bool), DataError, "`indices` must select at least 1 window, but is empty"),
        (np.zeros(5, bool), DataError, "`indices` must have one value for each of the 6 windows"),
        ([1, 6], DataError, "`indices` must be in [0, 6), but is 6 instead."),
        ([-1], DataError, "`indices` must be in [0, 6), but is -1 instead."),
        ([0.5], TypeError, "`indices` must be an array of integers, but is an array of float64"),
    ],
)
def test_select_refuses(indices, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        make_windows().select(indices)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"subject": 3}, TypeError, "`subject` must be a string, but is int instead."),
        (
            {"subject": ""},
            DataError,
            "`subject` must be a name of at least 1 character, but is '' instead.",
        ),
        (
            {"signal": np.ones(5)},
            DataError,
            "`signal` must have the shape [time, channels] with at least 1 of each, but has the "
            "shape [5] instead.",
        ),
        (
            {"signal": with_nan((5, 3), (4, 0))},
            DataError,
            "`signal` must be finite float32 numbers, but is nan at [4, 0] instead.",
        ),
        (
            {"targets": {"activity": np.zeros(4, int)}},
            DataError,
            "`targets['activity']` must have one value for each of the 5 samples, but has 4 "
            "instead.",
        ),
        (
            {"timestamps_seconds": np.zeros(4)},
            DataError,
            "`timestamps_seconds` must have one value for each of the 5 samples, but has 4 "
            "instead.",
        ),
        (
            {"timestamps_seconds": with_nan(5, 3)},
            DataError,
            "`timestamps_seconds` must be finite float64 numbers, but is nan at [3] instead.",
        ),
    ],
)
def test_recording_refuses(change, error, sentence):
    arguments = {
        "signal": np.ones((5, 3)),
        "targets": {"activity": np.zeros(5, int)},
        "subject": "s1",
        "sample_rate_hz": 50.0,
    }
    with pytest.raises(error, match=re.escape(sentence)):
        Recording(**{**arguments, **change})


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (
            {"window_samples": 0},
            ValueError,
            "`window_samples` must be at least 1, but is 0 instead.",
        ),
        ({"step_samples": -1}, ValueError, "`step_samples` must be at least 1, but is -1 instead."),
        (
            {"window_samples": 10.0},
            TypeError,
            "`window_samples` must be an integer, but is float instead.",
        ),
        (
            {"label": "first"},
            ValueError,
            "`label` must be one of 'pure', 'last', 'middle', 'majority', but is 'first' instead.",
        ),
        (
            {"max_gap_seconds": 0.0},
            ValueError,
            "`max_gap_seconds` must be above 0, but is 0.0 instead.",
        ),
        (
            {"max_gap_seconds": float("nan")},
            ValueError,
            "`max_gap_seconds` must be above 0, but is nan instead.",
        ),
        (
            {"window_samples": 51},
            DataError,
            "`window_samples` must be at most 50 (the longest stretch without a border in 1 "
            "recordings), but is 51 instead.",
        ),
        (
            {"class_names": {"activity": ("walk",)}},
            DataError,
            "`class_names` must have the tasks ['activity', 'placement'] as keys, but has "
            "['activity'] instead.",
        ),
        (
            {"class_names": {"activity": ("walk",), "placement": ("wrist",)}},
            DataError,
            "`recordings[0].targets['placement']` must be in [0, 1) or -100 (unlabelled), but is 1 "
            "instead.",
        ),
    ],
)
def test_cut_windows_refuses_options(options, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        cut_windows([make_recording()], **{"class_names": CLASS_NAMES, **options})


@pytest.mark.parametrize(
    ("second", "error", "sentence"),
    [
        (
            make_recording(channels=6),
            DataError,
            "`recordings[1]` must have the number of channels of the first recording, 3, but has "
            "6 instead.",
        ),
        (
            make_recording(sample_rate_hz=25.0),
            DataError,
            "`recordings[1]` must have the sample rate in Hz of the first recording, 20.0, but "
            "has 25.0 instead.",
        ),
        (
            make_recording(channel_names=("a", "b", "c")),
            DataError,
            "`recordings[1]` must have the channel names of the first recording, (), but has "
            "('a', 'b', 'c') instead.",
        ),
        (
            Recording(np.ones((50, 3)), {"activity": np.zeros(50, int)}, "s1", 20.0),
            DataError,
            "`recordings[1]` must have the tasks of the first recording, ['activity', "
            "'placement'], but has ['activity'] instead.",
        ),
        ("s1.csv", TypeError, "`recordings[1]` must be a Recording, but is str instead."),
    ],
)
def test_cut_windows_refuses_recordings_that_disagree(second, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        cut([make_recording(), second], window_samples=10)


def test_cut_windows_refuses_no_recording_and_no_label():
    with pytest.raises(
        DataError, match="`recordings` must hold at least 1 recording, but is empty"
    ):
        cut([])
    unlabelled = make_recording(np.full(50, IGNORE_INDEX), np.full(50, IGNORE_INDEX))
    with pytest.raises(DataError, match="`recordings` must hold at least 1 window with a label"):
        cut([unlabelled], window_samples=10)
