"""Twenty training steps on this machine end where they ended on another one.

Where `SMOOTHDISTILL_STEPS` names a file, the steps are those that it holds; where there is no such
file yet it is written. tests/arm/run writes it on x86-64 and reads it on an emulated ARM.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoothdistill.ops._backend import cpu_kernels, cpu_module
from smoothdistill.ops.linear import available_products

from ..training.fused_runs import Setup, make_step, train

pytestmark = pytest.mark.skipif(cpu_kernels() is None, reason="needs the compiled kernels")

NUM_STEPS = 20
EPS = torch.finfo(torch.float32).eps
# Adam's eps above the noise of the gradients: see [How far paths may part] in test_fused_step.py.
SETUPS = {
    "axes": Setup(options={"eps": 1e-4}, samples=28, last_batch=7),
    "published": Setup("published", options={"eps": 1e-4}, samples=28, method="multitask"),
}
FLOOR = {"total": 1000 * EPS, "student.": 1e-4, "teacher.": 1e-4}  # room for one turned ReLU


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By setup: weights, batches, the run in float64, and how far float32 strayed from it."""
    given = os.environ.get("SMOOTHDISTILL_STEPS")
    path = Path(given) if given else tmp_path_factory.mktemp("steps") / "steps.pt"
    if not path.exists():
        torch.save({name: _record(setup) for name, setup in SETUPS.items()}, path)
    found: dict[str, Any] = torch.load(path)
    return found


@pytest.mark.parametrize("path", [*available_products(), "general"])
@pytest.mark.parametrize("name", SETUPS)
def test_steps_are_those_of_the_other_machine(
    recorded: dict[str, Any], name: str, path: str
) -> None:
    steps = recorded[name]
    found = _run(SETUPS[name], steps["weights"], steps["batches"], path)
    for part, allowed in steps["allowed"].items():
        assert _distance(found, steps["exact"], part) <= allowed, part
    totals = steps["exact"]["total"]
    assert totals[-1] < 0.9 * totals[0], "nothing is learned: the comparison says little"


def _record(setup: Setup) -> dict[str, Any]:
    weights, batches = setup.model().state_dict(), setup.batches(4) * (NUM_STEPS // 4)
    exact = _run(setup, weights, batches, "layers", torch.float64)
    runs = [_run(setup, moved, batches, "layers") for moved in _moved(weights)]
    assert cpu_module is not None
    before = cpu_module.simd_level()
    for level in cpu_module.simd_levels():
        cpu_module.set_simd_level(level)
        runs += [_run(setup, weights, batches, path) for path in ("native", "general")]
    cpu_module.set_simd_level(before)
    # Three times as far from float64 as the farthest that this machine itself goes in float32.
    size = {part: _distance(exact, None, part) for part in FLOOR}
    allowed = {
        part: 3.0 * max(_distance(run, exact, part) for run in runs) + floor * size[part]
        for part, floor in FLOOR.items()
    }
    return {"weights": weights, "batches": batches, "exact": exact, "allowed": allowed}


def _moved(weights: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The weights, each by up to half a rounding to one side or the other."""
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        yield {
            name: value * (1.0 + EPS * (torch.rand(value.shape, generator=generator) - 0.5))
            for name, value in weights.items()
        }


def _run(
    setup: Setup,
    weights: dict[str, Tensor],
    batches: list[tuple[Tensor, dict[str, Tensor]]],
    path: str,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """Losses and last state of a run; `path` is of `make_step`, or the products of the fused."""
    model = setup.model(dtype)
    model.load_state_dict({name: value.to(dtype) for name, value in weights.items()})
    options = setup.options
    if path not in ("general", "layers"):
        path, options = "fused", options | {"products": path}
    step = make_step(model, setup.method, path, **options)
    return {"total": torch.tensor(train(step, batches), dtype=torch.float64), **step.state_dict()}


def _distance(run: dict[str, Any], other: dict[str, Any] | None, part: str) -> float:
    """Norm of the difference of all that begins with `part`; of the thing itself without other."""
    names = [name for name in run if name.startswith(part) and run[name].is_floating_point()]
    assert names
    zero = torch.zeros((), dtype=torch.float64)
    differences = [
        run[name].double() - (other[name].double() if other is not None else zero) for name in names
    ]
    return float(torch.cat([one.flatten() for one in differences]).norm())
