"""FitNets: a student's middle layer learns to foretell a trained teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field
from torch.nn import functional

from smoothdistill.methods.multitask import MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.methods.stage_transfer import StageTransfer, StudentWithAdaptors
from smoothdistill.methods.stages import Adaptor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["FitNets", "FitNetsOptions"]


class FitNetsOptions(MultitaskOptions):
    """Options of `FitNets`."""

    transfer_weight: float = Field(default=100.0, ge=0.0)
    """Weight of the squared error against the cross-entropies, at least 0."""


@register_method
class FitNets(StageTransfer):
    """Cross-entropies, and the mean squared error of an adapted middle stage from the teacher's.

    The hint is the middle one of the pairs of stages (see `stages.pair_stages`); the adaptor is
    trained with the student. Both terms are trained at once, where the paper begins with the hint.

    Source:
        Romero et al., FitNets: hints for thin deep nets, ICLR 2015, equation 3.
    """

    name: ClassVar[str] = "fitnets"
    Options: ClassVar[type[LossOptions]] = FitNetsOptions
    options: FitNetsOptions

    @property
    def transfer_weight(self) -> float:
        """That of the options."""
        return self.options.transfer_weight

    def choose(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The middle one."""
        return [pairs[len(pairs) // 2]]

    def adaptors(
        self, shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    ) -> Sequence[Adaptor]:
        """One for the hint."""
        return [Adaptor(own, theirs) for own, theirs in shapes]

    def transfer(
        self, student: StudentWithAdaptors, own: Sequence[Tensor], taught: Sequence[Tensor]
    ) -> Tensor:
        """Mean squared error."""
        ((mine, other),) = student.pairs
        return functional.mse_loss(*student.adaptors[0](own[mine], taught[other]))
