"""MHEALTH: chest, left ankle and right lower arm, one recording for each placement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.datasets.delimited import Column, Layout, read_table
from smoothdistill.datasets.folders import find_folder, list_files
from smoothdistill.datasets.registry import Dataset, Source, register_dataset
from smoothdistill.datasets.reports import FileReport, median_norm
from smoothdistill.errors import DataError
from smoothdistill.windows import Recording

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MHEALTH"]

_ACTIVITIES = (
    "null",
    "standing still",
    "sitting and relaxing",
    "lying down",
    "walking",
    "climbing stairs",
    "waist bends forward",
    "frontal elevation of arms",
    "knees bending",
    "cycling",
    "jogging",
    "running",
    "jump front and back",
)
_PLACEMENTS = ("chest", "left ankle", "right lower arm")
_PREFIXES = ("chest", "ankle", "arm")
_CHANNELS = ("acceleration_x", "acceleration_y", "acceleration_z")
_RATE_HZ = 50.0
_FILE_NAME = r"mHealth_subject(\d+)\.log"
_PUBLISHED_ROWS = (161280, 130561, 122112, 116736, 119808, 98304, 104448, 129024, 135168, 98304)
_LAYOUT = Layout(
    title="MHEALTH",
    columns=(
        *(Column(f"chest_acceleration_{axis}", "float64") for axis in "xyz"),
        *(Column(f"electrocardiogram_{lead}", "float64") for lead in "12"),
        *(
            Column(f"{place}_{sensor}_{axis}", "float64")
            for place in ("ankle", "arm")
            for sensor in ("acceleration", "rotation", "magnetometer")
            for axis in "xyz"
        ),
        Column("label", "int64"),
    ),
    delimiter=" ",
)


def _find_sources(root: Path) -> list[Source]:
    folder = find_folder(
        root, (".", "MHEALTHDATASET", "MHEALTH"), "mHealth_subject*.log", MHEALTH.source
    )
    logs = sorted(list_files(folder, _FILE_NAME), key=lambda log: int(log[1][1]))
    return [Source((path,)) for path, _ in logs]


def _read_source(source: Source) -> tuple[list[Recording], FileReport]:
    path = source.paths[0]
    match = re.fullmatch(_FILE_NAME, path.name)
    if match is None:
        raise DataError(
            f"`source` must be a file mHealth_subject<number>.log, but is {path.name!r} instead."
        )
    table = read_table(path, _LAYOUT)
    activities = table.integers("label")
    table.require(
        "label",
        (activities >= 0) & (activities < len(_ACTIVITIES)),
        f"in [0, {len(_ACTIVITIES) - 1}]",
    )
    recordings = [
        Recording(
            table.signal(*(f"{prefix}_acceleration_{axis}" for axis in "xyz")),
            targets={
                "activity": activities,
                "placement": np.broadcast_to(np.int64(index), table.num_rows),
            },
            subject=match[1],
            sample_rate_hz=_RATE_HZ,
            session=_PLACEMENTS[index],
            channel_names=_CHANNELS,
        )
        for index, prefix in enumerate(_PREFIXES)
    ]
    report = FileReport(
        file=path.name,
        rows=table.num_rows,
        subjects=(match[1],),
        recordings=len(recordings),
        kept_samples=sum(len(recording) for recording in recordings),
        rates_hz=(_RATE_HZ,) * len(recordings),
        median_norm=median_norm(recordings),
        notes=_notes(path, int(match[1]), table.num_rows),
    )
    return recordings, report


def _notes(path: Path, subject: int, num_rows: int) -> tuple[str, ...]:
    if not 1 <= subject <= len(_PUBLISHED_ROWS) or num_rows == _PUBLISHED_ROWS[subject - 1]:
        return ()
    return (f"{path.name}: {num_rows} rows, the release has {_PUBLISHED_ROWS[subject - 1]}",)


MHEALTH = register_dataset(
    Dataset(
        name="mhealth",
        title="MHEALTH (chest, ankle and arm accelerometers)",
        tasks=("activity", "placement"),
        class_names={"activity": _ACTIVITIES, "placement": _PLACEMENTS},
        channel_names=_CHANNELS,
        units=("m/s²",) * 3,
        licence="cite the papers",
        citation=(
            "Banos et al.: mHealthDroid: a novel framework for agile development of mobile health "
            "applications. IWAAL (2014)"
        ),
        source=(
            "Get MHEALTH from the UCI Machine Learning Repository (doi:10.24432/C5TW22) and unpack "
            "it; `root` is the folder `MHEALTHDATASET`."
        ),
        sample_rate_hz=_RATE_HZ,
        repairs=(
            "The null class (0) is kept as a class, as in the paper; it holds 72 % of the samples.",
            "Electrocardiogram, gyroscopes and magnetometers are checked but not used.",
        ),
        find_sources=_find_sources,
        read_source=_read_source,
    )
)
