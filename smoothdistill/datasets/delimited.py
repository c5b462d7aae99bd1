"""The one strict reader of delimited text: a declared schema, and errors that name line and column.

Numbers are parsed by pyarrow.csv with declared types, which refuses most garbage (short and long
rows, text in a number column, empty cells). What it lets pass is checked here: NaN and infinity,
overflow to infinity, hexadecimal integers, no rows, a doubled or cut file, another encoding. Only
when something is wrong is the text walked again in Python, to find the place.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from smoothdistill.datasets.arrow import import_arrow
from smoothdistill.datasets.faults import describe, first_fault, records
from smoothdistill.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jaxtyping import Float, Float64, Int64

__all__ = ["Column", "Layout", "Table", "clean_text", "parse_table", "read_bytes", "read_table"]

Kind = Literal["float64", "int64", "string", "ignored"]

_BLOCK_BYTES = 1 << 20
_LONG_TEXT_BYTES = 4096  # a shorter text without times may repeat itself by chance
_FOREIGN_MARKS = (
    codecs.BOM_UTF32_LE,
    codecs.BOM_UTF32_BE,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
)


@dataclass(frozen=True)
class Column:
    """One column of a layout."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Layout:
    """How the records of a text file look.

    Args:
        title: Data set, for messages.
        columns: Columns in order.
        delimiter: Character between fields; " " stands for any run of spaces and tabs.
        header: Field names that the first line must hold, or none.
        record_end: Character that may end a record, besides the line break.
        must_be_closed: Whether the last record must end like the others (a file that does not was
            cut).
        is_timed: Whether no two records can be equal, so that a text twice over is a fault.
        is_quoted: Whether fields may stand in double quotes.
    """

    title: str
    columns: tuple[Column, ...]
    delimiter: str = ","
    header: tuple[str, ...] | None = None
    record_end: str = ""
    must_be_closed: bool = True
    is_timed: bool = False
    is_quoted: bool = False

    @property
    def has_blank_records(self) -> bool:
        """Whether a blank line is a record: in one column it is a field that is missing."""
        return len(self.columns) == 1 and not self.record_end


class Table:
    """Columns of one file, and the way back to the place of each row."""

    def __init__(
        self, path: Path, text: bytes, layout: Layout, columns: dict[str, Any], num_rows: int
    ) -> None:
        self.path = path
        self.num_rows = num_rows
        self._text = text
        self._layout = layout
        self._columns = columns

    def floats(self, name: str) -> Float64[np.ndarray, " rows"]:
        """A column of real numbers, finite."""
        values: np.ndarray = self._columns[name]
        return values

    def integers(self, name: str) -> Int64[np.ndarray, " rows"]:
        """A column of integers."""
        values: np.ndarray = self._columns[name]
        return values

    def signal(self, *names: str) -> Float[np.ndarray, "rows channels"]:
        """Columns of real numbers side by side, as float32 [rows, channels].

        Raises:
            DataError: If a number is too large for float32.
        """
        signal = np.empty((self.num_rows, len(names)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for channel, name in enumerate(names):
                signal[:, channel] = self._columns[name]
        finite = np.isfinite(signal)
        if not finite.all():
            row, channel = np.argwhere(~finite)[0]
            raise self.error(int(row), names[int(channel)], "within the range of float32")
        return signal

    def classes(
        self, name: str, indices: Mapping[str, int], rule: str
    ) -> Int64[np.ndarray, " rows"]:
        """A column of words as class indices.

        Args:
            name: Column.
            indices: Class index of every allowed word.
            rule: What a word must be, for the message.

        Raises:
            DataError: If a word is not among the allowed ones.
        """
        codes, words = self._columns[name]
        for code, word in enumerate(words):
            if word not in indices:
                raise self.error(int(np.flatnonzero(codes == code)[0]), name, rule)
        indices_of_words = np.array([indices[word] for word in words], dtype=np.int64)
        return np.asarray(indices_of_words[codes])

    def words(self, name: str) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
        """A column of words as codes and the distinct words, in order of appearance."""
        codes, words = self._columns[name]
        return codes, words

    def require(self, name: str, is_right: np.ndarray, rule: str) -> None:
        """Raise a DataError that names the first row where `is_right` is False."""
        if not is_right.all():
            raise self.error(int(is_right.argmin()), name, rule)

    def error(self, row: int, name: str, rule: str) -> DataError:
        """A DataError on one cell: file:line:column, the rule and the value."""
        column = [column.name for column in self._layout.columns].index(name)
        place = next(
            (
                (line, record)
                for number, (line, record) in enumerate(records(self._text, self._layout))
                if number == row
            ),
            (row + 1, b""),
        )
        return describe(self.path, place[0], column, place[1], self._layout, rule)


def read_table(path: Path, layout: Layout) -> Table:
    """Read a file that must follow the layout in every record.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If the file breaks the layout; the sentence names file:line:column.
    """
    return parse_table(path, clean_text(path, read_bytes(path), layout), layout)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(
            f"`{path.name}` must be a readable file, but is {error.strerror} instead."
        ) from error


def clean_text(path: Path, text: bytes, layout: Layout) -> bytes:
    """Check encoding and completeness; return the text with line feeds and without a BOM."""
    name = path.name
    if text.startswith(_FOREIGN_MARKS):
        raise DataError(
            f"`{name}` must be UTF-8 text, but begins with a UTF-16 or UTF-32 mark instead."
        )
    text = text.removeprefix(codecs.BOM_UTF8)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\0" in text:
        line = text.count(b"\n", 0, text.index(b"\0")) + 1
        raise DataError(f"`{name}:{line}` must be UTF-8 text, but holds a zero byte instead.")
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"`{name}:{line}` must be UTF-8 text, but holds the byte "
                f"0x{text[error.start]:02x} instead."
            ) from None
    if not text.strip():
        raise DataError(f"`{name}` must hold at least 1 row, but is empty instead.")
    if layout.must_be_closed:
        end = layout.record_end.encode() or b"\n"
        closed = text.rstrip() if layout.record_end else text
        if not closed.endswith(end):
            lines = text.split(b"\n")
            last = lines[-1] or lines[-2]
            what = f"'{layout.record_end}'" if layout.record_end else "a line break"
            line = text.rstrip().count(b"\n") + 1
            raise DataError(
                f"`{name}:{line}` must end with {what} (the file is cut), "
                f"but ends with {last[-20:].decode('utf-8', 'replace')!r} instead."
            )
    if layout.is_timed or len(text) >= _LONG_TEXT_BYTES:
        _refuse_doubled(name, text, layout)
    return text.rstrip(b"\n") if layout.has_blank_records else text


def _refuse_doubled(name: str, text: bytes, layout: Layout) -> None:
    body = text[text.index(b"\n") + 1 :] if layout.header and b"\n" in text else text
    half = len(body) // 2
    if len(body) % 2 or body[:64] != body[half : half + 64] or half < 64:
        return
    if body[:half] != body[half:]:
        return
    # Without times the half may repeat itself, too: a sensor that lay still, or a made signal.
    if layout.is_timed or body.find(body[:half], 1) == half:
        raise DataError(
            f"`{name}` must hold each record once, but holds the same {half} bytes twice instead."
        )


def parse_table(path: Path, text: bytes, layout: Layout) -> Table:
    """Parse a text that `clean_text` has returned (see `read_table`)."""
    pa, arrow_csv = import_arrow(), import_arrow("csv")

    body = _body(path, text, layout)
    if layout.record_end:
        body = body.replace(layout.record_end.encode(), b"\n")
    delimiter = layout.delimiter
    if delimiter == " ":
        body = _single_spaces(body)
    types = {
        "float64": pa.float64(),
        "int64": pa.int64(),
        "string": pa.dictionary(pa.int32(), pa.string()),
    }
    used = [column for column in layout.columns if column.kind != "ignored"]
    if (b"0x" in body or b"0X" in body) and (fault := first_fault(path, text, layout)):
        raise fault  # pyarrow would read a hexadecimal integer
    try:
        parsed = arrow_csv.read_csv(
            io.BytesIO(body),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=_block_bytes(body),
                column_names=[column.name for column in layout.columns],
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if layout.is_quoted else False,
                ignore_empty_lines=not layout.has_blank_records,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={column.name: types[column.kind] for column in used},
                include_columns=[column.name for column in used],
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        raise first_fault(path, text, layout) or DataError(
            f"`{path.name}` must be {layout.title} text of {len(layout.columns)} fields a row, but "
            f"is not: {str(error).splitlines()[0]}"
        ) from None
    if parsed.num_rows == 0:
        raise DataError(f"`{path.name}` must hold at least 1 row, but holds none instead.")
    columns: dict[str, Any] = {}
    for column in used:
        values = parsed.column(column.name)
        if column.kind == "string":
            combined = values.unify_dictionaries().combine_chunks()
            codes = combined.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            columns[column.name] = (codes, tuple(combined.dictionary.to_pylist()))
        else:
            columns[column.name] = values.to_numpy()
    table = Table(path, text, layout, columns, parsed.num_rows)
    for column in used:
        if column.kind == "float64":
            values = columns[column.name]
            table.require(column.name, np.isfinite(values), "a finite number")
    return table


def _block_bytes(body: bytes) -> int:
    """One block holds at least one line, or pyarrow calls the line too long."""
    first_lines = body[: 1 << 16].split(b"\n")
    return max(_BLOCK_BYTES, 4 * max(len(line) for line in first_lines))


def _body(path: Path, text: bytes, layout: Layout) -> bytes:
    if layout.header is None:
        return text
    first, _, body = text.partition(b"\n")
    found = [field.strip(' "') for field in first.decode().split(layout.delimiter)]
    if layout.is_quoted:
        found = [
            field.strip()
            for field in next(csv.reader([first.decode()], delimiter=layout.delimiter))
        ]
    if found != list(layout.header):
        raise DataError(
            f"`{path.name}:1` must be the header {','.join(layout.header)!r} ({layout.title}), but "
            f"is {first[:80].decode('utf-8', 'replace')!r} instead."
        )
    if not body.strip():
        raise DataError(
            f"`{path.name}` must hold at least 1 row, but holds the header only instead."
        )
    return body


def _single_spaces(body: bytes) -> bytes:
    if b"\t" in body or b"  " in body:
        body = re.sub(rb"[ \t]+", b" ", body)
    if body.startswith(b" ") or b"\n " in body:
        body = re.sub(rb"(?m)^ ", b"", body)
    if b" \n" in body or body.endswith(b" "):
        body = re.sub(rb"(?m) $", b"", body)
    return body
