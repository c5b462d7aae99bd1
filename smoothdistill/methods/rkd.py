"""RKD: distances and angles between windows are for a student what they are for its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch.nn import functional

from smoothdistill.methods.multitask import MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.methods.stage_transfer import StageTransfer, StudentWithAdaptors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["RKD", "RKDOptions", "angles", "distances"]


class RKDOptions(MultitaskOptions):
    """Options of `RKD`; the defaults are those of the paper."""

    distance_weight: float = Field(default=25.0, ge=0.0)
    """Weight of the distances against the cross-entropies, at least 0."""

    angle_weight: float = Field(default=50.0, ge=0.0)
    """Weight of the angles against the cross-entropies, at least 0."""


@register_method
class RKD(StageTransfer):
    """Cross-entropies, and Huber losses of the distances and angles between features of a batch.

    Distances are divided by their mean; an angle is the cosine at one window between two others.

    Source:
        Park et al., Relational knowledge distillation, CVPR 2019, equations 5 to 9.
    """

    name: ClassVar[str] = "rkd"
    Options: ClassVar[type[LossOptions]] = RKDOptions
    options: RKDOptions
    compares_stages: ClassVar[bool] = False

    @property
    def transfer_weight(self) -> float:
        """1: the weights are within."""
        return 1.0

    def choose(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """None: features are compared among themselves."""
        del pairs
        return []

    def transfer(
        self, student: StudentWithAdaptors, own: Sequence[Tensor], taught: Sequence[Tensor]
    ) -> Tensor:
        """Both, weighted; 0 for a single window."""
        del student
        mine, other = own[-1].float(), taught[-1].float()
        if len(mine) < 2:
            return 0.0 * mine.sum()
        options = self.options
        with torch.autocast(mine.device.type, enabled=False):  # small differences of large numbers
            far = functional.smooth_l1_loss(distances(mine), distances(other))
            turned = functional.smooth_l1_loss(angles(mine), angles(other))
        return options.distance_weight * far + options.angle_weight * turned


def distances(features: Tensor) -> Tensor:
    """Distances [batch, batch] between features [batch, width], divided by the mean of a pair."""
    squared = (features[None] - features[:, None]).square().sum(2).clamp(min=1e-12)
    # No gradient where a window is compared with itself: the root has none at 0.
    is_self = torch.eye(len(features), dtype=torch.bool, device=features.device)
    lengths = torch.where(is_self, 1.0, squared).sqrt().masked_fill(is_self, 0.0)
    return lengths / (lengths.sum() / (len(features) * (len(features) - 1))).clamp(min=1e-12)


def angles(features: Tensor) -> Tensor:
    """Cosines [batch, batch, batch]: [j, i, k] is that at window j between windows i and k."""
    differences = functional.normalize(features[None] - features[:, None], dim=2)
    return torch.bmm(differences, differences.transpose(1, 2))
