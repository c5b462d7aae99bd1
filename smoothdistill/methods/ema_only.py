"""EMA only: plain multitask training, of which the running average of the weights is used."""

from __future__ import annotations

from typing import ClassVar, Literal

from smoothdistill.methods.multitask import Multitask
from smoothdistill.methods.registry import register_method

__all__ = ["EMAOnly"]


@register_method
class EMAOnly(Multitask):
    """`Multitask`, and what is used is the moving average: averaging told from distillation.

    The student is that of `Multitask`, bit for bit; it is never taught by the average.

    Source:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, SIAM J. Control
        Optim. 30(4), 1992; the exponential form as in Tarvainen and Valpola, NeurIPS 2017.
    """

    name: ClassVar[str] = "ema-only"
    selectable: ClassVar[tuple[Literal["student", "teacher"], ...]] = ("teacher",)
