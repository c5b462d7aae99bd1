"""The tables of a run, as text: results, folds, subjects, and the classes that folds lack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smoothdistill.evaluation.run_record import RunRecord
from smoothdistill.training.roles import ROLES

__all__ = [
    "METRICS",
    "Metric",
    "Score",
    "Table",
    "fold_table",
    "format_value",
    "lacking_classes",
    "result_table",
    "score_of",
    "subject_table",
]


@dataclass(frozen=True)
class Metric:
    """A column of the result tables.

    Attributes:
        key: Name in ``summary.json``.
        label: Heading.
        meaning: One sentence for a reader who does not know it.
    """

    key: str
    label: str
    meaning: str


METRICS = (
    Metric("macro_f1", "macro-F1", "Mean of the classes' F1; every class counts the same."),
    Metric("accuracy", "accuracy", "Share of windows that are right; large classes dominate."),
    Metric("balanced_accuracy", "balanced acc.", "Mean of the classes' recall."),
    Metric("cohen_kappa", "Cohen's κ", "Agreement beyond chance; 0 is chance, 1 is perfect."),
    Metric("mcc", "MCC", "Correlation of prediction and annotation; 0 is chance, 1 is perfect."),
    Metric("ece", "ECE", "Expected calibration error: gap of confidence and accuracy; 0 is best."),
    Metric("largest_class_share", "largest class", "Accuracy of always naming the largest class."),
)


@dataclass(frozen=True)
class Score:
    """A metric over the folds, and its 95 % interval over subjects; NaN where unknown."""

    mean: float = math.nan
    std: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def spread(self) -> str:
        """For example ``0.575 ± 0.021``."""
        if math.isnan(self.std):
            return format_value(self.mean)
        return f"{format_value(self.mean)} ± {format_value(self.std)}"

    @property
    def interval(self) -> str:
        """For example ``[0.551, 0.598]``; empty when unknown."""
        if math.isnan(self.low) or math.isnan(self.high):
            return ""
        return f"[{format_value(self.low)}, {format_value(self.high)}]"


@dataclass(frozen=True)
class Table:
    """A table of text: headings, and rows as long as them."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def format_value(value: float | None, digits: int = 3) -> str:
    """A score as text; a dash when it does not exist."""
    if value is None or not math.isfinite(value):
        return "—"
    return f"{value:.{digits}f}"


def score_of(summary: Mapping[str, Any], task: str, role: str, metric: str) -> Score:
    """One score of a run's summary; all NaN when the summary lacks it.

    Args:
        summary: Contents of ``summary.json``.
        task: A task of the run.
        role: ``"student"``, ``"teacher"``, or ``"selected"``: in each fold the one that validation
            chose.
        metric: Key of a `Metric`.
    """
    if role == "selected":
        scores = summary.get("selected_scores", {}).get(task, {})
    else:
        scores = summary.get("tasks", {}).get(task, {}).get(role, {})
    entry = scores.get(metric)
    if not isinstance(entry, Mapping):
        return Score()
    low, high = entry.get("ci95") or (None, None)
    return Score(*(_float(value) for value in (entry.get("mean"), entry.get("std"), low, high)))


def result_table(summary: Mapping[str, Any]) -> Table:
    """Task x role against every metric: mean ± standard deviation over folds."""
    rows = []
    for task, roles in summary.get("tasks", {}).items():
        for role in ROLES:
            if role in roles:
                scores = [score_of(summary, task, role, metric.key) for metric in METRICS]
                rows.append((task, role, *(score.spread for score in scores)))
    return Table(("task", "role", *(metric.label for metric in METRICS)), tuple(rows))


def fold_table(record: RunRecord) -> Table:
    """One row per fold, task and role, from ``metrics.csv``."""
    values = {
        (row["fold"], row["task"], row["role"], row["metric"]): _float(row["value"])
        for row in record.metric_rows
    }
    keys = dict.fromkeys((fold, task, role) for fold, task, role, _ in values)
    order = sorted(keys, key=lambda key: (int(key[0]), list(record.tasks).index(key[1]), key[2]))
    rows = [
        (*key, *(format_value(values.get((*key, metric.key))) for metric in METRICS))
        for key in order
    ]
    return Table(("fold", "task", "role", *(metric.label for metric in METRICS)), tuple(rows))


def subject_table(record: RunRecord) -> Table:
    """One row per test subject: macro-F1 and accuracy of both roles for each task."""
    columns = [
        (task, role, metric)
        for task in record.tasks
        for metric in ("macro_f1", "accuracy")
        for role in ROLES
    ]
    labels = {metric.key: metric.label for metric in METRICS}
    values: dict[tuple[str, str], dict[tuple[str, str, str], str]] = {}
    counts: dict[tuple[str, str], int] = {}
    for row in record.subject_rows:
        key = (row["subject"], row["fold"])
        counts[key] = max(counts.get(key, 0), int(float(row["num_windows"])))
        for metric in ("macro_f1", "accuracy"):
            cell = format_value(_float(row.get(metric)))
            values.setdefault(key, {})[row["task"], row["role"], metric] = cell
    rows = [
        (*key, str(counts[key]), *(values[key].get(column, "—") for column in columns))
        for key in sorted(values, key=lambda key: (_natural(key[0]), key[1]))
    ]
    headings = [f"{task} {labels[metric]}, {role}" for task, role, metric in columns]
    return Table(("subject", "fold", "windows", *headings), tuple(rows))


def lacking_classes(record: RunRecord) -> list[tuple[int, str, str, tuple[str, ...]]]:
    """Classes without a single window on one side of a fold.

    Returns:
        (fold, side, task, class names) for each side, the test side first, that lacks any.
    """
    noted = record.summary.get("missing_classes")
    if isinstance(noted, list):
        entries = [
            (int(entry["fold"]), entry["side"], entry["task"], tuple(entry["classes"]))
            for entry in noted
        ]
        sides = ("test", "validation", "train")
        return sorted(entries, key=lambda entry: (sides.index(entry[1]), entry[0], entry[2]))
    lacking = []
    for task in record.tasks:
        rows = record.predictions.get((task, "teacher"))
        names = record.class_names[task]
        for fold in record.folds if rows is not None else ():
            assert rows is not None
            present = np.unique(rows.targets[rows.folds == fold])
            missing = tuple(names[k] for k in range(len(names)) if k not in present)
            if missing:
                lacking.append((fold, "test", task, missing))
    return lacking


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _natural(subject: str) -> tuple[int, str]:
    return (int(subject), "") if subject.isdecimal() else (1 << 62, subject)
