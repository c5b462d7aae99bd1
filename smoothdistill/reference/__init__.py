"""The plain twin of every kernel: the oracle of its tests, its fallback, and a baseline."""

from __future__ import annotations

from smoothdistill.reference.adam_ema import adam_ema_ as adam_ema_
from smoothdistill.reference.ema_update import ema_update_ as ema_update_
from smoothdistill.reference.multitask_kd_loss import multitask_kd_loss as multitask_kd_loss

__all__ = ["adam_ema_", "ema_update_", "multitask_kd_loss"]
