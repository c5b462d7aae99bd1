"""The step's benchmark: equal networks and losses, floors of the right size, plain figures."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from smoothdistill.benchmark.step import LAYOUTS, PROVIDERS, StepCase, run_steps
from smoothdistill.benchmark.step.floor import BYTES_PER_PARAMETER, build_floor
from smoothdistill.benchmark.step.inference import OURS, inference_calls
from smoothdistill.benchmark.step.networks import conv2d_form, pool_first_form, relu_first_form
from smoothdistill.benchmark.step.parts import time_parts_of_tuned
from smoothdistill.benchmark.step.products import products_of_step
from smoothdistill.benchmark.step.providers import PreparedStep
from smoothdistill.benchmark.step.run import TUNED, check_equal_losses, prepare_steps
from smoothdistill.commands.bench_steps import part_bars

UNCOMPILED = [name for name in PROVIDERS if "compile" not in name]


@pytest.mark.parametrize(
    ("layout", "form"),
    [
        ("published", conv2d_form),
        ("published", relu_first_form),
        ("published", pool_first_form),
        ("axes", relu_first_form),
        ("axes", pool_first_form),
    ],
)
def test_plain_networks_are_mtl_net(layout, form):
    case = StepCase(layout, 5)
    model = case.model()
    signals, _ = case.batches()[0]
    net = form(model)
    assert not {id(p) for p in net.parameters()} & {id(p) for p in model.parameters()}
    for task, logits in net(net.prepare(signals)).items():
        # float32 sums of 1216 terms in another order: some 1e-7 of values near 1.
        torch.testing.assert_close(logits, model(signals)[task], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_steps_give_the_same_losses(layout):
    case = StepCase(layout, 16)
    left_out = []
    steps = prepare_steps(case, left_out=left_out, names=UNCOMPILED)
    assert set(steps) >= {"ours, float32", "ours, general path", "published form", TUNED}
    # bfloat16 needs instructions that not every processor has.
    assert {row["provider"] for row in left_out} <= {"ours, bfloat16"}
    differences = check_equal_losses(case, steps)
    assert differences[TUNED] == 0.0


def test_a_wrong_step_is_not_timed():
    case = StepCase("axes", 4)
    steps = prepare_steps(case, left_out=[], names={TUNED})
    right = steps[TUNED].step
    steps["published form"] = PreparedStep(
        lambda signals, targets: 1.001 * right(signals, targets), steps[TUNED].prepare
    )
    with pytest.raises(AssertionError, match="published form differs in step 0"):
        check_equal_losses(case, steps)


def test_a_baseline_that_cannot_be_made_is_left_out_with_its_reason(monkeypatch):
    def fail(case):
        raise RuntimeError("no compiler\nmore")

    provider = PROVIDERS["tuned + torch.compile"]
    monkeypatch.setattr(type(provider), "__setattr__", object.__setattr__)
    monkeypatch.setattr(provider, "make", fail)
    left_out = []
    steps = prepare_steps(StepCase("axes", 4), left_out=left_out, names={provider.name, TUNED})
    assert list(steps) == [TUNED]
    assert [row["reason"] for row in left_out] == ["RuntimeError: no compiler"]


def test_our_own_step_is_never_left_out(monkeypatch):
    def fail(case):
        raise ValueError("broken")

    provider = PROVIDERS["ours, float32"]
    monkeypatch.setattr(type(provider), "__setattr__", object.__setattr__)
    monkeypatch.setattr(provider, "make", fail)
    with pytest.raises(ValueError, match="broken"):
        prepare_steps(StepCase("axes", 4), left_out=[], names={provider.name})


def test_the_floor_has_the_products_of_the_network():
    products = products_of_step(StepCase("published", 1))
    forward = [product for product in products if product.name.endswith("forward")]
    assert len(forward) == 2 * 5
    # Multiply-adds of one window where dead rows are not computed.
    convolutions = 92 * 32 * 9 + 38 * 64 * 32 * 9
    linears = 1216 * 1024 + 1024 * 512 + 512 * 20
    assert sum(product.flops for product in forward) == 2 * 2 * (convolutions + linears)
    backward = sum(product.flops for product in products) - 4 * (convolutions + linears)
    assert backward == 2 * (2 * (convolutions + linears) - 92 * 32 * 9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_form_of_every_product_runs(layout):
    for product in products_of_step(StepCase(layout, 3)):
        assert len(product.forms) >= 4
        for make in product.forms.values():
            make()()


def test_the_floor_takes_one_form_of_each_product():
    case = StepCase("axes", 2)
    floor = build_floor(case, 1000, num_rounds=1)
    floor.products()
    floor.products_and_traffic()
    products = products_of_step(case)
    assert [choice.product for choice in floor.choices] == list(
        dict.fromkeys(product.name for product in products)
    )
    assert sum(choice.count for choice in floor.choices) == len(products)
    # Adam with a moving average: five numbers read and four written, of 4 bytes each.
    assert BYTES_PER_PARAMETER == 4 * (5 + 4)


def test_a_floor_in_bfloat16_multiplies_bfloat16(monkeypatch):
    seen = []
    multiply = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, **out: (seen.append(a), multiply(a, b, **out)))
    build_floor(StepCase("axes", 2), 1000, num_rounds=1, dtype=torch.bfloat16).products()
    assert {tensor.dtype for tensor in seen} == {torch.bfloat16}
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cut_step_has_all_parts(layout):
    parts = time_parts_of_tuned(StepCase(layout, 2), num_rounds=2)
    layers = ("conv 1", "conv 2", "linear 1", "linear 2", "heads")
    expected = {"teacher forward", "loss", "optimizer and average", "rest"}
    expected |= {f"student forward, {layer}" for layer in layers}
    expected |= {f"backward, {layer}" for layer in layers}
    assert set(parts) == expected
    assert all(seconds > 0 for part, seconds in parts.items() if part != "rest")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inference_begins_with_ours(layout):
    calls = inference_calls(layout, 3)
    assert next(iter(calls)) == OURS
    assert len(calls) == (3 if layout == "published" else 2)
    assert not any(logits.requires_grad for call in calls.values() for logits in call().values())


def test_a_quick_run_gives_plain_numbers_and_restores_the_threads():
    before = torch.get_num_threads()
    seen = []
    found = run_steps(layouts=["axes"], batches=[4], quick=True, report=seen.append)
    assert torch.get_num_threads() == before
    assert seen == ["step: axes, batch 4, threads 1", "inference: axes, threads 1"]
    assert json.loads(json.dumps(found)) == found
    assert all(math.isfinite(row["median_microseconds"]) for row in found["times"])
    assert {row["kind"] for row in found["ratios"]} == {"fused", "baseline", "floor"}
    assert {row["provider"] for row in found["parts"]} == {"ours, float32", TUNED}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"layouts": ["x"]}, "`layout` must be one of published, axes, but is 'x' instead."),
        ({"batches": [0]}, "`batch` must be at least 1, but is 0 instead."),
        ({"threads": [1, 0]}, "`threads` must be at least 1, but is 0 instead."),
    ],
)
def test_run_refuses(arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run_steps(**arguments)


def test_bars_are_as_long_as_the_parts():
    rows = [
        {"part": "long", "microseconds": 80.0},
        {"part": "half", "microseconds": 40.0},
        {"part": "rest", "microseconds": -20.0},
    ]
    lines = part_bars(rows)
    assert [line.count("█") for line in lines] == [40, 20, 0]
    shares = [re.search(r"-?[\d.]+ %", line).group() for line in lines]
    assert shares == ["80.0 %", "40.0 %", "-20.0 %"]
