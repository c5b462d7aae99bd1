"""Tests that the scanner of plain rows agrees with pyarrow bit for bit, or gives up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdistill.datasets.delimited import clean_text, parse_table
from smoothdistill.datasets.wisdm import _CLASSES, _LAYOUT
from smoothdistill.datasets.wisdm_scanner import TAIL_BYTES, PlainRows, scan_rows

PLAIN = b"1600,A,90426708196641,7.091625,-0.5916671,8.195502;\n"


def scan(text: bytes, subject: bytes = b"1600") -> PlainRows | None:
    padded = np.frombuffer(text + bytes(TAIL_BYTES), dtype=np.uint8)
    return scan_rows(padded, len(text), subject, _CLASSES)


def assert_agrees(text: bytes, rows: PlainRows) -> None:
    path = Path("log.txt")
    table = parse_table(path, clean_text(path, text, _LAYOUT), _LAYOUT)
    np.testing.assert_array_equal(rows.signal, table.signal("x", "y", "z"))
    np.testing.assert_array_equal(np.signbit(rows.signal), np.signbit(table.signal("x", "y", "z")))
    times = table.integers("timestamp")
    np.testing.assert_array_equal(rows.seconds, (times - times[0]) / 1e9)


NUMBERS = st.one_of(
    st.floats(-200.0, 200.0, width=32).map(
        lambda value: np.format_float_positional(np.float32(value))
    ),
    st.floats(-0.001, 0.001).map(lambda value: f"{value:.7E}".replace("E-0", "E-")),
    st.decimals(-9_999_999, 9_999_999, places=8).map(lambda value: f"{value:f}"),
    st.integers(-9_999_999, 9_999_999).map(str),
    st.sampled_from(
        ["0", "-0", "0.0", "-0.0", "7.", "0.000000000000001", "1.5E10", "1E-22", "1.25e-05"]
    ),
)


@settings(max_examples=150)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from("ABCDEFGHIJKLMOPQRS"),
            st.integers(0, 10**18 - 1),
            NUMBERS,
            NUMBERS,
            NUMBERS,
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda row: row[1],
    )
)
def test_what_is_read_is_what_pyarrow_reads(rows: list[tuple[str, int, str, str, str]]) -> None:
    text = "".join(f"1600,{a},{t},{x},{y},{z};\n" for a, t, x, y, z in rows).encode()
    found = scan(text)
    if found is not None:
        assert len(found.signal) == len(rows)
        assert_agrees(text, found)


def test_plain_rows_are_read() -> None:
    text = b"".join(PLAIN.replace(b"7.09", b"%d." % row) for row in range(500))
    found = scan(text)
    assert found is not None
    assert len(found.signal) == 500
    assert_agrees(text, found)
    assert found.activities.tolist() == [0] * 500


def test_rows_shorter_than_the_first_ones() -> None:
    text = PLAIN * 400 + b"1600,B,1,0,0,0;\n" * 9000
    found = scan(text)
    assert found is not None
    assert len(found.signal) == 9400


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"\n",
        b"1601,A,90426708196641,7.0,-0.5,8.1;\n",
        b"1600,N,90426708196641,7.0,-0.5,8.1;\n",
        b"1600,AB,90426708196641,7.0,-0.5,8.1;\n",
        b"1600,A,-1,7.0,-0.5,8.1;\n",
        b"1600,A,,7.0,-0.5,8.1;\n",
        b"1600,A,1234567890123456789,7.0,-0.5,8.1;\n",
        b"1600,A,90426708196641,,-0.5,8.1;\n",
        b"1600,A,90426708196641,+7.0,-0.5,8.1;\n",
        b"1600,A,90426708196641, 7.0,-0.5,8.1;\n",
        b"1600,A,90426708196641,--7.0,-0.5,8.1;\n",
        b"1600,A,90426708196641,7.0.1,-0.5,8.1;\n",
        b"1600,A,90426708196641,12345678.0,-0.5,8.1;\n",
        b"1600,A,90426708196641,0.1234567890123456,-0.5,8.1;\n",
        b"1600,A,90426708196641,1E,-0.5,8.1;\n",
        b"1600,A,90426708196641,1%4,-0.5,8.1;\n",
        b"1600,A,90426708196641,1E400,-0.5,8.1;\n",
        b"1600,A,90426708196641,1E-99,-0.5,8.1;\n",
        b"1600,A,90426708196641,NaN,-0.5,8.1;\n",
        b"1600,A,90426708196641,7.0,-0.5;\n",
        b"1600,A,90426708196641,7.0,-0.5,8.1,9;\n",
        b"1600,A,90426708196641,7.0,-0.5,8.1;;\n",
        b"1600,A,90426708196641,7.0,-0.5,8.1\n",
        b"1600,A,90426708196641,7.0,-0.5,8.1;\r\n",
        b"1600,A,90426708196641,7.0,-0.5,8.1;",
        b"1600,A,90426708196641,7.0,-0.5,8.",
        b"1600,A,904267081966",
        b"16",
    ],
)
def test_anything_else_makes_it_give_up(row: bytes) -> None:
    for text in (row, PLAIN + row):
        if text != PLAIN:
            assert scan(text) is None
    if row.endswith(b"\n"):
        assert scan(row + PLAIN) is None


def test_a_subject_of_another_length() -> None:
    text = PLAIN.replace(b"1600", b"16001")
    assert scan(text, b"16001") is not None
    assert scan(text, b"1600") is None
    assert scan(PLAIN.replace(b"1600", b"160012"), b"160012") is None
    assert scan(PLAIN, b"") is None
