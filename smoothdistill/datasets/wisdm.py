"""WISDM 2019 (smartphone and smartwatch activity): raw accelerometer logs of phone and watch."""

from __future__ import annotations

import re
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smoothdistill.datasets.continuity import (
    Stretches,
    find_stretches,
    measured_rate_hz,
    resample_linearly,
)
from smoothdistill.datasets.delimited import Column, Layout, clean_text, parse_table, read_bytes
from smoothdistill.datasets.folders import find_folder, list_files
from smoothdistill.datasets.registry import Dataset, Source, register_dataset
from smoothdistill.datasets.reports import FileReport, median_norm
from smoothdistill.errors import DataError
from smoothdistill.windows import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32, Float64, Int64
    from numpy.typing import NDArray

__all__ = ["WISDM"]

_ACTIVITIES = {
    "A": "walking",
    "B": "jogging",
    "C": "stairs",
    "D": "sitting",
    "E": "standing",
    "F": "typing",
    "G": "teeth",
    "H": "soup",
    "I": "chips",
    "J": "pasta",
    "K": "drinking",
    "L": "sandwich",
    "M": "kicking",
    "O": "catch",
    "P": "dribbling",
    "Q": "writing",
    "R": "clapping",
    "S": "folding",
}
_INDICES = {letter: index for index, letter in enumerate(_ACTIVITIES)}
_CLASSES = np.full(256, -1, dtype=np.int64)
_CLASSES[[ord(letter) for letter in _INDICES]] = list(_INDICES.values())
_RULE = "an activity letter, A to S without N"
_PLACEMENTS = ("phone", "watch")
_CHANNELS = ("acceleration_x", "acceleration_y", "acceleration_z")
_RATE_HZ = 20.0
_MAX_GAP_SECONDS = 1.0
_NANOSECONDS = 1e9
_FILE_NAME = r"data_(\d+)_accel_(phone|watch)\.txt"
_LARGEST_KEPT_BYTES = 1 << 25
_kept = threading.local()
_LAYOUT = Layout(
    title="WISDM 2019",
    columns=(
        Column("subject", "int64"),
        Column("activity", "string"),
        Column("timestamp", "int64"),
        Column("x", "float64"),
        Column("y", "float64"),
        Column("z", "float64"),
    ),
    record_end=";",
    is_timed=True,
)


class _Log(NamedTuple):
    activities: Int64[np.ndarray, " rows"]
    seconds: Float64[np.ndarray, " rows"]
    signal: Float32[np.ndarray, "rows 3"]


def _find_sources(root: Path) -> list[Source]:
    raw = find_folder(
        root, ("raw", "wisdm-dataset/raw", "."), "*/accel/data_*_accel_*.txt", WISDM.source
    )
    return [
        Source((path,))
        for placement in _PLACEMENTS
        if (raw / placement / "accel").is_dir()
        for path, match in list_files(raw / placement / "accel", _FILE_NAME)
        if match[2] == placement
    ]


def _read_source(source: Source, *, resample: bool = True) -> tuple[list[Recording], FileReport]:
    path = source.paths[0]
    match = re.fullmatch(_FILE_NAME, path.name)
    if match is None:
        raise DataError(
            "`source` must be a file data_<subject>_accel_<phone or watch>.txt, but is "
            f"{path.name!r} instead."
        )
    subject, placement = match[1], match[2]
    log = _read_log(path, subject)
    stretches = find_stretches(
        log.seconds,
        max_gap_seconds=_MAX_GAP_SECONDS,
        sample_rate_hz=_RATE_HZ,
        blocks=log.activities,
    )
    kept = _resampled(log, stretches) if resample and stretches.is_off_rate.any() else log
    placement_index = np.int64(_PLACEMENTS.index(placement))
    recording = Recording(
        kept.signal,
        targets={
            "activity": kept.activities,
            "placement": np.broadcast_to(placement_index, len(kept.signal)),
        },
        subject=subject,
        sample_rate_hz=_RATE_HZ,
        session=placement,
        timestamps_seconds=kept.seconds,
        channel_names=_CHANNELS,
    )
    repairs = {}
    if kept is not log:
        repairs["stretches resampled to 20 Hz"] = int(stretches.is_off_rate.sum())
    report = FileReport(
        file=path.name,
        rows=len(log.signal),
        subjects=(subject,),
        recordings=1,
        kept_samples=len(kept.signal),
        gaps=stretches.gaps,
        backward_steps=stretches.backward_steps,
        tied_timestamps=stretches.tied_timestamps,
        rates_hz=_rates_hz(log, stretches),
        median_norm=median_norm([recording]),
        repairs=repairs,
    )
    return [recording], report


def _resampled(log: _Log, stretches: Stretches) -> _Log:
    """The log with its stretches off the rate on a 20 Hz grid, and the others as they are."""
    parts = []
    for (start, stop), is_off_rate in zip(
        pairwise(stretches.edges.tolist()), stretches.is_off_rate, strict=True
    ):
        part = _Log(log.activities[start:stop], log.seconds[start:stop], log.signal[start:stop])
        if is_off_rate:
            signal, seconds = resample_linearly(part.signal, part.seconds, _RATE_HZ)
            part = _Log(np.full(len(signal), part.activities[0]), seconds, signal)
        parts.append(part)
    return _Log(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _rates_hz(log: _Log, stretches: Stretches) -> tuple[float, ...]:
    """Measured rate of every stretch: by its typical steps where it is uneven, else by all."""
    rates = []
    for (start, stop), is_off_rate in zip(
        pairwise(stretches.edges.tolist()), stretches.is_off_rate, strict=True
    ):
        if is_off_rate:
            rate = measured_rate_hz(log.seconds[start:stop])
            rates += [] if rate is None else [rate]
        elif stop - start > 1:
            duration = float(log.seconds[stop - 1] - log.seconds[start])
            rates.append((stop - start - 1) / duration)
    return tuple(rates)


def _read_log(path: Path, subject: str) -> _Log:
    """Read one file, by the plain scanner where it can, else by the strict reader."""
    from smoothdistill.datasets.wisdm_scanner import TAIL_BYTES, scan_rows

    size = path.stat().st_size
    text = _scratch(size + TAIL_BYTES)
    with path.open("rb") as file:
        num_bytes = file.readinto(text[:size].data)
    text[num_bytes : num_bytes + TAIL_BYTES] = 0
    rows = scan_rows(text, num_bytes, subject.encode(), _CLASSES)
    if rows is not None and not _is_doubled(text[:num_bytes]):
        return _Log(*rows)
    table = parse_table(path, clean_text(path, read_bytes(path), _LAYOUT), _LAYOUT)
    table.require(
        "subject", table.integers("subject") == int(subject), f"{subject}, as in the file's name"
    )
    activities = table.classes("activity", _INDICES, _RULE)
    nanoseconds = table.integers("timestamp")
    table.require("timestamp", nanoseconds >= 0, "at least 0")
    seconds = (nanoseconds - nanoseconds[0]) / _NANOSECONDS
    return _Log(activities, seconds, table.signal("x", "y", "z"))


def _scratch(num_bytes: int) -> NDArray[np.uint8]:
    """Memory for one file's text, kept for the next one: new pages cost as much as reading."""
    text = getattr(_kept, "text", None)
    if text is None or not num_bytes <= len(text) <= _LARGEST_KEPT_BYTES:
        text = _kept.text = np.empty(num_bytes + num_bytes // 8, dtype=np.uint8)
    return text


def _is_doubled(text: np.ndarray) -> bool:
    half = len(text) // 2
    if len(text) % 2 or not np.array_equal(text[:64], text[half : half + 64]):
        return False
    return bool(np.array_equal(text[:half], text[half:]))


WISDM = register_dataset(
    Dataset(
        name="wisdm",
        title="WISDM 2019 (phone and watch accelerometers)",
        tasks=("activity", "placement"),
        class_names={"activity": tuple(_ACTIVITIES.values()), "placement": _PLACEMENTS},
        channel_names=_CHANNELS,
        units=("m/s²",) * 3,
        licence="none stated in the release; cite the paper",
        citation=(
            "Weiss, Yoneda, Hayajneh: Smartphone and smartwatch-based biometrics using activities "
            "of daily living. IEEE Access 7 (2019)"
        ),
        source=(
            "Get the WISDM Smartphone and Smartwatch Activity and Biometrics Dataset from the UCI "
            "Machine Learning Repository (doi:10.24432/C5HK59) and unpack it; `root` is its folder "
            "`wisdm-dataset`."
        ),
        sample_rate_hz=_RATE_HZ,
        max_gap_seconds=_MAX_GAP_SECONDS,
        repairs=(
            "No window crosses a backward step or a gap above 1 s: activities were performed one "
            "by one, and their clocks are not in order.",
            "A stretch with more than 2 % of its steps off 1/20 s by more than 10 % (phones at 25 "
            "or 50 Hz, bursts of the watches at 100 Hz) is resampled linearly to 20 Hz by its "
            "timestamps; `resample=False` keeps it as it is.",
            "Blank lines are passed over; absent (subject, activity) cells are left absent.",
        ),
        find_sources=_find_sources,
        read_source=_read_source,
    )
)
