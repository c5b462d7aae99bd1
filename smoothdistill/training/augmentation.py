"""Training windows as they might have been: turned, scaled, warped in time, with noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from smoothdistill.training.seeding import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.training.config import AugmentConfig

__all__ = ["Augmentation"]

_KNOTS = 4  # of the speed at which a warped window runs


class Augmentation:
    """Draws a variant of each window anew in every epoch; labels stay as they are.

    What is drawn depends on the seed, the fold, the epoch and the place in the epoch only: a
    resumed run draws the same.

    Args:
        config: What is varied, and how much.
        deviation: Standard deviation of each channel, [channels], in the signal's unit.
        seed: Seed of the run.
        fold: Number of the fold.

    Raises:
        ValueError: If windows are to be turned whose channels are no triads.

    Source:
        Um et al., Data augmentation of wearable sensor data for Parkinson's disease monitoring
        using convolutional neural networks, ICMI 2017.
    """

    def __init__(self, config: AugmentConfig, deviation: Tensor, *, seed: int, fold: int) -> None:
        if config.rotation_degrees and len(deviation) % 3:
            raise ValueError(
                "`augment.rotation_degrees` must be 0 where the channels are no triads x, y, z, "
                f"but is {config.rotation_degrees} with {len(deviation)} channels instead."
            )
        self._config, self._deviation = config, deviation
        self._seed, self._fold = seed, fold

    def apply_(self, signals: Tensor, epoch: int, place: int) -> Tensor:
        """Vary windows [windows, channels, time], in the signal's unit, in place.

        Args:
            signals: The windows.
            epoch: Number of the epoch, from 0.
            place: Number of their first window in the epoch.

        Returns:
            The same tensor.
        """
        config = self._config
        generator = torch.Generator(signals.device)
        generator.manual_seed(derive_seed(self._seed, "augmentation", self._fold, epoch, place))
        if config.time_warp:
            signals.copy_(_warped(signals, config.time_warp, generator))
        if config.rotation_degrees:
            turns = _rotations(len(signals), math.radians(config.rotation_degrees), generator)
            triads = signals.reshape(len(signals), -1, 3, signals.shape[2])
            signals.copy_((turns[:, None] @ triads).reshape(signals.shape))
        if config.scale:
            factors = _normal((len(signals), 1, 1), generator)
            signals.mul_(torch.exp(config.scale * factors))
        if config.jitter:
            noise = _normal(signals.shape, generator)
            signals.add_(noise * (config.jitter * self._deviation[:, None]))
        return signals


def _normal(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _rotations(count: int, largest: float, generator: torch.Generator) -> Tensor:
    """Rotations [count, 3, 3] about axes of any direction, by angles up to `largest` radians."""
    axes = functional.normalize(_normal((count, 3), generator), dim=1)
    uniform = torch.rand((count, 1, 1), generator=generator, device=generator.device)
    angles = (2.0 * uniform - 1.0) * largest
    x, y, z = axes.unbind(1)
    zero = torch.zeros_like(x)
    # Rodrigues' formula, of the matrix of the cross product with the axis.
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(count, 3, 3)
    identity = torch.eye(3, device=generator.device)
    return identity + angles.sin() * cross + (1.0 - angles.cos()) * (cross @ cross)


def _warped(signals: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The windows, running faster and slower in turns; their ends stay where they are.

    The speed is the exponential of a smooth curve through a few normal numbers of standard
    deviation `strength`; samples between others are interpolated linearly.
    """
    count, _, length = signals.shape
    if length < 2:
        return signals
    knots = strength * _normal((count, 1, _KNOTS), generator)
    curve = functional.interpolate(knots, size=length, mode="linear", align_corners=True)[:, 0]
    steps = torch.exp(curve[:, 1:])
    times = functional.pad(steps.cumsum(1), (1, 0))
    times = times * ((length - 1) / times[:, -1:])
    before = times.floor().clamp(0, length - 2).long()
    share = (times - before)[:, None]
    first = signals.gather(2, before[:, None].expand(signals.shape))
    second = signals.gather(2, before[:, None].expand(signals.shape) + 1)
    return torch.lerp(first, second, share)
