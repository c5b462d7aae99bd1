"""``smoothdistill train``: recordings in, a run folder with its report out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from smoothdistill.commands.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    OutOption,
    QuietOption,
    SeedOption,
    SetOption,
    SideBySideOption,
    configuration,
)

if TYPE_CHECKING:
    from smoothdistill.training.run import Run

__all__ = ["FIRST_RUN", "finish", "stop_with_hint", "train"]

FIRST_RUN = ("train.epochs=10",)
"""What the synthetic data set is trained with unless told otherwise: a first look within two
minutes."""


def train(
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    side_by_side: SideBySideOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a method on recordings, test it on unseen people, and write a run folder.

    Without any option the embedded synthetic data set is used, with settings for a quick look (10
    epochs). Public data sets are named by data.name and found
    by data.root; `smoothdistill data list` shows them.
    """
    from smoothdistill.training.run_folder import default_folder
    from smoothdistill.training.trainer import Trainer

    chosen = configuration(config, overrides, seed=seed, device=device)
    if config is None and chosen.data.name == "synthetic":
        given = [*FIRST_RUN, *(overrides or ())]
        chosen = configuration(config, given, seed=seed, device=device)
    folder = out or default_folder(Path("runs"), f"{chosen.data.name}-{chosen.method.name}")
    try:
        run = Trainer.from_config(
            chosen, out=folder, progress=not quiet, side_by_side=side_by_side
        ).fit()
    except (KeyboardInterrupt, SystemExit) as stop:
        stop_with_hint(stop, folder)
    finish(run, quiet=quiet, as_json=as_json)


def stop_with_hint(stop: BaseException, folder: Path) -> None:
    """After a signal: say how to go on, and end with the signal's code.

    Raises:
        typer.Exit: With 130 after Ctrl-C.
        SystemExit: As it was raised, after SIGTERM.
    """
    if (folder / "config.toml").exists():
        sys.stderr.write(f"Stopped; `smoothdistill resume {folder}` goes on.\n")
    if isinstance(stop, SystemExit):
        raise stop
    raise typer.Exit(130) from stop


def finish(run: Run, *, quiet: bool, as_json: bool) -> None:
    """Write the report of a finished run, and print its results."""
    from smoothdistill.commands.output import print_json, print_lines, print_results
    from smoothdistill.evaluation.report import write_report

    page = write_report(run.folder)
    if as_json:
        print_json({"folder": str(run.folder), "report": str(page), **run.summary})
    elif not quiet:
        print_results(run.summary)
        if run.config.split.protocol == "published":
            print_lines(
                "These scores leak: the published protocol has the same people, and overlapping "
                "windows, in training and test."
            )
        print_lines(f"report: {page}")
