"""The fused kernels: in-place functions over lists of tensors, and a loss over lists of logits."""

from __future__ import annotations

from smoothdistill.ops._backend import backends as backends
from smoothdistill.ops.adam_ema import adam_ema_ as adam_ema_
from smoothdistill.ops.conv_pool import conv_pool as conv_pool
from smoothdistill.ops.ema_update import ema_update_ as ema_update_
from smoothdistill.ops.multitask_kd_loss import MultitaskKDOutput as MultitaskKDOutput
from smoothdistill.ops.multitask_kd_loss import multitask_kd_loss as multitask_kd_loss
from smoothdistill.ops.multitask_kd_loss import (
    multitask_kd_loss_and_gradients as multitask_kd_loss_and_gradients,
)

__all__ = [
    "MultitaskKDOutput",
    "adam_ema_",
    "backends",
    "conv_pool",
    "ema_update_",
    "multitask_kd_loss",
    "multitask_kd_loss_and_gradients",
]
