"""Uncertainty weighting: the weights of the tasks are learned along with the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from smoothdistill.methods.base import require_student
from smoothdistill.methods.loss_parts import LossParts, task_losses
from smoothdistill.methods.multitask import Multitask
from smoothdistill.methods.registry import register_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["UncertaintyWeighting"]


class _WithVariances(nn.Module):
    """A network, and the logarithm of a variance for each task."""

    def __init__(self, network: nn.Module, num_tasks: int) -> None:
        super().__init__()
        self.network = network
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.network(signals)
        return logits


@register_method
class UncertaintyWeighting(Multitask):
    """Cross-entropies weighed by learned uncertainties of the tasks.

    With a learned s_t, the logarithm of a variance, for each task::

        loss = sum_t w_t * (exp(-s_t) * CE_t + s_t / 2)

    Source:
        Kendall, Gal and Cipolla, Multi-task learning using uncertainty to weigh losses for scene
        geometry and semantics, CVPR 2018, equation 10.
    """

    name: ClassVar[str] = "uncertainty-weighting"

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """The network, and the logarithms of the variances beside it."""
        return _WithVariances(build(num_classes), len(num_classes))

    def network(self, student: nn.Module) -> nn.Module:
        """The network alone."""
        return require_student(self, student, _WithVariances).network

    @property
    def other_parts(self) -> tuple[str, ...]:
        """By task the factor ``exp(-s)`` of its cross-entropy."""
        return tuple(f"{task}_factor" for task in self.tasks)

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class."""
        del teacher
        student = require_student(self, student, _WithVariances)
        logits = self.in_order(student.network(signals))
        found = task_losses(logits, targets, self.options.label_smoothing)
        factors = torch.exp(-student.log_variances)
        parts = factors * torch.stack(found.losses) + 0.5 * student.log_variances
        # Without a label there is no likelihood, and so nothing that its variance could be of.
        parts = torch.where(found.num_valid > 0, parts, 0.0)
        total = self.weigh(parts.unbind())
        return found.parts(total, dict(zip(self.other_parts, factors, strict=True)))
