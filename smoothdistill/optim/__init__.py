"""The ops as objects: an EMA teacher, an optimizer that moves it, and the multitask loss."""

from __future__ import annotations

from smoothdistill.optim.adam_ema import AdamEMA as AdamEMA
from smoothdistill.optim.ema_teacher import EMATeacher as EMATeacher
from smoothdistill.optim.multitask_kd_loss import MultitaskKDLoss as MultitaskKDLoss

__all__ = ["AdamEMA", "EMATeacher", "MultitaskKDLoss"]
