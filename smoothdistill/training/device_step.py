"""A training step that never waits for its device, and so can be captured in a CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothdistill.optim.buffer_places import BufferPlaces
from smoothdistill.training.skipped_steps import overflowed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from smoothdistill.methods import LossParts
    from smoothdistill.ops import MultitaskKDOutput
    from smoothdistill.optim import AdamEMA
    from smoothdistill.training.skipped_steps import SkippedSteps

    ByTask = Mapping[str, Tensor]

__all__ = ["DeviceStep"]


class DeviceStep:
    """Loss, backward pass and update; whether to skip the update is decided on the device.

    Args:
        loss: Forward passes and loss of a batch; of no other state than that of the model.
        model: The student.
        optimizer: A capturable one, or each step waits for the device.
        skips: Counts the steps that were skipped.
        check_gradients: Whether gradients are looked at as well as the loss.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, ByTask, ByTask | None], MultitaskKDOutput | LossParts],
        model: nn.Module,
        optimizer: AdamEMA,
        skips: SkippedSteps,
        *,
        check_gradients: bool,
    ) -> None:
        self._loss, self._optimizer, self._skips = loss, optimizer, skips
        self._buffers = BufferPlaces(model)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._check_gradients = check_gradients

    def __call__(
        self, signals: Tensor, targets: ByTask, taught: ByTask | None = None
    ) -> MultitaskKDOutput | LossParts:
        """Train by one batch; the loss by parts, detached."""
        old_buffers = [buffer.clone() for buffer in self._buffers.tensors().values()]
        out = self._loss(signals, targets, taught)
        self._optimizer.zero_grad(set_to_none=True)
        out.total.backward()  # type: ignore[no-untyped-call]
        total = out.total.detach()
        skip = ~torch.isfinite(total)
        if self._check_gradients:
            skip = skip | overflowed(p.grad for p in self._parameters)
        self._optimizer.step(found_inf=skip.to(torch.float32))
        for buffer, old in zip(self._buffers.tensors().values(), old_buffers, strict=True):
            torch.where(skip, old, buffer, out=buffer)
        self._skips.note_on_device(skip)
        return out._replace(total=total)
