"""Bootstrap, paired differences, Holm: against scipy, scikit-learn and slow direct sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from smoothdistill.evaluation.comparison.bootstrap import SubjectBootstrap, draw_subjects, interval
from smoothdistill.evaluation.comparison.convergence import (
    accuracy_gap,
    epoch_deviation,
    seconds_per_epoch,
    seconds_per_step,
)
from smoothdistill.evaluation.comparison.differences import (
    fold_scores,
    holm,
    paired_cells,
    per_subject_difference,
    pooled_difference,
    subject_scores,
    wilcoxon_p,
)
from smoothdistill.evaluation.comparison.records import CellRecord
from smoothdistill.training.bootstrap import subject_intervals
from smoothdistill.training.tallies import METRICS, Tally, count_predictions

NUM_CLASSES = 3
PEOPLE = ("a", "b", "c", "d", "e", "f", "g")
FOLDS = (PEOPLE[:4], PEOPLE[4:])
ROLES = ("student", "teacher")


def _cell(seed, fold, *, skill=0.6, people=None, selected="teacher", truth="same"):
    """A cell of random predictions, and its windows as (person, target, prediction) by role."""
    people = people or FOLDS[fold]
    windows = np.random.default_rng([7, fold]).integers(0, NUM_CLASSES, size=(len(people), 20))
    generator = np.random.default_rng([seed, fold, int(100 * skill)])
    tallies, rows = {}, {}
    for role in ROLES:
        targets = windows.ravel()
        is_right = generator.random(len(targets)) < skill
        guess = generator.integers(0, NUM_CLASSES, len(targets))
        predictions = np.where(is_right, targets, guess)
        sets = np.repeat(np.arange(len(people)), 20)
        confidences = generator.random(len(targets))
        tallies["task", role] = count_predictions(
            targets, predictions, confidences, sets, num_sets=len(people), num_classes=NUM_CLASSES
        )
        rows[role] = (np.array(people)[sets], targets, predictions)
    cell = CellRecord(
        seed=seed, fold=fold, selected=selected, subjects=tuple(people), tallies=tallies,
        crossings={}, truth={"task": truth}, history={}, steps_per_epoch=math.nan,
        num_parameters=None, data={}, environment={}, class_names={"task": ("x", "y", "z")},
    )  # fmt: skip
    return cell, rows


def _cells(skill, seeds=(0, 1), **options):
    pairs = [_cell(seed, fold, skill=skill, **options) for seed in seeds for fold in (0, 1)]
    return [cell for cell, _ in pairs], [rows for _, rows in pairs]


def _slow_mean(all_rows, role, drawn):
    """Mean macro-F1 over cells of one draw: windows are repeated as often as their person."""
    total = weight = 0.0
    for rows in all_rows:
        people, targets, predictions = rows[role]
        times = np.array([drawn[person] for person in people])
        share = np.mean([drawn[person] for person in dict.fromkeys(people)])
        if share:
            score = f1_score(
                np.repeat(targets, times), np.repeat(predictions, times), average="macro"
            )
            total, weight = total + share * score, weight + share
    return total / weight


def test_means_of_draws_are_those_of_repeated_windows():
    cells, rows = _cells(0.6)
    bootstrap = SubjectBootstrap(3, num_draws=25)
    means = bootstrap.means(cells, "task", "teacher")["macro_f1"]
    for number, counts in enumerate(draw_subjects(len(PEOPLE), seed=3, num_draws=25)):
        drawn = dict(zip(PEOPLE, counts.astype(int), strict=True))
        assert means[number] == pytest.approx(_slow_mean(rows, "teacher", drawn), abs=1e-12)


def test_intervals_are_those_of_a_run():
    cells, _ = _cells(0.6)
    means = SubjectBootstrap(5).means(cells, "task", "student")
    parts = [cell.tallies["task", "student"] for cell in cells]
    tally = Tally(*(np.concatenate(counts) for counts in zip(*parts, strict=True)))
    places = np.repeat(np.arange(len(cells)), [len(cell.subjects) for cell in cells])
    people = np.array([PEOPLE.index(name) for cell in cells for name in cell.subjects])
    expected = subject_intervals(tally, places, people, seed=5)
    for metric in METRICS:
        assert interval(means[metric]) == pytest.approx(expected[metric], abs=1e-12)


def test_one_person_in_a_fold_and_one_person_at_all():
    alone = [_cell(0, fold, people=(name,))[0] for fold, name in enumerate("xyz")]
    bootstrap = SubjectBootstrap(0, num_draws=50)
    means = bootstrap.means(alone, "task", "student")["accuracy"]
    scores = np.array(fold_scores(alone, "task", "student")["accuracy"])
    assert means == pytest.approx(draw_subjects(3, seed=0, num_draws=50) @ scores / 3)
    assert bootstrap.means(alone[:1], "task", "student") is None


def test_selected_is_in_each_cell_what_validation_chose():
    cells = [_cell(0, 0, selected="student")[0], _cell(0, 1, selected="teacher")[0]]
    scores = {role: fold_scores(cells, "task", role)["mcc"] for role in (*ROLES, "selected")}
    assert scores["selected"] == [scores["student"][0], scores["teacher"][1]]
    assert scores["student"] != scores["teacher"]


def test_pooled_differences_draw_the_same_people_for_both():
    (mine, my_rows), (base, base_rows) = _cells(0.8), _cells(0.5)
    pairs = paired_cells(mine, base[::-1], "task", ("teacher", "student"))
    assert pairs == (mine, base)
    bootstrap = SubjectBootstrap(1, num_draws=40)
    found = pooled_difference(*pairs, "task", ("teacher", "student"), "macro_f1", bootstrap)
    slow = []
    for counts in draw_subjects(len(PEOPLE), seed=1, num_draws=40):
        drawn = dict(zip(PEOPLE, counts.astype(int), strict=True))
        slow.append(_slow_mean(my_rows, "teacher", drawn) - _slow_mean(base_rows, "student", drawn))
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, (0.025, 0.975)), abs=1e-12)
    direct = [
        f1_score(*rows["teacher"][1:], average="macro")
        - f1_score(*others["student"][1:], average="macro")
        for rows, others in zip(my_rows, base_rows, strict=True)
    ]
    assert found.value == pytest.approx(np.mean(direct), abs=1e-12)
    assert found.num_subjects == len(PEOPLE)


def test_a_method_against_itself_differs_by_nothing():
    cells, _ = _cells(0.6)
    roles = ("teacher", "teacher")
    found = pooled_difference(cells, cells, "task", roles, "macro_f1", SubjectBootstrap(0))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    scores = subject_scores(cells, "task", "teacher", "macro_f1")
    of_people = per_subject_difference(scores, scores, SubjectBootstrap(0))
    assert (of_people.value, of_people.low, of_people.high, of_people.p_value) == (0, 0, 0, 1.0)


def test_differences_of_people_are_means_over_seeds():
    (mine, my_rows), (base, base_rows) = _cells(0.8), _cells(0.5)
    scores = [subject_scores(cells, "task", "student", "macro_f1") for cells in (mine, base)]
    bootstrap = SubjectBootstrap(2)
    found = per_subject_difference(*scores, bootstrap)
    slow = {}
    for person in PEOPLE:
        sides = []
        for all_rows in (my_rows, base_rows):
            values = []
            for rows in all_rows:
                people, targets, predictions = rows["student"]
                if person in people:
                    own = people == person
                    values.append(f1_score(targets[own], predictions[own], average="macro"))
            assert len(values) == 2
            sides.append(np.mean(values))
        slow[person] = sides[0] - sides[1]
    assert found.by_subject == pytest.approx(slow, abs=1e-12)
    values = np.array(list(slow.values()))
    assert found.value == pytest.approx(values.mean())
    means = draw_subjects(len(values), seed=2) @ values / len(values)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, (0.025, 0.975)))
    assert found.p_value == pytest.approx(stats.wilcoxon(values).pvalue)


def test_people_of_one_side_only_are_left_out():
    found = per_subject_difference({"a": 0.5, "b": 0.7}, {"b": 0.6, "c": 0.1}, SubjectBootstrap(0))
    assert found.value == pytest.approx(0.1)
    assert found.num_subjects == 1
    assert math.isnan(found.low)
    nobody = per_subject_difference({}, {"a": 1.0}, SubjectBootstrap(0))
    assert math.isnan(nobody.value)


def test_cells_are_paired_by_seed_fold_and_test_windows():
    mine, base = _cells(0.8)[0], _cells(0.5)[0]
    roles = ("selected", "selected")
    assert len(paired_cells(mine[:3], base, "task", roles)[0]) == 3
    other = _cells(0.5, truth="other")[0]
    assert paired_cells(mine, other, "task", roles) == ([], [])
    assert paired_cells(mine, _cells(0.5, seeds=(5,))[0], "task", roles) == ([], [])


def test_wilcoxon_without_a_difference_is_one():
    assert wilcoxon_p(np.zeros(5)) == 1.0
    values = np.array([0.1, -0.2, 0.3, 0.0, 0.25, 0.4])
    assert wilcoxon_p(values) == pytest.approx(stats.wilcoxon(values).pvalue)


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    with_gap = holm([0.01, math.nan, 0.03])
    assert with_gap[0] == pytest.approx(0.02)
    assert math.isnan(with_gap[1])
    assert holm([]) == []


def test_holm_never_reorders_and_never_lowers():
    values = np.random.default_rng(0).random(30).tolist()
    corrected = holm(values)
    assert all(after >= before for before, after in zip(values, corrected, strict=True))
    assert np.argsort(values).tolist() == sorted(
        range(30), key=lambda place: (corrected[place], values[place])
    )


def test_convergence_reads_the_last_half_and_the_last_epoch():
    cell = _cell(0, 0)[0]
    history = {
        "validation_student_task_macro_f1": np.array([0.0, 0.9, 0.5, 0.6, 0.7]),
        "validation_student_task_accuracy": np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
        "train_task_accuracy": np.array([0.1, 0.3, 0.5, 0.7, 0.9]),
        "seconds": np.array([9.0, 2.0, 2.0, 4.0, 2.0]),
    }
    object.__setattr__(cell, "history", history)
    object.__setattr__(cell, "steps_per_epoch", 10.0)
    assert epoch_deviation([cell], "task", "student") == pytest.approx(
        np.std([0.5, 0.6, 0.7], ddof=1)
    )
    assert accuracy_gap([cell], "task", "student") == pytest.approx(0.4)
    assert math.isnan(accuracy_gap([cell], "task", "teacher"))
    assert math.isnan(epoch_deviation([cell], "task", "teacher"))
    assert seconds_per_epoch([cell]) == 2.0
    assert seconds_per_step([cell]) == pytest.approx(0.2)
    assert math.isnan(seconds_per_epoch([]))
