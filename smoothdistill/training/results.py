"""From the test predictions of all folds to scores: per fold, per subject, and in summary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.training.bootstrap import subject_intervals
from smoothdistill.training.metrics import score_predictions
from smoothdistill.training.roles import ROLES, Role
from smoothdistill.training.tallies import METRICS, Tally, count_predictions, scores_of
from smoothdistill.windows import IGNORE_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from smoothdistill.splits import Fold
    from smoothdistill.training.fold_state import FoldState
    from smoothdistill.training.inference import TaskPredictions
    from smoothdistill.windows import Windows

__all__ = ["RunResults"]

_SIDES = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class RunResults:
    """Scores of a run whose folds are all finished.

    Attributes:
        windows: All windows.
        folds: The folds that were run.
        states: Their final states, in the same order.
        seed: Seed of the bootstrap.
    """

    windows: Windows
    folds: Sequence[Fold]
    states: Sequence[FoldState]
    seed: int

    def predictions_of(self, role: Role, task: str) -> Iterator[tuple[Fold, TaskPredictions]]:
        """Each fold with its test predictions, in the order of ``fold.test``."""
        for fold, state in zip(self.folds, self.states, strict=True):
            assert state.test is not None
            yield fold, state.test[role][task]

    def prediction_rows(self) -> Iterator[list[Any]]:
        """Rows of `predictions.csv.gz`: all test windows, unlabelled ones with target -100."""
        for task in self.windows.tasks:
            for role in ROLES:
                for fold, predicted in self.predictions_of(role, task):
                    columns = (
                        fold.test.tolist(),
                        self.windows.subjects[fold.test].tolist(),
                        self.windows.targets[task][fold.test].tolist(),
                        predicted.predictions.tolist(),
                        predicted.confidences.tolist(),
                    )
                    for window, subject, target, prediction, confidence in zip(
                        *columns, strict=True
                    ):
                        yield [
                            fold.index, window, subject, role, task,
                            target, prediction, f"{confidence:.6f}",
                        ]  # fmt: skip

    @cached_property
    def fold_scores(self) -> dict[tuple[str, Role], list[dict[str, float]]]:
        """Scores of each fold, by task and role."""
        return {
            (task, role): [
                score_predictions(
                    self.windows.targets[task][fold.test],
                    predicted.predictions,
                    predicted.confidences,
                )
                for fold, predicted in self.predictions_of(role, task)
            ]
            for task in self.windows.tasks
            for role in ROLES
        }

    def metric_rows(self) -> Iterator[list[Any]]:
        """Rows of `metrics.csv`."""
        for (task, role), by_fold in self.fold_scores.items():
            for fold, scores in zip(self.folds, by_fold, strict=True):
                for metric, value in scores.items():
                    yield [fold.index, role, task, metric, _cell(value)]

    @cached_property
    def _pairs(self) -> list[tuple[int, str]]:
        """Every (fold, subject) that was tested."""
        return [
            (place, subject)
            for place, fold in enumerate(self.folds)
            for subject in np.unique(self.windows.subjects[fold.test]).tolist()
        ]

    @cached_property
    def _tallies(self) -> dict[tuple[str, Role], Tally]:
        """Counts of each (fold, subject), by task and role."""
        pair_numbers = {pair: number for number, pair in enumerate(self._pairs)}
        tallies = {}
        for task, role in self.fold_scores:
            parts: list[list[np.ndarray]] = []
            for place, (fold, predicted) in enumerate(self.predictions_of(role, task)):
                targets = self.windows.targets[task][fold.test]
                names, numbers = np.unique(self.windows.subjects[fold.test], return_inverse=True)
                own = np.array([pair_numbers[place, name] for name in names.tolist()])
                is_labelled = targets != IGNORE_INDEX
                columns = (targets, *predicted, own[numbers])
                parts.append([column[is_labelled] for column in columns])
            joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
            targets, predictions, confidences, sets = joined
            tallies[task, role] = count_predictions(
                targets,
                predictions,
                confidences.astype(np.float64),
                sets,
                num_sets=len(self._pairs),
                num_classes=self.windows.num_classes[task],
            )
        return tallies

    def subject_rows(self) -> Iterator[list[Any]]:
        """Rows of `per_subject.csv`; a subject without a labelled window of a task has none."""
        for (task, role), tally in self._tallies.items():
            scores = scores_of(tally)
            num_windows = tally.confusion.sum(axis=(-2, -1)).astype(int)
            for number, (place, subject) in enumerate(self._pairs):
                if num_windows[number]:
                    values = [_cell(float(scores[metric][number])) for metric in METRICS]
                    yield [
                        self.folds[place].index, subject, role, task, num_windows[number], *values
                    ]  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Scores over folds, what was selected, and what the folds lack."""
        selected = [state.best.role for state in self.states]
        by_selection = {
            task: [self.fold_scores[task, role][place] for place, role in enumerate(selected)]
            for task in self.windows.tasks
        }
        return {
            "tasks": {
                task: {
                    role: _over_folds(self.fold_scores[task, role], self._interval(task, role))
                    for role in ROLES
                }
                for task in self.windows.tasks
            },
            "selected": selected,
            "selected_scores": {
                task: _over_folds(scores, self._selected_interval(task, selected))
                for task, scores in by_selection.items()
            },
            "folds": [
                {
                    "index": fold.index,
                    "selected": role,
                    "best_epochs": state.best.epochs,
                    "validation_macro_f1": state.best.scores,
                    "num_skipped_steps": state.num_skipped,
                }
                for fold, state, role in zip(self.folds, self.states, selected, strict=True)
            ],
            "missing_classes": self._missing_classes(),
        }

    def _interval(self, task: str, role: Role) -> dict[str, tuple[float, float]]:
        return self._bootstrap(self._tallies[task, role])

    def _selected_interval(
        self, task: str, selected: Sequence[Role]
    ) -> dict[str, tuple[float, float]]:
        is_student = np.array([selected[place] == "student" for place, _ in self._pairs])
        parts = (
            np.where(is_student.reshape(-1, 1, 1), student, teacher)
            for student, teacher in zip(
                self._tallies[task, "student"], self._tallies[task, "teacher"], strict=True
            )
        )
        return self._bootstrap(Tally(*parts))

    def _bootstrap(self, tally: Tally) -> dict[str, tuple[float, float]]:
        places, subjects = zip(*self._pairs, strict=True)
        _, numbers = np.unique(subjects, return_inverse=True)
        return subject_intervals(tally, np.array(places), numbers, seed=self.seed)

    def _missing_classes(self) -> list[dict[str, Any]]:
        found = []
        for fold in self.folds:
            for side in _SIDES:
                for task, labels in self.windows.targets.items():
                    names = self.windows.class_names[task]
                    present = np.unique(labels[getattr(fold, side)])
                    missing = [name for k, name in enumerate(names) if k not in present]
                    if missing:
                        place = {"fold": fold.index, "side": side, "task": task}
                        found.append({**place, "classes": missing})
        return found


def _over_folds(
    by_fold: Sequence[Mapping[str, float]], intervals: Mapping[str, tuple[float, float]]
) -> dict[str, dict[str, Any]]:
    """Mean, sample standard deviation and interval of each score; None where undefined."""
    found = {}
    for metric in METRICS:
        known = [scores[metric] for scores in by_fold if not math.isnan(scores[metric])]
        found[metric] = {
            "mean": float(np.mean(known)) if known else None,
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            "ci95": [None if math.isnan(end) else end for end in intervals[metric]],
        }
    return found


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
