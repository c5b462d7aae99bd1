"""What any `adam_ema_` must do. The tests hold the op to it, and the mutants must fail it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from smoothdistill import reference

from .guarded import Guards, assert_within, same_bits

AdamOp = Callable[..., Any]
CPU = torch.device("cpu")
SIZES = (0, 1, 15, 16, 17, 63, 64, 65, 131072 + 1)


@dataclass(frozen=True)
class Options:
    """One call's numbers; the defaults leave nothing at its neutral value."""

    lr: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-6
    weight_decay: float = 0.1
    decoupled: bool = False
    decay: float = 0.9
    grad_scale: float | None = None
    clip_factor: float = 1.0

    def keywords(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        """The keyword arguments of the op."""
        names = ("lr", "betas", "eps", "weight_decay", "decoupled", "decay", "clip_factor")
        scale = self.grad_scale
        return {
            **{name: getattr(self, name) for name in names},
            "grad_scale": None
            if scale is None
            else torch.tensor(scale, dtype=dtype, device=device),
        }


OPTIONS = {
    "Adam": Options(),
    "AdamW": Options(decoupled=True),
    "no penalty": Options(weight_decay=0.0),
    "defaults": Options(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decay=0.999),
    "scaled and clipped": Options(grad_scale=1024.0, clip_factor=0.25),
    "copies": Options(decay=0.0),
    "holds the teacher": Options(decay=1.0),
    "no momentum": Options(betas=(0.0, 0.0)),
    "low momentum": Options(betas=(0.3, 0.5)),
    "no learning": Options(lr=0.0),
}


@dataclass
class State:
    """The five lists of a call, and the number of updates made."""

    params: list[Tensor]
    grads: list[Tensor | None]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    teacher: list[Tensor] | None
    steps: list[Tensor] = field(default_factory=list)

    def tensors(self) -> list[Tensor]:
        """Everything that a step may write."""
        return [
            *self.params,
            *self.exp_avgs,
            *self.exp_avg_sqs,
            *(self.teacher or ()),
            *self.steps,
        ]

    def mapped(self, function: Callable[[Tensor], Tensor]) -> State:
        """The same lists of other tensors; the step counts keep their type."""
        return State(
            [function(t) for t in self.params],
            [None if t is None else function(t) for t in self.grads],
            [function(t) for t in self.exp_avgs],
            [function(t) for t in self.exp_avg_sqs],
            None if self.teacher is None else [function(t) for t in self.teacher],
            [t.clone() for t in self.steps],
        )

    def lists(self) -> tuple[Any, ...]:
        """The positional arguments of the op."""
        return self.params, self.grads, self.exp_avgs, self.exp_avg_sqs, self.teacher


def random_state(
    sizes: Iterable[int | tuple[int, ...]],
    *,
    dtype: torch.dtype = torch.float32,
    stored: torch.dtype | None = None,
    device: torch.device = CPU,
    num_updates: int = 6,
    grad_scale: float = 1.0,
    without_grad: Iterable[int] = (),
    has_teacher: bool = True,
    seed: int = 11,
) -> State:
    """Lists of random tensors, weights and gradients `stored`; moments of update 0 are zero."""
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int | tuple[int, ...], scale: float = 1.0, to: Any = dtype) -> Tensor:
        values = torch.randn(size, generator=generator, dtype=torch.float64) * scale
        return values.to(device, to)

    shapes, stored = list(sizes), stored or dtype
    started = 0.0 if num_updates == 0 else 1.0
    return State(
        [draw(size, to=stored) for size in shapes],
        [
            None if i in set(without_grad) else draw(s, grad_scale, stored)
            for i, s in enumerate(shapes)
        ],
        [draw(size, 0.3 * started) for size in shapes],
        [(draw(size).abs() + 0.1) * started for size in shapes],
        [draw(size) for size in shapes] if has_teacher else None,
        [torch.tensor(float(num_updates)) for _ in shapes],
    )


def check_step(
    op: AdamOp, state: State, options: Options, *, counts: bool = True, device: torch.device = CPU
) -> None:
    """One update against the float64 reference, guard bytes, and unchanged gradients.

    The weight of a half format is off by its rounding, too, and the teacher by its share of that.
    """
    guards = Guards()
    oracle = state.mapped(lambda t: t.double())
    start = oracle.mapped(torch.clone)
    actual = state.mapped(guards.place)
    guards.freeze(actual.grads)
    dtype, stored = state.exp_avgs[0].dtype, state.params[0].dtype
    double_keywords = {
        **options.keywords(torch.float64, device),
        "found_inf": None,
    }
    reference.adam_ema_(*oracle.lists(), oracle.steps, **double_keywords)
    number = int(state.steps[0]) + 1
    op(*actual.lists(), step=actual.steps if counts else number, **options.keywords(dtype, device))
    guards.check()
    for i in range(len(state.params)):
        bounds = _bounds(start, oracle, i, options, torch.finfo(dtype).eps)
        if stored is not dtype and state.grads[i] is not None:
            rounding = torch.finfo(stored).eps * (oracle.params[i].abs() + bounds[2])
            rounding += torch.finfo(stored).smallest_normal * torch.finfo(stored).eps
            bounds = (
                *bounds[:2], bounds[2] + rounding, bounds[3] + (1 - options.decay) * rounding
            )  # fmt: skip
        rounded_twice = 1.0 if dtype is torch.float32 else 2.0
        names = ("exp_avgs", "exp_avg_sqs", "params", "teacher")
        for name, bound in zip(names, bounds, strict=True):
            if getattr(state, name) is not None:
                pair = getattr(actual, name)[i], getattr(oracle, name)[i]
                assert_within(*pair, bound * rounded_twice)
    if counts:
        assert [int(s) for s in actual.steps] == [int(s) for s in oracle.steps], "step counts"


def _bounds(
    start: State, end: State, i: int, options: Options, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How far rounding can move the moments, the weight and the teacher. u = eps / 2 an operation.

    gradient g: 4 u G with G the sum of the magnitudes it is made of (factor, product, penalty).
    exp_avg: a lerp, 4 u M (see ema_update_checks) and 4 u M from g, M = b1 |m| + (1 - b1) |G|;
        below b1 = 0.5 its difference is larger than M, so |m| + |G| stands for M.
    exp_avg_sq: constant, product and sum for the old part, 12 u for the new one, at most 12 u V,
        V = b2 v + (1 - b2) G^2.
    weight: the step's numerator 8 u, its root 6 u V / v, three more factors and a division 8 u;
        U is the step of the magnitudes. Decayed weight and the subtraction: 2 u each of |w|.
    teacher: the lerp's 2 eps (|t| + |w|), and the weight's own error.
    """
    beta1, beta2 = options.betas
    weight, teacher = start.params[i].abs(), start.teacher[i].abs() if start.teacher else 0.0
    grad = start.grads[i]
    if grad is None:
        none = torch.zeros_like(weight)
        return none, none, none, 2 * eps * (teacher + weight)
    factor = options.clip_factor / (options.grad_scale or 1.0)
    size = grad.abs() * factor + (0.0 if options.decoupled else options.weight_decay * weight)
    first = start.exp_avgs[i].abs()
    first = first + size if beta1 < 0.5 else beta1 * first + (1 - beta1) * size
    second = beta2 * start.exp_avg_sqs[i] + (1 - beta2) * size**2
    step = float(end.steps[i])
    root = end.exp_avg_sqs[i].sqrt()
    denominator = root / (1 - beta2**step) ** 0.5 + options.eps
    move = options.lr / (1 - beta1**step) * first / denominator
    cancelled = second / end.exp_avg_sqs[i].clamp(min=1e-300)
    bound_weight = eps * (2 * (weight + move) + (8 + 3 * cancelled) * move)
    bound_teacher = (1 - options.decay) * bound_weight + 2 * eps * (teacher + weight + move)
    return 4 * eps * first, 6 * eps * second, bound_weight, bound_teacher


def check_skipped(op: AdamOp, device: torch.device = CPU) -> None:
    """With found_inf nothing moves; with found_inf 0 everything does."""
    for found in (1.0, float("inf"), float("nan")):
        state = random_state((17, 3), device=device)
        guards = Guards()
        guards.freeze(state.tensors())
        flag = torch.tensor([found], device=device)
        op(*state.lists(), step=state.steps, found_inf=flag, **_keywords(device))
        guards.check()
    state = random_state((17, 3), device=device)
    before = state.mapped(torch.clone)
    flag = torch.zeros(1, device=device)
    op(*state.lists(), step=state.steps, found_inf=flag, **_keywords(device))
    for now, then in zip(state.tensors(), before.tensors(), strict=True):
        assert not same_bits(now, then), "a step that is not skipped moves everything"


def check_teacher_at_the_ends(op: AdamOp, device: torch.device = CPU) -> None:
    """Decay 1 leaves the teacher's bits, decay 0 gives it the new weight's."""
    for without_grad in ((), (0, 1)):
        for decay in (0.0, 1.0):
            state = random_state((65, 3), device=device, without_grad=without_grad)
            before = state.mapped(torch.clone)
            op(*state.lists(), step=state.steps, **{**_keywords(device), "decay": decay})
            assert state.teacher is not None
            assert before.teacher is not None
            for i, teacher in enumerate(state.teacher):
                expected = state.params[i] if decay == 0.0 else before.teacher[i]
                assert same_bits(teacher, expected), f"decay {decay}"


def _keywords(device: torch.device) -> dict[str, Any]:
    return OPTIONS["Adam"].keywords(torch.float32, device)


def check_options(
    op: AdamOp,
    options: Options,
    *,
    dtype: torch.dtype,
    stored: torch.dtype | None = None,
    device: torch.device = CPU,
) -> None:
    """Both ways to count, a young and an old state, with and without teacher and gradients."""
    scale = options.grad_scale or 1.0
    for num_updates, counts in ((0, True), (6, False), (2000, True)):
        state = random_state(
            SIZES[:-1],
            dtype=dtype,
            stored=stored,
            device=device,
            num_updates=num_updates,
            grad_scale=scale,
            without_grad=(3,) if counts else (),
        )
        # Without moments the update of a gradient that nearly cancels the penalty is ill posed.
        used = replace(options, weight_decay=0.0) if num_updates == 0 else options
        check_step(op, state, used, counts=counts, device=device)
        check_step(op, replace(state, teacher=None), used, counts=counts, device=device)


def check_half(op: AdamOp, dtype: torch.dtype, device: torch.device = CPU) -> None:
    """Every number of the format is read, and each result rounded to the nearest, ties to even."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    every = every[~every.isinf()].to(device)  # which AdamW may make NaN
    factor = 1.0 - 0.25 * 0.37

    def step(weights: Tensor, gradient: float, decay: float, **options: Any) -> Tensor:
        """The new weights; the teacher follows them."""
        zeros = [torch.zeros(len(weights), device=device) for _ in range(3)]
        grads = torch.full_like(weights, gradient)
        op(
            [weights], [grads], [zeros[0]], [zeros[1]], [zeros[2]],
            step=1, decay=decay, **options,
        )  # fmt: skip
        expected = weights.float() if decay == 0.0 else (1.0 - decay) * weights.float()
        assert torch.equal(zeros[2].nan_to_num(7.0), expected.nan_to_num(7.0))
        return weights

    shrink = {"lr": 0.25, "weight_decay": 0.37, "decoupled": True}
    found = step(every.clone(), 0.0, 0.0, **shrink)
    expected = (every.float() * factor).to(dtype)
    assert torch.equal(found.isnan(), expected.isnan())
    assert same_bits(found.nan_to_num(7.0), expected.nan_to_num(7.0))
    for size in (65519.0, 65520.0, 3e38):  # the largest float16, infinity; bfloat16 goes farther
        weights = torch.zeros(3, dtype=dtype, device=device)
        moved = step(weights, -1.0, 0.75, lr=size, betas=(0.0, 0.0), eps=0.0)
        assert same_bits(moved, torch.full((3,), size, device=device).to(dtype))


def check_everything(op: AdamOp, device: torch.device = CPU) -> None:
    """All of the above."""
    check_skipped(op, device)
    check_teacher_at_the_ends(op, device)
    for dtype in (torch.float32, torch.float64):
        for options in OPTIONS.values():
            check_options(op, options, dtype=dtype, device=device)
    for dtype in (torch.bfloat16, torch.float16):
        check_half(op, dtype, device)
        for options in OPTIONS.values():
            check_options(op, options, dtype=torch.float32, stored=dtype, device=device)
