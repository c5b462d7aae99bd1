"""What a trained run is worth: scores on data, figures, report, model card, predictions."""

from __future__ import annotations

from smoothdistill.evaluation.evaluate import Evaluation as Evaluation
from smoothdistill.evaluation.evaluate import evaluate as evaluate
from smoothdistill.evaluation.predict import WindowPredictions as WindowPredictions
from smoothdistill.evaluation.predict import predict as predict
from smoothdistill.evaluation.predict import predict_recordings as predict_recordings
from smoothdistill.evaluation.recordings import read_recordings as read_recordings
from smoothdistill.evaluation.report import write_report as write_report
from smoothdistill.evaluation.run_record import RunRecord as RunRecord

__all__ = [
    "Evaluation",
    "RunRecord",
    "WindowPredictions",
    "evaluate",
    "predict",
    "predict_recordings",
    "read_recordings",
    "write_report",
]
