"""How far a score would move with other subjects: bootstrap over the subjects that were tested."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.training.tallies import METRICS, Tally, scores_of

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["NUM_DRAWS", "subject_intervals"]

NUM_DRAWS = 2000
"""Number of bootstrap samples."""


def subject_intervals(
    tally: Tally,
    folds: Int64[np.ndarray, " sets"],
    subjects: Int64[np.ndarray, " sets"],
    *,
    seed: int,
    num_draws: int = NUM_DRAWS,
) -> dict[str, tuple[float, float]]:
    """95 % interval of each score's mean over folds, when the subjects are drawn anew.

    Each draw takes as many subjects as there are, with replacement, and scores each fold on
    those of its subjects that were drawn. A fold counts by the share of its subjects that was
    drawn: with every subject drawn once this is the plain mean over folds, and with one
    subject per fold it is the mean over the subjects drawn.

    Args:
        tally: Counts of each (fold, subject) pair.
        folds: Fold of each pair.
        subjects: Subject of each pair, as a number.
        seed: Seed of the draws, at least 0.
        num_draws: Number of draws, at least 1.

    Returns:
        Lower and upper end by score: the 2.5 and 97.5 percentiles. NaN with fewer than two
        subjects.

    Source:
        Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13 (percentile
        interval).
    """
    has_windows = tally.confusion.sum(axis=(-2, -1)) > 0
    tally = Tally(tally.confusion[has_windows], tally.calibration[has_windows])
    folds = folds[has_windows]
    people, person_of = np.unique(subjects[has_windows], return_inverse=True)
    if len(people) < 2:
        return dict.fromkeys(METRICS, (math.nan, math.nan))
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(people), np.full(len(people), 1.0 / len(people)), num_draws)
    sums = {name: np.zeros(num_draws) for name in METRICS}
    shares = {name: np.zeros(num_draws) for name in METRICS}
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        times_drawn = draws[:, person_of[rows]].astype(np.float64)
        share = times_drawn.mean(axis=1)
        for name, values in _scores_of_draws(tally, rows, times_drawn).items():
            is_known = (share > 0.0) & np.isfinite(values)
            sums[name] += np.where(is_known, share * values, 0.0)
            shares[name] += np.where(is_known, share, 0.0)
    intervals = {}
    for name in METRICS:
        known = shares[name] > 0.0
        means = sums[name][known] / shares[name][known]
        low, high = np.quantile(means, (0.025, 0.975)) if len(means) else (math.nan, math.nan)
        intervals[name] = (float(low), float(high))
    return intervals


def _scores_of_draws(
    tally: Tally, rows: Int64[np.ndarray, " rows"], times_drawn: Float64[np.ndarray, "draws rows"]
) -> dict[str, Float64[np.ndarray, " draws"]]:
    if len(rows) == 1:  # one subject's score does not depend on how often it was drawn
        scores = scores_of(Tally(tally.confusion[rows], tally.calibration[rows]))
        return {name: np.repeat(value, len(times_drawn)) for name, value in scores.items()}
    parts = []
    for counts in (tally.confusion, tally.calibration):
        flat = counts[rows].reshape(len(rows), -1)
        parts.append((times_drawn @ flat).reshape(-1, *counts.shape[1:]))
    return scores_of(Tally(*parts))
