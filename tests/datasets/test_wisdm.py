"""Tests of the WISDM 2019 loader: both readers, its borders, its rates, its faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.datasets.wisdm import _LAYOUT, _read_log
from smoothdistill.errors import DataError

NAME = "data_1600_accel_phone.txt"


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(text: bytes) -> Path:
        folder = tmp_path / "wisdm-dataset" / "raw" / "phone" / "accel"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NAME).write_bytes(text)
        return tmp_path

    return write


def rows(letter: str, num_rows: int, *, start_ns: int = 0, step_ns: float = 5e7) -> bytes:
    return b"".join(
        f"1600,{letter},{start_ns + round(step_ns * row)},{0.25 * row},-9.5,{row}.0E-4;\n".encode()
        for row in range(num_rows)
    )


def load_one(root: Path, **options: object):  # type: ignore[no-untyped-def]
    (recording,) = datasets.load_recordings("wisdm", root=root, cache=False, **options)
    return recording


def test_rows_become_a_recording(write_log: Callable[[bytes], Path]) -> None:
    recording = load_one(write_log(rows("C", 120, start_ns=252207666810782)))
    assert recording.subject == "1600"
    assert recording.session == "phone"
    assert recording.sample_rate_hz == 20.0
    expected = np.stack(
        [0.25 * np.arange(120), np.full(120, -9.5), np.arange(120) / 1e4], axis=1
    ).astype(np.float32)
    np.testing.assert_array_equal(recording.signal, expected)
    np.testing.assert_array_equal(recording.targets["activity"], np.full(120, 2))
    np.testing.assert_array_equal(recording.targets["placement"], np.zeros(120))
    np.testing.assert_allclose(recording.timestamps_seconds, np.arange(120) / 20.0)


@pytest.mark.parametrize("nesting", ["", "wisdm-dataset", "wisdm-dataset/raw"])
def test_the_root_may_be_any_of_three_folders(
    nesting: str, write_log: Callable[[bytes], Path]
) -> None:
    root = write_log(rows("A", 120))
    assert len(datasets.load("wisdm", root=root / nesting)) == 1


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda text: text.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda text: text + b"\n", id="blank line"),
        pytest.param(lambda text: text[:-1], id="no final line break"),
        pytest.param(lambda text: text.replace(b"-9.5,", b" -9.5,"), id="spaces"),
        pytest.param(lambda text: b"\xef\xbb\xbf" + text, id="BOM"),
        pytest.param(lambda text: text.replace(b"-9.5", b"-9.50000000000000000000"), id="digits"),
        pytest.param(lambda text: text.replace(b"E-4", b"e-4"), id="exponent"),
    ],
)
def test_the_strict_reader_reads_what_the_scanner_leaves(
    odd: Callable[[bytes], bytes], write_log: Callable[[bytes], Path]
) -> None:
    plain = load_one(write_log(rows("A", 120)))
    other = load_one(write_log(odd(rows("A", 120))))
    np.testing.assert_array_equal(other.signal, plain.signal)
    np.testing.assert_array_equal(other.timestamps_seconds, plain.timestamps_seconds)


def test_no_window_crosses_an_activity_a_gap_or_a_step_back(
    write_log: Callable[[bytes], Path],
) -> None:
    text = rows("A", 150, start_ns=10**12) + rows("A", 150) + rows("B", 110, start_ns=75 * 10**8)
    text += rows("B", 99, start_ns=3 * 10**10)
    root = write_log(text)
    windows = datasets.load("wisdm", root=root)
    assert windows.starts is not None
    assert windows.starts.tolist() == [0, 150, 300]
    assert windows.targets["activity"].tolist() == [0, 0, 1]
    report = datasets.check("wisdm", root)
    assert (report.files[0].backward_steps, report.files[0].gaps) == (1, 1)


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 100.0])
def test_other_rates_are_resampled_to_20_hz(
    rate_hz: float, write_log: Callable[[bytes], Path]
) -> None:
    num_rows = int(10 * rate_hz) + 1
    text = rows("A", 200) + rows("B", num_rows, start_ns=10**12, step_ns=1e9 / rate_hz)
    root = write_log(text)
    recording = load_one(root)
    assert np.bincount(recording.targets["activity"]).tolist() == [200, 201]
    np.testing.assert_allclose(np.diff(recording.timestamps_seconds[200:]), 0.05, atol=1e-9)
    # x grows by 0.25 a row, so it is a line in time; the file's times are whole nanoseconds
    np.testing.assert_allclose(
        recording.signal[200:, 0], 0.25 * rate_hz * np.arange(201) / 20.0, rtol=1e-6, atol=1e-6
    )
    report = datasets.check("wisdm", root)
    assert report.rate_histogram == {20: 1, round(rate_hz): 1}
    assert report.repairs == {"stretches resampled to 20 Hz": 1}
    as_it_is = load_one(root, resample=False)
    assert np.bincount(as_it_is.targets["activity"]).tolist() == [200, num_rows]


FAULTS = {
    "unknown activity": (
        lambda text: text.replace(b"A,", b"N,", 1),
        rf"`{NAME}:1:2` \(activity\) must be an activity letter, A to S without N, but is 'N'",
    ),
    "other subject": (
        lambda text: text + b"1601,A,9999999999999,1.0,2.0,3.0;\n",
        rf"`{NAME}:121:1` \(subject\) must be 1600, as in the file's name, but is '1601' instead",
    ),
    "another data set": (
        lambda text: b"33,Jogging,49105962326000,-0.6,12.6,0.5;\n",
        rf"`{NAME}:1:1` \(subject\) must be 1600, as in the file's name, but is '33' instead",
    ),
    "negative time": (
        lambda text: text.replace(b"A,0,", b"A,-5,", 1),
        rf"`{NAME}:1:3` \(timestamp\) must be at least 0, but is '-5' instead",
    ),
    "two records on a line": (
        lambda text: text.replace(b";\n1600", b"1600", 1),
        rf"`{NAME}:1` must hold 6 fields \(WISDM 2019\), but holds 11 instead",
    ),
    "NaN": (
        lambda text: text.replace(b"-9.5", b"NaN", 1),
        rf"`{NAME}:1:5` \(y\) must be a finite number, but is 'NaN' instead",
    ),
    "cut": (lambda text: text[:-6], rf"`{NAME}:120` must end with ';' \(the file is cut\)"),
    "doubled": (
        lambda text: text + text,
        rf"`{NAME}` must hold each record once, but holds the same \d+ bytes twice instead",
    ),
    "empty": (lambda text: b"", rf"`{NAME}` must hold at least 1 row, but is empty instead"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(kind: str, write_log: Callable[[bytes], Path]) -> None:
    change, message = FAULTS[kind]
    with pytest.raises(DataError, match=message):
        datasets.load("wisdm", root=write_log(change(rows("A", 120))))


def test_a_folder_of_the_wrong_placement_is_passed_over(
    write_log: Callable[[bytes], Path],
) -> None:
    root = write_log(rows("A", 120))
    folder = root / "wisdm-dataset" / "raw" / "phone" / "accel"
    (folder / "data_1600_accel_watch.txt").write_bytes(b"not read")
    (folder / ".data_1600_accel_phone.txt.swp").write_bytes(b"not read")
    assert len(datasets.load("wisdm", root=root)) == 1


def test_the_layout_is_that_of_the_scanner(write_log: Callable[[bytes], Path]) -> None:
    root = write_log(rows("A", 3))
    log = _read_log(root / "wisdm-dataset" / "raw" / "phone" / "accel" / NAME, "1600")
    assert len(log.signal) == 3
    assert [column.name for column in _LAYOUT.columns] == [
        *("subject", "activity", "timestamp"),
        *"xyz",
    ]
