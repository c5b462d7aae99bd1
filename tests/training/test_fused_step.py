"""The steps of `MTLNet` by our kernels do what its layers do, but for rounding."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from smoothdistill.methods import Method
from smoothdistill.ops import MultitaskKDOutput
from smoothdistill.ops._backend import cpu_kernels
from smoothdistill.ops.linear import available_products
from smoothdistill.training import TrainStep

from .fused_runs import Setup, changed, copy_of, make_step, near, train, twins

pytestmark = pytest.mark.skipif(cpu_kernels() is None, reason="needs the compiled kernels")

EPS = torch.finfo(torch.float32).eps

SETUPS = {
    "axes": Setup(),
    "published": Setup(layout="published"),
    "multitask": Setup(method="multitask", options={"weight_decay": 0.01}),
    "warm-up": Setup(options={"warmup_steps": 5, "decay": 0.9, "half_life_steps": None}),
    "half-life": Setup(layout="published", options={"half_life_steps": 3.0, "warmup_steps": 0}),
    "adamw": Setup(layout="published", options={"weight_decay": 0.05, "decoupled": True}),
    "smoothing": Setup(method="multitask", options={"label_smoothing": 0.1, "betas": (0.8, 0.99)}),
    "three tasks": Setup(classes={"a": 7, "b": 1, "c": 4}, unlabelled=True, last_batch=5),
    "one task": Setup(classes={"where.it is": 12}, channels=1, samples=29, batch=3),
    "by task": Setup(
        options={
            "distill_weight": {"activity": 0.0, "placement": 1.0},
            "temperature": {"activity": 1.0, "placement": 2.0},
            "task_weights": {"activity": 2.0, "placement": 0.0},
        }
    ),
    "six channels": Setup(channels=6, samples=31, batch=33, last_batch=1),
    "four rows": Setup(layout="published", channels=4, samples=28, method="multitask"),
    "two live rows": Setup(layout="published", channels=6, samples=31, last_batch=3),
    "three live rows": Setup(layout="published", channels=9, samples=28, batch=70),
    "whole windows": Setup(samples=100, batch=64, last_batch=17),
}


# --- kernels against layers -----------------------------------------------------------------------
# NOTE [How far paths may part]
# Two paths round differently in each operation, and training amplifies that by two sharp edges: a
# sum near zero opens a ReLU or shuts it, and Adam divides a gradient that is nearly zero by its own
# size. How much is a property of the problem, so it is measured: by how far the layers go astray
# from themselves in float64, and twice more from weights moved by half a rounding. The fused path,
# and the general one with our kernels, may go 3 times as far as the farthest of them.
# With Adam's eps above the noise of the gradients its edge is gone, and over some steps a ReLU
# rarely turns: there, curves are compared step by step. Nearly all keep to 10 roundings; the floor
# of 1,000 has room for one turned ReLU, which changes a gradient by some thousandths. Over 200
# steps with the usual eps each run meets edges of its own, some early, some late; so what is
# compared there is how far each gets in the whole run.

_BLUNT = {"eps": 1e-4}


@pytest.mark.parametrize("name", SETUPS)
def test_the_paths_agree_step_by_step(name: str) -> None:
    setup = replace(SETUPS[name], options=SETUPS[name].options | _BLUNT)
    batches = setup.batches(4) * (2 if name == "whole windows" else 6)
    runs = Runs(setup, batches)
    floor = 1000 * EPS * runs.truth[0]
    fused, general, *others = (list(accumulate(errors, max)) for errors in runs.errors())
    for number, distances in enumerate(zip(fused, general, strict=True)):
        allowed = 3.0 * max(errors[number] for errors in others) + floor
        assert max(distances) <= allowed, f"step {number}"
    runs.check_state()


@pytest.mark.parametrize(
    "setup",
    [
        Setup(samples=28, unlabelled=True, last_batch=7),
        Setup("published", samples=28, method="multitask", last_batch=7),
    ],
    ids=["axes, smooth-distill", "published, multitask"],
)
def test_the_paths_agree_over_200_steps(setup: Setup) -> None:
    runs = Runs(setup, setup.batches(8) * 25)
    fused, general, *others = (max(errors) for errors in runs.errors())
    assert max(fused, general) <= 3.0 * max(others)
    runs.check_state()
    curve = runs.curves[0]
    assert curve[-1] < 0.5 * curve[0]


class Runs:
    """The same batches by the fused path, the general one, three times by layers; in float64."""

    def __init__(self, setup: Setup, batches: list[tuple[Tensor, dict[str, Tensor]]]) -> None:
        self.steps = [setup.step(path) for path in ("fused", "general", *["layers"] * 3)]
        for seed, step in enumerate(self.steps[3:]):
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in step.model.parameters():
                    noise = torch.rand(parameter.shape, generator=generator) - 0.5
                    parameter *= 1.0 + EPS * noise
        self.exact = setup.step("layers", torch.float64)
        self.truth = train(self.exact, batches)
        self.curves = [train(step, batches) for step in self.steps]
        assert self.steps[0]._fused is not None
        assert self.steps[0]._fused._plans, "the fused path was not taken"
        assert [step._fused for step in self.steps[1:]] == [None] * 4

    def errors(self) -> list[list[float]]:
        """Of each run at each step."""
        return [
            [abs(a - b) for a, b in zip(curve, self.truth, strict=True)] for curve in self.curves
        ]

    def check_state(self) -> None:
        """Weights, teacher and moments as near as the layers'; counts equal."""
        floors = {"student.": 1e-4, "teacher.": 1e-4, ".exp_avg": 2e-3, ".exp_avg_sq": 2e-3}
        for part, floor in floors.items():
            distances = [_distance(step, self.exact, part) for step in self.steps]
            assert max(distances[:2]) <= 3.0 * max(distances[2:]) + floor, part
        found = self.steps[0].state_dict()
        for key, count in self.exact.state_dict().items():
            if key.endswith(".step") or not count.is_floating_point():
                assert torch.equal(found[key], count), key


@pytest.mark.parametrize("name", SETUPS)
def test_gradients_at_equal_weights(name: str) -> None:
    """Along a run of the fused path: each gradient against autograd's in float64.

    They are sums of at most some thousand terms over five layers, whose roundings are of either
    sign: 1e-5 of a tensor's size is well above them, and below what one turned ReLU does, which
    one of the steps may meet.
    """
    setup = SETUPS[name]
    step = setup.step("fused")
    assert step._fused is not None
    num_turned = 0
    for signals, targets in setup.batches(4):
        plan, _ = step._fused.loss(signals, targets)
        found = [gradient.clone() for gradient in step._fused.gradients(plan)]
        student, teacher = (
            copy.deepcopy(model).double() for model in (step.model, step.teacher.model)
        )
        taught = teacher(signals.double()) if step.method.needs_teacher_logits else None
        total = step.method.loss(student(signals.double()), taught, targets).total
        gradients = torch.autograd.grad(total, list(student.parameters()))
        num_turned += any(
            float((ours - exact).norm()) > 1e-5 * float(exact.norm()) + 1e-12
            for ours, exact in zip(found, gradients, strict=True)
        )
        step(signals, targets)
    assert num_turned <= 1


def _distance(step: TrainStep, exact: TrainStep, part: str) -> float:
    """Of all tensors of a part, as a share of their size."""
    found, truth = step.state_dict(), exact.state_dict()
    names = [
        name
        for name, tensor in truth.items()
        if (name.startswith(part) or name.endswith(part)) and tensor.is_floating_point()
    ]
    assert names
    squares = [((found[n].double() - truth[n].double()) ** 2).sum() for n in names]
    sizes = [(truth[n].double() ** 2).sum() for n in names]
    return float((torch.stack(squares).sum() / torch.stack(sizes).sum()).sqrt())


def test_the_parts_of_the_loss_agree() -> None:
    for name in ("axes", "three tasks", "smoothing"):
        setup = SETUPS[name]
        one, other = setup.step("fused"), setup.step("layers")
        for batch in setup.batches(4):
            ours, theirs = one(*batch), other(*batch)
            assert not ours.total.requires_grad
            for key in ("cross_entropy", "distillation"):
                torch.testing.assert_close(
                    getattr(ours, key), getattr(theirs, key), rtol=1e-4, atol=1e-5
                )
            assert torch.equal(ours.num_valid, theirs.num_valid)
            assert torch.equal(ours.num_correct, theirs.num_correct)


@pytest.mark.parametrize("products", [*available_products(), None])
def test_every_library_gives_the_same_steps(products: str | None) -> None:
    for setup in (Setup(), Setup(samples=100, batch=70)):
        one, other = setup.step("fused", products=products), setup.step("layers")
        batches = setup.batches(2)
        for ours, theirs in zip(train(one, batches), train(other, batches), strict=True):
            # Sums of at most 1,216 terms in another order, over five layers, and two steps.
            assert ours == pytest.approx(theirs, rel=1e-5)
        assert one.is_fused
        near(one, other, 2e-3)


def test_a_result_is_not_overwritten_by_the_next_step() -> None:
    setup = Setup()
    step = setup.step("fused")
    first, second = setup.batches(2)
    out = step(*first)
    before = [part.clone() for part in out]
    step(*second)
    assert all(torch.equal(part, old) for part, old in zip(out, before, strict=True))


def test_signals_in_any_memory_are_taken() -> None:
    setup = Setup()
    signals, targets = setup.one_batch(16)
    plain = setup.step("fused")
    plain(signals, targets)
    across = signals.transpose(1, 2).contiguous().transpose(1, 2)
    every_other = torch.stack([signals, signals], dim=3)[..., 0]
    negated = torch._neg_view(-signals)
    for view in (across, every_other, signals.clone().requires_grad_()):
        step = setup.step("fused")
        step(view, targets)
        assert not changed(step, copy_of(plain))
    step = setup.step("auto")
    step(negated, targets)
    near(step, plain, 1e-3)


def test_gradients_of_the_weights_are_left_alone() -> None:
    setup = Setup()
    step = setup.step("fused")
    weight = step.model.conv1.weight
    weight.grad = torch.ones_like(weight)
    step(*setup.one_batch(16))
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert all(p.grad is None for p in step.model.parameters() if p is not weight)


def test_a_step_under_no_grad_trains_like_any_other() -> None:
    setup = Setup()
    for products in available_products():
        one, other = twins(setup, products=products)
        one(*setup.one_batch(16))
        with torch.no_grad():
            other(*setup.one_batch(16))
        assert not changed(other, copy_of(one))
        with torch.inference_mode():
            one(*setup.one_batch(9))
        other(*setup.one_batch(9))
        assert not changed(other, copy_of(one))
        one(*setup.one_batch(9, seed=1))  # in the memory that was made in inference mode


# --- the same bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [16, 64, 130])
def test_threads_do_not_change_a_bit(batch: int) -> None:
    setup = Setup(samples=100, batch=batch)
    batches = setup.batches(3)
    saved = []
    for num_threads in (1, 2):
        step = setup.step("fused", products="native")
        try:
            torch.set_num_threads(num_threads)
            train(step, batches)
        finally:
            torch.set_num_threads(1)
        saved.append(step)
    assert not changed(saved[0], copy_of(saved[1]))


def test_batches_of_any_size_follow_each_other() -> None:
    """More sizes than are kept ready, there and back, against steps that keep none."""
    setup = Setup(samples=28)
    one, other = twins(setup)
    sizes = (16, 5, 16, 70, 1, 64, 33, 130, 5, 16, 70, 2, 16)
    for seed, size in enumerate(sizes):
        batch = setup.one_batch(size, seed)
        assert other._fused is not None
        other._fused._plans.clear()
        assert float(one(*batch).total) == float(other(*batch).total)
    assert not changed(one, copy_of(other))


def test_a_batch_leaves_nothing_behind_for_a_smaller_one() -> None:
    setup = Setup(samples=28)
    one, other = twins(setup)
    wild = setup.one_batch(16)[0] * 1e6, setup.one_batch(16)[1]
    before = copy_of(one)
    assert one._fused is not None
    one._fused.loss(*wild)
    assert not changed(one, before)
    for size in (9, 16, 3):
        batch = setup.one_batch(size)
        assert float(one(*batch).total) == float(other(*batch).total)
    assert not changed(one, copy_of(other))


def test_looking_at_the_gradients_changes_no_bit() -> None:
    for setup in (Setup(), SETUPS["three tasks"], SETUPS["adamw"], SETUPS["whole windows"]):
        one, other = twins(setup, products="native")
        other._check_gradients = True
        for batch in setup.batches(5):
            assert float(one(*batch).total) == float(other(*batch).total)
        assert not changed(one, copy_of(other))
        assert one.num_skipped == 0


# --- methods ------------------------------------------------------------------------------------


class Brier(Method):
    """A loss that knows nothing of fused steps: squares of probabilities, by autograd."""

    name: ClassVar[str] = "brier"
    loses = ()  # tasks that the loss does not look at

    @property
    def needs_teacher_logits(self) -> bool:
        return True

    def loss(
        self,
        student_logits: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor] | None,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        assert teacher_logits is not None
        parts = []
        for task in self.tasks:
            if task in self.loses:
                parts.append(torch.zeros(()))
                continue
            chances = student_logits[task].softmax(dim=1)
            hot = nn.functional.one_hot(targets[task], chances.shape[1])
            taught = teacher_logits[task].softmax(dim=1)
            parts.append(((chances - 0.9 * hot - 0.1 * taught) ** 2).sum(dim=1).mean())
        total = torch.stack(parts)
        counts = torch.zeros(len(self.tasks), dtype=torch.int64)
        return MultitaskKDOutput(
            total.sum(), total.detach(), torch.zeros(len(self.tasks)), counts, counts
        )


@pytest.mark.parametrize("check_gradients", [False, True])
@pytest.mark.parametrize("loses", [(), ("activity",), ("placement",)])
def test_a_method_of_ones_own_gives_the_same(loses: tuple[str, ...], check_gradients: bool) -> None:
    setup = Setup()
    method = Brier(tuple(setup.classes), {"warmup_steps": 3})
    method.loses = loses
    options: dict[str, Any] = {"weight_decay": 0.1, "check_gradients": check_gradients}
    one, other = (
        make_step(setup.model(), copy.deepcopy(method), path, **options)
        for path in ("fused", "layers")
    )
    batches = setup.batches(4)
    for ours, theirs in zip(train(one, batches), train(other, batches), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    near(one, other, 5e-3)
    counts = [float(one.optimizer.state_of(head.weight)["step"]) for head in one.model.heads]
    assert counts == [0.0 if task in loses else 4.0 for task in setup.classes]


@pytest.mark.parametrize("check_gradients", [False, True])
@pytest.mark.parametrize("tasks", [("a",), ("b",), ("c", "a"), ("c", "b", "a")])
def test_a_method_may_leave_tasks_out(tasks: tuple[str, ...], check_gradients: bool) -> None:
    setup = Setup(classes={"a": 5, "b": 3, "c": 4})
    one, other = (
        setup.step(path, tasks=tasks, check_gradients=check_gradients)
        for path in ("fused", "layers")
    )
    batches = setup.batches(4)
    for ours, theirs in zip(train(one, batches), train(other, batches), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    near(one, other, 5e-3)
