"""What every method offers to the training step: networks, a teacher, and a loss by parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import torch
from torch import nn

from smoothdistill.methods.options import LossOptions, MethodOptions, validate_options
from smoothdistill.optim import EMATeacher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from smoothdistill.methods.loss_parts import LossParts
    from smoothdistill.methods.networks import NetworkBuilder
    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["Method", "require_student"]

Student = TypeVar("Student", bound=nn.Module)


class Method(ABC):
    """What to distil, for given tasks: says nothing of devices, steps or kernels.

    A subclass names itself in `name`, its options in `Options`, and is made known to the
    configuration and the command line by `register_method`. Most give a `loss` of logits, and
    leave the rest as it is. One that needs more than logits overrides `batch_loss`, and one that
    trains more than a single network `build_student` and `network`.

    Attributes:
        epoch: Number, from 0, of the epoch that has begun.
        num_epochs: Number of epochs of the training; None where nobody counts them.
        selectable: Who may be chosen in validation to be the model that is used: the student, its
            averaged copy, or whichever does better.
        teacher_model: What a network of a kind of its own, that of `[teacher]` in a configuration,
            is to the method: "none", nothing; "optional", a second network if it is given;
            "beside", a teacher trained at once with the student; "trained", one that is trained
            before, and handed over by `take_teacher`.
        learns_from_logits: Whether the logits are all that it needs of a trained teacher:
            `batch_loss` then takes them as ``taught``, too, from who has computed them before.
        changes_by_epoch: Whether the loss, or the networks, may be other ones in another epoch; a
            CUDA graph of a step is then captured anew in each.

    Args:
        tasks: Names of the tasks, in the order of the loss parts.
        options: Options by name; see `Options`.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If there is no task, or an option is unknown, out of range, or names an
            unknown task.
    """

    name: ClassVar[str]
    Options: ClassVar[type[LossOptions]] = MethodOptions
    selectable: ClassVar[tuple[Literal["student", "teacher"], ...]] = ("student", "teacher")
    teacher_model: ClassVar[Literal["none", "optional", "beside", "trained"]] = "none"
    learns_from_logits: ClassVar[bool] = False
    changes_by_epoch: ClassVar[bool] = True
    epoch: int = 0
    num_epochs: int | None = None

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

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """Everything that is trained; by default one network for all tasks.

        Args:
            build: Makes a network of the kind that the user asks for.
            num_classes: Number of classes of each task, in the order of `tasks`.
        """
        return build(num_classes)

    def network(self, student: nn.Module) -> nn.Module:
        """The part of what `build_student` made, or of its averaged copy, that predicts."""
        return student

    def predictors(
        self, student: nn.Module, averaged: nn.Module
    ) -> dict[Literal["student", "teacher"], nn.Module]:
        """Who is validated and tested as what; by default `network` of both.

        Args:
            student: What `build_student` made.
            averaged: Its averaged copy.
        """
        return {"student": self.network(student), "teacher": self.network(averaged)}

    def build_predictor(
        self,
        build: NetworkBuilder,
        num_classes: Mapping[str, int],
        role: Literal["student", "teacher"],
    ) -> nn.Module:
        """A network with fresh weights of the kind that `predictors` has for a role."""
        del role
        return self.network(self.build_student(build, num_classes))

    def take_teacher(self, network: nn.Module) -> None:
        """Be handed the teacher that was trained before, where `teacher_model` is "trained".

        Args:
            network: On the device of the student to come; the method keeps it as it is.

        Raises:
            ValueError: If the method has no use for it.
        """
        raise ValueError(
            f"`network` must be given to a method with a trained teacher only, but {self.name} "
            f"was given a {type(network).__name__} instead."
        )

    @property
    def other_parts(self) -> tuple[str, ...]:
        """Names of the parts of the loss beyond cross-entropy and distillation by task."""
        return ()

    def require_epochs(self, num_epochs: int) -> None:
        """Refuse a training that is too short for the method; by default none is.

        Args:
            num_epochs: Number of epochs of the training.

        Raises:
            ValueError: If it is.
        """
        del num_epochs

    def begin_epoch(self, student: nn.Module, epoch: int, num_epochs: int) -> bool:
        """Told that an epoch begins; returns whether the student has begun anew, too.

        Args:
            student: What `build_student` made.
            epoch: Number of the epoch, from 0.
            num_epochs: Number of epochs of the training.
        """
        del student, epoch, num_epochs
        return False

    @property
    def progress(self) -> float:
        """Share of the epochs that have begun, in (0, 1]; 1 where nobody counts them."""
        return 1.0 if self.num_epochs is None else (self.epoch + 1) / self.num_epochs

    @property
    def lr_factor(self) -> float:
        """By which the learning rate is multiplied in the epoch that has begun."""
        return 1.0

    def first_teacher_epoch(self, num_epochs: int) -> int:
        """Number, from 0, of the first epoch whose averaged copy may be chosen in validation.

        Args:
            num_epochs: Number of epochs of the training.
        """
        del num_epochs
        return 0

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput | LossParts:
        """Forward passes and loss of one batch; by default `loss` of the logits of both.

        Args:
            student: What `build_student` made, in training mode.
            teacher: Its averaged copy, in evaluation mode.
            signals: Windows [batch, channels, time].
            targets: As for `loss`.

        Returns:
            The loss by parts; `LossParts` where there are `other_parts`.
        """
        teacher_logits = None
        if self.needs_teacher_logits:
            with torch.no_grad():
                teacher_logits = teacher(signals)
        return self.loss(student(signals), teacher_logits, targets)

    @property
    def is_of_logits(self) -> bool:
        """Whether the loss needs nothing but logits, which may then be computed in any way."""
        return type(self).batch_loss is Method.batch_loss

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

    def build_teacher(
        self,
        model: nn.Module,
        *,
        num_epochs: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> EMATeacher:
        """The averaged copy of `model` that the optimizer moves; it starts as an equal copy.

        Args:
            model: What is trained.
            num_epochs: Number of epochs of the training, where it is known.
            steps_per_epoch: Number of steps of an epoch, where it is known.

        Raises:
            ValueError: If the method must know the length of the training, and does not.
        """
        del num_epochs, steps_per_epoch
        options = self.options
        if not isinstance(options, MethodOptions):
            raise TypeError(
                f"`Options` of the method {self.name} must be MethodOptions, or `build_teacher` "
                f"its own, but they are {type(options).__name__} instead."
            )
        return EMATeacher(
            model,
            decay=options.decay if options.half_life_steps is None else None,
            half_life_steps=options.half_life_steps,
            warmup_steps=options.warmup_steps,
            buffers=options.buffers,
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
        """Weight of each task in the total, in the order of `tasks`; equal shares unless given."""
        given = self.options.task_weights
        if given is None:
            return dict.fromkeys(self.tasks, 1.0 / len(self.tasks))
        return {task: given[task] for task in self.tasks}

    def weigh(self, by_task: Sequence[Tensor]) -> Tensor:
        """Sum of a scalar of each task, in the order of `tasks`, by their weights."""
        weights = self.task_weights().values()
        return torch.stack(
            [weight * value for weight, value in zip(weights, by_task, strict=True)]
        ).sum()


def require_student(method: Method, student: nn.Module, kind: type[Student]) -> Student:
    """The student, as the kind of module that a method's `build_student` makes.

    Raises:
        TypeError: If it is of another kind.
    """
    if not isinstance(student, kind):
        raise TypeError(
            f"`model` must be what `build_student` of the method {method.name} makes, "
            f"but is a {type(student).__name__} instead."
        )
    return student
