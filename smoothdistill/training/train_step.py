"""One training step: forward of student and teacher, loss by parts, backward, one fused update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.methods import Method, build_method
from smoothdistill.models import MTLNet
from smoothdistill.ops._backend import kernels_for
from smoothdistill.ops._number_formats import require_number_format
from smoothdistill.ops.linear import PRODUCTS, available_products, require_products
from smoothdistill.optim import AdamEMA
from smoothdistill.training.checkpoint import require_matching_tensors
from smoothdistill.training.config import require_precision
from smoothdistill.training.cuda_graph import CudaCapture, GraphedSteps
from smoothdistill.training.device_step import DeviceStep
from smoothdistill.training.fused_step import FusedStep, saved_products, why_not_fused
from smoothdistill.training.host_step import HostStep
from smoothdistill.training.optimizer_state import (
    flat_optimizer_state,
    nested_optimizer_state,
    parts_of_state,
)
from smoothdistill.training.parameter_places import ParameterPlaces
from smoothdistill.training.skipped_steps import SkippedSteps
from smoothdistill.training.step_log import StepLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from smoothdistill.methods import LossParts
    from smoothdistill.ops import MultitaskKDOutput
    from smoothdistill.optim import EMATeacher
    from smoothdistill.training.batches import Batch

    ByTask = Mapping[str, Tensor]

__all__ = ["PATHS", "TrainStep"]

PATHS = ("auto", "fused", "general")
"""What `path` may be."""


class TrainStep:
    """Trains a model by one batch per call; owns the teacher, the loss and the optimizer.

    A step whose loss is not finite changes nothing: not the weights, not the optimizer and its
    step counts, not the teacher (but one that follows a `schedule`, which goes by steps), not the
    buffers of either. Such steps are counted, and too many in a row are an error. On a CPU that is
    known at once. On a GPU it stays on the device, so that no step waits for it, and is looked at
    by `check_finite`, which every `check_every_steps`-th step calls.

    Args:
        model: The student; maps signals [batch, channels, time] to {task: logits [batch,
            classes]}. It is trained in place.
        method: A name in `methods.METHODS`, or a method made by `build_method`.
        tasks: Names of the tasks; by default ``model.tasks``.
        lr: Learning rate, at least 0.
        betas: Decay of Adam's two averages, each in [0, 1).
        eps: Adam's summand against division by zero, at least 0.
        weight_decay: Weight decay, at least 0.
        decoupled: Whether weight decay acts on the weights directly (AdamW).
        precision: Number format of the products of forward and backward; one of
            `config.PRECISIONS`. "bfloat16" keeps weights, moments, teacher and sums in float32, and
            is refused on a processor or GPU without instructions for it.
        max_consecutive_skips: Skipped steps in a row that are an error, at least 1.
        check_gradients: Whether gradients are looked at as well as the loss. Costs a pass over
            them (about 2 % of an MTL-net step on a CPU), and catches overflows of the backward
            pass, which float32 all but rules out.
        check_every_steps: Steps between two looks at the device's counters, at least 1.
        path: "fused": an `MTLNet` on a CPU goes through fused kernels without autograd, and its
            `.grad` stay empty; an error for other models. "general": any model, by autograd (which
            an `MTLNet` on a CPU joins by the same kernels, unless it is hooked into).
            "auto": fused where it is possible, looked at anew in every step; on a GPU with the CUDA
            kernels one CUDA graph a step, where it can be captured. All do the same but for
            rounding.
        products: Which library multiplies the matrices of the fused path, one of
            `ops.linear.PRODUCTS`; None: the fastest, by a short measurement that is remembered.
        num_epochs, steps_per_epoch: Length of the training, for methods that must know it.
        **method_options: Options of the method, when it is given by name.

    Attributes:
        model: The student.
        teacher: The `EMATeacher`; its module is ``teacher.model``.
        method: The method.
        optimizer: The `AdamEMA`.
        num_steps: Steps so far, skipped ones included.
        log: The loss by parts of the steps of `over`.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If an option is unknown or out of range, or the tasks are not known.
    """

    def __init__(
        self,
        model: nn.Module,
        method: str | Method = "smooth-distill",
        *,
        tasks: Sequence[str] | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        precision: str = "float32",
        max_consecutive_skips: int = 5,
        check_gradients: bool = False,
        check_every_steps: int = 50,
        path: str = "auto",
        products: str | None = None,
        num_epochs: int | None = None,
        steps_per_epoch: int | None = None,
        **method_options: Any,
    ) -> None:
        require_precision(precision)
        if path not in PATHS:
            raise ValueError(f"`path` must be one of {', '.join(PATHS)}, but is {path!r} instead.")
        if products is not None:
            require_products("products", products)
        for name, count in (
            ("max_consecutive_skips", max_consecutive_skips),
            ("check_every_steps", check_every_steps),
        ):
            if count < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {count} instead.")
        if isinstance(method, Method):
            if method_options or tasks is not None:
                raise ValueError(
                    "`method` must be a name where tasks or options are given, "
                    f"but is a {type(method).__name__} instead."
                )
        else:
            method = build_method(method, tasks=_tasks(model, tasks), **method_options)
        self.model = model
        self.method: Method = method
        self.teacher: EMATeacher = method.build_teacher(
            model, num_epochs=num_epochs, steps_per_epoch=steps_per_epoch
        )
        self.optimizer = AdamEMA(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled=decoupled,
            teacher=self.teacher,
            capturable=next(model.parameters()).is_cuda and self.teacher.schedule is None,
        )
        self.num_steps, self._lr = 0, lr
        self._check_every_steps = check_every_steps
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._device = self._parameters[0].device
        self._on_cpu = self._device.type == "cpu"
        self._skips = SkippedSteps(self._device, max_consecutive_skips)
        self.path, self.precision = path, precision
        require_number_format(precision, self._device)
        self._places = ParameterPlaces(model)
        self._step_on_host = HostStep(
            self._loss, model, self.optimizer, check_gradients=check_gradients
        )
        self._step_on_device = DeviceStep(
            self._loss, model, self.optimizer, self._skips, check_gradients=check_gradients
        )
        self.log = StepLog(self._device, method.other_parts)
        self._graphs: GraphedSteps[MultitaskKDOutput | LossParts] | None = None
        is_on_gpu = kernels_for(self._parameters[0], "adam_ema_") is not None and not self._on_cpu
        if path == "auto" and is_on_gpu and self.optimizer.capturable:
            capture, rates = CudaCapture(self._device), self.optimizer.write_rates
            self._graphs = GraphedSteps(self._step_on_device, rates, capture, self.log.write)
        self._fused: FusedStep | None = None
        if path != "general" and isinstance(model, MTLNet) and method.is_of_logits:
            self._fused = FusedStep(
                model,
                method,
                self.optimizer,
                self.teacher,
                precision=precision,
                products=products,
                check_gradients=check_gradients,
            )
        reason = why_not_fused(model, self.optimizer, self.teacher)
        if not method.is_of_logits:
            reason = f"the method {method.name} looks at more than logits"
        if path == "fused" and reason is not None:
            raise ValueError(
                f"`path` must be 'auto' or 'general' where {reason}, but is 'fused' instead."
            )

    def begin_epoch(self, epoch: int, num_epochs: int, *, is_resumed: bool = False) -> bool:
        """Tell the method of an epoch (from 0); True if student, teacher, optimizer begin anew."""
        self.method.epoch, self.method.num_epochs = epoch, num_epochs
        if self._graphs is not None and self.method.changes_by_epoch:
            self._graphs.clear()
        if type(self.method).lr_factor is not Method.lr_factor:  # else the rate is the caller's
            for group in self.optimizer.param_groups:
                group["lr"] = self._lr * self.method.lr_factor
        if is_resumed or not self.method.begin_epoch(self.model, epoch, num_epochs):
            return False
        self.teacher.restart()
        self.optimizer.state.clear()
        self.optimizer._companions.clear()
        if self._graphs is not None:
            self._graphs.clear()
        return True

    def __call__(
        self, signals: Tensor, targets: ByTask, *, taught: ByTask | None = None
    ) -> MultitaskKDOutput | LossParts:
        """Train by one batch.

        Args:
            signals: Windows [batch, channels, time], float32, on the model's device.
            targets: Class numbers [batch] of each task, int64; `windows.IGNORE_INDEX` where a
                window has no label.
            taught: Logits [batch, classes] of a trained teacher by task, where they are known
                already, for methods that learn from nothing else of it.

        Returns:
            The loss by parts, detached and on the device: reading one waits for the device.

        Raises:
            NonFiniteError: If too many steps in a row had a loss that is not finite.
            ValueError: If the method has no use for `taught`.
        """
        self._prepare(taught)
        out: MultitaskKDOutput | LossParts
        if self._fused is not None and self._can_fuse(signals):
            out, skip = self._fused(signals, targets)
        elif self._on_cpu:
            out, skip = self._step_on_host(signals, targets, taught)
        else:
            out, skip = (self._graphs or self._step_on_device)(signals, targets, taught), False
        self.num_steps += 1
        if self._on_cpu:
            self._skips.note(skip)
            if skip and self.teacher.schedule is not None:  # which goes by steps
                self.teacher.update()
        if skip or (not self._on_cpu and self.num_steps % self._check_every_steps == 0):
            self.check_finite()
        return out

    def _prepare(self, taught: ByTask | None) -> None:
        if taught is not None and not self.method.learns_from_logits:
            raise ValueError(
                f"`taught` must be None for the method {self.method.name}, but is given instead."
            )
        if not self.model.training:
            self.model.train()
        self._places.require_unchanged()

    def over(self, windows: Batch, batch_size: int) -> Iterator[int]:
        """Train by batches that lie one after another, one for each item that is taken.

        What `__call__` would return goes to `log`. With CUDA graphs a step is one launch, and
        looking at the counters of skipped steps is left to the caller, by `check_finite`.

        Args:
            windows: The windows of all batches, on the model's device.
            batch_size: Windows of a batch, at least 1; the last one may be smaller.

        Yields:
            The number of windows of each batch.

        Raises:
            NonFiniteError, ValueError: As for `__call__`.
        """
        if self._graphs is not None:
            self._graphs.load(windows)
        for begin in range(0, len(windows.signals), batch_size):
            batch = windows.part(begin, begin + batch_size)
            if self._graphs is None:
                self.log.write(self(batch.signals, batch.targets, taught=batch.taught))
            else:
                self._prepare(windows.taught)
                self._graphs.train(len(batch.signals))
                self.num_steps += 1
            self.log.note(len(batch.signals))
            yield len(batch.signals)

    @property
    def is_fused(self) -> bool:
        """Whether the next step of float32 signals on the CPU goes through the fused kernels."""
        return self._fused is not None and (
            why_not_fused(self.model, self.optimizer, self.teacher) is None
        )

    def _can_fuse(self, signals: Tensor) -> bool:
        fits = (
            type(signals) is torch.Tensor
            and signals.is_cpu
            and signals.dtype is torch.float32
            and not signals.is_neg()
        )
        reason = why_not_fused(self.model, self.optimizer, self.teacher)
        if self.path == "fused" and not (fits and reason is None):
            raise ValueError(
                f"`path` must be 'auto' or 'general' where "
                f"{reason or 'the signals are not float32 on the CPU'}, but is 'fused' instead."
            )
        return fits and reason is None and len(signals) > 0

    def _loss(
        self, signals: Tensor, targets: ByTask, taught: ByTask | None
    ) -> MultitaskKDOutput | LossParts:
        given: dict[str, Any] = {} if taught is None else {"taught": taught}
        with torch.autocast(
            self._device.type,
            torch.bfloat16,
            enabled=self.precision == "bfloat16",
            cache_enabled=self._on_cpu,  # a captured graph cannot tell what the cache holds
        ):
            return self.method.batch_loss(self.model, self.teacher.model, signals, targets, **given)

    def time_parts(
        self, signals: Tensor, targets: Mapping[str, Tensor], num_rounds: int = 50
    ) -> dict[str, float]:
        """Median seconds of each part of a fused step; the steps train the model.

        Args:
            signals: As for a step.
            targets: As for a step.
            num_rounds: Number of steps, at least 1.

        Raises:
            ValueError: If the step is not fused, or `num_rounds` is below 1.
        """
        if num_rounds < 1:
            raise ValueError(f"`num_rounds` must be at least 1, but is {num_rounds} instead.")
        if self._fused is None or not self._can_fuse(signals):
            raise ValueError("`path` must be fused for its parts to be timed, but is not instead.")
        self.num_steps += num_rounds
        return self._fused.time_parts(signals, targets, num_rounds)

    def check_finite(self) -> None:
        """Look at the counters of skipped steps. On a GPU this waits for the device.

        Raises:
            NonFiniteError: If too many steps in a row had a loss that is not finite.
        """
        self._skips.check(self.num_steps)

    @property
    def num_skipped(self) -> int:
        """Steps that were skipped so far. On a GPU reading it waits for the device."""
        return int(self._skips.counts[0])

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as tensors by name, but the random state.

        The names begin with ``student.``, ``teacher.``, ``optimizer.`` or ``counters``; tensors
        are not copied.
        """
        tensors = {f"student.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"teacher.{name}": value for name, value in self.teacher.state_dict().items()}
        flat = flat_optimizer_state(self.optimizer)
        tensors |= {f"optimizer.{name}": value for name, value in flat.items()}
        tensors["counters"] = torch.cat([torch.tensor([self.num_steps]), self._skips.counts.cpu()])
        if self._fused is not None and self._fused.products in PRODUCTS:
            # A resumed run must sum in the same order.
            tensors["products"] = torch.tensor(list(PRODUCTS).index(self._fused.products))
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to the state of a `state_dict`; on an error nothing has changed.

        Raises:
            CheckpointError: If a tensor is missing, too many, or of another shape or dtype.
        """
        parts, counters = parts_of_state(tensors)
        require_matching_tensors(parts["student"], self.model.state_dict(), what="student")
        require_matching_tensors(parts["teacher"], self.teacher.state_dict(), what="teacher")
        state = nested_optimizer_state(parts["optimizer"], self.optimizer, self._parameters)
        products = saved_products(tensors)
        self.model.load_state_dict(parts["student"])
        self.teacher.load_state_dict(parts["teacher"])
        self.optimizer.load_state_dict(state)
        self.num_steps = int(counters[0])
        self._skips.load(counters[1:])
        if self._graphs is not None:  # the optimizer has other tensors now
            self._graphs.clear()
        if self._fused is not None and products in available_products():
            self._fused.use(products)


def _tasks(model: nn.Module, tasks: Sequence[str] | None) -> Sequence[str]:
    if tasks is not None:
        return tasks
    own = getattr(model, "tasks", None)
    if not isinstance(own, tuple | list):
        raise ValueError(
            "`tasks` must be given for a model that has no `tasks` itself, "
            f"but is None for {type(model).__name__} instead."
        )
    return own
