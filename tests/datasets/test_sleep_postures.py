"""Tests of the sleep postures loader: two text layouts, labels from the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError

PLAIN = "x,y,z\n" + "".join(f"{row},0.5,-9.5\n" for row in range(120))


def test_labels_come_from_the_name(write_dataset: Callable[[str], Path]) -> None:
    windows = datasets.load("sleep-postures", root=write_dataset("sleep-postures"))
    names = windows.class_names
    assert {names["posture"][index] for index in windows.targets["posture"]} == {"up", "rightdown"}
    assert names["placement"] == ("neck", "chest", "belly")
    assert set(windows.subjects.tolist()) == {"an", "binh"}
    assert np.bincount(windows.targets["placement"]).tolist() == [12, 12, 12]


@pytest.mark.parametrize(
    ("name", "subject", "posture", "placement"),
    [
        ("s1-LeftUp-CO.txt", "s1", "leftup", "neck"),
        ("nguc down 07.csv", "07", "down", "chest"),
        ("anna/bung_upright.txt", "anna", "upright", "belly"),
    ],
)
def test_forms_of_the_name(
    name: str, subject: str, posture: str, placement: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(PLAIN.encode())
    windows = datasets.load("sleep-postures", root=tmp_path)
    assert windows.subjects.tolist() == [subject]
    assert windows.class_names["posture"][windows.targets["posture"][0]] == posture
    assert windows.class_names["placement"][windows.targets["placement"][0]] == placement


def test_files_of_other_names_are_no_recordings(tmp_path: Path) -> None:
    (tmp_path / "readme_up.txt").write_bytes(b"not read")
    (tmp_path / "up_down_co.txt").write_bytes(b"not read")
    with pytest.raises(FileNotFoundError, match="`root` must be a folder with files named after a"):
        datasets.load("sleep-postures", root=tmp_path)


def test_times_are_kept_where_their_unit_is_told(tmp_path: Path) -> None:
    ticks = [20 * row for row in range(150)] + [10_000 + 20 * row for row in range(150)]
    text = "".join(f"{tick},{row},0.5,-9.5;\n" for row, tick in enumerate(ticks))
    (tmp_path / "s1_up_co.txt").write_bytes(text.encode())
    (recording,) = datasets.load_recordings("sleep-postures", root=tmp_path)
    assert recording.timestamps_seconds is None
    timed = datasets.load_recordings(
        "sleep-postures", root=tmp_path, seconds_per_tick=0.001, sample_rate_hz=50.0
    )
    assert [len(recording) for recording in timed] == [150, 150]
    np.testing.assert_allclose(timed[0].timestamps_seconds, np.arange(150) / 50.0)


def test_a_step_back_begins_a_new_recording(tmp_path: Path) -> None:
    ticks = [*range(150), *range(110)]
    text = "".join(f"{tick},{row},0.5,-9.5;\n" for row, tick in enumerate(ticks))
    (tmp_path / "s1_up_co.txt").write_bytes(text.encode())
    recordings = datasets.load_recordings("sleep-postures", root=tmp_path)
    assert [len(recording) for recording in recordings] == [150, 110]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n", r"`s1_up_co.txt:1` must be the header 'x,y,z'"),
        ("1,2,3\n4,5,6\n", r"`s1_up_co.txt:1` must be the header 'x,y,z'"),
        ("0,1,2,3;\n1,2,3;\n", r"`s1_up_co.txt:2` must hold 4 fields .*, but holds 3 instead"),
        ("0,1,2,3;\n1,2,3,4", r"`s1_up_co.txt:2` must end with ';' \(the file is cut\)"),
    ],
)
def test_faults(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s1_up_co.txt").write_bytes(text.encode())
    with pytest.raises(DataError, match=message):
        datasets.load("sleep-postures", root=tmp_path)
