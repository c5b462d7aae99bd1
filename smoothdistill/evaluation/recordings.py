"""The user's own files as recordings for a trained model: no labels, channels by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smoothdistill.datasets.continuity import measured_rate_hz
from smoothdistill.datasets.own_tables import TICKS_PER_SECOND, column_names, read_own_table
from smoothdistill.onnx_model import OnnxModel
from smoothdistill.training.model_checkpoint import ModelCheckpoint
from smoothdistill.windows import Recording

__all__ = ["UNLABELLED", "as_recording", "read_recordings"]

UNLABELLED = "unlabelled"
"""Name of the task that unlabelled recordings carry, since a recording needs one."""

_DEFAULT_CHANNELS = ("x", "y", "z")


def read_recordings(
    paths: Sequence[str | Path],
    trained: ModelCheckpoint | OnnxModel,
    *,
    channels: Sequence[str] | None = None,
    time: str | None = None,
    time_unit: str = "s",
    delimiter: str = ",",
) -> list[Recording]:
    """Read CSV files with a header line, or Parquet files, one recording each.

    Args:
        paths: The files.
        trained: The model that is to read them: its channel names and sample rate.
        channels: Columns of the signal, in the order of the training data; by default the names
            that the model was trained with, or x, y, z where it knows none.
        time: Column of times. Without it the model's sample rate is taken for granted.
        time_unit: "s", "ms", "us" or "ns".
        delimiter: Character between the fields of a CSV file.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If an option breaks its rule.
        DataError: If a file lacks a column or has a bad cell.
        ExportError: If an exported file does not say what it reads.
    """
    model = trained.description
    if time_unit not in TICKS_PER_SECOND:
        raise ValueError(
            f"`time_unit` must be one of {list(TICKS_PER_SECOND)}, but is {time_unit!r} instead."
        )
    if len(delimiter) != 1:
        raise ValueError(f"`delimiter` must be 1 character, but is {delimiter!r} instead.")
    chosen = tuple(channels or model.channel_names or _DEFAULT_CHANNELS)
    if len(chosen) != model.num_channels:
        raise ValueError(
            f"`channels` must name the {model.num_channels} columns that the model reads, but "
            f"names {len(chosen)} ({', '.join(chosen)}) instead."
        )
    recordings = []
    for path in map(Path, paths):
        if not path.is_file():
            raise FileNotFoundError(
                f"`file` must be a recording, but {str(path)!r} does not exist instead."
            )
        table = read_own_table(
            path,
            names=column_names(path, delimiter),
            channels=chosen,
            time=time,
            time_unit=time_unit,
            words=(),
            delimiter=delimiter,
        )
        rate = None if table.seconds is None else measured_rate_hz(table.seconds)
        recordings.append(
            as_recording(
                table.signal,
                sample_rate_hz=rate or model.sample_rate_hz,
                session=path.name,
                seconds=table.seconds,
            )
        )
    return recordings


def as_recording(
    signal: np.ndarray,
    *,
    sample_rate_hz: float,
    session: str,
    seconds: np.ndarray | None = None,
) -> Recording:
    """A recording without labels.

    Args:
        signal: Samples, [time, channels], in the unit of the training data.
        sample_rate_hz: Samples per second.
        session: Name for messages and tables.
        seconds: Time of every sample, in seconds.
    """
    return Recording(
        signal,
        {UNLABELLED: np.broadcast_to(np.int64(0), len(signal))},
        subject="unknown",
        sample_rate_hz=sample_rate_hz,
        session=session,
        timestamps_seconds=seconds,
    )
