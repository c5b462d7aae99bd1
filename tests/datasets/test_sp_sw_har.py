"""Tests of the sp_sw_har loader: tied times are kept, gaps and backward steps are borders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError


@pytest.fixture
def root(write_dataset: Callable[[str], Path]) -> Path:
    return write_dataset("sp-sw-har")


def change(root: Path, edit: Callable[[list[str]], None]) -> None:
    path = root / "DATA" / "s01" / "s01_01_sp.csv"
    lines = path.read_text().splitlines()
    edit(lines)
    path.write_bytes(("\n".join(lines) + "\n").encode())


def test_ties_are_kept_and_counted(root: Path) -> None:
    report = datasets.check("sp-sw-har", root)
    assert report.files[0].tied_timestamps == 107
    assert report.files[0].kept_samples == report.files[0].rows == 750
    recording = datasets.load_recordings("sp-sw-har", root=root)[0]
    assert recording.subject == "01"
    assert recording.timestamps_seconds is not None
    assert (np.diff(recording.timestamps_seconds) >= 0).all()
    assert recording.targets["activity"].tolist() == np.repeat(range(5), 150).tolist()


def test_a_gap_and_a_step_back_begin_recordings(root: Path) -> None:
    def edit(lines: list[str]) -> None:
        for row in range(300, 500):
            fields = lines[1 + row].split(",")
            fields[6] = str(int(fields[6]) + 500)
            lines[1 + row] = ",".join(fields)

    change(root, edit)
    lengths = [len(r) for r in datasets.load_recordings("sp-sw-har", root=root)[:3]]
    assert lengths == [300, 200, 250]


def test_placements_of_one_subject_share_it(root: Path) -> None:
    windows = datasets.load("sp-sw-har", root=root)
    assert windows.class_names["placement"] == ("pocket", "wrist")
    assert set(windows.subjects.tolist()) == {"01", "02"}
    assert np.bincount(windows.targets["placement"]).tolist() == [20, 20]


def test_an_unknown_label(root: Path) -> None:
    def edit(lines: list[str]) -> None:
        lines[4] = lines[4].replace("SEATED", "SLEEPING")

    change(root, edit)
    message = r"`s01_01_sp.csv:5:8` \(label\) must be one of SEATED, .*, but is 'SLEEPING' instead"
    with pytest.raises(DataError, match=message):
        datasets.load("sp-sw-har", root=root)


def test_a_repeated_header(root: Path) -> None:
    change(root, lambda lines: lines.insert(9, lines[0]))
    with pytest.raises(
        DataError, match=r"`s01_01_sp.csv:10` must be a row of numbers, but repeats"
    ):
        datasets.load("sp-sw-har", root=root)
