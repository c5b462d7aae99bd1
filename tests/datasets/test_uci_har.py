"""Tests of the UCI HAR loader: windows as published, lists that fit, volunteers on one side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError


@pytest.fixture
def root(write_dataset: Callable[[str], Path]) -> Path:
    return write_dataset("uci-har")


def test_windows_are_those_of_the_files(root: Path) -> None:
    windows = datasets.load("uci-har", root=root)
    assert windows.signals.shape == (18, 6, 128)
    for channel, signal in enumerate(("total_acc_y", "body_gyro_z")):
        parts = [
            np.loadtxt(root / part / "Inertial Signals" / f"{signal}_{part}.txt")
            for part in ("train", "test")
        ]
        expected = np.concatenate(parts).astype(np.float32)
        np.testing.assert_array_equal(windows.signals[:, (1, 5)[channel]], expected)
    assert windows.targets["activity"].tolist() == [0, 1, 2, 3, 4, 5] * 3
    assert windows.subjects.tolist() == ["1"] * 6 + ["3"] * 6 + ["2"] * 6


def test_the_report_notes_a_part_of_the_release(root: Path) -> None:
    report = datasets.check("uci-har", root)
    assert report.unit_evidence == "g"
    assert report.to_dict()["notes"] == [
        "train: 12 windows, the release has 7352",
        "test: 6 windows, the release has 2947",
    ]


def test_a_volunteer_in_both_parts(root: Path) -> None:
    (root / "test" / "subject_test.txt").write_bytes(b"3\n" * 6)
    with pytest.raises(
        DataError, match=r"`subject_test.txt` must name no volunteer of subject_train"
    ):
        datasets.load("uci-har", root=root)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "test/y_test.txt",
            b"1\n2\n7\n1\n1\n1\n",
            r"`y_test.txt:3:1` \(number\) must be in \[1, 6\]",
        ),
        (
            "test/subject_test.txt",
            b"2\n" * 5,
            "`subject_test.txt` must hold 6 rows.*holds 5 instead",
        ),
        ("test/subject_test.txt", b"31\n" * 6, r"`subject_test.txt:1:1` .* must be in \[1, 30\]"),
        (
            "test/Inertial Signals/body_gyro_x_test.txt",
            b"1 2 3\n",
            r"`body_gyro_x_test.txt:1` must hold 128 fields \(UCI HAR\), but holds 3 instead",
        ),
    ],
)
def test_faults(name: str, text: bytes, message: str, root: Path) -> None:
    (root / name).write_bytes(text)
    with pytest.raises(DataError, match=message):
        datasets.load("uci-har", root=root)


def test_a_signal_of_another_length(root: Path) -> None:
    path = root / "train" / "Inertial Signals" / "total_acc_z_train.txt"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-2]) + b"\n")
    with pytest.raises(
        DataError, match=r"`total_acc_z_train.txt` must hold 12 rows.*holds 11 instead"
    ):
        datasets.load("uci-har", root=root)
