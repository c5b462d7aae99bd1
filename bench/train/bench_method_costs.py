"""What a training step of MTL-net costs by each method that needs no network of another kind.

    OMP_NUM_THREADS=1 python bench/train/bench_method_costs.py [--rounds 25] [--json FILE]

Windows of 3 x 100, 18 activities and 2 placements, batches of 64, one thread; all by turns. The
strongest rival is plain multitask training by PyTorch alone, tuned (fused Adam, pools before
ReLUs), which keeps no average. Ours all keep one, the parts of the loss and the counts of right
answers, and look whether the loss is finite. A step of plain training is three passes of products
and Adam's pass over the weights; a teacher's forward is a fourth pass of products.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import reduce
from operator import add
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smoothdistill.benchmark.step.case import NUM_CLASSES, StepCase
from smoothdistill.benchmark.step.networks import pool_first_form
from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.commands.doctor import describe_machine
from smoothdistill.methods import METHODS, NetworkBuilder, build_method
from smoothdistill.models import MTLNet
from smoothdistill.ops._number_formats import has_bfloat16
from smoothdistill.training import TrainStep
from smoothdistill.workers import torch_threads

CASE = StepCase("axes", 64)
REFERENCE, RIVAL = "multitask", "multitask, tuned PyTorch"
NAMES = [name for name, method in METHODS.items() if method.teacher_model in ("none", "optional")]
NUM_EPOCHS = 2  # for methods that do something else late in a training

Call = Callable[[], float]


def make_step(name: str, precision: str = "float32") -> TrainStep:
    """A step in the last epoch of a training."""
    torch.manual_seed(0)
    method = build_method(name, tasks=tuple(NUM_CLASSES))
    student = method.build_student(NetworkBuilder(MTLNet), NUM_CLASSES)
    step = TrainStep(student, method, precision=precision, num_epochs=NUM_EPOCHS, steps_per_epoch=1)
    for epoch in range(NUM_EPOCHS):
        step.begin_epoch(epoch, NUM_EPOCHS)
    return step


def make_call(name: str, precision: str = "float32") -> Call:
    """One step; returns the loss, as a plain loop may want it."""
    step = make_step(name, precision)
    signals, targets = CASE.batches()[0]
    return lambda: float(step(signals, targets).total)


def make_rival() -> Call:
    """Plain multitask training by PyTorch's own means."""
    net = pool_first_form(CASE.model())
    signals, targets = CASE.batches()[0]
    rows = net.prepare(signals)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    def call() -> float:
        optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = [
            functional.cross_entropy(logits, targets[task]) for task, logits in net(rows).items()
        ]
        total = reduce(add, losses)
        total.backward()
        optimizer.step()
        return float(total.detach())

    return call


@pytest.mark.parametrize("name", [*NAMES, RIVAL])
def test_step(benchmark, name: str) -> None:
    """One step, which learns."""
    with torch_threads(1):
        call = make_rival() if name == RIVAL else make_call(name)
        losses = [call() for _ in range(8)]
        assert losses[-1] < losses[0]
        benchmark(call)


def measure(precision: str, num_rounds: int) -> list[dict]:
    """A row for each method: milliseconds, and as a multiple of our plain multitask's."""
    calls = {name: make_call(name, precision) for name in NAMES} | {RIVAL: make_rival()}
    timings = time_in_turns(calls, num_rounds=num_rounds, round_seconds=0.1)
    rows = []
    for name, timing in timings.items():
        ratio = compare(timings[REFERENCE], timing)
        rows.append({
            "method": name, "precision": precision, "milliseconds": timing.median * 1e3,
            "ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high,
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["ratio"])


def main() -> None:
    """Print what was found, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with torch_threads(1):
        for precision in ("float32", "bfloat16"):
            if precision == "float32" or has_bfloat16(torch.device("cpu")):
                rows += measure(precision, arguments.rounds)
    for row in rows:
        print(
            f"{row['precision']}  {row['method']:26} {row['milliseconds']:6.1f} ms  "
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        )
    if arguments.json:
        content = {"machine": describe_machine(), "methods": rows}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
