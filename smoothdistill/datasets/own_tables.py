"""One of the user's own files, CSV or Parquet, as checked columns."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.datasets.arrow import import_arrow
from smoothdistill.datasets.delimited import Column, Layout, clean_text, parse_table, read_bytes
from smoothdistill.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jaxtyping import Float32, Float64, Int64

__all__ = ["OwnTable", "column_names", "read_own_table"]

TICKS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclass(frozen=True, eq=False)
class OwnTable:
    """Columns of one file.

    Args:
        signal: Channels in the order asked for.
        seconds: Time of every row from the first one, in seconds, or None without a time column.
        words: Codes and distinct words of each column of words.
        error: Makes a DataError from row, column and rule.
    """

    path: Path
    signal: Float32[np.ndarray, "rows channels"]
    seconds: Float64[np.ndarray, " rows"] | None
    words: dict[str, tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]]
    error: Callable[[int, str, str], DataError]


def column_names(path: Path, delimiter: str) -> tuple[str, ...]:
    """Names of the columns of a CSV (its first line) or Parquet file."""
    if _is_parquet(path):
        pa, parquet = import_arrow(), import_arrow("parquet")

        try:
            return tuple(parquet.read_schema(path).names)
        except pa.ArrowException as error:
            raise DataError(
                f"`{path.name}` must be a Parquet file, but is not: {str(error).splitlines()[0]}"
            ) from None
    layout = Layout(title="CSV", columns=(), must_be_closed=False)
    first = clean_text(path, read_bytes(path), layout).split(b"\n", 1)[0].decode()
    names = tuple(name.strip() for name in next(csv.reader([first], delimiter=delimiter)))
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"`{path.name}:1` must be a header of different names, but repeats {repeated!r} "
            "instead."
        )
    return names


def read_own_table(
    path: Path,
    *,
    names: tuple[str, ...],
    channels: Sequence[str],
    time: str | None,
    time_unit: str,
    words: Sequence[str],
    delimiter: str,
) -> OwnTable:
    """Read the columns that are asked for; the others are only counted.

    Raises:
        DataError: If a cell is missing or not of its kind; the sentence names file:line:column.
    """
    needed = [*channels, *([] if time is None else [time]), *words]
    for name in needed:
        if name not in names:
            raise DataError(
                f"`{path.name}` must have the column {name!r}, but has {list(names)} instead."
            )
    reader = _read_parquet if _is_parquet(path) else _read_csv
    return reader(path, names, channels, time, time_unit, words, delimiter)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in {".parquet", ".pq"}


def _seconds(ticks: np.ndarray, time_unit: str) -> Float64[np.ndarray, " rows"]:
    # the first time is taken off before the division: integer nanoseconds exceed float64's digits
    return np.asarray((ticks - ticks[0]) / TICKS_PER_SECOND[time_unit], dtype=np.float64)


def _read_csv(
    path: Path,
    names: tuple[str, ...],
    channels: Sequence[str],
    time: str | None,
    time_unit: str,
    words: Sequence[str],
    delimiter: str,
) -> OwnTable:
    text = clean_text(path, read_bytes(path), Layout("CSV", (), must_be_closed=False))

    def layout(time_kind: Any) -> Layout:
        kinds: dict[str, Any] = dict.fromkeys(channels, "float64") | dict.fromkeys(words, "string")
        if time is not None:
            kinds[time] = time_kind
        return Layout(
            title="CSV",
            columns=tuple(Column(name, kinds.get(name, "ignored")) for name in names),
            delimiter=delimiter,
            header=names,
            must_be_closed=False,
            is_timed=time is not None,
            is_quoted=True,
        )

    # Integer times stay integers: float64 holds nanoseconds since 1970 to 0.2 microseconds only.
    time_kind = (
        "int64" if time is not None and _is_whole(text, names, time, delimiter) else "float64"
    )
    text = clean_text(path, text, layout(time_kind))
    table = parse_table(path, text, layout(time_kind))
    seconds = None if time is None else _seconds(table.floats(time), time_unit)
    return OwnTable(
        path,
        table.signal(*channels),
        seconds,
        {name: table.words(name) for name in words},
        table.error,
    )


def _is_whole(text: bytes, names: tuple[str, ...], time: str, delimiter: str) -> bool:
    """Whether every time is written as an integer (a look at the first row, then at all)."""
    column = names.index(time)
    lines = text.split(b"\n", 2)
    if len(lines) < 2 or not lines[1].strip():
        return False
    row = next(csv.reader([lines[1].decode()], delimiter=delimiter))
    if len(row) <= column or not row[column].strip().lstrip("-").isdigit():
        return False
    rows = csv.reader(text.decode().split("\n")[1:], delimiter=delimiter)
    return all("." not in row[column] for row in rows if len(row) > column)


def _read_parquet(
    path: Path,
    names: tuple[str, ...],
    channels: Sequence[str],
    time: str | None,
    time_unit: str,
    words: Sequence[str],
    delimiter: str,
) -> OwnTable:
    pa, parquet = import_arrow(), import_arrow("parquet")

    def error(row: int, name: str, rule: str) -> DataError:
        value = table.column(name)[row].as_py()
        return DataError(
            f"`{path.name}:{row + 1}:{names.index(name) + 1}` ({name}) must be {rule}, but is "
            f"{value!r} instead."
        )

    needed = list(dict.fromkeys([*channels, *([] if time is None else [time]), *words]))
    try:
        table = parquet.ParquetFile(path).read(columns=needed, use_threads=False)
    except pa.ArrowException as failure:
        raise DataError(
            f"`{path.name}` must be a Parquet file, but is not: {str(failure).splitlines()[0]}"
        ) from None
    if table.num_rows == 0:
        raise DataError(f"`{path.name}` must hold at least 1 row, but holds none instead.")
    for name in needed:
        column = table.column(name)
        if column.null_count:
            missing = column.is_null().to_numpy()
            raise error(int(missing.argmax()), name, "a value")
    signal = np.empty((table.num_rows, len(channels)), dtype=np.float32)
    for channel, name in enumerate(channels):
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise DataError(
                f"`{path.name}` ({name}) must be a column of real numbers, but is of {kind} "
                "instead."
            )
        with np.errstate(over="ignore"):
            signal[:, channel] = table.column(name).to_numpy()
        finite = np.isfinite(signal[:, channel])
        if not finite.all():
            raise error(int(finite.argmin()), name, "a finite number")
    seconds = None
    if time is not None:
        column = table.column(time)
        if pa.types.is_timestamp(column.type):
            ticks = column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy()
            seconds = _seconds(ticks, "ns")
        elif pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            ticks = column.to_numpy()
            if not np.isfinite(ticks).all():
                raise error(int(np.isfinite(ticks).argmin()), time, "a finite number")
            seconds = _seconds(ticks, time_unit)
        else:
            raise DataError(
                f"`{path.name}` ({time}) must be a column of times, but is of {column.type} "
                "instead."
            )
    return OwnTable(
        path,
        signal,
        seconds,
        {name: _words(table.column(name)) for name in words},
        error,
    )


def _words(column: Any) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    pa = import_arrow()

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = column.cast(pa.string()).dictionary_encode().combine_chunks()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, tuple(encoded.dictionary.to_pylist())
