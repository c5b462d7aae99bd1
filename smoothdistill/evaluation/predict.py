"""Predictions for recordings without labels: what was done, and where the sensor sat."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from torch import nn

from smoothdistill.errors import DataError
from smoothdistill.evaluation.evaluate import load_checkpoints
from smoothdistill.evaluation.recordings import UNLABELLED, as_recording
from smoothdistill.onnx_model import ExportDescription, OnnxModel
from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.checkpoint import write_atomically
from smoothdistill.training.inference import TaskPredictions, predict_windows
from smoothdistill.training.model_checkpoint import ModelCheckpoint, ModelDescription
from smoothdistill.training.roles import ROLES, Role
from smoothdistill.training.standardization import Standardization
from smoothdistill.windows import Recording, Windows, cut_windows

if TYPE_CHECKING:
    from jaxtyping import Float32

__all__ = [
    "WindowPredictions",
    "choose_checkpoint",
    "choose_model",
    "predict",
    "predict_recordings",
    "require_role",
]

_RATE_TOLERANCE = 0.05  # a clock is off by a per cent; twice the rate is another recording


@dataclass(frozen=True, eq=False)
class WindowPredictions:
    """Predictions of every window, in order of recordings and time.

    Attributes:
        windows: The windows that were read; their targets mean nothing.
        tasks: Class numbers and confidences by task.
        class_names: Names of the classes by task.
        recordings: What the numbers in ``windows.recordings`` mean.
        role: Which of student and teacher predicted.
    """

    windows: Windows
    tasks: dict[str, TaskPredictions]
    class_names: dict[str, list[str]]
    recordings: tuple[Recording, ...]
    role: Role

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def labels(self, task: str) -> list[str]:
        """Predicted class name of every window."""
        names = self.class_names[task]
        return [names[number] for number in self.tasks[task].predictions]

    @property
    def columns(self) -> list[str]:
        """Columns of the table."""
        columns = ["recording", "window", "first_sample", "first_seconds", "last_seconds"]
        for task in self.tasks:
            columns += [task, f"{task}_confidence"]
        return columns

    def rows(self) -> Iterator[list[str | int]]:
        """Rows of the table; seconds count from the first sample of the recording."""
        windows = self.windows
        assert windows.recordings is not None
        assert windows.starts is not None
        labels = {task: self.labels(task) for task in self.tasks}
        for window, (number, start) in enumerate(
            zip(windows.recordings.tolist(), windows.starts.tolist(), strict=True)
        ):
            recording = self.recordings[number]
            first, last = (
                _seconds_at(recording, sample)
                for sample in (start, start + windows.window_samples - 1)
            )
            row: list[str | int] = [recording.session, window, start, f"{first:.3f}", f"{last:.3f}"]
            for task, predicted in self.tasks.items():
                row += [labels[task][window], f"{predicted.confidences[window]:.4f}"]
            yield row

    def write_csv(self, path: str | Path) -> None:
        """Write the table to a CSV file, whole or not at all.

        Raises:
            OSError: If the file cannot be written; an old one is intact.
        """

        def write(partial: Path) -> None:
            with partial.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(self.columns)
                writer.writerows(self.rows())

        write_atomically(Path(path), write)


def choose_checkpoint(path: str | Path, fold: int | None = None) -> ModelCheckpoint:
    """One checkpoint of a run: the given fold's, or the one that did best in validation.

    Args:
        path: A run folder, or a checkpoint file.
        fold: Number of a fold.

    Raises:
        FileNotFoundError: If there is no run or checkpoint.
        CheckpointError: If a file of it is damaged.
        ValueError: If the run has no such fold.
    """
    checkpoints = load_checkpoints(path)
    by_fold = {checkpoint.description.fold: checkpoint for checkpoint in checkpoints}
    if fold is None:
        return max(checkpoints, key=lambda each: each.description.validation_macro_f1 or 0.0)
    if fold not in by_fold:
        known = ", ".join(map(str, by_fold))
        raise ValueError(f"`fold` must be one of {known}, but is {fold} instead.")
    return by_fold[fold]


def choose_model(path: str | Path, fold: int | None = None) -> ModelCheckpoint | OnnxModel:
    """An exported file (its name ends in ``.onnx``), or a checkpoint of a run.

    Args:
        path: An exported file, a run folder, or a checkpoint file.
        fold: Number of a fold of a run.

    Raises:
        FileNotFoundError: If there is no such file, run or checkpoint.
        CheckpointError, ExportError: If it is damaged.
        ValueError: If the run has no such fold, or an exported file is asked for one.
        ImportError: If onnxruntime is not installed, for an exported file.
    """
    if Path(path).suffix != ".onnx":
        return choose_checkpoint(path, fold)
    if fold is not None:
        raise ValueError(
            f"`fold` must be left out for an exported file, which has one model, but is {fold} "
            "instead."
        )
    return OnnxModel(path)


def predict_recordings(
    model: ModelCheckpoint | OnnxModel,
    recordings: Sequence[Recording],
    *,
    step_samples: int | None = None,
    role: Role | Literal["selected"] = "selected",
    device: str | torch.device = "cpu",
) -> WindowPredictions:
    """Cut recordings into windows and predict each.

    Args:
        model: A checkpoint, computed by PyTorch, or an exported file, by ONNX Runtime.
        recordings: From `read_recordings` or `as_recording`, with the channels, the unit and the
            sample rate of the training data.
        step_samples: Hop between windows, in samples, at least 1; by default the window length,
            so that windows follow one another without overlap.
        role: "student", "teacher", or "selected": the one that did better in validation. An
            exported file has one of them.
        device: Where to compute; for an exported file the CPU.

    Raises:
        DataError: If the recordings do not fit the model, or none is as long as a window.
        ValueError: If there is no such role or device, or `step_samples` is below 1.
        ExportError: If the exported file does not say what it reads.
    """
    description = model.description
    _require_fit(recordings, description)
    device = torch.device(device)
    network, standardization, used = _network(model, role, device)
    windows = cut_windows(
        recordings,
        class_names={UNLABELLED: (UNLABELLED,)},
        window_samples=description.window_samples,
        step_samples=description.window_samples if step_samples is None else step_samples,
        label="last",
        name="recordings",
    )
    predicted = predict_windows(
        network.to(device),
        DeviceWindows(windows, device),
        np.arange(len(windows)),
        standardization.to(device),
    )
    assert predicted is not None  # nobody asks it to stop
    return WindowPredictions(
        windows=windows,
        tasks=predicted,
        class_names=description.class_names,
        recordings=tuple(recordings),
        role=used,
    )


class _ByOnnxRuntime(nn.Module):
    """An exported file in a network's place; it standardizes by itself."""

    def __init__(self, exported: OnnxModel) -> None:
        super().__init__()
        self.exported = exported

    def forward(self, signals: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.exported(signals.numpy())
        return {task: torch.from_numpy(values) for task, values in logits.items()}


def _network(
    model: ModelCheckpoint | OnnxModel,
    role: Role | Literal["selected"],
    device: torch.device,
) -> tuple[nn.Module, Standardization, Role]:
    """What maps standardized signals to logits, how they are standardized, and who it is."""
    if isinstance(model, ModelCheckpoint):
        used = model.description.selected if role == "selected" else role
        return model.model(role), model.standardization, used
    description = model.description
    if role not in ("selected", description.role):
        raise ValueError(
            f"`role` must be {description.role}, whom the exported file holds, but is {role!r} "
            "instead."
        )
    if device.type != "cpu":
        raise ValueError(f"`device` must be cpu for ONNX Runtime, but is {str(device)!r} instead.")
    identity = Standardization.identity(description.num_channels)
    return _ByOnnxRuntime(model), identity, description.role


def predict(
    path: str | Path,
    signals: Iterable[Float32[np.ndarray, "time channels"]],
    *,
    sample_rate_hz: float,
    fold: int | None = None,
    step_samples: int | None = None,
    role: Role | Literal["selected"] = "selected",
    device: str | torch.device = "cpu",
) -> WindowPredictions:
    """Predict the windows of plain arrays.

    Args:
        path: A run folder, a checkpoint file, or an exported file.
        signals: One array per recording, in the training data's unit and order of channels.
        sample_rate_hz: Samples per second, that of the training data.
        fold: Whose model to use; by default the one that did best in validation.
        step_samples: Hop between windows, in samples; by default the window length.
        role: "student", "teacher" or "selected".
        device: Where to compute.

    Raises:
        FileNotFoundError: If there is no run, checkpoint or exported file.
        CheckpointError, ExportError: If a file of it is damaged.
        DataError: If the signals do not fit the model.
        ValueError: If there is no such fold or role.
        ImportError: If onnxruntime is not installed, for an exported file.
    """
    recordings = [
        as_recording(signal, sample_rate_hz=sample_rate_hz, session=str(number))
        for number, signal in enumerate(signals)
    ]
    return predict_recordings(
        choose_model(path, fold), recordings, step_samples=step_samples, role=role, device=device
    )


def require_role(role: str) -> Role | Literal["selected"]:
    """The role of that name.

    Raises:
        ValueError: If there is none.
    """
    for known in (*ROLES, "selected"):
        if role == known:
            return cast('Role | Literal["selected"]', known)
    raise ValueError(f"`role` must be student, teacher or selected, but is {role!r} instead.")


def _seconds_at(recording: Recording, sample: int) -> float:
    times = recording.timestamps_seconds
    return sample / recording.sample_rate_hz if times is None else float(times[sample] - times[0])


def _require_fit(
    recordings: Sequence[Recording], model: ModelDescription | ExportDescription
) -> None:
    if not recordings:
        raise DataError("`recordings` must hold at least 1 recording, but is empty instead.")
    for number, recording in enumerate(recordings):
        place = f"recordings[{number}]"
        if recording.signal.shape[1] != model.num_channels:
            names = f" ({', '.join(model.channel_names)})" if model.channel_names else ""
            raise DataError(
                f"`{place}` must have the {model.num_channels} channels{names} that the model was "
                f"trained with, but has {recording.signal.shape[1]} instead."
            )
        if abs(recording.sample_rate_hz / model.sample_rate_hz - 1.0) > _RATE_TOLERANCE:
            raise DataError(
                f"`{place}` must have the sample rate of the model's training data, "
                f"{model.sample_rate_hz:g} Hz, but has {recording.sample_rate_hz:g} Hz instead."
            )
