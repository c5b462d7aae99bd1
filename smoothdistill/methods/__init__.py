"""What to distil: one file per method. A method names no device and no kernel."""

from __future__ import annotations

from smoothdistill.methods.base import Method as Method
from smoothdistill.methods.base import NetworkBuilder as NetworkBuilder
from smoothdistill.methods.born_again import BornAgain as BornAgain
from smoothdistill.methods.cross_task import CrossTask as CrossTask
from smoothdistill.methods.cross_task_stitch import CrossTaskStitch as CrossTaskStitch
from smoothdistill.methods.deep_mutual_learning import DeepMutualLearning as DeepMutualLearning
from smoothdistill.methods.ema_only import EMAOnly as EMAOnly
from smoothdistill.methods.gradnorm import GradNorm as GradNorm
from smoothdistill.methods.label_smoothing import LabelSmoothing as LabelSmoothing
from smoothdistill.methods.loss_parts import LossParts as LossParts
from smoothdistill.methods.multitask import Multitask as Multitask
from smoothdistill.methods.multitask import MultitaskOptions as MultitaskOptions
from smoothdistill.methods.options import LossOptions as LossOptions
from smoothdistill.methods.options import MethodOptions as MethodOptions
from smoothdistill.methods.options import validate_options as validate_options
from smoothdistill.methods.registry import METHODS as METHODS
from smoothdistill.methods.registry import build_method as build_method
from smoothdistill.methods.registry import register_method as register_method
from smoothdistill.methods.sd_dropout import SDDropout as SDDropout
from smoothdistill.methods.single_task import SingleTask as SingleTask
from smoothdistill.methods.smooth_distill import SmoothDistill as SmoothDistill
from smoothdistill.methods.smooth_distill import SmoothDistillOptions as SmoothDistillOptions
from smoothdistill.methods.swa import SWA as SWA
from smoothdistill.methods.uncertainty_weighting import UncertaintyWeighting as UncertaintyWeighting

__all__ = [
    "METHODS",
    "SWA",
    "BornAgain",
    "CrossTask",
    "CrossTaskStitch",
    "DeepMutualLearning",
    "EMAOnly",
    "GradNorm",
    "LabelSmoothing",
    "LossOptions",
    "LossParts",
    "Method",
    "MethodOptions",
    "Multitask",
    "MultitaskOptions",
    "NetworkBuilder",
    "SDDropout",
    "SingleTask",
    "SmoothDistill",
    "SmoothDistillOptions",
    "UncertaintyWeighting",
    "build_method",
    "register_method",
    "validate_options",
]
