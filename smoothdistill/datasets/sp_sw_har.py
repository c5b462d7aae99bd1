"""Smartphone (pocket) and smartwatch (wrist) HAR of 23 subjects: Matey-Sanz et al. 2023."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.datasets.continuity import find_stretches, measured_rate_hz
from smoothdistill.datasets.delimited import Column, Layout, read_table
from smoothdistill.datasets.folders import find_folder, list_files
from smoothdistill.datasets.registry import Dataset, Source, register_dataset
from smoothdistill.datasets.reports import FileReport, median_norm
from smoothdistill.errors import DataError
from smoothdistill.windows import Recording

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SP_SW_HAR"]

_ACTIVITIES = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
_INDICES = {name: index for index, name in enumerate(_ACTIVITIES)}
_PLACEMENTS = ("pocket", "wrist")
_DEVICES = ("sp", "sw")
_CHANNELS = (
    "acceleration_x",
    "acceleration_y",
    "acceleration_z",
    "rotation_x",
    "rotation_y",
    "rotation_z",
)
_RATE_HZ = 100.0
_MAX_GAP_SECONDS = 0.25
_MILLISECONDS = 1e3
_FILE_NAME = r"s(\d+)_(\d+)_(sp|sw)\.csv"
_AXES = ("x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro")
_LAYOUT = Layout(
    title="sp_sw_har",
    columns=(
        *(Column(axis, "float64") for axis in _AXES),
        Column("timestamp", "int64"),
        Column("label", "string"),
    ),
    header=(*_AXES, "timestamp", "label"),
    is_timed=True,
)


def _find_sources(root: Path) -> list[Source]:
    folder = find_folder(root, ("DATA", "."), "s*/s*_*_s[pw].csv", SP_SW_HAR.source)
    return [
        Source((path,))
        for subject in sorted(folder.glob("s*"))
        if subject.is_dir()
        for path, _ in list_files(subject, _FILE_NAME)
    ]


def _read_source(source: Source) -> tuple[list[Recording], FileReport]:
    path = source.paths[0]
    match = re.fullmatch(_FILE_NAME, path.name)
    if match is None:
        raise DataError(
            f"`source` must be a file s<subject>_<execution>_<sp or sw>.csv, but is {path.name!r} "
            "instead."
        )
    table = read_table(path, _LAYOUT)
    activities = table.classes("label", _INDICES, f"one of {', '.join(_ACTIVITIES)}")
    milliseconds = table.integers("timestamp")
    signal = table.signal(*_AXES)
    seconds = (milliseconds - milliseconds[0]) / _MILLISECONDS
    stretches = find_stretches(seconds, max_gap_seconds=_MAX_GAP_SECONDS, sample_rate_hz=_RATE_HZ)
    edges = stretches.edges.tolist()
    placement = np.int64(_DEVICES.index(match[3]))
    recordings = [
        Recording(
            signal[start:stop],
            targets={
                "activity": activities[start:stop],
                "placement": np.broadcast_to(placement, stop - start),
            },
            subject=match[1],
            sample_rate_hz=_RATE_HZ,
            session=f"{match[2]}-{_PLACEMENTS[placement]}-{number:02d}",
            timestamps_seconds=seconds[start:stop],
            channel_names=_CHANNELS,
        )
        for number, (start, stop) in enumerate(pairwise(edges))
    ]
    rates = [measured_rate_hz(seconds[start:stop]) for start, stop in pairwise(edges)]
    report = FileReport(
        file=path.name,
        rows=table.num_rows,
        subjects=(match[1],),
        recordings=len(recordings),
        kept_samples=table.num_rows,
        gaps=stretches.gaps,
        backward_steps=stretches.backward_steps,
        tied_timestamps=stretches.tied_timestamps,
        rates_hz=tuple(rate for rate in rates if rate is not None),
        median_norm=median_norm(recordings),
    )
    return recordings, report


SP_SW_HAR = register_dataset(
    Dataset(
        name="sp-sw-har",
        title="sp_sw_har (phone in the pocket, watch on the wrist)",
        tasks=("activity", "placement"),
        class_names={
            "activity": tuple(name.lower() for name in _ACTIVITIES),
            "placement": _PLACEMENTS,
        },
        channel_names=_CHANNELS,
        units=("m/s²",) * 3 + ("rad/s",) * 3,
        licence="CC BY 4.0",
        citation=(
            "Matey-Sanz, Casteleyn, Granell: Dataset of inertial measurements of smartphones and "
            "smartwatches for human activity recognition. Data in Brief 51, 109809 (2023)"
        ),
        source=(
            "Get the sp-sw-har dataset from Zenodo (doi:10.5281/zenodo.8398688) and unpack it; "
            "`root` is the folder that holds `DATA`."
        ),
        sample_rate_hz=_RATE_HZ,
        step_samples=50,
        max_gap_seconds=_MAX_GAP_SECONDS,
        repairs=(
            "Timestamps are times of arrival in whole milliseconds: tied ones are kept in file "
            "order, and steps of up to 0.25 s are jitter.",
            "Every backward step and gap above 0.25 s begins a new recording.",
        ),
        find_sources=_find_sources,
        read_source=_read_source,
    )
)
