"""HAPT (postural transitions): raw acceleration and rotation of a phone at the waist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.datasets.delimited import Column, Layout, read_table
from smoothdistill.datasets.folders import find_folder, list_files
from smoothdistill.datasets.registry import Dataset, Source, register_dataset
from smoothdistill.datasets.reports import FileReport, median_norm
from smoothdistill.errors import DataError
from smoothdistill.windows import IGNORE_INDEX, Recording

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Int64

__all__ = ["HAPT"]

_ACTIVITIES = (
    "walking",
    "walking_upstairs",
    "walking_downstairs",
    "sitting",
    "standing",
    "laying",
    "stand_to_sit",
    "sit_to_stand",
    "sit_to_lie",
    "lie_to_sit",
    "stand_to_lie",
    "lie_to_stand",
)
_CHANNELS = (
    "acceleration_x",
    "acceleration_y",
    "acceleration_z",
    "rotation_x",
    "rotation_y",
    "rotation_z",
)
_RATE_HZ = 50.0
_CLIP_G = 2.0
_FILE_NAME = r"acc_exp(\d+)_user(\d+)\.txt"
_SIGNAL_LAYOUT = Layout(
    title="HAPT",
    columns=tuple(Column(axis, "float64") for axis in "xyz"),
    delimiter=" ",
)
_LABEL_LAYOUT = Layout(
    title="HAPT labels",
    columns=tuple(
        Column(name, "int64") for name in ("experiment", "user", "activity", "first", "last")
    ),
    delimiter=" ",
    is_timed=True,
)


def _find_sources(root: Path) -> list[Source]:
    raw = find_folder(root, ("RawData", "HAPT Data Set/RawData", "."), "acc_exp*.txt", HAPT.source)
    labels = raw / "labels.txt"
    sources = []
    for path, match in list_files(raw, _FILE_NAME):
        rotation = raw / f"gyro_exp{match[1]}_user{match[2]}.txt"
        for needed in (rotation, labels):
            if not needed.is_file():
                raise FileNotFoundError(
                    f"`{needed.name}` must lie beside {path.name}, but is absent instead."
                )
        sources.append(Source((path, rotation, labels)))
    return sources


def _read_source(source: Source) -> tuple[list[Recording], FileReport]:
    acceleration_path, rotation_path, label_path = source.paths
    match = re.fullmatch(_FILE_NAME, acceleration_path.name)
    if match is None:
        raise DataError(
            "`source` must be a file acc_exp<number>_user<number>.txt, but is "
            f"{acceleration_path.name!r} instead."
        )
    experiment, user = int(match[1]), int(match[2])
    acceleration = read_table(acceleration_path, _SIGNAL_LAYOUT)
    rotation = read_table(rotation_path, _SIGNAL_LAYOUT)
    if acceleration.num_rows != rotation.num_rows:
        raise DataError(
            f"`{rotation_path.name}` must hold {acceleration.num_rows} rows, as "
            f"{acceleration_path.name} does, but holds {rotation.num_rows} instead."
        )
    signal = np.concatenate(
        [acceleration.signal("x", "y", "z"), rotation.signal("x", "y", "z")], axis=1
    )
    activities = _activities(label_path, experiment, user, len(signal))
    recording = Recording(
        signal,
        targets={"activity": activities},
        subject=str(user),
        sample_rate_hz=_RATE_HZ,
        session=f"experiment-{experiment:02d}",
        channel_names=_CHANNELS,
    )
    num_clipped = int(np.count_nonzero((np.abs(signal[:, :3]) >= _CLIP_G).any(axis=1)))
    report = FileReport(
        file=acceleration_path.name,
        rows=len(signal),
        subjects=(str(user),),
        recordings=1,
        kept_samples=len(signal),
        rates_hz=(_RATE_HZ,),
        median_norm=median_norm([recording]),
        notes=(
            (f"{acceleration_path.name}: {num_clipped} samples reach the sensor's limit of 2 g",)
            if num_clipped
            else ()
        ),
    )
    return [recording], report


def _activities(
    path: Path, experiment: int, user: int, num_samples: int
) -> Int64[np.ndarray, " time"]:
    """Class index of every sample of one experiment; the rows of labels.txt count from 1."""
    table = read_table(path, _LABEL_LAYOUT)
    activity, first, last = (table.integers(name) for name in ("activity", "first", "last"))
    is_ours = table.integers("experiment") == experiment
    table.require("user", ~is_ours | (table.integers("user") == user), f"{user}, as in the signal")
    num_classes = len(_ACTIVITIES)
    table.require("activity", (activity >= 1) & (activity <= num_classes), f"in [1, {num_classes}]")
    table.require("first", first >= 1, "at least 1")
    table.require("last", last >= first, "at least the first row")
    table.require(
        "last", ~is_ours | (last <= num_samples), f"at most {num_samples}, the signal's last row"
    )
    if not is_ours.any():
        raise DataError(
            f"`{path.name}` must hold at least 1 row of experiment {experiment}, but holds none "
            "instead."
        )
    activities = np.full(num_samples, IGNORE_INDEX, dtype=np.int64)
    for row in np.flatnonzero(is_ours):
        labelled = activities[first[row] - 1 : last[row]]
        if (labelled != IGNORE_INDEX).any():
            raise table.error(int(row), "first", "after the last row of every other label")
        labelled[:] = activity[row] - 1
    return activities


HAPT = register_dataset(
    Dataset(
        name="hapt",
        title="HAPT (phone at the waist, with postural transitions)",
        tasks=("activity",),
        class_names={"activity": _ACTIVITIES},
        channel_names=_CHANNELS,
        units=("g",) * 3 + ("rad/s",) * 3,
        licence="cite the paper; any commercial use is prohibited",
        citation=(
            "Reyes-Ortiz, Oneto, Samà, Parra, Anguita: Transition-aware human activity recognition "
            "using smartphones. Neurocomputing 171 (2016)"
        ),
        source=(
            "Get Smartphone-Based Recognition of Human Activities and Postural Transitions from "
            "the UCI Machine Learning Repository (doi:10.24432/C54G7M) and unpack it; `root` is "
            "the folder that holds `RawData`."
        ),
        sample_rate_hz=_RATE_HZ,
        window_samples=128,
        step_samples=64,
        # UCI HAR's list: a test on the real labels finds the same volunteers under the same numbers
        test_subjects=("2", "4", "9", "10", "12", "13", "18", "20", "24"),
        repairs=(
            "Samples between two labels are unlabelled: the losses and scores pass over them.",
            "Samples clipped at 2 g are kept and counted.",
        ),
        find_sources=_find_sources,
        read_source=_read_source,
    )
)
