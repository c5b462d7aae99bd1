"""The files of a run folder, each written whole or not at all."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import CheckpointError
from smoothdistill.training.checkpoint import write_atomically
from smoothdistill.training.tallies import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from smoothdistill.splits import Fold
    from smoothdistill.training.config import SplitConfig
    from smoothdistill.training.results import RunResults
    from smoothdistill.windows import Windows

__all__ = [
    "RUN_FILES",
    "default_folder",
    "describe_data",
    "describe_splits",
    "fold_folder",
    "read_json",
    "require_free",
    "split_digest",
    "write_json",
    "write_results",
]

RUN_FILES = ("status.json", "config.toml", "data.json", "splits.json", "summary.json")
"""Files by which a folder is known to hold a run."""

PREDICTION_COLUMNS = (
    "fold", "window", "subject", "role", "task", "target", "prediction", "confidence",
)  # fmt: skip
METRIC_COLUMNS = ("fold", "role", "task", "metric", "value")
SUBJECT_COLUMNS = ("fold", "subject", "role", "task", "num_windows", *METRICS)


def default_folder(parent: Path, name: str) -> Path:
    """A folder below `parent` that does not exist yet, named by the time and the run."""
    stem = time.strftime("%Y%m%d-%H%M%S") + "-" + name
    candidates = [parent / stem, *(parent / f"{stem}-{number}" for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def require_free(folder: Path) -> None:
    """Refuse a folder that holds a run already, or is no folder.

    Raises:
        ValueError: If it does.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` must be a folder, but {str(folder)!r} is a file instead.")
    if any((folder / name).exists() for name in RUN_FILES):
        raise ValueError(
            f"`out` must be a folder without a run, but {str(folder)!r} holds one instead; "
            f"`smoothdistill resume {folder}` goes on with it."
        )


def fold_folder(folder: Path, index: int) -> Path:
    """Where the checkpoints of one fold lie."""
    return folder / f"fold-{index:02d}"


def write_json(path: Path, content: Mapping[str, Any], *, survives_power_loss: bool = True) -> None:
    """Write JSON, with NaN as null."""
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text, survives_power_loss=survives_power_loss)


def write_text(path: Path, text: str, *, survives_power_loss: bool = True) -> None:
    """Write UTF-8 text with the line ends as they are."""
    write_atomically(
        path,
        lambda partial: _write_bytes(partial, text.encode()),
        survives_power_loss=survives_power_loss,
    )


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: If there is no such file, or it holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"`folder` must hold a run with a readable {path.name}, "
            f"but {str(path)!r} cannot be read ({type(error).__name__}) instead."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"`folder` must hold a run with a readable {path.name}, "
            f"but {str(path)!r} holds no object instead."
        )
    return content


def describe_data(windows: Windows, *, is_given: bool) -> dict[str, Any]:
    """Facts for `data.json`.

    Args:
        windows: The data.
        is_given: Whether they were handed over, and cannot be loaded again by their name.
    """
    return {
        "name": windows.name,
        "source": "given" if is_given else "loaded",
        "fingerprint": windows.fingerprint(),
        "num_windows": len(windows),
        "num_subjects": len(np.unique(windows.subjects)),
        "num_channels": windows.num_channels,
        "channel_names": list(windows.channel_names),
        "window_samples": windows.window_samples,
        "sample_rate_hz": windows.sample_rate_hz,
        "tasks": list(windows.tasks),
        "class_names": {task: list(windows.class_names[task]) for task in windows.tasks},
        "num_labelled": {
            task: np.bincount(labels[labels >= 0], minlength=windows.num_classes[task]).tolist()
            for task, labels in windows.targets.items()
        },
    }


def describe_splits(windows: Windows, folds: Sequence[Fold], split: SplitConfig) -> dict[str, Any]:
    """Facts for `splits.json`: subjects and sizes of each fold, and the digest of its windows."""
    described = []
    for fold in folds:
        sides = {side: getattr(fold, side) for side in ("train", "validation", "test")}
        subjects = {
            f"{side}_subjects": np.unique(windows.subjects[chosen]).tolist()
            for side, chosen in sides.items()
        }
        sizes = {f"num_{side}": len(chosen) for side, chosen in sides.items()}
        described.append({"index": fold.index, **subjects, **sizes, "digest": split_digest(fold)})
    return {
        "protocol": split.protocol,
        "num_folds": len(folds),
        "seed": split.seed,
        "folds": described,
    }


def split_digest(fold: Fold) -> str:
    """SHA-256, in hexadecimal, of the window numbers on each side of a fold."""
    digest = hashlib.sha256()
    for chosen in (fold.train, fold.validation, fold.test):
        digest.update(len(chosen).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(chosen, dtype="<i8").data)
    return digest.hexdigest()


def write_results(folder: Path, results: RunResults, facts: Mapping[str, Any]) -> None:
    """Write the tables of predictions and scores, and `summary.json` last of all.

    Args:
        folder: The run folder.
        results: Scores of the finished folds.
        facts: Further entries of the summary.
    """
    _write_table(folder / "predictions.csv.gz", PREDICTION_COLUMNS, results.prediction_rows())
    _write_table(folder / "metrics.csv", METRIC_COLUMNS, results.metric_rows())
    _write_table(folder / "per_subject.csv", SUBJECT_COLUMNS, results.subject_rows())
    write_json(folder / "summary.json", {**results.summary(), **facts})


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            if path.suffix == ".gz":  # without a name and a time in it, equal runs give equal files
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                    _write_csv(packed, columns, rows)
            else:
                _write_csv(file, columns, rows)

    write_atomically(path, write)


def _write_csv(file: Any, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    text.flush()
    text.detach()
