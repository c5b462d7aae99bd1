"""What to distil: one file per method. A method names no device and no kernel."""

from __future__ import annotations

from smoothdistill.methods.attention_transfer import AttentionTransfer as AttentionTransfer
from smoothdistill.methods.base import Method as Method
from smoothdistill.methods.born_again import BornAgain as BornAgain
from smoothdistill.methods.cross_task import CrossTask as CrossTask
from smoothdistill.methods.cross_task_stitch import CrossTaskStitch as CrossTaskStitch
from smoothdistill.methods.deep_mutual_learning import DeepMutualLearning as DeepMutualLearning
from smoothdistill.methods.dkd import DKD as DKD
from smoothdistill.methods.ema_only import EMAOnly as EMAOnly
from smoothdistill.methods.fitnets import FitNets as FitNets
from smoothdistill.methods.gradnorm import GradNorm as GradNorm
from smoothdistill.methods.hmkd import HMKD as HMKD
from smoothdistill.methods.kd import KD as KD
from smoothdistill.methods.label_smoothing import LabelSmoothing as LabelSmoothing
from smoothdistill.methods.loss_parts import LossParts as LossParts
from smoothdistill.methods.mean_teacher import MeanTeacher as MeanTeacher
from smoothdistill.methods.multitask import Multitask as Multitask
from smoothdistill.methods.multitask import MultitaskOptions as MultitaskOptions
from smoothdistill.methods.networks import NetworkBuilder as NetworkBuilder
from smoothdistill.methods.options import LossOptions as LossOptions
from smoothdistill.methods.options import MethodOptions as MethodOptions
from smoothdistill.methods.options import validate_options as validate_options
from smoothdistill.methods.registry import METHODS as METHODS
from smoothdistill.methods.registry import build_method as build_method
from smoothdistill.methods.registry import register_method as register_method
from smoothdistill.methods.rkd import RKD as RKD
from smoothdistill.methods.sd_dropout import SDDropout as SDDropout
from smoothdistill.methods.single_task import SingleTask as SingleTask
from smoothdistill.methods.smldist import SMLDist as SMLDist
from smoothdistill.methods.smooth_distill import SmoothDistill as SmoothDistill
from smoothdistill.methods.smooth_distill import SmoothDistillOptions as SmoothDistillOptions
from smoothdistill.methods.swa import SWA as SWA
from smoothdistill.methods.trained_teacher import TrainedTeacherMethod as TrainedTeacherMethod
from smoothdistill.methods.uncertainty_weighting import UncertaintyWeighting as UncertaintyWeighting

__all__ = [
    "DKD",
    "HMKD",
    "KD",
    "METHODS",
    "RKD",
    "SWA",
    "AttentionTransfer",
    "BornAgain",
    "CrossTask",
    "CrossTaskStitch",
    "DeepMutualLearning",
    "EMAOnly",
    "FitNets",
    "GradNorm",
    "LabelSmoothing",
    "LossOptions",
    "LossParts",
    "MeanTeacher",
    "Method",
    "MethodOptions",
    "Multitask",
    "MultitaskOptions",
    "NetworkBuilder",
    "SDDropout",
    "SMLDist",
    "SingleTask",
    "SmoothDistill",
    "SmoothDistillOptions",
    "TrainedTeacherMethod",
    "UncertaintyWeighting",
    "build_method",
    "register_method",
    "validate_options",
]
