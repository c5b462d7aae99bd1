"""Deep mutual learning: two networks, trained side by side, teach each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from smoothdistill.methods.base import require_student
from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.optim import MultitaskKDLoss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder
    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["DeepMutualLearning", "DeepMutualLearningOptions"]


class DeepMutualLearningOptions(MultitaskOptions):
    """Options of `DeepMutualLearning`."""

    distill_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the divergence from the other network against the cross-entropy, at least 0."""

    temperature: float = Field(default=1.0, gt=0.0)
    """Temperature of the divergence, above 0."""


class _Pair(nn.Module):
    """Two networks side by side; the first one predicts."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.first(signals)
        return logits


@register_method
class DeepMutualLearning(Multitask):
    """Each of two networks learns from the labels and from what the other one predicts.

    With p = softmax(z / T), and no gradient through the other network's::

        loss = sum over networks and t of w_t * (CE_t + distill_weight * T ** 2 * KL(p'_t || p_t))

    The first network is the model that is used, and the one whose parts of the loss are shown.
    Training costs as much as both. The second is of the same kind, or of that of `[teacher]`.

    Source:
        Zhang et al., Deep mutual learning, CVPR 2018, equations 5 to 8; both networks are stepped
        at once.
    """

    name: ClassVar[str] = "deep-mutual-learning"
    Options: ClassVar[type[LossOptions]] = DeepMutualLearningOptions
    teacher_model: ClassVar[Literal["none", "optional", "beside", "trained"]] = "optional"
    options: DeepMutualLearningOptions

    def __init__(self, tasks: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(tasks, options)
        self._mutual = MultitaskKDLoss(
            task_weights=self.task_weights(),
            distill_weight=self.options.distill_weight,
            temperature=self.options.temperature,
            label_smoothing=self.options.label_smoothing,
        )

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """Two networks, each from weights of its own."""
        first = build(num_classes)
        teacher = getattr(build, "teacher", None)  # any function that builds networks will do
        second = build(num_classes) if teacher is None else teacher(num_classes)
        return _Pair(first, second)

    def network(self, student: nn.Module) -> nn.Module:
        """The first one."""
        return require_student(self, student, _Pair).first

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        """See the class; the total is that of both networks."""
        del teacher
        student = require_student(self, student, _Pair)
        first = self.in_order(student.first(signals))
        second = self.in_order(student.second(signals))
        out: MultitaskKDOutput = self._mutual(first, _detached(second), targets)
        other: MultitaskKDOutput = self._mutual(second, _detached(first), targets)
        return out._replace(total=out.total + other.total)


def _detached(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {task: values.detach() for task, values in logits.items()}
