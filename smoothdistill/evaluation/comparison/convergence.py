"""How calmly a variant learns, how far it overfits, and what its steps cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothdistill.evaluation.comparison.records import CellRecord

__all__ = ["accuracy_gap", "epoch_deviation", "seconds_per_epoch", "seconds_per_step"]


def epoch_deviation(cells: Sequence[CellRecord], task: str, role: str) -> float:
    """Epoch-to-epoch standard deviation of validation macro-F1, averaged over cells.

    That is the sample standard deviation over the last half of a cell's epochs (the larger half
    of an odd number). NaN with fewer than two epochs there.
    """
    column = f"validation_{role}_{task}_macro_f1"
    return _mean([_deviation(cell.history[column]) for cell in cells if column in cell.history])


def _deviation(values: NDArray[np.float64]) -> float:
    last = values[len(values) // 2 :]
    last = last[np.isfinite(last)]
    return float(np.std(last, ddof=1)) if len(last) > 1 else math.nan


def accuracy_gap(cells: Sequence[CellRecord], task: str, role: str) -> float:
    """Training accuracy minus validation accuracy of the last epoch, averaged over cells.

    Training accuracy is that of the student on the batches as they came. NaN where the history
    has no validation accuracy.
    """
    seen, unseen = f"train_{task}_accuracy", f"validation_{role}_{task}_accuracy"
    return _mean(
        [
            float(cell.history[seen][-1] - cell.history[unseen][-1])
            for cell in cells
            if seen in cell.history and unseen in cell.history and len(cell.history[seen])
        ]
    )


def seconds_per_epoch(cells: Sequence[CellRecord]) -> float:
    """Median time of an epoch, its validation included, over all epochs of all cells."""
    return _median([value for cell in cells for value in _epoch_seconds(cell)])


def seconds_per_step(cells: Sequence[CellRecord]) -> float:
    """Median over all epochs of their time by the number of their steps."""
    return _median(
        [value / cell.steps_per_epoch for cell in cells for value in _epoch_seconds(cell)]
    )


def _epoch_seconds(cell: CellRecord) -> list[float]:
    values = cell.history.get("seconds")
    return [] if values is None else values.tolist()


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan
