"""Borders that no window crosses: gaps of time, changes of group, changes of label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.windows.checks import check_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float64, Int64

__all__ = ["changes_in", "steps_in_time"]

# A recording is read in pieces: what the kernel may have to write stays at 2 MB, of which a page
# is touched only where there is something to write.
PIECE_SAMPLES = 1 << 18


def changes_in(values: np.ndarray) -> Int64[np.ndarray, "changes"]:
    """Number of every sample that differs from the one before it; integers or strings."""
    from smoothdistill.windows.kernels import list_changes

    if values.strides == (0,):
        return np.empty(0, np.int64)
    if values.dtype.kind in "iu":
        return _listed(list_changes, np.ascontiguousarray(values, dtype=np.int64))
    return np.flatnonzero(values[1:] != values[:-1]) + 1


def steps_in_time(
    timestamps_seconds: Float64[np.ndarray, "time"],
    max_gap_seconds: float,
    other_borders: Int64[np.ndarray, "changes"],
    *,
    backwards: str,
) -> Int64[np.ndarray, "gaps"]:
    """Number of every sample before which time jumps on too far, or back.

    Raises:
        DataError: If a time is not finite, or time runs backwards where that is no border.
    """
    from smoothdistill.windows.kernels import list_gaps

    gaps = _listed(list_gaps, timestamps_seconds, max_gap_seconds)
    # A time that is not finite is beside a step that is not even, or is the first or the last.
    suspects = np.concatenate([[0], gaps - 1, gaps, [len(timestamps_seconds) - 1]])
    if not np.isfinite(timestamps_seconds[suspects]).all():
        check_finite("timestamps_seconds", timestamps_seconds)
    if backwards == "raise":
        back = gaps[timestamps_seconds[gaps] < timestamps_seconds[gaps - 1]]
        back = np.setdiff1d(back, other_borders, assume_unique=True)
        if back.size:
            sample = int(back[0])
            raise DataError(
                "`timestamps_seconds` must not run backwards inside a group, but step from "
                f"{timestamps_seconds[sample - 1]} to {timestamps_seconds[sample]} at sample "
                f"{sample} instead."
            )
    return gaps


def _listed(
    kernel: Callable[..., int], values: np.ndarray, *limits: Any
) -> Int64[np.ndarray, "found"]:
    out = np.empty(min(PIECE_SAMPLES, len(values)), np.int64)
    found = []
    for first in range(0, len(values), PIECE_SAMPLES):  # a piece ends with the next one's first
        piece = values[first : first + PIECE_SAMPLES + 1]
        found.append(out[: kernel(piece, *limits, first, out)].copy())
    return np.concatenate(found)
