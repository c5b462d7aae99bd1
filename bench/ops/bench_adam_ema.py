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
from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.benchmark.workload import NUM_CALLS_BEFORE_COMPARISON
from smoothdistill.ops import adam_ema_


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


def half_calls(shapes, dtype):
    """Half weights beside float32 moments and teacher; PyTorch keeps its moments in half, too."""
    weights, grads = ([t.to(dtype) for t in make_tensors(shapes, seed=s)] for s in (0, 1))
    exp_avgs, exp_avg_sqs = ([torch.zeros(w.shape) for w in weights] for _ in range(2))
    teacher, averages = ([w.float() for w in weights] for _ in range(2))
    theirs = [torch.nn.Parameter(w.clone()) for w in weights]
    for parameter, gradient in zip(theirs, grads, strict=True):
        parameter.grad = gradient
    plain = [parameter.detach() for parameter in theirs]
    optimizer = torch.optim.Adam(theirs, lr=LEARNING_RATE, fused=True)

    def ours() -> None:
        adam_ema_(
            weights, grads, exp_avgs, exp_avg_sqs, teacher, lr=LEARNING_RATE, step=1, decay=DECAY
        )

    def rival() -> None:
        optimizer.step()
        torch._foreach_lerp_(averages, [p.float() for p in plain], 1.0 - DECAY)

    ours()
    rival()
    for mine, other in zip([*weights, *teacher], [*plain, *averages], strict=True):
        near = 2 * torch.finfo(dtype).eps * other.abs() + 0.1 * LEARNING_RATE
        assert ((mine - other).abs() <= near).all(), "other results: not timed"
    return {"adam_ema_": ours, "Adam(fused) + _foreach_lerp_": rival}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_half_ratios(case, dtype, capsys):
    timings = time_in_turns(half_calls(case.shapes, dtype))
    ours, other = timings.values()
    ratio = compare(ours, other)
    with capsys.disabled():
        print(
            f"\n{case.name}, {dtype}: {1e6 * ours.median:.1f} us, {ratio.median:.2f} times faster "
            f"({ratio.low:.2f} to {ratio.high:.2f}) than Adam(fused) + _foreach_lerp_"
        )
