"""`AdamEMA`: Adam or AdamW whose step also moves an EMA teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import is_
from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.ops import adam_ema_

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.optim.ema_teacher import EMATeacher

    _Companions = tuple[list[Tensor], list[dict[str, Tensor]], list[Tensor] | None]

__all__ = ["AdamEMA", "moment_dtype"]

_HALF = (torch.bfloat16, torch.float16)


def moment_dtype(parameter: Tensor) -> torch.dtype:
    """Type of a parameter's two moments."""
    return torch.float32 if parameter.dtype in _HALF else parameter.dtype


class AdamEMA(torch.optim.Optimizer):
    """Adam (or AdamW) and the EMA of the new weights in one pass over memory.

    Its updates and its state ("step", "exp_avg", "exp_avg_sq" a parameter) are those of
    `torch.optim.Adam`, whose `state_dict` it reads and writes.

    Args:
        params: Parameters or parameter groups, float32 or float64; or bfloat16 or float16, whose
            moments are float32: the step is rounded once, when the weights are stored.
        lr: Learning rate, at least 0.
        betas: Decay rates of the two moments, each in [0, 1).
        eps: Added to the denominator, at least 0.
        weight_decay: L2 penalty, at least 0.
        decoupled: False: Adam. True: AdamW, the weights themselves decay.
        teacher: The `EMATeacher` of the model that holds the parameters, or None.
        capturable: As in `torch.optim.Adam`: step counts, the rates and the teacher's count lie on
            the parameters' device, so that no step waits for a GPU (for `found_inf`, say) and a
            CUDA graph can hold one. `write_rates` must be called before a replay.

    Raises:
        ValueError: If a number lies outside its range, a parameter is not the teacher's
            student's, or the teacher of a capturable one has a `schedule`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        decoupled: bool = False,
        teacher: EMATeacher | None = None,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
            "capturable": capturable,
        }
        self.teacher, self.capturable = teacher, capturable
        self._companions: dict[int, _Companions] = {}
        self._rates: list[tuple[float, Tensor]] = []
        self._ticket: Tensor | None = None
        super().__init__(params, defaults)
        if capturable and teacher is not None:
            teacher.count_on(self.param_groups[0]["params"][0].device)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy needs: the teacher, too."""
        return {
            **super().__getstate__(),
            "teacher": self.teacher,
            "capturable": self.capturable,
            "_rates": [],
            "_ticket": None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the groups of `torch.optim.Adam` too, which name the kind of penalty otherwise."""
        super().__setstate__(state)
        self._companions = {}
        for group in self.param_groups:
            group.setdefault("decoupled", bool(group.get("decoupled_weight_decay", False)))
            group["capturable"] = self.capturable
            for param in group["params"]:
                entry = self.state.get(param)
                if entry:
                    place = param.device if self.capturable else torch.device("cpu")
                    entry["step"] = entry["step"].to(place)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`; the moments of half weights stay in float32.

        Raises:
            ValueError: If it does not fit, or is that of an Adam that does something else.
        """
        for group in state_dict["param_groups"]:
            for name in ("maximize", "amsgrad"):
                if group.get(name, False):
                    raise ValueError(
                        f"`state_dict` must be that of an Adam without {name}, but is of one with "
                        "it instead."
                    )
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for number, param in zip(numbers, params, strict=True):
            given = state_dict["state"].get(number, {})
            for name in ("exp_avg", "exp_avg_sq") if param.dtype in _HALF else ():
                if name in given:
                    self.state[param][name] = given[name].to(param.device, torch.float32)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which must belong to the teacher's student."""
        super().add_param_group(param_group)
        self._companions = {}
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def _check_group(self, group: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            if not float(group[name]) >= 0.0:
                raise ValueError(f"`{name}` must be at least 0, but is {group[name]} instead.")
        for index, beta in enumerate(group["betas"]):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"`betas[{index}]` must be in [0, 1), but is {beta} instead.")
        for index, param in enumerate(group["params"]):
            if self.teacher is not None and param not in self.teacher.teacher_of:
                raise ValueError(
                    f"`params[{index}]` must be a parameter of the teacher's student, but is"
                    f" another tensor of shape {list(param.shape)} instead."
                )

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        grad_scale: Tensor | None = None,
        found_inf: Tensor | None = None,
        clip_factor: Tensor | float = 1.0,
    ) -> Any:
        """One update of every parameter, and of the teacher.

        Args:
            closure: Evaluates the model again and returns the loss.
            grad_scale: One float element by which every gradient is divided.
            found_inf: One float element; where it is not 0, nothing moves: neither parameters,
                nor moments, nor step counts, nor the teacher.
            clip_factor: By which every gradient is multiplied.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        teacher = self.teacher
        decay: float | Tensor = 1.0
        if teacher is not None:
            decay = teacher.decay_on_device() if self.capturable else teacher.current_decay()
        if self.capturable and not _is_capturing():
            self.write_rates()
        for index, group in enumerate(self.param_groups):
            params: list[Tensor] = group["params"]
            _, states, averages = self._companions_of(index, params)
            adam_ema_(
                params,
                [param.grad for param in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                averages,
                step=[state["step"] for state in states],
                lr=self._rates[index][1] if self.capturable else float(group["lr"]),
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                decoupled=group["decoupled"],
                decay=decay,
                grad_scale=grad_scale,
                found_inf=found_inf,
                clip_factor=clip_factor,
                ticket=self._ticket_on(params),
            )
        if teacher is not None and self.capturable:
            teacher.follow_up(found_inf)
        elif teacher is not None and not (found_inf is not None and found_inf.item() != 0.0):
            teacher.follow_up()
        return loss

    def write_rates(self) -> None:
        """Write the groups' learning rates to where the steps of a capturable one read them."""
        for index, group in enumerate(self.param_groups):
            rate = float(group["lr"])
            if index == len(self._rates):
                place = torch.empty(1, dtype=torch.float64, device=group["params"][0].device)
                self._rates.append((math.nan, place))
            written, place = self._rates[index]
            if rate != written:
                place.fill_(rate)
                self._rates[index] = (rate, place)

    def _ticket_on(self, params: list[Tensor]) -> Tensor | None:
        """By which a GPU counts steps up in the launch that makes them."""
        if self._ticket is None and self.capturable and params and params[0].is_cuda:
            self._ticket = torch.zeros(1, dtype=torch.int32, device=params[0].device)
        return self._ticket

    def _companions_of(self, index: int, params: list[Tensor]) -> _Companions:
        """State and teacher of each parameter of a group.

        Looking 12 parameters up takes longer than stepping them (a tensor's hash is slow), so the
        dictionaries are remembered; their tensors are not, since users move those about.
        """
        found = self._companions.get(index)
        if found is None or len(found[0]) != len(params) or not all(map(is_, found[0], params)):
            teacher = self.teacher
            found = (
                list(params),
                [self.state_of(param) for param in params],
                None if teacher is None else [teacher.teacher_of[param] for param in params],
            )
            self._companions[index] = found
        return found

    def state_of(self, param: Tensor) -> dict[str, Tensor]:
        """Step count and both moments of a parameter, made at its first step."""
        state: dict[str, Tensor] = self.state[param]
        if not state:
            place = param.device if self.capturable else None
            state["step"] = torch.zeros((), dtype=torch.float32, device=place)
            dtype = moment_dtype(param)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(param, dtype=dtype, requires_grad=False)
        return state


def _is_capturing() -> bool:
    """Whether what is launched now goes into a CUDA graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
