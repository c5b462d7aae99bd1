"""SD-dropout: a network agrees with itself under two different dropouts of its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch.nn import functional

from smoothdistill.methods.feature_network import feature_network
from smoothdistill.methods.loss_parts import LossParts, labelled_mean, task_losses
from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

__all__ = ["SDDropout", "SDDropoutOptions"]


class SDDropoutOptions(MultitaskOptions):
    """Options of `SDDropout`; the defaults are those of the published code."""

    distill_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the divergence of the two views against the cross-entropy, at least 0."""

    temperature: float = Field(default=2.0, gt=0.0)
    """By which the logits of both views are divided, above 0."""

    dropout: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Share of the features that each view is without, in (0, 1)."""


@register_method
class SDDropout(Multitask):
    """Cross-entropy, and the divergence between two views of the same features.

    With features f, two dropouts a and b of them, and p = softmax(z / T)::

        loss = sum_t w_t * (CE_t(f) + distill_weight * T ** 2 * (KL(p_a || p_b) + KL(p_b || p_a)))

    No gradient is stopped; windows without a label of a task are left out of it.

    Source:
        Lee et al., Self-knowledge distillation via dropout, arXiv 2208.05642, as the published
        code of Smooth-Distill uses it. That code cannot run on MHEALTH; this one is mended.
    """

    name: ClassVar[str] = "sd-dropout"
    Options: ClassVar[type[LossOptions]] = SDDropoutOptions
    options: SDDropoutOptions

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class; `distillation` is ``T ** 2`` times the divergence in both directions."""
        del teacher
        network, options = feature_network(student, self.name), self.options
        features = network.features(signals)
        logits = self.in_order(network.classify(features))
        views = [
            self.in_order(network.classify(functional.dropout(features, options.dropout)))
            for _ in range(2)
        ]
        found = task_losses(logits, targets, options.label_smoothing)
        divergences = [
            options.temperature**2
            * _divergence(
                views[0][task] / options.temperature,
                views[1][task] / options.temperature,
                targets[task],
            )
            for task in self.tasks
        ]
        weights = self.task_weights()
        total = sum(
            (
                weights[task] * (loss + options.distill_weight * divergence)
                for task, loss, divergence in zip(
                    self.tasks, found.losses, divergences, strict=True
                )
            ),
            start=torch.zeros((), device=signals.device),
        )
        return found.parts(total, distillation=divergences)


def _divergence(first: Tensor, second: Tensor, target: Tensor) -> Tensor:
    """KL in both directions, mean over the labelled windows."""
    a, b = functional.log_softmax(first, 1), functional.log_softmax(second, 1)
    return labelled_mean(((a.exp() - b.exp()) * (a - b)).sum(1), target)
