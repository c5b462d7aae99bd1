"""UCI HAR: windows of 128 samples, cut and published by its authors, with 50 % overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.datasets.delimited import Column, Layout, read_table
from smoothdistill.datasets.folders import find_folder
from smoothdistill.datasets.registry import Dataset, register_dataset
from smoothdistill.datasets.reports import FileReport, unit_of_norm
from smoothdistill.errors import DataError
from smoothdistill.windows import Windows

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32, Int64

__all__ = ["UCI_HAR"]

_ACTIVITIES = (
    "walking",
    "walking_upstairs",
    "walking_downstairs",
    "sitting",
    "standing",
    "laying",
)
_PARTS = ("train", "test")
_SIGNALS = ("total_acc", "body_gyro")
_CHANNELS = (
    "acceleration_x",
    "acceleration_y",
    "acceleration_z",
    "rotation_x",
    "rotation_y",
    "rotation_z",
)
_RATE_HZ = 50.0
_WINDOW_SAMPLES = 128
_NUM_SUBJECTS = 30
_PUBLISHED_WINDOWS = {"train": 7352, "test": 2947}
_SIGNAL_LAYOUT = Layout(
    title="UCI HAR",
    columns=tuple(Column(f"sample_{number}", "float64") for number in range(_WINDOW_SAMPLES)),
    delimiter=" ",
)
_NUMBER_LAYOUT = Layout(title="UCI HAR", columns=(Column("number", "int64"),), delimiter=" ")


def _read_windows(root: Path) -> tuple[Windows, list[FileReport]]:
    folder = find_folder(
        root,
        (".", "UCI HAR Dataset"),
        "train/Inertial Signals/total_acc_x_train.txt",
        UCI_HAR.source,
    )
    signals, activities, subjects, reports = [], [], [], []
    for part in _PARTS:
        part_activities = _numbers(folder / part / f"y_{part}.txt", len(_ACTIVITIES), None)
        num_windows = len(part_activities)
        part_subjects = _numbers(folder / part / f"subject_{part}.txt", _NUM_SUBJECTS, num_windows)
        part_signals = _signals(folder / part / "Inertial Signals", part, num_windows)
        signals.append(part_signals)
        activities.append(part_activities - 1)
        subjects.append(part_subjects)
        reports.append(_report(part, part_signals, part_subjects))
    shared = np.intersect1d(subjects[0], subjects[1])
    if shared.size:
        raise DataError(
            "`subject_test.txt` must name no volunteer of subject_train.txt, but names "
            f"{shared[0]} instead."
        )
    windows = Windows(
        np.concatenate(signals),
        targets={"activity": np.concatenate(activities)},
        subjects=np.concatenate(subjects),
        sample_rate_hz=_RATE_HZ,
        class_names={"activity": _ACTIVITIES},
        channel_names=_CHANNELS,
        name="uci-har",
    )
    return windows, reports


def _signals(folder: Path, part: str, num_windows: int) -> Float32[np.ndarray, "windows 6 128"]:
    signals = np.empty((num_windows, len(_CHANNELS), _WINDOW_SAMPLES), dtype=np.float32)
    names = [f"{signal}_{axis}_{part}.txt" for signal in _SIGNALS for axis in "xyz"]
    for channel, name in enumerate(names):
        table = read_table(folder / name, _SIGNAL_LAYOUT)
        _check_rows(folder / name, table.num_rows, num_windows)
        signals[:, channel] = table.signal(*(column.name for column in _SIGNAL_LAYOUT.columns))
    return signals


def _numbers(path: Path, largest: int, num_windows: int | None) -> Int64[np.ndarray, " windows"]:
    table = read_table(path, _NUMBER_LAYOUT)
    numbers = table.integers("number")
    table.require("number", (numbers >= 1) & (numbers <= largest), f"in [1, {largest}]")
    if num_windows is not None:
        _check_rows(path, table.num_rows, num_windows)
    return numbers


def _check_rows(path: Path, num_rows: int, num_windows: int) -> None:
    if num_rows != num_windows:
        raise DataError(
            f"`{path.name}` must hold {num_windows} rows, one for each label, but holds {num_rows} "
            "instead."
        )


def _report(part: str, signals: np.ndarray, subjects: np.ndarray) -> FileReport:
    norm = float(np.median(np.linalg.norm(signals[:, :3, ::8].astype(np.float64), axis=1)))
    notes = []
    if len(signals) != _PUBLISHED_WINDOWS[part]:
        notes.append(f"{part}: {len(signals)} windows, the release has {_PUBLISHED_WINDOWS[part]}")
    if unit_of_norm(norm) != "g":
        notes.append(f"{part}: the median norm is {norm:.3g}, not near 1 g")
    return FileReport(
        file=part,
        rows=len(signals) * _WINDOW_SAMPLES,
        subjects=tuple(str(subject) for subject in np.unique(subjects)),
        recordings=0,
        kept_samples=len(signals) * _WINDOW_SAMPLES,
        median_norm=norm,
        notes=tuple(notes),
    )


UCI_HAR = register_dataset(
    Dataset(
        name="uci-har",
        title="UCI HAR (phone at the waist, windows as published)",
        tasks=("activity",),
        class_names={"activity": _ACTIVITIES},
        channel_names=_CHANNELS,
        units=("g",) * 3 + ("rad/s",) * 3,
        licence="cite the paper; no commercial use",
        citation=(
            "Anguita, Ghio, Oneto, Parra, Reyes-Ortiz: A public domain dataset for human activity "
            "recognition using smartphones. ESANN (2013)"
        ),
        source=(
            "Get Human Activity Recognition Using Smartphones from the UCI Machine Learning "
            "Repository (doi:10.24432/C54S4K) and unpack it; `root` is `UCI HAR Dataset`."
        ),
        sample_rate_hz=_RATE_HZ,
        window_samples=_WINDOW_SAMPLES,
        step_samples=_WINDOW_SAMPLES // 2,
        test_subjects=("2", "4", "9", "10", "12", "13", "18", "20", "24"),
        repairs=(
            "Windows come cut: neighbours share 64 samples, so only splits by subject are clean.",
            "Total acceleration and rotation are read; activity_labels.txt is not.",
        ),
        read_windows=_read_windows,
    )
)
