"""Counts of the steps that changed nothing, since their loss was not finite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from smoothdistill.errors import NonFiniteError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = ["SkippedSteps", "overflowed"]


class SkippedSteps:
    """Counts on the device, so that no step waits for it; on a CPU they are known at once.

    Args:
        device: Where the steps run.
        most_in_a_row: Skipped steps in a row that are an error.

    Attributes:
        counts: Skipped steps in all, skipped steps up to now without a break, and the longest such
            run: [3] int64.
    """

    def __init__(self, device: torch.device, most_in_a_row: int) -> None:
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)
        self._most_in_a_row = most_in_a_row
        self._is_in_a_run = False  # whether the last step was skipped; kept up by `note` only

    def note(self, skip: bool) -> None:
        """Count a step of which it is known whether it was skipped."""
        if skip:
            self._is_in_a_run = True
            self.counts[:2] += 1
            self.counts[2] = max(int(self.counts[1]), int(self.counts[2]))
        elif self._is_in_a_run:
            self.counts[1] = 0
            self._is_in_a_run = False

    def note_on_device(self, skip: torch.Tensor) -> None:
        """Count a step of which only the device knows."""
        self.counts[:2] += skip
        self.counts[1] *= skip
        torch.maximum(self.counts[2], self.counts[1], out=self.counts[2])

    def check(self, num_steps: int) -> None:
        """Look at the counts. On a GPU this waits for the device.

        Args:
            num_steps: Steps so far.

        Raises:
            NonFiniteError: If too many steps in a row were skipped.
        """
        num_skipped, _, longest = self.counts.tolist()
        if longest >= self._most_in_a_row:
            raise NonFiniteError(
                f"`loss` must be finite in at least one of {self._most_in_a_row} steps in "
                f"a row, but is NaN or infinite in {longest} steps in a row instead "
                f"(step {num_steps}, {num_skipped} skipped in all); lower `train.lr` or look "
                "at the signals."
            )

    def load(self, counts: torch.Tensor) -> None:
        """Go on from saved counts."""
        self.counts.copy_(counts)
        self._is_in_a_run = int(counts[1]) > 0


def overflowed(gradients: Iterable[Tensor | None]) -> Tensor:
    """Whether a number in them is not finite, a boolean on their device."""
    norms = torch._foreach_norm([g for g in gradients if g is not None], math.inf)
    return ~torch.isfinite(torch.stack(norms)).all()
