"""`MultitaskKDLoss`: the fused loss as a module over named tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from smoothdistill.ops import (
    MultitaskKDOutput,
    multitask_kd_loss,
    multitask_kd_loss_and_gradients,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MultitaskKDLoss"]

PerTask = float | Mapping[str, float]


class MultitaskKDLoss(nn.Module):
    """Sum over tasks of ``task_weight * (CE + distill_weight * T**2 * KL(teacher || student))``.

    Args:
        task_weights: Weight of each task, at least 0; a number stands for all tasks, and None
            for one over the number of tasks (the 1/2 of the Smooth-Distill paper for two).
        distill_weight: Weight of the distillation against the cross-entropy, at least 0. One
            float32 element on the GPU of the logits is read there: a CUDA graph that was captured
            with it follows its later values.
        temperature: By which both logits are divided in the distillation, above 0; or an element,
            like `distill_weight`.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1].
        class_weights: For each task a weight of every class, [classes]; None: all 1.
        ignore_index: Rows with this target take part in neither loss.
    """

    def __init__(
        self,
        *,
        task_weights: PerTask | None = None,
        distill_weight: PerTask | Tensor = 0.5,
        temperature: PerTask | Tensor = 3.0,
        label_smoothing: PerTask = 0.0,
        class_weights: Mapping[str, Tensor] | None = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        self.task_weights = task_weights
        self.distill_weight = distill_weight
        self.temperature = temperature
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self._weighted_tasks = tuple(class_weights or ())
        for index, task in enumerate(self._weighted_tasks):
            self.register_buffer(f"class_weights_{index}", (class_weights or {})[task])

    def forward(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        """The loss of a batch and its parts, in the order of `student_logits`.

        Args:
            student_logits: For each task [batch, classes].
            teacher_logits: The same shapes, or None: no distillation.
            targets: For each task [batch] class indices or `ignore_index`.

        Raises:
            KeyError: If a task of `student_logits` is missing elsewhere.
            TypeError: If a tensor is of another dtype.
            ValueError: If shapes or values do not fit; see `smoothdistill.ops.multitask_kd_loss`.
        """
        return multitask_kd_loss(
            *self._tensors(student_logits, teacher_logits, targets),
            **self._options(tuple(student_logits)),
        )

    def with_gradients(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> tuple[MultitaskKDOutput, list[Tensor]]:
        """The same, and the gradient with respect to each task's logits, without autograd."""
        return multitask_kd_loss_and_gradients(
            *self._tensors(student_logits, teacher_logits, targets),
            **self._options(tuple(student_logits)),
        )

    def _tensors(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> tuple[list[Tensor], list[Tensor] | None, list[Tensor]]:
        tasks = tuple(student_logits)
        return (
            list(student_logits.values()),
            None if teacher_logits is None else _in_order("teacher_logits", teacher_logits, tasks),
            _in_order("targets", targets, tasks),
        )

    def _options(self, tasks: tuple[str, ...]) -> dict[str, Any]:
        weights = 1.0 / max(len(tasks), 1) if self.task_weights is None else self.task_weights
        return {
            "task_weights": _numbers("task_weights", weights, tasks),
            "distill_weight": _numbers("distill_weight", self.distill_weight, tasks),
            "temperature": _numbers("temperature", self.temperature, tasks),
            "label_smoothing": _numbers("label_smoothing", self.label_smoothing, tasks),
            "class_weights": self._class_weights(tasks),
            "ignore_index": self.ignore_index,
        }

    def _class_weights(self, tasks: tuple[str, ...]) -> list[Tensor | None] | None:
        if not self._weighted_tasks:
            return None
        unknown = [task for task in self._weighted_tasks if task not in tasks]
        if unknown:
            raise KeyError(
                f"`class_weights` must be of the tasks {', '.join(tasks)},"
                f" but holds {', '.join(unknown)} instead."
            )
        found: dict[str, Tensor] = {
            task: self.get_buffer(f"class_weights_{index}")
            for index, task in enumerate(self._weighted_tasks)
        }
        return [found.get(task) for task in tasks]

    def extra_repr(self) -> str:
        """The numbers, for `print(loss)`."""
        return (
            f"task_weights={self.task_weights}, distill_weight={self.distill_weight},"
            f" temperature={self.temperature}, label_smoothing={self.label_smoothing}"
        )


def _in_order(name: str, values: Mapping[str, Tensor], tasks: tuple[str, ...]) -> list[Tensor]:
    try:
        return [values[task] for task in tasks]
    except KeyError as missing:
        raise KeyError(
            f"`{name}` must hold the tasks {', '.join(tasks)},"
            f" but holds {', '.join(values) or 'none'} instead."
        ) from missing


def _numbers(name: str, value: Any, tasks: tuple[str, ...]) -> Any:
    if not isinstance(value, Mapping):
        return value
    try:
        return tuple(value[task] for task in tasks)
    except KeyError as missing:
        raise KeyError(
            f"`{name}` must hold a number for the tasks {', '.join(tasks)},"
            f" but holds {', '.join(value) or 'none'} instead."
        ) from missing
