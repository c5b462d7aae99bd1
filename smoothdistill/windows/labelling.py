"""One label for each window, from the labels of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from smoothdistill.windows.arrays import IGNORE_INDEX
from smoothdistill.windows.borders import changes_in
from smoothdistill.windows.checks import is_constant

if TYPE_CHECKING:
    from jaxtyping import Int64

__all__ = ["LabelRule", "Runs", "find_runs", "window_labels"]

LabelRule = Literal["pure", "last", "middle", "majority"]

# Up to this label the labels themselves number the counters; beyond it, their ranks do.
MOST_COUNTERS = 4096


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches of one label, in the order of time."""

    labels: Int64[np.ndarray, "runs"]
    stops: Int64[np.ndarray, "runs"]  # the sample after each

    @property
    def changes(self) -> Int64[np.ndarray, "changes"]:
        """First sample of every run but the first."""
        return self.stops[:-1]


def find_runs(labels: Int64[np.ndarray, "time"]) -> Runs:
    """Runs of at least one label."""
    changes = changes_in(labels)
    starts = np.concatenate([[0], changes])
    return Runs(labels[starts], np.concatenate([changes, [len(labels)]]))


def window_labels(
    labels: Int64[np.ndarray, "time"],
    runs: Runs | None,
    starts: Int64[np.ndarray, "windows"],
    lengths: Int64[np.ndarray, "windows"],
    rule: LabelRule,
    min_purity: float,
) -> Int64[np.ndarray, "windows"]:
    """Label of every window; `runs` are those of `labels`, where they are known already."""
    found: Int64[np.ndarray, "windows"]
    if is_constant(labels) or rule == "last" or (rule == "pure" and min_purity == 1.0):
        found = labels[starts + (lengths - 1)]  # a pure window has one label: any of it
        return found
    if rule == "middle":
        found = labels[starts + lengths // 2]
        return found

    from smoothdistill.windows.kernels import majority_labels

    runs = find_runs(labels) if runs is None else runs
    codes, num_codes = _codes(runs.labels)
    found = np.empty(len(starts), np.int64)
    majority_labels(
        runs.labels,
        codes,
        runs.stops,
        starts,
        lengths,
        min_purity if rule == "pure" else 0.0,
        IGNORE_INDEX,
        np.zeros(num_codes, np.int64),
        found,
    )
    return found


def _codes(labels: Int64[np.ndarray, "runs"]) -> tuple[Int64[np.ndarray, "runs"], int]:
    """A counter for each label: in the order of the labels, the unlabelled one last."""
    highest = max(int(labels.max()), -1)
    if highest < MOST_COUNTERS:
        return np.where(labels == IGNORE_INDEX, highest + 1, labels), highest + 2
    values, codes = np.unique(labels, return_inverse=True)
    if values[0] == IGNORE_INDEX:
        codes = (codes - 1) % len(values)
    return codes, len(values)
