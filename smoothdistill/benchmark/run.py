"""Runs benchmarks: equal answers first, then times by turns on one thread."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from smoothdistill.benchmark import adam_ema, conv_pool, ema_update, linear, multitask_kd_loss
from smoothdistill.benchmark.timing import Timing, compare, time_in_turns
from smoothdistill.benchmark.workload import Case, Workload, check_equal_answers
from smoothdistill.workers import torch_threads

__all__ = ["BENCHMARKS", "GROUPS", "copy_bandwidth", "run_benchmarks"]

BENCHMARKS: dict[str, ModuleType] = {
    "adam_ema_": adam_ema,
    "ema_update_": ema_update,
    "multitask_kd_loss": multitask_kd_loss,
    "conv_pool": conv_pool,
    "linear": linear,
}
GROUPS = {"ops": ("adam_ema_", "ema_update_", "multitask_kd_loss", "conv_pool", "linear")}


def copy_bandwidth(num_bytes: int = 64 << 20) -> float:
    """Bytes per second read plus written by a plain copy of float32, on one thread."""
    import torch

    source = torch.ones(num_bytes // 4)
    target = torch.empty_like(source)
    with torch_threads(1):
        timing = time_in_turns({"copy": lambda: target.copy_(source)}, num_rounds=9)["copy"]
    return 2 * num_bytes / timing.median


def run_benchmarks(
    names: Iterable[str],
    *,
    quick: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Time every case of the named benchmarks.

    Args:
        names: Keys of `BENCHMARKS`.
        quick: Fewer and shorter rounds, the smallest case of each, and no compiled baseline.
        report: Called with one line per case that begins.

    Returns:
        ``{"times": [...], "ratios": [...], "left_out": [...]}``, plain values for JSON. A ratio
        is the other's time over ours, so above 1 means that ours is faster.

    Raises:
        AssertionError: If the providers do not agree on the answer.
        ValueError: If a name is unknown.
    """
    found: dict[str, Any] = {"times": [], "ratios": [], "left_out": []}
    for name in names:
        if name not in BENCHMARKS:
            known = ", ".join(BENCHMARKS)
            raise ValueError(f"`names` must be among {known}, but is {name!r} instead.")
        for case in BENCHMARKS[name].CASES[: 1 if quick else None]:
            report(f"{name}: {case.name}")
            with torch_threads(1):
                _run_case(name, case, found, quick=quick)
            gc.collect()  # the next case may need the memory
    return found


def _run_case(name: str, case: Case, found: dict[str, Any], *, quick: bool) -> None:
    providers = BENCHMARKS[name].PROVIDERS
    place = {"op": name, "case": case.name}
    workloads: dict[str, Workload] = {}
    for provider in providers.values():
        if quick and provider.name == "torch.compile":
            continue
        try:
            workloads[provider.name] = provider.make(case)
        except Exception as error:
            if provider.kind != "baseline":
                raise
            # torch.compile needs a C++ compiler, and not every machine has one.
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            found["left_out"].append({**place, "provider": provider.name, "reason": reason})
    expected = next(
        (p.name for p in providers.values() if p.kind == "reference"), list(workloads)[-1]
    )
    differences = check_equal_answers(workloads, expected=expected)
    timings = time_in_turns(
        {provider: workload.call for provider, workload in workloads.items()},
        num_rounds=5 if quick else 15,
        round_seconds=0.002 if quick else 0.02,
    )
    for provider, timing in timings.items():
        found["times"].append(
            {
                **place,
                "provider": provider,
                "kind": providers[provider].kind,
                "largest_difference": differences[provider],
            }
            | _times(timing, case)
        )
    for ours in (provider for provider in timings if providers[provider].kind == "fused"):
        for other in (provider for provider in timings if providers[provider].kind != "fused"):
            ratio = compare(timings[ours], timings[other])
            found["ratios"].append(
                {
                    **place,
                    "provider": ours,
                    "against": other,
                    "kind": providers[other].kind,
                    "ratio": ratio.median,
                    "ratio_low": ratio.low,
                    "ratio_high": ratio.high,
                }
            )


def _times(timing: Timing, case: Case) -> dict[str, float]:
    low, high = timing.quartiles
    times = {
        "median_microseconds": timing.median * 1e6,
        "quartile_1_microseconds": low * 1e6,
        "quartile_3_microseconds": high * 1e6,
        "num_rounds": len(timing.seconds),
    }
    if case.bytes_moved:
        times["gigabytes_per_second"] = case.bytes_moved / timing.median / 1e9
    return times
