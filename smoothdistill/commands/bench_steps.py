"""What ``smoothdistill bench step`` prints."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from smoothdistill.commands.output import print_lines, print_table

__all__ = ["part_bars", "print_steps"]

Row = dict[str, Any]
_BAR_CHARACTERS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_steps(found: dict[str, list[Row]]) -> None:
    """Print times and ratios, the forms of the floor, where the time goes, and inference.

    Args:
        found: From `benchmark.step.run_steps`.
    """
    _print_times(found)
    for row in found["left_out"]:
        print_lines(f"left out: {row['provider']}, {_case(row)} ({row['reason']})")
    _print_forms(found["forms"])
    for place, parts in _by(found["parts"], "threads", "layout", "batch", "provider"):
        rows = sorted(parts, key=lambda row: row["part"] == "rest")  # stable: the rest is last
        print_lines("", f"where the time goes: {place[-1]}, {_case(rows[0])}", *part_bars(rows))
    print_lines("")
    _print_inference(found["inference"])


def part_bars(parts: list[Row]) -> list[str]:
    """One line for each part: name, microseconds, share of the whole, and a bar.

    Args:
        parts: Rows with `part` and `microseconds`. Together they are the whole.
    """
    whole = sum(row["microseconds"] for row in parts)
    longest = max(row["microseconds"] for row in parts)
    width = max(len(row["part"]) for row in parts)
    return [
        f"  {row['part']:{width}} {row['microseconds']:10,.1f} µs "
        f"{100 * row['microseconds'] / whole:5.1f} %  {_bar(row['microseconds'] / longest)}"
        for row in parts
    ]


def _bar(share: float) -> str:
    eighths = round(max(share, 0.0) * 8 * _BAR_CHARACTERS)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _case(row: Row) -> str:
    threads = f", {row['threads']} threads" if row.get("threads", 1) > 1 else ""
    return f"{row['layout']}, batch {row['batch']}{threads}"


def _by(rows: Iterable[Row], *keys: str) -> Iterable[tuple[tuple[Any, ...], Iterable[Row]]]:
    return groupby(rows, key=lambda row: tuple(row[key] for key in keys))


def _print_times(found: dict[str, list[Row]]) -> None:
    ratios = {
        (_case(row), row["against"]): row
        for row in found["ratios"]
        if row["provider"] == "ours, float32"
    }
    rows = []
    for row in found["times"]:
        ratio = ratios.get((_case(row), row["provider"]))
        rows.append(
            (
                _case(row),
                row["provider"],
                f"{row['median_microseconds'] / 1e3:,.3f}",
                f"{row['quartile_1_microseconds'] / 1e3:,.3f} to "
                f"{row['quartile_3_microseconds'] / 1e3:,.3f}",
                "" if ratio is None else f"{ratio['ratio']:.2f}x",
                "" if ratio is None else f"{ratio['ratio_low']:.2f} to {ratio['ratio_high']:.2f}",
            )
        )
    headings = ("step", "provider", "median, ms", "quartiles", "over ours, float32", "quartiles")
    print_table(headings, rows, num_names=2)


def _print_forms(forms: list[Row]) -> None:
    rows = [
        (
            _case(row),
            row["product"],
            row["form"],
            f"{row['count']}",
            f"{row['microseconds']:,.1f}",
            f"{row['gigaflops']:,.0f}",
        )
        for row in forms
    ]
    headings = ("step", "product of the floor", "fastest form", "times", "µs", "GFLOP/s")
    print_table(headings, rows, num_names=3)


def _print_inference(inference: list[Row]) -> None:
    rows = [
        (
            _case(row),
            row["provider"],
            f"{row['median_microseconds']:,.1f}",
            f"{row['quartile_1_microseconds']:,.1f} to {row['quartile_3_microseconds']:,.1f}",
            f"{row['ratio']:.2f}x",
            f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}",
        )
        for row in inference
    ]
    headings = ("inference", "provider", "median, µs", "quartiles", "over ours", "quartiles")
    print_table(headings, rows, num_names=2)
