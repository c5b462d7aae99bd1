"""Tests that every registered data set loads from its public layout, is checked and is cached."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError
from smoothdistill.windows import Windows

Write = Callable[[str], Path | None]
NAMES = sorted(datasets.DATASETS)
FROM_FILES = [name for name in NAMES if datasets.DATASETS[name].needs_root]
OF_RECORDINGS = [name for name in FROM_FILES if datasets.DATASETS[name].read_windows is None]
WINDOWS = {  # what the small files of conftest.py hold
    "wisdm": 24,
    "wisdm-v1.1": 2 * 2,
    "hapt": 3 * (3 + 2),
    "mhealth": 3 * 3 * 2,
    "uci-har": 18,
    "sleep-postures": 12 * 3,
    "sp-sw-har": 2 * 2 * 5 * 2,
}


def assert_equal_windows(left: Windows, right: Windows) -> None:
    assert left.fingerprint() == right.fingerprint()
    np.testing.assert_array_equal(left.signals, right.signals)


@pytest.mark.parametrize("name", NAMES)
def test_load(name: str, write_dataset: Write) -> None:
    dataset = datasets.DATASETS[name]
    windows = datasets.load(name, root=write_dataset(name))
    assert windows.tasks == dataset.tasks
    assert windows.channel_names == dataset.channel_names
    assert windows.window_samples == dataset.window_samples
    assert windows.sample_rate_hz == dataset.sample_rate_hz
    assert windows.name == name
    assert dict(windows.class_names) == dict(dataset.class_names)
    assert len(windows) == WINDOWS.get(name, len(windows))
    assert len(set(windows.subjects.tolist())) > 1


@pytest.mark.parametrize("name", FROM_FILES)
def test_the_cache_changes_nothing(name: str, write_dataset: Write, cache_folder: Path) -> None:
    root = write_dataset(name)
    plain = datasets.load(name, root=root, cache=False)
    assert not cache_folder.exists()
    assert_equal_windows(datasets.load(name, root=root), plain)
    assert_equal_windows(datasets.load(name, root=root), plain)
    assert cache_folder.exists() == (name in OF_RECORDINGS)


@pytest.mark.parametrize("name", NAMES)
def test_check_counts_what_load_reads(name: str, write_dataset: Write) -> None:
    root = write_dataset(name)
    report = datasets.check(name, root)
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["rows"] == sum(file["rows"] for file in values["files"]) > 0
    assert values["num_subjects"] == len(report.subjects) > 1
    assert values["unit_evidence"] in {datasets.DATASETS[name].units[0], "m/s²"}
    if name != "uci-har":
        recordings = datasets.load_recordings(name, root=root, cache=False)
        assert values["recordings"] == len(recordings)
        assert values["kept_samples"] == sum(len(recording) for recording in recordings)
        assert report.subjects == tuple(
            sorted({r.subject for r in recordings}, key=lambda name: (len(name), name))
        )


@pytest.mark.parametrize("name", NAMES)
def test_recordings_are_windows_of_float32(name: str, write_dataset: Write) -> None:
    if name == "uci-har":
        with pytest.raises(
            DataError, match=r"`name` must be a data set of recordings, but is 'uci"
        ):
            datasets.load_recordings(name, root=write_dataset(name))
        return
    for recording in datasets.load_recordings(name, root=write_dataset(name)):
        assert recording.signal.dtype == np.float32
        assert tuple(recording.targets) == datasets.DATASETS[name].tasks


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_missing_root_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    hint = re.escape(datasets.DATASETS[name].source[:40])
    with pytest.raises(FileNotFoundError, match=rf"`root` must be the folder of '{name}'.*{hint}"):
        datasets.load(name)
    with pytest.raises(FileNotFoundError, match=f"`root` must be an existing folder.*{hint}"):
        datasets.load(name, root=tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=f"`root` must be a folder with .*{hint}"):
        datasets.check(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name: str, write_dataset: Write) -> None:
    with pytest.raises(ValueError, match=r"`options` must be among \[.*, but is 'colour' instead"):
        datasets.load(name, root=write_dataset(name), colour="red")


@pytest.mark.parametrize("name", FROM_FILES)
def test_check_refuses_what_load_refuses(name: str, write_dataset: Write) -> None:
    with pytest.raises(ValueError, match=r"`options` must be among \[.*, but is 'colour' instead"):
        datasets.check(name, write_dataset(name), colour="red")
    with pytest.raises(TypeError, match="`root` must be a path, but is int instead"):
        datasets.load(name, root=3)  # type: ignore[arg-type]


def test_pyarrow_is_asked_for_by_name(
    write_dataset: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_dataset("hapt")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"`pyarrow` must be installed.*smoothdistill\[data\]"):
        datasets.load("hapt", root=root)


def test_options_of_windows_reach_the_cutter(write_dataset: Write) -> None:
    root = write_dataset("wisdm")
    windows = datasets.load("wisdm", root=root, window_samples=50, step_samples=25, label="last")
    assert windows.window_samples == 50
    assert len(windows) == 2 * 2 * 2 * 9
    with pytest.raises(ValueError, match="`window_samples` must be at most 250"):
        datasets.load("wisdm", root=root, window_samples=251)
    with pytest.raises(ValueError, match="`step_samples` must be at least 1, but is 0 instead"):
        datasets.load("wisdm", root=root, step_samples=0)
    with pytest.raises(ValueError, match=r"`label` must be one of .*, but is 'first' instead"):
        datasets.load("wisdm", root=root, label="first")  # type: ignore[arg-type]


def test_published_windows_are_not_cut_again(write_dataset: Write) -> None:
    root = write_dataset("uci-har")
    with pytest.raises(ValueError, match="`window_samples` must be 128 or None for 'uci-har'"):
        datasets.load("uci-har", root=root, window_samples=100)
    assert len(datasets.load("uci-har", root=root, window_samples=128)) == 18


def test_the_synthetic_set_takes_no_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`root` must be None for 'synthetic'"):
        datasets.load("synthetic", root=tmp_path)
    small = datasets.load("synthetic", num_subjects=2, seed=3)
    assert set(small.subjects.tolist()) == {"s01", "s02"}
