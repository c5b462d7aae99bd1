"""What a trained teacher says of the training windows, asked once instead of in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from jaxtyping import Int64
    from torch import Tensor, nn

    from smoothdistill.training.batches import DeviceWindows
    from smoothdistill.training.standardization import Standardization

__all__ = ["TaughtLogits"]

_BATCH_SIZE = 256  # fixed: a result must not depend on the batch size of training


class TaughtLogits:
    """A teacher's logits of windows that are the same in every epoch, and so are the logits.

    They cost one pass of the teacher, and a number for each window and class.

    Args:
        teacher: Maps signals [batch, channels, time] to {task: logits [batch, classes]}; in
            evaluation mode.
        data: All windows, on the teacher's device.
        chosen: Numbers of those that will be asked for.
        standardization: Applied to the signals; must lie on the same device.
        precision: Number format of the products; one of `config.PRECISIONS`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        data: DeviceWindows,
        chosen: Int64[np.ndarray, " chosen"],
        standardization: Standardization,
        *,
        precision: str = "float32",
    ) -> None:
        self._teacher, self._data, self._standardization = teacher, data, standardization
        self._numbers = torch.from_numpy(chosen).to(data.device)
        self._chosen, self._casts = chosen, precision == "bfloat16"
        self._logits: dict[str, Tensor] = {}

    @torch.no_grad()
    def compute(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Ask the teacher, unless that has been done; False where `should_stop` said so.

        Args:
            should_stop: Asked before each batch.
        """
        if self._logits:
            return True
        found: dict[str, Tensor] = {}
        device = self._data.device
        batches = self._data.batches(self._chosen, _BATCH_SIZE, self._standardization)
        for place, (signals, _) in enumerate(batches):
            if should_stop():
                return False
            with torch.autocast(device.type, torch.bfloat16, enabled=self._casts):
                said: dict[str, Tensor] = self._teacher(signals)
            numbers = self._numbers[place * _BATCH_SIZE : (place + 1) * _BATCH_SIZE]
            for task, logits in said.items():
                if task not in found:  # NaN for whom nobody will ask for: it would be noticed
                    shape = (len(self._data.signals), logits.shape[1])
                    found[task] = logits.new_full(shape, torch.nan)
                found[task].index_copy_(0, numbers, logits)
        self._logits = found
        return True

    def of_batch(self, numbers: Int64[np.ndarray, " batch"]) -> dict[str, Tensor]:
        """Logits [batch, classes] by task, of windows by number; `compute` comes first."""
        chosen = torch.from_numpy(numbers).to(self._data.device)
        return {task: logits.index_select(0, chosen) for task, logits in self._logits.items()}
