"""``smoothdistill predict``: labels and confidences for the windows of the user's recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smoothdistill.commands.options import (
    DeviceOption,
    JsonOption,
    QuietOption,
    torch_device,
)

if TYPE_CHECKING:
    from smoothdistill.evaluation.predict import WindowPredictions
    from smoothdistill.onnx_model import OnnxModel
    from smoothdistill.training.model_checkpoint import ModelCheckpoint
    from smoothdistill.training.roles import Role

__all__ = ["predict"]


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE.onnx",
            help="A run folder, as `smoothdistill train` leaves it, or what `smoothdistill "
            "export` made of one.",
        ),
    ],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Recordings, CSV or Parquet.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.csv", help="Table to write.")
    ] = Path("predictions.csv"),
    channels: Annotated[
        str | None,
        typer.Option(
            help="Columns of the signal, by commas, in the order of the training data; by default "
            "the names that the model was trained with, else x,y,z."
        ),
    ] = None,
    time: Annotated[str | None, typer.Option(help="Column of times, if there is one.")] = None,
    time_unit: Annotated[str, typer.Option(help="Unit of the times: s, ms, us or ns.")] = "s",
    delimiter: Annotated[str, typer.Option(help="Character between the fields of a CSV.")] = ",",
    step_samples: Annotated[
        int | None,
        typer.Option(help="Hop between windows, in samples; by default the window's length."),
    ] = None,
    role: Annotated[
        str, typer.Option(help="student, teacher, or selected (what validation chose).")
    ] = "selected",
    fold: Annotated[
        int | None,
        typer.Option(help="Whose model to use; by default the one best in validation."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="What computes: torch, or onnx (ONNX Runtime, on the CPU); by default torch for "
            "a run and onnx for an exported file."
        ),
    ] = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict every window of recordings: a row per window with class and confidence per task.

    The recordings must have the training data's unit and sample rate. With a column of times the
    rate is checked, and no window crosses a gap.
    """
    from smoothdistill.evaluation.predict import predict_recordings, require_role
    from smoothdistill.evaluation.recordings import read_recordings
    from smoothdistill.onnx_model import OnnxModel

    known_role = require_role(role)
    model = _model(run, fold, known_role, engine)
    recordings = read_recordings(
        files,
        model,
        channels=None if channels is None else [name.strip() for name in channels.split(",")],
        time=time,
        time_unit=time_unit,
        delimiter=delimiter,
    )
    by_onnx = isinstance(model, OnnxModel)
    predicted = predict_recordings(
        model,
        recordings,
        step_samples=step_samples,
        role=known_role,
        device="cpu" if by_onnx and device in (None, "auto") else torch_device(device),
    )
    predicted.write_csv(output)
    _print(predicted, output, "onnx" if by_onnx else "torch", quiet=quiet, as_json=as_json)


def _model(
    run: Path, fold: int | None, role: Role | Literal["selected"], engine: str | None
) -> ModelCheckpoint | OnnxModel:
    """The model of a run or file, for the engine that was asked for."""
    from smoothdistill.evaluation.predict import choose_model
    from smoothdistill.export import as_onnx_model
    from smoothdistill.onnx_model import OnnxModel

    if engine not in (None, "torch", "onnx"):
        raise ValueError(f"`engine` must be torch or onnx, but is {engine!r} instead.")
    model = choose_model(run, fold)
    if isinstance(model, OnnxModel):
        if engine == "torch":
            raise ValueError("`engine` must be onnx for an exported file, but is 'torch' instead.")
        return model
    return as_onnx_model(model, role) if engine == "onnx" else model


def _print(
    predicted: WindowPredictions, output: Path, engine: str, *, quiet: bool, as_json: bool
) -> None:
    from smoothdistill.commands.output import print_json, print_lines, print_table

    counts: dict[str, dict[str, Any]] = {}
    for task, predictions in predicted.tasks.items():
        labels = predicted.labels(task)
        counts[task] = {
            name: {
                "num_windows": count,
                "mean_confidence": float(
                    sum(
                        confidence
                        for label, confidence in zip(labels, predictions.confidences, strict=True)
                        if label == name
                    )
                    / count
                ),
            }
            for name, count in Counter(labels).most_common()
        }
    if as_json:
        print_json(
            {
                "output": str(output),
                "num_windows": len(predicted),
                "role": predicted.role,
                "engine": engine,
                "tasks": counts,
            }
        )
    elif not quiet:
        rows = [
            (task, name, str(entry["num_windows"]), f"{entry['mean_confidence']:.2f}")
            for task, by_name in counts.items()
            for name, entry in by_name.items()
        ]
        print_table(("task", "class", "windows", "mean confidence"), rows, num_names=2)
        print_lines(f"{len(predicted)} windows by the {predicted.role} ({engine}): {output}")
