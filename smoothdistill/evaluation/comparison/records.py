"""What the cells of a comparison have left: counts per subject, curves, cost, and who failed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from itertools import permutations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smoothdistill.errors import CheckpointError
from smoothdistill.evaluation.comparison.plan import (
    RECORD_FILE,
    Cell,
    CellState,
    Plan,
    cell_state,
    is_record_only,
)
from smoothdistill.evaluation.plots.heat_map import cross_task_counts
from smoothdistill.evaluation.run_record import Predictions, RunRecord
from smoothdistill.training.checkpoint import load_checkpoint, save_checkpoint
from smoothdistill.training.roles import ROLES
from smoothdistill.training.tallies import Tally, count_predictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["CellRecord", "CellResult", "read_cells"]

_KIND = "cell"


@dataclass(frozen=True, eq=False)
class CellRecord:
    """One finished cell.

    Attributes:
        seed: Its `train.seed`.
        fold: Number of the fold.
        selected: The role that validation chose.
        subjects: The people that were tested, in alphabetical order.
        tallies: Counts of each of them, by task and role.
        crossings: Windows, and those that were found, by class of another task and own class
            (`cross_task_counts`); by own task, other task and role.
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
    crossings: Mapping[tuple[str, str, str], NDArray[np.int64]]
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
        names = sorted({name for rows in parts.values() for name in np.unique(rows.subjects)})
        if not names:
            raise CheckpointError(
                f"`run_folder` must hold predictions of fold {fold}, "
                f"but {str(record.folder)!r} has none instead."
            )
        num_classes = {task: len(record.class_names[task]) for task in record.tasks}
        tallies: dict[tuple[str, str], Tally] = {}
        truth: dict[str, str] = {}
        for task, role in product(record.tasks, ROLES):
            if (task, role) not in parts:
                continue
            rows = parts[task, role]
            tallies[task, role] = count_predictions(
                rows.targets,
                rows.predictions,
                rows.confidences,
                np.searchsorted(names, rows.subjects),
                num_sets=len(names),
                num_classes=num_classes[task],
            )
            digest = hashlib.sha256(str(record.data.get("fingerprint")).encode())
            digest.update(np.stack([rows.windows, rows.targets]).astype("<i8").tobytes())
            truth[task] = digest.hexdigest()
        crossings: dict[tuple[str, str, str], NDArray[np.int64]] = {
            (task, other, role): cross_task_counts(
                parts[task, role],
                parts[other, role],
                num_classes=num_classes[task],
                num_conditions=num_classes[other],
            )
            for role in ROLES
            for task, other in permutations(record.tasks, 2)
            if (task, role) in parts and (other, role) in parts
        }
        mine = record.history["fold"] == fold if "fold" in record.history else slice(None)
        parameters = record.summary.get("num_parameters")
        return cls(
            seed=int(record.config.get("train", {}).get("seed", 0)),
            fold=fold,
            selected=_selected(record, fold),
            subjects=tuple(map(str, names)),
            tallies=tallies,
            crossings=crossings,
            truth=truth,
            history={name: values[mine] for name, values in record.history.items()},
            steps_per_epoch=_steps_per_epoch(record, fold),
            num_parameters=parameters if isinstance(parameters, int) else None,
            data=record.data,
            environment=record.environment,
            class_names=record.class_names,
        )

    def write(self, path: Path) -> None:
        """Write it to one file, from which `read` makes the same.

        Args:
            path: The file to write or replace.

        Raises:
            OSError: If it cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for (task, role), tally in self.tallies.items():
            arrays[_name("confusion", task, role)] = tally.confusion.astype(np.int32)
            arrays[_name("calibration", task, role)] = tally.calibration
        for key, counts in self.crossings.items():
            arrays[_name("crossing", *key)] = counts.astype(np.int32)
        for column, values in self.history.items():
            arrays[_name("history", column)] = values
        metadata = {
            "kind": _KIND,
            "seed": self.seed,
            "fold": self.fold,
            "selected": self.selected,
            "subjects": self.subjects,
            "truth": list(self.truth.items()),  # whose order JSON objects would lose
            "steps_per_epoch": self.steps_per_epoch
            if math.isfinite(self.steps_per_epoch)
            else None,
            "num_parameters": self.num_parameters,
            "data": self.data,
            "environment": self.environment,
            "class_names": self.class_names,
        }
        save_checkpoint(path, {k: torch.tensor(v) for k, v in arrays.items()}, metadata)

    @classmethod
    def read(cls, path: Path) -> CellRecord:
        """Read what `write` has written.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If it is damaged, or holds something else.
        """
        tensors, known = load_checkpoint(path, kind=_KIND)
        steps, truth = known["steps_per_epoch"], dict(known["truth"])
        arrays: dict[str, dict[tuple[str, ...], NDArray[Any]]] = {}
        for name, tensor in tensors.items():
            what, *key = json.loads(name)
            arrays.setdefault(what, {})[tuple(key)] = tensor.numpy()
        return cls(
            seed=known["seed"],
            fold=known["fold"],
            selected=known["selected"],
            subjects=tuple(known["subjects"]),
            tallies={
                key: Tally(arrays["confusion"][key].astype(np.float64), arrays["calibration"][key])
                for key in product(truth, ROLES)
                if key in arrays["confusion"]
            },
            crossings={
                (task, other, role): counts.astype(np.int64)
                for (task, other, role), counts in arrays.get("crossing", {}).items()
            },
            truth=truth,
            history={column: values for (column,), values in arrays.get("history", {}).items()},
            steps_per_epoch=math.nan if steps is None else steps,
            num_parameters=known["num_parameters"],
            data=known["data"],
            environment=known["environment"],
            class_names={task: tuple(names) for task, names in known["class_names"].items()},
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
        folder = out / cell.folder
        state, reason = cell_state(folder)
        if state != "finished":
            found.append(CellResult(cell, state, reason))
            continue
        try:
            if (cell.folder, cell.fold) not in of_folds:
                if is_record_only(folder):
                    record = CellRecord.read(folder / RECORD_FILE)
                else:
                    if cell.folder not in runs:
                        runs[cell.folder] = _read(folder)
                    run = runs[cell.folder]
                    if isinstance(run, CheckpointError):
                        raise run
                    record = CellRecord.of(run, cell.fold)
                of_folds[cell.folder, cell.fold] = record
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


def _of_fold(rows: Predictions, fold: int) -> Predictions:
    """Rows of one fold, by their window."""
    mine = np.flatnonzero(rows.folds == fold)
    mine = mine[np.argsort(rows.windows[mine], kind="stable")]
    return Predictions(**{field.name: getattr(rows, field.name)[mine] for field in fields(rows)})


def _name(*parts: str) -> str:
    """Name of a tensor of the file: tasks and columns may have any sign in theirs."""
    return json.dumps(parts)


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
