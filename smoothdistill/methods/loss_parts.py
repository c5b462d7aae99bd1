"""The loss of a batch by parts, for methods whose parts are more than two a task."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from smoothdistill.windows import IGNORE_INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["LossParts", "TaskLosses", "labelled_mean", "task_losses", "with_others"]


class LossParts(NamedTuple):
    """The parts of `ops.MultitaskKDOutput`, and further ones by name."""

    total: Tensor
    """Scalar, the only part with a gradient."""
    cross_entropy: Tensor
    """[tasks], in nats."""
    distillation: Tensor
    """[tasks], in nats, before its weight."""
    num_correct: Tensor
    """[tasks] int64: labelled windows whose largest logit is the target's."""
    num_valid: Tensor
    """[tasks] int64: labelled windows."""
    others: Mapping[str, Tensor] = MappingProxyType({})
    """Scalars by name, those of `Method.other_parts`."""


class TaskLosses(NamedTuple):
    """Cross-entropies of a batch, one for each task."""

    losses: list[Tensor]
    """Scalars with a gradient, in nats; 0 for a task without a labelled window."""
    num_correct: Tensor
    """[tasks] int64."""
    num_valid: Tensor
    """[tasks] int64."""

    def parts(
        self,
        total: Tensor,
        others: Mapping[str, Tensor] | None = None,
        distillation: Sequence[Tensor] | None = None,
    ) -> LossParts:
        """The parts of a loss that is made of these."""
        losses = torch.stack([loss.detach() for loss in self.losses])
        return LossParts(
            total,
            losses,
            torch.zeros_like(losses)
            if distillation is None
            else torch.stack([one.detach() for one in distillation]),
            self.num_correct,
            self.num_valid,
            {name: value.detach() for name, value in (others or {}).items()},
        )


def task_losses(
    logits: Mapping[str, Tensor], targets: Mapping[str, Tensor], label_smoothing: float = 0.0
) -> TaskLosses:
    """Cross-entropies by plain PyTorch, each with a gradient of its own.

    Args:
        logits: Logits [batch, classes] of each task.
        targets: Class numbers [batch] of each task; `IGNORE_INDEX` where there is no label.
        label_smoothing: Share of each target that is spread over all classes, in [0, 1).

    Returns:
        Means over the labelled windows, in the order of `logits`.
    """
    losses, corrects, valids = [], [], []
    for task, values in logits.items():
        target = targets[task]
        num_valid = (target != IGNORE_INDEX).sum()
        summed = functional.cross_entropy(
            values.float() if values.dtype in (torch.float16, torch.bfloat16) else values,
            target,
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
        losses.append(summed / num_valid.clamp(min=1))
        corrects.append((values.argmax(1) == target).sum())
        valids.append(num_valid)
    return TaskLosses(losses, torch.stack(corrects), torch.stack(valids))


def labelled_mean(by_window: Tensor, target: Tensor) -> Tensor:
    """Mean over the windows with a label; 0, with a gradient of 0, where there is none.

    Args:
        by_window: Values [batch].
        target: Class numbers [batch]; `IGNORE_INDEX` where there is no label.
    """
    is_labelled = target != IGNORE_INDEX
    return torch.where(is_labelled, by_window, 0.0).sum() / is_labelled.sum().clamp(min=1)


def with_others(out: MultitaskKDOutput | LossParts, total: Tensor, **others: Tensor) -> LossParts:
    """The same parts with another total and with further parts.

    Args:
        out: The loss of the logits.
        total: What is differentiated.
        **others: Scalars by name, which are detached.
    """
    detached = {name: value.detach() for name, value in others.items()}
    return LossParts(
        total, out.cross_entropy, out.distillation, out.num_correct, out.num_valid, detached
    )
