"""Stages of teacher and student side by side, for methods that compare what is inside of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Adaptor", "StagedNetwork", "pair_stages", "stage_shapes", "staged_network"]


@runtime_checkable
class StagedNetwork(Protocol):
    """A network that gives what its stages give, and makes logits of the last."""

    in_channels: int
    window_samples: int

    def stages(self, signals: Tensor) -> list[Tensor]:
        """Maps [batch, channels, time] or vectors [batch, width]; the last are the features."""
        ...

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """Logits [batch, classes] of every task."""
        ...


def staged_network(network: nn.Module, name: str, method: str) -> StagedNetwork:
    """The network as one with stages.

    Args:
        network: The network.
        name: What a sentence calls it: "model" or "teacher.model".
        method: Who asks.

    Raises:
        TypeError: If it has none.
    """
    if not isinstance(network, StagedNetwork):
        raise TypeError(
            f"`{name}` must have `stages` and `classify` for the method {method}, "
            f"but is a {type(network).__name__} instead."
        )
    return network


def stage_shapes(network: StagedNetwork) -> list[tuple[int, ...]]:
    """Shapes of what the stages give, without the batch; nothing in the network changes."""
    assert isinstance(network, nn.Module)
    first = next(network.parameters())
    signals = torch.zeros(
        1, network.in_channels, network.window_samples, device=first.device, dtype=first.dtype
    )
    was_training = network.training
    network.eval()  # batch norm neither learns of this window nor needs more than one
    with torch.no_grad():
        shapes = [tuple(stage.shape[1:]) for stage in network.stages(signals)]
    network.train(was_training)
    return shapes


def pair_stages(
    student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]
) -> list[tuple[int, int]]:
    """Which stage learns from which, by how far along they are; the features are left out.

    Of a network with maps only the maps count: what comes after them, or beside them as in
    ResNetLSTMaN, is no stage on the same way.

    Args:
        student: Shapes of its stages.
        teacher: Shapes of its stages.

    Returns:
        Pairs of places, as many as the network with fewer stages has.
    """
    own, theirs = _on_the_way(student), _on_the_way(teacher)
    count = min(len(own), len(theirs))
    return [
        (own[(place + 1) * len(own) // count - 1], theirs[(place + 1) * len(theirs) // count - 1])
        for place in range(count)
    ]


def _on_the_way(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    inner = range(len(shapes) - 1)
    maps = [place for place in inner if len(shapes[place]) == 2]
    return maps or list(inner)


class Adaptor(nn.Module):
    """What a student's stage gives, in the shape of a teacher's.

    A map becomes a map by a 1 x 1 convolution and, where the lengths differ, by linear
    interpolation in time; where either is a vector both are, a map by its mean over time.

    Args:
        student: Shape of the student's stage, without the batch.
        teacher: Shape of the teacher's stage.
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
        super().__init__()
        self.is_map = len(student) == len(teacher) == 2
        self.layer: nn.Module = (
            nn.Conv1d(student[0], teacher[0], 1)
            if self.is_map
            else nn.Linear(student[0], teacher[0])
        )

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both, in one shape: the student's adapted, the teacher's as it is or its mean."""
        if not self.is_map:
            means = [stage.mean(-1) if stage.ndim == 3 else stage for stage in (student, teacher)]
            return self.layer(means[0]), means[1]
        adapted = self.layer(student)
        if adapted.shape[-1] != teacher.shape[-1]:
            adapted = functional.interpolate(adapted, teacher.shape[-1], mode="linear")
        return adapted, teacher
