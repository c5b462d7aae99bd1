"""`AdamEMA.step` and `adam_ema_` against `Adam(fused=True).step()` plus a cached `_foreach_lerp_`.

    python -m pytest bench/ops/bench_adam_ema.py --benchmark-enable -s

`-k ratios` times the providers by turns, so that a busy machine meets all of them alike.
"""

from __future__ import annotations

import pytest
import torch

from smoothdistill import reference
from smoothdistill.benchmark.adam_ema import CASES, DECAY, LEARNING_RATE, PROVIDERS
from smoothdistill.benchmark.tensors import make_tensors
from smoothdistill.benchmark.workload import NUM_CALLS_BEFORE_COMPARISON


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_adam_ema(provider, case, time_call):
    params, grads = ([t.double() for t in make_tensors(case.shapes, seed=s)] for s in (0, 1))
    exp_avgs, exp_avg_sqs = ([torch.zeros_like(p) for p in params] for _ in range(2))
    teacher, steps = [p.clone() for p in params], [torch.zeros(()) for _ in params]
    for _ in range(NUM_CALLS_BEFORE_COMPARISON):
        reference.adam_ema_(
            params,
            grads,
            exp_avgs,
            exp_avg_sqs,
            teacher,
            steps,
            lr=LEARNING_RATE,
            decay=DECAY,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=0.0,
            decoupled=False,
            grad_scale=None,
            found_inf=None,
            clip_factor=1.0,
        )
    time_call(PROVIDERS[provider].make(case), [*params, *teacher], case)


def test_ratios(print_ratios):
    print_ratios("adam_ema_")
