from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdistill.errors import DataError
from smoothdistill.reference.windows import copy_places, present_shares, segment_recording
from smoothdistill.windows import IGNORE_INDEX, Segmenter, Segments, borders, labelling

RULES = ("pure", "last", "middle", "majority")


def segment(signal=50, *, targets=None, groups=None, timestamps_seconds=None, **options):
    inputs = {"targets": targets, "groups": groups, "timestamps_seconds": timestamps_seconds}
    must_fit = options.pop("must_fit", True)
    options = {"window_samples": 10, "sample_rate_hz": 20.0, **options}
    return Segmenter(**options).segment(signal, must_fit=must_fit, **inputs)


def ramp(length, channels=3, dtype=np.float32):
    """A recording whose sample values are all different, so that a misplaced one is seen."""
    return np.arange(length * channels, dtype=dtype).reshape(length, channels)


@st.composite
def random_inputs(draw):
    """A short recording with NaN, and labels, groups and times that change or jump at times."""
    runs = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    length = sum(runs)

    def by_run(values):
        drawn = [draw(st.sampled_from(values)) for _ in runs]
        return np.repeat(drawn, draw(st.permutations(runs)))

    targets = {}
    if draw(st.booleans()):
        targets["activity"] = by_run([0, 1, 2, IGNORE_INDEX])
        targets["placement"] = draw(
            st.sampled_from([by_run([0, 7000, IGNORE_INDEX]), np.broadcast_to(np.int64(1), length)])
        )
    groups = draw(
        st.sampled_from(
            [None, by_run([3, 4]), by_run(["a", "bc"]), by_run(["a", "b"]).astype(object)]
        )
    )
    times = None
    if draw(st.booleans()):
        times = np.cumsum(draw(st.permutations([1.0, 0.0, -0.05] + [0.05] * length))[:length])
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    signal = ramp(length, draw(st.sampled_from([1, 2, 3, 6])), dtype)
    for sample in draw(st.lists(st.integers(0, length - 1), max_size=5)):
        signal[sample, sample % signal.shape[1]] = np.nan
    return signal, {"targets": targets or None, "groups": groups, "timestamps_seconds": times}


@st.composite
def random_options(draw):
    label = draw(st.sampled_from(RULES))
    return {
        "window_samples": draw(st.integers(1, 20)),
        "step_samples": draw(st.integers(1, 25)),
        "origin": draw(st.integers(0, 4)),
        "partial": draw(st.sampled_from(["drop", "pad"])),
        "label": label,
        "min_purity": draw(st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0])) if label == "pure" else 1.0,
        "max_gap_seconds": draw(st.sampled_from([0.02, 0.25, 2.0])),
    }


@given(inputs=random_inputs(), options=random_options(), min_valid=st.sampled_from([None, 0.5, 1]))
@settings(max_examples=300)
def test_equals_the_reference(inputs, options, min_valid):
    signal, inputs = inputs
    places, labels = segment_recording(len(signal), **options, **inputs)
    found = Segmenter(**options, min_valid=min_valid).segment(signal, **inputs, must_fit=False)

    if min_valid is not None:
        shares = present_shares(signal, places, options["window_samples"])
        kept = [window for window, share in enumerate(shares) if share >= min_valid]
        places = [places[window] for window in kept]
        labels = {task: [row[window] for window in kept] for task, row in labels.items()}
    assert list(zip(found.starts.tolist(), found.stops.tolist(), strict=True)) == places
    assert {task: row.tolist() for task, row in found.targets.items()} == labels
    expected = copy_places(signal, places, options["window_samples"])
    windows = found.windows(signal)
    np.testing.assert_array_equal(windows, expected)
    assert windows.dtype == signal.dtype
    if inputs["groups"] is None:
        assert found.groups is None
    else:
        assert found.groups.tolist() == [inputs["groups"][start] for start, _ in places]
        assert found.groups.dtype.kind in "iU"
    try:
        view = found.view(signal)
    except DataError:
        hops = set(np.diff(found.starts))
        assert len(hops) > 1 or (found.lengths < found.window_samples).any()
    else:
        np.testing.assert_array_equal(view, expected)


@given(inputs=random_inputs(), options=random_options())
@settings(max_examples=60)
def test_kernels_give_the_same_as_plain_python(plain_kernels, inputs, options):
    signal, inputs = inputs
    segmenter = Segmenter(**options, min_valid=0.4)
    first = segmenter.segment(signal, **inputs, must_fit=False)
    with plain_kernels():
        second = segmenter.segment(signal, **inputs, must_fit=False)
        windows = second.windows(signal)
    for name in ("starts", "lengths", "borders"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.windows(signal), windows)
    for task, labels in first.targets.items():
        np.testing.assert_array_equal(labels, second.targets[task])


@given(
    num_samples=st.integers(1, 200),
    piece=st.integers(1, 70),
    places=st.lists(st.integers(0, 199), max_size=8),
)
@settings(max_examples=100)
def test_changes_are_found_whatever_the_pieces(num_samples, piece, places):
    values = np.zeros(num_samples, np.int64)
    for place in places:
        values[place:] += 1
    times = np.where(values % 2, 1e3, 0.0) + np.arange(num_samples) * 0.05
    expected = np.flatnonzero(np.diff(values)) + 1
    jumps = np.flatnonzero(np.diff(values) % 2) + 1
    before = borders.PIECE_SAMPLES
    try:
        borders.PIECE_SAMPLES = piece
        changes = borders.changes_in(values)
        gaps = borders.steps_in_time(times, 0.25, expected[:0], backwards="border")
    finally:
        borders.PIECE_SAMPLES = before
    np.testing.assert_array_equal(changes, expected)
    np.testing.assert_array_equal(gaps, jumps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize(("window", "step"), [(100, 60), (128, 1), (300, 299), (10, 40)])
def test_windows_and_view_of_a_long_recording(dtype, channels, window, step):
    signal = ramp(1500, channels, dtype)
    found = segment(signal, window_samples=window, step_samples=step)
    expected = np.lib.stride_tricks.sliding_window_view(signal, window, axis=0)[::step]
    windows = found.windows(signal)
    np.testing.assert_array_equal(windows, expected)
    assert windows.flags.c_contiguous
    view = found.view(signal)
    np.testing.assert_array_equal(view, expected)
    assert np.shares_memory(view, signal)
    assert not view.flags.writeable


# --- Where windows lie -----------------------------------------------------------------------


def test_lengths_may_be_in_seconds():
    by_seconds = Segmenter(window_seconds=2.56, step_seconds=1.28, sample_rate_hz=50)
    assert (by_seconds.width_samples, by_seconds.hop_samples) == (128, 64)
    found = by_seconds.segment(300)
    assert found.starts.tolist() == [0, 64, 128]
    assert found.window_samples == 128
    rounded = Segmenter(window_seconds=3, step_samples=7, sample_rate_hz=33.3333)
    assert (rounded.width_samples, rounded.hop_samples) == (100, 7)


def test_without_a_step_windows_lie_end_to_end():
    assert segment(35).starts.tolist() == [0, 10, 20]
    assert Segmenter(window_seconds=1.5, sample_rate_hz=20).hop_samples == 30


def test_the_origin_counts_from_every_border():
    found = segment(50, groups=np.repeat([1, 2], [23, 27]), origin=2)
    assert found.starts.tolist() == [2, 12, 25, 35]
    assert found.groups.tolist() == [1, 1, 2, 2]
    assert found.borders.tolist() == [0, 23, 50]


@pytest.mark.parametrize(
    ("num_samples", "step", "expected"),
    [
        (30, 10, [(0, 10), (10, 20), (20, 30)]),  # nothing is left
        (33, 10, [(0, 10), (10, 20), (20, 30), (30, 33)]),
        (22, 6, [(0, 10), (6, 16), (12, 22)]),  # 18 is in the grid, but nothing is left
        (24, 6, [(0, 10), (6, 16), (12, 22), (18, 24)]),
        (7, 6, [(0, 7)]),
        (28, 15, [(0, 10), (15, 25)]),  # something is left, but the grid goes on behind the border
        (33, 15, [(0, 10), (15, 25), (30, 33)]),
    ],
)
def test_pad_gives_the_rest_of_a_stretch_one_shorter_window(num_samples, step, expected):
    signal = ramp(num_samples)
    found = segment(signal, step_samples=step, partial="pad")
    assert list(zip(found.starts.tolist(), found.stops.tolist(), strict=True)) == expected
    windows = found.windows(signal)
    is_pad = np.arange(10) >= found.lengths[:, None, None]
    np.testing.assert_array_equal(np.isnan(windows), np.broadcast_to(is_pad, windows.shape))


def test_a_short_window_is_labelled_by_the_samples_it_has():
    labels = np.repeat([0, 1], [12, 4])
    for label, expected in (("last", 1), ("middle", 1), ("majority", 1)):
        found = segment(16, targets={"a": labels}, label=label, partial="pad", origin=1)
        assert found.lengths.tolist() == [10, 5]
        assert found.targets["a"].tolist() == [0, expected], label


def test_min_valid_drops_windows_that_lack_samples():
    signal = ramp(40)
    signal[2, 0] = signal[13:16, 1] = np.nan
    signal[13, 2] = np.nan  # a second channel of one sample: the sample is missing once
    assert segment(signal).starts.tolist() == [0, 10, 20, 30]
    for min_valid, expected in ((0, [0, 10, 20, 30]), (0.7, [0, 10, 20, 30]), (0.71, [0, 20, 30])):
        assert segment(signal, min_valid=min_valid).starts.tolist() == expected
    kept = segment(signal[:37], min_valid=0.7, partial="pad")
    assert kept.starts.tolist() == [0, 10, 20, 30]
    kept = segment(signal[:36], min_valid=0.7, partial="pad")
    assert kept.starts.tolist() == [0, 10, 20]
    assert segment(36, min_valid=0.7, partial="pad").starts.tolist() == [0, 10, 20]


def test_min_valid_may_leave_no_window():
    found = segment(np.full((40, 3), np.nan), min_valid=0.5, targets={"a": np.zeros(40, int)})
    assert len(found) == 0
    assert found.targets["a"].shape == (0,)
    assert found.windows(ramp(40)).shape == (0, 3, 10)
    view = found.view(ramp(40))
    assert view.shape == (0, 3, 10)
    assert not view.flags.writeable


def test_shares_are_compared_as_written():
    # 0.07 * 100 is above 7, and 7 / 100 is 0.07.
    signal = np.full((100, 1), np.nan)
    signal[:7] = 1.0
    assert len(segment(signal, window_samples=100, min_valid=0.07)) == 1
    labels = np.repeat(np.arange(15), [7] * 14 + [2])
    found = segment(100, window_samples=100, targets={"a": labels}, label="pure", min_purity=0.07)
    assert found.targets["a"].tolist() == [0]


@pytest.mark.parametrize("jump_seconds", [-0.01, 0.3])
def test_no_window_crosses_a_jump_of_time(jump_seconds):
    steps = np.full(40, 0.05)
    steps[25] = jump_seconds
    found = segment(40, timestamps_seconds=np.cumsum(steps))
    assert found.starts.tolist() == [0, 10, 25]


def test_time_may_begin_anew_with_a_group_where_backwards_is_an_error():
    times = np.concatenate([np.arange(25), np.arange(15)]) / 20
    groups = np.repeat(["a", "b"], [25, 15])
    options = {"timestamps_seconds": times, "backwards": "raise"}
    assert segment(40, groups=groups, **options).starts.tolist() == [0, 10, 25]
    sentence = (
        "`timestamps_seconds` must not run backwards inside a group, but step from 1.2 to 0.0 at "
        "sample 25 instead."
    )
    with pytest.raises(DataError, match=re.escape(sentence)):
        segment(40, **options)


def test_the_default_gap_needs_the_rate():
    times = np.arange(40) * 0.4
    assert len(segment(40, timestamps_seconds=times, sample_rate_hz=2.5)) == 4
    assert len(segment(40, timestamps_seconds=times, max_gap_seconds=0.5)) == 4
    with pytest.raises(ValueError, match="`sample_rate_hz` or `max_gap_seconds` must be given wh"):
        segment(40, timestamps_seconds=times, sample_rate_hz=None)


# --- Labels ----------------------------------------------------------------------------------


def test_labels_of_each_rule():
    labels = np.repeat([2, 0, 1], [14, 3, 8])
    found = {
        rule: segment(25, step_samples=5, targets={"a": labels}, label=rule).targets["a"].tolist()
        for rule in ("last", "middle", "majority")
    }
    assert found == {"last": [2, 0, 1, 1], "middle": [2, 2, 0, 1], "majority": [2, 2, 2, 1]}


def test_pure_at_one_begins_anew_with_each_label():
    targets = {"a": np.repeat([0, 1, 2], [12, 15, 9])}
    found = segment(36, step_samples=5, targets=targets, label="pure")
    assert found.starts.tolist() == [0, 12, 17]
    assert found.targets["a"].tolist() == [0, 1, 1]
    padded = segment(36, step_samples=5, targets=targets, label="pure", partial="pad")
    assert padded.starts.tolist() == [0, 5, 12, 17, 27]
    assert padded.targets["a"].tolist() == [0, 0, 1, 1, 2]


def test_pure_below_one_keeps_the_grid_and_leaves_mixed_windows_unlabelled():
    labels = np.repeat([0, 1, IGNORE_INDEX, 0], [12, 15, 13, 10])
    options = {"targets": {"a": labels}, "label": "pure"}
    assert segment(50, min_purity=0.8, **options).targets["a"].tolist() == [0, 1, -100, -100, 0]
    assert segment(50, min_purity=0.7, **options).targets["a"].tolist() == [0, 1, 1, -100, 0]
    assert segment(50, min_purity=0.0, **options).starts.tolist() == [0, 10, 20, 30, 40]


def test_windows_without_a_label_are_kept_and_known():
    targets = {"a": np.repeat([IGNORE_INDEX, 1], 20), "b": np.full(40, IGNORE_INDEX)}
    found = segment(40, targets=targets)
    assert found.is_labelled.tolist() == [False, False, True, True]
    assert found.select(found.is_labelled).starts.tolist() == [20, 30]
    assert not segment(40).is_labelled.any()


def test_labels_may_be_large_numbers():
    values = np.array([10**12, IGNORE_INDEX, 5, 10**15])
    labels = values[np.repeat([0, 1, 2, 3, 0, 1], [5, 5, 4, 6, 3, 7])]
    found = segment(30, targets={"a": labels})
    assert found.targets["a"].tolist() == [10**12, 10**15, IGNORE_INDEX]
    unlabelled = segment(30, targets={"a": np.where(labels > 5, labels, IGNORE_INDEX)})
    assert unlabelled.targets["a"].tolist() == [10**12, 10**15, IGNORE_INDEX]


@given(
    labels=st.lists(st.sampled_from([IGNORE_INDEX, 0, 1, 2]), min_size=12, max_size=30),
    shift=st.sampled_from([0, labelling.MOST_COUNTERS]),
)
@settings(max_examples=60)
def test_large_labels_are_ranked_as_small_ones(labels, shift):
    labels = np.array(labels)
    small = segment(len(labels), step_samples=1, targets={"a": labels}).targets["a"]
    moved = np.where(labels == IGNORE_INDEX, labels, labels + shift)
    large = segment(len(labels), step_samples=1, targets={"a": moved}).targets["a"]
    np.testing.assert_array_equal(large, np.where(small == IGNORE_INDEX, small, small + shift))


# --- What is handed in and out ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("int8", "float32"),
        ("int16", "float32"),
        ("int32", "float64"),
        ("float16", "float32"),
        (">f4", "float32"),
        ("longdouble", "float64"),
    ],
)
def test_other_numbers_become_the_float_that_holds_them(dtype, expected):
    signal = ramp(40).astype(dtype)
    found = segment(signal, min_valid=1.0)
    assert found.windows(signal).dtype == np.dtype(expected)
    np.testing.assert_array_equal(found.windows(signal), found.view(signal))


def test_any_layout_is_read():
    signal = ramp(40)
    found = segment(40, step_samples=3)
    expected = found.windows(signal)
    wide = np.zeros((80, 6), np.float32)
    wide[::2, ::2] = signal
    read_only = signal.copy()
    read_only.setflags(write=False)
    for other in (np.asfortranarray(signal), wide[::2, ::2], read_only, signal.tolist()):
        np.testing.assert_array_equal(found.windows(other), expected)
        np.testing.assert_array_equal(found.view(other), expected)


def test_inputs_are_left_as_they_were():
    signal, labels = ramp(40), np.repeat([0, 1], 20)
    before = signal.copy(), labels.copy()
    segment(signal, targets={"a": labels}, min_valid=1.0).windows(signal)
    np.testing.assert_array_equal(signal, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_selected_windows_may_be_in_any_order():
    signal = ramp(60)
    found = segment(signal, step_samples=3)
    chosen = found.select([7, 2, 2, 15, 3])
    np.testing.assert_array_equal(chosen.windows(signal), found.windows(signal)[[7, 2, 2, 15, 3]])
    signal[7:9, 1] = np.nan
    np.testing.assert_array_equal(
        chosen.count_present(signal), found.count_present(signal)[[7, 2, 2, 15, 3]]
    )
    with pytest.raises(DataError, match=re.escape("`indices` must be in [0, 17), but is 17")):
        found.select([17])


def test_a_segmenter_is_a_value():
    one = Segmenter(window_seconds=2, sample_rate_hz=50, label="pure", min_purity=0.5)
    assert one == pickle.loads(pickle.dumps(one)) == copy.deepcopy(one)
    assert hash(one) == hash(copy.copy(one))
    assert one.sample_rate_hz == 50.0


def test_importing_and_making_a_segmenter_do_not_import_numba():
    probe = (
        "import sys; from smoothdistill.windows import Segmenter; Segmenter(window_samples=3); "
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_the_view_is_refused_where_there_is_none():
    signal = ramp(45)
    uneven = segment(signal, groups=np.repeat([1, 2], [25, 20]))
    sentence = "`starts` must lie at one distance above 0 for a view, but lie at [10, 15] instead"
    with pytest.raises(DataError, match=re.escape(sentence)):
        uneven.view(signal)
    padded = segment(signal, partial="pad")
    sentence = "`lengths` must be 10 throughout for a view, but is 5 at window 4 instead"
    with pytest.raises(DataError, match=re.escape(sentence)):
        padded.view(signal)


@pytest.mark.parametrize(
    ("starts", "lengths", "sentence"),
    [
        ([0, 35], [10, 10], "`stops` must be in [0, 40], but is 45 instead."),
        ([-1], [10], "`starts` must be in [0, 40], but is -1 instead."),
        ([0], [11], "`lengths` must be in [1, 10], but is 11 instead."),
        ([0], [0], "`lengths` must be in [1, 10], but is 0 instead."),
    ],
)
def test_windows_outside_the_recording_are_refused(starts, lengths, sentence):
    segments = Segments(np.array(starts), np.array(lengths), 10, 40, np.array([0, 40]))
    for read in (segments.windows, segments.count_present):
        with pytest.raises(DataError, match=re.escape(sentence)):
            read(ramp(40))


def test_a_recording_of_another_length_is_refused():
    sentence = "`signal` must have the 40 samples that were cut, but has 41 instead."
    for read in (segment(40).windows, segment(40).view, segment(40).count_present):
        with pytest.raises(DataError, match=re.escape(sentence)):
            read(ramp(41))


# --- One sentence for each kind of bad input -------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (
            {"window_samples": None},
            ValueError,
            "`window_samples` or `window_seconds` must be given, but both are None instead.",
        ),
        (
            {"window_seconds": 0.5},
            ValueError,
            "`window_seconds` must be left out where `window_samples` is given, but is 0.5",
        ),
        (
            {"step_samples": 5, "step_seconds": 0.5},
            ValueError,
            "`step_seconds` must be left out where `step_samples` is given, but is 0.5 instead.",
        ),
        ({"window_samples": 0}, ValueError, "`window_samples` must be at least 1, but is 0"),
        (
            {"window_samples": 1 << 62},
            ValueError,
            "`window_samples` must be at most 2305843009213693952, but is 4611686018427387904",
        ),
        ({"step_samples": 0}, ValueError, "`step_samples` must be at least 1, but is 0 instead."),
        ({"step_samples": 2.0}, TypeError, "`step_samples` must be an integer, but is float"),
        ({"origin": -1}, ValueError, "`origin` must be at least 0, but is -1 instead."),
        (
            {"step_seconds": 0.51},
            ValueError,
            "`step_seconds` must be a whole number of samples at 20.0 Hz, but is 0.51 (10.2 "
            "samples) instead.",
        ),
        (
            {"step_seconds": 1e-9},
            ValueError,
            "`step_seconds` must be a whole number of samples at 20.0 Hz, but is 1e-09 (2e-08 ",
        ),
        ({"step_seconds": 0.0}, ValueError, "`step_seconds` must be above 0, but is 0.0 instead."),
        ({"step_seconds": "1"}, TypeError, "`step_seconds` must be a number, but is str instead."),
        (
            {"step_seconds": 0.5, "sample_rate_hz": None},
            ValueError,
            "`sample_rate_hz` must be given where `step_seconds` is, but is None instead.",
        ),
        (
            {"sample_rate_hz": -1},
            DataError,
            "`sample_rate_hz` must be above 0 and finite, but is -1 instead.",
        ),
        (
            {"partial": "keep"},
            ValueError,
            "`partial` must be one of 'drop', 'pad', but is 'keep' instead.",
        ),
        (
            {"label": "first"},
            ValueError,
            "`label` must be one of 'pure', 'last', 'middle', 'majority', but is 'first' instead.",
        ),
        (
            {"backwards": "sort"},
            ValueError,
            "`backwards` must be one of 'border', 'raise', but is 'sort' instead.",
        ),
        ({"min_valid": 1.1}, ValueError, "`min_valid` must be in [0, 1], but is 1.1 instead."),
        (
            {"min_purity": float("nan"), "label": "pure"},
            ValueError,
            "`min_purity` must be in [0, 1], but is nan instead.",
        ),
        (
            {"min_purity": 0.5},
            ValueError,
            "`min_purity` must be left at 1 where `label` is 'majority' and not 'pure', but is 0.5",
        ),
        (
            {"max_gap_seconds": 0.0},
            ValueError,
            "`max_gap_seconds` must be above 0, but is 0.0 instead.",
        ),
    ],
)
def test_segmenter_refuses(options, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        Segmenter(**{"window_samples": 10, "sample_rate_hz": 20.0, **options})


def with_value(value, place=20, length=50):
    array = np.arange(length) * 0.05
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("inputs", "error", "sentence"),
    [
        (
            {"signal": ramp(50)[:, 0]},
            DataError,
            "`signal` must have the shape [time, channels] with at least 1 of each, but has the "
            "shape [50] instead.",
        ),
        ({"signal": 0}, ValueError, "`signal` must be at least 1, but is 0 instead."),
        ({"signal": True}, TypeError, "`signal` must be an array of real numbers, but is an array"),
        (
            {"signal": ramp(50).T},
            DataError,
            "`signal` must have the shape [time, channels], but has the shape [3, 50], too short "
            "for a window of 10, instead; transpose it if it is [channels, time].",
        ),
        (
            {"signal": 9},
            DataError,
            "`window_samples` must be at most 9 (the longest stretch without a border), but is 10 "
            "instead.",
        ),
        (
            {"signal": ramp(11), "origin": 2},
            DataError,
            "`window_samples` must be at most 9 (the longest stretch without a border behind an "
            "origin of 2), but is 10 instead.",
        ),
        (
            {"signal": 9, "window_samples": None, "window_seconds": 0.5},
            DataError,
            "(the longest stretch without a border), but is 10 (0.5 s) instead.",
        ),
        (
            {"groups": np.arange(50)},
            DataError,
            "`window_samples` must be at most 1 (the longest stretch",
        ),
        (
            {"signal": 9, "origin": 9, "partial": "pad"},
            DataError,
            "`origin` must be at most 8 (the longest stretch without a border has 9 samples), but "
            "is 9 instead.",
        ),
        (
            {"timestamps_seconds": np.zeros(49)},
            DataError,
            "`timestamps_seconds` must have one value for each of the 50 samples, but has 49",
        ),
        (
            {"groups": [1.0] * 50},
            TypeError,
            "`groups` must be an array of strings or integers, but is an array of float64 instead.",
        ),
        (
            {"groups": np.array(["a", None] * 25)},
            TypeError,
            "`groups` must be an array of strings or integers, but is an array of object instead.",
        ),
        (
            {"groups": np.zeros((50, 1), int)},
            DataError,
            "`groups` must have 1 dimension, but has the shape [50, 1] instead.",
        ),
        (
            {"groups": ["a"]},
            DataError,
            "`groups` must have one value for each of the 50 samples, but has 1 instead.",
        ),
        (
            {"targets": {"a": np.zeros(50)}},
            TypeError,
            "`targets['a']` must be an array of integers, but is an array of float64 instead.",
        ),
        (
            {"targets": {"a": np.zeros(51, int)}},
            DataError,
            "`targets['a']` must have one value for each of the 50 samples, but has 51 instead.",
        ),
    ],
)
def test_segment_refuses(inputs, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        segment(**{"signal": 50, **inputs})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 20, 49])
@pytest.mark.parametrize("gap", [0.25, np.inf])
def test_times_that_are_not_finite_are_refused(value, place, gap):
    sentence = f"`timestamps_seconds` must be finite float64 numbers, but is {value} at [{place}]"
    with pytest.raises(DataError, match=re.escape(sentence)):
        segment(50, timestamps_seconds=with_value(value, place), max_gap_seconds=gap)


@pytest.mark.parametrize("label", RULES)
def test_labels_below_zero_are_refused(label):
    sentence = "`targets['a']` must be at least 0 or -100 (unlabelled), but is -1 instead."
    for labels in (np.repeat([0, -1, -100], [7, 3, 40]), np.broadcast_to(np.int64(-1), 50)):
        with pytest.raises(DataError, match=re.escape(sentence)):
            segment(50, targets={"a": labels}, label=label)


def test_a_short_recording_may_give_no_window():
    found = segment(ramp(9), must_fit=False, targets={"a": np.zeros(9, int)}, groups=["s"] * 9)
    assert len(found) == 0
    assert found.windows(ramp(9)).shape == (0, 3, 10)
    assert found.groups.shape == (0,)
