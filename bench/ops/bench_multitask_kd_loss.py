"""`multitask_kd_loss`, forward and backward, against eager and compiled PyTorch.

    python -m pytest bench/ops/bench_multitask_kd_loss.py --benchmark-enable -s

`-k ratios` times the providers by turns, so that a busy machine meets all of them alike.
"""

from __future__ import annotations

import pytest
import torch

from smoothdistill import reference
from smoothdistill.benchmark import multitask_kd_loss as setup


# torch.compile imports parts of torch that torch itself deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", setup.CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("provider", setup.PROVIDERS)
def test_multitask_kd_loss(provider, case, time_call):
    students, teachers, targets = setup._inputs(case)
    leaves = [s.detach().double().requires_grad_() for s in students]
    num_tasks = len(leaves)
    total, *_ = reference.multitask_kd_loss(
        leaves,
        [t.double() for t in teachers],
        targets,
        task_weights=[setup.TASK_WEIGHT] * num_tasks,
        distill_weight=[setup.DISTILL_WEIGHT] * num_tasks,
        temperature=[setup.TEMPERATURE] * num_tasks,
        label_smoothing=[0.0] * num_tasks,
        class_weights=[None] * num_tasks,
        ignore_index=-100,
    )
    expected = [total.detach(), *torch.autograd.grad(total, leaves)]
    time_call(setup.PROVIDERS[provider].make(case), expected, case)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ratios(print_ratios):
    print_ratios("multitask_kd_loss")
