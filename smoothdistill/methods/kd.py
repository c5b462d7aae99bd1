"""KD: a student learns the softened predictions of a trained teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from smoothdistill.methods.multitask import MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.methods.trained_teacher import TrainedTeacherMethod
from smoothdistill.optim import MultitaskKDLoss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["KD", "KDOptions"]


class KDOptions(MultitaskOptions):
    """Options of `KD`; the defaults weigh the terms 0.1 to 0.9, as comparisons usually do."""

    distill_weight: float = Field(default=9.0, ge=0.0)
    """Weight of the divergence from the teacher against the cross-entropy, at least 0."""

    temperature: float = Field(default=4.0, gt=0.0)
    """Temperature of the divergence, above 0."""


@register_method
class KD(TrainedTeacherMethod):
    """Cross-entropy, and the divergence from a trained teacher's softened predictions.

    With p = softmax(z / T)::

        loss = sum_t w_t * (CE_t + distill_weight * T ** 2 * KL(teacher's p_t || p_t)) / (1 + dw)

    where dw is `distill_weight`: the terms' weights sum to 1, so that the learning rate means what
    it means to other methods.

    Source:
        Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, arXiv 1503.02531.
    """

    name: ClassVar[str] = "kd"
    Options: ClassVar[type[LossOptions]] = KDOptions
    learns_from_logits: ClassVar[bool] = True
    options: KDOptions

    def __init__(self, tasks: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(tasks, options)
        share = 1.0 / (1.0 + self.options.distill_weight)
        self._distilled = MultitaskKDLoss(
            task_weights={task: share * weight for task, weight in self.task_weights().items()},
            distill_weight=self.options.distill_weight,
            temperature=self.options.temperature,
            label_smoothing=self.options.label_smoothing,
        )

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
        taught: Mapping[str, Tensor] | None = None,
    ) -> MultitaskKDOutput:
        """See the class."""
        del teacher
        logits = self.in_order(student(signals))
        taught = self.taught(logits, self.teacher_logits(signals) if taught is None else taught)
        out: MultitaskKDOutput = self._distilled(logits, taught, targets)
        return out
