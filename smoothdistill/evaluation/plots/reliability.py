"""Reliability diagram: does a confidence mean what it says?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.evaluation.plots.style import INK, ROLE_COLOURS, legend, new_figure, tidy
from smoothdistill.evaluation.run_record import Predictions
from smoothdistill.training.roles import ROLES
from smoothdistill.training.tallies import CALIBRATION_BINS, confidence_bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["calibration_bins", "reliability_figure"]


def calibration_bins(
    rows: Predictions,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and windows of the bins that the ECE is made of.

    Returns:
        Three arrays [bins]; an empty bin has NaN, NaN, 0.
    """
    num_bins = CALIBRATION_BINS
    bins = confidence_bins(rows.confidences)
    counts = np.bincount(bins, minlength=num_bins)
    correct = (rows.targets == rows.predictions).astype(np.float64)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, weights=rows.confidences, minlength=num_bins) / counts
        accuracy = np.bincount(bins, weights=correct, minlength=num_bins) / counts
    return confidence, accuracy, counts.astype(np.int64)


def reliability_figure(
    predictions: Mapping[tuple[str, str], Predictions], tasks: Sequence[str]
) -> Figure:
    """Accuracy against confidence, and how often each confidence is given.

    Args:
        predictions: Rows per (task, role).
        tasks: Task names, one column of panels each.
    """
    figure = new_figure(max(6.5, 3.9 * len(tasks)), 4.9)
    panels = figure.subplots(2, len(tasks), squeeze=False, height_ratios=(3.2, 1), sharex=True)
    for column, task in enumerate(tasks):
        axes, shares = panels[0, column], panels[1, column]
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.5, lw=1, ls=(0, (4, 3)))
        for role in ROLES:
            rows = predictions.get((task, role))
            if rows is None:
                continue
            confidence, accuracy, counts = calibration_bins(rows)
            filled = counts > 0
            gap = np.abs(confidence[filled] - accuracy[filled])
            error = float(np.sum(gap * counts[filled]) / counts.sum())
            axes.plot(
                confidence[filled],
                accuracy[filled],
                color=ROLE_COLOURS[role],
                marker="o",
                ms=4.5,
                lw=1.6,
                label=f"{role}, ECE {error:.3f}",
            )
            edges = np.linspace(0, 1, len(counts) + 1)
            shares.stairs(counts / counts.sum(), edges, color=ROLE_COLOURS[role], lw=1.6)
        axes.set_title(task)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        tidy(axes, grid="both")
        tidy(shares)
        shares.set_ylim(bottom=0)
        shares.set_xlabel("confidence of the prediction")
        legend(axes, loc="upper left")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("share of\nwindows")
    return figure
