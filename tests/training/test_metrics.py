from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from smoothdistill.training.bootstrap import subject_intervals
from smoothdistill.training.metrics import macro_f1, score_predictions
from smoothdistill.training.tallies import METRICS, Tally, count_predictions, scores_of

NUM_CLASSES = 5


def _random(seed, count=200, num_classes=NUM_CLASSES):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, num_classes, count)
    predictions = np.where(rng.random(count) < 0.6, targets, rng.integers(0, num_classes, count))
    return targets, predictions, rng.random(count)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0.0, 1.0)), min_size=1)
)
def test_scores_of_tallies_are_those_of_scikit_learn(pairs):
    targets, predictions, confidences = (np.array(column) for column in zip(*pairs, strict=True))
    sets = np.zeros(len(targets), dtype=np.int64)
    tally = count_predictions(
        targets, predictions, confidences, sets, num_sets=1, num_classes=NUM_CLASSES
    )
    fast = scores_of(tally)
    slow = score_predictions(targets, predictions, confidences)
    assert tuple(fast) == tuple(slow) == METRICS
    assert macro_f1(targets, predictions) == pytest.approx(slow["macro_f1"], abs=1e-12)
    for name in METRICS:
        # Sums of at most 100 float64 terms in another order; square roots in mcc.
        np.testing.assert_allclose(fast[name][0], slow[name], atol=1e-12, err_msg=name)


def test_balanced_accuracy_and_macro_f1_are_scikit_learns_own():
    targets, predictions, confidences = _random(0)
    scores = score_predictions(targets, predictions, confidences)
    assert scores["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(targets, predictions)
    )
    assert scores["macro_f1"] == sk.f1_score(targets, predictions, average="macro")


def test_a_class_that_is_only_predicted_counts_as_zero():
    targets, predictions = np.array([0, 0, 1]), np.array([0, 2, 1])
    assert macro_f1(targets, predictions) == pytest.approx((2 / 3 + 1.0 + 0.0) / 3)


def test_calibration_error_by_hand():
    targets, predictions = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 0])
    confidences = np.array([0.95, 0.95, 0.95, 0.55])
    expected = abs(3 * 0.95 - 2) / 4 + abs(0.55 - 1) / 4
    assert score_predictions(targets, predictions, confidences)["ece"] == pytest.approx(expected)


def test_unlabelled_windows_are_left_out():
    targets, predictions, confidences = _random(1)
    padded = np.concatenate([targets, np.full(9, -100)])
    more = np.concatenate([predictions, np.zeros(9, dtype=np.int64)])
    scores = score_predictions(padded, more, np.concatenate([confidences, np.ones(9)]))
    assert scores == score_predictions(targets, predictions, confidences)
    nothing = score_predictions(padded[-9:], more[-9:], np.ones(9))
    assert all(math.isnan(value) for value in nothing.values())
    assert math.isnan(macro_f1(padded[-9:], more[-9:]))


def test_one_class_only():
    ones = np.ones(5, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score_predictions(ones, ones, np.ones(5))
    assert math.isnan(scores["cohen_kappa"])
    assert scores["mcc"] == 0.0
    assert scores["macro_f1"] == scores["largest_class_share"] == 1.0


def _subject_tally(seed, num_sets=12, per_set=40):
    targets, predictions, confidences = _random(seed, num_sets * per_set)
    sets = np.repeat(np.arange(num_sets), per_set)
    tally = count_predictions(
        targets, predictions, confidences, sets, num_sets=num_sets, num_classes=NUM_CLASSES
    )
    return tally, (targets, predictions, confidences, sets)


def test_intervals_are_those_of_a_plain_loop():
    tally, (targets, predictions, confidences, sets) = _subject_tally(2)
    folds = np.arange(12) // 4
    fast = subject_intervals(tally, folds, np.arange(12), seed=3, num_draws=40)
    draws = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), 40)
    means = []
    for counts in draws:
        total = weight = 0.0
        for fold in range(3):
            drawn = [s for s in np.flatnonzero(folds == fold) for _ in range(counts[s])]
            if drawn:
                rows = np.concatenate([np.flatnonzero(sets == s) for s in drawn])
                score = score_predictions(targets[rows], predictions[rows], confidences[rows])
                share = len(drawn) / 4
                total, weight = total + share * score["macro_f1"], weight + share
        means.append(total / weight)
    np.testing.assert_allclose(fast["macro_f1"], np.quantile(means, (0.025, 0.975)), rtol=1e-12)


def test_intervals_hold_the_mean_and_repeat():
    tally, _ = _subject_tally(4)
    folds, subjects = np.arange(12) // 4, np.arange(12)
    intervals = subject_intervals(tally, folds, subjects, seed=0)
    by_fold = [scores_of(Tally(*(part[folds == f].sum(0) for part in tally))) for f in range(3)]
    for name in ("accuracy", "macro_f1", "cohen_kappa", "mcc", "balanced_accuracy"):
        low, high = intervals[name]
        assert low < np.mean([scores[name] for scores in by_fold]) < high
    assert intervals == subject_intervals(tally, folds, subjects, seed=0)
    assert intervals != subject_intervals(tally, folds, subjects, seed=1)


def test_intervals_with_one_subject_per_fold_are_those_of_a_mean():
    tally, _ = _subject_tally(5)
    scores = scores_of(tally)["accuracy"]
    low, high = subject_intervals(tally, np.arange(12), np.arange(12), seed=0)["accuracy"]
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 2000)
    np.testing.assert_allclose((low, high), np.quantile(draws @ scores / 12, (0.025, 0.975)))


def test_one_subject_has_no_interval():
    tally, _ = _subject_tally(6, num_sets=1)
    intervals = subject_intervals(tally, np.zeros(1), np.zeros(1), seed=0)
    assert all(math.isnan(end) for ends in intervals.values() for end in ends)
