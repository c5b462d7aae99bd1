"""All windows as tensors on the device, from which batches are gathered by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jaxtyping import Int64
    from torch import Tensor

    from smoothdistill.training.standardization import Standardization
    from smoothdistill.windows import Windows

__all__ = ["DeviceWindows"]


# Windows that are gathered and standardized at once: enough to make the calls' fixed cost small
# (300 µs for each 64 windows became 100 µs, with caches as a step leaves them), and little memory.
_WINDOWS_PER_GATHERING = 1024


class DeviceWindows:
    """Signals and targets of a data set on one device.

    Several batches are gathered by one `index_select` per tensor: no per-window Python, no
    collating. Each batch is a view of its own part of them.

    Args:
        windows: The data set; its arrays are shared with it on a CPU, where they can be.
        device: Where the tensors shall lie.
    """

    def __init__(self, windows: Windows, device: torch.device) -> None:
        self.device = device
        self.signals = _tensor(windows.signals, device)
        self.targets = {task: _tensor(labels, device) for task, labels in windows.targets.items()}

    def batches(
        self,
        order: Int64[np.ndarray, " chosen"],
        batch_size: int,
        standardization: Standardization,
        *,
        first: int = 0,
        vary: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield (signals [batch, channels, time], {task: targets [batch]}) in a given order.

        Args:
            order: Numbers of the windows; the last batch may be smaller than the others.
            batch_size: Windows per batch, at least 1.
            standardization: Applied to each batch; must lie on the same device.
            first: Number of the batch to begin with.
            vary: Given signals in their own unit, and the place in `order` of the first of them,
                gives those to train on.
        """
        numbers = torch.from_numpy(order).to(self.device)
        per_gathering = max(1, _WINDOWS_PER_GATHERING // batch_size)
        # A gathering begins where it would have begun without `first`: a batch that lies in memory
        # otherwise may be summed in another order, and a resumed run must give the same bits.
        num_skipped = first % per_gathering
        step = per_gathering * batch_size
        for start in range((first - num_skipped) * batch_size, len(order), step):
            chosen = numbers[start : start + step]
            signals = self.signals.index_select(0, chosen)
            if vary is not None:
                signals = vary(signals, start)
            signals = standardization.apply_(signals)
            targets = {
                task: labels.index_select(0, chosen) for task, labels in self.targets.items()
            }
            for begin in range(num_skipped * batch_size, len(chosen), batch_size):
                batch = slice(begin, begin + batch_size)
                yield signals[batch], {task: labels[batch] for task, labels in targets.items()}
            num_skipped = 0


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    # A read-only array, such as a memory-mapped one, cannot be shared with a tensor.
    tensor = torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)
    return tensor.to(device)
