"""Small runs of `MTLNet` on both paths of `TrainStep`, which the tests compare."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from smoothdistill.methods import Method
from smoothdistill.models import MTLNet
from smoothdistill.training import TrainStep
from smoothdistill.windows import IGNORE_INDEX

TWO_TASKS = {"activity": 5, "placement": 3}


@dataclass(frozen=True)
class Setup:
    """A model, its data and the options of its training."""

    layout: str = "axes"
    classes: dict[str, int] = field(default_factory=lambda: dict(TWO_TASKS))
    channels: int = 3
    samples: int = 40
    batch: int = 16
    method: str = "smooth-distill"
    unlabelled: bool = False
    last_batch: int | None = None  # number of windows of each fourth batch
    options: dict[str, Any] = field(default_factory=dict)

    def model(self, dtype: torch.dtype = torch.float32) -> MTLNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = MTLNet(self.classes, self.channels, self.samples, self.layout)
        return model.to(dtype)

    def step(self, path: str, dtype: torch.dtype = torch.float32, **options: Any) -> TrainStep:
        """A step by one of the paths, or by "layers": the general one without our kernels."""
        return make_step(self.model(dtype), self.method, path, **(self.options | options))

    def batches(self, number: int) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """Windows whose mean says a little of their class."""
        found = []
        for seed in range(number):
            is_last = self.last_batch is not None and seed % 4 == 3
            size = self.last_batch if is_last and self.last_batch else self.batch
            found.append(self.one_batch(size, seed))
        return found

    def one_batch(self, size: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(1000 * size + seed)
        signals = torch.randn(size, self.channels, self.samples, generator=generator)
        targets = {}
        for number, (task, classes) in enumerate(self.classes.items()):
            labels = torch.randint(classes, (size,), generator=generator)
            signals[:, number % self.channels] += labels[:, None] / classes
            if self.unlabelled:
                labels[torch.rand(size, generator=generator) < 0.3] = IGNORE_INDEX
            targets[task] = labels
        return signals, targets


def make_step(model: MTLNet, method: str | Method, path: str, **options: Any) -> TrainStep:
    """As `Setup.step`, of a given model."""
    by_layers = path == "layers"
    step = TrainStep(model, method, path="general" if by_layers else path, **options)
    if by_layers:  # a hook into a layer makes the model call it
        step.model.conv1.register_forward_hook(lambda *args: None)
    return step


def train(step: TrainStep, batches: list[tuple[Tensor, dict[str, Tensor]]]) -> list[float]:
    """The total of every step."""
    dtype = next(step.model.parameters()).dtype
    return [float(step(signals.to(dtype), targets).total) for signals, targets in batches]


def copy_of(step: TrainStep) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in step.state_dict().items()}


def changed(step: TrainStep, before: dict[str, Tensor]) -> set[str]:
    """Names of what differs in any bit, or is there only once. What multiplies is no state."""
    now = step.state_dict()
    return {
        name
        for name in (now.keys() | before.keys()) - {"products"}
        if name not in now or name not in before or not torch.equal(now[name], before[name])
    }


def near(one: TrainStep, other: TrainStep, tolerance: float) -> None:
    """Weights, teacher and moments agree within a share of each tensor's size; counts exactly."""
    theirs = other.state_dict()
    for name, tensor in one.state_dict().items():
        if name == "products":
            continue
        if not tensor.is_floating_point() or name.endswith(".step"):
            assert torch.equal(tensor, theirs[name]), name
            continue
        distance = float((tensor.double() - theirs[name].double()).norm())
        assert distance <= tolerance * float(theirs[name].double().norm()) + 1e-30, name


def twins(setup: Setup, **options: Any) -> tuple[TrainStep, TrainStep]:
    """Two fused steps of equal models."""
    one = setup.step("fused", **options)
    model = copy.deepcopy(one.model)
    return one, TrainStep(model, setup.method, path="fused", **(setup.options | options))
