"""Scores of trained models on windows: a run's own test folds, or any other data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smoothdistill.errors import DataError
from smoothdistill.splits import Fold
from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.data_source import load_windows, make_split
from smoothdistill.training.fold_state import BestSoFar, FoldState
from smoothdistill.training.inference import predict_windows
from smoothdistill.training.model_checkpoint import ModelCheckpoint
from smoothdistill.training.results import RunResults
from smoothdistill.training.roles import ROLES
from smoothdistill.training.run import Run
from smoothdistill.training.run_folder import read_json, write_results
from smoothdistill.windows import IGNORE_INDEX, Windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Evaluation", "evaluate", "fit_windows_to_model", "load_checkpoints"]

_RATE_TOLERANCE = 0.02  # clocks of wearables are off by a per cent or so


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one or several checkpoints.

    Attributes:
        results: Predictions and scores, of which the tables are made.
        facts: What was evaluated on what, plain values.
    """

    results: RunResults
    facts: dict[str, Any]

    @property
    def summary(self) -> dict[str, Any]:
        """Of the form of a run's ``summary.json``: ``["tasks"][task][role][metric]["mean"]``."""
        return {**self.results.summary(), **self.facts}

    def write(self, folder: str | Path) -> None:
        """Write ``summary.json``, ``metrics.csv``, ``per_subject.csv`` and ``predictions.csv.gz``.

        Args:
            folder: Where to; made if it is not there. Must not hold a run.

        Raises:
            ValueError: If `folder` holds files of a run.
        """
        folder = Path(folder)
        if (folder / "config.toml").exists():
            raise ValueError(
                f"`out` must be a folder without a run, but {str(folder)!r} holds one instead."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, self.results, self.facts)


def load_checkpoints(path: str | Path) -> list[ModelCheckpoint]:
    """The checkpoints of a run folder, by fold, or the one of a ``best.safetensors``.

    Args:
        path: A run folder, or a checkpoint file.

    Raises:
        FileNotFoundError: If there is neither.
        CheckpointError: If a file is damaged.
    """
    path = Path(path)
    if path.is_file():
        return [ModelCheckpoint.load(path)]
    run = Run(path)
    if not run.folds:
        raise FileNotFoundError(
            f"`path` must hold at least one fold-*/best.safetensors, but {str(path)!r} holds none "
            "instead."
        )
    return [run.checkpoint(fold) for fold in run.folds]


def evaluate(
    path: str | Path, data: Windows | None = None, *, device: str | torch.device = "cpu"
) -> Evaluation:
    """Test student and teacher of a run, or of one checkpoint.

    Args:
        path: A run folder, or one ``best.safetensors``.
        data: Windows to test on, all of them. By default the run's own data, of which each
            fold's models are tested on that fold's test windows.
        device: Where to compute.

    Returns:
        Scores per task, role, fold and subject. A task that only the model or only the data
        have is left out; classes are matched by name.

    Raises:
        FileNotFoundError: If there is no run or checkpoint.
        CheckpointError: If a file of it is damaged.
        ValueError: If `data` is needed (for one file, or windows that were handed to the trainer),
            but is not given.
        DataError: If the data do not fit the model: channels, window, rate, tasks or classes.
    """
    device = torch.device(device)
    checkpoints = load_checkpoints(path)
    numbers = [checkpoint.description.fold for checkpoint in checkpoints]
    if data is None:
        data, tests = _own_test_windows(Path(path), numbers)
    else:
        everything = np.arange(len(data))
        tests = dict.fromkeys(numbers, everything)
    windows = fit_windows_to_model(data, checkpoints[0])
    on_device = DeviceWindows(windows, device)
    folds, states = [], []
    for checkpoint in checkpoints:
        number = checkpoint.description.fold
        nobody = np.empty(0, dtype=np.int64)
        folds.append(Fold(number, train=nobody, validation=nobody, test=tests[number]))
        states.append(_tested(checkpoint, on_device, tests[number], windows.tasks, device))
    facts = {
        "data": data.name,
        "fingerprint": data.fingerprint(),
        "num_windows": int(sum(len(tests[number]) for number in numbers)),
        "num_folds": len(checkpoints),
        "method": checkpoints[0].description.method_name,
        "model": checkpoints[0].description.model_name,
    }
    return Evaluation(RunResults(windows, folds, states, seed=0), facts)


def fit_windows_to_model(windows: Windows, checkpoint: ModelCheckpoint) -> Windows:
    """The same windows with the model's tasks and class numbers.

    Args:
        windows: Any windows.
        checkpoint: The model that is to read them.

    Raises:
        DataError: If channels, window length or sample rate differ, there is no common task, or
            the data have a class that the model does not know.
    """
    model = checkpoint.description
    _require_equal("channels", windows.num_channels, model.num_channels)
    _require_equal("samples per window", windows.window_samples, model.window_samples)
    if abs(windows.sample_rate_hz / model.sample_rate_hz - 1.0) > _RATE_TOLERANCE:
        raise DataError(
            f"`data` must have the sample rate of the model's training data, "
            f"{model.sample_rate_hz:g} Hz, but has {windows.sample_rate_hz:g} Hz instead."
        )
    tasks = [task for task in model.class_names if task in windows.targets]
    if not tasks:
        raise DataError(
            f"`data` must have at least one of the model's tasks "
            f"({', '.join(model.class_names)}), but has {', '.join(windows.tasks)} instead."
        )
    return Windows(
        windows.signals,
        targets={
            task: _renumbered(
                task, windows.targets[task], windows.class_names[task], model.class_names[task]
            )
            for task in tasks
        },
        subjects=windows.subjects,
        sample_rate_hz=windows.sample_rate_hz,
        class_names={task: tuple(model.class_names[task]) for task in tasks},
        channel_names=windows.channel_names,
        recordings=windows.recordings,
        starts=windows.starts,
        name=windows.name,
    )


def _own_test_windows(
    path: Path, numbers: Sequence[int]
) -> tuple[Windows, Mapping[int, NDArray[np.int64]]]:
    """The run's data, loaded anew and checked against its fingerprint, and each fold's test."""
    if path.is_file():
        raise ValueError(
            "`data` must be given to evaluate a single checkpoint, but is None instead; "
            "on its own run's data it would meet windows that it was trained on."
        )
    run = Run(path)
    about = read_json(path / "data.json")
    if about.get("source") == "given":
        raise ValueError(
            "`data` must be given, since the run was trained on windows that were not loaded by a "
            "name, but is None instead."
        )
    windows = load_windows(run.config.data)
    if windows.fingerprint() != about.get("fingerprint"):
        raise DataError(
            f"`data` must have the fingerprint {str(about.get('fingerprint'))[:16]} of the run in "
            f"{str(path)!r}, but has {windows.fingerprint()[:16]} instead."
        )
    folds = make_split(run.config.split, windows)
    return windows, {fold.index: fold.test for fold in folds if fold.index in numbers}


def _tested(
    checkpoint: ModelCheckpoint,
    data: DeviceWindows,
    chosen: NDArray[np.int64],
    tasks: Sequence[str],
    device: torch.device,
) -> FoldState:
    standardization = checkpoint.standardization.to(device)
    test = {}
    for role in ROLES:
        model = checkpoint.model(role).to(device)
        predicted = predict_windows(model, data, chosen, standardization)
        assert predicted is not None  # nobody asks it to stop
        test[role] = {task: predicted[task] for task in tasks}
    about = checkpoint.description
    best = BestSoFar((about.selected,), dict(about.epochs), dict(about.validation_scores))
    return FoldState(best=best, test=test)


def _renumbered(
    task: str, labels: NDArray[np.int64], names: Sequence[str], model_names: Sequence[str]
) -> NDArray[np.int64]:
    """Labels by the model's numbers of the same class names."""
    present = np.unique(labels[labels != IGNORE_INDEX])
    unknown = [names[number] for number in present if names[number] not in model_names]
    if unknown:
        raise DataError(
            f"`data` must have only classes of {task!r} that the model knows "
            f"({', '.join(model_names)}), but has {', '.join(unknown)} instead."
        )
    table = np.full(len(names) + 1, IGNORE_INDEX, dtype=np.int64)
    for number in present:
        table[number] = list(model_names).index(names[number])
    return table[np.where(labels == IGNORE_INDEX, len(names), labels)]


def _require_equal(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise DataError(
            f"`data` must have the {what} that the model was trained with, {wanted}, "
            f"but has {found} instead."
        )
