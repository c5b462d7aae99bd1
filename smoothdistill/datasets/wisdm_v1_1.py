"""WISDM v1.1 (activity prediction): a phone in the pocket, as one raw text or one CSV per user."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.datasets.continuity import find_stretches, measured_rate_hz
from smoothdistill.datasets.delimited import (
    Column,
    Layout,
    Table,
    clean_text,
    parse_table,
    read_bytes,
)
from smoothdistill.datasets.folders import list_files
from smoothdistill.datasets.registry import Dataset, Source, register_dataset
from smoothdistill.datasets.reports import FileReport, median_norm
from smoothdistill.errors import DataError
from smoothdistill.windows import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Bool, Int64

__all__ = ["WISDM_V1_1"]

_ACTIVITIES = ("Walking", "Jogging", "Upstairs", "Downstairs", "Sitting", "Standing")
_INDICES = {name: index for index, name in enumerate(_ACTIVITIES)}
_RULE = f"one of {', '.join(_ACTIVITIES)}"
_CHANNELS = ("acceleration_x", "acceleration_y", "acceleration_z")
_RATE_HZ = 20.0
_MAX_GAP_SECONDS = 1.0
_NANOSECONDS = 1e9
_RAW_NAME = "WISDM_ar_v1.1_raw.txt"
_USER_FILE = r"wisdm_subject(\d+)\.csv"
_COLUMNS = (
    Column("user", "int64"),
    Column("activity", "string"),
    Column("timestamp", "int64"),
    Column("x", "float64"),
    Column("y", "float64"),
    Column("z", "float64"),
)
_RAW_LAYOUT = Layout(title="WISDM v1.1", columns=_COLUMNS, record_end=";", is_timed=True)
_USER_LAYOUT = Layout(
    title="WISDM v1.1",
    columns=_COLUMNS,
    header=tuple(column.name for column in _COLUMNS),
    is_timed=True,
)


def _find_sources(root: Path) -> list[Source]:
    nestings = (".", "WISDM_ar_v1.1", "WISDM", "data/WISDM", "data/WISDM_ar_v1.1")
    for nesting in nestings:
        raw = root / nesting / _RAW_NAME
        if raw.is_file():
            return [Source((raw,))]
    for nesting in nestings:
        folder = root / nesting
        users = list_files(folder, _USER_FILE) if folder.is_dir() else []
        if users:
            users.sort(key=lambda user: int(user[1][1]))
            return [Source((path,)) for path, _ in users]
    raise FileNotFoundError(
        f"`root` must be a folder with {_RAW_NAME} or wisdm_subject<number>.csv, but is "
        f"{str(root)!r} instead. {WISDM_V1_1.source}"
    )


def _read_source(source: Source) -> tuple[list[Recording], FileReport]:
    path = source.paths[0]
    repairs: dict[str, int] = {}
    if path.name == _RAW_NAME:
        table = _read_raw(path, repairs)
        expected_user = None
    else:
        layout = _USER_LAYOUT
        table = parse_table(path, clean_text(path, read_bytes(path), layout), layout)
        match = re.fullmatch(_USER_FILE, path.name)
        expected_user = int(match[1]) if match else None
    users = table.integers("user")
    if expected_user is not None:
        table.require("user", users == expected_user, f"{expected_user}, as in the file's name")
    activities = table.classes("activity", _INDICES, _RULE)
    nanoseconds = table.integers("timestamp")
    table.require("timestamp", nanoseconds >= 0, "at least 0")
    signal = table.signal("x", "y", "z")
    duplicates = 0
    gaps = backward_steps = tied_timestamps = 0
    recordings: list[Recording] = []
    rates: list[float] = []
    for user in np.unique(users):
        rows = np.flatnonzero(users == user)
        rows = _drop(rows, nanoseconds[rows] == 0, "rows without a time dropped", repairs)
        is_zero = np.logical_not(signal[rows].any(axis=1))
        rows = _drop(rows, is_zero, "rows of zeros dropped", repairs)
        is_repeated = _repeats_an_earlier(
            np.column_stack([nanoseconds[rows], activities[rows], signal[rows].view(np.int32)])
        )
        duplicates += int(is_repeated.sum())
        rows = _drop(rows, is_repeated, "exact duplicates dropped", repairs)
        if not len(rows):
            continue
        seconds = (nanoseconds[rows] - nanoseconds[rows[0]]) / _NANOSECONDS
        stretches = find_stretches(
            seconds, max_gap_seconds=_MAX_GAP_SECONDS, sample_rate_hz=_RATE_HZ
        )
        gaps += stretches.gaps
        backward_steps += stretches.backward_steps
        tied_timestamps += stretches.tied_timestamps
        edges = stretches.edges.tolist()
        for number, (start, stop) in enumerate(pairwise(edges)):
            rate = measured_rate_hz(seconds[start:stop])
            if rate is not None:
                rates.append(rate)
            recordings.append(
                Recording(
                    signal[rows[start:stop]],
                    targets={"activity": activities[rows[start:stop]]},
                    subject=str(user),
                    sample_rate_hz=_RATE_HZ,
                    session=f"{number:03d}",
                    timestamps_seconds=seconds[start:stop],
                    channel_names=_CHANNELS,
                )
            )
    report = FileReport(
        file=path.name,
        rows=table.num_rows + sum(repairs.get(rule, 0) for rule in _LOST_IN_RAW),
        subjects=tuple(str(user) for user in np.unique(users)),
        recordings=len(recordings),
        kept_samples=sum(len(recording) for recording in recordings),
        gaps=gaps,
        backward_steps=backward_steps,
        tied_timestamps=tied_timestamps,
        duplicates=duplicates,
        rates_hz=tuple(rates),
        median_norm=median_norm(recordings),
        repairs=repairs,
    )
    return recordings, report


_MISSING_VALUE = "records with a missing value dropped"
_EXTRA_COMMA = "commas after the last value removed"
_TWO_ON_A_LINE = "records that began in the middle of a line"
_LOST_IN_RAW = (_MISSING_VALUE,)


def _read_raw(path: Path, repairs: dict[str, int]) -> Table:
    """Read the one raw text: its records end at ';', wherever the lines end."""
    text = clean_text(path, read_bytes(path), _RAW_LAYOUT)
    joined = len(re.findall(rb";[ \t]*[^;\s]", text))
    if joined:
        repairs[_TWO_ON_A_LINE] = joined
    # Only records with an empty field need a look; each keeps its line, so that places stay right.
    removed = dropped = 0

    def mend(match: re.Match[bytes]) -> bytes:
        nonlocal removed, dropped
        fields = match[0].split(b",")
        while len(fields) > len(_COLUMNS) and not fields[-1].strip():
            fields.pop()
            removed += 1
        if len(fields) == len(_COLUMNS) and any(not field.strip() for field in fields):
            dropped += 1
            return b""
        return b",".join(fields)

    if b",," in text or re.search(rb",[ \t]*[;\n]", text):
        text = re.sub(rb"[^;\n]*,[ \t]*(?:,[^;\n]*|(?=[;\n]))", mend, text)
    if removed:
        repairs[_EXTRA_COMMA] = removed
    if dropped:
        repairs[_MISSING_VALUE] = dropped
    if not text.strip(b"; \t\n"):
        raise DataError(f"`{path.name}` must hold at least 1 whole record, but holds none instead.")
    return parse_table(path, text, _RAW_LAYOUT)


def _drop(
    rows: Int64[np.ndarray, " rows"],
    is_dropped: Bool[np.ndarray, " rows"],
    rule: str,
    repairs: dict[str, int],
) -> Int64[np.ndarray, " kept"]:
    num_dropped = int(is_dropped.sum())
    if num_dropped:
        repairs[rule] = repairs.get(rule, 0) + num_dropped
    return np.asarray(rows[~is_dropped])


def _repeats_an_earlier(values: Int64[np.ndarray, "rows fields"]) -> Bool[np.ndarray, " rows"]:
    whole_rows = np.ascontiguousarray(values).view([("", values.dtype)] * values.shape[1]).ravel()
    _, firsts = np.unique(whole_rows, return_index=True)
    is_repeated = np.ones(len(values), dtype=bool)
    is_repeated[firsts] = False
    return is_repeated


WISDM_V1_1 = register_dataset(
    Dataset(
        name="wisdm-v1.1",
        title="WISDM v1.1 (phone in the pocket)",
        tasks=("activity",),
        class_names={"activity": tuple(name.lower() for name in _ACTIVITIES)},
        channel_names=_CHANNELS,
        units=("m/s²",) * 3,
        licence="cite the paper and keep its readme with the data",
        citation=(
            "Kwapisz, Weiss, Moore: Activity recognition using cell phone accelerometers. "
            "SensorKDD (2010)"
        ),
        source=(
            "Get `WISDM_ar_v1.1` (activity prediction) from the WISDM lab of Fordham University "
            "and unpack it; `root` is the folder with WISDM_ar_v1.1_raw.txt."
        ),
        sample_rate_hz=_RATE_HZ,
        window_samples=90,
        step_samples=45,
        max_gap_seconds=_MAX_GAP_SECONDS,
        repairs=(
            "Rows with the time 0 hold no sample and are dropped; so are rows whose three axes are "
            "all exactly 0.",
            "A row that repeats an earlier row of its user in time, activity and axes is dropped.",
            "Other samples that share a time are kept in file order.",
            "Every backward step and gap above 1 s begins a new recording.",
            "In the one raw text a record ends at ';' wherever the line ends, blank lines are "
            "passed over, a comma after the last value is removed, and a record with a missing "
            "value is dropped.",
        ),
        find_sources=_find_sources,
        read_source=_read_source,
    )
)
