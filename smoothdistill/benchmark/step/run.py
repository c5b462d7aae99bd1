"""Runs the benchmark of the step: equal losses first, then times by turns of one step each."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.benchmark.step.case import LAYOUTS, StepCase
from smoothdistill.benchmark.step.providers import PROVIDERS
from smoothdistill.benchmark.timing import Timing, compare, time_in_turns
from smoothdistill.ops._number_formats import has_bfloat16
from smoothdistill.workers import torch_threads

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.benchmark.step.case import Layout
    from smoothdistill.benchmark.step.providers import PreparedStep

__all__ = ["check_equal_losses", "prepare_steps", "run_steps"]

OURS, OURS_BFLOAT16, TUNED = "ours, float32", "ours, bfloat16", "tuned PyTorch"
FLOOR = "floor: products alone"
FLOOR_AND_TRAFFIC = "floor: products + optimizer's traffic"
_NUM_STEPS_COMPARED = 5
_SECONDS_PER_CASE = 20.0
_ROUNDS = (15, 121)  # fewest and most
_QUICK_ROUNDS = 5


def run_steps(
    *,
    layouts: Sequence[Layout] = LAYOUTS,
    batches: Sequence[int] = (64,),
    threads: Sequence[int] = (1,),
    quick: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> dict[str, list[dict[str, Any]]]:
    """Time steps, floors, parts of steps, and inference.

    Args:
        layouts: Of `LAYOUTS`.
        batches: Windows per batch, each at least 1.
        threads: Threads of PyTorch, each number at least 1.
        quick: Few rounds, and no compiled baseline.
        report: Called with one line per case that begins.

    Returns:
        Rows of plain values for JSON: ``times``; ``ratios`` (the other's time over ours, so that
        above 1 ours is faster); ``forms`` (which form of each product makes the floor);
        ``parts`` (where the time goes); ``inference``; ``left_out`` (providers, with the reason).

    Raises:
        AssertionError: If the providers do not agree on the losses.
        ValueError: If a number is below 1, or a layout unknown.
    """
    _check(layouts, batches, threads)
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("times", "ratios", "forms", "parts", "inference", "left_out")
    }
    for count in threads:
        with torch_threads(count):
            for layout in layouts:
                for batch in batches:
                    case = StepCase(layout, batch)
                    report(f"step: {case.name}, threads {count}")
                    _run_case(case, found, threads=count, quick=quick)
                    gc.collect()  # the next case may need the memory
                report(f"inference: {layout}, threads {count}")
                _run_inference(layout, found, threads=count, quick=quick)
    return found


def _check(layouts: Sequence[str], batches: Sequence[int], threads: Sequence[int]) -> None:
    for layout in layouts:
        if layout not in LAYOUTS:
            raise ValueError(
                f"`layout` must be one of {', '.join(LAYOUTS)}, but is {layout!r} instead."
            )
    for name, numbers in (("batch", batches), ("threads", threads)):
        for number in numbers:
            if number < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {number} instead.")


def prepare_steps(
    case: StepCase,
    *,
    left_out: list[dict[str, Any]],
    names: Collection[str] = tuple(PROVIDERS),
) -> dict[str, PreparedStep]:
    """Every named provider's step, from equal weights.

    Args:
        case: The step.
        left_out: Is given a row for each provider that cannot run here.
        names: Of `PROVIDERS`; those that are not for the case's layout are passed over.
    """
    steps = {}
    for provider in PROVIDERS.values():
        if provider.name not in names or case.layout not in provider.layouts:
            continue
        try:
            steps[provider.name] = provider.make(case)
        except Exception as error:
            is_unsupported = isinstance(error, ValueError) and provider.precision != "float32"
            if provider.kind == "fused" and not is_unsupported:
                raise
            # No C++ compiler for torch.compile, or no bfloat16 instructions.
            lines = [line for line in str(error).splitlines() if line.strip()]
            # The compiler's first line may only announce the second.
            end = 2 if lines and lines[0].rstrip().endswith(":") else 1
            reason = f"{type(error).__name__}: {' '.join(line.strip() for line in lines[:end])}"
            left_out.append(
                {"layout": case.layout, "batch": case.batch, "provider": provider.name,
                 "reason": reason}
            )  # fmt: skip
    return steps


def check_equal_losses(case: StepCase, steps: dict[str, PreparedStep]) -> dict[str, float]:
    """Train a few steps by every provider and compare the losses with those of tuned PyTorch.

    Returns:
        The largest relative difference by provider.

    Raises:
        AssertionError: If a loss differs; a faster wrong step is worth nothing.
    """
    differences = dict.fromkeys(steps, 0.0)
    for number, (signals, targets) in zip(
        range(_NUM_STEPS_COMPARED), cycle(case.batches()), strict=False
    ):
        totals = {
            name: float(step.step(step.prepare(signals), targets)) for name, step in steps.items()
        }
        for name, total in totals.items():
            difference = abs(total - totals[TUNED]) / totals[TUNED]
            differences[name] = max(differences[name], difference)
            # One float32 loss differs by a few roundings. Adam's first steps, whose size does not
            # depend on the gradient's, carry those of near-zero gradients into the weights.
            # bfloat16 has 8 bits, of which the mean over a batch evens out most.
            tolerance = 1e-6 if number == 0 else 1e-3
            if PROVIDERS[name].precision == "bfloat16":
                tolerance = 2e-2
            assert difference <= tolerance, f"{name} differs in step {number}: {totals}"
    return differences


def _run_case(
    case: StepCase, found: dict[str, list[dict[str, Any]]], *, threads: int, quick: bool
) -> None:
    from smoothdistill.benchmark.step.floor import build_floor
    from smoothdistill.benchmark.step.parts import time_parts_of_ours, time_parts_of_tuned

    place = {"layout": case.layout, "batch": case.batch, "threads": threads}
    names = [name for name in PROVIDERS if not (quick and "compile" in name)]
    steps = prepare_steps(case, left_out=found["left_out"], names=names)
    differences = check_equal_losses(case, steps)
    calls = {name: _cycling(case, step) for name, step in steps.items()}
    num_parameters = sum(parameter.numel() for parameter in case.model().parameters())
    for format in ("float32", "bfloat16") if has_bfloat16(torch.device("cpu")) else ("float32",):
        floor = build_floor(
            case, num_parameters, num_rounds=3 if quick or case.batch > 256 else 7,
            dtype=getattr(torch, format),
        )  # fmt: skip
        suffix = "" if format == "float32" else f", {format}"
        calls[FLOOR + suffix] = floor.products
        calls[FLOOR_AND_TRAFFIC + suffix] = floor.products_and_traffic
        for choice in floor.choices:
            found["forms"].append(
                {**place, "product": choice.product + suffix, "form": choice.form,
                 "count": choice.count, "microseconds": choice.seconds * 1e6,
                 "gigaflops": choice.flops / choice.seconds / 1e9}
            )  # fmt: skip
    kinds = {name: PROVIDERS[name].kind for name in steps}
    timings = _time_by_turns(calls, quick=quick)
    for name, timing in timings.items():
        found["times"].append(
            {**place, "provider": name, "kind": kinds.get(name, "floor"), **_times(timing),
             "largest_difference": differences.get(name)}
        )  # fmt: skip
    for ours in (name for name in steps if kinds[name] == "fused"):
        for other in (name for name in timings if name != ours):
            if kinds.get(other) != "fused" or ours in (OURS, OURS_BFLOAT16):
                found["ratios"].append(
                    {**place, "provider": ours, "against": other,
                     "kind": kinds.get(other, "floor"), **_ratio(timings[ours], timings[other])}
                )  # fmt: skip
    num_rounds = _QUICK_ROUNDS if quick else len(timings[OURS].seconds) // 2
    for name, parts in (
        (TUNED, time_parts_of_tuned(case, num_rounds=num_rounds)),
        (OURS, time_parts_of_ours(case, num_rounds=num_rounds)),
    ):
        for part, seconds in parts.items():
            found["parts"].append(
                {**place, "provider": name, "part": part, "microseconds": seconds * 1e6}
            )


def _cycling(case: StepCase, step: PreparedStep) -> Callable[[], object]:
    batches: Iterator[tuple[Tensor, dict[str, Tensor]]] = cycle(
        [(step.prepare(signals), targets) for signals, targets in case.batches()]
    )
    return lambda: step.step(*next(batches))


def _time_by_turns(calls: dict[str, Callable[[], object]], *, quick: bool) -> dict[str, Timing]:
    """Turns of one step each, so that a slow phase of the machine meets all alike.

    Before each timed step goes one that is not timed: it brings back into the caches what the
    other providers have driven out, and what a step in an epoch would find there.
    """
    begun = time.perf_counter()
    for call in calls.values():
        call()
    seconds_per_round = 2.0 * (time.perf_counter() - begun)
    fewest, most = _ROUNDS
    num_rounds = int(min(max(_SECONDS_PER_CASE / seconds_per_round, fewest), most))
    num_rounds = _QUICK_ROUNDS if quick else num_rounds
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(num_rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            call = calls[name]
            call()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(_array(values)) for name, values in seconds.items()}


def _run_inference(
    layout: Layout, found: dict[str, list[dict[str, Any]]], *, threads: int, quick: bool
) -> None:
    from smoothdistill.benchmark.step import inference

    for batch in inference.BATCHES[: 1 if quick else None]:
        timings = time_in_turns(
            inference.inference_calls(layout, batch),
            num_rounds=_QUICK_ROUNDS if quick else 61,
            round_seconds=0.002,
        )
        for name, timing in timings.items():
            found["inference"].append(
                {"layout": layout, "batch": batch, "threads": threads, "provider": name,
                 **_times(timing), **_ratio(timings[inference.OURS], timing)}
            )  # fmt: skip


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values)


def _times(timing: Timing) -> dict[str, float]:
    low, high = timing.quartiles
    return {
        "median_microseconds": timing.median * 1e6,
        "quartile_1_microseconds": low * 1e6,
        "quartile_3_microseconds": high * 1e6,
        "num_rounds": len(timing.seconds),
    }


def _ratio(ours: Timing, other: Timing) -> dict[str, float]:
    ratio = compare(ours, other)
    return {"ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high}
