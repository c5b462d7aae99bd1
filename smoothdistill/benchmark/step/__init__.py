"""A whole training step of MTL-net, and inference, against plain PyTorch and against a floor."""

from __future__ import annotations

from smoothdistill.benchmark.step.case import BATCHES as BATCHES
from smoothdistill.benchmark.step.case import LAYOUTS as LAYOUTS
from smoothdistill.benchmark.step.case import StepCase as StepCase
from smoothdistill.benchmark.step.providers import PROVIDERS as PROVIDERS
from smoothdistill.benchmark.step.run import run_steps as run_steps

__all__ = ["BATCHES", "LAYOUTS", "PROVIDERS", "StepCase", "run_steps"]
