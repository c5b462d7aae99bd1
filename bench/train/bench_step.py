"""One Smooth-Distill training step of MTL-net: the published loop, tuned PyTorch, ours, and floors.

The providers are those of `smoothdistill.benchmark.step`, which `smoothdistill bench step` times
too. They start from equal weights, and must give equal losses over several steps before anything
is timed.

Run one thread with ``OMP_NUM_THREADS=1 python -m pytest bench/train/bench_step.py -s
--benchmark-enable``; ``-k ratios`` is the comparison that the README quotes: providers take turns
step by step, so that a change of the machine's speed meets all of them alike.
"""

from __future__ import annotations

import pytest
import torch

from smoothdistill.benchmark.step import LAYOUTS, PROVIDERS, StepCase, run_steps
from smoothdistill.benchmark.step.floor import build_floor
from smoothdistill.benchmark.step.run import TUNED, check_equal_losses, prepare_steps
from smoothdistill.commands.bench_steps import print_steps

# The compiler of PyTorch 2.13 warns of its own parts, and a warning is an error here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

BATCH = 64
NUM_PARAMETERS = 1_800_084


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_step(benchmark, provider, layout):
    if layout not in PROVIDERS[provider].layouts:
        pytest.skip(f"layout {layout} has nothing that {provider} would leave out")
    case = StepCase(layout, BATCH)
    left_out = []
    steps = prepare_steps(case, left_out=left_out, names={provider, TUNED})
    if left_out:
        pytest.skip(left_out[0]["reason"])
    check_equal_losses(case, steps)
    signals, targets = case.batches()[0]
    step = steps[provider]
    benchmark.group = f"MTL-net step, {case.name}"
    benchmark.extra_info.update(
        torch=torch.__version__, threads=torch.get_num_threads(), device="cpu"
    )
    arguments = (step.prepare(signals), targets)
    benchmark.pedantic(step.step, args=arguments, rounds=60, warmup_rounds=10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_floor(benchmark, layout):
    case = StepCase(layout, BATCH)
    floor = build_floor(case, NUM_PARAMETERS, num_rounds=3)
    benchmark.group = f"MTL-net step, {case.name}"
    benchmark.pedantic(floor.products, rounds=60, warmup_rounds=10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ratios(layout, capsys):
    found = run_steps(layouts=[layout], batches=[BATCH])
    with capsys.disabled():
        print(f"\none thread, torch {torch.__version__}")
        print_steps(found)
