"""`ema_update_` against a cached `torch._foreach_lerp_` and the reference.

    python -m pytest bench/ops/bench_ema_update.py --benchmark-enable -s

`-k ratios` times the providers by turns, so that a busy machine meets all of them alike.
"""

from __future__ import annotations

import pytest

from smoothdistill import reference
from smoothdistill.benchmark.ema_update import CASES, DECAY, PROVIDERS
from smoothdistill.benchmark.tensors import make_tensors
from smoothdistill.benchmark.workload import NUM_CALLS_BEFORE_COMPARISON


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_ema_update(provider, case, time_call):
    teacher, student = ([t.double() for t in make_tensors(case.shapes, seed=s)] for s in (0, 1))
    for _ in range(NUM_CALLS_BEFORE_COMPARISON):
        reference.ema_update_(teacher, student, decay=DECAY)
    time_call(PROVIDERS[provider].make(case), teacher, case)


def test_ratios(print_ratios):
    print_ratios("ema_update_")
