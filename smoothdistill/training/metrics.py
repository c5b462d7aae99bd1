"""Scores of predictions by scikit-learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.training.tallies import CALIBRATION_BINS, METRICS, confidence_bins
from smoothdistill.windows import IGNORE_INDEX

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = ["METRICS", "accuracy", "macro_f1", "score_predictions"]


def accuracy(
    targets: Int64[np.ndarray, " windows"], predictions: Int64[np.ndarray, " windows"]
) -> float:
    """Share of the labelled windows that are predicted right; NaN without one.

    Args:
        targets: Annotated classes, or `IGNORE_INDEX`; windows of the latter are left out.
        predictions: Predicted classes.
    """
    is_labelled = targets != IGNORE_INDEX
    if not is_labelled.any():
        return math.nan
    return float((targets[is_labelled] == predictions[is_labelled]).mean())


def macro_f1(
    targets: Int64[np.ndarray, " windows"], predictions: Int64[np.ndarray, " windows"]
) -> float:
    """Mean F1 over the classes that occur among the targets or the predictions.

    A class that occurs in neither has no F1; one that is only predicted has an F1 of 0. This
    is what scikit-learn does when it is given no list of classes, in a tenth of its time:
    this one is called after every epoch.

    Args:
        targets: Annotated classes, or `IGNORE_INDEX`; windows of the latter are left out.
        predictions: Predicted classes.

    Returns:
        The score in [0, 1]; NaN without a labelled window.
    """
    is_labelled = targets != IGNORE_INDEX
    if not is_labelled.any():
        return math.nan
    targets, predictions = targets[is_labelled], predictions[is_labelled]
    size = int(max(targets.max(), predictions.max())) + 1
    right = np.bincount(targets[targets == predictions], minlength=size)
    either = np.bincount(targets, minlength=size) + np.bincount(predictions, minlength=size)
    is_seen = either > 0
    return float((2.0 * right[is_seen] / either[is_seen]).mean())


def score_predictions(
    targets: Int64[np.ndarray, " windows"],
    predictions: Int64[np.ndarray, " windows"],
    confidences: Float[np.ndarray, " windows"],
) -> dict[str, float]:
    """Every score of `METRICS` for one set of predictions.

    Args:
        targets: Annotated classes, or `IGNORE_INDEX`; windows of the latter are left out.
        predictions: Predicted classes.
        confidences: Probability of the prediction, in [0, 1].

    Returns:
        Scores by name. `balanced_accuracy` is the mean recall of the classes that occur among
        the targets. Where targets and predictions are all of one class, `cohen_kappa` is NaN
        and `mcc` is 0, as scikit-learn has it.
        Everything is NaN without a labelled window.
    """
    from sklearn import metrics

    is_labelled = targets != IGNORE_INDEX
    if not is_labelled.any():
        return dict.fromkeys(METRICS, math.nan)
    targets, predictions = targets[is_labelled], predictions[is_labelled]
    confidences = confidences[is_labelled].astype(np.float64)
    classes, counts = np.unique(targets, return_counts=True)
    has_one_class = len(classes) == 1 and bool(np.all(predictions == classes[0]))
    bins = confidence_bins(confidences)
    surplus = np.bincount(
        bins, weights=confidences - (targets == predictions), minlength=CALIBRATION_BINS
    )
    scores = {
        "accuracy": metrics.accuracy_score(targets, predictions),
        # The recall of the classes that occur; balanced_accuracy_score is that with a warning.
        "balanced_accuracy": metrics.recall_score(
            targets, predictions, labels=classes, average="macro"
        ),
        "macro_f1": metrics.f1_score(targets, predictions, average="macro", zero_division=0.0),
        "cohen_kappa": math.nan
        if has_one_class
        else metrics.cohen_kappa_score(targets, predictions),
        "mcc": 0.0 if has_one_class else metrics.matthews_corrcoef(targets, predictions),
        "ece": np.abs(surplus).sum() / len(targets),
        "largest_class_share": counts.max() / len(targets),
    }
    return {name: float(scores[name]) for name in METRICS}
