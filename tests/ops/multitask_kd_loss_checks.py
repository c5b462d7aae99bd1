"""What any `multitask_kd_loss` must do. The tests hold the op to it; the mutants must fail it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from smoothdistill import reference

from .guarded import Guards, assert_within, same_bits

LossOp = Callable[..., Any]
CPU = torch.device("cpu")
IGNORED = -100

# Below, at and above the width up to which a head is computed in tiles of 16 rows.
CLASSES = (2, 3, 6, 12, 18, 64, 65, 1000)
ROWS = (1, 15, 16, 17, 300)


@dataclass(frozen=True)
class Case:
    """Heads, their inputs, and the numbers of a call; drawn from a fixed seed."""

    classes: tuple[int, ...] = (12, 3)
    rows: int = 17
    task_weights: tuple[float, ...] = (0.7, 0.4)
    distill_weight: tuple[float, ...] = (0.6, 1.3)
    temperature: tuple[float, ...] = (3.0, 2.0)
    label_smoothing: tuple[float, ...] = (0.0, 0.0)
    has_teacher: bool = True
    has_class_weights: bool = False
    ignored: str = "some"  # "none", "some", "all" or "first task"
    logit_scale: float = 2.0
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default=CPU)

    def inputs(self) -> Inputs:
        """The tensors of the call."""
        generator = torch.Generator().manual_seed(sum(self.classes) * 1000 + self.rows)
        students, teachers, targets, weights = [], [], [], []
        for index, num_classes in enumerate(self.classes):
            drawn = torch.randn(2, self.rows, num_classes, generator=generator, dtype=torch.float64)
            students.append(drawn[0] * self.logit_scale)
            teachers.append(drawn[1] * self.logit_scale + 0.3 * students[-1])
            target = torch.randint(0, num_classes, (self.rows,), generator=generator)
            everything = self.ignored == "all" or (self.ignored == "first task" and index == 0)
            if everything:
                target[:] = IGNORED
            elif self.ignored == "some":
                target[torch.rand(self.rows, generator=generator) < 0.2] = IGNORED
            targets.append(target.to(self.device))
            weights.append(torch.rand(num_classes, generator=generator, dtype=torch.float64) + 0.2)
        return Inputs(
            [s.to(self.device, self.dtype) for s in students],
            [t.to(self.device, self.dtype) for t in teachers] if self.has_teacher else None,
            targets,
            [w.to(self.device, self.dtype) if self.has_class_weights else None for w in weights],
        )

    def numbers(self) -> dict[str, list[float]]:
        """The keyword arguments that are lists of numbers, cut to the number of heads."""
        names = ("task_weights", "distill_weight", "temperature", "label_smoothing")
        num_tasks = len(self.classes)
        return {name: list((getattr(self, name) * num_tasks)[:num_tasks]) for name in names}


@dataclass
class Inputs:
    """The tensors of a call."""

    student: list[Tensor]
    teacher: list[Tensor] | None
    targets: list[Tensor]
    class_weights: list[Tensor | None]


VARIANTS = {
    "plain": Case(ignored="none"),
    "ignored rows": Case(),
    "one head": Case(classes=(6,)),
    "three heads": Case(classes=(2, 18, 7), rows=33),
    "smoothed": Case(label_smoothing=(0.1, 0.3)),
    "all smoothed": Case(label_smoothing=(1.0, 0.0)),
    "weighted": Case(has_class_weights=True),
    "weighted and smoothed": Case(has_class_weights=True, label_smoothing=(0.2, 0.1)),
    "no teacher": Case(has_teacher=False),
    "first task unlabelled": Case(ignored="first task", has_class_weights=True),
    "nothing labelled": Case(ignored="all", label_smoothing=(0.1, 0.1)),
    "no distillation": Case(distill_weight=(0.0, 0.0)),
    "T 1": Case(temperature=(1.0, 1.0)),
    "T 4 and 8": Case(temperature=(4.0, 8.0)),
    "cold": Case(temperature=(0.5, 0.1)),
    "sharp": Case(logit_scale=30.0),
    "extreme": Case(logit_scale=1e4),
    "wide": Case(classes=(65, 130), rows=5, has_class_weights=True, label_smoothing=(0.1, 0.0)),
    "wide, unlabelled": Case(classes=(80, 100), rows=5, ignored="all"),
}


def check_case(op: LossOp, case: Case) -> None:
    """Value, parts, counts and gradient against the float64 reference, and unchanged inputs."""
    check_inputs(op, case, case.inputs())


def check_inputs(op: LossOp, case: Case, inputs: Inputs) -> None:
    """As `check_case`, over tensors that the caller made."""
    expected, gradients = _oracle(case, inputs)
    guards = Guards()
    placed = Inputs(
        [guards.place(s).requires_grad_() for s in inputs.student],
        None if inputs.teacher is None else [guards.place(t) for t in inputs.teacher],
        [guards.place(t) for t in inputs.targets],
        [None if w is None else guards.place(w) for w in inputs.class_weights],
    )
    for tensors in (placed.student, placed.teacher or [], placed.targets, placed.class_weights):
        guards.freeze(tensors)
    if placed.teacher is not None:
        placed.teacher[0].requires_grad_()
    output = op(
        placed.student,
        placed.teacher,
        placed.targets,
        class_weights=placed.class_weights if case.has_class_weights else None,
        **case.numbers(),
    )
    (output[0] * 1.5).backward()  # a factor, lest a backward that ignores its input pass
    guards.check()
    _compare(case, inputs, output, [s.grad for s in placed.student], expected, gradients)
    if placed.teacher is not None:
        leaked = placed.teacher[0].grad
        assert leaked is None or not bool(leaked.any()), "a gradient leaked into the teacher"
    assert not any(part.requires_grad for part in output[1:]), "only the total has a gradient"


def _oracle(case: Case, inputs: Inputs) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    leaves = [s.double().clone().requires_grad_() for s in inputs.student]
    outputs = reference.multitask_kd_loss(
        leaves,
        None if inputs.teacher is None else [t.double() for t in inputs.teacher],
        inputs.targets,
        class_weights=[None if w is None else w.double() for w in inputs.class_weights],
        ignore_index=IGNORED,
        **case.numbers(),
    )
    return outputs, list(torch.autograd.grad(outputs[0] * 1.5, leaves))


def _compare(
    case: Case,
    inputs: Inputs,
    output: Any,
    actual: list[Tensor | None],
    expected: tuple[Tensor, ...],
    gradients: list[Tensor],
) -> None:
    """Bounds: see `_relative` and `_bounds_of_task`; twice that in float64, whose oracle rounds."""
    times = 1.0 if case.dtype is torch.float32 else 2.0
    numbers, total_bound = case.numbers(), torch.zeros((), dtype=torch.float64)
    for task, student in enumerate(inputs.student):
        hard, soft, gradient = _bounds_of_task(case, inputs, task)
        assert_within(output[1][task], expected[1][task], times * hard)
        assert_within(output[2][task], expected[2][task], times * soft)
        given = actual[task]
        assert given is not None, "a head has no gradient"
        assert given.shape == student.shape
        assert given.dtype == student.dtype
        assert_within(given, gradients[task], 1.5 * times * gradient)
        weight, share = numbers["task_weights"][task], numbers["distill_weight"][task]
        total_bound = total_bound + weight * (hard + share * soft)
    assert_within(output[0], expected[0], times * total_bound.to(expected[0].device))
    assert output[3].tolist() == expected[3].tolist(), "num_correct"
    assert output[4].tolist() == expected[4].tolist(), "num_valid"
    assert output[0].dtype is case.dtype


def _relative(case: Case, logits: Tensor, temperature: float) -> float:
    """Relative rounding error of one softmax probability.

    exp and log: 2 ulp each; scale, division and product: 4 eps together; the sum over K classes:
    K / 2 eps; the argument (z - max) / T is off by 1.5 eps of itself, and at most 2 max|z| / T.
    """
    finite = logits[logits.isfinite()].detach().double().abs()
    spread = 2.0 * (float(finite.max()) if finite.numel() else 0.0) / temperature
    return torch.finfo(case.dtype).eps * (8.0 + logits.shape[1] / 2.0 + 1.5 * spread)


def _bounds_of_task(case: Case, inputs: Inputs, task: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds of the cross-entropy, the distillation, and the elements of the gradient.

    Each term of the gradient is a probability or a constant times a factor, and is off by its own
    relative error. The cross-entropy is a mean over rows of log-probabilities, each off by that
    error absolutely and by half an eps of itself. The divergence multiplies the difference of two
    scaled logits, at most `spread`, by a probability. All rows' sums are in double.
    """
    numbers = {name: values[task] for name, values in case.numbers().items()}
    scale = numbers["temperature"]
    student = inputs.student[task].double()
    eps = torch.finfo(case.dtype).eps
    target, weight = inputs.targets[task], inputs.class_weights[task]
    valid = (target != IGNORED).double()
    weights = torch.ones_like(student[0]) if weight is None else weight.double()
    label_weights = weights[target.clamp(min=0)] * valid
    hard_error = _relative(case, student, 1.0)
    smoothing = numbers["label_smoothing"] / student.shape[1]
    shares = (label_weights + numbers["label_smoothing"] * weights.mean()) * valid
    denominator = label_weights.sum().clamp(min=1e-300)
    log_sizes = (student - student.max(1, keepdim=True).values).abs().nan_to_num(0.0, 0.0, 0.0)
    hard = hard_error * shares.sum() / denominator
    hard = hard + 4.0 * eps * (shares * log_sizes.amax(1)).sum() / denominator
    terms = student.softmax(1) * shares[:, None] + smoothing * weights * valid[:, None]
    terms = (
        terms
        + torch.zeros_like(student).scatter(1, target.clamp(min=0)[:, None], 1.0)
        * (label_weights[:, None])
    )
    gradient = numbers["task_weights"] * hard_error * terms / denominator
    soft = torch.zeros((), dtype=torch.float64, device=student.device)
    if inputs.teacher is not None:
        teacher = inputs.teacher[task].double()
        error = max(_relative(case, student, scale), _relative(case, teacher, scale))
        spread = error / (1.5 * eps)
        soft = scale**2 * error * (1.0 + spread) * valid.amax()
        both = ((student / scale).softmax(1) + (teacher / scale).softmax(1)) * valid[:, None]
        factor = numbers["task_weights"] * numbers["distill_weight"] * scale
        gradient = gradient + factor / valid.sum().clamp(min=1.0) * error * both
    # Below 1e-38 a float32 exponential is 0.
    tiny = 1e-37 if case.dtype is torch.float32 else 1e-300
    return hard, soft, gradient.nan_to_num(0.0) + tiny * case.temperature[0] ** 2


def check_special_values(op: LossOp, device: torch.device = CPU) -> None:
    """Ruled-out classes of the teacher, NaN rows, ties, and gradients of ignored NaN rows."""
    for num_classes in (5, 70):
        case = Case(classes=(num_classes, 3), rows=18, ignored="none", device=device)
        inputs = case.inputs()
        assert inputs.teacher is not None
        inputs.teacher[0][:, 1] = -torch.inf
        inputs.teacher[1][4, :2] = -torch.inf
        check_inputs(op, case, inputs)

        inputs = case.inputs()
        inputs.targets[0][3] = IGNORED
        inputs.student[0][3, 0] = torch.nan
        check_inputs(op, case, inputs)  # an ignored row counts for nothing, whatever it holds
        assert torch.isfinite(op(inputs.student, inputs.teacher, inputs.targets)[0])

        inputs = case.inputs()
        inputs.student[0][3:5, 1] = torch.nan
        inputs.student[0][4, 2] = 100.0
        inputs.targets[0][3], inputs.targets[0][4] = 1, 2  # the NaN itself, the largest beside it
        output = op(inputs.student, inputs.teacher, inputs.targets)
        assert bool(output[0].isnan()), "a NaN row gives a NaN loss"
        assert bool(output[1][1].isfinite()), "a NaN stays in its task"
        right = inputs.student[0].argmax(1) == inputs.targets[0]
        right[3:5] = False
        assert int(output[3][0]) == int(right.sum()), "a NaN row is wrong"

        tied = [torch.zeros(4, num_classes, device=device)]
        labels = [torch.tensor([0, 1, 0, 2], device=device)]
        assert int(op(tied, None, labels)[3][0]) == 2, "the lowest index wins a tie"


def check_each_head_is_its_own(op: LossOp, device: torch.device = CPU) -> None:
    """Two heads in one call give the bits of two calls."""
    case = Case(classes=(6, 6), rows=20, device=device)
    inputs = case.inputs()
    both = op(inputs.student, inputs.teacher, inputs.targets, **case.numbers())
    assert inputs.teacher is not None
    for task in range(2):
        one = op(
            [inputs.student[task]],
            [inputs.teacher[task]],
            [inputs.targets[task]],
            **{name: [values[task]] for name, values in case.numbers().items()},
        )
        for whole, part in zip(both[1:], one[1:], strict=True):
            assert same_bits(whole[task : task + 1], part)


def check_everything(op: LossOp, device: torch.device = CPU) -> None:
    """All of the above."""
    check_special_values(op, device)
    check_each_head_is_its_own(op, device)
    for case in VARIANTS.values():
        for dtype in (torch.float32, torch.float64):
            check_case(op, replace(case, dtype=dtype, device=device))
