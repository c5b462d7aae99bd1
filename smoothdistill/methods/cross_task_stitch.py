"""Cross-task with a live cross-stitch: the tasks' features are mixtures of each other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional

from smoothdistill.methods.base import require_student
from smoothdistill.methods.cross_task import CrossTask
from smoothdistill.methods.feature_network import feature_network
from smoothdistill.methods.registry import register_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from smoothdistill.methods.loss_parts import LossParts
    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["CrossTaskStitch", "StitchedNetwork"]

_OWN_SHARE = 0.9  # of a task's own features at the start, as Misra et al. found best


class StitchedNetwork(nn.Module):
    """A layer of features for each task above a shared trunk, cross-stitched, below the heads.

    Args:
        build: Makes a network in two steps; see `FeatureNetwork`.
        num_classes: Number of classes of each task.

    Shape:
        signals [batch, channels, time] -> {task: logits [batch, classes]}
    """

    def __init__(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_classes)
        self.network = build(num_classes)
        width, count = (
            feature_network(self.network, CrossTaskStitch.name).num_features,
            len(num_classes),
        )
        self.towers = nn.ModuleList(nn.Linear(width, width) for _ in num_classes)
        other = (1.0 - _OWN_SHARE) / max(count - 1, 1)
        own = 1.0 if count == 1 else _OWN_SHARE
        self.stitch = nn.Parameter(torch.full((count, count), other).fill_diagonal_(own))

    def features(self, signals: Tensor) -> list[Tensor]:
        """Features [batch, features] of each task, cross-stitched."""
        shared = feature_network(self.network, CrossTaskStitch.name).features(signals)
        towers = torch.stack([functional.relu(tower(shared)) for tower in self.towers])
        return list(torch.einsum("ts,sbf->tbf", self.stitch.to(towers.dtype), towers))

    def classify(self, features: list[Tensor]) -> dict[str, Tensor]:
        """Logits of every task, each from its own features."""
        network = feature_network(self.network, CrossTaskStitch.name)
        return {
            task: network.classify(own)[task]
            for task, own in zip(self.tasks, features, strict=True)
        }

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        """Logits of every task."""
        return self.classify(self.features(signals))


@register_method
class CrossTaskStitch(CrossTask):
    """`CrossTask` as it was meant to be: the contrast is between the features of two tasks.

    A reconstruction: the published code leaves its cross-stitch without effect. Each task has a
    linear layer with ReLU on top of the shared features; the features of a task are a learned
    mixture of all of them. With more than two tasks the contrast is the mean over pairs.

    Source:
        Misra et al., Cross-stitch networks for multi-task learning, CVPR 2016; the loss as in
        `CrossTask`.
    """

    name: ClassVar[str] = "cross-task-stitch"

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """The network, a layer for each task, and the cross-stitch."""
        return StitchedNetwork(build, num_classes)

    def network(self, student: nn.Module) -> nn.Module:
        """All of it."""
        return student

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See `CrossTask`."""
        del teacher
        student = require_student(self, student, StitchedNetwork)
        features = student.features(signals)
        logits = self.in_order(student.classify(features))
        return self._total(logits, targets, features, student.stitch)
