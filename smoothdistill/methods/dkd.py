"""DKD: what a teacher says of the true class, and what it says of the others, taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch.nn import functional

from smoothdistill.methods.loss_parts import LossParts, labelled_mean, task_losses
from smoothdistill.methods.multitask import MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.methods.trained_teacher import TrainedTeacherMethod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

__all__ = ["DKD", "DKDOptions", "decoupled_divergence"]


class DKDOptions(MultitaskOptions):
    """Options of `DKD`; the defaults are those of the paper's code."""

    target_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the true class's divergence, at least 0 (alpha)."""

    others_weight: float = Field(default=8.0, ge=0.0)
    """Weight of the other classes' divergence, at least 0 (beta)."""

    temperature: float = Field(default=4.0, gt=0.0)
    """Temperature of both, above 0."""

    warmup: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the epochs over which the weight of both rises, in [0, 1]."""


@register_method
class DKD(TrainedTeacherMethod):
    """Cross-entropy, and the two halves of the divergence from a trained teacher, weighted apart.

    Source:
        Zhao et al., Decoupled knowledge distillation, CVPR 2022, equations 6 and 7.
    """

    name: ClassVar[str] = "dkd"
    changes_by_epoch: ClassVar[bool] = True
    Options: ClassVar[type[LossOptions]] = DKDOptions
    learns_from_logits: ClassVar[bool] = True
    options: DKDOptions

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
        taught: Mapping[str, Tensor] | None = None,
    ) -> LossParts:
        """See the class; `distillation` is both halves with their weights and ``T ** 2``."""
        del teacher
        options = self.options
        logits = self.in_order(student(signals))
        taught = self.taught(logits, self.teacher_logits(signals) if taught is None else taught)
        found = task_losses(logits, targets, options.label_smoothing)
        divergences = [
            decoupled_divergence(
                logits[task],
                taught[task],
                targets[task],
                target_weight=options.target_weight,
                others_weight=options.others_weight,
                temperature=options.temperature,
            )
            for task in self.tasks
        ]
        share = 1.0 if options.warmup == 0.0 else min(1.0, self.progress / options.warmup)
        total = self.weigh(found.losses) + share * self.weigh(divergences)
        return found.parts(total, distillation=divergences)


def decoupled_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    target_weight: float,
    others_weight: float,
    temperature: float,
) -> Tensor:
    """Weighted sum of both halves, times ``T ** 2``, mean over the labelled windows.

    Args:
        student_logits: Logits [batch, classes].
        teacher_logits: Logits [batch, classes].
        target: Class numbers [batch]; `IGNORE_INDEX` where there is no label.
        target_weight: Weight of KL between (true class, all others together).
        others_weight: Weight of KL among the other classes, as if the true one were not there.
        temperature: By which all logits are divided, above 0.
    """
    if student_logits.shape[1] == 1:  # there are no others
        return 0.0 * student_logits.sum()
    classes = torch.arange(student_logits.shape[1], device=target.device)
    is_target = target.clamp(min=0)[:, None] == classes
    divergences = []
    logs = [
        functional.log_softmax(logits.float() / temperature, 1)
        for logits in (teacher_logits, student_logits)
    ]
    binary = [
        torch.stack(
            [
                log.masked_fill(~is_target, -torch.inf).logsumexp(1),
                log.masked_fill(is_target, -torch.inf).logsumexp(1),
            ],
            1,
        )
        for log in logs
    ]
    others = [
        (log - pair[:, 1:]).masked_fill(is_target, 0.0)
        for log, pair in zip(logs, binary, strict=True)
    ]
    for weight, (of_teacher, of_student), is_left_out in (
        (target_weight, binary, None),
        (others_weight, others, is_target),
    ):
        terms = of_teacher.exp() * (of_teacher - of_student)
        if is_left_out is not None:
            terms = terms.masked_fill(is_left_out, 0.0)
        divergences.append(weight * terms.sum(1))
    return temperature**2 * labelled_mean(divergences[0] + divergences[1], target)
