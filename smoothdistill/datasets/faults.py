"""The place of the first fault in a delimited text: file:line:column, the rule and the value."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from smoothdistill.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smoothdistill.datasets.delimited import Layout

__all__ = ["describe", "first_fault", "records"]

_PATTERNS = {
    "float64": rb"[ \t]*-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[ \t]*",
    "int64": rb"[ \t]*-?\d{1,19}[ \t]*",
}
_RULES = {"float64": "a finite number", "int64": "an integer"}
_INT64_LIMIT = 2**63


def records(text: bytes, layout: Layout) -> Iterator[tuple[int, bytes]]:
    """Line number (from 1) and bytes of every record, in order; a blank line is mostly none."""
    end = layout.record_end.encode()
    for number, line in enumerate(text.split(b"\n"), start=1):
        if number == 1 and layout.header is not None:
            continue
        for record in line.split(end) if end else (line,):
            is_blank = not record.strip() and (not record or layout.delimiter == " ")
            if layout.has_blank_records or not is_blank:
                yield number, record


def first_fault(path: Path, text: bytes, layout: Layout) -> DataError | None:
    """The error of the first record that breaks the layout, if one does."""
    is_plain = _plain_record(layout).fullmatch
    for line, record in records(text, layout):
        # the pattern passes over most records a hundred times faster than the closer look
        if layout.is_quoted or not is_plain(record):
            fault = _fault(path, line, record, layout)
            if fault is not None:
                return fault
    return None


def _plain_record(layout: Layout) -> re.Pattern[bytes]:
    blank = layout.delimiter == " "
    delimiter = rb"[ \t]+" if blank else re.escape(layout.delimiter.encode())
    word = rb"[^" + re.escape(layout.delimiter.encode()) + rb"]*"
    patterns = {"float64": rb"-?\d{1,18}(?:\.\d{1,18})?", "int64": rb"-?\d{1,18}"}
    return re.compile(delimiter.join(patterns.get(column.kind, word) for column in layout.columns))


def describe(
    path: Path, line: int, column: int, record: bytes, layout: Layout, rule: str
) -> DataError:
    """A DataError on one field of one record."""
    fields = _split(record, layout)
    value = fields[column].decode("utf-8", "replace").strip() if column < len(fields) else ""
    name = layout.columns[column].name
    return DataError(
        f"`{path.name}:{line}:{column + 1}` ({name}) must be {rule}, but is {value[:60]!r} instead."
    )


def _split(record: bytes, layout: Layout) -> list[bytes]:
    if layout.is_quoted:
        text = record.decode("utf-8", "replace")
        fields = next(csv.reader([text], delimiter=layout.delimiter), [])
        return [field.encode() for field in fields or [""]]
    return record.split() if layout.delimiter == " " else record.split(layout.delimiter.encode())


def _fault(path: Path, line: int, record: bytes, layout: Layout) -> DataError | None:
    fields = _split(record, layout)
    if layout.header is not None and [
        field.strip().decode("utf-8", "replace") for field in fields
    ] == list(layout.header):
        return DataError(
            f"`{path.name}:{line}` must be a row of numbers, but repeats the header instead (two "
            "files in one)."
        )
    if len(fields) != len(layout.columns):
        return DataError(
            f"`{path.name}:{line}` must hold {len(layout.columns)} fields ({layout.title}), but "
            f"holds {len(fields)} instead: {record[:60].decode('utf-8', 'replace')!r}."
        )
    for number, (column, field) in enumerate(zip(layout.columns, fields, strict=True)):
        if column.kind not in _PATTERNS:
            continue
        is_right = re.fullmatch(_PATTERNS[column.kind], field) is not None
        if is_right and column.kind == "int64":
            is_right = -_INT64_LIMIT <= int(field) < _INT64_LIMIT
        elif is_right:
            is_right = abs(float(field)) != float("inf")
        if not is_right:
            return describe(path, line, number, record, layout, _RULES[column.kind])
    return None
