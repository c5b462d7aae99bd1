"""What commands print: tables of text on stdout, JSON, and the version."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

__all__ = [
    "package_version",
    "print_json",
    "print_lines",
    "print_results",
    "print_table",
]

_ROLE_STYLES = {"student": "blue", "teacher": "dark_orange"}


def package_version() -> str:
    """Version of the installed package."""
    try:
        return version("smoothdistill")
    except PackageNotFoundError:  # imported from a checkout that was not installed
        return "(not installed)"


def print_json(content: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def print_lines(*lines: str) -> None:
    """Print plain lines on stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    num_names: int = 1,
) -> None:
    """Print a table that fits the terminal.

    Args:
        headings: Names of the columns.
        rows: Cells as text.
        title: Line above the table.
        num_names: Columns that hold names and are set to the left; the others are numbers.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD if any(headings) else None,
        show_header=any(headings),
        title=Text(title, style="table.title") if title else None,
        title_justify="left",
        pad_edge=False,
    )
    for place, heading in enumerate(headings):
        justify: Literal["left", "right"] = "left" if place < num_names else "right"
        # Text, not str: names of the user's own must not be read as markup.
        table.add_column(Text(heading), justify=justify, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_ROLE_STYLES.get(cell, "")) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 132  # a file has no width to fit
    console.print(table)


def print_results(summary: Mapping[str, Any]) -> None:
    """Print task x role against macro-F1 with its interval, accuracy and calibration.

    Args:
        summary: Of the form of a run's ``summary.json``.
    """
    from smoothdistill.evaluation.tables import format_value, score_of
    from smoothdistill.training.roles import ROLES

    rows = []
    for task in summary["tasks"]:
        for role in ROLES:
            scores = {
                metric: score_of(summary, task, role, metric)
                for metric in ("macro_f1", "accuracy", "balanced_accuracy", "ece")
            }
            share = score_of(summary, task, role, "largest_class_share")
            rows.append(
                (
                    task,
                    role,
                    scores["macro_f1"].spread,
                    scores["macro_f1"].interval,
                    scores["accuracy"].spread,
                    scores["balanced_accuracy"].spread,
                    format_value(scores["ece"].mean),
                    format_value(share.mean),
                )
            )
    headings = (
        "task", "model", "macro-F1", "95 % interval", "accuracy", "balanced acc.", "ECE",
        "largest class",
    )  # fmt: skip
    print_table(headings, rows, num_names=2)
