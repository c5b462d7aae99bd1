"""One dot per test subject and role, with the mean and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smoothdistill.evaluation.plots.style import (
    INK,
    ROLE_COLOURS,
    legend_above,
    new_figure,
    shorten,
    tidy,
)
from smoothdistill.evaluation.tables import Score
from smoothdistill.training.roles import ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["subjects_figure"]


def subjects_figure(
    rows: Sequence[Mapping[str, str]],
    tasks: Sequence[str],
    intervals: Mapping[tuple[str, str], Score],
) -> Figure:
    """Macro-F1 of every test subject, student beside teacher, sorted by the teacher's.

    Args:
        rows: Rows of ``per_subject.csv``.
        tasks: Task names, one panel each.
        intervals: Macro-F1 over folds with its interval, by task and role.
    """
    values = {
        (task, role): _subject_means(rows, task, role, "macro_f1")
        for task in tasks
        for role in ROLES
    }
    num_subjects = max((len(scores) for scores in values.values()), default=1)
    figure = new_figure(min(12.0, max(6.5, 0.17 * num_subjects + 2.0)), 2.7 * len(tasks) + 0.3)
    panels = figure.subplots(len(tasks), 1, squeeze=False)
    for axes, task in zip(panels[:, 0], tasks, strict=True):
        teacher, student = values[task, "teacher"], values[task, "student"]
        ranked = teacher or student
        order = sorted(ranked, key=lambda subject: ranked[subject])
        for place, subject in enumerate(order):
            pair = [scores[subject] for scores in (student, teacher) if subject in scores]
            axes.plot([place] * len(pair), pair, color=INK, alpha=0.25, lw=1.2, zorder=1)
        for offset, (role, scores) in enumerate((("student", student), ("teacher", teacher))):
            if not scores:
                continue
            places = [place for place, subject in enumerate(order) if subject in scores]
            heights = [scores[order[place]] for place in places]
            axes.scatter(places, heights, s=20, color=ROLE_COLOURS[role], label=role, zorder=2)
            score = intervals.get((task, role), Score())
            if not math.isnan(score.mean + score.low + score.high):
                axes.errorbar(
                    [len(order) + 0.6 + 1.2 * offset],
                    [score.mean],
                    yerr=[[max(0.0, score.mean - score.low)], [max(0.0, score.high - score.mean)]],
                    fmt="D",
                    ms=5,
                    lw=1.8,
                    capsize=4,
                    color=ROLE_COLOURS[role],
                )
        axes.axvline(len(order) - 0.2, color=INK, alpha=0.3, lw=0.8)
        size = 9 if num_subjects <= 24 else 6.5
        axes.set_xticks(
            [*range(len(order)), len(order) + 1.2],
            [*(shorten(subject, 10) for subject in order), "mean"],
            rotation=90,
            fontsize=size,
        )
        axes.set_xlim(-0.8, len(order) + 2.8)
        axes.set_title(task)
        axes.set_ylabel("macro-F1")
        tidy(axes)
    legend_above(panels[0, 0])
    panels[-1, 0].set_xlabel("test subject, from worst to best of the teacher")
    return figure


def _subject_means(
    rows: Sequence[Mapping[str, str]], task: str, role: str, metric: str
) -> dict[str, float]:
    """Mean of a metric per subject; under `published` a subject is tested in several folds."""
    collected: dict[str, list[float]] = {}
    for row in rows:
        if row["task"] == task and row["role"] == role and row.get(metric):
            value = float(row[metric])
            if math.isfinite(value):
                collected.setdefault(row["subject"], []).append(value)
    return {subject: sum(values) / len(values) for subject, values in collected.items()}
