"""Tests of the MHEALTH loader: a recording per placement, the right columns, a checked label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError

NAME = "mHealth_subject1.log"


@pytest.fixture
def root(write_dataset: Callable[[str], Path]) -> Path:
    return write_dataset("mhealth")


def test_a_recording_for_each_placement_from_its_columns(root: Path) -> None:
    columns = np.loadtxt(root / NAME)
    recordings = datasets.load_recordings("mhealth", root=root)[:3]
    assert [recording.session for recording in recordings] == [
        "chest",
        "left ankle",
        "right lower arm",
    ]
    for index, (recording, first) in enumerate(zip(recordings, (0, 5, 14), strict=True)):
        np.testing.assert_array_equal(
            recording.signal, columns[:, first : first + 3].astype(np.float32)
        )
        np.testing.assert_array_equal(recording.targets["activity"], columns[:, 23])
        np.testing.assert_array_equal(recording.targets["placement"], np.full(300, index))


def test_subjects_are_in_order_and_the_null_class_is_kept(root: Path) -> None:
    windows = datasets.load("mhealth", root=root)
    assert list(dict.fromkeys(windows.subjects.tolist())) == ["1", "2", "10"]
    assert set(windows.targets["activity"].tolist()) == {0, 4}


def test_another_number_of_rows_than_released_is_noted(root: Path) -> None:
    notes = datasets.check("mhealth", root).to_dict()["notes"]
    assert notes[0] == "mHealth_subject1.log: 300 rows, the release has 161280"
    assert len(notes) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\t0\n", "\t13\n", rf"`{NAME}:1:24` \(label\) must be in \[0, 12\], but is '13' instead"),
        ("\t0\n", "\n", rf"`{NAME}:1` must hold 24 fields \(MHEALTH\), but holds 23 instead"),
        (
            "\t0\n",
            "\twalk\n",
            rf"`{NAME}:1:24` \(label\) must be an integer, but is 'walk' instead",
        ),
        ("\t0\n", "\t0", rf"`{NAME}:1` must hold 24 fields \(MHEALTH\), but holds 47 instead"),
    ],
)
def test_faults(old: str, new: str, message: str, root: Path) -> None:
    text = (root / NAME).read_text().replace(old, new, 1)
    (root / NAME).write_bytes(text.encode())
    with pytest.raises(DataError, match=message):
        datasets.load("mhealth", root=root)


def test_a_file_twice_over(root: Path) -> None:
    (root / NAME).write_bytes((root / NAME).read_bytes() * 2)
    with pytest.raises(DataError, match=f"`{NAME}` must hold each record once"):
        datasets.load("mhealth", root=root)
