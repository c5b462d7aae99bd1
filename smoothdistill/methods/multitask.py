"""Multitask: weighted cross-entropies alone; the averaged copy is kept but never a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from smoothdistill.methods.base import Method
from smoothdistill.methods.options import LossOptions, MethodOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.optim import MultitaskKDLoss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["Multitask", "MultitaskOptions"]


class MultitaskOptions(MethodOptions):
    """Options of `Multitask`: those of the averaged copy and of the cross-entropies."""


@register_method
class Multitask(Method):
    """The sum over tasks of ``task_weight * cross_entropy``: Smooth-Distill without distillation.

    The moving average of the weights is kept and evaluated like that of every method, but it is
    the student that is used; `EMAOnly` uses the average.

    Source:
        The baseline of the same name in the published code of Smooth-Distill (arXiv 2507.00061).
    """

    name: ClassVar[str] = "multitask"
    changes_by_epoch: ClassVar[bool] = False
    Options: ClassVar[type[LossOptions]] = MultitaskOptions
    selectable: ClassVar[tuple[Literal["student", "teacher"], ...]] = ("student",)

    def __init__(self, tasks: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(tasks, options)
        self._loss = MultitaskKDLoss(
            task_weights=self.task_weights(),
            distill_weight=0.0,
            label_smoothing=self.options.label_smoothing,
        )

    @property
    def needs_teacher_logits(self) -> bool:
        """Always false."""
        return False

    def loss(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        """Cross-entropy of every task; `teacher_logits` are not looked at."""
        del teacher_logits
        out: MultitaskKDOutput = self._loss(self.in_order(student_logits), None, targets)
        return out

    def loss_and_gradients(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> tuple[MultitaskKDOutput, dict[str, Tensor]]:
        """As `Method.loss_and_gradients`, in one pass."""
        logits = self.in_order(student_logits)
        out, gradients = self._loss.with_gradients(logits, None, targets)
        return out, dict(zip(logits, gradients, strict=True))
