"""All figures of a run: drawn, written as PNG files, and returned as SVG for the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING

from smoothdistill.evaluation.plots.curves import curves_figure
from smoothdistill.evaluation.plots.heat_map import (
    confusion_counts,
    confusion_figure,
    cross_task_counts,
    cross_task_figure,
)
from smoothdistill.evaluation.plots.reliability import reliability_figure
from smoothdistill.evaluation.plots.style import figure_style, save_png, svg_text
from smoothdistill.evaluation.plots.subjects import subjects_figure
from smoothdistill.evaluation.run_record import RunRecord
from smoothdistill.evaluation.tables import Score, score_of
from smoothdistill.training.roles import ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DrawnFigure", "task_slugs", "write_figures"]


@dataclass(frozen=True)
class DrawnFigure:
    """A figure of the report.

    Attributes:
        name: Stem of the PNG file, unique in the run.
        title: Heading, plain text.
        caption: What to look at, plain text.
        kind: ``"confusion"``, ``"curves"``, ``"subjects"``, ``"reliability"`` or ``"cross-task"``.
        role: ``"student"``, ``"teacher"``, or empty when the figure shows both.
        svg: The ``<svg>`` element; empty before it is drawn.
    """

    name: str
    title: str
    caption: str
    kind: str
    role: str = ""
    svg: str = ""

    @property
    def width_pixels(self) -> int:
        """Width at which the text has its nominal size, in CSS pixels."""
        found = re.search(r'viewBox="0 0 ([0-9.]+)', self.svg)
        return round(float(found[1]) * 4 / 3) if found else 640


def write_figures(record: RunRecord) -> list[DrawnFigure]:
    """Draw every figure of a run into its ``figures/`` folder.

    Args:
        record: A finished run.

    Returns:
        The figures, in the order of the report.

    Raises:
        SmoothDistillError: If matplotlib is not installed.
    """
    folder = record.folder / "figures"
    drawn = []
    with figure_style():
        folder.mkdir(exist_ok=True)
        for plan, figure in _plans(record):
            save_png(figure, folder / f"{plan.name}.png")
            drawn.append(replace(plan, svg=svg_text(figure, name=plan.name)))
    return drawn


def _plans(record: RunRecord) -> Iterator[tuple[DrawnFigure, Figure]]:
    """Each figure with its name, heading and caption, drawn one at a time."""
    slugs = task_slugs(record.tasks)
    yield (
        DrawnFigure(
            "curves",
            "Training curves",
            "Top: the parts of the training loss. Bottom: macro-F1 on the validation windows, "
            "student and averaged teacher. Thin lines are folds, the thick line is their mean.",
            "curves",
        ),
        curves_figure(record.history, record.tasks),
    )
    for task in record.tasks:
        names = record.class_names[task]
        for role in ROLES:
            rows = record.predictions.get((task, role))
            if rows is None:
                continue
            counts = confusion_counts(rows.targets, rows.predictions, num_classes=len(names))
            yield (
                DrawnFigure(
                    f"confusion-{slugs[task]}-{role}",
                    f"Confusion matrix: {task}, {role}",
                    "All test folds together. The number is the count of windows, the colour its "
                    "share of the row, the right edge the share of each class that was found.",
                    "confusion",
                    role=role,
                ),
                confusion_figure(counts, names, title=f"{task}, {role}"),
            )
    whom = (
        "Macro-F1 of each person; the protocol let the model train on the same people."
        if record.protocol == "published"
        else "Macro-F1 of each person, none of whom the model had seen in training."
    )
    yield (
        DrawnFigure(
            "subjects",
            "Test subjects",
            f"{whom} A class that a person never shows counts, with 0, as soon as it is predicted. "
            "Right: the mean over folds with its 95 % interval (bootstrap over subjects).",
            "subjects",
        ),
        subjects_figure(record.subject_rows, record.tasks, _intervals(record)),
    )
    yield (
        DrawnFigure(
            "reliability",
            "Calibration",
            "A point on the dashed line is an honest confidence; below it the model is too sure. "
            "Lower panels: how often each confidence was given. The ECE here is that of all test "
            "folds together.",
            "reliability",
        ),
        reliability_figure(record.predictions, record.tasks),
    )
    for judged, other in permutations(record.tasks, 2):
        rows = record.predictions.get((judged, record.selected_role))
        conditions = record.predictions.get((other, record.selected_role))
        if rows is None or conditions is None:
            continue
        classes, conditions_of = record.class_names[judged], record.class_names[other]
        figure = cross_task_figure(
            cross_task_counts(
                rows, conditions, num_classes=len(classes), num_conditions=len(conditions_of)
            ),
            classes,
            conditions_of,
            title=f"recall of {judged}, by {other}",
        )
        if figure is not None:
            yield (
                DrawnFigure(
                    f"recall-{slugs[judged]}-by-{slugs[other]}",
                    f"{judged} by {other}",
                    f"Share of each {judged} class that the {record.selected_role} finds, for each "
                    f"annotated {other} class apart: where one head's task is hard for the other.",
                    "cross-task",
                ),
                figure,
            )


def _intervals(record: RunRecord) -> dict[tuple[str, str], Score]:
    return {
        (task, role): score_of(record.summary, task, role, "macro_f1")
        for task in record.tasks
        for role in ROLES
    }


def task_slugs(tasks: Sequence[str]) -> dict[str, str]:
    """A harmless, unique file-name stem per task."""
    slugs: dict[str, str] = {}
    for number, task in enumerate(tasks):
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", task).strip("-")[:40] or f"task-{number}"
        slugs[task] = slug if slug not in slugs.values() else f"{slug}-{number}"
    return slugs
