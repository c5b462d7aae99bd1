"""Bringing each channel to mean 0 and variance 1 of the training windows, and of no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Float32
    from numpy.typing import NDArray
    from torch import Tensor

    from smoothdistill.windows import Windows

__all__ = ["Standardization"]

_WINDOWS_PER_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Standardization:
    """``(signal - mean) / deviation`` of each channel.

    Attributes:
        mean: What is subtracted, in the signal's unit.
        deviation: What is divided by, in the signal's unit, above 0.
    """

    mean: Float32[Tensor, " channels"]
    deviation: Float32[Tensor, " channels"]

    @classmethod
    def fit(cls, windows: Windows, chosen: NDArray[np.int64]) -> Standardization:
        """Mean and population standard deviation of each channel over the chosen windows.

        Two passes in float64, by blocks. A channel that never changes is only shifted.

        Args:
            windows: All windows.
            chosen: Numbers of the training windows, at least one.
        """
        blocks = np.array_split(np.sort(chosen), -(-len(chosen) // _WINDOWS_PER_BLOCK))
        count = len(chosen) * windows.window_samples
        mean = sum(windows.signals[block].sum(axis=(0, 2), dtype=np.float64) for block in blocks)
        mean = np.asarray(mean) / count
        squares = np.zeros_like(mean)
        for block in blocks:
            centred = windows.signals[block] - mean[:, None]  # float64, since the mean is
            squares += np.einsum("wct,wct->c", centred, centred)
        deviation = np.sqrt(squares / count)
        # Rounding leaves a constant channel with a deviation near 1e-16 of its mean, not with 0.
        is_constant = deviation <= 1e-7 * np.abs(mean)
        deviation[is_constant] = 1.0
        return cls(
            torch.from_numpy(mean.astype(np.float32)),
            torch.from_numpy(deviation.astype(np.float32)),
        )

    @classmethod
    def identity(cls, num_channels: int) -> Standardization:
        """The one that leaves signals as they are."""
        return cls(torch.zeros(num_channels), torch.ones(num_channels))

    def to(self, device: torch.device) -> Standardization:
        """The same on another device."""
        return Standardization(self.mean.to(device), self.deviation.to(device))

    def apply_(self, signals: Tensor) -> Tensor:
        """Standardize signals [batch, channels, time] in place, and return them."""
        return signals.sub_(self.mean[:, None]).div_(self.deviation[:, None])
