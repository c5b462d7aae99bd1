"""Methods side by side on the same folds and seeds: grids, paired differences, one report."""

from __future__ import annotations

from smoothdistill.evaluation.comparison.compare import Comparison as Comparison
from smoothdistill.evaluation.comparison.compare import compare as compare
from smoothdistill.evaluation.comparison.compare import write_comparison as write_comparison
from smoothdistill.evaluation.comparison.config import CompareConfig as CompareConfig

__all__ = ["CompareConfig", "Comparison", "compare", "write_comparison"]
