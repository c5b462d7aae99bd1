"""`multitask_kd_loss_and_gradients`: `multitask_kd_loss` and its backward pass, without a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from smoothdistill import reference
from smoothdistill.ops import multitask_kd_loss, multitask_kd_loss_and_gradients
from smoothdistill.optim import MultitaskKDLoss

from .guarded import same_bits

CLASSES = (5, 1, 18)


def _inputs(
    batch: int, dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(batch)

    def draw() -> list[Tensor]:
        return [
            torch.randn(batch, size, generator=generator, dtype=torch.float64).to(device, dtype)
            for size in CLASSES
        ]

    targets = [torch.randint(size, (batch,), generator=generator) for size in CLASSES]
    targets[0][batch // 2] = -100
    return draw(), draw(), [t.to(device) for t in targets]


OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "numbers": {"task_weights": 0.5, "distill_weight": 2.0, "temperature": 1.0},
    "by task": {
        "task_weights": [1.0, 0.0, 2.0],
        "distill_weight": (0.0, 1.0, 0.5),
        "temperature": [1.0, 2.0, 3.0],
        "label_smoothing": [0.0, 0.1, 1.0],
    },
    "classes": {"class_weights": [None, torch.tensor([2.0]), torch.arange(18.0)]},
    "index": {"ignore_index": 3},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("has_teacher", [True, False])
def test_it_is_the_loss_and_its_backward_pass(
    options: str, dtype: torch.dtype, has_teacher: bool, device: torch.device
) -> None:
    for batch in (1, 2, 17, 64):
        students, teachers, targets = _inputs(batch, dtype, device)
        given = dict(OPTIONS[options])
        if "class_weights" in given:
            given["class_weights"] = [
                None if w is None else w.to(device, dtype) for w in given["class_weights"]
            ]
        targets[0].masked_fill_(targets[0] == -100, given.get("ignore_index", -100))
        leaves = [logits.clone().requires_grad_() for logits in students]
        taught = teachers if has_teacher else None
        expected = multitask_kd_loss(leaves, taught, targets, **given)
        expected.total.backward()
        out, gradients = multitask_kd_loss_and_gradients(students, taught, targets, **given)
        for found, right in zip(out, expected, strict=True):
            assert same_bits(found, right.detach())
            assert not found.requires_grad
        for gradient, leaf in zip(gradients, leaves, strict=True):
            assert leaf.grad is not None
            assert same_bits(gradient, leaf.grad)
            assert not gradient.requires_grad


def test_against_the_reference(device: torch.device) -> None:
    students, teachers, targets = _inputs(17, torch.float32, device)
    out, gradients = multitask_kd_loss_and_gradients(
        students, teachers, targets, temperature=2.0, label_smoothing=0.1
    )
    exact = [logits.double().requires_grad_() for logits in students]
    total, *_ = reference.multitask_kd_loss(
        exact, [t.double() for t in teachers], targets, task_weights=[1.0] * 3,
        distill_weight=[0.5] * 3, temperature=[2.0] * 3, label_smoothing=[0.1] * 3,
        class_weights=[None] * 3, ignore_index=-100,
    )  # fmt: skip
    # Means over 17 rows of sums over at most 18 classes, of numbers of some units.
    close = {"rtol": 0.0, "atol": 64 * torch.finfo(torch.float32).eps}
    torch.testing.assert_close(out.total.double(), total.detach(), **close)
    for gradient, right in zip(gradients, torch.autograd.grad(total, exact), strict=True):
        torch.testing.assert_close(gradient.double(), right, **close)


def test_logits_with_a_gradient_are_taken_and_left_alone(device: torch.device) -> None:
    students, teachers, targets = _inputs(6, torch.float32, device)
    plain = multitask_kd_loss_and_gradients(students, teachers, targets)
    leaves = [logits.clone().requires_grad_() for logits in students]
    taught = [logits.clone().requires_grad_() for logits in teachers]
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            out, gradients = multitask_kd_loss_and_gradients(leaves, taught, targets)
        assert torch.equal(out.total, plain[0].total)
        assert all(torch.equal(a, b) for a, b in zip(gradients, plain[1], strict=True))
        assert not any(t.requires_grad for t in (*out, *gradients))
    assert all(t.grad is None for t in (*leaves, *taught))


def test_half_precision_is_widened(device: torch.device) -> None:
    students, teachers, targets = _inputs(6, torch.bfloat16, device)
    out, gradients = multitask_kd_loss_and_gradients(students, teachers, targets)
    wide = multitask_kd_loss_and_gradients(
        [t.float() for t in students], [t.float() for t in teachers], targets
    )
    assert same_bits(out.total, wide[0].total)
    assert all(same_bits(a, b) for a, b in zip(gradients, wide[1], strict=True))


def test_views_are_taken(device: torch.device) -> None:
    students, teachers, targets = _inputs(6, torch.float32, device)
    plain = multitask_kd_loss_and_gradients(students, teachers, targets)
    turned = [[t.t().contiguous().t() for t in each] for each in (students, teachers)]
    spaced = [torch.stack([t, t], dim=1)[:, 0] for t in targets]
    out, gradients = multitask_kd_loss_and_gradients(*turned, spaced)
    assert same_bits(out.total, plain[0].total)
    assert all(torch.equal(a, b) for a, b in zip(gradients, plain[1], strict=True))


BAD: dict[str, tuple[Callable[..., Any], type[Exception], str]] = {
    "no task": (lambda s, t, y: ([], None, []), ValueError, "must hold at least 1 task"),
    "targets": (lambda s, t, y: (s, t, y[:1]), ValueError, "`targets` must hold as many tensors"),
    "teachers": (lambda s, t, y: (s, t[:1], y), ValueError, "`teacher_logits` must hold as many"),
    "rows": (
        lambda s, t, y: ([z[:0] for z in s], None, [z[:0] for z in y]),
        ValueError,
        r"`student_logits\[0\]` must hold at least 1 row, but holds 0",
    ),
    "dtype": (lambda s, t, y: ([z.int() for z in s], None, y), TypeError, r"`student_logits\[0\]`"),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_as_by_the_loss(name: str) -> None:
    change, error, sentence = BAD[name]
    arguments = change(*_inputs(4, torch.float32, torch.device("cpu")))
    messages = []
    for function in (multitask_kd_loss, multitask_kd_loss_and_gradients):
        with pytest.raises(error, match=sentence) as caught:
            function(*arguments)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("number", [{"temperature": 0.0}, {"task_weights": -1.0}])
def test_bad_numbers_are_refused(number: dict[str, float], device: torch.device) -> None:
    students, teachers, targets = _inputs(4, torch.float32, device)
    with pytest.raises(ValueError, match=f"`{next(iter(number))}` must be"):
        multitask_kd_loss_and_gradients(students, teachers, targets, **number)


def test_the_module_gives_the_same(device: torch.device) -> None:
    students, teachers, targets = _inputs(6, torch.float32, device)
    tasks = ("a", "b", "c")
    module = MultitaskKDLoss(
        task_weights={"a": 1.0, "b": 0.5, "c": 2.0},
        temperature=2.0,
        class_weights={"c": torch.arange(18.0)},
    ).to(device)
    given = [dict(zip(tasks, each, strict=True)) for each in (students, teachers, targets)]
    leaves = {task: logits.clone().requires_grad_() for task, logits in given[0].items()}
    expected = module(leaves, *given[1:])
    expected.total.backward()
    out, gradients = module.with_gradients(*given)
    assert same_bits(out.total, expected.total.detach())
    for gradient, leaf in zip(gradients, leaves.values(), strict=True):
        assert leaf.grad is not None
        assert same_bits(gradient, leaf.grad)
    with pytest.raises(KeyError, match="`targets` must hold the tasks a, b, c, but holds a i"):
        module.with_gradients(given[0], given[1], {"a": targets[0]})
