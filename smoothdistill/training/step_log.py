"""The loss by parts of the newest steps, kept on the device until somebody reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float64
    from torch import Tensor

    from smoothdistill.methods import LossParts
    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["StepLog"]

_CAPACITY = 64
"""Steps that can be kept; more than anybody waits before reading them."""

_PARTS = ("total", "cross_entropy", "distillation", "num_correct", "num_valid")


class StepLog:
    """Takes a row a step without waiting for the device, also from within a CUDA graph.

    Args:
        device: Where the steps run.
        others: Names of further parts of the loss; see `Method.other_parts`.
    """

    def __init__(self, device: torch.device, others: Sequence[str] = ()) -> None:
        self._others = tuple(others)
        self._places: dict[str, Tensor] = {}
        self._next = torch.zeros(1, dtype=torch.int64, device=device)
        self._sizes: list[int] = []
        self._earlier: list[Float64[np.ndarray, "steps sums"]] = []

    def write(self, out: MultitaskKDOutput | LossParts) -> None:
        """Keep a step's parts in the next row of the device; the part that a graph may hold."""
        parts = {name: getattr(out, name) for name in _PARTS}
        if self._others:
            named = getattr(out, "others", {})
            parts["others"] = torch.stack([named[name] for name in self._others])
        for name, part in parts.items():
            if name not in self._places:
                self._places[name] = part.new_empty((_CAPACITY, *part.shape))
            self._places[name].index_copy_(0, self._next, part.detach()[None])
        self._next += 1

    def note(self, num_windows: int) -> None:
        """Count a step that was written, or is about to be by what was launched already.

        Args:
            num_windows: Windows of its batch.
        """
        self._sizes.append(num_windows)
        if len(self._sizes) == _CAPACITY:
            self._earlier.append(self._read())

    def read(self) -> Float64[np.ndarray, "steps sums"]:
        """The steps since the last call, and forget them. On a GPU this waits for the device.

        Returns:
            A row for each, with the columns of `EpochMeter.sums`.
        """
        rows = [*self._earlier, self._read()]
        self._earlier.clear()
        return np.concatenate([row for row in rows if len(row)] or rows)

    def _read(self) -> Float64[np.ndarray, "steps sums"]:
        count = len(self._sizes)
        if not count:
            return np.zeros((0, 0))
        read = {name: kept[:count].cpu().double().numpy() for name, kept in self._places.items()}
        sizes = np.array(self._sizes, dtype=np.float64)
        valid = read["num_valid"]
        of_tasks = np.stack(
            [
                read["cross_entropy"] * valid,
                read["distillation"] * valid,
                read["num_correct"],
                valid,
            ],
            axis=2,
        )
        columns = [sizes, read["total"] * sizes, of_tasks.reshape(count, -1)]
        if self._others:
            columns.append(read["others"] * sizes[:, None])
        self._sizes.clear()
        self._next.zero_()
        return np.column_stack(columns)
