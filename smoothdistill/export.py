"""A trained model as one ONNX file, in float32 or int8, and how far it is from the model."""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import torch
from torch import nn

from smoothdistill.errors import ExportError
from smoothdistill.onnx_model import (
    ExportDescription,
    OnnxModel,
    Precision,
    first_line,
    quiet,
    require_module,
)
from smoothdistill.quantization import quantize_static
from smoothdistill.training import Run
from smoothdistill.training.checkpoint import write_atomically
from smoothdistill.training.data_source import make_split
from smoothdistill.training.metrics import macro_f1
from smoothdistill.training.run_execution import windows_of_run
from smoothdistill.training.standardization import Standardization
from smoothdistill.windows.checks import check_finite, real_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jaxtyping import Float32

    from smoothdistill.training.model_checkpoint import ModelCheckpoint
    from smoothdistill.training.roles import Role
    from smoothdistill.windows import Windows

__all__ = [
    "ExportReport",
    "OnnxModel",
    "as_onnx_model",
    "export_checkpoint",
    "export_onnx",
    "export_run",
]

_NUM_CALIBRATION_WINDOWS = 512
_TOLERANCE = 1e-4  # of the largest logit: float32 sums of thousands of terms in another order
_BATCH = 64


@dataclass(frozen=True)
class ExportReport:
    """What an export is, and how far it is from the model.

    Attributes:
        path: The file.
        precision: "float32" or "int8".
        num_bytes: Its size.
        num_windows: Windows that both were asked.
        largest_difference: Of a logit, over all of them.
        agreement: Share of the windows for which both say the same, by task.
        macro_f1: By task what PyTorch and the file reach on the test windows of the fold; empty
            where there are none.
    """

    path: str
    precision: Precision
    num_bytes: int
    num_windows: int
    largest_difference: float
    agreement: dict[str, float]
    macro_f1: dict[str, dict[str, float]]


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    windows: Float32[np.ndarray, "windows channels time"],
    test_windows: Float32[np.ndarray, "windows channels time"] | None = None,
    standardization: Standardization | None = None,
    precision: Precision = "float32",
    metadata: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Write a model to one ONNX file, run it, and compare.

    The file takes ``signals`` [batch, channels, time], float32 in their own unit, and gives logits
    [batch, classes] by task. int8: `quantize_static`.

    Args:
        model: Maps signals to {task: logits}; has `tasks`. It is left as it was.
        path: The file to write or replace.
        windows: At least one window, for int8 to calibrate with: of subjects that were trained on.
            Finite numbers.
        test_windows: What to compare on; by default the same.
        standardization: Applied before the model, inside of the file.
        precision: "float32" or "int8".
        metadata: Anything that JSON can hold, written into the file.

    Returns:
        What was compared; without scores.

    Raises:
        TypeError: If an argument is of the wrong kind, or `metadata` holds what JSON cannot.
        ValueError: If an argument breaks its rule.
        ExportError: If the model cannot be exported, or a float32 file says something else. `path`
            is then as it was.
        ImportError: If onnx, onnxscript or onnxruntime is not installed.
    """
    require_module("onnx")
    require_module("onnxscript")
    require_module("onnxruntime")
    if precision not in get_args(Precision):
        names = ", ".join(f"'{name}'" for name in get_args(Precision))
        raise ValueError(f"`precision` must be one of {names}, but is {precision!r} instead.")
    axes = ("windows", "channels", "time")
    calibrating = signals = real_array("windows", windows, np.float32, axes)
    check_finite("windows", calibrating)
    _, *shape = calibrating.shape
    if test_windows is not None:
        signals = real_array("test_windows", test_windows, np.float32, axes)
        check_finite("test_windows", signals)
        if [*signals.shape[1:]] != shape:
            raise ValueError(
                f"`test_windows` must have the {shape} of `windows` as channels and time, but has "
                f"{[*signals.shape[1:]]} instead."
            )
    try:
        written = json.dumps(dict(metadata or {}))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`metadata` must be what JSON can hold, but is not ({error}) instead."
        ) from error
    whole = _Whole(model, standardization or Standardization.identity(shape[0]))
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        _write_float32(whole, shape, plain, written)
        if precision == "int8":
            with quiet():
                quantize_static(plain, small, calibrating)
        made = small if precision == "int8" else plain
        expected, found = _ask(whole.logits, signals), _ask(OnnxModel(made), signals)
        report = _compare(expected, found, Path(path), precision, made.stat().st_size)

        def write(target: Path) -> None:
            target.write_bytes(made.read_bytes())

        write_atomically(Path(path), write)
    return report


def export_run(
    run: str | Path | Run,
    path: str | Path,
    *,
    fold: int = 0,
    role: Role | Literal["selected"] = "selected",
    precision: Precision = "float32",
    compress: bool = False,
    windows: Windows | None = None,
) -> ExportReport:
    """Export a model of a run; calibrated on its training subjects, compared on its test windows.

    Args:
        run: A finished run or its folder.
        path: The file to write or replace.
        fold: Number of the fold.
        role: "student", "teacher", or "selected": the one that did better in validation.
        precision: "float32" or "int8".
        compress: Whether the model's `compress()` comes first: SIMH heads keep their memory only.
        windows: The run's windows; by default they are loaded as the run's configuration says.

    Raises:
        ValueError: If the windows must be given, or the model has nothing to compress.
        DataError: If the windows are not the run's.
        FileNotFoundError: If there is no such run or fold, or the recordings are not there.
        ExportError, CheckpointError, ImportError: As the parts of it say.
    """
    run = run if isinstance(run, Run) else Run(run)
    checkpoint = run.checkpoint(fold)
    model = _chosen_model(checkpoint, role, compress=compress)  # first: windows take long
    windows = windows_of_run(run, windows, "windows")
    (own,) = (one for one in make_split(run.config.split, windows) if one.index == fold)
    chosen = np.random.default_rng(0).permutation(own.train)[:_NUM_CALIBRATION_WINDOWS]
    report = export_checkpoint(
        checkpoint,
        path,
        role=role,
        precision=precision,
        compress=compress,
        windows=windows.signals[np.sort(chosen)],
        test_windows=windows.signals[own.test],
    )
    scores = _scores(_Whole(model, checkpoint.standardization), OnnxModel(path), windows, own.test)
    return replace(report, macro_f1=scores)


def export_checkpoint(
    checkpoint: ModelCheckpoint,
    path: str | Path,
    *,
    role: Role | Literal["selected"] = "selected",
    precision: Precision = "float32",
    compress: bool = False,
    windows: Float32[np.ndarray, "windows channels time"] | None = None,
    test_windows: Float32[np.ndarray, "windows channels time"] | None = None,
) -> ExportReport:
    """Export a model of a checkpoint, with all that using the file needs written inside.

    Args:
        checkpoint: The models, with the standardization of their training data.
        path: The file to write or replace.
        role: "student", "teacher", or "selected": the one that did better in validation.
        precision: "float32" or "int8".
        compress: Whether the model's `compress()` comes first: SIMH heads keep their memory only.
        windows: For int8 to calibrate with, of training subjects. A float32 file does without:
            it is then compared on noise with mean and deviation of the training data.
        test_windows: What to compare on; by default `windows`.

    Returns:
        What was compared; without scores.

    Raises:
        ValueError: If there is no such role, int8 has no windows, or the model has nothing to
            compress.
        ExportError, ImportError: As `export_onnx` says.
    """
    description = checkpoint.description
    model = _chosen_model(checkpoint, role, compress=compress)
    if windows is None:
        if precision == "int8":
            raise ValueError(
                "`windows` must be given for int8, which calibrates with them, but is None instead."
            )
        shape = (_BATCH, description.num_channels, description.window_samples)
        noise = np.random.default_rng(0).standard_normal(shape, np.float32)
        standardization = checkpoint.standardization
        windows = (
            noise * standardization.deviation.numpy()[:, None]
            + standardization.mean.numpy()[:, None]
        )
    metadata = ExportDescription(
        class_names=description.class_names,
        channel_names=description.channel_names,
        num_channels=description.num_channels,
        window_samples=description.window_samples,
        sample_rate_hz=description.sample_rate_hz,
        model=description.network_name(role),
        method=description.method_name,
        role=description.selected if role == "selected" else role,
        precision=precision,
        is_compressed=compress,
    )
    return export_onnx(
        model,
        path,
        windows=windows,
        test_windows=test_windows,
        standardization=checkpoint.standardization,
        precision=precision,
        metadata=asdict(metadata),
    )


def as_onnx_model(
    checkpoint: ModelCheckpoint, role: Role | Literal["selected"] = "selected"
) -> OnnxModel:
    """A model of a checkpoint for ONNX Runtime, in float32; no file is left behind.

    Raises:
        ValueError: If there is no such role.
        ExportError, ImportError: As `export_onnx` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_checkpoint(checkpoint, path, role=role)
        return OnnxModel(path)


def _chosen_model(
    checkpoint: ModelCheckpoint, role: Role | Literal["selected"], *, compress: bool
) -> nn.Module:
    model = checkpoint.model(role)
    if not compress:
        return model
    if not hasattr(model, "compress"):
        raise ValueError(
            f"`compress` must be false for a {type(model).__name__}, which has nothing to "
            "leave out, but is true instead."
        )
    return cast("nn.Module", cast("Any", model).compress())


class _Whole(nn.Module):
    """Standardization and model, in evaluation mode; gives a tuple, as exports want it."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, model: nn.Module, standardization: Standardization) -> None:
        super().__init__()
        self.model = deepcopy(model).to("cpu")
        self.tasks: tuple[str, ...] = tuple(getattr(model, "tasks", ()))
        self.register_buffer("mean", standardization.mean.cpu()[:, None])
        self.register_buffer("deviation", standardization.deviation.cpu()[:, None])
        self.eval()

    def forward(self, signals: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.model((signals - self.mean) / self.deviation)
        return tuple(logits[task] for task in self.tasks)

    @torch.no_grad()
    def logits(self, signals: np.ndarray) -> dict[str, np.ndarray]:
        """The same from and to NumPy."""
        found = zip(self.tasks, self(torch.from_numpy(signals)), strict=True)
        return {task: values.numpy() for task, values in found}


def _ask(
    logits: Callable[[np.ndarray], dict[str, np.ndarray]],
    signals: Float32[np.ndarray, "windows channels time"],
) -> dict[str, Float32[np.ndarray, "windows classes"]]:
    """Logits of every task for all windows, some at a time."""
    starts = range(0, len(signals), _BATCH)
    parts = [logits(np.ascontiguousarray(signals[at : at + _BATCH], np.float32)) for at in starts]
    return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}


def _write_float32(whole: _Whole, shape: list[int], path: Path, metadata: str) -> None:
    try:
        with quiet():
            program = torch.onnx.export(
                whole,
                (torch.zeros(2, *shape),),
                dynamo=True,
                dynamic_shapes={"signals": {0: torch.export.Dim("batch", min=1)}},
                input_names=["signals"],
                output_names=list(whole.tasks),
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props["smoothdistill"] = metadata
            program.save(path, external_data=False)
    except Exception as error:  # of many classes: what the exporter cannot do, it says in its own
        raise ExportError(
            f"`model` must be one that torch.onnx can export, but {type(whole.model).__name__} "
            f"is not ({first_line(error)}) instead."
        ) from error


def _compare(
    expected: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
    path: Path,
    precision: Precision,
    num_bytes: int,
) -> ExportReport:
    # NumPy's, in which a NaN wins.
    difference = float(np.max([np.abs(found[task] - one).max() for task, one in expected.items()]))
    largest = float(np.max([np.abs(one).max() for one in expected.values()]))
    if precision == "float32" and not difference <= _TOLERANCE * max(1.0, largest):
        raise ExportError(
            f"`model` must say the same as its export within {_TOLERANCE:g} of its largest logit, "
            f"but differs by {difference:.3g} instead."
        )
    agreement = {
        task: float((found[task].argmax(1) == one.argmax(1)).mean())
        for task, one in expected.items()
    }
    num_windows = len(next(iter(expected.values())))
    return ExportReport(str(path), precision, num_bytes, num_windows, difference, agreement, {})


def _scores(
    whole: _Whole, exported: OnnxModel, windows: Windows, chosen: np.ndarray
) -> dict[str, dict[str, float]]:
    """Macro-F1 of both on some windows, by task."""
    signals = windows.signals[chosen]
    said, given = _ask(whole.logits, signals), _ask(exported, signals)
    return {
        task: {
            "torch": macro_f1(windows.targets[task][chosen], said[task].argmax(1)),
            "onnx": macro_f1(windows.targets[task][chosen], given[task].argmax(1)),
        }
        for task in whole.tasks
    }
