"""Trains MTL-net for one step with the installed package, and prints the seconds it took."""

from __future__ import annotations

import time

began = time.perf_counter()  # before the imports: whoever has just installed waits for them too

import importlib  # noqa: E402
import importlib.util  # noqa: E402
import sys  # noqa: E402

import torch  # noqa: E402

import smoothdistill as sd  # noqa: E402

torch.manual_seed(0)
model = sd.MTLNet(num_classes={"activity": 12, "placement": 3}, in_channels=3, window_samples=100)
train_step = sd.TrainStep(model, method="smooth-distill")
before = [parameter.detach().clone() for parameter in model.parameters()]
targets = {"activity": torch.randint(12, (64,)), "placement": torch.randint(3, (64,))}
losses = train_step(torch.randn(64, 3, 100), targets)
seconds = time.perf_counter() - began

assert torch.isfinite(losses.total), losses
assert not any(map(torch.equal, before, model.parameters())), "a parameter was left as it was"
assert all("cpu" in names for names in sd.ops.backends().values()), sd.ops.backends()
if importlib.util.find_spec("smoothdistill._cuda"):
    importlib.import_module("smoothdistill._cuda")  # which must not need a driver
sys.stdout.write(f"{seconds:.1f}\n")
