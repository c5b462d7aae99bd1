"""``smoothdistill compare``: methods side by side, from a grid or from runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothdistill import presets
from smoothdistill.commands.options import (
    DeviceOption,
    JsonOption,
    OutOption,
    QuietOption,
    SetOption,
)

if TYPE_CHECKING:
    from smoothdistill.evaluation import CompareConfig, Comparison
    from smoothdistill.evaluation.comparison.plan import Plan

__all__ = ["compare"]

_FAILED = 1


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Finished runs of the same data and folds."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE.toml",
            help=f"Grid to train, or the name of a preset: {', '.join(presets.names())}.",
        ),
    ] = None,
    overrides: SetOption = None,
    out: OutOption = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL", help="What differences are taken against; by default the first."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="One seed instead of those of the grid.")
    ] = None,
    device: DeviceOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Cells to train at a time; -1 is one for each core."),
    ] = 1,
    backend: Annotated[
        str,
        typer.Option(
            help="What trains several cells: processes, dask or ray; with threads they take turns "
            "on a GPU, and on a CPU it is one after the other."
        ),
    ] = "processes",
    retry: Annotated[
        bool, typer.Option("--retry", help="Try cells again that failed before or are damaged.")
    ] = False,
    cells: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.zip",
            help="cells.zip of another comparison, here or elsewhere: what it holds is not trained "
            "again. May be given several times.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and what has become of them.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train methods x seeds x folds, and say how far they differ on the same people.

    A grid is a TOML file (docs/compare.md), or a preset: --config quick. Cells that the folder has
    already are not trained again; after Ctrl-C the same command goes on. Finished runs of the same
    data and folds are compared as they are.
    """
    from smoothdistill.evaluation.comparison.compare import compare as compare_methods

    if bool(runs) == (config is not None):
        raise ValueError(
            "`RUN` or `--config` must be given, and not both, but "
            f"{'both are' if runs else 'neither is'} instead."
        )
    if runs and (overrides or seed is not None or device is not None or retry or cells or dry_run):
        raise ValueError(
            "`RUN` must be compared as it is, but --set, --seed, --device, --retry, --cells or "
            "--dry-run is given instead."
        )
    grid = None if config is None else _grid(config, overrides, seed, device)
    folder = out or (None if config is None else Path("runs") / f"compare-{Path(config).stem}")
    if dry_run and grid is not None and folder is not None:
        _list(grid, folder, baseline, cells or [], quiet=quiet, as_json=as_json)
        return
    try:
        found = compare_methods(
            runs or [] if grid is None else grid,
            out=folder,
            jobs=jobs,
            backend=backend,
            retry=retry,
            baseline=baseline,
            cells=cells or [],
            progress=not quiet,
        )
    except (KeyboardInterrupt, SystemExit) as stop:
        sys.stderr.write("Stopped; the same command goes on.\n")
        if isinstance(stop, SystemExit):
            raise
        raise typer.Exit(130) from stop
    _finish(found, quiet=quiet, as_json=as_json)


def _grid(
    config: str, overrides: list[str] | None, seed: int | None, device: str | None
) -> CompareConfig:
    from smoothdistill.evaluation import CompareConfig

    given = list(overrides or ())
    if seed is not None:
        given.append(f"compare.seeds=[{seed}]")
    if device is not None:
        given.append(f'train.device="{device}"')
    return CompareConfig.from_file(config, given)


def _list(
    grid: CompareConfig,
    folder: Path,
    baseline: str | None,
    taken: list[Path],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from smoothdistill.commands.output import print_json, print_lines, print_table
    from smoothdistill.evaluation.comparison.compare import list_cells, with_baseline
    from smoothdistill.evaluation.comparison.plan import make_plan

    plan: Plan = make_plan(with_baseline(grid, baseline))
    cells = list_cells(plan, folder, taken)
    if as_json:
        print_json(cells)
    elif not quiet:
        print_table(
            ("variant", "seed", "fold", "state", "folder"),
            [
                (
                    str(cell["variant"]),
                    str(cell["seed"]),
                    str(cell["fold"]),
                    ": ".join(part for part in (cell["state"], cell["reason"]) if part),
                    str(cell["folder"]),
                )
                for cell in cells
            ],
        )
        counts = Counter({cell["folder"]: cell["state"] for cell in cells}.values())
        print_lines(", ".join(f"{count} {state}" for state, count in counts.items()))


def _finish(found: Comparison, *, quiet: bool, as_json: bool) -> None:
    """Print the results; with cells that failed the exit code is 1.

    Raises:
        typer.Exit: If a cell failed.
    """
    from smoothdistill.commands.output import print_json, print_lines

    page = found.folder / "report.html"
    if as_json:
        print_json({"folder": str(found.folder), "report": str(page), **found.content})
    elif not quiet:
        _print_tables(found.content)
        print_lines(found.headline, f"report: {page}")
    if found.failures:
        for failure in found.failures:
            sys.stderr.write(f"failed: {failure}\n")
        raise typer.Exit(_FAILED)


def _print_tables(content: dict[str, Any]) -> None:
    from smoothdistill.commands.output import print_lines, print_table
    from smoothdistill.evaluation.comparison.tables import footnotes, task_table

    for task in content["tasks"]:
        rows = [_printed(row) for row in task_table(content, task).rows]
        print_table(
            ("variant", "macro-F1", "95 % interval", "points", "95 % interval", "Holm p"),
            rows,
            title=f"{task} (points: macro-F1 over {content['baseline']})",
        )
    print_lines(*footnotes(content), f"protocol: {' and '.join(content['protocols'])}")


def _printed(row: Sequence[str]) -> tuple[str, ...]:
    """Cells of a table that fit a terminal of 80 characters: no spread, one score."""
    label, spread, interval, *_, difference, span, p_value = row
    score = spread.partition(" ±")[0]
    return label, score, interval, "" if difference == "baseline" else difference, span, p_value
