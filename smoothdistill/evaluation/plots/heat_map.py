"""Heat maps over classes: the confusion matrix, and one task's recall by another's class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.evaluation.plots.style import GRID, INK, SHARE_COLOUR, new_figure, shorten
from smoothdistill.evaluation.run_record import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["confusion_counts", "confusion_figure", "cross_task_counts", "cross_task_figure"]


def confusion_counts(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.int64]:
    """Windows per (annotated class, predicted class).

    Args:
        targets: Annotated classes, in [0, num_classes).
        predictions: Predicted classes, in [0, num_classes), as many.
        num_classes: At least 1.

    Returns:
        Counts, [classes, classes], a row per annotated class.
    """
    flat = np.bincount(targets * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


def confusion_figure(
    counts: NDArray[np.int64], class_names: Sequence[str], *, title: str
) -> Figure:
    """Confusion matrix: colour is the share of the row, the number is the count of windows.

    Args:
        counts: [classes, classes], a row per annotated class.
        class_names: One name per class.
        title: Heading of the figure.
    """
    num_classes = len(class_names)
    longest = max(len(shorten(name)) for name in class_names)
    cell_inches = 0.42 if num_classes > 8 else 0.62
    side = max(2.0, cell_inches * num_classes)
    figure = new_figure(side + 0.085 * longest + 1.9, side + 0.06 * longest + 1.0)
    axes = figure.add_subplot()
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    _fill(axes, shares, counts > 0)
    for row, column in np.argwhere(counts > 0):
        share = float(shares[row, column])
        axes.text(
            column,
            row,
            _short_count(int(counts[row, column])),
            ha="center",
            va="center",
            fontsize=8 if num_classes > 8 else 9.5,
            # White is only legible on a well-filled cell, in the light and in the dark page.
            color="#ffffff" if share > 0.68 else INK,
            in_layout=False,
        )
    axes.set_aspect("equal")
    slanted = 0.085 * (longest + 1) > cell_inches
    _class_axes(axes, class_names, class_names, slanted=slanted)
    axes.set_xlabel("predicted")
    axes.set_ylabel("annotated")
    axes.set_title(title)
    edge = num_classes - 0.42
    for row, (recall, count) in enumerate(zip(np.diag(shares), rows[:, 0], strict=True)):
        label = f"{recall:.0%}" if count else "no windows"
        axes.text(edge, row, label, ha="left", va="center", fontsize=9)
    axes.text(edge, -0.62, "found", ha="left", va="bottom", fontsize=9)
    return figure


def cross_task_counts(
    rows: Predictions, conditions: Predictions, *, num_classes: int, num_conditions: int
) -> NDArray[np.int64]:
    """Windows per annotated class of one task and of another, and how many of them were found.

    Args:
        rows: Predictions of the task that is judged.
        conditions: Predictions of the other task; only its targets are used.
        num_classes: Classes of the judged task.
        num_conditions: Classes of the other task.

    Returns:
        Counts, [2, conditions, classes], of the windows that are labelled for both tasks: all of
        them, and those whose class was predicted.
    """
    last = max(int(part.windows.max(initial=0)) for part in (rows, conditions))
    keys, others = (part.folds * (last + 1) + part.windows for part in (rows, conditions))
    _, mine, theirs = np.intersect1d(keys, others, assume_unique=True, return_indices=True)
    places = conditions.targets[theirs] * num_classes + rows.targets[mine]
    size = num_conditions * num_classes
    counts = [
        np.bincount(places[chosen], minlength=size)
        for chosen in (slice(None), rows.targets[mine] == rows.predictions[mine])
    ]
    return np.stack(counts).reshape(2, num_conditions, num_classes).astype(np.int64)


def cross_task_figure(
    counts: NDArray[np.int64],
    class_names: Sequence[str],
    condition_names: Sequence[str],
    *,
    title: str,
) -> Figure | None:
    """Recall of one task's classes, apart for each annotated class of another task.

    Args:
        counts: From `cross_task_counts`, [2, conditions, classes].
        class_names: Class names of the judged task.
        condition_names: Class names of the other task.
        title: Heading of the figure.

    Returns:
        None when no window is labelled for both tasks.
    """
    total, found = counts
    if total.sum() == 0:
        return None
    recall = np.divide(found, total, out=np.zeros(total.shape), where=total > 0)
    row_names, column_names = condition_names, class_names
    if len(row_names) > len(column_names):  # the longer axis lies flat, so that it fits a page
        recall, total = recall.T, total.T
        row_names, column_names = class_names, condition_names
    longest = max(len(shorten(name)) for name in column_names)
    figure = new_figure(
        max(6.5, 0.58 * len(column_names) + 1.6),
        0.42 * len(row_names) + 1.0 + 0.055 * longest,
    )
    axes = figure.add_subplot()
    _fill(axes, recall, total > 0)
    for row, column in np.argwhere(total > 0):
        share = float(recall[row, column])
        axes.text(
            column,
            row,
            f"{share:.0%}",
            ha="center",
            va="center",
            color="#ffffff" if share > 0.68 else INK,
            fontsize=8,
            in_layout=False,
        )
    _class_axes(axes, row_names, column_names, slanted=True)
    axes.set_title(title)
    return figure


def _fill(axes: Axes, shares: NDArray[np.float64], shown: NDArray[np.bool_]) -> None:
    """Colour the shown cells: the share is the opacity."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    cells = [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in np.argwhere(shown)]
    colours = [(SHARE_COLOUR, float(share)) for share in shares[shown]]
    axes.add_collection(PatchCollection(cells, facecolors=colours, linewidths=0), autolim=False)


def _class_axes(
    axes: Axes, row_names: Sequence[str], column_names: Sequence[str], *, slanted: bool
) -> None:
    """Name the rows and columns of cells of size 1 and lay thin lines between them."""
    rows, columns = len(row_names), len(column_names)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks(
        range(columns),
        [shorten(name) for name in column_names],
        rotation=45 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    if not slanted:
        axes.tick_params(axis="x", pad=8)
    axes.set_yticks(range(rows), [shorten(name) for name in row_names])
    # Two collections of lines; a grid of minor ticks takes several times as long to draw.
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color=GRID, alpha=0.3, lw=0.6)
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color=GRID, alpha=0.3, lw=0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _short_count(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
