"""Attention transfer: a student looks where a trained teacher looks."""

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

__all__ = ["AttentionTransfer", "AttentionTransferOptions", "attention"]


class AttentionTransferOptions(MultitaskOptions):
    """Options of `AttentionTransfer`."""

    transfer_weight: float = Field(default=1000.0, ge=0.0)
    """Weight of the distance of the attention against the cross-entropies, at least 0."""


@register_method
class AttentionTransfer(StageTransfer):
    """Cross-entropies, and the distance of where both networks are active, over pairs of stages.

    The attention of a map is the mean square over its channels at each time, brought to length 1;
    the distance is the mean squared difference, of the shorter one's number of places. A vector,
    which has no time, counts as a map of one channel over its units: ours, for students such as
    HAR-MLP.

    Source:
        Zagoruyko and Komodakis, Paying more attention to attention, ICLR 2017, equation 2 (p = 2).
    """

    name: ClassVar[str] = "attention-transfer"
    Options: ClassVar[type[LossOptions]] = AttentionTransferOptions
    options: AttentionTransferOptions

    @property
    def transfer_weight(self) -> float:
        """That of the options."""
        return self.options.transfer_weight

    def transfer(
        self, student: StudentWithAdaptors, own: Sequence[Tensor], taught: Sequence[Tensor]
    ) -> Tensor:
        """Sum over the pairs."""
        distances = []
        for mine, other in student.pairs:
            places = min(own[mine].shape[-1], taught[other].shape[-1])
            difference = attention(own[mine], places) - attention(taught[other], places)
            distances.append(difference.square().mean())
        return torch.stack(distances).sum()


def attention(stage: Tensor, places: int) -> Tensor:
    """Where a stage is active, [batch, places], of length 1.

    Args:
        stage: Map [batch, channels, time] or vector [batch, width].
        places: Number of places, at most its time or width; what falls into one is averaged.
    """
    squares = stage.square().mean(1) if stage.ndim == 3 else stage.square()
    return functional.normalize(functional.adaptive_avg_pool1d(squares[:, None], places)[:, 0])
