"""Paired differences of two variants: per subject, and of the pooled scores."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.evaluation.comparison.bootstrap import SubjectBootstrap, interval
from smoothdistill.training.tallies import Tally, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothdistill.evaluation.comparison.records import CellRecord

__all__ = [
    "PAIRED_METRICS",
    "Difference",
    "fold_scores",
    "holm",
    "paired_cells",
    "per_subject_difference",
    "pooled_difference",
    "subject_scores",
    "wilcoxon_p",
]

PAIRED_METRICS = ("macro_f1", "balanced_accuracy", "accuracy")
"""Scores whose differences are tested."""


@dataclass(frozen=True)
class Difference:
    """A variant's score minus the baseline's.

    Attributes:
        value: The difference; NaN if unknown.
        low: Lower end of its 95 % interval over subjects.
        high: Upper end.
        p_value: Of a Wilcoxon signed-rank test over subjects; NaN for pooled scores.
        num_subjects: People behind it.
        by_subject: Difference of each of them.
    """

    value: float
    low: float
    high: float
    p_value: float = math.nan
    num_subjects: int = 0
    by_subject: Mapping[str, float] | None = None


def paired_cells(
    cells: Sequence[CellRecord],
    baseline: Sequence[CellRecord],
    task: str,
    roles: tuple[str, str],
) -> tuple[list[CellRecord], list[CellRecord]]:
    """Cells of equal seed and fold that were tested on the same windows with the same labels.

    Args:
        cells: Of a variant.
        baseline: Of the baseline.
        task: A task.
        roles: The variant's and the baseline's; a cell without the role is left out.
    """
    partner = {(cell.seed, cell.fold): cell for cell in baseline}
    pairs = [
        (cell, partner[cell.seed, cell.fold]) for cell in cells if (cell.seed, cell.fold) in partner
    ]
    same = [
        (cell, other)
        for cell, other in pairs
        if (task, cell.role(roles[0])) in cell.tallies
        and (task, other.role(roles[1])) in other.tallies
        and cell.truth[task] == other.truth[task]
    ]
    return [cell for cell, _ in same], [other for _, other in same]


def fold_scores(cells: Sequence[CellRecord], task: str, role: str) -> dict[str, list[float]]:
    """Each score of each cell, all people of its fold pooled."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        tally = cell.tallies[task, cell.role(role)]
        pooled = Tally(tally.confusion.sum(axis=0), tally.calibration.sum(axis=0))
        for name, value in scores_of(pooled).items():
            found.setdefault(name, []).append(float(value))
    return found


def subject_scores(
    cells: Sequence[CellRecord], task: str, role: str, metric: str
) -> dict[str, float]:
    """Score of each person, as a mean over the cells that tested them."""
    values: dict[str, list[float]] = {}
    for cell in cells:
        scores = scores_of(cell.tallies[task, cell.role(role)])[metric]
        for name, score in zip(cell.subjects, scores, strict=True):
            if math.isfinite(score):
                values.setdefault(name, []).append(float(score))
    return {name: float(np.mean(values[name])) for name in sorted(values)}


def per_subject_difference(
    mine: Mapping[str, float], baseline: Mapping[str, float], bootstrap: SubjectBootstrap
) -> Difference:
    """Mean over people of their difference.

    Args:
        mine: Score of each person.
        baseline: Score of each person under the baseline.
        bootstrap: Draws of subjects.
    """
    people = sorted(mine.keys() & baseline.keys())
    differences = np.array([mine[name] - baseline[name] for name in people])
    by_subject = dict(zip(people, differences.tolist(), strict=True))
    if len(people) < 2:
        value = float(differences[0]) if people else math.nan
        return Difference(value, math.nan, math.nan, math.nan, len(people), by_subject)
    means = bootstrap.draws(len(people)) @ differences / len(people)
    return Difference(
        float(differences.mean()),
        *interval(means),
        wilcoxon_p(differences),
        len(people),
        by_subject,
    )


def pooled_difference(
    cells: Sequence[CellRecord],
    baseline: Sequence[CellRecord],
    task: str,
    roles: tuple[str, str],
    metric: str,
    bootstrap: SubjectBootstrap,
) -> Difference:
    """Difference of the mean scores of pooled folds, both under the same draws of subjects.

    Args:
        cells: From `paired_cells`, with the next.
        baseline: The same cells of the baseline.
        task: A task.
        roles: The variant's and the baseline's.
        metric: A score.
        bootstrap: Draws of subjects.
    """
    pairs = np.array(
        [
            fold_scores(side, task, role)[metric]
            for side, role in zip((cells, baseline), roles, strict=True)
        ]
    )
    both = np.isfinite(pairs).all(axis=0)
    if not both.any():
        return Difference(math.nan, math.nan, math.nan)
    value = float((pairs[0] - pairs[1])[both].mean())
    means = bootstrap.means(cells, task, roles[0])
    others = bootstrap.means(baseline, task, roles[1])
    if means is None or others is None:
        return Difference(value, math.nan, math.nan)
    people = len(subject_scores(cells, task, roles[0], metric))
    return Difference(value, *interval(means[metric] - others[metric]), num_subjects=people)


def wilcoxon_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, people without a difference left out.

    1 where nobody differs; exact for up to 50 people without ties.
    """
    from scipy.stats import wilcoxon

    if not differences.any():
        return 1.0
    with warnings.catch_warnings():  # of few people; their number stands beside the p
        warnings.simplefilter("ignore")
        return float(wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P corrected for several tests; unknown ones stay so and do not count.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics 6, 1979.
    """
    corrected, highest = [math.nan] * len(p_values), 0.0
    known = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    for rank, place in enumerate(sorted(known, key=lambda place: p_values[place])):
        highest = max(highest, (len(known) - rank) * p_values[place])
        corrected[place] = min(1.0, highest)
    return corrected
