"""Where the time of a step goes, for tuned PyTorch and for ours."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from smoothdistill.benchmark.step.networks import LAYERS
from smoothdistill.benchmark.step.providers import (
    DECAY,
    LEARNING_RATE,
    PROVIDERS,
    build_train_step,
    kd_loss,
    tuned_form,
)

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.benchmark.step.case import StepCase

__all__ = ["time_parts_of_ours", "time_parts_of_tuned"]

_NUM_WARMUP = 3


def time_parts_of_ours(case: StepCase, *, num_rounds: int) -> dict[str, float]:
    """Median seconds of each part of `TrainStep`, as it measures itself."""
    step = build_train_step(case.model())
    signals, targets = case.batches()[0]
    for _ in range(_NUM_WARMUP):
        step(signals, targets)
    parts: dict[str, float] = step.time_parts(signals, targets, num_rounds)
    return parts


def time_parts_of_tuned(case: StepCase, *, num_rounds: int) -> dict[str, float]:
    """Median seconds of each part of the tuned step in plain PyTorch.

    The network is cut between its layers: each is an autograd graph of its own, whose backward
    is called by hand, last layer first. So the parts are timed as they run in one step, at the
    cost of a few calls more. Whole steps take turns with cut ones; what is missing from them is
    the "rest", which may come out slightly below zero.
    """
    net = tuned_form(case.model())
    teacher = copy.deepcopy(net).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    averages = [parameter.detach() for parameter in teacher.parameters()]
    students = [parameter.detach() for parameter in net.parameters()]
    batches = [(net.prepare(signals), targets) for signals, targets in case.batches()]
    trunk = dict(zip(LAYERS, net.trunk, strict=False))
    seconds: defaultdict[str, list[float]] = defaultdict(list)

    def run(rows: Tensor, targets: dict[str, Tensor]) -> None:
        clock = _Clock(seconds)
        with torch.no_grad():
            teacher_logits = teacher(rows)
        clock.note("teacher forward")
        borders: dict[str, tuple[Tensor, Tensor]] = {}
        hidden = rows
        for name, layer in trunk.items():
            inputs = hidden.detach().requires_grad_(hidden is not rows)
            hidden = layer(inputs)
            borders[name] = inputs, hidden
            clock.note(f"student forward, {name}")
        features = hidden.detach().requires_grad_()
        logits = {task: head(features) for task, head in zip(net.tasks, net.heads, strict=True)}
        clock.note("student forward, heads")
        cut = {task: value.detach().requires_grad_() for task, value in logits.items()}
        total = kd_loss(cut, teacher_logits, targets)
        clock.note("loss")
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        clock.note("loss")
        torch.autograd.backward(list(logits.values()), [cut[task].grad for task in logits])
        clock.note("backward, heads")
        gradient = features.grad
        for name, (inputs, outputs) in reversed(borders.items()):
            torch.autograd.backward([outputs], [gradient])
            gradient = inputs.grad
            clock.note(f"backward, {name}")
        optimizer.step()
        torch._foreach_lerp_(averages, students, 1.0 - DECAY)
        clock.note("optimizer and average")
        clock.close()

    whole = PROVIDERS["tuned PyTorch"].make(case)
    for number in range(_NUM_WARMUP + num_rounds):
        if number == _NUM_WARMUP:
            seconds.clear()
        rows, targets = batches[number % len(batches)]
        run(rows, targets)
        begun = time.perf_counter()
        whole.step(rows, targets)
        seconds["whole step"].append(time.perf_counter() - begun)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    whole_step = medians.pop("whole step")
    return {**medians, "rest": whole_step - sum(medians.values())}


class _Clock:
    """Adds the time since the last note to a part, once per step and part."""

    def __init__(self, seconds: defaultdict[str, list[float]]) -> None:
        self._seconds = seconds
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def note(self, part: str) -> None:
        now = time.perf_counter()
        self._sums[part] += now - self._last
        self._last = time.perf_counter()

    def close(self) -> None:
        for part, value in self._sums.items():
            self._seconds[part].append(value)
