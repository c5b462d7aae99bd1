"""What happened in each epoch: running sums over steps, rows, and `history.csv`."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smoothdistill.training.checkpoint import write_atomically
from smoothdistill.training.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jaxtyping import Float64

    from smoothdistill.training.roles import Role

__all__ = [
    "EpochMeter",
    "FoldHistory",
    "Validation",
    "history_columns",
    "mean_over_tasks",
    "write_history",
]


class EpochMeter:
    """Adds up the loss parts of an epoch.

    Sums are kept in float64 and grow step by step, so that they do not depend on when steps are
    read. Steps whose loss is not finite are left out.

    Args:
        num_tasks: Number of tasks.
        others: Names of further parts of the loss; see `Method.other_parts`.
        sums: Sums to go on from, from `sums` of another meter.

    Attributes:
        sums: Windows, total, then for each task cross-entropy, distillation, correct and
            labelled windows, then the further parts; losses are multiplied by the windows that they
            are means over.
        last_total: Total of the newest step; NaN before the first.
    """

    def __init__(
        self, num_tasks: int, others: Sequence[str] = (), sums: np.ndarray | None = None
    ) -> None:
        self.num_tasks, self.others = num_tasks, others
        self.sums = np.zeros(2 + 4 * num_tasks + len(others)) if sums is None else sums.copy()
        self.last_total = math.nan

    def add(self, rows: Float64[np.ndarray, "steps sums"]) -> None:
        """Add steps up, from `StepLog.read`."""
        for row in rows:
            self.last_total = float(row[1] / row[0])
            if math.isfinite(self.last_total):
                self.sums += row

    def means(self) -> list[float]:
        """Mean total; cross-entropy, distillation and accuracy of each task; further parts."""
        values = [_ratio(self.sums[1], self.sums[0])]
        end = 2 + 4 * self.num_tasks
        for part in self.sums[2:end].reshape(self.num_tasks, 4):
            values += [_ratio(number, part[3]) for number in part[:3]]
        return values + [_ratio(number, self.sums[0]) for number in self.sums[end:]]


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan


class Validation(NamedTuple):
    """Scores of a role in validation."""

    macro_f1: dict[str, float]
    """By task."""
    accuracy: dict[str, float]
    """By task."""


class FoldHistory:
    """Rows of one fold, one per epoch, without the columns `fold` and `is_best`.

    Args:
        rows: Rows to go on from.
    """

    def __init__(self, rows: Sequence[Sequence[float]] = ()) -> None:
        self.rows = [list(row) for row in rows]

    def add(
        self,
        seconds: float,
        train_means: Sequence[float],
        validation: Mapping[Role, Validation],
    ) -> None:
        """Add the row of one epoch.

        Args:
            seconds: Time of the epoch, in seconds.
            train_means: From `EpochMeter.means`.
            validation: Scores by role.
        """
        row = [float(len(self.rows)), seconds, *train_means]
        for role in ROLES:
            row += validation[role].macro_f1.values()
        for role in ROLES:
            row += validation[role].accuracy.values()
        means = (mean_over_tasks(validation[role].macro_f1) for role in ROLES)
        self.rows.append([*row, *means])


def mean_over_tasks(by_task: Mapping[str, float]) -> float:
    """Mean of the scores that are defined; NaN if none is."""
    known = [value for value in by_task.values() if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def history_columns(tasks: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """Columns of `history.csv`, with the further parts of the loss among them."""
    columns = ["fold", "epoch", "seconds", "train_total"]
    for task in tasks:
        parts = ("cross_entropy", "distillation", "accuracy")
        columns += [f"train_{task}_{part}" for part in parts]
    columns += [f"train_{part}" for part in others]
    for score in ("macro_f1", "accuracy"):
        for role in ROLES:
            columns += [f"validation_{role}_{task}_{score}" for task in tasks]
    return [*columns, *(f"validation_{role}_macro_f1" for role in ROLES), "is_best"]


def write_history(
    path: Path,
    tasks: Sequence[str],
    folds: Mapping[int, tuple[Sequence[Sequence[float]], int | None]],
    others: Sequence[str] = (),
) -> None:
    """Write `history.csv`.

    Args:
        path: The file.
        tasks: Names of the tasks.
        folds: Rows and number of the best epoch, by fold.
        others: Names of further parts of the loss.
    """

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(history_columns(tasks, others))
            for fold, (rows, best_epoch) in sorted(folds.items()):
                for row in rows:
                    epoch, seconds, *values = row
                    cells = ["" if math.isnan(value) else repr(float(value)) for value in values]
                    is_best = int(epoch == best_epoch)
                    writer.writerow([fold, int(epoch), f"{seconds:.3f}", *cells, is_best])

    # The rows are in `last.safetensors` too, from which a resumed run writes the file anew.
    write_atomically(path, write, survives_power_loss=False)
