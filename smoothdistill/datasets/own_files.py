"""The user's own CSV or Parquet files -> windows."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.datasets.continuity import measured_rate_hz
from smoothdistill.datasets.own_tables import (
    TICKS_PER_SECOND,
    OwnTable,
    column_names,
    read_own_table,
)
from smoothdistill.errors import DataError
from smoothdistill.windows import IGNORE_INDEX, Recording, cut_windows
from smoothdistill.windows.checks import checked_count

if TYPE_CHECKING:
    from jaxtyping import Int64

    from smoothdistill.windows import LabelRule, Windows

__all__ = ["from_csv"]

_SUFFIXES = (".csv", ".txt", ".tsv", ".parquet", ".pq")
_RATE_TOLERANCE = 0.2


def from_csv(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    targets: Mapping[str, str],
    channels: Sequence[str] = ("x", "y", "z"),
    subject: str = "subject",
    session: str | None = None,
    time: str | None = None,
    time_unit: str = "s",
    sample_rate_hz: float | None = None,
    name_pattern: str | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
    unlabelled: Sequence[str] = ("",),
    delimiter: str = ",",
    window_samples: int = 100,
    step_samples: int = 60,
    label: LabelRule = "pure",
    max_gap_seconds: float | None = None,
    name: str = "custom",
) -> Windows:
    """Windows of your own recordings: one file or many, CSV with a header line, or Parquet.

    Subject, session and labels come each from a column, or from the file's name: a name that is a
    group of `name_pattern` is taken from there. Rows of several wearings may take turns; without
    times, a recording ends where another wearing has two rows in a row.

    Args:
        paths: A file, a folder, a glob pattern, or several files.
        targets: Column (or group) of each task's labels, such as {"activity": "label"}.
        channels: Columns of the signal, in order.
        subject: Column (or group) that says who wore the sensor.
        session: Column (or group) that tells wearings of one subject apart: rows of two devices in
            one file, for example.
        time: Column of times, if there is one. Windows then cross no gap.
        time_unit: "s", "ms", "us" or "ns". A Parquet column of timestamps needs none.
        sample_rate_hz: Samples per second; measured from the times if None. No wearing that can
            hold a window may be off it by more than 20 %.
        name_pattern: Regular expression with named groups, searched for in the file's name, such as
            r"(?P<subject>s[0-9]+)_(?P<placement>wrist|ankle)".
        class_names: Classes of each task, in order; those found, sorted, for a task without.
        unlabelled: Words that mark a sample without a label.
        delimiter: Character between the fields of a CSV file.
        window_samples: Window length, in samples, at least 1.
        step_samples: Hop between windows, in samples, at least 1.
        label: "pure", "last", "middle" or "majority" (see `cut_windows`).
        max_gap_seconds: Longest step of time inside a window, in seconds (see `cut_windows`).
        name: What the data are called in reports.

    Returns:
        Windows with the given tasks; channels in the files' own unit.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an option breaks its rule.
        FileNotFoundError: If no file is found.
        DataError: If a file lacks a column, has a bad cell (the sentence names file:line:column) or
            times of another rate.
    """
    if not isinstance(targets, Mapping):
        raise TypeError(
            "`targets` must be a mapping of task to column, but is "
            f"{type(targets).__name__} instead."
        )
    if not targets:
        raise ValueError("`targets` must hold at least 1 task, but is empty instead.")
    if isinstance(channels, str) or not channels:
        raise ValueError(
            f"`channels` must be a sequence of at least 1 column, but is {channels!r} instead."
        )
    for task in class_names or ():
        if task not in targets:
            raise ValueError(
                f"`class_names` must have tasks of `targets` ({list(targets)}) as keys, but has "
                f"{task!r} instead."
            )
    if time_unit not in TICKS_PER_SECOND:
        raise ValueError(
            f"`time_unit` must be one of {list(TICKS_PER_SECOND)}, but is {time_unit!r} instead."
        )
    if len(delimiter) != 1:
        raise ValueError(f"`delimiter` must be 1 character, but is {delimiter!r} instead.")
    if sample_rate_hz is None and time is None:
        raise ValueError("`sample_rate_hz` must be given where `time` is not, but is None instead.")
    pattern = _compiled(name_pattern)
    files = _files(paths)
    tables, groups = [], []
    wanted = list(dict.fromkeys([subject, *([session] if session else []), *targets.values()]))
    for path in files:
        found = _groups(path, pattern)
        tables.append(
            read_own_table(
                path,
                names=column_names(path, delimiter),
                channels=channels,
                time=time,
                time_unit=time_unit,
                words=[word for word in wanted if word not in found],
                delimiter=delimiter,
            )
        )
        groups.append(found)
    classes = {
        task: _classes(task, column, tables, groups, class_names, unlabelled)
        for task, column in targets.items()
    }
    wearings = [
        _wearings(table, found, subject, session)
        for table, found in zip(tables, groups, strict=True)
    ]
    fewest = checked_count("window_samples", window_samples)
    rate = _rate(sample_rate_hz, tables, wearings, fewest)
    recordings: list[Recording] = []
    for table, found, row_groups in zip(tables, groups, wearings, strict=True):
        labels = {
            task: _labels(table, found, column, classes[task], unlabelled)
            for task, column in targets.items()
        }
        recordings += [
            _recording(table, found, rows, labels, subject, session, rate, channels)
            for rows in row_groups
        ]
    return cut_windows(
        recordings,
        class_names=classes,
        window_samples=window_samples,
        step_samples=step_samples,
        label=label,
        max_gap_seconds=max_gap_seconds,
        name=name,
    )


def _compiled(name_pattern: str | None) -> re.Pattern[str] | None:
    if name_pattern is None:
        return None
    try:
        pattern = re.compile(name_pattern)
    except re.error as error:
        raise ValueError(
            f"`name_pattern` must be a regular expression, but is {name_pattern!r} ({error}) "
            "instead."
        ) from None
    if not pattern.groupindex:
        raise ValueError(
            "`name_pattern` must have a named group, such as (?P<subject>s[0-9]+), but is "
            f"{name_pattern!r} instead."
        )
    return pattern


def _files(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: list[Path] = []
    for entry in given:
        path = Path(entry)
        if path.is_dir():
            files += sorted(
                file
                for file in path.iterdir()
                if file.is_file() and file.suffix.lower() in _SUFFIXES
            )
        elif path.is_file():
            files.append(path)
        else:
            files += sorted(Path(file) for file in glob.glob(os.fspath(entry), recursive=True))  # noqa: PTH207
    if not files:
        shown = [os.fspath(entry) for entry in given]
        raise FileNotFoundError(f"`paths` must name at least 1 file, but is {shown} instead.")
    return files


def _groups(path: Path, pattern: re.Pattern[str] | None) -> dict[str, str]:
    if pattern is None:
        return {}
    match = pattern.search(path.name)
    if match is None:
        raise DataError(
            f"`paths` must have names that match {pattern.pattern!r}, but has {path.name!r} "
            "instead."
        )
    return {group: value for group, value in match.groupdict().items() if value is not None}


def _classes(
    task: str,
    column: str,
    tables: list[OwnTable],
    groups: list[dict[str, str]],
    class_names: Mapping[str, Sequence[str]] | None,
    unlabelled: Sequence[str],
) -> tuple[str, ...]:
    if class_names is not None and task in class_names:
        return tuple(class_names[task])
    words: set[str] = set()
    for table, found in zip(tables, groups, strict=True):
        words.update([found[column]] if column in found else table.words[column][1])
    words -= set(unlabelled)
    if not words:
        raise DataError(f"`{column}` must hold at least 1 label, but holds none instead.")
    if all(re.fullmatch(r"-?\d+", word) for word in words):
        return tuple(sorted(words, key=int))
    return tuple(sorted(words))


def _labels(
    table: OwnTable,
    found: dict[str, str],
    column: str,
    classes: tuple[str, ...],
    unlabelled: Sequence[str],
) -> Int64[np.ndarray, " rows"]:
    indices = {word: index for index, word in enumerate(classes)}
    indices |= dict.fromkeys(unlabelled, IGNORE_INDEX)
    rule = f"one of {list(classes)}"
    if column in found:
        if found[column] not in indices:
            raise DataError(
                f"`{table.path.name}` ({column}) must be {rule}, but is {found[column]!r} instead."
            )
        return np.broadcast_to(np.int64(indices[found[column]]), len(table.signal))
    codes, words = table.words[column]
    for code, word in enumerate(words):
        if word not in indices:
            raise table.error(int(np.flatnonzero(codes == code)[0]), column, rule)
    indices_of_words = np.array([indices[word] for word in words], dtype=np.int64)
    return np.asarray(indices_of_words[codes])


def _wearings(
    table: OwnTable, found: dict[str, str], subject: str, session: str | None
) -> list[Int64[np.ndarray, " rows"]]:
    """Rows of each subject and session of one file, in the order in which they appear.

    Without times they are parted where another has two rows in a row: those before and after it
    are no neighbours, as those are that take turns row by row.
    """
    group = np.zeros(len(table.signal), dtype=np.int64)
    for key in (subject, session):
        if key is not None and key not in found:
            codes, words = table.words[key]
            group = group * len(words) + codes
    wearings = [np.flatnonzero(group == number) for number in dict.fromkeys(group.tolist())]
    if table.seconds is not None:
        return wearings
    num_repeats = np.cumsum(group == np.roll(group, 1))
    parted: list[Int64[np.ndarray, " rows"]] = []
    for rows in wearings:
        is_end = (np.diff(rows) > 1) & (np.diff(num_repeats[rows]) > 0)
        parted += np.split(rows, np.flatnonzero(is_end) + 1)
    return sorted(parted, key=lambda rows: int(rows[0]))


def _rate(
    sample_rate_hz: float | None,
    tables: list[OwnTable],
    wearings: list[list[Int64[np.ndarray, " rows"]]],
    fewest_samples: int,
) -> float:
    """The given rate, or else the median of those that the times show; no file may show another.

    Of a few samples the times tell little: wearings that hold no window have no say.
    """
    shown = [
        (len(rows) >= fewest_samples, rate, table.path.name)
        for table, groups in zip(tables, wearings, strict=True)
        if table.seconds is not None
        for rows in groups
        if (rate := measured_rate_hz(table.seconds[rows])) is not None
    ]
    if not shown:
        if sample_rate_hz is None:
            raise DataError(
                "`sample_rate_hz` must be given where the times do not advance, but is None "
                "instead."
            )
        return float(sample_rate_hz)
    usable = [one for one in shown if one[0]]
    median = float(np.median([rate for _, rate, _ in usable or shown]))
    chosen = median if sample_rate_hz is None else float(sample_rate_hz)
    for _, rate, name in usable:
        if abs(chosen / rate - 1.0) > _RATE_TOLERANCE:
            origin = " (the median)" if sample_rate_hz is None else ""
            raise DataError(
                f"`sample_rate_hz` must be within 20 % of the {rate:.4g} Hz that the times of "
                f"{name} show, but is {chosen:.4g}{origin} instead."
            )
    return chosen


def _recording(
    table: OwnTable,
    found: dict[str, str],
    rows: Int64[np.ndarray, " rows"],
    labels: dict[str, Int64[np.ndarray, " rows"]],
    subject: str,
    session: str | None,
    sample_rate_hz: float,
    channels: Sequence[str],
) -> Recording:
    def value(key: str) -> str:
        if key in found:
            return found[key]
        codes, words = table.words[key]
        word: str = words[codes[rows[0]]]
        if not word:
            raise table.error(int(rows[0]), key, "at least 1 character")
        return word

    return Recording(
        table.signal[rows],
        targets={task: values[rows] for task, values in labels.items()},
        subject=value(subject),
        sample_rate_hz=sample_rate_hz,
        session=table.path.stem if session is None else value(session),
        timestamps_seconds=None if table.seconds is None else table.seconds[rows],
        channel_names=tuple(channels),
    )
