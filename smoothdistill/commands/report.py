"""``smoothdistill report``: write the report of a run, or of a comparison, anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smoothdistill.commands.options import JsonOption, QuietOption

__all__ = ["report"]


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run folder, as `smoothdistill train` leaves it, or that of a comparison.",
        ),
    ],
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write figures, MODEL_CARD.md and report.html of a finished run anew.

    For a comparison, every table, figure and report.html is made anew from its cells, without
    training.
    """
    from smoothdistill.commands.output import print_json, print_lines
    from smoothdistill.evaluation.comparison.plan import PLAN_FILE
    from smoothdistill.evaluation.report import write_report

    if (run / PLAN_FILE).is_file():
        from smoothdistill.evaluation import write_comparison

        page = write_comparison(run).folder / "report.html"
    else:
        page = write_report(run)
    if as_json:
        print_json({"folder": str(run), "report": str(page)})
    elif not quiet:
        print_lines(f"report: {page}")
