"""Seeds: every use of randomness has a stream of its own, and the caller's generators stay put."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["derive_seed", "random_state", "seeded_torch", "set_random_state", "shuffled"]


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A seed in [0, 2**63) for one purpose, independent of those for any other.

    Args:
        seed: Seed of the run, at least 0.
        purpose: What the seed is for, such as ``"model"``.
        numbers: Where in the run, such as fold and epoch; each at least 0.
    """
    sequence = np.random.SeedSequence([seed, *purpose.encode(), 256, *numbers])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def shuffled(windows: NDArray[np.int64], seed: int, fold: int, epoch: int) -> NDArray[np.int64]:
    """The windows in the order of one epoch: a function of its arguments and of nothing else."""
    generator = np.random.default_rng(derive_seed(seed, "order", fold, epoch))
    return generator.permutation(windows)


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators inside the block, and restore them afterwards.

    Args:
        seed: Seed in [0, 2**63).
        device: Where the block computes; a GPU's generator is seeded too.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of PyTorch's global generators as uint8 tensors, to be kept in a checkpoint."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `random_state` returned; a GPU's state only where there is one."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
