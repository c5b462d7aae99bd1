"""One Smooth-Distill training step of MTL-net: the published loop, tuned PyTorch, and ours.

All three do the same: forward of student and teacher, both cross-entropies and distillations,
backward, Adam, and the moving average. They start from equal weights, and must give equal losses
over several steps before anything is timed.

Run one thread with ``OMP_NUM_THREADS=1 python -m pytest bench/train/bench_step.py -s
--benchmark-enable``; ``-k ratios`` is the comparison that the README quotes: providers take turns
step by step, so that a change of the machine's speed meets all of them alike.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from smoothdistill.models import MTLNet
from smoothdistill.training import TrainStep

CLASSES = {"activity": 18, "placement": 2}
BATCH, CHANNELS, SAMPLES = 64, 3, 100
LR, DECAY, TEMPERATURE, DISTILL_WEIGHT, TASK_WEIGHT = 1e-3, 0.999, 3.0, 0.5, 0.5
LAYOUTS = ("published", "axes")
NUM_WARMUP, NUM_ROUNDS = 10, 120

Step = Callable[[Tensor, dict[str, Tensor]], "Tensor | float"]


def _eager_loss(student: dict[str, Tensor], teacher: dict[str, Tensor], targets, *, reads: bool):
    """Losses in the published form; `reads` takes every part to the host, as its log does."""
    total = 0.0
    parts = []
    for task, logits in student.items():
        cross_entropy = functional.cross_entropy(logits, targets[task])
        divergence = functional.kl_div(
            functional.log_softmax(logits / TEMPERATURE, dim=1),
            functional.softmax(teacher[task] / TEMPERATURE, dim=1),
            reduction="batchmean",
        )
        distillation = divergence * TEMPERATURE**2
        total = total + TASK_WEIGHT * (cross_entropy + DISTILL_WEIGHT * distillation)
        if reads:
            correct = (logits.argmax(dim=1) == targets[task]).sum()
            parts += [cross_entropy.item(), distillation.item(), correct.item()]
    return total


def published(model: nn.Module) -> Step:
    """Default Adam, a Python loop over the weights for the average, losses read every step."""
    teacher = copy.deepcopy(model).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def step(signals: Tensor, targets: dict[str, Tensor]) -> float:
        optimizer.zero_grad()
        student_logits = model(signals)
        with torch.no_grad():
            teacher_logits = teacher(signals)
        total = _eager_loss(student_logits, teacher_logits, targets, reads=True)
        total.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), model.parameters(), strict=True):
                slow.data = DECAY * slow.data + (1.0 - DECAY) * fast.data
        return total.item()

    return step


def tuned(model: nn.Module) -> Step:
    """The best of plain PyTorch: fused Adam, one `_foreach_lerp_` over cached lists, no reading."""
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    slow, fast = list(teacher.parameters()), list(model.parameters())

    def step(signals: Tensor, targets: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            teacher_logits = teacher(signals)
        total = _eager_loss(model(signals), teacher_logits, targets, reads=False)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(slow, fast, 1.0 - DECAY)
        return total.detach()

    return step


def fused(model: nn.Module) -> Step:
    """`TrainStep`."""
    step = TrainStep(model, "smooth-distill", lr=LR, warmup_steps=0)
    return lambda signals, targets: step(signals, targets).total


PROVIDERS: dict[str, Callable[[nn.Module], Step]] = {
    "published": published,
    "tuned": tuned,
    "fused": fused,
}


def _batch() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    signals = torch.randn(BATCH, CHANNELS, SAMPLES, generator=generator)
    return signals, {
        task: torch.randint(classes, (BATCH,), generator=generator)
        for task, classes in CLASSES.items()
    }


def _steps(layout: str) -> dict[str, Step]:
    """Every provider's step, from equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MTLNet(CLASSES, CHANNELS, SAMPLES, layout=layout)
    return {name: provider(copy.deepcopy(model)) for name, provider in PROVIDERS.items()}


def _assert_equal_losses(steps: dict[str, Step]) -> None:
    signals, targets = _batch()
    for number in range(5):
        totals = {name: float(step(signals, targets)) for name, step in steps.items()}
        # One float32 loss of order 1 differs by a few roundings; Adam's first steps, whose size
        # does not depend on the gradient's, carry those of near-zero gradients into the weights.
        tolerance = 1e-6 if number == 0 else 1e-3
        for name, total in totals.items():
            assert abs(total - totals["published"]) <= tolerance * totals["published"], (
                f"{name} differs in step {number}: {totals}"
            )


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_step(benchmark, provider, layout):
    steps = _steps(layout)
    _assert_equal_losses(steps)
    benchmark.group = f"MTL-net step, {layout}, batch {BATCH}"
    benchmark.extra_info.update(
        torch=torch.__version__, threads=torch.get_num_threads(), device="cpu"
    )
    benchmark.pedantic(steps[provider], args=_batch(), rounds=60, warmup_rounds=NUM_WARMUP)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ratios(layout, capsys):
    steps = _steps(layout)
    _assert_equal_losses(steps)
    signals, targets = _batch()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(NUM_WARMUP + NUM_ROUNDS):
        for name, step in steps.items():
            begun = time.perf_counter()
            step(signals, targets)
            if number >= NUM_WARMUP:
                seconds[name].append(time.perf_counter() - begun)
    lines = [
        f"\nMTL-net step, layout {layout}, batch {BATCH}, one thread, torch {torch.__version__}"
    ]
    for name, values in seconds.items():
        low, median, high = (1e3 * q for q in statistics.quantiles(values, n=4))
        lines.append(f"  {name:10} median {median:7.3f} ms  quartiles {low:.3f} to {high:.3f} ms")
    for name in ("published", "tuned"):
        pairs = zip(seconds[name], seconds["fused"], strict=True)
        low, median, high = statistics.quantiles([theirs / ours for theirs, ours in pairs], n=4)
        lines.append(f"  {name} / fused  {median:.2f}x  quartiles {low:.2f} to {high:.2f}")
    with capsys.disabled():
        print("\n".join(lines))
