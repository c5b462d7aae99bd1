"""The products of MTL-net's linear layers, against each order of PyTorch's operands.

    python -m pytest bench/ops/bench_linear.py --benchmark-enable -s

`-k ratios` times the providers by turns, so that a busy machine meets all of them alike.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from smoothdistill import reference
from smoothdistill.benchmark.linear import CASES, PROVIDERS, LinearInputs, draw_inputs
from smoothdistill.benchmark.workload import NUM_CALLS_BEFORE_COMPARISON


def _expected(case):
    given = draw_inputs(case)
    inputs = LinearInputs(*(getattr(given, field.name).double() for field in fields(given)))
    x, dy, gate = (t.t()[None] for t in (inputs.x, inputs.dy, inputs.gate))
    if case.product == "forward":
        return [reference.linear(x, inputs.weight, inputs.bias, True)[0].t()]
    if case.product == "backward_input":
        return [reference.linear_backward_input(dy, inputs.weight, gate, None)[0].t()]
    if case.product == "backward_weight":
        return list(reference.linear_backward_weight(dy, x))
    for _ in range(NUM_CALLS_BEFORE_COMPARISON):
        db = reference.linear_adam_ema_(
            dy, x, inputs.weight, inputs.exp_avg, inputs.exp_avg_sq, inputs.teacher, inputs.step,
            lr=1e-3, decay=0.999, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False,
        )  # fmt: skip
    return [inputs.weight, inputs.teacher, db]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_linear(provider, case, time_call):
    if provider == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    time_call(PROVIDERS[provider].make(case), _expected(case), case)


def test_ratios(print_ratios):
    print_ratios("linear")
