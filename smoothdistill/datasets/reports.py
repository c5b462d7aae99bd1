"""What a reader found in the files: counts per file and the totals that `data check` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothdistill.windows import Recording

__all__ = ["DataReport", "FileReport", "median_norm", "unit_of_norm"]

STANDARD_GRAVITY_M_S2 = 9.80665
_NORM_STRIDE = 32
_UNIT_TOLERANCE = 0.3  # a body at work leaves the median within 30 % of 1 g


@dataclass(frozen=True)
class FileReport:
    """Counts of one source.

    Args:
        file: Name of the (first) file.
        rows: Samples in the file, repaired ones included.
        subjects: Subjects in the file.
        recordings: Recordings made of it.
        kept_samples: Samples in those recordings.
        gaps: Steps of time inside the file that end a recording.
        backward_steps: Steps back in time.
        tied_timestamps: Samples with the time of the sample before, kept.
        duplicates: Rows that repeat an earlier one exactly.
        rates_hz: Measured rate of each continuous stretch, in samples per second.
        median_norm: Median norm of the acceleration, in its unit.
        repairs: What was mended, and how often.
        notes: Sentences on what is unusual but allowed.
    """

    file: str
    rows: int
    subjects: tuple[str, ...]
    recordings: int
    kept_samples: int
    gaps: int = 0
    backward_steps: int = 0
    tied_timestamps: int = 0
    duplicates: int = 0
    rates_hz: tuple[float, ...] = ()
    median_norm: float | None = None
    repairs: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {
            "subjects": list(self.subjects),
            "rates_hz": list(self.rates_hz),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FileReport:
        """The inverse of `to_dict`."""
        tuples = {name: tuple(values[name]) for name in ("subjects", "rates_hz", "notes")}
        return cls(**(values | tuples))


@dataclass(frozen=True)
class DataReport:
    """What `check` found in a data set.

    Args:
        dataset: Name of the data set.
        root: Folder that was read.
        files: One report per source.
        units: Unit of each channel.
        class_samples: Samples per task and class.
    """

    dataset: str
    root: str
    files: tuple[FileReport, ...]
    units: tuple[str, ...] = ()
    class_samples: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Samples in all files."""
        return sum(file.rows for file in self.files)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects, sorted (by value where they are numbers)."""
        names = {subject for file in self.files for subject in file.subjects}
        return tuple(sorted(names, key=lambda name: (len(name), name)))

    @property
    def recordings(self) -> int:
        """Recordings in all files."""
        return sum(file.recordings for file in self.files)

    @property
    def repairs(self) -> dict[str, int]:
        """What was mended in all files, and how often."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.repairs)
        return dict(total)

    @property
    def rate_histogram(self) -> dict[int, int]:
        """Stretches per measured rate, rounded to whole samples per second."""
        counts = Counter(round(rate) for file in self.files for rate in file.rates_hz)
        return dict(sorted(counts.items()))

    @property
    def median_norm(self) -> float | None:
        """Median over the files of the median norm of the acceleration."""
        norms = [file.median_norm for file in self.files if file.median_norm is not None]
        return float(np.median(norms)) if norms else None

    @property
    def unit_evidence(self) -> str:
        """The unit of acceleration that the data speak for."""
        return unit_of_norm(self.median_norm)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "dataset": self.dataset,
            "root": self.root,
            "num_files": len(self.files),
            "rows": self.rows,
            "kept_samples": sum(file.kept_samples for file in self.files),
            "subjects": list(self.subjects),
            "num_subjects": len(self.subjects),
            "recordings": self.recordings,
            "gaps": sum(file.gaps for file in self.files),
            "backward_steps": sum(file.backward_steps for file in self.files),
            "tied_timestamps": sum(file.tied_timestamps for file in self.files),
            "duplicates": sum(file.duplicates for file in self.files),
            "rate_histogram": {str(rate): count for rate, count in self.rate_histogram.items()},
            "repairs": self.repairs,
            "units": list(self.units),
            "median_norm": self.median_norm,
            "unit_evidence": self.unit_evidence,
            "class_samples": self.class_samples,
            "notes": [note for file in self.files for note in file.notes],
            "files": [file.to_dict() for file in self.files],
        }


def median_norm(recordings: Sequence[Recording]) -> float | None:
    """Median norm of the first three channels, the acceleration, in its unit.

    Every 32nd sample is looked at: a median of thousands needs no more.
    """
    norms = [
        np.linalg.norm(recording.signal[::_NORM_STRIDE, :3].astype(np.float64), axis=1)
        for recording in recordings
    ]
    return float(np.median(np.concatenate(norms))) if norms else None


def unit_of_norm(norm: float | None) -> str:
    """The unit in which gravity has the given norm: "g", "m/s²" or "unknown"."""
    if norm is None:
        return "unknown"
    for unit, gravity in (("g", 1.0), ("m/s²", STANDARD_GRAVITY_M_S2)):
        if abs(norm / gravity - 1.0) <= _UNIT_TOLERANCE:
            return unit
    return "unknown"
