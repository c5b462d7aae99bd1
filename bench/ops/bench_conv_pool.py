"""`conv_pool`, with and without gradients, against each order of PyTorch's layers.

    python -m pytest bench/ops/bench_conv_pool.py --benchmark-enable -s

`-k ratios` times the providers by turns, so that a busy machine meets all of them alike.
"""

from __future__ import annotations

import pytest

from smoothdistill import reference
from smoothdistill.benchmark.conv_pool import CASES, PROVIDERS, draw_inputs


# torch.compile imports parts of torch that torch itself deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_conv_pool(provider, case, time_call):
    inputs = draw_inputs(case)
    signals, weight = inputs.signals.double(), inputs.weight.double()
    pooled, choice = reference.conv_pool(signals, weight, inputs.bias.double())
    expected = [pooled]
    if case.has_backward:
        gradients = reference.conv_pool_backward(
            inputs.grad.double(), choice, signals, weight, case.needs_signals
        )
        expected += [gradient for gradient in gradients if gradient is not None]
    time_call(PROVIDERS[provider].make(case), expected, case)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ratios(print_ratios):
    print_ratios("conv_pool")
