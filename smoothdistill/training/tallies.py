"""Counts that can be added up over subjects, and the scores of many such sums at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["CALIBRATION_BINS", "METRICS", "Tally", "count_predictions", "scores_of"]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "cohen_kappa",
    "mcc",
    "ece",
    "largest_class_share",
)
"""Names of the scores, in the order of every table."""

CALIBRATION_BINS = 15
"""Equal bins of the confidence, over which the expected calibration error is summed."""


class Tally(NamedTuple):
    """What the scores of a set of predictions are made of; tallies of two sets add up."""

    confusion: Float64[np.ndarray, "*sets classes classes"]
    """Number of windows by target (row) and prediction (column)."""

    calibration: Float64[np.ndarray, "*sets bins 2"]
    """Per bin of the confidence: sum of confidences, number of correct predictions."""


def count_predictions(
    targets: Int64[np.ndarray, " windows"],
    predictions: Int64[np.ndarray, " windows"],
    confidences: Float64[np.ndarray, " windows"],
    sets: Int64[np.ndarray, " windows"],
    *,
    num_sets: int,
    num_classes: int,
) -> Tally:
    """Count labelled predictions by set, such as by subject.

    Args:
        targets: Annotated classes, in [0, num_classes).
        predictions: Predicted classes, in [0, num_classes).
        confidences: Probability of the prediction, in [0, 1].
        sets: Number of the set that each window belongs to, in [0, num_sets).
        num_sets: Number of sets.
        num_classes: Number of classes.
    """
    cells = (sets * num_classes + targets) * num_classes + predictions
    confusion = np.bincount(cells, minlength=num_sets * num_classes**2)
    bins = confidence_bins(confidences) + sets * CALIBRATION_BINS
    size = num_sets * CALIBRATION_BINS
    calibration = np.stack(
        [
            np.bincount(bins, weights=confidences, minlength=size),
            np.bincount(bins, weights=targets == predictions, minlength=size),
        ],
        axis=-1,
    )
    return Tally(
        confusion.reshape(num_sets, num_classes, num_classes).astype(np.float64),
        calibration.reshape(num_sets, CALIBRATION_BINS, 2),
    )


def confidence_bins(
    confidences: Float64[np.ndarray, " windows"],
) -> Int64[np.ndarray, " windows"]:
    """Bin of each confidence; a bin holds its lower end, and the last one also holds 1."""
    return np.minimum((confidences * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def scores_of(tally: Tally) -> dict[str, Float64[np.ndarray, " *sets"]]:
    """Every score of every set; NaN for a set without windows.

    The scores are those of `metrics.score_predictions`; here for thousands of sets at once.

    Source:
        scikit-learn user guide, sections on balanced accuracy, F-measure, Cohen's kappa and
        Matthews' correlation; Naeini et al., Obtaining well calibrated probabilities using
        Bayesian binning, AAAI 2015 (expected calibration error).
    """
    confusion = tally.confusion
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total = support.sum(axis=-1)
    # A ratio without a denominator is NaN here, and is put right below where it is defined.
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = right.sum(axis=-1) / total
        recall = np.where(support > 0, right / support, 0.0)
        balanced = recall.sum(axis=-1) / (support > 0).sum(axis=-1)
        seen = support + predicted > 0
        f1 = np.where(seen, 2.0 * right / (support + predicted), 0.0)
        by_chance = (support * predicted).sum(axis=-1) / total**2
        kappa = np.where(by_chance < 1.0, (accuracy - by_chance) / (1.0 - by_chance), np.nan)
        spread = (total**2 - (support**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
        covariance = right.sum(axis=-1) * total - (support * predicted).sum(axis=-1)
        mcc = np.where(spread > 0.0, covariance / np.sqrt(spread), 0.0)
        gap = np.abs(tally.calibration[..., 0] - tally.calibration[..., 1])
        scores = {
            "accuracy": accuracy,
            "balanced_accuracy": balanced,
            "macro_f1": f1.sum(axis=-1) / seen.sum(axis=-1),
            "cohen_kappa": kappa,
            "mcc": np.where(total > 0, mcc, np.nan),
            "ece": gap.sum(axis=-1) / total,
            "largest_class_share": support.max(axis=-1) / total,
        }
    return {name: scores[name] for name in METRICS}
