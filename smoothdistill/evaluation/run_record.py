"""Reading a finished run folder back: the small files as they are, the predictions as arrays."""

from __future__ import annotations

import csv
import gzip
import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import CheckpointError
from smoothdistill.methods import METHODS
from smoothdistill.training.roles import ROLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Predictions", "RunRecord"]

_NEEDED = ("config.toml", "summary.json", "history.csv", "predictions.csv.gz")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one role predicted for one task on all test folds, labelled windows only.

    Attributes:
        folds: Fold of each row.
        windows: Number of the window in the data set.
        subjects: Subject of each row, as text.
        targets: Annotated class, in [0, classes).
        predictions: Predicted class, in [0, classes).
        confidences: Probability given to the predicted class, in [0, 1].
    """

    folds: NDArray[np.int64]
    windows: NDArray[np.int64]
    subjects: NDArray[np.str_]
    targets: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidences: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class RunRecord:
    """The contents of a run folder, without its weights.

    Attributes:
        folder: Where the run lies.
        config: ``config.toml``.
        config_text: The same file as it was written.
        summary: ``summary.json``.
        status: ``status.json``; empty when missing, and so are the next three.
        environment: ``environment.json``.
        data: ``data.json``.
        splits: ``splits.json``.
        history: Columns of ``history.csv``; an empty cell is NaN.
        metric_rows: Rows of ``metrics.csv``.
        subject_rows: Rows of ``per_subject.csv``.
        predictions: One entry per (task, role) of ``predictions.csv.gz``.
    """

    folder: Path
    config: dict[str, Any]
    config_text: str
    summary: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, Any] = field(default_factory=dict)
    history: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    metric_rows: list[dict[str, str]] = field(default_factory=list)
    subject_rows: list[dict[str, str]] = field(default_factory=list)
    predictions: dict[tuple[str, str], Predictions] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> RunRecord:
        """Read a finished run folder.

        Args:
            folder: A folder written by ``Trainer.fit``.

        Raises:
            FileNotFoundError: If there is no such folder.
            CheckpointError: If a file that every finished run has is missing or damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"`run_folder` must be the folder of a run, but is {str(folder)!r}, "
                "which does not exist, instead."
            )
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"`run_folder` must hold a finished run ({', '.join(_NEEDED)}), but "
                f"{str(folder)!r} lacks {', '.join(missing)} instead; "
                f"`smoothdistill resume {folder}` finishes an interrupted run."
            )
        config_text = _guarded(folder / "config.toml", lambda path: path.read_text("utf-8"))
        return cls(
            folder=folder,
            config=_guarded(folder / "config.toml", _read_toml),
            config_text=config_text,
            summary=_guarded(folder / "summary.json", _read_json),
            status=_guarded(folder / "status.json", _read_json),
            environment=_guarded(folder / "environment.json", _read_json),
            data=_guarded(folder / "data.json", _read_json),
            splits=_guarded(folder / "splits.json", _read_json),
            history=_guarded(folder / "history.csv", _read_columns),
            metric_rows=_guarded(folder / "metrics.csv", _read_rows),
            subject_rows=_guarded(folder / "per_subject.csv", _read_rows),
            predictions=_guarded(folder / "predictions.csv.gz", _read_predictions),
        )

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Task names, in the order of the summary."""
        return tuple(self.summary.get("tasks", {}))

    @cached_property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class names per task, as the data set gave them, else the class numbers."""
        named: Mapping[str, Any] = self.data.get("class_names") or {}
        names = {}
        for task in self.tasks:
            known = [str(name) for name in named.get(task, ())]
            rows = [self.predictions[key] for key in self.predictions if key[0] == task]
            highest = max(
                (int(max(row.targets.max(), row.predictions.max())) for row in rows if len(row)),
                default=-1,
            )
            names[task] = tuple(known + [str(k) for k in range(len(known), highest + 1)])
        return names

    @property
    def method(self) -> str:
        """Name of the training method."""
        return str(self.config.get("method", {}).get("name", "unknown"))

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.config.get("model", {}).get("name", "unknown"))

    @property
    def role_meanings(self) -> dict[str, str]:
        """Who the student and the teacher of the scores are, as the end of a sentence."""
        method = METHODS.get(self.method)
        teacher = "its moving average"
        if method is not None and method.teacher_model == "beside":
            teacher = "the network of another kind that is trained beside it"
        elif method is not None and method.teacher_model == "trained":
            teacher = "its moving average, not the network that taught it"
        return {"student": "the network that is trained", "teacher": teacher}

    @property
    def data_name(self) -> str:
        """Name of the data set."""
        configured = self.config.get("data", {}).get("name")
        return str(self.data.get("name") or configured or "unknown")

    @property
    def protocol(self) -> str:
        """Name of the evaluation protocol."""
        configured = self.config.get("split", {}).get("protocol")
        return str(self.splits.get("protocol") or configured or "unknown")

    @property
    def selected_role(self) -> str:
        """The role that validation chose in most folds; the teacher where that is not recorded."""
        selected = self.summary.get("selected") or []
        found = Counter(role for role in selected if role in ROLES).most_common(1)
        return str(found[0][0]) if found else "teacher"

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the folds that were tested."""
        numbers: set[int] = set()
        for rows in self.predictions.values():
            numbers.update(int(fold) for fold in np.unique(rows.folds))
        return tuple(sorted(numbers))


def _guarded(path: Path, reader: Any) -> Any:
    """Result of `reader`, {} or [] for a missing file, CheckpointError for a damaged one."""
    if not path.is_file():
        return [] if path.suffix == ".csv" else {}
    try:
        return reader(path)
    except (ValueError, LookupError, TypeError, EOFError, OSError, csv.Error) as error:
        raise CheckpointError(
            f"`run_folder` must hold readable files, but {str(path)!r} is damaged "
            f"({type(error).__name__}: {error}) instead."
        ) from error


def _read_toml(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"the file must hold a JSON object, but holds {type(content).__name__}")
    return content


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def _read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = next(lines, [])
        rows = [[_number(cell) for cell in line] for line in lines if line]
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"every line must have {len(header)} cells")
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(header))
    return {name: table[:, column] for column, name in enumerate(header)}


def _number(cell: str) -> float:
    words = {"": math.nan, "True": 1.0, "true": 1.0, "False": 0.0, "false": 0.0}
    return words[cell] if cell in words else float(cell)


def _read_predictions(path: Path) -> dict[tuple[str, str], Predictions]:
    columns: dict[tuple[str, str], list[tuple[int, int, str, int, int, float]]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = next(lines, [])
        order = [
            header.index(name)
            for name in (
                "task", "role", "fold", "window", "subject", "target", "prediction", "confidence",
            )
        ]  # fmt: skip
        for line in lines:
            task, role, fold, window, subject, target, prediction, confidence = (
                line[index] for index in order
            )
            if int(target) < 0:  # an unlabelled window of this task says nothing about a score
                continue
            columns.setdefault((task, role), []).append(
                (int(fold), int(window), subject, int(target), int(prediction), float(confidence))
            )
    return {key: _predictions(rows) for key, rows in columns.items()}


def _predictions(rows: list[tuple[int, int, str, int, int, float]]) -> Predictions:
    folds, windows, subjects, targets, predictions, confidences = zip(*rows, strict=True)
    return Predictions(
        folds=np.array(folds, dtype=np.int64),
        windows=np.array(windows, dtype=np.int64),
        subjects=np.array(subjects, dtype=np.str_),
        targets=np.array(targets, dtype=np.int64),
        predictions=np.array(predictions, dtype=np.int64),
        confidences=np.array(confidences, dtype=np.float64),
    )
