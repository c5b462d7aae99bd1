"""`Method.loss_and_gradients` is what autograd makes of `Method.loss`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from smoothdistill.methods import METHODS, Method, build_method
from smoothdistill.ops import MultitaskKDOutput
from smoothdistill.windows import IGNORE_INDEX

CLASSES = {"activity": 5, "placement": 3, "where.it is": 1}
TASKS = tuple(CLASSES)
PARTS = ("cross_entropy", "distillation", "num_correct", "num_valid")

# Those whose loss is of logits alone; `test_contract.py` has all.
OF_LOGITS = sorted(
    name for name, method in METHODS.items() if method.batch_loss is Method.batch_loss
)

# A method is tested with those that it takes.
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "smoothing": {"label_smoothing": 0.2},
    "weights": {"task_weights": {"activity": 2.0, "placement": 0.0, "where.it is": 0.5}},
    "distillation": {"distill_weight": 2.0, "temperature": 1.5},
    "no distillation": {"distill_weight": 0.0},
    "by task": {
        "distill_weight": {"activity": 0.0, "placement": 1.0, "where.it is": 0.1},
        "temperature": {"activity": 1.0, "placement": 2.0, "where.it is": 4.0},
    },
}


def _logits(seed: int, batch: int, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        task: torch.randn(batch, classes, generator=generator, dtype=torch.float64).to(dtype)
        for task, classes in CLASSES.items()
    }


def _targets(batch: int, *, unlabelled: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(9)
    found = {}
    for task, classes in CLASSES.items():
        found[task] = torch.randint(classes, (batch,), generator=generator)
        if unlabelled:
            found[task][torch.rand(batch, generator=generator) < 0.4] = IGNORE_INDEX
    return found


@pytest.fixture(params=OF_LOGITS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _build(name: str, options: Mapping[str, Any]) -> Method:
    return build_method(name, tasks=TASKS, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (name, options)
        for name in OF_LOGITS
        for options, given in OPTIONS.items()
        if given.keys() <= METHODS[name].Options.model_fields.keys()
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 17, 64])
def test_gradients_are_those_of_the_loss(
    name: str, options: str, dtype: torch.dtype, batch: int
) -> None:
    method = _build(name, OPTIONS[options])
    student, teacher = _logits(0, batch, dtype), _logits(1, batch, dtype)
    targets = _targets(batch, unlabelled=batch > 2)
    given = teacher if method.needs_teacher_logits else None
    leaves = {task: logits.clone().requires_grad_() for task, logits in student.items()}
    expected = method.loss(leaves, given, targets)
    expected.total.backward()
    before = [t.clone() for t in (*student.values(), *teacher.values(), *targets.values())]
    out, gradients = method.loss_and_gradients(student, given, targets)
    for now, old in zip(
        (*student.values(), *teacher.values(), *targets.values()), before, strict=True
    ):
        assert torch.equal(now, old)
    # The same kernel twice, or the same formula by autograd: a few roundings of numbers below 2.
    close = {"rtol": 0.0, "atol": 8 * torch.finfo(dtype).eps}
    torch.testing.assert_close(out.total, expected.total.detach(), **close)
    for part in PARTS:
        torch.testing.assert_close(getattr(out, part), getattr(expected, part), **close)
    assert set(gradients) <= set(TASKS)
    for task, leaf in leaves.items():
        assert (task in gradients) == (leaf.grad is not None)
        if leaf.grad is not None:
            torch.testing.assert_close(gradients[task], leaf.grad, **close)
    for tensor in (*out, *gradients.values()):
        assert not tensor.requires_grad


def test_tasks_are_found_by_name(name: str) -> None:
    method = _build(name, {})
    student, teacher, targets = _logits(0, 6, torch.float32), _logits(1, 6, torch.float32), {}
    targets = _targets(6, unlabelled=False)
    given = teacher if method.needs_teacher_logits else None
    out, gradients = method.loss_and_gradients(student, given, targets)
    backwards = [None if d is None else dict(reversed(d.items())) for d in (student, given)]
    other, turned = method.loss_and_gradients(*backwards, dict(reversed(targets.items())))
    assert torch.equal(other.total, out.total)
    assert torch.equal(other.cross_entropy, out.cross_entropy)
    assert all(torch.equal(turned[task], gradients[task]) for task in TASKS)
    more = {"another": torch.zeros(6, 2), **student}
    assert set(method.loss_and_gradients(more, given, targets)[1]) == set(TASKS)
    with pytest.raises(ValueError, match="`student_logits` must have the tasks activity, placeme"):
        method.loss_and_gradients({"activity": student["activity"]}, given, targets)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_does_not_matter_whether_gradients_are_recorded(name: str, mode: Any) -> None:
    method = _build(name, {})
    student, teacher = _logits(0, 6, torch.float32), _logits(1, 6, torch.float32)
    given = teacher if method.needs_teacher_logits else None
    targets = _targets(6, unlabelled=False)
    out, gradients = method.loss_and_gradients(student, given, targets)
    with mode():
        other, found = method.loss_and_gradients(student, given, targets)
    assert torch.equal(other.total, out.total)
    assert all(torch.equal(found[task], gradients[task]) for task in TASKS)


def test_a_loss_that_is_not_finite_is_returned(name: str) -> None:
    method = _build(name, {})
    student, teacher = _logits(0, 6, torch.float32), _logits(1, 6, torch.float32)
    student["activity"][2, 1] = float("nan")
    given = teacher if method.needs_teacher_logits else None
    out, _ = method.loss_and_gradients(student, given, _targets(6, unlabelled=False))
    assert bool(out.total.isnan())


class Squares(Method):
    """A method that gives only its loss, and looks at the first task alone."""

    name: ClassVar[str] = "squares"

    @property
    def needs_teacher_logits(self) -> bool:
        return False

    def loss(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        assert teacher_logits is None
        logits = student_logits[self.tasks[0]]
        total = nn.functional.mse_loss(logits, torch.zeros_like(logits), reduction="sum")
        none = torch.zeros(len(self.tasks))
        return MultitaskKDOutput(total, none, none, none.long(), none.long())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_a_method_without_gradients_of_its_own_is_differentiated(mode: Any) -> None:
    method = Squares(TASKS)
    student = _logits(0, 6, torch.float32)
    with mode():
        out, gradients = method.loss_and_gradients(student, None, {})
    assert not out.total.requires_grad
    assert out.total == student["activity"].square().sum()
    assert list(gradients) == ["activity"]  # the total does not depend on the others
    torch.testing.assert_close(gradients["activity"], 2.0 * student["activity"])
    assert not any(logits.requires_grad for logits in student.values())
