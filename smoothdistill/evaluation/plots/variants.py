"""Methods side by side: people's scores, paired differences, and learning curves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.evaluation.plots.style import GRID, INK, new_figure, shorten, tidy
from smoothdistill.evaluation.tables import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["curves_of_variants", "forest_figure", "subjects_of_variants", "variant_styles"]

# Okabe and Ito's palette without its yellow, which is lost on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
_BASELINE_COLOUR = GRID
_ROW_INCHES = 0.38
_LONGEST_LABEL = 30


def variant_styles(labels: Sequence[str], baseline: str) -> dict[str, tuple[str, Any]]:
    """Colour and dashes of each variant, the same in all figures; the baseline is grey."""
    others = [label for label in labels if label != baseline]
    styles = {
        label: (_COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)])
        for number, label in enumerate(others)
    }
    return {label: styles.get(label, (_BASELINE_COLOUR, "-")) for label in labels}


def subjects_of_variants(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    pooled: Mapping[str, Mapping[str, Score]],
    styles: Mapping[str, tuple[str, Any]],
) -> Figure:
    """Macro-F1 of every person, a row of dots for each variant, above its score and interval.

    Args:
        scores: By task, variant and person.
        pooled: Score over folds, by task and variant.
        styles: From `variant_styles`.
    """
    panels = _rows_of_variants(list(scores), list(styles))
    for axes, task in panels:
        for row, (label, (colour, _)) in enumerate(styles.items()):
            values = np.array(list(scores[task].get(label, {}).values()))
            axes.scatter(
                values, row - 0.14 + _spread(values), s=13, color=colour, alpha=0.6, lw=0, zorder=2
            )
            score = pooled[task].get(label, Score())
            _whisker(axes, row + 0.24, score.mean, score.low, score.high, colour, "D")
        axes.set_title(task)
        axes.set_xlabel("macro-F1")
    return panels[0][0].figure  # type: ignore[return-value]


def forest_figure(
    differences: Mapping[str, Mapping[str, tuple[Score, Score]]],
    styles: Mapping[str, tuple[str, Any]],
    baseline: str,
) -> Figure:
    """Differences in points against the baseline, with intervals, and a line where none is.

    Args:
        differences: By task and variant: of pooled folds, and the mean over people.
        styles: From `variant_styles`, of the variants without the baseline.
        baseline: Its label.
    """
    panels = _rows_of_variants(list(differences), list(styles))
    for axes, task in panels:
        axes.axvline(0.0, color=INK, alpha=0.6, lw=1.0, ls=(0, (4, 3)))
        for row, (label, (colour, _)) in enumerate(styles.items()):
            if label not in differences[task]:
                axes.text(0.0, row, " not paired", va="center", fontsize=8.5, in_layout=False)
                continue
            pooled, people = differences[task][label]
            for offset, score, marker, strength in (
                (-0.13, pooled, "D", 1.0),
                (0.17, people, "o", 0.55),
            ):
                mean, low, high = 100 * score.mean, 100 * score.low, 100 * score.high
                _whisker(axes, row + offset, mean, low, high, colour, marker, strength)
        axes.set_title(task)
        axes.set_xlabel(f"macro-F1, points over {shorten(baseline, _LONGEST_LABEL)}")
    return panels[0][0].figure  # type: ignore[return-value]


def curves_of_variants(
    curves: Mapping[str, Mapping[str, NDArray[np.float64]]],
    styles: Mapping[str, tuple[str, Any]],
    banded: Collection[str],
) -> Figure:
    """Validation macro-F1 against the epoch: the mean of all cells, and a band of ± 1 deviation.

    Args:
        curves: By task and variant: values, [cells, epochs], NaN where a cell has no such epoch.
        styles: From `variant_styles`.
        banded: Variants that get a band: of a dozen bands none could be seen.
    """
    figure = new_figure(4.3 * len(curves) + 2.4, max(3.7, 0.2 * len(styles) + 0.4))
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (task, by_label) in zip(panels, curves.items(), strict=True):
        for label, (colour, dashes) in styles.items():
            values = by_label.get(label)
            if values is None or np.isnan(values).all():
                continue
            known = np.flatnonzero(~np.isnan(values).all(axis=0))
            mean, deviation = (
                np.nanmean(values[:, known], axis=0),
                np.nanstd(values[:, known], axis=0),
            )
            epochs = known + 1  # people count from 1
            axes.plot(
                epochs, mean, color=colour, ls=dashes, lw=1.8, label=shorten(label, _LONGEST_LABEL),
                marker="o" if len(epochs) < 3 else "", ms=4,
            )  # fmt: skip
            if label in banded:
                axes.fill_between(
                    epochs, mean - deviation, mean + deviation, color=colour, alpha=0.13, lw=0
                )
        axes.set_title(task)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes)
    panels[0].set_ylabel("validation macro-F1")
    if panels[0].get_legend_handles_labels()[0]:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")
    return figure


def _rows_of_variants(tasks: Sequence[str], labels: Sequence[str]) -> list[tuple[Axes, str]]:
    """A panel for each task, with a row for each variant, the first one on top."""
    longest = max(len(shorten(label, _LONGEST_LABEL)) for label in labels)
    figure = new_figure(3.7 * len(tasks) + 0.085 * longest + 0.4, _ROW_INCHES * len(labels) + 1.1)
    panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
    for axes in panels:
        tidy(axes, grid="x")
        axes.set_ylim(len(labels) - 0.4, -0.6)
        for row in range(1, len(labels)):
            axes.axhline(row - 0.5, color=GRID, alpha=0.25, lw=0.6)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(labels)), [shorten(label, _LONGEST_LABEL) for label in labels])
    return list(zip(panels, tasks, strict=True))


def _whisker(
    axes: Axes,
    height: float,
    mean: float,
    low: float,
    high: float,
    colour: str,
    marker: str,
    strength: float = 1.0,
) -> None:
    if math.isnan(mean):
        return
    if not math.isnan(low + high):
        axes.plot([low, high], [height, height], color=colour, lw=1.8, alpha=strength, zorder=3)
    axes.plot([mean], [height], marker=marker, ms=5, color=colour, alpha=strength, zorder=4)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Small heights that keep people of nearly equal scores apart, the same in every drawing."""
    heights = np.zeros(len(values))
    order = np.argsort(values, kind="stable")
    heights[order] = (np.arange(len(values)) % 3 - 1) * 0.09
    return heights
