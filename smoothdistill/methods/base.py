"""What every method offers to the training step: a teacher, and a loss by parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from smoothdistill.methods.options import MethodOptions, validate_options
from smoothdistill.optim import EMATeacher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["Method"]


class Method(ABC):
    """What to distil, for given tasks: says nothing of devices, steps or kernels.

    A subclass names itself in `name`, its options in `Options`, and is made known to the
    configuration and the command line by `register_method`.

    Args:
        tasks: Names of the tasks, in the order of the loss parts.
        options: Options by name; see `Options`.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If there is no task, or an option is unknown, out of range, or names an
            unknown task.
    """

    name: ClassVar[str]
    Options: ClassVar[type[MethodOptions]] = MethodOptions

    def __init__(self, tasks: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        self.tasks = tuple(tasks)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(
                "`tasks` must be one or more names without repetition, "
                f"but is {list(tasks)!r} instead."
            )
        self.options = validate_options(self.Options, options or {}, path="method")
        for key, value in self.options:
            if isinstance(value, dict):
                self._require_all_tasks(key, value)

    def _require_all_tasks(self, key: str, by_task: Mapping[str, Any]) -> None:
        if set(by_task) != set(self.tasks):
            raise ValueError(
                f"`method.{key}` must have one value for each of the tasks "
                f"{', '.join(self.tasks)}, but has {', '.join(by_task) or 'none'} instead."
            )

    @property
    @abstractmethod
    def needs_teacher_logits(self) -> bool:
        """Whether the loss uses the teacher's logits; without need no teacher forward is run."""

    @abstractmethod
    def loss(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        """Loss of one batch, by parts, on the device of the logits.

        Args:
            student_logits: Logits [batch, classes] of each task, with gradient.
            teacher_logits: The same of the teacher, without gradient; None if
                `needs_teacher_logits` is false.
            targets: Class numbers [batch] of each task, int64; `windows.IGNORE_INDEX` where a
                window has no label.

        Returns:
            The total to differentiate, and its parts per task in the order of `tasks`.
        """

    def loss_and_gradients(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> tuple[MultitaskKDOutput, dict[str, Tensor]]:
        """`loss`, and the gradient of its total with respect to the student's logits by task.

        For steps that do their own backward pass. This form differentiates `loss` by autograd; a
        method whose loss gives its gradient anyway overrides it.

        Args:
            student_logits: Logits [batch, classes] of each task, without gradient.
            teacher_logits: As for `loss`.
            targets: As for `loss`.

        Returns:
            What `loss` returns, detached, and the gradients; a task that the total does not
            depend on has none, and its weights are not stepped.
        """
        leaves = {
            task: logits.detach().requires_grad_()
            for task, logits in self.in_order(student_logits).items()
        }
        with torch.enable_grad():
            out = self.loss(leaves, teacher_logits, targets)
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
                out.total, list(leaves.values()), allow_unused=True
            )
        found = {
            task: gradient
            for task, gradient in zip(leaves, gradients, strict=True)
            if gradient is not None
        }
        return out._replace(total=out.total.detach()), found

    def build_teacher(self, model: nn.Module) -> EMATeacher:
        """The averaged copy of `model` that the optimizer moves; it starts as an equal copy."""
        half_life_steps = self.options.half_life_steps
        return EMATeacher(
            model,
            decay=self.options.decay if half_life_steps is None else None,
            half_life_steps=half_life_steps,
            warmup_steps=self.options.warmup_steps,
            buffers=self.options.buffers,
        )

    def in_order(self, by_task: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same tensors in the order of `tasks`, which is that of the loss parts.

        Raises:
            ValueError: If a task is missing.
        """
        missing = [task for task in self.tasks if task not in by_task]
        if missing:
            raise ValueError(
                f"`student_logits` must have the tasks {', '.join(self.tasks)}, "
                f"but have {', '.join(by_task) or 'none'} instead."
            )
        return {task: by_task[task] for task in self.tasks}

    def task_weights(self) -> dict[str, float]:
        """Weight of each task in the total; equal shares that sum to 1 unless options say more."""
        share = 1.0 / len(self.tasks)
        return self.options.task_weights or dict.fromkeys(self.tasks, share)
