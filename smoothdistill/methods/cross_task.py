"""Cross-task: multitask cross-entropy with a contrast of the features, as published."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from smoothdistill.methods.base import require_student
from smoothdistill.methods.feature_network import feature_network
from smoothdistill.methods.loss_parts import LossParts, task_losses
from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["CrossTask", "CrossTaskOptions", "contrast"]


class CrossTaskOptions(MultitaskOptions):
    """Options of `CrossTask` and `CrossTaskStitch`; the defaults are the published ones."""

    contrast_weight: float = Field(default=0.5, ge=0.0)
    """Weight of the contrast between the tasks' features, at least 0."""

    contrast_temperature: float = Field(default=0.7, gt=0.0)
    """By which the cosines of features are divided, above 0."""

    stitch_penalty: float = Field(default=0.01, ge=0.0)
    """Weight of the sum of the absolute cross-stitch weights, at least 0."""


class _WithStitch(nn.Module):
    """A network, and cross-stitch weights [tasks, tasks] that are never read, as published."""

    def __init__(self, network: nn.Module, num_tasks: int) -> None:
        super().__init__()
        self.network = network
        self.stitch = nn.Parameter(torch.eye(num_tasks))

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.network(signals)
        return logits


@register_method
class CrossTask(Multitask):
    """Cross-entropies, an InfoNCE contrast of the features, and a penalty on cross-stitch weights.

    With the features f of the windows of a batch, scaled to length 1::

        loss = sum_t CE_t + contrast_weight * InfoNCE(f, f) + stitch_penalty * sum |stitch|

    As coded: both features of the contrast are the same ones, so it only spreads the windows of a
    batch apart, and nothing reads the cross-stitch weights. `CrossTaskStitch` has live ones.

    Source:
        The baseline of this name in the published code of Smooth-Distill (arXiv 2507.00061);
        van den Oord et al., arXiv 1807.03748 (InfoNCE). The initial weights of the cross-stitch are
        a reconstruction, without effect.
    """

    name: ClassVar[str] = "cross-task"
    Options: ClassVar[type[LossOptions]] = CrossTaskOptions
    options: CrossTaskOptions

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """The network, and the cross-stitch weights beside it."""
        return _WithStitch(build(num_classes), len(num_classes))

    def network(self, student: nn.Module) -> nn.Module:
        """The network without the cross-stitch weights."""
        return require_student(self, student, _WithStitch).network

    def task_weights(self) -> dict[str, float]:
        """1 for each task, as published, unless the options say more."""
        return self.options.task_weights or dict.fromkeys(self.tasks, 1.0)

    @property
    def other_parts(self) -> tuple[str, ...]:
        """The contrast and the penalty, before their weights."""
        return ("contrast", "stitch_penalty")

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class."""
        del teacher
        student = require_student(self, student, _WithStitch)
        network = feature_network(student.network, self.name)
        features = network.features(signals)
        logits = self.in_order(network.classify(features))
        return self._total(logits, targets, [features] * len(self.tasks), student.stitch)

    def _total(
        self,
        logits: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        features: Sequence[Tensor],
        stitch: Tensor,
    ) -> LossParts:
        """The loss from logits, the features of each task, and the cross-stitch weights."""
        found = task_losses(logits, targets, self.options.label_smoothing)
        temperature = self.options.contrast_temperature
        pairs = [
            contrast(features[i], features[j], temperature)
            for i in range(len(features))
            for j in range(i + 1, len(features))
        ]
        between = torch.stack(pairs).mean() if pairs else stitch.sum() * 0.0
        penalty = stitch.abs().sum()
        weights = self.task_weights()
        total = (
            torch.stack([weights[t] * loss for t, loss in zip(logits, found.losses, strict=True)])
            .sum()
            .add(self.options.contrast_weight * between)
            .add(self.options.stitch_penalty * penalty)
        )
        return found.parts(total, {"contrast": between, "stitch_penalty": penalty})


def contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """InfoNCE: how well each window's second features are told apart by its first ones, in nats.

    Args:
        first: Features [batch, features].
        second: Features [batch, features] of the same windows.
        temperature: By which the cosines are divided, above 0.
    """
    cosines = functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T
    windows = torch.arange(len(first), device=first.device)
    return functional.cross_entropy(cosines.float() / temperature, windows)
