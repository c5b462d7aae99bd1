"""``smoothdistill bench``: the speed claims, measured here."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothdistill.commands.options import JsonOption, QuietOption

if TYPE_CHECKING:
    from smoothdistill.benchmark.step.case import Layout

__all__ = ["bench"]


class _Group(StrEnum):
    ops = "ops"
    step = "step"
    all = "all"


def bench(
    group: Annotated[
        _Group, typer.Argument(help="The fused ops, a whole training step, or both.")
    ] = _Group.ops,
    batch: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Windows per batch of the step.")
    ] = "64",
    layout: Annotated[
        str, typer.Option(metavar="NAME", help='Of the step: "published", "axes" or "both".')
    ] = "both",
    threads: Annotated[
        str, typer.Option(metavar="N[,N...]", help="PyTorch's threads during the step.")
    ] = "1",
    quick: Annotated[
        bool, typer.Option("--quick", help="Smallest case of each and few rounds: a smoke test.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time our ops and steps against the strongest PyTorch baselines.

    All providers start from the same numbers and must agree on the answer before any is timed.
    They take turns, so a busy machine slows all alike; ratios are medians over rounds. The ops run
    on one thread.
    """
    from smoothdistill.benchmark import GROUPS, copy_bandwidth, run_benchmarks, step
    from smoothdistill.commands.doctor import describe_machine

    batches, all_threads = _numbers("batch", batch), _numbers("threads", threads)
    layouts: tuple[Layout, ...] = step.LAYOUTS
    if layout != "both":
        layouts = tuple(name for name in step.LAYOUTS if name == layout)
        if not layouts:
            raise ValueError(
                f"`layout` must be one of published, axes, both, but is {layout!r} instead."
            )

    def report(message: str) -> None:
        if not quiet:
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()

    found: dict[str, Any] = {}
    if group in (_Group.ops, _Group.all):
        found |= run_benchmarks(GROUPS["ops"], quick=quick, report=report)
    if group in (_Group.step, _Group.all):
        found["steps"] = step.run_steps(
            layouts=layouts,
            batches=batches[:1] if quick else batches,
            threads=all_threads,
            quick=quick,
            report=report,
        )
    found["copy_gigabytes_per_second"] = copy_bandwidth() / 1e9
    found["machine"] = describe_machine()
    if group is _Group.ops:
        found["machine"]["threads"] = 1  # rows of steps have their own
    if as_json:
        from smoothdistill.commands.output import print_json

        print_json(found)
    elif not quiet:
        _print(found)


def _numbers(name: str, text: str) -> list[int]:
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise ValueError(
            f"`{name}` must be whole numbers with commas between them, but is {text!r} instead."
        )
    return [int(number) for number in numbers]


def _print(found: dict[str, Any]) -> None:
    from smoothdistill.commands.output import print_lines

    if "times" in found:
        _print_ops(found)
    if "steps" in found:
        from smoothdistill.commands.bench_steps import print_steps

        print_steps(found["steps"])
    machine = found["machine"]
    print_lines(
        f"{machine['processor']}, {machine['simd_level']}, torch {machine['torch']}, plain copy "
        f"{found['copy_gigabytes_per_second']:.1f} GB/s on one thread"
    )


def _print_ops(found: dict[str, Any]) -> None:
    from smoothdistill.commands.output import print_lines, print_table

    def rate(row: dict[str, Any]) -> str:
        value = row.get("gigabytes_per_second")
        return "" if value is None else f"{value:.1f}"

    times = [
        (
            row["op"],
            row["case"],
            row["provider"],
            f"{row['median_microseconds']:,.1f}",
            f"{row['quartile_1_microseconds']:,.1f} to {row['quartile_3_microseconds']:,.1f}",
            rate(row),
        )
        for row in found["times"]
    ]
    print_table(("op", "case", "provider", "median, µs", "quartiles", "GB/s"), times, num_names=3)
    ratios = [
        (
            row["op"],
            row["case"],
            row["provider"],
            row["against"],
            f"{row['ratio']:.2f}x",
            f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}",
        )
        for row in found["ratios"]
    ]
    headings = ("op", "case", "ours", "against", "times faster", "quartiles")
    print_table(headings, ratios, num_names=4)
    for row in found["left_out"]:
        print_lines(f"left out: {row['provider']} of {row['op']}, {row['case']} ({row['reason']})")
