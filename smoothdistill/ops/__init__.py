"""The fused kernels: in-place functions over lists of tensors, and a loss over lists of logits."""

from __future__ import annotations

from smoothdistill.ops._backend import backends as backends
from smoothdistill.ops.adam_ema import adam_ema_ as adam_ema_
from smoothdistill.ops.ema_update import ema_update_ as ema_update_
from smoothdistill.ops.multitask_kd_loss import MultitaskKDOutput as MultitaskKDOutput
from smoothdistill.ops.multitask_kd_loss import multitask_kd_loss as multitask_kd_loss

__all__ = [
    "MultitaskKDOutput",
    "adam_ema_",
    "backends",
    "ema_update_",
    "multitask_kd_loss",
]
