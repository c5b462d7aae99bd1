"""Tests of the HAPT loader: labels by row, unlabelled stretches, files that do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError
from smoothdistill.windows import IGNORE_INDEX


@pytest.fixture
def root(write_dataset: Callable[[str], Path]) -> Path:
    return write_dataset("hapt")


def labels(root: Path) -> Path:
    return root / "RawData" / "labels.txt"


def test_rows_of_labels_count_from_1_and_include_the_last(root: Path) -> None:
    recording = datasets.load_recordings("hapt", root=root)[0]
    activity = recording.targets["activity"]
    assert recording.signal.shape == (600, 6)
    assert set(activity[:19]) == set(activity[340:399]) == {IGNORE_INDEX}
    assert set(activity[19:300]) == {4}
    assert set(activity[300:340]) == {6}
    assert set(activity[399:600]) == {11}
    assert recording.subject == "1"
    assert recording.session == "experiment-01"
    assert recording.timestamps_seconds is None
    assert abs(recording.signal[:, 0].mean() - 1.0) < 0.1
    assert np.abs(recording.signal[:, 3:].mean(axis=0)).max() < 0.1


def test_unlabelled_samples_make_no_window(root: Path) -> None:
    windows = datasets.load("hapt", root=root)
    assert IGNORE_INDEX not in windows.targets["activity"]
    assert np.bincount(windows.targets["activity"]).tolist() == [0] * 4 + [9] + [0] * 6 + [6]


def test_clipped_samples_are_counted(root: Path) -> None:
    path = root / "RawData" / "acc_exp01_user01.txt"
    lines = path.read_bytes().split(b"\n")
    lines[7] = b"2.0 0.1 -0.3 "
    path.write_bytes(b"\n".join(lines))
    notes = datasets.check("hapt", root).to_dict()["notes"]
    assert notes == ["acc_exp01_user01.txt: 1 samples reach the sensor's limit of 2 g"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 5 20 30", r"`labels.txt:10:2` \(user\) must be 1, as in the signal, but is '2'"),
        ("1 1 13 350 360", r"`labels.txt:10:3` \(activity\) must be in \[1, 12\], but is '13'"),
        ("1 1 5 0 10", r"`labels.txt:10:4` \(first\) must be at least 1, but is '0' instead"),
        ("1 1 5 360 350", r"`labels.txt:10:5` \(last\) must be at least the first row"),
        ("1 1 5 341 601", r"`labels.txt:10:5` \(last\) must be at most 600, the signal's last"),
        ("1 1 5 290 310", r"`labels.txt:10:4` \(first\) must be after the last row of every other"),
        ("1 1 5 20", r"`labels.txt:10` must hold 5 fields \(HAPT labels\), but holds 4 instead"),
    ],
)
def test_labels_that_do_not_fit(line: str, message: str, root: Path) -> None:
    labels(root).write_bytes(labels(root).read_bytes() + line.encode() + b"\n")
    with pytest.raises(DataError, match=message):
        datasets.load("hapt", root=root)


def test_an_experiment_without_labels(root: Path) -> None:
    lines = labels(root).read_text().splitlines()
    labels(root).write_bytes(("\n".join(line for line in lines if line[0] != "3") + "\n").encode())
    with pytest.raises(DataError, match=r"`labels.txt` must hold at least 1 row of experiment 3"):
        datasets.load("hapt", root=root)


def test_signals_of_unequal_length(root: Path) -> None:
    path = root / "RawData" / "gyro_exp02_user01.txt"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-3]) + b"\n")
    with pytest.raises(DataError, match=r"`gyro_exp02_user01.txt` must hold 600 rows.*holds 598"):
        datasets.load("hapt", root=root)


@pytest.mark.parametrize("name", ["labels.txt", "gyro_exp03_user02.txt"])
def test_a_file_that_is_missing(name: str, root: Path) -> None:
    (root / "RawData" / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"`{name}` must lie beside acc_exp.*absent instead"
    ):
        datasets.load("hapt", root=root)
