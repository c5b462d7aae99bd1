"""GradNorm: the tasks are weighted so that they learn at similar rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import nn

from smoothdistill.methods.base import require_student
from smoothdistill.methods.feature_network import feature_network
from smoothdistill.methods.loss_parts import LossParts, task_losses
from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["GradNorm", "GradNormOptions"]

_LEAST_FACTOR = 1e-3  # a task is never switched off


class GradNormOptions(MultitaskOptions):
    """Options of `GradNorm`."""

    asymmetry: float = Field(default=1.5, ge=0.0)
    """How hard tasks that lag behind are pulled, at least 0 (alpha of the paper)."""


class _WithFactors(nn.Module):
    """A network, the factors of the tasks, and their first losses."""

    def __init__(self, network: nn.Module, num_tasks: int) -> None:
        super().__init__()
        self.network = network
        self.factors = nn.Parameter(torch.ones(num_tasks))
        self.register_buffer("first_losses", torch.zeros(num_tasks))  # 0: none yet

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.network(signals)
        return logits


@register_method
class GradNorm(Multitask):
    """Cross-entropies with factors that even out the tasks' gradients.

    The factors a_t sum to the number of tasks. With g_t the length of the gradient of
    ``a_t * CE_t`` and r_t the task's loss as a share of its first one, over the mean share, they
    move along the gradient of::

        sum_t | g_t - mean g * r_t ** asymmetry |        mean g and r_t constant

    while the network learns from ``sum_t w_t * a_t * CE_t``. Gradients are taken with respect to
    the features that the heads share, and not to the weights below them as in the paper, which
    costs another backward pass for each task.

    Source:
        Chen et al., GradNorm: gradient normalization for adaptive loss balancing in deep multitask
        networks, ICML 2018, algorithm 1.
    """

    name: ClassVar[str] = "gradnorm"
    changes_by_epoch: ClassVar[bool] = True
    Options: ClassVar[type[LossOptions]] = GradNormOptions
    options: GradNormOptions

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """The network, and the factors beside it."""
        return _WithFactors(build(num_classes), len(num_classes))

    def network(self, student: nn.Module) -> nn.Module:
        """The network alone."""
        return require_student(self, student, _WithFactors).network

    @property
    def other_parts(self) -> tuple[str, ...]:
        """By task the factor of its cross-entropy."""
        return tuple(f"{task}_factor" for task in self.tasks)

    def begin_epoch(self, student: nn.Module, epoch: int, num_epochs: int) -> bool:
        """Let the factors themselves sum to their number again, so that steps keep their size."""
        del epoch, num_epochs
        factors = require_student(self, student, _WithFactors).factors
        with torch.no_grad():
            factors.copy_(_settled(factors))
        return False

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class."""
        del teacher
        student = require_student(self, student, _WithFactors)
        network = feature_network(student.network, self.name)
        features = network.features(signals)
        logits = self.in_order(network.classify(features))
        found = task_losses(logits, targets, self.options.label_smoothing)
        losses = torch.stack(found.losses)
        gradients = [
            torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in found.losses
        ]
        lengths = torch.stack([one.norm() for one in gradients])
        # The steps have moved the sum. As if nothing were clamped in the gradient: a factor at the
        # bottom must find its way back.
        factors = student.factors + (_settled(student.factors) - student.factors).detach()
        with torch.no_grad():
            first = student.get_buffer("first_losses")
            first.copy_(torch.where(first > 0.0, first, losses))
            # Tasks without a label in the batch neither count in the means nor are balanced.
            is_there = found.num_valid > 0
            num_tasks = is_there.sum().clamp(min=1)
            rates = losses / first.clamp(min=torch.finfo(first.dtype).tiny)
            mean_rate = rates.sum() / num_tasks  # no label: 0
            rates = rates / mean_rate.clamp(min=torch.finfo(rates.dtype).tiny)
            aims = (factors * lengths).sum() / num_tasks * rates**self.options.asymmetry
        balance = torch.where(is_there, (factors * lengths - aims).abs(), 0.0).sum()
        # The balance has a gradient for the factors only, and is no part of the loss's value.
        weighed = self.weigh((factors.detach() * losses).unbind())
        total = weighed + (balance - balance.detach())
        return found.parts(total, dict(zip(self.other_parts, factors, strict=True)))


def _settled(factors: Tensor) -> Tensor:
    """Factors that sum to their number, none of them switched off."""
    settled = factors.detach().clamp(min=_LEAST_FACTOR)
    return settled * (len(settled) / settled.sum())
