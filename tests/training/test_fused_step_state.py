"""What the fused step keeps, skips, allocates and rounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from smoothdistill.errors import CheckpointError, NonFiniteError
from smoothdistill.ops import _number_formats
from smoothdistill.ops._backend import cpu_kernels
from smoothdistill.ops.linear import PRODUCTS, available_products
from smoothdistill.training import TrainStep

from .fused_runs import Setup, changed, copy_of, near, train, twins

pytestmark = pytest.mark.skipif(cpu_kernels() is None, reason="needs the compiled kernels")

SMALL = Setup(samples=28)
UNIT_BFLOAT16 = 2.0**-8


# --- steps that are skipped ---------------------------------------------------------------------


@pytest.mark.parametrize("check_gradients", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("products", available_products())
def test_a_bad_batch_changes_nothing(value: float, check_gradients: bool, products: str) -> None:
    one, other = twins(SMALL, check_gradients=check_gradients, products=products)
    good, bad = SMALL.one_batch(16, 0), SMALL.one_batch(16, 1)
    bad[0][3, 1, 7] = value
    one(*good)
    other(*good)
    before = copy_of(one)
    assert not math.isfinite(one(*bad).total)
    assert changed(one, before) == {"counters"}
    assert (one.num_steps, one.num_skipped) == (2, 1)
    assert one.teacher.num_updates == 1
    assert float(one(*good).total) == float(other(*good).total)
    assert changed(one, copy_of(other)) == {"counters"}
    assert one.num_skipped == 1


def test_five_in_a_row_are_an_error() -> None:
    step = SMALL.step("fused")
    signals, targets = SMALL.one_batch(16)
    for _ in range(4):
        step(signals * math.nan, targets)
    step(signals, targets)
    for _ in range(4):
        step(signals * math.nan, targets)
    with pytest.raises(NonFiniteError, match="must be finite in at least one of 5 steps in a row"):
        step(signals * math.nan, targets)
    assert step.num_skipped == 9


def test_gradients_that_overflow_are_skipped_where_they_are_looked_at() -> None:
    one, other = twins(SMALL, check_gradients=True)
    batches = SMALL.batches(3)
    one(*batches[0])
    other(*batches[0])
    before = copy_of(one)
    plain = one.method.loss_and_gradients

    def overflowing(*args: Any) -> Any:
        out, gradients = plain(*args)
        return out, {task: gradient * 1e38 * 1e38 for task, gradient in gradients.items()}

    one.method.loss_and_gradients = overflowing  # type: ignore[method-assign]
    assert math.isfinite(one(*batches[1]).total)
    assert changed(one, before) == {"counters"}
    assert one.num_skipped == 1
    del one.method.loss_and_gradients  # type: ignore[method-assign]
    one(*batches[2])
    other(*batches[2])
    assert changed(one, copy_of(other)) == {"counters"}


# --- saving and loading -------------------------------------------------------------------------


def test_a_saved_step_goes_on_with_the_same_bits() -> None:
    setup = Setup(samples=28, last_batch=5, options={"warmup_steps": 5, "weight_decay": 0.1})
    step = setup.step("fused")
    batches = setup.batches(8)
    train(step, batches[:4])
    saved = copy_of(step)
    fresh = setup.step("fused", lr=0.5)
    train(fresh, batches[5:7])
    fresh.load_state_dict(saved)
    assert not changed(fresh, saved)
    assert train(step, batches[4:]) == train(fresh, batches[4:])
    assert not changed(fresh, copy_of(step))


@pytest.mark.parametrize(("first", "then"), [("fused", "general"), ("general", "fused")])
def test_the_other_path_may_go_on(first: str, then: str) -> None:
    step, whole = SMALL.step(first), SMALL.step(first)
    batches = SMALL.batches(6)
    train(step, batches[:3])
    other = SMALL.step(then)
    other.load_state_dict(copy_of(step))
    assert not changed(other, copy_of(step))
    totals = train(other, batches[3:])
    for ours, theirs in zip(totals, train(whole, batches)[3:], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    near(other, whole, 2e-2)


@pytest.mark.parametrize("products", available_products())
def test_who_multiplies_is_kept(products: str) -> None:
    step = SMALL.step("fused", products=products)
    step(*SMALL.one_batch(16))
    saved = copy_of(step)
    assert int(saved["products"]) == list(PRODUCTS).index(products)
    for other in (SMALL.step("fused", products="blas"), SMALL.step("auto")):
        other.load_state_dict(saved)
        assert int(other.state_dict()["products"]) == int(saved["products"])
        other(*SMALL.one_batch(16, 1))
    step(*SMALL.one_batch(16, 1))
    assert not changed(other, copy_of(step))
    general = SMALL.step("general")
    general.load_state_dict(saved)
    assert "products" not in general.state_dict()


@pytest.mark.parametrize(
    "products", [torch.tensor(99), torch.tensor(-1), torch.tensor(0.0), torch.tensor([0])]
)
def test_an_unknown_library_is_refused_and_nothing_changes(products: Tensor) -> None:
    step, other = SMALL.step("fused"), SMALL.step("fused")
    other(*SMALL.one_batch(16))
    before = copy_of(step)
    with pytest.raises(CheckpointError, match=r"`products` must be an int64 number below 3, but"):
        step.load_state_dict({**copy_of(other), "products": products})
    assert not changed(step, before)


# --- memory and time ----------------------------------------------------------------------------


def _largest_allocation(step: TrainStep, batch: tuple[Tensor, dict[str, Tensor]]) -> int:
    """Bytes of the largest tensor that a step allocates."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step(*batch)
    return max((event.self_cpu_memory_usage for event in profile.events()), default=0)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the profiler's own
@pytest.mark.parametrize("options", [{}, {"check_gradients": True}], ids=["plain", "checked"])
def test_nothing_large_is_allocated_twice(options: dict[str, Any]) -> None:
    setup = Setup(samples=100, batch=64)
    step = setup.step("fused", products="native", **options)
    batches = setup.batches(3)
    step(*batches[0])
    assert step._fused is not None
    (plan,) = step._fused._plans.values()
    addresses = [t.data_ptr() for t in _tensors_of(plan)]
    assert _largest_allocation(step, batches[1]) <= 1 << 16
    assert list(step._fused._plans.values()) == [plan]
    assert [t.data_ptr() for t in _tensors_of(plan)] == addresses
    assert _largest_allocation(setup.step("general"), batches[1]) > 1 << 16  # it would be seen


def _tensors_of(thing: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in vars(thing).values():
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | dict):
            values = value.values() if isinstance(value, dict) else value
            found += [v for v in values if isinstance(v, Tensor) and v.numel() > 1 << 14]
        elif type(value).__name__ == "MTLNetColumns":
            found += [*_tensors_of(value), *(t for t in value.trunk if t is not None)]
    return found


def test_the_parts_of_a_step_are_timed() -> None:
    step = SMALL.step("fused", products="native")
    parts = step.time_parts(*SMALL.one_batch(16), num_rounds=3)
    assert all(seconds >= 0.0 for seconds in parts.values())
    for layer in ("conv 1", "conv 2", "linear 1", "linear 2", "heads"):
        for which in ("student forward", "backward"):
            assert any(part.startswith(which) and layer in part for part in parts)
    assert {"rest", "teacher forward", "loss", "Adam and EMA of the other weights"} <= set(parts)
    assert step.teacher.num_updates == 3
    without = Setup(samples=28, method="multitask").step("fused")
    assert "teacher forward" not in without.time_parts(*SMALL.one_batch(16), num_rounds=1)


def test_the_parts_of_the_general_path_are_not_timed() -> None:
    with pytest.raises(ValueError, match="`path` must be fused for its parts to be timed, but is"):
        SMALL.step("general").time_parts(*SMALL.one_batch(16))
    with pytest.raises(ValueError, match="`num_rounds` must be at least 1, but is 0 instead"):
        SMALL.step("fused").time_parts(*SMALL.one_batch(16), num_rounds=0)


# --- bfloat16 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["fused", "general", "auto"])
def test_bfloat16_is_refused_without_instructions_for_it(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SMOOTHDISTILL_BFLOAT16", raising=False)
    monkeypatch.setattr(_number_formats, "_processor_has_bfloat16", lambda: False)
    sentence = r"`precision` must be 'float32' on a device without bfloat16 instructions .*instead"
    with pytest.raises(ValueError, match=sentence):
        SMALL.step(path, precision="bfloat16")
    monkeypatch.setattr(_number_formats, "_processor_has_bfloat16", lambda: True)
    assert SMALL.step(path, precision="bfloat16").precision == "bfloat16"


@pytest.mark.parametrize("path", ["fused", "general"])
@pytest.mark.parametrize("method", ["smooth-distill", "multitask"])
def test_bfloat16_trains_like_float32(
    path: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOOTHDISTILL_BFLOAT16", "emulated")
    setup = Setup(samples=40, method=method, last_batch=5)
    rounded, plain = setup.step(path, precision="bfloat16"), setup.step("layers")
    batches = setup.batches(4) * 5
    curve, truth = train(rounded, batches), train(plain, batches)
    assert curve != truth
    # Weight, input and output of each of five layers round by at most a unit of 2**-8, so logits,
    # and with them the loss, are off by at most 15 units; training averages over steps, whose
    # gradients are off by as much, and must not drift farther.
    for ours, theirs in zip(curve, truth, strict=True):
        assert abs(ours - theirs) <= 15 * UNIT_BFLOAT16 * truth[0]
    assert curve[-1] < 0.95 * curve[0]
    for tensor in (*rounded.model.parameters(), *rounded.teacher.model.parameters()):
        assert tensor.dtype is torch.float32
    assert rounded.is_fused is (path == "fused")
    assert "products" not in rounded.state_dict()


def test_bfloat16_skips_a_bad_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOOTHDISTILL_BFLOAT16", "emulated")
    step = SMALL.step("fused", precision="bfloat16")
    signals, targets = SMALL.one_batch(16)
    step(signals, targets)
    before = copy_of(step)
    step(signals * math.inf, targets)
    assert changed(step, before) == {"counters"}
