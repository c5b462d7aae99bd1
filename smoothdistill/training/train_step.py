"""One training step: forward of student and teacher, loss by parts, backward, one fused update."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.errors import CheckpointError, NonFiniteError
from smoothdistill.methods import Method, build_method
from smoothdistill.optim import AdamEMA
from smoothdistill.training.checkpoint import require_matching_tensors
from smoothdistill.training.config import require_precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from smoothdistill.ops import MultitaskKDOutput
    from smoothdistill.optim import EMATeacher

__all__ = ["TrainStep"]

_GROUP_NUMBERS = ("lr", "eps", "weight_decay")


class TrainStep:
    """Trains a model by one batch per call; owns the teacher, the loss and the optimizer.

    A step whose loss is not finite changes nothing: not the weights, not the optimizer and its
    step counts, not the teacher, not the buffers of either. Such steps are counted, and too
    many in a row are an error. On a CPU that is known at once. On a GPU it stays on the device,
    so that no step waits for it, and is looked at by `check_finite`, which every
    `check_every_steps`-th step calls.

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
        precision: Number format of forward and backward; one of `config.PRECISIONS`.
        max_consecutive_skips: Skipped steps in a row that are an error, at least 1.
        check_gradients: Whether gradients are looked at as well as the loss. Costs a pass over
            them (about 2 % of an MTL-net step on a CPU), and catches overflows of the backward
            pass, which float32 all but rules out.
        check_every_steps: Steps between two looks at the device's counters, at least 1.
        **method_options: Options of the method, when it is given by name.

    Attributes:
        model: The student.
        teacher: The `EMATeacher`; its module is ``teacher.model``.
        method: The method.
        optimizer: The `AdamEMA`.
        num_steps: Calls so far, skipped ones included.

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
        **method_options: Any,
    ) -> None:
        require_precision(precision)
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
        self.teacher: EMATeacher = method.build_teacher(model)
        self.optimizer = AdamEMA(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled=decoupled,
            teacher=self.teacher,
        )
        self.num_steps = 0
        self._max_consecutive_skips = max_consecutive_skips
        self._check_gradients = check_gradients
        self._check_every_steps = check_every_steps
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._buffers = list(model.buffers())
        self._device = self._parameters[0].device
        self._on_cpu = self._device.type == "cpu"
        # Skipped steps in all, skipped steps up to now without a break, and the longest such run.
        self._skips = torch.zeros(3, dtype=torch.int64, device=self._device)
        self._is_in_skips = False  # whether the last step was skipped; kept up on a CPU only

    def __call__(self, signals: Tensor, targets: Mapping[str, Tensor]) -> MultitaskKDOutput:
        """Train by one batch.

        Args:
            signals: Windows [batch, channels, time], float32, on the model's device.
            targets: Class numbers [batch] of each task, int64; `windows.IGNORE_INDEX` where a
                window has no label.

        Returns:
            The loss by parts, detached and on the device: reading one waits for the device.

        Raises:
            NonFiniteError: If too many steps in a row had a loss that is not finite.
        """
        if not self.model.training:
            self.model.train()
        teacher_logits = None
        if self.method.needs_teacher_logits:
            with torch.no_grad():
                teacher_logits = self.teacher.model(signals)
        old_buffers = [buffer.clone() for buffer in self._buffers]
        out = self.method.loss(self.model(signals), teacher_logits, targets)
        self.num_steps += 1
        if self._on_cpu:
            self._update_on_cpu(out.total, old_buffers)
        else:
            self._update_on_device(out.total, old_buffers)
        return out._replace(total=out.total.detach())

    def _update_on_cpu(self, total: Tensor, old_buffers: list[Tensor]) -> None:
        skip = not math.isfinite(total.detach())  # on a CPU the value is there already: no sync
        if not skip:
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            skip = self._check_gradients and bool(self._gradients_overflowed())
        if not skip:
            self.optimizer.step()
            if self._is_in_skips:
                self._skips[1] = 0
                self._is_in_skips = False
            return
        self._is_in_skips = True
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, old in zip(self._buffers, old_buffers, strict=True):
            buffer.copy_(old)
        self._skips[:2] += 1
        self._skips[2] = max(int(self._skips[1]), int(self._skips[2]))
        self.check_finite()

    def _update_on_device(self, total: Tensor, old_buffers: list[Tensor]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        skip = ~torch.isfinite(total.detach())
        if self._check_gradients:
            skip = skip | self._gradients_overflowed()
        self.optimizer.step(found_inf=skip.to(torch.float32))
        for buffer, old in zip(self._buffers, old_buffers, strict=True):
            torch.where(skip, old, buffer, out=buffer)
        self._skips[:2] += skip
        self._skips[1] *= skip
        torch.maximum(self._skips[2], self._skips[1], out=self._skips[2])
        if self.num_steps % self._check_every_steps == 0:
            self.check_finite()

    def _gradients_overflowed(self) -> Tensor:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norms = torch._foreach_norm(gradients, math.inf)
        return ~torch.isfinite(torch.stack(norms)).all()

    def check_finite(self) -> None:
        """Look at the counters of skipped steps. On a GPU this waits for the device.

        Raises:
            NonFiniteError: If too many steps in a row had a loss that is not finite.
        """
        num_skipped, _, longest = self._skips.tolist()
        if longest >= self._max_consecutive_skips:
            raise NonFiniteError(
                f"`loss` must be finite in at least one of {self._max_consecutive_skips} steps in "
                f"a row, but is NaN or infinite in {longest} steps in a row instead "
                f"(step {self.num_steps}, {num_skipped} skipped in all); lower `train.lr` or look "
                "at the signals."
            )

    @property
    def num_skipped(self) -> int:
        """Steps that were skipped so far. On a GPU reading it waits for the device."""
        return int(self._skips[0])

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as tensors by name, but the random state.

        The names begin with ``student.``, ``teacher.``, ``optimizer.`` or ``counters``; tensors
        are not copied.
        """
        tensors = {f"student.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"teacher.{name}": value for name, value in self.teacher.state_dict().items()}
        saved = self.optimizer.state_dict()
        for number, entries in saved["state"].items():
            tensors |= {
                f"optimizer.{number}.{key}": torch.as_tensor(value)
                for key, value in entries.items()
            }
        tensors["optimizer.groups"] = torch.tensor(
            [
                [*(float(group[key]) for key in _GROUP_NUMBERS), *map(float, group["betas"])]
                for group in saved["param_groups"]
            ],
            dtype=torch.float64,
        )
        steps = torch.tensor([self.num_steps], dtype=torch.int64)
        tensors["counters"] = torch.cat([steps, self._skips.cpu()])
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to the state of a `state_dict`; on an error nothing has changed.

        Raises:
            CheckpointError: If a tensor is missing, too many, or of another shape or dtype.
        """
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if name != "counters" and part not in parts:
                raise CheckpointError(
                    "`state` must have names that begin with student, teacher, optimizer or "
                    f"counters, but has {name!r} instead."
                )
            if name != "counters":
                parts[part][rest] = tensor
        require_matching_tensors(parts["student"], self.model.state_dict(), what="student")
        require_matching_tensors(parts["teacher"], self.teacher.state_dict(), what="teacher")
        optimizer_state = self._optimizer_state(parts["optimizer"])
        counters = tensors.get("counters")
        if counters is None or counters.shape != (4,) or counters.dtype != torch.int64:
            raise CheckpointError("`counters` must be 4 int64 numbers, but are not instead.")
        self.model.load_state_dict(parts["student"])
        self.teacher.load_state_dict(parts["teacher"])
        self.optimizer.load_state_dict(optimizer_state)
        self.num_steps = int(counters[0])
        self._skips.copy_(counters[1:])
        self._is_in_skips = int(counters[2]) > 0

    def _optimizer_state(self, found: dict[str, Tensor]) -> dict[str, Any]:
        """The optimizer's own form of what `state_dict` made flat, checked tensor by tensor."""
        current = self.optimizer.state_dict()
        rows = found.pop("groups", torch.empty(0))
        if rows.shape != (len(current["param_groups"]), len(_GROUP_NUMBERS) + 2):
            raise CheckpointError(
                "`optimizer.groups` must have one row for each parameter group, "
                f"but is of shape {list(rows.shape)} instead."
            )
        expected = {}
        for number in {name.partition(".")[0] for name in found}:
            if not number.isdecimal() or int(number) >= len(self._parameters):
                raise CheckpointError(
                    f"`optimizer` must have states of {len(self._parameters)} parameters, "
                    f"but has one of number {number!r} instead."
                )
            parameter = self._parameters[int(number)]
            expected[f"{number}.step"] = torch.zeros(())
            for key in ("exp_avg", "exp_avg_sq"):
                expected[f"{number}.{key}"] = torch.empty_like(parameter, device="meta")
        require_matching_tensors(found, expected, what="optimizer")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in found.items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = tensor.clone()
        for group, row in zip(current["param_groups"], rows.tolist(), strict=True):
            group.update(zip(_GROUP_NUMBERS, row, strict=False))
            group["betas"] = tuple(row[-2:])
        return {"state": state, "param_groups": current["param_groups"]}


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
