"""Training curves: loss parts and validation scores of student and teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.evaluation.plots.style import (
    PART_COLOURS,
    ROLE_COLOURS,
    legend_above,
    new_figure,
    tidy,
)
from smoothdistill.training.roles import ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["curves_figure"]


def curves_figure(history: Mapping[str, NDArray[np.float64]], tasks: Sequence[str]) -> Figure:
    """Loss parts and validation macro-F1 against the epoch, folds thin and their mean thick.

    Args:
        history: Columns of ``history.csv``.
        tasks: Task names, one column of panels each.
    """
    figure = new_figure(max(6.5, 4.1 * len(tasks)), 5.6)
    panels = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
    parts = {"cross_entropy": "cross-entropy", "distillation": "T² KL"}
    for column, task in enumerate(tasks):
        losses, validation = panels[0, column], panels[1, column]
        for part, label in parts.items():
            values = history.get(f"train_{task}_{part}")
            if values is not None and np.nanmax(np.abs(values), initial=0.0) > 0:
                _fold_curves(losses, history, values, PART_COLOURS[part], label)
        losses.set_title(task)
        losses.set_ylim(bottom=0)
        for role in ROLES:
            values = history.get(f"validation_{role}_{task}_macro_f1")
            if values is not None and not np.isnan(values).all():
                _fold_curves(validation, history, values, ROLE_COLOURS[role], role)
        validation.set_xlabel("epoch")
        for axes in (losses, validation):
            tidy(axes)
            axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in panels[:, 0]:  # above the panel, where no curve can run through it
        legend_above(axes)
    panels[0, 0].set_ylabel("training loss (nats)")
    panels[1, 0].set_ylabel("validation macro-F1")
    return figure


def _fold_curves(
    axes: Axes,
    history: Mapping[str, NDArray[np.float64]],
    values: NDArray[np.float64],
    colour: str,
    label: str,
) -> None:
    epochs, folds = history["epoch"] + 1, history["fold"]  # people count from 1
    for fold in np.unique(folds):
        mine = folds == fold
        axes.plot(epochs[mine], values[mine], color=colour, lw=0.8, alpha=0.4)
    steps = [epoch for epoch in np.unique(epochs) if not np.isnan(values[epochs == epoch]).all()]
    means = [float(np.nanmean(values[epochs == epoch])) for epoch in steps]
    axes.plot(steps, means, color=colour, lw=2.2, label=label, marker="o" if len(steps) < 3 else "")
