"""Single task: a network of its own for every task."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from smoothdistill.methods.multitask import Multitask
from smoothdistill.methods.registry import register_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["SeparateNetworks", "SingleTask"]


class SeparateNetworks(nn.Module):
    """A network for each task, side by side.

    Args:
        build: Makes a network from the number of classes of each of its tasks.
        num_classes: Number of classes of each task.

    Shape:
        signals [batch, channels, time] -> {task: logits [batch, classes]}
    """

    def __init__(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_classes)
        # A list, not a dict of modules: a task may be called "where.it is".
        self.networks = nn.ModuleList(
            build({task: classes}) for task, classes in num_classes.items()
        )

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        """Logits of every task."""
        logits: dict[str, Tensor] = {}
        for network in self.networks:
            logits.update(network(signals))
        return logits


@register_method
class SingleTask(Multitask):
    """A network of its own for every task, each by cross-entropy alone; they share nothing.

    They are trained side by side, which gives the weights of one after the other: Adam steps each
    by its own gradients. But one epoch is chosen for all of them, by macro-F1 averaged over tasks,
    where each alone would keep its own. Training and inference cost as much as all of the networks.

    Source:
        The baseline of the same name in the published code of Smooth-Distill (arXiv 2507.00061).
    """

    name: ClassVar[str] = "single-task"

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """A network for each task."""
        return SeparateNetworks(build, num_classes)

    def task_weights(self) -> dict[str, float]:
        """1 for each task, as if it were alone, unless the options say more."""
        return self.options.task_weights or dict.fromkeys(self.tasks, 1.0)
