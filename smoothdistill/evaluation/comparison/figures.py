"""The figures of a comparison: what is drawn, from what, and under which caption."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.evaluation.comparison.differences import subject_scores
from smoothdistill.evaluation.comparison.headline import best_variant
from smoothdistill.evaluation.comparison.results import records_of
from smoothdistill.evaluation.comparison.tables import score_in
from smoothdistill.evaluation.figures import DrawnFigure, task_slugs
from smoothdistill.evaluation.plots.heat_map import cross_task_figure
from smoothdistill.evaluation.plots.style import figure_style, save_png, svg_text
from smoothdistill.evaluation.plots.variants import (
    curves_of_variants,
    forest_figure,
    subjects_of_variants,
    variant_styles,
)
from smoothdistill.evaluation.tables import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from smoothdistill.evaluation.comparison.records import CellRecord, CellResult

__all__ = ["write_comparison_figures"]

_MOST_BANDS = 6
_OURS = re.compile(r"subjects|differences|validation|recall-.+-by-.+")


def write_comparison_figures(
    out: Path, content: Mapping[str, Any], results: Sequence[CellResult]
) -> list[DrawnFigure]:
    """Draw every figure into ``figures/``.

    Args:
        out: Folder of the comparison.
        content: Contents of `comparison.json`.
        results: What the cells have left.

    Returns:
        The figures, in the order of the report.

    Raises:
        SmoothDistillError: If matplotlib is not installed.
    """
    drawn = []
    with figure_style():
        folder = out / "figures"
        folder.mkdir(exist_ok=True)
        for plan, figure in _plans(content, results):
            save_png(figure, folder / f"{plan.name}.png")
            drawn.append(replace(plan, svg=svg_text(figure, name=plan.name)))
        names = {figure.name for figure in drawn}
        for left in folder.glob("*.png"):  # of another grid in the same folder
            if _OURS.fullmatch(left.stem) and left.stem not in names:
                left.unlink()
    return drawn


def _plans(
    content: Mapping[str, Any], results: Sequence[CellResult]
) -> Iterator[tuple[DrawnFigure, Figure]]:
    roles = {one["label"]: one["role"] for one in content["variants"]}
    records = {label: records_of(results, label) for label in roles}
    tasks = content["tasks"]
    if not tasks:
        return
    styles = variant_styles(list(roles), content["baseline"])
    leaks = any(one["leaks"] for one in content["variants"])
    whom = "Each dot is a person, by the mean over seeds" + (
        "; under the protocol published the models had trained on the same people. "
        if leaks
        else ", whom the model of their fold had never seen. "
    )
    yield (
        DrawnFigure(
            "subjects",
            "People, method by method",
            f"{whom}The diamond below them is the score of the table, pooled over the people of "
            "a fold, with its 95 % interval (bootstrap over subjects). A person's own macro-F1 "
            "counts the classes that they show, so dots need not lie round the diamond.",
            "subjects",
        ),
        subjects_of_variants(
            {
                task: {
                    label: _people(cells, task, roles[label]) for label, cells in records.items()
                }
                for task in tasks
            },
            {
                task: {
                    one["label"]: score_in(one, task, one["role"], "macro_f1")
                    for one in content["variants"]
                }
                for task in tasks
            },
            styles,
        ),
    )
    others = {label: style for label, style in styles.items() if label != content["baseline"]}
    differences = {task: _differences(content, task) for task in tasks}
    if any(differences.values()):
        yield (
            DrawnFigure(
                "differences",
                f"Differences against {content['baseline']}",
                "Diamonds: macro-F1 of pooled folds, the headline number. Circles: mean over "
                "people of their own difference. Lines are 95 % intervals by a bootstrap over "
                "subjects, the same people drawn for both sides; one that crosses zero does not "
                "tell the methods apart.",
                "differences",
            ),
            forest_figure(differences, others, content["baseline"]),
        )
    best = best_variant(content)
    banded = list(roles) if len(roles) <= _MOST_BANDS else [content["baseline"], best]
    whose = f" of {' and '.join(dict.fromkeys(banded))}"
    yield (
        DrawnFigure(
            "validation",
            "Validation curves",
            "Macro-F1 on the validation windows after each epoch: mean over seeds and folds; band "
            f"of one standard deviation{'' if len(banded) == len(roles) else whose}. Of each "
            "method the model that speaks for it.",
            "curves",
        ),
        curves_of_variants(
            {
                task: {
                    label: _curves(cells, task, roles[label]) for label, cells in records.items()
                }
                for task in tasks
            },
            styles,
            banded,
        ),
    )
    yield from _heat_maps(content, records[best], best)


def _people(cells: Sequence[CellRecord], task: str, role: str) -> dict[str, float]:
    return subject_scores(
        [cell for cell in cells if (task, cell.role(role)) in cell.tallies], task, role, "macro_f1"
    )


def _differences(content: Mapping[str, Any], task: str) -> dict[str, tuple[Score, Score]]:
    found: dict[str, dict[str, Score]] = {}
    for row in content["differences"]:
        if row["task"] == task and row["metric"] == "macro_f1" and not row["why_not"]:
            ends = (row["difference"], None, *row["ci95"])
            numbers = (float("nan") if value is None else float(value) for value in ends)
            found.setdefault(row["variant"], {})[row["of"]] = Score(*numbers)
    return {label: (pair["pooled"], pair["subjects"]) for label, pair in found.items()}


def _curves(cells: Sequence[CellRecord], task: str, role: str) -> NDArray[np.float64]:
    """Validation macro-F1, [cells, epochs]."""
    rows = []
    for cell in cells:
        values = cell.history.get(f"validation_{cell.role(role)}_{task}_macro_f1")
        if values is not None:
            rows.append(values)
    length = max((len(row) for row in rows), default=0)
    table = np.full((len(rows), length), np.nan)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _heat_maps(
    content: Mapping[str, Any], records: Sequence[CellRecord], label: str
) -> Iterator[tuple[DrawnFigure, Figure]]:
    """Recall of one task's classes by the other's, all cells of one variant together."""
    if len(content["tasks"]) != 2:
        return
    role = next(one["role"] for one in content["variants"] if one["label"] == label)
    slugs = task_slugs(content["tasks"])
    for judged, other in permutations(content["tasks"], 2):
        keys = [(judged, other, record.role(role)) for record in records]
        counts = [
            record.crossings[key]
            for record, key in zip(records, keys, strict=True)
            if key in record.crossings
        ]
        if not counts:
            continue
        names = records[0].class_names
        figure = cross_task_figure(
            np.sum(counts, axis=0), names[judged], names[other],
            title=f"{label}: recall of {judged}, by {other}",
        )  # fmt: skip
        if figure is not None:
            yield (
                DrawnFigure(
                    f"recall-{slugs[judged]}-by-{slugs[other]}",
                    f"{judged} by {other}, {label}",
                    f"Share of each {judged} class that {label} finds, for each {other} class "
                    "apart, over all seeds and folds.",
                    "cross-task",
                ),
                figure,
            )
