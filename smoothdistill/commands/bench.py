"""``smoothdistill bench``: the speed claims, measured here."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from smoothdistill.commands.options import JsonOption, QuietOption

__all__ = ["bench"]


class _Group(StrEnum):
    ops = "ops"
    step = "step"
    all = "all"


def bench(
    group: Annotated[
        _Group, typer.Argument(help="The fused ops, a whole training step, or both.")
    ] = _Group.ops,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smallest case of each and few rounds: a smoke test.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time our ops against the strongest PyTorch baseline and the plain reference, on one thread.

    All providers start from the same numbers and must agree on the answer before any is timed.
    They take turns, so a busy machine slows all alike; ratios are medians over rounds.
    """
    from smoothdistill.benchmark import GROUPS, copy_bandwidth, run_benchmarks
    from smoothdistill.commands.doctor import describe_machine

    names = [name for key in GROUPS if group in (key, _Group.all) for name in GROUPS[key]]

    def report(message: str) -> None:
        if not quiet:
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()

    found = run_benchmarks(names, quick=quick, report=report)
    found["copy_gigabytes_per_second"] = copy_bandwidth() / 1e9
    found["machine"] = {**describe_machine(), "threads": 1}
    if as_json:
        from smoothdistill.commands.output import print_json

        print_json(found)
    elif not quiet:
        _print(found)


def _print(found: dict[str, Any]) -> None:
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
    machine = found["machine"]
    print_lines(
        f"{machine['processor']}, {machine['simd_level']}, one thread, torch {machine['torch']}, "
        f"plain copy {found['copy_gigabytes_per_second']:.1f} GB/s"
    )
