"""What methods share whose teacher is a network that was trained before."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from smoothdistill.methods.multitask import Multitask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["TrainedTeacherMethod"]


class TrainedTeacherMethod(Multitask):
    """A student learns from a larger network that does not change any more.

    The teacher may have more tasks than the student, or fewer: a task that it lacks is learned from
    labels alone. What is validated and used is the student; its moving average is kept beside it,
    as of any method.
    """

    teacher_model: ClassVar[Literal["none", "optional", "beside", "trained"]] = "trained"
    _teacher: nn.Module | None = None

    def take_teacher(self, network: nn.Module) -> None:
        """Keep the teacher, which predicts only from now on.

        Raises:
            ValueError: If it has none of the tasks.
        """
        tasks = getattr(network, "tasks", self.tasks)
        if not set(tasks) & set(self.tasks):
            raise ValueError(
                f"`teacher` must share a task with its student ({', '.join(self.tasks)}), "
                f"but has {', '.join(tasks)} instead."
            )
        self._teacher = network.requires_grad_(False).eval()

    @property
    def teacher(self) -> nn.Module:
        """The network that was handed over.

        Raises:
            ValueError: If none was.
        """
        if self._teacher is None:
            raise ValueError(
                f"`take_teacher` must be called before the method {self.name} trains, "
                "but was not instead."
            )
        return self._teacher

    def build_predictor(
        self,
        build: NetworkBuilder,
        num_classes: Mapping[str, int],
        role: Literal["student", "teacher"],
    ) -> nn.Module:
        """The student's network, for which no teacher is needed."""
        del role
        return build(num_classes)

    def taught(
        self, student_logits: Mapping[str, Tensor], teacher_logits: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Logits to learn from; a task that the teacher lacks has the student's, without gradient.

        A divergence from oneself is zero, and so is its gradient.
        """
        return {
            task: teacher_logits[task] if task in teacher_logits else logits.detach()
            for task, logits in student_logits.items()
        }

    @torch.no_grad()
    def teacher_logits(self, signals: Tensor) -> dict[str, Tensor]:
        """What the teacher says of a batch."""
        logits: dict[str, Tensor] = self.teacher(signals)
        return logits
