"""What the cells of a comparison have left: counts per subject, curves, cost, and who failed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import CheckpointError
from smoothdistill.evaluation.comparison.plan import Cell, CellState, Plan, cell_state
from smoothdistill.evaluation.run_record import RunRecord
from smoothdistill.training.roles import ROLES
from smoothdistill.training.tallies import Tally, count_predictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from smoothdistill.evaluation.run_record import Predictions

__all__ = ["CellRecord", "CellResult", "read_cells"]


@dataclass(frozen=True, eq=False)
class CellRecord:
    """One finished cell.

    Attributes:
        seed: Its `train.seed`.
        fold: Number of the fold.
        selected: The role that validation chose.
        subjects: The people that were tested, in alphabetical order.
        tallies: Counts of each of them, by task and role.
        truth: Digest of the test windows and their labels, by task: equal in cells that were
            tested on the same.
        history: Columns of `history.csv`, rows of this fold.
        steps_per_epoch: Batches of an epoch; NaN if unknown.
        num_parameters: Weights of the model; None if unknown.
        data: `data.json`.
        environment: `environment.json`.
        class_names: Names of the classes by task.
    """

    seed: int
    fold: int
    selected: str
    subjects: tuple[str, ...]
    tallies: Mapping[tuple[str, str], Tally]
    truth: Mapping[str, str]
    history: Mapping[str, NDArray[np.float64]]
    steps_per_epoch: float
    num_parameters: int | None
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    class_names: Mapping[str, tuple[str, ...]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a labelled test window."""
        return tuple(self.truth)

    def role(self, name: str) -> str:
        """A role's own name, or what validation chose for "selected"."""
        return self.selected if name == "selected" else name

    @classmethod
    def of(cls, record: RunRecord, fold: int) -> CellRecord:
        """One fold of a run.

        Raises:
            CheckpointError: If the run lacks that fold.
        """
        parts = {key: _of_fold(rows, fold) for key, rows in record.predictions.items()}
        names = sorted({name for rows in parts.values() for name in np.unique(rows[0]).tolist()})
        if not names:
            raise CheckpointError(
                f"`run_folder` must hold predictions of fold {fold}, "
                f"but {str(record.folder)!r} has none instead."
            )
        tallies: dict[tuple[str, str], Tally] = {}
        truth: dict[str, str] = {}
        for task in record.tasks:
            for role in ROLES:
                if (task, role) not in parts:
                    continue
                subjects, windows, targets, predictions, confidences = parts[task, role]
                tallies[task, role] = count_predictions(
                    targets,
                    predictions,
                    confidences,
                    np.searchsorted(names, subjects),
                    num_sets=len(names),
                    num_classes=len(record.class_names[task]),
                )
                digest = hashlib.sha256(str(record.data.get("fingerprint")).encode())
                digest.update(np.stack([windows, targets]).astype("<i8").tobytes())
                truth[task] = digest.hexdigest()
        mine = record.history["fold"] == fold if "fold" in record.history else slice(None)
        parameters = record.summary.get("num_parameters")
        return cls(
            seed=int(record.config.get("train", {}).get("seed", 0)),
            fold=fold,
            selected=_selected(record, fold),
            subjects=tuple(names),
            tallies=tallies,
            truth=truth,
            history={name: values[mine] for name, values in record.history.items()},
            steps_per_epoch=_steps_per_epoch(record, fold),
            num_parameters=parameters if isinstance(parameters, int) else None,
            data=record.data,
            environment=record.environment,
            class_names=record.class_names,
        )


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell, what has become of it, and what it has left if it is finished."""

    cell: Cell
    state: CellState
    reason: str = ""
    record: CellRecord | None = None


def read_cells(plan: Plan, out: Path) -> list[CellResult]:
    """Read every cell of a plan; a damaged one counts as failed.

    Args:
        plan: The cells.
        out: Folder of the comparison.
    """
    runs: dict[str, RunRecord | CheckpointError] = {}
    of_folds: dict[tuple[str, int], CellRecord] = {}
    found = []
    last_use = {cell.folder: number for number, cell in enumerate(plan.cells)}
    for number, cell in enumerate(plan.cells):
        state, reason = cell_state(out / cell.folder)
        if state != "finished":
            found.append(CellResult(cell, state, reason))
            continue
        try:
            if (cell.folder, cell.fold) not in of_folds:
                if cell.folder not in runs:
                    runs[cell.folder] = _read(out / cell.folder)
                run = runs[cell.folder]
                if isinstance(run, CheckpointError):
                    raise run
                of_folds[cell.folder, cell.fold] = CellRecord.of(run, cell.fold)
            found.append(CellResult(cell, state, "", of_folds[cell.folder, cell.fold]))
        except CheckpointError as error:
            found.append(CellResult(cell, "failed", str(error)))
        if last_use[cell.folder] == number:  # its predictions take megabytes
            runs.pop(cell.folder, None)
    return found


def _read(folder: Path) -> RunRecord | CheckpointError:
    try:
        return RunRecord.read(folder)
    except CheckpointError as error:
        return error


def _of_fold(
    rows: Predictions, fold: int
) -> tuple[
    NDArray[np.str_], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]
]:
    mine = np.flatnonzero(rows.folds == fold)
    mine = mine[np.argsort(rows.windows[mine], kind="stable")]
    return (
        rows.subjects[mine],
        rows.windows[mine],
        rows.targets[mine],
        rows.predictions[mine],
        rows.confidences[mine],
    )


def _selected(record: RunRecord, fold: int) -> str:
    for entry in record.summary.get("folds", ()):
        if entry.get("index") == fold and entry.get("selected") in ROLES:
            return str(entry["selected"])
    return record.selected_role


def _steps_per_epoch(record: RunRecord, fold: int) -> float:
    batch_size = record.config.get("train", {}).get("batch_size")
    for entry in record.splits.get("folds", ()):
        if entry.get("index") == fold and entry.get("num_train") and batch_size:
            return float(-(-int(entry["num_train"]) // int(batch_size)))
    return math.nan
