"""Tests of the WISDM v1.1 loader: one raw text or a CSV per user, and what either needs mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError

RAW = "WISDM_ar_v1.1_raw.txt"
Write = Callable[[str], Path | None]


def write_raw(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RAW).write_bytes(text.encode())
    return folder


def by_subject(root: Path | None) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for recording in datasets.load_recordings("wisdm-v1.1", root=root, cache=False):
        found.setdefault(recording.subject, []).append(recording.signal)
    return found


def test_the_mended_rows(write_dataset: Write) -> None:
    root = write_dataset("wisdm-v1.1")
    report = datasets.check("wisdm-v1.1", root)
    assert report.rows == 2 * 243
    assert report.subjects == ("7", "33")
    assert report.repairs == {"rows without a time dropped": 2, "exact duplicates dropped": 2}
    values = report.to_dict()
    assert values["duplicates"] == 2
    assert values["gaps"] == 2  # one of 3 s in each user's rows; that of the dropped row is none
    assert values["tied_timestamps"] == 2
    assert values["kept_samples"] == 2 * 241


def test_both_layouts_give_the_same_recordings(
    write_dataset: Write, v1_1_rows: list[str], tmp_path: Path
) -> None:
    raw = write_raw(tmp_path / "raw", ";\n".join(v1_1_rows) + ";\n")
    expected = by_subject(write_dataset("wisdm-v1.1"))
    found = by_subject(raw)
    assert found.keys() == expected.keys() == {"7", "33"}
    for subject, signals in expected.items():
        for left, right in zip(found[subject], signals, strict=True):
            np.testing.assert_array_equal(left, right)


def test_the_raw_text_is_mended(v1_1_rows: list[str], tmp_path: Path) -> None:
    plain = write_raw(tmp_path / "plain", ";\n".join(v1_1_rows) + ";\n")
    odd_rows = list(v1_1_rows)
    odd_rows[5] += ","  # a comma too many
    odd_rows[9] += ",,"
    odd_rows.insert(20, "33,Jogging,49105962400001,0.5,0.7,")  # no z
    odd_rows.insert(30, "33,Jogging,49105962400002,,0.7,9.1")  # no x
    text = ";\n".join(odd_rows) + ";\n"
    text = text.replace(";\n33,", ";33,", 3)  # records side by side
    text = text.replace(";\n33,", ";\n\n33,", 2)  # blank lines
    odd = write_raw(tmp_path / "odd", text)
    report = datasets.check("wisdm-v1.1", odd)
    mended = report.repairs
    assert mended["records that began in the middle of a line"] == 3
    assert mended["commas after the last value removed"] == 3
    assert mended["records with a missing value dropped"] == 2
    assert report.rows == datasets.check("wisdm-v1.1", plain).rows + 2
    for subject, signals in by_subject(plain).items():
        for left, right in zip(by_subject(odd)[subject], signals, strict=True):
            np.testing.assert_array_equal(left, right)


def test_rows_of_zeros_with_a_time_are_dropped(tmp_path: Path) -> None:
    rows = [f"1,Walking,{5 * 10**7 * (row + 1)},{row % 3},0,{-(row % 3)}" for row in range(200)]
    root = write_raw(tmp_path, ";\n".join(rows) + ";\n")
    assert datasets.check("wisdm-v1.1", root).repairs == {"rows of zeros dropped": 67}


def test_a_block_that_is_repeated_later_is_dropped(tmp_path: Path) -> None:
    rows = [f"1,Walking,{5 * 10**7 * (row + 1)},{row},9,{-row}" for row in range(300)]
    text = ";\n".join(rows + rows[100:200]) + ";\n"
    (recording,) = datasets.load_recordings("wisdm-v1.1", root=write_raw(tmp_path, text))
    assert len(recording) == 300


FAULTS = {
    "unknown activity": (
        "1,Flying,100,1,2,3;\n",
        rf"`{RAW}:1:2` \(activity\) must be one of Walking, .*, but is 'Flying' instead",
    ),
    "text for a number": (
        "1,Walking,100,1,2,3;\n\n1,Walking,200,1,up,3;\n",
        rf"`{RAW}:3:5` \(y\) must be a finite number, but is 'up' instead",
    ),
    "five fields": (
        "1,Walking,100,1,2,3;1,Walking,200,1,2;\n",
        rf"`{RAW}:1` must hold 6 fields \(WISDM v1.1\), but holds 5 instead",
    ),
    "cut": (
        "1,Walking,100,1,2,3;\n1,Walking,150,1,",
        rf"`{RAW}:2` must end with ';' \(the file is",
    ),
    "negative time": (
        "1,Walking,-100,1,2,3;\n",
        rf"`{RAW}:1:3` \(timestamp\) must be at least 0, but is '-100' instead",
    ),
    "WISDM 2019": (
        "1600,A,252207666810782,-0.36,8.79,1.05;\n",
        rf"`{RAW}:1:2` \(activity\) must be one of Walking, .*, but is 'A' instead",
    ),
    "nothing whole": ("1,Walking,100,,,;\n", rf"`{RAW}` must hold at least 1 whole record"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(kind: str, tmp_path: Path) -> None:
    text, message = FAULTS[kind]
    with pytest.raises(DataError, match=message):
        datasets.load("wisdm-v1.1", root=write_raw(tmp_path, text))


def test_a_user_file_holds_its_user_only(write_dataset: Write) -> None:
    root = write_dataset("wisdm-v1.1")
    assert root is not None
    path = root / "wisdm_subject7.csv"
    path.write_bytes(path.read_bytes() + b"8,Walking,5,1,2,3\n")
    message = r"`wisdm_subject7.csv:245:1` \(user\) must be 7, as in the file's name, but is '8'"
    with pytest.raises(DataError, match=message):
        datasets.load("wisdm-v1.1", root=root)
