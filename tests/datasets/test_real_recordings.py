"""The public originals, where they are at hand: counts as published, anomalies mended or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.datasets.delimited import clean_text, parse_table, read_bytes
from smoothdistill.datasets.wisdm import _LAYOUT, _read_log

pytestmark = pytest.mark.real_data
Unpack = Callable[..., Path]


def test_wisdm(unpack: Unpack) -> None:
    root = unpack(
        "wisdm2019_raw_phone_accel",
        "data_1600_accel",
        "data_1607_accel",  # 25 Hz throughout
        at_most=2,
    )
    report = datasets.check("wisdm", root / "wisdm2019_raw_partial")
    assert [file.rows for file in report.files] == [64311, 76702]
    assert report.subjects == ("1600", "1607")
    assert report.rate_histogram == {20: 18, 25: 17}
    assert report.repairs == {"stretches resampled to 20 Hz": 17}
    assert report.class_samples["activity"]["pasta"] < report.class_samples["activity"]["chips"]
    assert report.unit_evidence == "m/s²"
    windows = datasets.load("wisdm", root=root / "wisdm2019_raw_partial")
    # three minutes of each activity: 3573 samples at the one phone's 19.86 Hz, 3600 resampled
    assert len(windows) == 18 * 58 + 17 * 59


def test_the_scanner_agrees_with_the_strict_reader(unpack: Unpack) -> None:
    root = unpack("wisdm2019_raw_phone_accel", "data_1600_accel", "data_1607_accel", at_most=2)
    for path in sorted(root.rglob("data_*.txt")):
        subject = path.name.split("_")[1]
        log = _read_log(path, subject)
        table = parse_table(path, clean_text(path, read_bytes(path), _LAYOUT), _LAYOUT)
        np.testing.assert_array_equal(log.signal, table.signal("x", "y", "z"))
        times = table.integers("timestamp")
        np.testing.assert_array_equal(log.seconds, (times - times[0]) / 1e9)


def test_wisdm_v1_1(unpack: Unpack) -> None:
    root = unpack("wisdm_v1.1", "wisdm_subject")
    values = datasets.check("wisdm-v1.1", root / "wisdm_v1.1").to_dict()
    assert values["rows"] == 1_098_208
    assert values["num_subjects"] == 36
    assert values["repairs"]["rows without a time dropped"] == 12_845
    assert values["unit_evidence"] == "m/s²"
    assert values["kept_samples"] == 1_098_208 - sum(values["repairs"].values())


def test_hapt(unpack: Unpack) -> None:
    root = unpack("hapt", "RawData/")
    values = datasets.check("hapt", root / "hapt").to_dict()
    assert values["rows"] == 1_122_772
    assert values["num_files"] == 61
    assert values["num_subjects"] == 30
    assert sum(values["class_samples"]["activity"].values()) == 815_614
    assert values["unit_evidence"] == "g"


def test_hapt_and_uci_har_share_volunteers_and_their_numbers(unpack: Unpack) -> None:
    """The 21/9 lists are of HAPT's users: by number, and by how long each of them walked."""
    hapt = unpack("hapt", "RawData/") / "hapt" / "HAPT Data Set" / "RawData"
    lists = unpack("uci_har_labels", ".txt") / "uci_har_labels" / "UCI HAR Dataset"
    subjects = {
        part: np.loadtxt(lists / part / f"subject_{part}.txt", dtype=int)
        for part in ("train", "test")
    }
    test_subjects = np.unique(subjects["test"])
    assert test_subjects.astype(str).tolist() == list(datasets.DATASETS["hapt"].test_subjects)
    assert test_subjects.astype(str).tolist() == list(datasets.DATASETS["uci-har"].test_subjects)
    assert len(np.unique(subjects["train"])) == 21
    labels = np.loadtxt(hapt / "labels.txt", dtype=int)
    everyone = np.concatenate([np.unique(subjects["train"]), test_subjects])
    assert sorted(everyone) == sorted(set(labels[:, 1].tolist())) == list(range(1, 31))

    windows = np.zeros((30, 6))
    for part, numbers in subjects.items():
        activities = np.loadtxt(lists / part / f"y_{part}.txt", dtype=int)
        np.add.at(windows, (numbers - 1, activities - 1), 1)
    # A label of n samples gives (n - 128) // 64 + 1 windows. Walking and going upstairs agree for
    # every volunteer; the limits of the others were moved when the transitions were labelled.
    expected = np.zeros((30, 6))
    for _, user, activity, first, last in labels[labels[:, 2] <= 6]:
        expected[user - 1, activity - 1] += max(0, (last - first + 1 - 128) // 64 + 1)
    np.testing.assert_array_equal(windows[:, :2], expected[:, :2])
    distances = ((windows[:, None] - expected[None]) ** 2).sum(axis=2)
    assert distances.argmin(axis=1).tolist() == list(range(30))


def test_sp_sw_har(unpack: Unpack) -> None:
    root = unpack("sp_sw_har", "DATA/s")
    values = datasets.check("sp-sw-har", root / "sp_sw_har").to_dict()
    assert values["rows"] == 521_766
    assert values["num_files"] == 446
    assert values["num_subjects"] == 23
    assert values["tied_timestamps"] + values["backward_steps"] == 23_259
    assert values["unit_evidence"] == "m/s²"
