"""`MultitaskKDLoss`: the op over named tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from smoothdistill.ops import multitask_kd_loss
from smoothdistill.optim import MultitaskKDLoss

TASKS = {"activity": 12, "placement": 3}
Batch = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


@pytest.fixture
def batch() -> Batch:
    """Logits of student and teacher, and targets, of 17 rows."""
    generator = torch.Generator().manual_seed(0)
    logits = [
        {task: torch.randn(17, classes, generator=generator) for task, classes in TASKS.items()}
        for _ in range(2)
    ]
    targets = {
        task: torch.randint(0, classes, (17,), generator=generator)
        for task, classes in TASKS.items()
    }
    return logits[0], logits[1], targets


def _listed(batch: Batch) -> tuple[list[Tensor], ...]:
    return tuple(list(values.values()) for values in batch)


def _assert_same(a: Any, b: Any) -> None:
    for one, two in zip(a, b, strict=True):
        assert torch.equal(one, two)


def test_defaults_are_the_papers(batch: Batch) -> None:
    expected = multitask_kd_loss(
        *_listed(batch), task_weights=0.5, distill_weight=0.5, temperature=3.0
    )
    _assert_same(MultitaskKDLoss()(*batch), expected)


def test_numbers_by_task(batch: Batch) -> None:
    loss = MultitaskKDLoss(
        task_weights={"placement": 0.2, "activity": 0.8},
        distill_weight={"placement": 0.1, "activity": 0.9},
        temperature={"placement": 2.0, "activity": 4.0},
        label_smoothing={"placement": 0.0, "activity": 0.1},
    )
    expected = multitask_kd_loss(
        *_listed(batch),
        task_weights=[0.8, 0.2],
        distill_weight=[0.9, 0.1],
        temperature=[4.0, 2.0],
        label_smoothing=[0.1, 0.0],
    )
    _assert_same(loss(*batch), expected)


def test_order_is_the_students(batch: Batch) -> None:
    student, teacher, targets = batch
    weights = {"activity": 0.8, "placement": 0.2}
    loss = MultitaskKDLoss(task_weights=weights)
    turned = {task: student[task] for task in reversed(student)}
    plain, other = loss(student, teacher, targets), loss(turned, teacher, targets)
    assert torch.equal(plain.cross_entropy.flip(0), other.cross_entropy)
    assert torch.equal(plain.num_correct.flip(0), other.num_correct)
    # The sum of two terms, in the other order.
    assert abs(float(plain.total) - float(other.total)) <= 1e-6


def test_without_a_teacher_there_is_no_distillation(batch: Batch) -> None:
    output = MultitaskKDLoss()(batch[0], None, batch[2])
    assert output.distillation.tolist() == [0.0, 0.0]
    assert float(output.total) == pytest.approx(float(output.cross_entropy.mean()), rel=1e-6)


def test_gradient_reaches_the_student_alone(batch: Batch) -> None:
    student, teacher, targets = batch
    for logits in (*student.values(), *teacher.values()):
        logits.requires_grad_()
    MultitaskKDLoss()(student, teacher, targets).total.backward()
    assert all(logits.grad is not None and logits.grad.any() for logits in student.values())
    assert all(logits.grad is None for logits in teacher.values())


def test_class_weights_are_state(batch: Batch) -> None:
    weights = {"placement": torch.tensor([1.0, 2.0, 0.5])}
    loss = MultitaskKDLoss(class_weights=weights)
    expected = multitask_kd_loss(
        *_listed(batch), task_weights=0.5, class_weights=[None, weights["placement"]]
    )
    _assert_same(loss(*batch), expected)
    state = loss.state_dict()
    assert [t.tolist() for t in state.values()] == [[1.0, 2.0, 0.5]]
    other = MultitaskKDLoss(class_weights={"placement": torch.ones(3)})
    other.load_state_dict(state)
    _assert_same(other(*batch), expected)
    assert not list(loss.parameters())
    doubled = loss.double()
    as_doubles = [{t: v.double() for t, v in part.items()} for part in batch[:2]]
    assert doubled(*as_doubles, batch[2]).total.dtype is torch.float64


def test_ignored_rows(batch: Batch) -> None:
    student, teacher, targets = batch
    targets["placement"][:5] = 7
    output = MultitaskKDLoss(ignore_index=7)(student, teacher, {**targets, "activity": targets[
        "activity"].clamp(max=6)})  # fmt: skip
    assert output.num_valid.tolist() == [17, 12]


def test_any_number_of_tasks() -> None:
    generator = torch.Generator().manual_seed(1)
    student = {f"task {i}": torch.randn(4, i + 2, generator=generator) for i in range(9)}
    targets = {task: torch.zeros(4, dtype=torch.int64) for task in student}
    output = MultitaskKDLoss()(student, student, targets)
    assert output.cross_entropy.shape == (9,)
    assert float(output.total) == pytest.approx(float(output.cross_entropy.mean()), rel=1e-5)


@pytest.mark.parametrize("name", ["task_weights", "distill_weight", "temperature"])
def test_a_number_for_each_task_is_demanded(name: str, batch: Batch) -> None:
    sentence = rf"`{name}` must hold a number for the tasks activity, placement, but holds activity"
    with pytest.raises(KeyError, match=sentence):
        MultitaskKDLoss(**{name: {"activity": 1.0}})(*batch)
    with pytest.raises(KeyError, match=r"but holds none instead"):
        MultitaskKDLoss(**{name: {}})(*batch)


def test_every_task_needs_targets_and_teacher_logits(batch: Batch) -> None:
    student, teacher, targets = batch
    with pytest.raises(
        KeyError, match=r"`targets` must hold the tasks .*, but holds activity inst"
    ):
        MultitaskKDLoss()(student, teacher, {"activity": targets["activity"]})
    with pytest.raises(KeyError, match=r"`teacher_logits` must hold the tasks .* but holds none"):
        MultitaskKDLoss()(student, {}, targets)


def test_no_task_at_all() -> None:
    with pytest.raises(ValueError, match=r"`student_logits` must hold at least 1 task"):
        MultitaskKDLoss()({}, None, {})


def test_its_text_shows_the_numbers() -> None:
    text = repr(MultitaskKDLoss(temperature=2.5))
    assert "temperature=2.5" in text
    assert "distill_weight=0.5" in text


def test_compiles_into_one_graph(batch: Batch) -> None:
    loss = MultitaskKDLoss(class_weights={"placement": torch.tensor([1.0, 2.0, 0.5])})
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    _assert_same(compiled(*batch), loss(*batch))
