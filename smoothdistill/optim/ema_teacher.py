"""`EMATeacher`: a smoothed copy of a model that follows it step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from smoothdistill.ops import ema_update_
from smoothdistill.optim.buffer_places import BufferPlaces

if TYPE_CHECKING:
    from torch import Tensor, nn

    _Pairs = tuple[list[Tensor], list[Tensor]]

__all__ = ["EMATeacher"]

BufferPolicy = Literal["copy", "ema", "skip"]
_POLICIES = ("copy", "ema", "skip")
_LOW_PRECISION = (torch.float16, torch.bfloat16)


class EMATeacher:
    """A copy of a model whose weights are the exponential moving average of the model's.

    The copy is `model`: in evaluation mode, without gradients, and in float32 where the student
    is in bfloat16 (a bfloat16 average stalls: near decay 1 its updates round to nothing).
    Call `update` after every optimizer step, or give the teacher to `AdamEMA`, which then moves
    it inside its own pass.

    Args:
        model: The student; the teacher starts as a copy of it.
        decay: Share of the old average that each update keeps, in [0, 1]; 0.999 if
            neither it nor `half_life_steps` or `schedule` is given.
        half_life_steps: Instead of `decay`: the number of updates after which a weight's share
            in the average has halved, above 0 (``decay = 0.5 ** (1 / half_life_steps)``).
        warmup_steps: During this many first updates the decay is the smaller of its own value
            and ``(1 + n) / (10 + n)``, with *n* the updates made: a young average is not held
            back by its random start. 0 keeps the decay constant.
        schedule: Instead of `decay`, `half_life_steps` and `warmup_steps`: the decay of the next
            update, in [0, 1], as a function of the number of updates made. `TrainStep` updates
            such a teacher after a skipped step, too, so that it can tell where epochs end.
        buffers: What happens to floating-point buffers such as the statistics of a batch norm:
            average them like the weights (``"ema"``), ``"copy"`` the student's, or leave them
            (``"skip"``). Averaged weights meet activations that are none of the student's: in
            three trainings of MobileNetV3 on HAPT averages were 2.3 and 2.7 points of macro-F1
            better than copies, and 1.0 worse. Integer buffers are copied, unless skipped.
        shadow_dtype: Type of the averaged weights; default float32 for half-precision students,
            else the student's own.

    The tensors of model and copy are paired once: a student whose parameters are replaced later
    (``load_state_dict(assign=True)``, re-parametrisation) needs a new teacher.

    Raises:
        ValueError: If a number lies outside its range, both `decay` and `half_life_steps` are
            given, or `buffers` is unknown.

    Source:
        Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017, section 2.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        decay: float | None = None,
        half_life_steps: float | None = None,
        warmup_steps: int = 0,
        schedule: Callable[[int], float] | None = None,
        buffers: BufferPolicy = "ema",
        shadow_dtype: torch.dtype | None = None,
    ) -> None:
        if decay is not None and half_life_steps is not None:
            raise ValueError(
                "`half_life_steps` must be None where `decay` is given,"
                f" but is {half_life_steps} instead."
            )
        if schedule is not None and not (decay is half_life_steps is None and warmup_steps == 0):
            raise ValueError(
                "`schedule` must be None where another decay or a warm-up is given,"
                f" but is {schedule!r} instead."
            )
        if half_life_steps is not None:
            if not half_life_steps > 0.0:
                raise ValueError(
                    f"`half_life_steps` must be above 0, but is {half_life_steps} instead."
                )
            decay = 0.5 ** (1.0 / half_life_steps)
        decay = 0.999 if decay is None else decay
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"`decay` must be in [0, 1], but is {decay} instead.")
        if warmup_steps < 0:
            raise ValueError(f"`warmup_steps` must be at least 0, but is {warmup_steps} instead.")
        if buffers not in _POLICIES:
            raise ValueError(
                f"`buffers` must be one of {', '.join(_POLICIES)}, but is {buffers!r} instead."
            )
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.buffers = buffers
        self._num_updates = 0
        self._count: Tensor | None = None
        self._decays: Tensor | None = None
        self.student = model
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        if shadow_dtype is None and any(p.dtype in _LOW_PRECISION for p in model.parameters()):
            shadow_dtype = torch.float32
        if shadow_dtype is not None:
            self.model.to(shadow_dtype)
        for module in self.model.modules():
            if isinstance(module, torch.nn.RNNBase):
                module.flatten_parameters()  # on GPUs a copy has its weights in pieces, else
        self._pair_tensors()

    def _pair_tensors(self) -> None:
        """Match by name once: tensors of parameters, and the places of buffers."""
        teacher_params = dict(self.model.named_parameters())
        self.teacher_of: dict[Tensor, Tensor] = {
            param: teacher_params[name] for name, param in self.student.named_parameters()
        }
        self._params = (list(self.teacher_of.values()), list(self.teacher_of))
        self._places = BufferPlaces(self.model), BufferPlaces(self.student)

    def _paired_buffers(self) -> tuple[_Pairs, _Pairs]:
        """Buffers of teacher and student that are averaged, and those that are copied."""
        averaged: _Pairs = ([], [])
        copied: _Pairs = ([], [])
        own, theirs = (places.tensors() for places in self._places)
        for name, buffer in theirs.items() if self.buffers != "skip" else ():
            to = averaged if self.buffers == "ema" and buffer.is_floating_point() else copied
            to[0].append(own[name])
            to[1].append(buffer)
        return averaged, copied

    @property
    def num_updates(self) -> int:
        """Updates made so far. Where they are counted on a GPU, reading it waits for the GPU."""
        return self._num_updates if self._count is None else int(self._count)

    @num_updates.setter
    def num_updates(self, value: int) -> None:
        self._num_updates = value
        if self._count is not None:
            self._count.fill_(value)

    def count_on(self, device: torch.device) -> None:
        """Count updates there from now on, so that a skipped one need not be waited for.

        Args:
            device: That of the student; `decay_on_device` then gives the decay there.

        Raises:
            ValueError: If the teacher has a `schedule`, which only Python can follow.
        """
        if self.schedule is not None:
            raise ValueError(
                "`schedule` must be None where updates are counted on a device, but is "
                f"{self.schedule!r} instead."
            )
        made = self.num_updates
        self._count = torch.full((1,), made, dtype=torch.int64, device=device)
        decays = [self._decay_after(number) for number in range(self.warmup_steps + 1)]
        self._decays = torch.tensor(decays, dtype=torch.float64, device=device)

    def decay_on_device(self) -> Tensor:
        """The decay of the next update, [1] float64, where updates are counted."""
        assert self._count is not None
        assert self._decays is not None
        return self._decays.index_select(0, self._count.clamp(max=self.warmup_steps))

    def current_decay(self) -> float:
        """The decay of the next update."""
        return self._decay_after(self.num_updates)

    def _decay_after(self, num_updates: int) -> float:
        if self.schedule is not None:
            return self.schedule(num_updates)
        if num_updates < self.warmup_steps:
            return min(self.decay, (1.0 + num_updates) / (10.0 + num_updates))
        return self.decay

    @torch.no_grad()
    def restart(self) -> None:
        """Become an equal copy of the student again, as at the beginning."""
        for target, source in zip(*self._params, strict=True):
            target.copy_(source)
        buffers = dict(self.model.named_buffers())
        for name, buffer in self.student.named_buffers():
            buffers[name].copy_(buffer)
        self.num_updates = 0

    def update(self) -> None:
        """Move the parameters and buffers one step towards the student's."""
        ema_update_(*self._params, decay=self.current_decay())
        self.follow_up()

    def follow_up(self, found_inf: Tensor | None = None) -> None:
        """The rest of an update whose parameters an optimizer has moved: buffers and count.

        Args:
            found_inf: One float element on the device where updates are counted; where it is not
                0, nothing changes.
        """
        if self._count is not None:
            self._follow_up_on_device(found_inf)
            return
        averaged, copied = self._paired_buffers()
        if averaged[0]:
            ema_update_(*averaged, decay=self.current_decay())
        with torch.no_grad():
            for target, source in zip(*copied, strict=True):
                target.copy_(source)
        self._num_updates += 1

    @torch.no_grad()
    def _follow_up_on_device(self, found_inf: Tensor | None) -> None:
        assert self._count is not None
        decay = self.decay_on_device()
        skip = None if found_inf is None else found_inf.reshape(()) != 0
        averaged, copied = self._paired_buffers()
        if averaged[0]:
            kept = decay if skip is None else torch.where(skip, 1.0, decay)
            ema_update_(*averaged, decay=kept)
        for target, source in zip(*copied, strict=True):
            target.copy_(source if skip is None else torch.where(skip, target, source))
        self._count += 1 if skip is None else ~skip

    @contextmanager
    def swapped(self) -> Iterator[nn.Module]:
        """Within the block the student holds the teacher's weights and buffers.

        Values are exchanged inside the same memory, so a compiled or captured student sees
        them. They are exchanged back on leaving, also after an exception.
        """
        self._exchange()
        try:
            yield self.student
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        student = [*self.student.parameters(), *self.student.buffers()]
        teacher = [*self.model.parameters(), *self.model.buffers()]
        for a, b in zip(student, teacher, strict=True):
            if a.dtype != b.dtype:
                raise TypeError(
                    f"`shadow_dtype` must be the student's dtype ({a.dtype}) for a swap, but is"
                    f" {b.dtype} instead; evaluate `teacher.model` itself."
                )
        for a, b in zip(student, teacher, strict=True):
            held = a.clone()
            a.copy_(b)
            b.copy_(held)

    def state_dict(self) -> dict[str, Tensor]:
        """The teacher's tensors under their names, and ``num_updates`` as an int64 scalar."""
        state = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        return {**state, "num_updates": torch.tensor(self.num_updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave; the student is left as it is.

        Raises:
            KeyError: If a tensor is missing or of another model.
            ValueError: If a shape differs.
        """
        own: dict[str, Any] = self.model.state_dict()
        given = {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
        if given.keys() != own.keys() or "num_updates" not in state:
            different = sorted((given.keys() ^ own.keys()) or {"num_updates"})
            raise KeyError(
                "`state` must hold the teacher's own tensors,"
                f" but differs in {', '.join(different)} instead."
            )
        for name, tensor in own.items():
            if tensor.shape != given[name].shape:
                raise ValueError(
                    f"`state['model.{name}']` must have the shape {list(tensor.shape)},"
                    f" but has {list(given[name].shape)} instead."
                )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(given[name])
        self.num_updates = int(state["num_updates"])
