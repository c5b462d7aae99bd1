"""When what is done: steps, epochs, folds, checkpoints, scores. Names no method."""

from __future__ import annotations

from smoothdistill.training.config import RunConfig as RunConfig
from smoothdistill.training.metrics import METRICS as METRICS
from smoothdistill.training.metrics import score_predictions as score_predictions
from smoothdistill.training.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from smoothdistill.training.run import Run as Run
from smoothdistill.training.standardization import Standardization as Standardization
from smoothdistill.training.train_step import TrainStep as TrainStep
from smoothdistill.training.trainer import Trainer as Trainer

__all__ = [
    "METRICS",
    "ModelCheckpoint",
    "Run",
    "RunConfig",
    "Standardization",
    "TrainStep",
    "Trainer",
    "score_predictions",
]
