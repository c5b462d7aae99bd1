"""``smoothdistill report``: write a run's report anew."""

from __future__ import annotations

from smoothdistill.commands.options import JsonOption, QuietOption, RunArgument

__all__ = ["report"]


def report(run: RunArgument, quiet: QuietOption = False, as_json: JsonOption = False) -> None:
    """Write figures, MODEL_CARD.md and report.html of a finished run anew."""
    from smoothdistill.commands.output import print_json, print_lines
    from smoothdistill.evaluation.report import write_report

    page = write_report(run)
    if as_json:
        print_json({"folder": str(run), "report": str(page)})
    elif not quiet:
        print_lines(f"report: {page}")
