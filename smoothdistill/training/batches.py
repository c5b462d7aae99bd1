"""All windows as tensors on the device, from which batches are gathered by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jaxtyping import Int64
    from torch import Tensor

    from smoothdistill.training.standardization import Standardization
    from smoothdistill.windows import Windows

    ByTask = Mapping[str, Tensor]

__all__ = ["Batch", "BatchFeed", "DeviceWindows"]


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

        Args: As for `gatherings`.
        """
        gatherings = self.gatherings(order, batch_size, standardization, first=first, vary=vary)
        for signals, targets in gatherings:
            for begin in range(0, len(signals), batch_size):
                batch = slice(begin, begin + batch_size)
                yield signals[batch], {task: labels[batch] for task, labels in targets.items()}

    def gatherings(
        self,
        order: Int64[np.ndarray, " chosen"],
        batch_size: int,
        standardization: Standardization,
        *,
        first: int = 0,
        vary: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield several batches at once, which lie one after another in each tensor.

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
            rest = slice(num_skipped * batch_size, None)
            yield signals[rest], {task: labels[rest] for task, labels in targets.items()}
            num_skipped = 0


class Batch(NamedTuple):
    """Windows, and what is known of them."""

    signals: Tensor
    """[batch, channels, time]"""
    targets: ByTask
    """Class numbers [batch] by task."""
    taught: ByTask | None = None
    """Logits [batch, classes] of a trained teacher by task, where they are known."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch of what a function gives for each tensor."""
        signals, targets, taught = self
        return Batch(
            change(signals),
            {task: change(labels) for task, labels in targets.items()},
            None if taught is None else {task: change(logits) for task, logits in taught.items()},
        )

    def part(self, begin: int, end: int) -> Batch:
        """Some of its windows, in the same memory."""
        return self.map(lambda tensor: tensor[begin:end])

    @property
    def tensors(self) -> list[Tensor]:
        """Its tensors, always in the same order."""
        return [self.signals, *self.targets.values(), *(self.taught or {}).values()]

    @property
    def kind(self) -> tuple[object, ...]:
        """All that batches have in common which differ in size and values only."""
        names = (tuple(self.targets), None if self.taught is None else tuple(self.taught))
        return names, *((part.dtype, tuple(part.shape[1:])) for part in self.tensors)


class BatchFeed:
    """Windows in fixed places on the device, from which batches are taken one after another.

    Where the next one begins lies on the device, too, so that a CUDA graph takes another batch in
    each replay.

    Args:
        windows: As many windows of the kind that shall be held as there will be at most.
    """

    def __init__(self, windows: Batch) -> None:
        self._places = windows.map(torch.empty_like)
        self._numbers = torch.arange(self.capacity, device=windows.signals.device)
        self._next = torch.zeros_like(self._numbers[:1])

    @property
    def capacity(self) -> int:
        """Windows that can be held."""
        return len(self._places.signals)

    def load(self, windows: Batch) -> None:
        """Lay windows where batches are taken from; the first one is next."""
        for place, part in zip(self._places.tensors, windows.tensors, strict=True):
            place[: len(part)].copy_(part)
        self._next.zero_()

    def take(self, size: int) -> Batch:
        """The next windows, gathered on the device."""
        numbers = self._next + self._numbers[:size]
        batch = self._places.map(lambda place: place.index_select(0, numbers))
        self._next += size
        return batch


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    # A read-only array, such as a memory-mapped one, cannot be shared with a tensor.
    tensor = torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)
    return tensor.to(device)
