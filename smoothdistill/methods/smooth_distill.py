"""Smooth-Distill: the network is taught by the exponential moving average of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from smoothdistill.methods.base import Method
from smoothdistill.methods.options import (
    LossOptions,
    MethodOptions,
    require_not_negative,
    require_positive,
)
from smoothdistill.methods.registry import register_method
from smoothdistill.optim import MultitaskKDLoss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from torch import Tensor

    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["SmoothDistill", "SmoothDistillOptions"]


class SmoothDistillOptions(MethodOptions):
    """Options of `SmoothDistill`; the defaults are those of the published code."""

    distill_weight: float | dict[str, float] = 0.5
    """Weight of the distillation term, at least 0, for all tasks or by task (lambda)."""

    temperature: float | dict[str, float] = 3.0
    """Temperature of the distillation term, above 0, for all tasks or by task (T)."""

    distill_sum: Literal["weighted", "plain"] = "weighted"
    """Whether the task weights apply to the distillation, too; the paper has both forms."""

    @model_validator(mode="after")
    def _ranges_by_task(self) -> Self:
        require_not_negative("distill_weight", self.distill_weight)
        require_positive("temperature", self.temperature)
        return self


@register_method
class SmoothDistill(Method):
    """Multitask cross-entropy plus distillation from the model's own moving average.

    With weights w, teacher logits z' and student logits z::

        loss = sum_t w_t * (CE_t + distill_weight_t * T_t ** 2 * KL(softmax(z'_t / T_t)
                                                                    || softmax(z_t / T_t)))
        or, with `distill_sum` "plain":
        loss = sum_t w_t * CE_t + sum_t distill_weight_t * T_t ** 2 * KL(...)
        teacher <- decay * teacher + (1 - decay) * student        after every step

    The published code is followed in these equations; the teacher also averages buffers such as
    the statistics of a batch norm, which the published code leaves as they were.

    Source:
        Smooth-Distill, arXiv 2507.00061, in the form of its published code.
    """

    name: ClassVar[str] = "smooth-distill"
    changes_by_epoch: ClassVar[bool] = False
    Options: ClassVar[type[LossOptions]] = SmoothDistillOptions
    options: SmoothDistillOptions

    def __init__(self, tasks: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(tasks, options)
        self._loss = MultitaskKDLoss(
            task_weights=self.task_weights(),
            distill_weight=self._distill_weights(),
            temperature=self.options.temperature,
            label_smoothing=self.options.label_smoothing,
        )

    def _distill_weights(self) -> float | dict[str, float]:
        """What the loss, which weighs both terms by task, is to multiply the distillation with."""
        weight = self.options.distill_weight
        if self.options.distill_sum == "weighted":
            return weight
        by_task = weight if isinstance(weight, dict) else dict.fromkeys(self.tasks, weight)
        task_weights = self.task_weights()
        if not all(task_weights.values()):
            raise ValueError(
                "`method.task_weights` must be above 0 for every task where `distill_sum` is "
                f"'plain', but is {task_weights!r} instead."
            )
        return {task: by_task[task] / task_weights[task] for task in self.tasks}

    @property
    def needs_teacher_logits(self) -> bool:
        """False where every distillation weight is zero."""
        weight = self.options.distill_weight
        return any(weight.values()) if isinstance(weight, dict) else weight != 0.0

    def loss(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        """Cross-entropy and distillation of every task; see `Method.loss`."""
        out: MultitaskKDOutput = self._loss(self.in_order(student_logits), teacher_logits, targets)
        return out

    def loss_and_gradients(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> tuple[MultitaskKDOutput, dict[str, Tensor]]:
        """As `Method.loss_and_gradients`, in one pass."""
        logits = self.in_order(student_logits)
        out, gradients = self._loss.with_gradients(logits, teacher_logits, targets)
        return out, dict(zip(logits, gradients, strict=True))
