"""The user's own recording files, CSV or Parquet, as arrays for features: missing cells allowed."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.datasets.arrow import import_arrow
from smoothdistill.datasets.continuity import measured_rate_hz
from smoothdistill.datasets.delimited import Layout, clean_text, read_bytes
from smoothdistill.datasets.own_files import _RATE_TOLERANCE, _compiled, _groups, _wearings
from smoothdistill.datasets.own_tables import (
    TICKS_PER_SECOND,
    OwnTable,
    column_names,
    read_own_table,
)
from smoothdistill.errors import DataError
from smoothdistill.windows import IGNORE_INDEX, Recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Float64, Int64

__all__ = ["RecordingFormat", "Wearing", "as_wearing"]

NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
MISSING = ("", "nan", "na", "null")
_HEADER_BYTES = 1 << 20  # a file of another kind may have no line break at all


@dataclass(frozen=True, eq=False)
class Wearing:
    """One subject's wearing of one sensor: what windows are cut from.

    Args:
        signal: Samples, in any unit; NaN where one is missing.
        seconds: Time of every sample, in seconds, or None.
        targets: Label of every sample per column of labels, as a place in `words`, or
            `IGNORE_INDEX`.
        words: What the labels of each column are called.
        subject: Who wore the sensor, or None where the file does not say.
        session: Which wearing it was, likewise.
    """

    signal: Float32[np.ndarray, "time channels"]
    seconds: Float64[np.ndarray, " time"] | None = None
    targets: Mapping[str, Int64[np.ndarray, " time"]] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    subject: str | None = None
    session: str | None = None


def as_wearing(recording: Recording, class_names: Mapping[str, tuple[str, ...]]) -> Wearing:
    """A recording of a data set as a `Wearing`."""
    return Wearing(
        recording.signal,
        recording.timestamps_seconds,
        recording.targets,
        class_names,
        recording.subject,
        recording.session,
    )


@dataclass(frozen=True, kw_only=True)
class RecordingFormat:
    """Which columns of a file are what. Subject, session and labels may be in its name instead.

    Rows of several wearings may take turns; without a column of times, a recording ends where
    another has two rows in a row.

    Args:
        channels: Columns of the signal, in order.
        time: Column of times, or None.
        time_unit: "s", "ms", "us" or "ns". A Parquet column of timestamps needs none.
        delimiter: Character between the fields of a CSV file.
        subject: Column (or group of `name_pattern`) that says who wore the sensor. None is the
            column "subject" where the first file has one.
        session: The same for wearings of one subject.
        labels: Columns (or groups) of labels.
        name_pattern: Regular expression with named groups, searched for in the file's name.
        sample_rate_hz: What the times are checked against, in samples per second.
        allows_missing: Whether a cell of the signal may be empty, NaN or null.

    Raises:
        ValueError: If a value breaks its rule.
    """

    channels: tuple[str, ...] = ("x", "y", "z")
    time: str | None = None
    time_unit: str = "s"
    delimiter: str = ","
    subject: str | None = None
    session: str | None = None
    labels: tuple[str, ...] = ()
    name_pattern: str | None = None
    sample_rate_hz: float | None = None
    allows_missing: bool = True

    def __post_init__(self) -> None:
        if self.time_unit not in TICKS_PER_SECOND:
            raise ValueError(
                f"`time_unit` must be one of {list(TICKS_PER_SECOND)}, but is {self.time_unit!r} "
                "instead."
            )
        if len(self.delimiter) != 1:
            raise ValueError(f"`delimiter` must be 1 character, but is {self.delimiter!r} instead.")
        for name, columns in (("channels", self.channels), ("labels", self.labels)):
            if any(not column or columns.count(column) > 1 for column in columns):
                raise ValueError(
                    f"`{name}` must be names of different columns, but is {list(columns)} instead."
                )
        if not self.channels:
            raise ValueError("`channels` must name at least 1 column, but is empty instead.")
        if self.time is not None and self.sample_rate_hz is None:
            raise ValueError(
                "`sample_rate_hz` must be given where `time` is (gaps are found by it), but is "
                "None instead."
            )
        _compiled(self.name_pattern)

    def header(self, path: Path) -> tuple[str, ...]:
        """Names of the columns of a file, of which no more than the beginning is read.

        Raises:
            FileNotFoundError: If there is no such file.
            DataError: If it cannot be read.
        """
        if _is_parquet(path):
            try:
                return column_names(path, self.delimiter)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise _unreadable(path, error) from error
        try:
            with path.open("rb") as file:
                first = file.readline(_HEADER_BYTES)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(path, error) from error
        first = re.split(rb"[\r\n]", first, maxsplit=1)[0] or first[:1]
        text = clean_text(path, first, Layout("CSV", (), must_be_closed=False)).decode()
        names = tuple(name.strip() for name in next(csv.reader([text], delimiter=self.delimiter)))
        for name in names:
            if names.count(name) > 1:
                raise DataError(
                    f"`{path.name}:1` must be a header of different names, but repeats {name!r} "
                    "instead."
                )
        return names

    def resolved(self, path: Path) -> RecordingFormat:
        """This format with subject and session as the given file, the first one, has them."""
        known = {*self.header(path), *_groups(path, _compiled(self.name_pattern))}
        known -= {*self.channels, self.time}
        return replace(
            self,
            subject=self.subject or ("subject" if "subject" in known else None),
            session=self.session or ("session" if "session" in known else None),
        )

    def check(self, path: Path) -> None:
        """Refuse a file that lacks a column.

        Raises:
            FileNotFoundError: If there is no such file.
            DataError: If it cannot be read, or lacks a column.
        """
        names = self.header(path)
        for column in self._columns(path):
            if column not in names:
                raise DataError(
                    f"`{path.name}` must have the column {column!r}, but has {list(names)} instead."
                )

    def read(self, path: Path) -> list[Wearing]:
        """What a file holds, parted by subject and session, in the order in which they appear.

        Raises:
            FileNotFoundError: If there is no such file.
            DataError: If a cell is not of its kind; the sentence names file:line:column.
        """
        found = _groups(path, _compiled(self.name_pattern))
        table = self._read_table(path)
        signal = table.signal
        owners = [
            name for name in (self.subject, self.session) if name is not None and name not in found
        ]
        parts: list[Any] = [slice(None)]
        if owners:
            parts = _wearings(table, found, owners[0], owners[1] if len(owners) > 1 else None)
        labels = {name: _labels(table, name, found, len(signal)) for name in self.labels}

        def owner(name: str | None, rows: Any) -> str | None:
            if name is None or name in found:
                return None if name is None else found[name]
            codes, words = table.words[name]
            first = 0 if isinstance(rows, slice) else int(rows[0])
            word: str = words[codes[first]]
            if not word:
                raise table.error(first, name, "at least 1 character")
            return word

        wearings = []
        for rows in parts:
            seconds = None if table.seconds is None else table.seconds[rows]
            self._check_rate(path, seconds)
            wearings.append(
                Wearing(
                    signal[rows],
                    seconds,
                    {name: codes[rows] for name, (codes, _) in labels.items()},
                    {name: words for name, (_, words) in labels.items()},
                    owner(self.subject, rows),
                    owner(self.session, rows),
                )
            )
        return wearings

    def _columns(self, path: Path) -> list[str]:
        found = _groups(path, _compiled(self.name_pattern))
        words = [name for name in (self.subject, self.session, *self.labels) if name is not None]
        return [
            *self.channels,
            *([] if self.time is None else [self.time]),
            *(word for word in dict.fromkeys(words) if word not in found),
        ]

    def _check_rate(self, path: Path, seconds: Float64[np.ndarray, " time"] | None) -> None:
        measured = None if seconds is None else measured_rate_hz(seconds)
        if measured is None or self.sample_rate_hz is None:
            return
        if abs(self.sample_rate_hz / measured - 1.0) > _RATE_TOLERANCE:
            raise DataError(
                f"`sample_rate_hz` must be within 20 % of the {measured:.4g} Hz that the times of "
                f"{path.name} show, but is {self.sample_rate_hz:g} instead."
            )

    def _read_table(self, path: Path) -> OwnTable:
        names = self.header(path)
        columns = self._columns(path)
        words = columns[len(self.channels) + (self.time is not None) :]

        def table(channels: Sequence[str], words: Sequence[str]) -> OwnTable:
            return read_own_table(
                path,
                names=names,
                channels=channels,
                time=self.time,
                time_unit=self.time_unit,
                words=words,
                delimiter=self.delimiter,
            )

        is_parquet = _is_parquet(path)
        if is_parquet or not (self.allows_missing and _seems_to_miss(path, self.delimiter)):
            try:
                return table(self.channels, words)
            except DataError as fault:
                if not self.allows_missing:
                    raise
                if is_parquet:
                    signal = _parquet_signal(path, names, self.channels, fault)
                    return replace(table((), words), signal=signal)
        texts = table((), [*dict.fromkeys([*self.channels, *words])])
        signal = np.stack([_numbers(texts, name) for name in self.channels], axis=1)
        return replace(texts, signal=signal)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in {".parquet", ".pq"}


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"`{path.name}` must be a readable file, but is {error.strerror} instead.")


def _seems_to_miss(path: Path, delimiter: str) -> bool:
    """Whether a CSV may have empty cells or NaN: the strict reader then is not even tried.

    It would look for the first fault line by line, in Python. A wrong guess costs time, no more.
    """
    text = read_bytes(path)
    mark = delimiter.encode()
    signs = (mark + mark, mark + b"\n", mark + b"\r", b"\n" + mark, b"nan", b"NaN", mark + b"NA")
    return any(sign in text for sign in signs)


def _numbers(table: OwnTable, name: str) -> Float32[np.ndarray, " rows"]:
    """A column that was read as words, as numbers; NaN where a word says that there is none."""
    codes, words = table.words[name]
    values = np.empty(len(words), np.float64)
    rule = "a finite number, or empty"
    for code, word in enumerate(words):
        text = word.strip()
        if text.lower() in MISSING:
            values[code] = np.nan
        elif NUMBER.fullmatch(text):
            values[code] = float(text)
        else:
            raise table.error(int(np.flatnonzero(codes == code)[0]), name, rule)
    with np.errstate(over="ignore"):
        column = np.asarray(values.astype(np.float32)[codes])
    if np.isinf(column).any():
        raise table.error(int(np.isinf(column).argmax()), name, "within the range of float32")
    return column


def _parquet_signal(
    path: Path, names: tuple[str, ...], channels: Sequence[str], fault: DataError
) -> Float32[np.ndarray, "rows channels"]:
    """The channels with nulls as NaN; `fault` is raised again where that was not the reason."""
    pa, parquet = import_arrow(), import_arrow("parquet")

    try:
        table = parquet.ParquetFile(path).read(columns=list(channels), use_threads=False)
    except pa.ArrowException:
        raise fault from None
    if not table.num_rows:
        raise fault
    signal = np.empty((table.num_rows, len(channels)), np.float32)
    for channel, name in enumerate(channels):
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise DataError(
                f"`{path.name}` ({name}) must be a column of real numbers, but is of {kind} "
                "instead."
            )
        with np.errstate(over="ignore"):
            signal[:, channel] = table.column(name).to_numpy()
        if np.isinf(signal[:, channel]).any():
            row = int(np.isinf(signal[:, channel]).argmax())
            raise DataError(
                f"`{path.name}:{row + 1}:{names.index(name) + 1}` ({name}) must be a finite number "
                f"or missing, but is {table.column(name)[row].as_py()!r} instead."
            )
    return signal


def _labels(
    table: OwnTable, name: str, found: Mapping[str, str], num_rows: int
) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    """Labels as places in a sorted tuple of words: so that ties fall the same way in every file."""
    if name in found:
        return np.broadcast_to(np.int64(0), num_rows), (found[name],)
    codes, words = table.words[name]
    known = sorted(set(words) - {""})
    if all(re.fullmatch(r"-?\d+", word) for word in known):
        known.sort(key=int)
    places = {word: place for place, word in enumerate(known)} | {"": IGNORE_INDEX}
    if len(words) == 1:
        return np.broadcast_to(np.int64(places[words[0]]), num_rows), tuple(known)
    return np.array([places[word] for word in words], np.int64)[codes], tuple(known)
