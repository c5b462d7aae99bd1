"""Mean teacher: a network agrees, under noise, with the moving average of itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch.nn import functional

from smoothdistill.methods.loss_parts import LossParts, labelled_mean, task_losses
from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

__all__ = ["MeanTeacher", "MeanTeacherOptions"]


class MeanTeacherOptions(MultitaskOptions):
    """Options of `MeanTeacher`."""

    distill_weight: float = Field(default=100.0, ge=0.0)
    """Weight of the disagreement against the cross-entropy once it has risen, at least 0."""

    noise: float = Field(default=0.05, ge=0.0)
    """Standard deviation of the noise on the signals, in their unit, at least 0; standardized
    signals have a deviation of 1."""

    warmup: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of the epochs over which the weight rises, in [0, 1]."""


@register_method
class MeanTeacher(Multitask):
    """Cross-entropy, and the squared difference between the probabilities of student and average.

    Both see the same windows with noise of their own; the mean is over classes and labelled
    windows, and its weight rises as exp(-5 (1 - x)^2), x from 0 to 1 over the first epochs.

    Source:
        Tarvainen and Valpola, Mean teachers are better role models, NIPS 2017, section 2, with all
        windows labelled.
    """

    name: ClassVar[str] = "mean-teacher"
    changes_by_epoch: ClassVar[bool] = True
    Options: ClassVar[type[LossOptions]] = MeanTeacherOptions
    options: MeanTeacherOptions
    selectable: ClassVar[tuple[Literal["student", "teacher"], ...]] = ("student", "teacher")

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class; `distillation` is the squared difference."""
        options = self.options
        with torch.no_grad():
            taught = teacher(signals + options.noise * torch.randn_like(signals))
        logits = self.in_order(student(signals + options.noise * torch.randn_like(signals)))
        found = task_losses(logits, targets, options.label_smoothing)
        differences = [
            labelled_mean(
                functional.softmax(logits[task], 1)
                .sub(functional.softmax(taught[task], 1))
                .square()
                .mean(1),
                targets[task],
            )
            for task in self.tasks
        ]
        left = 0.0 if options.warmup == 0.0 else max(0.0, 1.0 - self.progress / options.warmup)
        weight = options.distill_weight * math.exp(-5.0 * left**2)
        total = self.weigh(found.losses) + weight * self.weigh(differences)
        return found.parts(total, distillation=differences)
