"""Tests of the strict reader: malformed text is refused with its place, sound text is read."""

from __future__ import annotations

import codecs
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smoothdistill.datasets.delimited import Column, Layout, read_table
from smoothdistill.errors import DataError

LAYOUT = Layout(
    title="test log",
    columns=(
        Column("time", "int64"),
        Column("label", "string"),
        Column("x", "float64"),
        Column("y", "float64"),
    ),
    header=("time", "label", "x", "y"),
    is_timed=True,
)
HEADER = b"time,label,x,y\n"
ROWS = b"".join(b"%d,walk,%d.5,-0.25\n" % (10 * row, row) for row in range(20))
GOOD = HEADER + ROWS
LINE_3 = b"10,walk,1.5,-0.25\n"


def read(tmp_path: Path, text: bytes, layout: Layout = LAYOUT) -> dict[str, np.ndarray]:
    path = tmp_path / "log.csv"
    path.write_bytes(text)
    table = read_table(path, layout)
    codes, words = table.words("label")
    return {
        "time": table.integers("time"),
        "label": np.array(words)[codes],
        "x": table.floats("x"),
        "y": table.floats("y"),
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(codecs.BOM_UTF8 + GOOD, id="BOM"),
        pytest.param(GOOD.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(GOOD.replace(b"\n", b"\r"), id="CR"),
        pytest.param(GOOD.replace(LINE_3, LINE_3 + b"\n"), id="blank line"),
        pytest.param(GOOD + b"\n\n", id="blank lines at the end"),
        pytest.param(GOOD.replace(b",1.5,", b", 1.5 ,"), id="spaces round a number"),
        pytest.param(GOOD.replace(b",1.5,", b",15e-1,"), id="exponent"),
    ],
)
def test_sound_text_is_read(text: bytes, tmp_path: Path) -> None:
    columns = read(tmp_path, text)
    np.testing.assert_array_equal(columns["time"], 10 * np.arange(20))
    np.testing.assert_array_equal(columns["x"], np.arange(20) + 0.5)
    np.testing.assert_array_equal(columns["y"], np.full(20, -0.25))
    assert set(columns["label"]) == {"walk"}


def replaced(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


MALFORMED = {
    "empty": (b"", r"`log.csv` must hold at least 1 row, but is empty instead"),
    "blank": (b"\n\n \n", r"`log.csv` must hold at least 1 row, but is empty instead"),
    "header only": (HEADER, r"`log.csv` must hold at least 1 row, but holds the header only"),
    "no header": (
        ROWS,
        r"`log.csv:1` must be the header 'time,label,x,y' \(test log\), but is '0,",
    ),
    "other data set": (
        b"user,activity,timestamp,x,y,z\n1,Walking,5,1,2,3\n",
        r"`log.csv:1` must be the header .*, but is 'user,activity,timestamp,x,y,z' instead",
    ),
    "cut in a number": (GOOD[:-4], r"`log.csv:21` must end with a line break \(the file is cut\)"),
    "cut in a row": (
        GOOD[: GOOD.index(b"100,walk") + 6],
        r"`log.csv:12` must end with a line break \(the file is cut\), but ends with '100,wa'",
    ),
    "doubled": (GOOD + GOOD, r"`log.csv:22` must be a row of numbers, but repeats the header"),
    "doubled without header": (
        HEADER + ROWS + ROWS,
        r"`log.csv` must hold each record once, but holds the same \d+ bytes twice instead",
    ),
    "UTF-16": (
        GOOD.decode().encode("utf-16"),
        r"`log.csv` must be UTF-8 text, but begins with a UTF-16 or UTF-32 mark instead",
    ),
    "UTF-16 without a mark": (
        GOOD.decode().encode("utf-16-le"),
        r"`log.csv:1` must be UTF-8 text, but holds a zero byte instead",
    ),
    "UTF-32": (
        GOOD.decode().encode("utf-32"),
        r"`log.csv` must be UTF-8 text, but begins with a UTF-16 or UTF-32 mark instead",
    ),
    "Latin-1": (
        replaced(b"10,walk", b"10,w\xe4lk"),
        r"`log.csv:3` must be UTF-8 text, but holds the byte 0xe4 instead",
    ),
    "zero byte": (
        replaced(b"10,walk", b"10,w\0lk"),
        r"`log.csv:3` must be UTF-8 text, but holds a zero byte instead",
    ),
    "NaN": (
        replaced(b"walk,1.5", b"walk,nan"),
        r"`log.csv:3:3` \(x\) must be a finite number, but is 'nan' instead",
    ),
    "Inf": (
        replaced(b"walk,1.5,-0.25", b"walk,1.5,-inf"),
        r"`log.csv:3:4` \(y\) must be a finite number, but is '-inf' instead",
    ),
    "1e400": (
        replaced(b"walk,1.5", b"walk,1e400"),
        r"`log.csv:3:3` \(x\) must be a finite number, but is '1e400' instead",
    ),
    "text in a number column": (
        replaced(b"walk,1.5", b"walk,fast"),
        r"`log.csv:3:3` \(x\) must be a finite number, but is 'fast' instead",
    ),
    "text in an integer column": (
        replaced(b"10,walk", b"ten,walk"),
        r"`log.csv:3:1` \(time\) must be an integer, but is 'ten' instead",
    ),
    "real in an integer column": (
        replaced(b"10,walk", b"10.5,walk"),
        r"`log.csv:3:1` \(time\) must be an integer, but is '10.5' instead",
    ),
    "hexadecimal": (
        replaced(b"10,walk", b"0x10,walk"),
        r"`log.csv:3:1` \(time\) must be an integer, but is '0x10' instead",
    ),
    "integer beyond int64": (
        replaced(b"10,walk", b"9223372036854775808,walk"),
        r"`log.csv:3:1` \(time\) must be an integer, but is '9223372036854775808' instead",
    ),
    "missing value": (
        replaced(b"walk,1.5", b"walk,"),
        r"`log.csv:3:3` \(x\) must be a finite number, but is '' instead",
    ),
    "short row": (
        replaced(LINE_3, b"10,walk,1.5\n"),
        r"`log.csv:3` must hold 4 fields \(test log\), but holds 3 instead: '10,walk,1.5'",
    ),
    "long row": (
        replaced(LINE_3, b"10,walk,1.5,2,3\n"),
        r"`log.csv:3` must hold 4 fields \(test log\), but holds 5 instead",
    ),
    "decimal comma": (
        replaced(b"walk,1.5", b"walk,1,5"),
        r"`log.csv:3` must hold 4 fields \(test log\), but holds 5 instead",
    ),
    "other delimiter": (
        HEADER + ROWS.replace(b",", b";"),
        r"`log.csv:2` must hold 4 fields \(test log\), but holds 1 instead",
    ),
    "repeated header": (
        replaced(LINE_3, LINE_3 + HEADER),
        r"`log.csv:4` must be a row of numbers, but repeats the header instead \(two files in",
    ),
    "a line after a blank line": (
        replaced(LINE_3, b"\n\n10,walk,fast,1\n"),
        r"`log.csv:5:3` \(x\) must be a finite number, but is 'fast' instead",
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_text_is_refused_with_its_place(kind: str, tmp_path: Path) -> None:
    text, message = MALFORMED[kind]
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_places_count_lines_of_any_kind(end: bytes, tmp_path: Path) -> None:
    text = replaced(b"walk,1.5", b"walk,fast").replace(b"\n", end)
    with pytest.raises(DataError, match=r"`log.csv:3:3` \(x\) must be a finite number"):
        read(tmp_path, text)


def test_any_run_of_blanks_parts_fields(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"  1.0  2\t 3\n4 5 6 \n\t7 8  9\n")
    layout = Layout("blanks", tuple(Column(name, "float64") for name in "xyz"), delimiter=" ")
    table = read_table(path, layout)
    np.testing.assert_array_equal(table.signal("x", "y", "z"), np.arange(1.0, 10.0).reshape(3, 3))
    path.write_bytes(b"1 2 3\n\n 4  five 6\n")
    with pytest.raises(
        DataError, match=r"`log.txt:3:2` \(y\) must be a finite number, but is 'five'"
    ):
        read_table(path, layout)


COLUMN = Layout("column", (Column("x", "float64"),), header=("x",), must_be_closed=False)


def test_a_blank_line_in_one_column_is_a_missing_field(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_bytes(b"x\n1\n\n3\n")
    words = replace(COLUMN, columns=(Column("x", "string"),))
    for is_quoted in (False, True):
        codes, texts = read_table(path, replace(words, is_quoted=is_quoted)).words("x")
        assert [texts[code] for code in codes] == ["1", "", "3"]
        with pytest.raises(DataError, match=r"`one.csv:3:1` \(x\) must be a finite number, but is"):
            read_table(path, replace(COLUMN, is_quoted=is_quoted))
    path.write_bytes(b"x\n1\n\nfast\n")
    with pytest.raises(DataError, match=r"`one.csv:4:1` \(x\) must be slow, but is 'fast' instead"):
        read_table(path, words).classes("x", {"1": 0, "": 1}, "slow")
    path.write_bytes(b"x\n1\n2\n\n\n")  # at the end they are none
    assert read_table(path, COLUMN).floats("x").tolist() == [1.0, 2.0]


@pytest.mark.parametrize("period", [b"0,0,0\n", b"0,0,1\n0,0.5,1\n0,1,1\n"])
def test_a_signal_that_repeats_itself_is_not_a_doubled_file(period: bytes, tmp_path: Path) -> None:
    path = tmp_path / "still.csv"
    columns = tuple(Column(name, "float64") for name in "xyz")
    layout = Layout("still", columns, header=("x", "y", "z"))
    for times in (1000, 1001):
        path.write_bytes(b"x,y,z\n" + times * period)
        assert read_table(path, layout).num_rows == times * period.count(b"\n")
    signal = b"".join(b"%d,0,0\n" % number for number in range(1000))
    for text, is_timed in ((2 * signal, False), (2 * signal, True), (1000 * period, True)):
        path.write_bytes(b"x,y,z\n" + text)
        with pytest.raises(DataError, match=r"must hold each record once, but holds the same \d+ "):
            read_table(path, replace(layout, is_timed=is_timed))


def test_a_record_ends_at_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    layout = Layout("marks", (Column("x", "float64"), Column("y", "float64")), record_end=";")
    path.write_bytes(b"1,2;\n3,4;5,6;\n\n7,8;")
    table = read_table(path, layout)
    np.testing.assert_array_equal(table.signal("x", "y"), np.arange(1.0, 9.0).reshape(4, 2))
    path.write_bytes(b"1,2;\n3,4;5,six;\n")
    with pytest.raises(
        DataError, match=r"`log.txt:2:2` \(y\) must be a finite number, but is 'six'"
    ):
        read_table(path, layout)
    path.write_bytes(b"1,2;\n3,4")
    with pytest.raises(DataError, match=r"`log.txt:2` must end with ';' \(the file is cut\)"):
        read_table(path, layout)


def test_a_number_too_large_for_float32(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"1 2\n3 1e39\n")
    layout = Layout("blanks", (Column("x", "float64"), Column("y", "float64")), delimiter=" ")
    with pytest.raises(DataError, match=r"`log.txt:2:2` \(y\) must be within the range of float32"):
        read_table(path, layout).signal("x", "y")


def test_a_file_that_is_absent_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.csv", LAYOUT)
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(DataError, match=r"`log.csv` must be a readable file, but is .* instead"):
        read_table(tmp_path / "log.csv", LAYOUT)


def test_a_long_file_is_searched_quickly(tmp_path: Path) -> None:
    """The place is found in well under two seconds, however far down it is."""
    rows = b"".join(b"%d,walk,1.5,-0.25\n" % row for row in range(200_000))
    with pytest.raises(DataError, match=r"`log.csv:200002:3` \(x\) must be a finite number"):
        read(tmp_path, HEADER + rows + b"200000,walk,nan,0\n")


def test_lines_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "wide.txt"
    num_columns = 300
    layout = Layout(
        "wide", tuple(Column(f"c{n}", "float64") for n in range(num_columns)), delimiter=" "
    )
    row = b" ".join([b"0.12345678901234567"] * num_columns)
    path.write_bytes(b"".join(b"%d " % number + row[20:] + b"\n" for number in range(300)))
    assert read_table(path, layout).num_rows == 300
