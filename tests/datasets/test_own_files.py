"""Tests of `from_csv`: anyone's CSV or Parquet, with what comes from columns or the file's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from smoothdistill.datasets import from_csv
from smoothdistill.errors import DataError

TARGETS = {"activity": "label"}


def columns(num_rows: int = 240, *, seed: int = 0) -> dict[str, list[Any]]:
    signal = np.random.default_rng(seed).normal(size=(num_rows, 3)).round(4)
    return {
        "time": [0.02 * row for row in range(num_rows)],
        "who": ["ann" if row < num_rows // 2 else "bob" for row in range(num_rows)],
        **{axis: signal[:, index].tolist() for index, axis in enumerate("xyz")},
        "label": ["walk" if row % 120 < 110 else "sit" for row in range(num_rows)],
        "comment": ["a, b" if row == 3 else "" for row in range(num_rows)],
    }


def write_csv(path: Path, table: dict[str, list[Any]], delimiter: str = ",") -> Path:
    rows = [list(table), *(list(row) for row in zip(*table.values(), strict=True))]
    text = "\n".join(
        delimiter.join(f'"{cell}"' if delimiter in str(cell) else str(cell) for cell in row)
        for row in rows
    )
    path.write_bytes(text.encode() + b"\n")
    return path


def read(path: Any, **options: Any):  # type: ignore[no-untyped-def]
    given = {"targets": TARGETS, "subject": "who", "time": "time"} | options
    return from_csv(path, **given)


def test_a_csv_file(tmp_path: Path) -> None:
    table = columns()
    windows = read(write_csv(tmp_path / "log.csv", table))
    assert len(windows) == 2
    assert windows.subjects.tolist() == ["ann", "bob"]
    assert windows.sample_rate_hz == pytest.approx(50.0)
    assert windows.class_names == {"activity": ("sit", "walk")}
    assert windows.targets["activity"].tolist() == [1, 1]
    assert windows.channel_names == ("x", "y", "z")
    expected = np.array([table[axis][:100] for axis in "xyz"], dtype=np.float32)
    np.testing.assert_array_equal(windows.signals[0], expected)


def test_parquet_gives_the_same(tmp_path: Path) -> None:
    table = columns()
    expected = read(write_csv(tmp_path / "log.csv", table))
    pa.parquet.write_table(pa.table(table), tmp_path / "log.parquet")
    found = read(tmp_path / "log.parquet")
    assert found.fingerprint() == expected.fingerprint()


def test_parquet_timestamps_and_dictionaries(tmp_path: Path) -> None:
    table = pa.table(columns())
    times = pa.array([1_700_000_000_000 + 20 * row for row in range(240)], pa.timestamp("ms"))
    table = table.set_column(0, "time", times)
    labels = table.column("label").dictionary_encode()
    table = table.set_column(table.schema.get_field_index("label"), "label", labels)
    pa.parquet.write_table(table, tmp_path / "log.parquet")
    windows = read(tmp_path / "log.parquet")
    assert windows.sample_rate_hz == pytest.approx(50.0)
    assert len(windows) == 2


def test_labels_and_subjects_from_the_names_of_many_files(tmp_path: Path) -> None:
    for name in ("s1_wrist.csv", "s1_ankle.csv", "s2_wrist.csv"):
        table = columns(150)
        del table["who"]
        write_csv(tmp_path / name, table)
    options = {
        "targets": {"activity": "label", "placement": "placement"},
        "subject": "subject",
        "name_pattern": r"(?P<subject>s\d+)_(?P<placement>\w+)\.csv",
    }
    for paths in (tmp_path, f"{tmp_path}/*.csv", sorted(tmp_path.glob("*.csv"))):
        windows = read(paths, **options)
        assert windows.subjects.tolist() == ["s1", "s1", "s2"]
        assert windows.class_names["placement"] == ("ankle", "wrist")
        assert windows.targets["placement"].tolist() == [0, 1, 1]


def test_interleaved_devices_are_told_apart_by_session(tmp_path: Path) -> None:
    table = columns(300)
    table["time"] = [0.02 * (row // 2) for row in range(300)]
    table["who"] = ["ann"] * 300
    table["label"] = ["walk"] * 300
    table["device"] = ["left" if row % 2 else "right" for row in range(300)]
    windows = read(write_csv(tmp_path / "log.csv", table), session="device")
    assert len(windows) == 2
    expected = np.array([table[axis][:200:2] for axis in "xyz"], dtype=np.float32)
    np.testing.assert_array_equal(windows.signals[0], expected)


@pytest.mark.parametrize(("unit", "ticks"), [("ms", 20), ("us", 20_000), ("ns", 20_000_000)])
def test_integer_times_keep_their_digits(unit: str, ticks: int, tmp_path: Path) -> None:
    table = columns()
    table["time"] = [1_700_000_000_000_000_000 + ticks * row for row in range(240)]
    windows = read(write_csv(tmp_path / "log.csv", table), time_unit=unit)
    assert windows.sample_rate_hz == pytest.approx(50.0)


def test_no_window_crosses_a_gap(tmp_path: Path) -> None:
    table = columns()
    table["label"] = ["walk"] * 240
    table["time"] = [0.02 * row + 5.0 * (row >= 50) for row in range(240)]
    windows = read(write_csv(tmp_path / "log.csv", table))
    assert windows.subjects.tolist() == ["bob"]


def test_unlabelled_rows_and_given_classes(tmp_path: Path) -> None:
    table = columns()
    table["label"][120:] = ["?"] * 120
    path = write_csv(tmp_path / "log.csv", table)
    windows = read(path, unlabelled=("?",), class_names={"activity": ("sit", "walk", "run")})
    assert windows.subjects.tolist() == ["ann"]
    assert windows.num_classes == {"activity": 3}
    message = r"`log.csv:112:6` \(label\) must be one of \['walk'\], but is 'sit' instead"
    with pytest.raises(DataError, match=message):
        read(path, unlabelled=("?",), class_names={"activity": ("walk",)})


def test_numbers_as_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    table = columns()
    table["label"] = [10 if row < 120 else 9 for row in range(240)]
    assert read(write_csv(tmp_path / "log.csv", table)).class_names["activity"] == ("9", "10")


def test_another_delimiter_and_a_quoted_header(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", columns(), delimiter=";")
    path.write_bytes(path.read_bytes().replace(b"time;who", b'"time";"who"', 1))
    assert len(read(path, delimiter=";")) == 2


def test_without_times_the_rate_is_given(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", columns())
    assert read(path, time=None, sample_rate_hz=50.0).sample_rate_hz == 50.0
    with pytest.raises(ValueError, match="`sample_rate_hz` must be given where `time` is not"):
        read(path, time=None)


BAD_OPTIONS = {
    "targets kind": (
        {"targets": "label"},
        TypeError,
        "`targets` must be a mapping of task to column",
    ),
    "no targets": (
        {"targets": {}},
        ValueError,
        "`targets` must hold at least 1 task, but is empty",
    ),
    "channels": (
        {"channels": "x"},
        ValueError,
        "`channels` must be a sequence of at least 1 column",
    ),
    "time unit": (
        {"time_unit": "h"},
        ValueError,
        "`time_unit` must be one of .*, but is 'h' instead",
    ),
    "delimiter": ({"delimiter": ",,"}, ValueError, "`delimiter` must be 1 character, but is ',,'"),
    "pattern": ({"name_pattern": "("}, ValueError, "`name_pattern` must be a regular expression"),
    "group": ({"name_pattern": "s1"}, ValueError, "`name_pattern` must have a named group"),
    "no match": (
        {"name_pattern": "(?P<who>s9)"},
        DataError,
        "`paths` must have names that match .*, but has 'log.csv' instead",
    ),
    "column": ({"channels": ["q"]}, DataError, "`log.csv` must have the column 'q', but has "),
    "rate": (
        {"sample_rate_hz": 100.0},
        DataError,
        "`sample_rate_hz` must be within 20 % of the 50 Hz that the times of log.csv show, but is",
    ),
    "class names": (
        {"class_names": {"activities": ("walk", "sit")}},
        ValueError,
        r"`class_names` must have tasks of `targets` .* as keys, but has 'activities' instead",
    ),
    "window": ({"window_samples": 500}, ValueError, "`window_samples` must be at most 110"),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options(kind: str, tmp_path: Path) -> None:
    options, error, message = BAD_OPTIONS[kind]
    with pytest.raises(error, match=message):
        read(write_csv(tmp_path / "log.csv", columns()), **options)


def test_files_of_another_rate(tmp_path: Path) -> None:
    """No file hides behind the others: neither in the median nor behind the given rate."""
    for name, rate_hz, num_rows in (("a", 50, 240), ("b", 50, 240), ("c", 100, 240), ("d", 1, 3)):
        table = columns(num_rows) | {"time": [row / rate_hz for row in range(num_rows)]}
        table["who"] = ["ann"] * num_rows
        write_csv(tmp_path / f"{name}.csv", table)
    files = sorted(tmp_path.glob("*.csv"))
    shown = "`sample_rate_hz` must be within 20 % of the 100 Hz that the times of c.csv show, but "
    with pytest.raises(DataError, match=shown + "is 50 instead"):
        read(files, sample_rate_hz=50.0)
    with pytest.raises(DataError, match=shown + r"is 50 \(the median\) instead"):
        read(files)
    del files[2]
    assert read(files).sample_rate_hz == pytest.approx(50.0)  # of d.csv no window is cut
    with pytest.raises(DataError, match=r"the 50 Hz that the times of a.csv show, but is 100"):
        read(files, sample_rate_hz=100.0)


@pytest.mark.parametrize("rate_hz", [60, 64, 700])
def test_whole_milliseconds_are_times_as_good_as_others(rate_hz: int, tmp_path: Path) -> None:
    table = columns() | {"time": [1000 * row // rate_hz for row in range(240)]}
    path = write_csv(tmp_path / "log.csv", table)
    assert read(path, time_unit="ms").sample_rate_hz == pytest.approx(rate_hz, rel=1e-3)
    assert read(path, time_unit="ms", sample_rate_hz=float(rate_hz)).sample_rate_hz == rate_hz


def test_without_times_what_another_wearing_parts_is_not_joined(tmp_path: Path) -> None:
    table = columns(450)
    table["who"] = ["ann"] * 150 + ["bob"] * 150 + ["ann"] * 150
    table["label"] = ["walk"] * 450
    table["x"] = [float(row // 150) for row in range(450)]
    path = write_csv(tmp_path / "log.csv", table)
    options = {"time": None, "sample_rate_hz": 50.0, "step_samples": 50}
    windows = read(path, **options)
    assert windows.subjects.tolist() == ["ann", "ann", "bob", "bob", "ann", "ann"]
    assert windows.signals[:, 0].std(axis=1).max() == 0.0
    assert read(path, **(options | {"time": "time"})).subjects.tolist()[:3] == ["ann"] * 3


def test_without_times_wearings_may_take_turns_row_by_row(tmp_path: Path) -> None:
    table = columns(600) | {"label": ["walk"] * 600}
    table["who"] = [("ann", "bob", "eve")[row % 3] for row in range(600)]
    windows = read(write_csv(tmp_path / "log.csv", table), time=None, sample_rate_hz=50.0)
    assert windows.subjects.tolist() == ["ann"] * 2 + ["bob"] * 2 + ["eve"] * 2
    expected = np.array([table[axis][1:300:3] for axis in "xyz"], dtype=np.float32)
    np.testing.assert_array_equal(windows.signals[2], expected)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`paths` must name at least 1 file"):
        read(tmp_path / "absent*.csv")


BAD_CELLS = {
    "text": (
        ("x", 4, "fast"),
        r"`log.csv:6:3` \(x\) must be a finite number, but is 'fast' instead",
    ),
    "empty": (("y", 3, ""), r"`log.csv:5:4` \(y\) must be a finite number, but is '' instead"),
    "NaN": (("z", 0, "NaN"), r"`log.csv:2:5` \(z\) must be a finite number, but is 'NaN' instead"),
    "time": (
        ("time", 9, "noon"),
        r"`log.csv:11:1` \(time\) must be a finite number, but is 'noon'",
    ),
    "subject": (("who", 0, ""), r"`log.csv:2:2` \(who\) must be at least 1 character, but is ''"),
}


@pytest.mark.parametrize("kind", BAD_CELLS)
def test_bad_cells(kind: str, tmp_path: Path) -> None:
    (name, row, value), message = BAD_CELLS[kind]
    table = columns()
    table[name][row] = value
    with pytest.raises(DataError, match=message):
        read(write_csv(tmp_path / "log.csv", table))


def test_a_blank_line_in_a_file_of_one_column(tmp_path: Path) -> None:
    path = tmp_path / "ann_walk.csv"
    path.write_text("x\n" + "".join(f"{row}\n" for row in range(150)) + "\n")
    options = {
        "channels": ["x"],
        "name_pattern": r"(?P<who>\w+)_(?P<label>\w+)\.csv",
        "time": None,
        "sample_rate_hz": 50.0,
    }
    assert len(read(path, **options)) == 1
    path.write_text(path.read_text().replace("\n7\n", "\n\n"))
    with pytest.raises(DataError, match=r"`ann_walk.csv:9:1` \(x\) must be a finite number, but "):
        read(path, **options)


def test_a_header_that_repeats_a_name(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"x,y,x\n1,2,3\n")
    with pytest.raises(
        DataError, match=r"`log.csv:1` must be a header of different names, but rep"
    ):
        read(path)


def test_every_label_missing(tmp_path: Path) -> None:
    table = columns()
    table["label"] = [""] * 240
    with pytest.raises(
        DataError, match="`label` must hold at least 1 label, but holds none instead"
    ):
        read(write_csv(tmp_path / "log.csv", table))


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"`log.parquet` must be a Parquet file, but is not: "):
        read(path)
    for name, value, message in (
        ("x", None, r"`log.parquet:6:3` \(x\) must be a value, but is None instead"),
        ("y", float("nan"), r"`log.parquet:6:4` \(y\) must be a finite number, but is nan instead"),
        ("time", float("inf"), r"`log.parquet:6:1` \(time\) must be a finite number, but is inf"),
    ):
        table = columns()
        table[name][5] = value
        pa.parquet.write_table(pa.table(table), path)
        with pytest.raises(DataError, match=message):
            read(path)
    table = columns()
    table["x"] = [str(value) for value in table["x"]]
    pa.parquet.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=r"`log.parquet` \(x\) must be a column of real numbers"):
        read(path)
    table = columns()
    table["time"] = [str(value) for value in table["time"]]
    pa.parquet.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=r"`log.parquet` \(time\) must be a column of times"):
        read(path)
    pa.parquet.write_table(pa.table(columns()).slice(0, 0), path)
    with pytest.raises(DataError, match=r"`log.parquet` must hold at least 1 row, but holds none"):
        read(path)
