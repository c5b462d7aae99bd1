"""What a GPU makes of the training step and of the ops, against the strongest that PyTorch offers.

    python bench/gpu.py RESULTS.json                       # tests/gpu.sh calls it
    python bench/gpu.py RESULTS.json --device cpu --quick  # tries the script itself

Providers take turns, and must give equal losses before anything is timed. A profiler slows down
what comes after it, so kernels are counted when all is timed. A part that fails is left out, and
the others go on. Needs the CUDA kernels: SMOOTHDISTILL_BACKEND=cuda.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smoothdistill.benchmark.step.case import LAYOUTS, StepCase
from smoothdistill.benchmark.step.providers import PreparedStep, build_train_step
from smoothdistill.benchmark.step.run import TUNED, check_equal_losses, prepare_steps
from smoothdistill.benchmark.timing import Timing, compare
from smoothdistill.ops import adam_ema_, multitask_kd_loss
from smoothdistill.training import TrainStep
from smoothdistill.training.batches import Batch
from smoothdistill.training.environment import describe_environment
from smoothdistill.training.turns import Turns, in_one_go, side_by_side

OURS = "ours, float32"
STEPS = (OURS, "ours, general path", "published form", TUNED, "tuned + torch.compile")
BATCHES = (16, 64, 256, 1024)
LOADED = "ours, batches on the device"
TOGETHER, APART = "side by side", "one after the other"
COPY = "copy of as many numbers"
HALF = "adam_ema_, bfloat16 weights"
ADAM_BYTES = 36  # an element: five reads and four writes of float32
HALF_ADAM_BYTES = 30
STEP_BYTES = ADAM_BYTES + 16  # and reads by both forward passes and the backward one, a gradient
Row = dict[str, Any]


class Bench:
    """The device, and how long things take on it.

    Args:
        device: "cuda", or "cpu" to try the script.
        quick: As little of everything as runs all of it.
    """

    def __init__(self, device: str, *, quick: bool) -> None:
        self.device, self.quick = device, quick
        self.num_rounds, self.calls_per_round = (2, 1) if quick else (31, 50)
        self._to_count: list[tuple[Row, Callable[[], object]]] = []

    def finish(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def by_turns(self, calls: dict[str, Callable[[], object]]) -> dict[str, Timing]:
        """Seconds of a call, by rounds in which the calls take turns."""
        for call in calls.values():
            for _ in range(2 if self.quick else 20):
                call()
        names = list(calls)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(self.num_rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                self.finish()
                start = time.perf_counter()
                for _ in range(self.calls_per_round):
                    calls[name]()
                self.finish()
                seconds[name].append((time.perf_counter() - start) / self.calls_per_round)
        return {name: Timing(np.array(values)) for name, values in seconds.items()}

    def count_later(self, row: Row, call: Callable[[], object]) -> None:
        """Have `count` add to a row the kernels of a call, and the sum of their own times."""
        self._to_count.append((row, call))

    def count(self, num_calls: int = 10) -> None:
        """Run what `count_later` was given under the profiler; nothing on a CPU."""
        from torch.profiler import ProfilerActivity, profile

        for row, call in self._to_count if self.device == "cuda" else ():
            call()
            self.finish()
            with profile(activities=[ProfilerActivity.CUDA]) as profiler:
                for _ in range(num_calls):
                    call()
                self.finish()
            kernels = [event for event in profiler.events() if event.device_type.name == "CUDA"]
            row["kernels"] = len(kernels) / num_calls
            row["kernel_microseconds"] = (
                sum(event.self_device_time_total for event in kernels) / num_calls
            )

    def memory(self) -> int:
        """Bytes of tensors on the GPU; 0 on a CPU."""
        return torch.cuda.memory_allocated() if self.device == "cuda" else 0


def cycling(case: StepCase, step: PreparedStep) -> Callable[[], object]:
    """A step that is given another batch each time."""
    batches: Iterator[tuple[Tensor, dict[str, Tensor]]] = cycle(
        [(step.prepare(signals), targets) for signals, targets in case.batches()]
    )
    return lambda: step.step(*next(batches))


def times_and_ratios(timings: dict[str, Timing], ours: str, place: Row) -> list[Row]:
    """A row for each: median and quartiles in microseconds, and how many times ours is faster."""
    rows = []
    for name, timing in timings.items():
        low, high = timing.quartiles
        ratio = compare(timings[ours], timing)
        rows.append(
            {**place, "provider": name, "microseconds": 1e6 * timing.median,
             "quartiles": [1e6 * low, 1e6 * high],
             "ratio": ratio.median, "ratio_quartiles": [ratio.low, ratio.high]}
        )  # fmt: skip
    return rows


def time_steps(bench: Bench, layout: str, batch: int) -> list[Row]:
    """Whole training steps of MTL-net."""
    case, left_out = StepCase(layout, batch, bench.device), list[Row]()
    names = [name for name in STEPS if not (bench.quick and "compile" in name)]
    steps = prepare_steps(case, left_out=left_out, names=names)
    differences = check_equal_losses(case, steps)
    calls = {name: cycling(case, step) for name, step in steps.items()}
    calls[LOADED] = loaded(case)
    timings = bench.by_turns(calls)
    before = bench.memory()
    for _ in range(bench.calls_per_round):
        calls[OURS]()
    bench.finish()
    place = {"case": f"step, {case.name}"}
    rows = times_and_ratios(timings, OURS, place)
    rows[0]["bytes_grown"] = bench.memory() - before
    for row in rows:
        row["largest_difference"] = differences.get(row["provider"])
        if "compile" not in row["provider"]:  # it would be compiled once more
            bench.count_later(row, calls[row["provider"]])
    return [
        *rows,
        *({**place, "left_out": row["provider"], "reason": row["reason"]} for row in left_out),
    ]


def loaded(case: StepCase) -> Callable[[], object]:
    """A step as the trainer has it: its batch lies on the device, and the losses are read later."""
    step, windows = build_train_step(case.model()), together(case.batches())

    def steps() -> Iterator[int]:
        while True:
            for _ in range(6):
                yield from step.over(windows, case.batch)
            step.log.read()

    taken = steps()
    return lambda: next(taken)


def together(batches: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> Batch:
    """Batches one after another in one tensor of each kind."""
    signals, targets = zip(*batches, strict=True)
    return Batch(
        torch.cat(signals), {task: torch.cat([of[task] for of in targets]) for task in targets[0]}
    )


def time_many(bench: Bench) -> list[Row]:
    """Steps of 25 models, as of five folds with five seeds, by turns and one model after another.

    Each must read and write its own weights, moments and average: `floor_microseconds` is what that
    takes at the rate of a copy, which no way to launch the work can beat.
    """
    case = StepCase("axes", BATCHES[0] if bench.quick else 64, bench.device)
    windows = together(case.batches())
    steps = [build_train_step(case.model()) for _ in range(2 if bench.quick else 25)]
    num_rounds = 1 if bench.quick else 6  # of eight batches each

    def training(step: TrainStep) -> Turns[None]:
        for _ in range(num_rounds):
            for _ in step.over(windows, case.batch):
                pass
        yield
        step.log.read()

    device = torch.device(bench.device)
    ways: dict[str, Callable[[], object]] = {
        TOGETHER: lambda: in_one_go(side_by_side(map(training, steps), device)),
        APART: lambda: [in_one_go(training(step)) for step in steps],
    }
    num_steps = num_rounds * len(case.batches()) * len(steps)
    calls, bench.calls_per_round = bench.calls_per_round, 1
    timings = {
        name: Timing(timing.seconds / num_steps) for name, timing in bench.by_turns(ways).items()
    }
    source = torch.empty(1000 if bench.quick else 25_000_000, device=device)
    target = torch.empty_like(source)
    copy = bench.by_turns({COPY: lambda: target.copy_(source)})[COPY]
    bench.calls_per_round = calls
    rows = times_and_ratios(timings, TOGETHER, {"case": f"{len(steps)} models, {case.name}"})
    num_weights = sum(weight.numel() for weight in steps[0].model.parameters())
    floor = num_weights * STEP_BYTES * copy.median / (8 * source.numel())
    return [{**row, "floor_microseconds": 1e6 * floor} for row in rows]


def time_adam(bench: Bench, name: str, lengths: Sequence[int]) -> list[Row]:
    """`adam_ema_` against fused Adam and `_foreach_lerp_`, and against a plain copy."""
    calls = adam_calls(lengths, bench.device)
    calls[HALF] = half_adam_call(lengths, bench.device)
    timings = bench.by_turns(calls)
    rows = times_and_ratios(timings, "adam_ema_", {"case": f"adam_ema_, {name}"})
    for row in rows:
        bytes_each = {COPY: 8, HALF: HALF_ADAM_BYTES}.get(row["provider"], ADAM_BYTES)
        row["gigabytes_per_second"] = sum(lengths) * bytes_each / row["microseconds"] / 1e3
        bench.count_later(row, calls[row["provider"]])
    return rows


def adam_calls(lengths: Sequence[int], device: str) -> dict[str, Callable[[], object]]:
    """The ways to step tensors of these lengths, each with tensors of its own."""
    params, grads, firsts, seconds, teacher, averages = (
        [torch.rand(length, device=device) for length in lengths] for _ in range(6)
    )
    counts = [torch.zeros((), device=device) for _ in params]
    ticket = ticket_on(device)
    theirs = [torch.nn.Parameter(param.clone()) for param in params]
    for parameter, gradient in zip(theirs, grads, strict=True):
        parameter.grad = gradient
    optimizer = torch.optim.Adam(theirs, lr=1e-3, fused=True)
    plain = [parameter.detach() for parameter in theirs]
    source, target = torch.cat(params), torch.cat(teacher)

    def rival() -> None:
        optimizer.step()
        torch._foreach_lerp_(averages, plain, 0.001)

    return {
        "adam_ema_": lambda: adam_ema_(
            params, grads, firsts, seconds, teacher, lr=1e-3, step=counts, ticket=ticket
        ),
        "Adam(fused) + _foreach_lerp_": rival,
        COPY: lambda: target.copy_(source),
    }


def half_adam_call(lengths: Sequence[int], device: str) -> Callable[[], object]:
    """`adam_ema_` with bfloat16 weights and gradients, and the rest in float32."""
    params, grads = (
        [torch.rand(length, device=device).bfloat16() for length in lengths] for _ in range(2)
    )
    firsts, seconds, teacher = (
        [torch.rand(length, device=device) for length in lengths] for _ in range(3)
    )
    counts, ticket = [torch.zeros((), device=device) for _ in params], ticket_on(device)
    return lambda: adam_ema_(
        params, grads, firsts, seconds, teacher, lr=1e-3, step=counts, ticket=ticket
    )


def ticket_on(device: str) -> Tensor | None:
    """What makes a step by counters on a GPU one launch."""
    return torch.zeros(1, dtype=torch.int32, device=device) if device == "cuda" else None


def time_loss(bench: Bench, batch: int, classes: Sequence[int]) -> list[Row]:
    """`multitask_kd_loss`, forward and gradient."""
    call = loss_call(batch, classes, bench.device)
    timings = bench.by_turns({"multitask_kd_loss": call})
    place = {"case": f"multitask_kd_loss, {batch} x {classes}"}
    rows = times_and_ratios(timings, "multitask_kd_loss", place)
    bench.count_later(rows[0], call)
    return rows


def loss_call(batch: int, classes: Sequence[int], device: str) -> Callable[[], object]:
    """The loss of random logits."""
    logits = [torch.randn(batch, n, device=device, requires_grad=True) for n in classes]
    teacher = [torch.randn(batch, n, device=device) for n in classes]
    targets = [torch.randint(n, (batch,), device=device) for n in classes]
    return lambda: multitask_kd_loss(logits, teacher, targets)


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    lines = []
    for row in rows:
        if "left_out" in row:
            lines.append(f"{row['case']:34} {row['left_out']}: left out ({row['reason']})")
            continue
        rate = row.get("gigabytes_per_second")
        lines.append(
            f"{row['case']:34} {row['provider']:30} {row['microseconds']:10.1f} us"
            f"  x{row['ratio']:.2f}"
            + (
                f"  {row['kernels']:.0f} kernels, {row['kernel_microseconds']:.1f} us"
                if "kernels" in row
                else ""
            )
            + (f", {rate:.0f} GB/s" if rate else "")
            + (f", floor {row['floor_microseconds']:.1f} us" if "floor_microseconds" in row else "")
            + (f", memory +{row['bytes_grown']}" if "bytes_grown" in row else "")
        )
    return "\n".join(lines)


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """What is measured, by names; first what is quick."""
    sizes = {"12 tensors, 1.8 M": [150_000] * 12, "100 M": [10_000_000] * 10}
    for name, lengths in ({"small": [100] * 3} if bench.quick else sizes).items():
        yield f"adam_ema_, {name}", partial(time_adam, bench, name, lengths)
    for batch, classes in ((8, (5, 3)),) if bench.quick else ((64, (12, 3)), (4096, (1000, 50))):
        yield f"multitask_kd_loss, {batch} x {classes}", partial(time_loss, bench, batch, classes)
    yield "many models", partial(time_many, bench)
    for layout in LAYOUTS[-1:] if bench.quick else reversed(LAYOUTS):
        for batch in BATCHES[:1] if bench.quick else BATCHES:
            yield f"step, {layout}, batch {batch}", partial(time_steps, bench, layout, batch)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write after each part, print; 1 if a part has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(arguments)
    bench, rows, failed = Bench(given.device, quick=given.quick), list[Row](), 0
    environment = describe_environment(torch.device(given.device))

    def attempt(name: str, measure: Callable[[], list[Row] | None]) -> int:
        try:
            rows.extend(measure() or [])
        except Exception as error:
            traceback.print_exc()
            rows.append({"case": name, "left_out": "all", "reason": f"{error}".split("\n")[0]})
            return 1
        finally:
            gc.collect()
            content = {"environment": environment, "rows": rows}
            given.results.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return 0

    for name, measure in parts(bench):
        failed |= attempt(name, measure)
    failed |= attempt("kernels", bench.count)
    print(table(rows))
    return failed


if __name__ == "__main__":
    sys.exit(main())
