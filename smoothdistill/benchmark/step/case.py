"""One size of the step: the model that all start from, and the batches that all are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.models import MTLNet

__all__ = ["BATCHES", "LAYOUTS", "NUM_CLASSES", "StepCase"]

Layout = Literal["published", "axes"]

NUM_CLASSES = {"activity": 18, "placement": 2}
LAYOUTS: tuple[Layout, ...] = ("published", "axes")
BATCHES = (16, 64, 256, 1024)
_CHANNELS, _SAMPLES = 3, 100
_POOL_OF_BATCHES = 8


@dataclass(frozen=True)
class StepCase:
    """MTL-net on windows of 3 x 100, 18 activities and 2 placements.

    Attributes:
        layout: That of `MTLNet`.
        batch: Windows per batch, at least 1.
        device: Where it runs: "cpu" or "cuda".
    """

    layout: Layout
    batch: int
    device: str = "cpu"

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.layout}, batch {self.batch}"

    def model(self) -> MTLNet:
        """The model that every provider starts from; the same weights each time."""
        import torch

        from smoothdistill.models import MTLNet

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return MTLNet(NUM_CLASSES, _CHANNELS, _SAMPLES, layout=self.layout).to(self.device)

    def batches(self) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """Signals [batch, 3, 100] and targets; several, as an epoch has them."""
        import torch

        generator = torch.Generator().manual_seed(1)
        return [
            (
                torch.randn(self.batch, _CHANNELS, _SAMPLES, generator=generator).to(self.device),
                {
                    task: torch.randint(count, (self.batch,), generator=generator).to(self.device)
                    for task, count in NUM_CLASSES.items()
                },
            )
            for _ in range(_POOL_OF_BATCHES)
        ]
