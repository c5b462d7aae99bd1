"""The plain twin of every kernel: the oracle of its tests, its fallback, and a baseline."""

from __future__ import annotations

from smoothdistill.reference.adam_ema import adam_ema_ as adam_ema_
from smoothdistill.reference.conv_pool import conv_pool as conv_pool
from smoothdistill.reference.conv_pool import conv_pool_backward as conv_pool_backward
from smoothdistill.reference.ema_update import ema_update_ as ema_update_
from smoothdistill.reference.linear import linear as linear
from smoothdistill.reference.linear import linear_adam_ema_ as linear_adam_ema_
from smoothdistill.reference.linear import linear_backward_input as linear_backward_input
from smoothdistill.reference.linear import linear_backward_weight as linear_backward_weight
from smoothdistill.reference.multitask_kd_loss import multitask_kd_loss as multitask_kd_loss

__all__ = [
    "adam_ema_",
    "conv_pool",
    "conv_pool_backward",
    "ema_update_",
    "linear",
    "linear_adam_ema_",
    "linear_backward_input",
    "linear_backward_weight",
    "multitask_kd_loss",
]
