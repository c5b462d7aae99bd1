"""Scores of many draws of subjects, one draw for all seeds, folds and variants alike.

`training.bootstrap` gives the interval of one run. Here the means of every draw are kept, so that
two variants can be subtracted draw by draw: what both find hard in the same people cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.training.bootstrap import NUM_DRAWS
from smoothdistill.training.tallies import METRICS, Tally, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothdistill.evaluation.comparison.records import CellRecord

__all__ = ["SubjectBootstrap", "draw_subjects", "interval"]


def draw_subjects(
    num_subjects: int, *, seed: int, num_draws: int = NUM_DRAWS
) -> NDArray[np.float64]:
    """How often each subject is drawn: as many as there are, with replacement.

    Args:
        num_subjects: At least 1.
        seed: Seed of the draws, at least 0. Equal numbers and seeds give equal draws, and those
            of `training.bootstrap.subject_intervals`.
        num_draws: Number of draws.

    Returns:
        Counts, [draws, subjects].
    """
    generator = np.random.default_rng(seed)
    even = np.full(num_subjects, 1.0 / num_subjects)
    return generator.multinomial(num_subjects, even, num_draws).astype(np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of what the draws gave; NaN without a known one."""
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


class SubjectBootstrap:
    """Mean scores over cells of every draw; what one cell gives is kept for other means.

    Args:
        seed: Seed of the draws, at least 0.
        num_draws: Number of draws.
    """

    def __init__(self, seed: int, num_draws: int = NUM_DRAWS) -> None:
        self._seed, self._num_draws = seed, num_draws
        self._draws: dict[int, NDArray[np.float64]] = {}
        self._shares: dict[tuple[tuple[str, ...], tuple[str, ...]], NDArray[np.float64]] = {}
        self._of_cells: dict[
            tuple[int, str, str, tuple[str, ...]],
            tuple[CellRecord, NDArray[np.float64], NDArray[np.float64]],
        ] = {}

    def draws(self, num_subjects: int) -> NDArray[np.float64]:
        """Counts of each subject, [draws, subjects]."""
        if num_subjects not in self._draws:
            self._draws[num_subjects] = draw_subjects(
                num_subjects, seed=self._seed, num_draws=self._num_draws
            )
        return self._draws[num_subjects]

    def means(
        self, cells: Sequence[CellRecord], task: str, role: str
    ) -> dict[str, NDArray[np.float64]] | None:
        """Mean over cells of each score, for every draw of the people who were tested in them.

        Each cell is scored on those of its people who were drawn, and counts by the share of them
        that was drawn, as in `training.bootstrap.subject_intervals`.

        Args:
            cells: Cells of one variant.
            task: A task that all of them have.
            role: "student", "teacher", or "selected": in each cell the one that validation chose.

        Returns:
            Means [draws] by score, NaN for a draw without a cell; None with fewer than two people.
        """
        people = tuple(sorted({name for cell in cells for name in _tested(cell, task)}))
        if len(people) < 2:
            return None
        sums = np.zeros((len(METRICS), self._num_draws))
        shares = np.zeros((len(METRICS), self._num_draws))
        for cell in cells:
            share, values = self._of_cell(cell, task, cell.role(role), people)
            is_known = (share > 0.0) & np.isfinite(values)
            sums += np.where(is_known, share * values, 0.0)
            shares += np.where(is_known, share, 0.0)
        with np.errstate(invalid="ignore"):
            means = np.where(shares > 0.0, sums / shares, np.nan)
        return dict(zip(METRICS, means, strict=True))

    def _of_cell(
        self, cell: CellRecord, task: str, role: str, people: tuple[str, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Share of the cell's people that was drawn, [draws], and scores, [scores, draws].

        Scores of a single one are [scores, 1].
        """
        key = (id(cell), task, role, people)
        if key not in self._of_cells:
            tested = _tested(cell, task)
            tally = cell.tallies[task, role]
            rows = [cell.subjects.index(name) for name in tested]
            times = self.draws(len(people))[:, [people.index(name) for name in tested]]
            share = self._shares.setdefault((people, tuple(tested)), times.mean(axis=1))
            # With the cell itself, so that no other one can get its number.
            self._of_cells[key] = (cell, share, _scores_of_draws(tally, rows, times))
        return self._of_cells[key][1:]


def _tested(cell: CellRecord, task: str) -> list[str]:
    """People with a labelled window of the task."""
    tally = next(tally for (name, _), tally in cell.tallies.items() if name == task)
    has_windows = tally.confusion.sum(axis=(-2, -1)) > 0
    return [name for name, has in zip(cell.subjects, has_windows, strict=True) if has]


def _scores_of_draws(
    tally: Tally, rows: list[int], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    if len(rows) == 1:  # one subject's score does not depend on how often it was drawn
        scores = scores_of(Tally(tally.confusion[rows], tally.calibration[rows]))
        return np.stack([scores[name] for name in METRICS])
    # Draws that take the same people as often give the same; with few people they are many.
    different, place = np.unique(times, axis=0, return_inverse=True)
    parts = []
    for counts in (tally.confusion, tally.calibration):
        flat = counts[rows].reshape(len(rows), -1)
        parts.append((different @ flat).reshape(-1, *counts.shape[1:]))
    scores = scores_of(Tally(*parts))
    return np.stack([scores[name] for name in METRICS])[:, place.ravel()]
