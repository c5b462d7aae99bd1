from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdistill.errors import DataError, SplitLeakError
from smoothdistill.splits import Fold, check_fold, make_folds, share_of_overlapping_windows
from smoothdistill.windows import Windows

SIDES = ("train", "validation", "test")


def make_windows(subjects, **options):
    subjects = np.asarray(subjects)
    return Windows(
        np.zeros((len(subjects), 1, 10), np.float32),
        targets={"activity": np.arange(len(subjects)) % 2},
        subjects=subjects,
        sample_rate_hz=50.0,
        **options,
    )


def twenty_subjects(windows_each=7):
    return make_windows(np.repeat([f"s{number:02d}" for number in range(20)], windows_each))


def subjects_of(windows, numbers):
    return set(windows.subjects[numbers].tolist())


@given(
    counts=st.lists(st.integers(1, 6), min_size=4, max_size=12),
    num_folds=st.integers(2, 6),
    validation_fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_each_subject_is_tested_once_and_stands_on_one_side(
    counts, num_folds, validation_fraction, seed
):
    num_folds = min(num_folds, len(counts))
    subjects = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    windows = make_windows(subjects)
    folds = make_folds(
        windows, num_folds=num_folds, validation_fraction=validation_fraction, seed=seed
    )
    assert [fold.index for fold in folds] == list(range(num_folds))
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(len(windows)))
    for fold in folds:
        together = np.concatenate([getattr(fold, side) for side in SIDES])
        assert sorted(together.tolist()) == list(range(len(windows)))
        sides = [subjects_of(windows, getattr(fold, side)) for side in SIDES]
        assert sum(map(len, sides)) == len(counts)
        assert all(sides)
        for side in SIDES:
            numbers = getattr(fold, side)
            assert numbers.dtype == np.int64
            assert (np.diff(numbers) > 0).all()


def test_validation_takes_the_fraction_of_the_training_side():
    for fraction, expected in ((0.15, 2), (0.01, 1), (0.5, 8), (0.99, 15)):
        folds = make_folds(twenty_subjects(), validation_fraction=fraction)
        for fold in folds:
            assert len(subjects_of(twenty_subjects(), fold.validation)) == expected


def test_same_seed_same_folds_other_seed_other_folds():
    windows = twenty_subjects()
    first, again, other = (make_folds(windows, seed=seed) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        for side in SIDES:
            np.testing.assert_array_equal(getattr(one, side), getattr(two, side))
    tests = [[fold.test.tolist() for fold in folds] for folds in (first, other)]
    assert tests[0] != tests[1]


def test_folds_go_by_the_subjects_names_not_by_the_order_of_windows():
    subjects = np.repeat([f"s{number}" for number in range(9)], 3)
    shuffled = np.random.default_rng(1).permutation(subjects)
    for one, two in zip(
        make_folds(make_windows(subjects)), make_folds(make_windows(shuffled)), strict=True
    ):
        for side in SIDES:
            left = subjects_of(make_windows(subjects), getattr(one, side))
            assert left == subjects_of(make_windows(shuffled), getattr(two, side))


def test_leave_one_subject_out_tests_each_subject_alone():
    windows = twenty_subjects()
    folds = make_folds(windows, protocol="leave-one-subject-out")
    assert [subjects_of(windows, fold.test) for fold in folds] == [
        {f"s{number:02d}"} for number in range(20)
    ]
    assert all(len(subjects_of(windows, fold.validation)) == 3 for fold in folds)


def test_official_tests_the_subjects_that_are_given():
    windows = twenty_subjects()
    chosen = tuple(np.unique(windows.subjects)[[3, 5, 11]])
    (fold,) = make_folds(windows, protocol="official", test_subjects=chosen, num_folds=7)
    assert fold.index == 0
    assert subjects_of(windows, fold.test) == set(chosen)
    assert len(subjects_of(windows, fold.validation)) == round(0.15 * 17)
    assert sum(len(side) for side in (fold.train, fold.validation, fold.test)) == len(windows)


def test_official_needs_subjects_that_are_there():
    windows = twenty_subjects()
    with pytest.raises(ValueError, match="`test_subjects` must be given for the protocol 'offici"):
        make_folds(windows, protocol="official")
    names = tuple(np.unique(windows.subjects))
    with pytest.raises(
        DataError, match=r"`windows` must hold the subjects .* lacks nobody instead"
    ):
        make_folds(windows, protocol="official", test_subjects=(names[0], "nobody"))
    with pytest.raises(DataError, match=r"at least 21 subjects \(to train, to validate, and 19 to"):
        make_folds(windows, protocol="official", test_subjects=names[:19])


def test_published_keeps_one_test_side_of_a_fifth_and_folds_the_rest():
    windows = twenty_subjects(windows_each=10)
    folds = make_folds(windows, protocol="published")
    assert len(folds) == 5
    validated = np.concatenate([fold.validation for fold in folds])
    for fold in folds:
        np.testing.assert_array_equal(fold.test, folds[0].test)
        assert (len(fold.train), len(fold.validation), len(fold.test)) == (128, 32, 40)
        assert subjects_of(windows, fold.train) & subjects_of(windows, fold.test), "it leaks"
    everything = np.concatenate([validated, folds[0].test])
    assert sorted(everything.tolist()) == list(range(len(windows)))


def one_line(starts, recordings=None, subjects=None):
    """Windows of 10 samples at the given starts, by default of one recording each subject."""
    recordings = np.zeros(len(starts), int) if recordings is None else np.asarray(recordings)
    subjects = [f"s{number}" for number in range(len(starts))] if subjects is None else subjects
    return make_windows(subjects, recordings=recordings, starts=np.asarray(starts))


def fold_of(train, validation, test):
    return Fold(2, np.array(train), np.array(validation), np.array(test))


@pytest.mark.parametrize("protocol", ["subject", "leave-one-subject-out"])
def test_a_subject_on_two_sides_is_refused(protocol):
    windows = make_windows(["a", "b", "c", "a"])
    sentence = "`fold` must have no subject on two sides, but fold 2 has subject 'a' in `train`"
    with pytest.raises(SplitLeakError, match=re.escape(sentence)):
        check_fold(windows, fold_of([0], [1], [2, 3]), protocol)
    check_fold(windows, fold_of([0], [1], [2, 3]), "published")


@pytest.mark.parametrize("protocol", ["subject", "leave-one-subject-out", "published"])
def test_a_window_on_two_sides_is_refused(protocol):
    windows = make_windows(["a", "b", "c"])
    sentence = "no window on two sides, but fold 2 has window 1 in `validation` and in `test`"
    with pytest.raises(SplitLeakError, match=re.escape(sentence)):
        check_fold(windows, fold_of([0], [1], [2, 1]), protocol)


def test_a_sample_on_two_sides_is_refused():
    # One recording under several names of subjects: the names say nothing leaks, the samples do.
    windows = one_line([0, 10, 19])
    sentence = (
        "`fold` must have no sample on two sides, but fold 2 has sample 19 of recording 0 in "
        "`train` and in `test` instead."
    )
    with pytest.raises(SplitLeakError, match=re.escape(sentence)):
        check_fold(windows, fold_of([1], [0], [2]))
    check_fold(one_line([0, 10, 20]), fold_of([1], [0], [2]))
    check_fold(one_line([0, 10, 10], recordings=[0, 1, 2]), fold_of([1], [0], [2]))


@given(
    starts=st.lists(st.integers(0, 120), min_size=3, max_size=12),
    recordings=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    sides=st.lists(st.integers(0, 2), min_size=12, max_size=12),
)
@settings(max_examples=200)
def test_overlap_is_found_exactly_where_it_is(starts, recordings, sides):
    count = len(starts)
    recordings = recordings[:count]
    sides = np.array([0, 1, 2, *sides[3:count]])
    windows = one_line(starts, recordings)
    fold = fold_of(*(np.flatnonzero(sides == side) for side in range(3)))
    shared = np.array(
        [
            [
                recordings[i] == recordings[j] and abs(starts[i] - starts[j]) < 10
                for j in range(count)
            ]
            for i in range(count)
        ]
    )
    if (shared & (sides[:, None] != sides[None])).any():
        with pytest.raises(SplitLeakError, match="no sample on two sides"):
            check_fold(windows, fold)
    else:
        check_fold(windows, fold)
    expected = shared[np.ix_(sides == 2, sides == 0)].any(axis=1).mean()
    assert share_of_overlapping_windows(windows, fold) == pytest.approx(expected)


def test_the_share_of_overlapping_windows_is_unknown_without_starts():
    assert share_of_overlapping_windows(make_windows(list("abc")), fold_of([0], [1], [2])) is None


@pytest.mark.parametrize(
    ("fold", "sentence"),
    [
        (
            fold_of([0], [], [2]),
            "fold 2, side `validation`: `indices` must select at least 1 window",
        ),
        (
            fold_of([0], [1], [3]),
            "fold 2, side `test`: `indices` must be in [0, 3), but is 3 instead.",
        ),
    ],
)
def test_check_fold_refuses_sides_that_are_none(fold, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        check_fold(make_windows(["a", "b", "c"]), fold)


@pytest.mark.parametrize(
    ("subjects", "options", "sentence"),
    [
        (
            ["a"] * 9,
            {},
            "`windows` must hold at least 3 subjects (to train, to validate, to test), but holds "
            "only 'a' instead.",
        ),
        (
            ["a", "b", "c"],
            {},
            "`num_folds` must be at most 3, the number of subjects, but is 5 instead.",
        ),
        (
            ["a", "b", "c"],
            {"num_folds": 2},
            "`windows` must hold at least 4 subjects (to train, to validate, and 2 to test), but "
            "holds 3 instead.",
        ),
        (
            ["a", "b"],
            {"protocol": "leave-one-subject-out"},
            "`windows` must hold at least 3 subjects (to train, to validate, and 1 to test), but "
            "holds 2 instead.",
        ),
        (
            ["a"] * 9,
            {"protocol": "published"},
            "`windows` must hold at least 10 windows for 5 folds, but holds 9 instead.",
        ),
    ],
)
def test_too_few_to_split_is_one_sentence(subjects, options, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        make_folds(make_windows(subjects), **options)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"num_folds": 1}, ValueError, "`num_folds` must be at least 2, but is 1 instead."),
        ({"num_folds": 2.5}, TypeError, "`num_folds` must be an integer, but is float instead."),
        (
            {"protocol": "random"},
            ValueError,
            "`protocol` must be one of 'subject', 'leave-one-subject-out', 'official', "
            "'published', but is 'random' instead.",
        ),
        (
            {"validation_fraction": 1.0},
            ValueError,
            "`validation_fraction` must be in (0, 1), but is 1.0 instead.",
        ),
        ({"seed": -1}, ValueError, "`seed` must be in [0, 4294967296), but is -1 instead."),
        ({"seed": 0.0}, TypeError, "`seed` must be an integer, but is float instead."),
    ],
)
def test_make_folds_refuses(options, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        make_folds(twenty_subjects(), **options)


def test_check_fold_refuses_an_unknown_protocol():
    with pytest.raises(ValueError, match="`protocol` must be one of 'subject'"):
        check_fold(twenty_subjects(), fold_of([0], [7], [14]), "random")
