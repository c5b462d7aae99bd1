"""What methods share that teach a student by what is inside of a trained teacher."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from smoothdistill.methods.base import require_student
from smoothdistill.methods.loss_parts import with_others
from smoothdistill.methods.stages import pair_stages, stage_shapes, staged_network
from smoothdistill.methods.trained_teacher import TrainedTeacherMethod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.methods.loss_parts import LossParts
    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["StageTransfer", "StudentWithAdaptors"]


class StudentWithAdaptors(nn.Module):
    """A student, and what makes its stages comparable with a teacher's.

    Args:
        network: The student.
        adaptors: One for each pair of stages; may be empty.
        pairs: Places of the student's and the teacher's stages that are compared.
    """

    def __init__(
        self, network: nn.Module, adaptors: Sequence[nn.Module], pairs: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.network = network
        self.adaptors = nn.ModuleList(adaptors)
        self.pairs = tuple(pairs)

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        """Logits of every task."""
        logits: dict[str, Tensor] = self.network(signals)
        return logits


class StageTransfer(TrainedTeacherMethod):
    """Cross-entropies plus ``transfer_weight`` times what `transfer` makes of the stages of both.

    The transfer is one number for the batch, whatever its tasks, and stands in the history as
    ``transfer``.
    """

    compares_stages: ClassVar[bool] = True

    @property
    def other_parts(self) -> tuple[str, ...]:
        """The transfer, before its weight."""
        return ("transfer",)

    def build_student(
        self, build: NetworkBuilder, num_classes: Mapping[str, int]
    ) -> StudentWithAdaptors:
        """The network, and adaptors where the method wants them."""
        network = build(num_classes)
        own = stage_shapes(staged_network(network, "model", self.name))
        theirs = stage_shapes(staged_network(self.teacher, "teacher.model", self.name))
        found = pair_stages(own, theirs)
        if self.compares_stages and not found:
            raise TypeError(
                "`model` and `teacher.model` must have a stage before their features for the "
                f"method {self.name}, but one of them has none instead."
            )
        pairs = self.choose(found)
        adaptors = self.adaptors([(own[mine], theirs[other]) for mine, other in pairs])
        return StudentWithAdaptors(network, adaptors, pairs)

    def network(self, student: nn.Module) -> nn.Module:
        """The student's network, without the adaptors."""
        return require_student(self, student, StudentWithAdaptors).network

    def choose(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Which of the pairs are compared; all by default."""
        return pairs

    def adaptors(
        self, shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    ) -> Sequence[nn.Module]:
        """Modules that learn to compare pairs of such shapes; none by default."""
        del shapes
        return ()

    @property
    @abstractmethod
    def transfer_weight(self) -> float:
        """Weight of the transfer against the cross-entropies."""

    @abstractmethod
    def transfer(
        self, student: StudentWithAdaptors, own: Sequence[Tensor], taught: Sequence[Tensor]
    ) -> Tensor:
        """How far the student is from the teacher, a scalar with a gradient.

        Args:
            student: What `build_student` made.
            own: All stages of the student; the last are the features.
            taught: All stages of the teacher.
        """

    @torch.no_grad()
    def teacher_stages(self, signals: Tensor) -> list[Tensor]:
        """What the teacher's stages give for a batch."""
        return staged_network(self.teacher, "teacher.model", self.name).stages(signals)

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class."""
        del teacher
        student = require_student(self, student, StudentWithAdaptors)
        network = staged_network(student.network, "model", self.name)
        own, taught = network.stages(signals), self.teacher_stages(signals)
        out = self.loss(self.in_order(network.classify(own[-1])), None, targets)
        distance = self.transfer(student, own, taught)
        return with_others(out, out.total + self.transfer_weight * distance, transfer=distance)
