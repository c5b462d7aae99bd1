"""A training step on a CPU by autograd, where the loss can be looked at without a wait."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from smoothdistill.optim.buffer_places import BufferPlaces
from smoothdistill.training.skipped_steps import overflowed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from smoothdistill.methods import LossParts
    from smoothdistill.ops import MultitaskKDOutput
    from smoothdistill.optim import AdamEMA

    ByTask = Mapping[str, Tensor]

__all__ = ["HostStep"]


class HostStep:
    """Loss, backward pass and update, which are left out where the loss is not finite.

    Args:
        loss: Forward passes and loss of a batch; of no other state than that of the model.
        model: The student.
        optimizer: Its optimizer.
        check_gradients: Whether gradients are looked at as well as the loss.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, ByTask, ByTask | None], MultitaskKDOutput | LossParts],
        model: nn.Module,
        optimizer: AdamEMA,
        *,
        check_gradients: bool,
    ) -> None:
        self._loss, self._optimizer = loss, optimizer
        self._buffers = BufferPlaces(model)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._check_gradients = check_gradients

    def __call__(
        self, signals: Tensor, targets: ByTask, taught: ByTask | None
    ) -> tuple[MultitaskKDOutput | LossParts, bool]:
        """Train by one batch; the loss by parts, detached, and whether the step was skipped."""
        old_buffers = [buffer.clone() for buffer in self._buffers.tensors().values()]
        out = self._loss(signals, targets, taught)
        total = out.total.detach()
        skip = not math.isfinite(total)
        self._optimizer.zero_grad(set_to_none=True)
        if not skip:
            out.total.backward()  # type: ignore[no-untyped-call]
            skip = self._check_gradients and bool(overflowed(p.grad for p in self._parameters))
        if skip:
            self._optimizer.zero_grad(set_to_none=True)
            for buffer, old in zip(self._buffers.tensors().values(), old_buffers, strict=True):
                buffer.copy_(old)
        else:
            self._optimizer.step()
        return out._replace(total=total), skip
