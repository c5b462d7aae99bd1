"""What a trained run is worth (scores, figures, report, predictions), and which of several wins."""

from __future__ import annotations

from smoothdistill.evaluation.comparison import CompareConfig as CompareConfig
from smoothdistill.evaluation.comparison import Comparison as Comparison
from smoothdistill.evaluation.comparison import compare as compare
from smoothdistill.evaluation.comparison import write_comparison as write_comparison
from smoothdistill.evaluation.evaluate import Evaluation as Evaluation
from smoothdistill.evaluation.evaluate import evaluate as evaluate
from smoothdistill.evaluation.predict import WindowPredictions as WindowPredictions
from smoothdistill.evaluation.predict import predict as predict
from smoothdistill.evaluation.predict import predict_recordings as predict_recordings
from smoothdistill.evaluation.recordings import read_recordings as read_recordings
from smoothdistill.evaluation.report import write_report as write_report
from smoothdistill.evaluation.run_record import RunRecord as RunRecord

__all__ = [
    "CompareConfig",
    "Comparison",
    "Evaluation",
    "RunRecord",
    "WindowPredictions",
    "compare",
    "evaluate",
    "predict",
    "predict_recordings",
    "read_recordings",
    "write_comparison",
    "write_report",
]
