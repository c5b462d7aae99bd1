"""What a model predicts for many windows: class and confidence, per task."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from smoothdistill.errors import NonFiniteError
from smoothdistill.training.turns import in_one_go

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float32, Int64
    from torch import nn

    from smoothdistill.training.batches import DeviceWindows
    from smoothdistill.training.standardization import Standardization
    from smoothdistill.training.turns import Turns

__all__ = ["TaskPredictions", "predict_by_turns", "predict_windows"]

_BATCH_SIZE = 256  # fixed: a result must not depend on the batch size of training


class TaskPredictions(NamedTuple):
    """Predictions for one task, in the order of the windows asked for."""

    predictions: Int64[np.ndarray, " chosen"]
    """Class with the highest probability, in [0, classes)."""

    confidences: Float32[np.ndarray, " chosen"]
    """Its probability, in [0, 1]."""


def predict_windows(
    model: nn.Module,
    data: DeviceWindows,
    chosen: Int64[np.ndarray, " chosen"],
    standardization: Standardization,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, TaskPredictions] | None:
    """Predict every task for the chosen windows, in evaluation mode and without gradient.

    Args:
        model: Maps signals [batch, channels, time] to {task: logits [batch, classes]}; it is
            left in the mode it was in.
        data: All windows, on the model's device.
        chosen: Numbers of the windows.
        standardization: Applied to the signals; must lie on the same device.
        should_stop: Asked before each batch; where it says so, the result is None.

    Returns:
        Predictions of each task.

    Raises:
        NonFiniteError: If the model gives a NaN for a window.
    """
    return in_one_go(
        predict_by_turns(model, data, chosen, standardization, should_stop=should_stop)
    )


def predict_by_turns(
    model: nn.Module,
    data: DeviceWindows,
    chosen: Int64[np.ndarray, " chosen"],
    standardization: Standardization,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Turns[dict[str, TaskPredictions] | None]:
    """As `predict_windows`, with a turn for others before the wait for the device."""
    was_training = model.training
    model.eval()
    classes: dict[str, list[torch.Tensor]] = {}
    confidences: dict[str, list[torch.Tensor]] = {}
    try:
        with torch.no_grad():
            for signals, _ in data.batches(chosen, _BATCH_SIZE, standardization):
                if should_stop():
                    return None
                for task, logits in model(signals).items():
                    confidence, predicted = torch.softmax(logits, dim=1).max(dim=1)
                    classes.setdefault(task, []).append(predicted)
                    confidences.setdefault(task, []).append(confidence)
    finally:
        model.train(was_training)
    yield
    predicted_tasks = {
        task: TaskPredictions(
            torch.cat(classes[task]).cpu().numpy(), torch.cat(confidences[task]).cpu().numpy()
        )
        for task in classes
    }
    for task, found in predicted_tasks.items():
        num_bad = int(np.isnan(found.confidences).sum())
        if num_bad:
            raise NonFiniteError(
                f"`model` must give finite logits, but gives NaN for {num_bad} of {len(chosen)} "
                f"windows in the task {task!r} instead; lower `train.lr`."
            )
    return predicted_tasks
