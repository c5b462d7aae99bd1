"""Multitask cross-entropy plus distillation in plain PyTorch: oracle and fallback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["multitask_kd_loss"]


def multitask_kd_loss(
    student_logits: Sequence[Tensor],
    teacher_logits: Sequence[Tensor] | None,
    targets: Sequence[Tensor],
    *,
    task_weights: Sequence[float],
    distill_weight: Sequence[float],
    temperature: Sequence[float],
    label_smoothing: Sequence[float],
    class_weights: Sequence[Tensor | None],
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Weighted sum over tasks of ``CE_t + distill_weight_t * KD_t``.

    Over the rows of task *t* whose target is not `ignore_index`::

        CE_t = sum_b w[y_b] * CE(z_b, y_b) / sum_b w[y_b]        (label smoothing as in PyTorch)
        KD_t = T_t ** 2 * mean_b KL( softmax(teacher_b / T_t) || softmax(student_b / T_t) )

    A task without any such row adds zero, and a zero gradient. A row counts as correct where
    the largest student logit is the target's; the lowest index wins a tie, and a row that
    holds a NaN is wrong.

    Returns:
        ``(total, cross_entropy [tasks], distillation [tasks], num_correct [tasks],
        num_valid [tasks])``; `distillation` holds KD_t, before `distill_weight`.

    Source:
        Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015, section 2;
        the published code of Smooth-Distill (arXiv 2507.00061) for the sum over tasks.
    """
    cross_entropies, distillations, corrects, valids = [], [], [], []
    for index, (student, target) in enumerate(zip(student_logits, targets, strict=True)):
        valid = target != ignore_index
        rows, labels = student[valid], target[valid]
        weight = class_weights[index]
        label_weight = None if weight is None else weight[labels].sum()
        zero = student[:0].sum()  # joined to the graph, and zero whatever the logits hold
        if len(rows) == 0 or (label_weight is not None and float(label_weight) == 0.0):
            cross_entropies.append(zero)
        else:
            cross_entropies.append(
                functional.cross_entropy(
                    rows, labels, weight=weight, label_smoothing=label_smoothing[index]
                )
            )
        if teacher_logits is None or len(rows) == 0:
            distillations.append(zero)
        else:
            scale = temperature[index]
            divergence = functional.kl_div(
                functional.log_softmax(rows / scale, dim=1),
                functional.softmax(teacher_logits[index][valid].detach() / scale, dim=1),
                reduction="batchmean",
            )
            distillations.append(scale * scale * divergence)
        detached = rows.detach()
        right = (detached.argmax(dim=1) == labels) & ~detached.isnan().any(dim=1)
        corrects.append(right.sum())
        valids.append(valid.sum())
    total = sum(
        (
            w * (ce + lam * kd)
            for w, lam, ce, kd in zip(
                task_weights, distill_weight, cross_entropies, distillations, strict=True
            )
        ),
        start=torch.zeros_like(cross_entropies[0]),
    )
    return (
        total,
        torch.stack(cross_entropies).detach(),
        torch.stack(distillations).detach(),
        torch.stack(corrects),
        torch.stack(valids),
    )
