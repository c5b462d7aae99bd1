"""Sleep postures: one text file per posture and placement, named after them (not public)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.datasets.continuity import find_stretches, measured_rate_hz
from smoothdistill.datasets.delimited import Column, Layout, clean_text, parse_table, read_bytes
from smoothdistill.datasets.registry import Dataset, Source, register_dataset
from smoothdistill.datasets.reports import FileReport, median_norm
from smoothdistill.errors import DataError
from smoothdistill.windows import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float64

__all__ = ["SLEEP_POSTURES"]

_POSTURES = (
    "up",
    "upright",
    "rightup",
    "right",
    "rightdown",
    "downright",
    "down",
    "downleft",
    "leftdown",
    "left",
    "leftup",
    "upleft",
)
_PLACEMENTS = {"co": "neck", "nguc": "chest", "bung": "belly"}
_CHANNELS = ("acceleration_x", "acceleration_y", "acceleration_z")
_RATE_HZ = 50.0
_TIMED_LAYOUT = Layout(
    title="sleep postures `t,x,y,z;`",
    columns=tuple(Column(name, "float64") for name in ("t", "x", "y", "z")),
    record_end=";",
    is_timed=True,
)
_PLAIN_LAYOUT = Layout(
    title="sleep postures `x,y,z`",
    columns=tuple(Column(name, "float64") for name in ("x", "y", "z")),
    header=("x", "y", "z"),
    must_be_closed=False,
)


def _find_sources(root: Path) -> list[Source]:
    paths = sorted(
        path
        for path in (root.rglob("*") if root.is_dir() else ())
        if path.is_file() and path.suffix.lower() in {".txt", ".csv"} and _labels(path)
    )
    if not paths:
        raise FileNotFoundError(
            "`root` must be a folder with files named after a posture and a placement, such as "
            f"subject1_rightup_nguc.txt, but is {str(root)!r} instead. {SLEEP_POSTURES.source}"
        )
    return [Source((path,)) for path in paths]


def _labels(path: Path) -> tuple[str, int, int] | None:
    """Subject, posture and placement from the name, or None if it names no such pair."""
    words = [word for word in re.split(r"[^0-9A-Za-z]+", path.stem) if word]
    postures = [word for word in words if word.lower() in _POSTURES]
    placements = [word for word in words if word.lower() in _PLACEMENTS]
    if len(postures) != 1 or len(placements) != 1:
        return None
    others = [word for word in words if word not in (postures[0], placements[0])]
    subject = others[0] if others else path.parent.name
    return (
        subject,
        _POSTURES.index(postures[0].lower()),
        list(_PLACEMENTS).index(placements[0].lower()),
    )


def _read_source(
    source: Source, *, sample_rate_hz: float = _RATE_HZ, seconds_per_tick: float | None = None
) -> tuple[list[Recording], FileReport]:
    path = source.paths[0]
    labels = _labels(path)
    if labels is None:
        raise DataError(
            "`source` must be a file named after one posture and one placement, but is "
            f"{path.name!r} instead."
        )
    subject, posture, placement = labels
    text = read_bytes(path)
    is_timed = b";" in text
    layout = _TIMED_LAYOUT if is_timed else _PLAIN_LAYOUT
    table = parse_table(path, clean_text(path, text, layout), layout)
    signal = table.signal("x", "y", "z")
    seconds: Float64[np.ndarray, " time"] | None = None
    edges, backward_steps, gaps, tied = [0, len(signal)], 0, 0, 0
    if is_timed:
        # Without the unit of t only its order is used: a backward step begins a new recording.
        ticks = table.floats("t")
        seconds = (ticks - ticks[0]) * (seconds_per_tick or 1.0)
        max_gap = 1.0 if seconds_per_tick else np.inf
        stretches = find_stretches(seconds, max_gap_seconds=max_gap, sample_rate_hz=sample_rate_hz)
        edges = stretches.edges.tolist()
        gaps, backward_steps, tied = (
            stretches.gaps,
            stretches.backward_steps,
            stretches.tied_timestamps,
        )
        if not seconds_per_tick:
            seconds = None
    recordings = [
        Recording(
            signal[start:stop],
            targets={
                "posture": np.broadcast_to(np.int64(posture), stop - start),
                "placement": np.broadcast_to(np.int64(placement), stop - start),
            },
            subject=subject,
            sample_rate_hz=sample_rate_hz,
            session=f"{path.stem}-{number:02d}",
            timestamps_seconds=None if seconds is None else seconds[start:stop],
            channel_names=_CHANNELS,
        )
        for number, (start, stop) in enumerate(pairwise(edges))
    ]
    rates = () if seconds is None else (measured_rate_hz(seconds),)
    report = FileReport(
        file=path.name,
        rows=table.num_rows,
        subjects=(subject,),
        recordings=len(recordings),
        kept_samples=table.num_rows,
        gaps=gaps,
        backward_steps=backward_steps,
        tied_timestamps=tied,
        rates_hz=tuple(rate for rate in rates if rate is not None),
        median_norm=median_norm(recordings),
    )
    return recordings, report


SLEEP_POSTURES = register_dataset(
    Dataset(
        name="sleep-postures",
        title="Sleep postures (neck, chest and belly)",
        tasks=("posture", "placement"),
        class_names={"posture": _POSTURES, "placement": tuple(_PLACEMENTS.values())},
        channel_names=_CHANNELS,
        units=("unknown",) * 3,
        licence="not public",
        citation="Smooth-Distill, arXiv 2507.00061",
        source=(
            "The recordings of the paper are not public; lay your own out the same way: one text "
            "file per posture and placement (co, nguc, bung), `t,x,y,z;` per line or a header and "
            "`x,y,z`."
        ),
        sample_rate_hz=_RATE_HZ,
        repairs=(
            "The subject is the first other word of the file's name, or else the folder's name.",
            "The unit of t is not documented: unless `seconds_per_tick` says it, t only marks "
            "backward steps, each of which begins a new recording.",
            "The rate is not documented either; `sample_rate_hz` sets it (50 by default).",
        ),
        find_sources=_find_sources,
        read_source=_read_source,
    )
)
