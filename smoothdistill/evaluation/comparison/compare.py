"""`compare`: methods side by side, from a grid or from runs; and what it returns."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from smoothdistill.errors import CheckpointError, SmoothDistillError
from smoothdistill.evaluation.comparison.archive import (
    fill_in,
    lay_cells,
    read_archives,
    write_archive,
)
from smoothdistill.evaluation.comparison.config import CompareConfig
from smoothdistill.evaluation.comparison.figures import write_comparison_figures
from smoothdistill.evaluation.comparison.grid import check_jobs, forget_failures, train_grid
from smoothdistill.evaluation.comparison.headline import headline
from smoothdistill.evaluation.comparison.page import comparison_page
from smoothdistill.evaluation.comparison.plan import PLAN_FILE, Plan, cell_state, make_plan
from smoothdistill.evaluation.comparison.records import read_cells
from smoothdistill.evaluation.comparison.results import comparison_content
from smoothdistill.evaluation.comparison.runs import plan_of_runs
from smoothdistill.evaluation.comparison.tables import comparison_rows, write_tables
from smoothdistill.training import Run
from smoothdistill.training.run_folder import (
    RUN_FILES,
    default_folder,
    read_json,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    from smoothdistill.evaluation.comparison.records import CellResult

__all__ = [
    "Comparison",
    "compare",
    "list_cells",
    "plan_comparison",
    "with_baseline",
    "write_comparison",
]


@dataclass(frozen=True)
class Comparison:
    """A comparison on the disk.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    @cached_property
    def content(self) -> dict[str, Any]:
        """Contents of `comparison.json`.

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        return read_json(self.folder / "comparison.json")

    @property
    def headline(self) -> str:
        """What the numbers say, in a sentence or two."""
        return str(self.content["headline"])

    @property
    def failures(self) -> list[str]:
        """Cells that failed, each with its reason."""
        return [
            f"{cell['variant']}, seed {cell['seed']}, fold {cell['fold']}: {cell['reason']}"
            for cell in self.content["cells"]
            if cell["state"] == "failed"
        ]

    def table(self) -> list[dict[str, Any]]:
        """One row per variant and task: scores, interval, and the difference to the baseline.

        Scores and differences are in [0, 1] and [-1, 1]; NaN where there is none.
        """
        return comparison_rows(self.content)

    def differences(self) -> list[dict[str, Any]]:
        """Rows of `differences.csv`: every score and task, per subject and pooled; None for NaN."""
        return list(self.content["differences"])


def compare(
    config_or_runs: CompareConfig | Mapping[str, Any] | str | Path | Sequence[str | Path | Run],
    *,
    out: str | Path | None = None,
    jobs: int | None = 1,
    backend: str = "processes",
    retry: bool = False,
    baseline: str | None = None,
    cells: Sequence[str | Path] = (),
    progress: bool | None = None,
) -> Comparison:
    """Put methods side by side on the same folds and seeds.

    Args:
        config_or_runs: A grid (a file, the name of a preset, nested tables, a `CompareConfig`),
            whose cells are trained unless `out` has them already; or a list of finished runs of
            the same data and folds.
        out: Folder of the comparison; by default a new one in ``runs``.
        jobs: Cells to train at a time; -1 is one for each core.
        backend: What trains several: "processes", "dask" or "ray". With "threads" they take turns
            on a GPU, each on a stream of its own; on a CPU it is one after the other.
        retry: Whether cells that failed before, or are damaged, are tried again.
        baseline: Label of the variant that differences are taken against, instead of the grid's.
        cells: Files `cells.zip` of other comparisons, here or on other machines, whose finished
            cells are taken as they are instead of being trained again.
        progress: Whether to show a bar on a terminal; by default yes.

    Returns:
        The comparison; cells that failed are in its `failures`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument breaks its rule.
        FileNotFoundError: If a file or folder is not there.
        DataError: If data cannot be read or divided, or runs have different data or folds.
        CheckpointError: If a run is not finished, or damaged.
        KeyboardInterrupt, SystemExit: After a signal, once the cells under way are saved.
    """
    check_jobs(jobs, backend)
    folder = None if out is None else Path(out)
    plan, folder = plan_comparison(config_or_runs, folder, baseline)
    if plan.source != "grid":
        if cells:
            raise ValueError(
                "`cells` must be left out where runs are compared, but holds "
                f"{len(cells)} file(s) instead."
            )
        folder.mkdir(parents=True, exist_ok=True)
        plan.write(folder)
        return write_comparison(folder)
    taken = read_archives(cells, plan)
    folder.mkdir(parents=True, exist_ok=True)
    with _claimed(folder):
        if retry:
            forget_failures(plan, folder)
        lay_cells(taken, folder)
        plan.write(folder)
        write_text(folder / "grid.toml", plan.config_text)
        show = sys.stderr.isatty() if progress is None else progress
        train_grid(plan, folder, jobs=jobs, backend=backend, show=show)
        return write_comparison(folder)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Let nobody else train cells of this folder meanwhile; the claim ends with the process."""
    cells = folder / "cells"
    cells.mkdir(exist_ok=True)
    lock = FileLock(cells / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"`out` must be a folder that no other comparison is filling, but {str(folder)!r} is "
            "being filled instead; `--jobs` trains several cells at a time."
        ) from None
    try:
        yield
    finally:
        lock.release()


def plan_comparison(
    config_or_runs: CompareConfig | Mapping[str, Any] | str | Path | Sequence[str | Path | Run],
    out: Path | None,
    baseline: str | None = None,
) -> tuple[Plan, Path]:
    """Variants and cells, and the folder that they are for; nothing is written.

    Raises:
        As `compare` does.
    """
    if isinstance(config_or_runs, Sequence) and not isinstance(config_or_runs, str):
        folder = _free(out or default_folder(Path("runs"), "comparison"))
        if (folder / "grid.toml").exists():
            raise ValueError(
                f"`out` must be a folder without a grid, but {str(folder)!r} holds one instead."
            )
        runs = [run.folder if isinstance(run, Run) else run for run in config_or_runs]
        plan = plan_of_runs(runs, folder, baseline)
    else:
        config = with_baseline(_config(config_or_runs), baseline)
        folder = _free(out or default_folder(Path("runs"), "comparison"))
        plan = make_plan(config)
    return plan, folder


def with_baseline(config: CompareConfig, label: str | None) -> CompareConfig:
    """A grid with another baseline; None leaves it as it is.

    Raises:
        ValueError: If there is no variant of that label.
    """
    if label is None:
        return config
    table = config.model_dump(exclude_none=True)
    return CompareConfig.from_table(table | {"compare": {**table["compare"], "baseline": label}})


def list_cells(plan: Plan, out: Path, cells: Sequence[str | Path] = ()) -> list[dict[str, Any]]:
    """Every cell with its folder and state.

    Args:
        plan: The cells.
        out: Folder of the comparison.
        cells: As for `compare`: what they hold counts as finished.
    """
    taken = read_archives(cells, plan)
    rows = []
    for cell in plan.cells:
        state, reason = cell_state(out / cell.folder)
        if state == "to do" and cell.folder in taken:
            state = "finished"
        rows.append(
            {
                "variant": cell.variant,
                "seed": cell.seed,
                "fold": cell.fold,
                "folder": cell.folder,
                "state": state,
                "reason": reason,
            }
        )
    return rows


def write_comparison(folder: str | Path) -> Comparison:
    """Write every result of a comparison anew from its cells, without data and without training.

    Cells of a grid whose folders are gone are taken from its `cells.zip`.

    Args:
        folder: A folder that `compare` has made.

    Raises:
        FileNotFoundError: If there is no such folder.
        CheckpointError: If it holds no comparison, or lacks what its results were made of; they
            are left as they are.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`folder` must be the folder of a comparison, but {str(folder)!r} does not exist "
            "instead."
        )
    plan = Plan.read(folder)
    results = read_cells(plan, folder)
    if plan.source == "grid":
        results = fill_in(folder, results)
    _require_sources(folder, results)
    if plan.source == "grid":
        write_archive(folder, results)
    content = comparison_content(plan, results)
    content["headline"] = headline(content)
    write_json(folder / "comparison.json", content)
    content = read_json(folder / "comparison.json")  # where what is unknown is None
    write_tables(folder, content, plan, results)
    no_figures = ""
    try:
        figures = write_comparison_figures(folder, content, results)
    except SmoothDistillError as error:  # matplotlib is an extra: the tables stand without it
        figures, no_figures = [], str(error)
    write_text(folder / "report.html", comparison_page(content, figures, no_figures=no_figures))
    return Comparison(folder)


def _require_sources(folder: Path, results: Sequence[CellResult]) -> None:
    """Refuse to replace results by those of fewer cells.

    Raises:
        CheckpointError: If a cell that the results were made of is not there any more.
    """
    try:
        known = read_json(folder / "comparison.json")["cells"]
        finished = {one["folder"] for one in known if one["state"] == "finished"}
    except (CheckpointError, KeyError, TypeError):  # there are none
        return
    lost = {one.cell.folder for one in results if one.state == "to do"} & finished
    if lost:
        raise CheckpointError(
            "`folder` must hold the cells that its results were made of, but "
            f"{str(folder)!r} has lost {len(lost)} of them ({min(lost)}) instead."
        )


def _config(given: Any) -> CompareConfig:
    if isinstance(given, CompareConfig):
        return given
    if isinstance(given, Mapping):
        return CompareConfig.from_table(given)
    if isinstance(given, str | Path):
        return CompareConfig.from_file(given)
    raise TypeError(
        "`config_or_runs` must be a grid (a file, a preset or tables) or a list of run folders, "
        f"but is a {type(given).__name__} instead."
    )


def _free(folder: Path) -> Path:
    """Refuse a folder that is a file or holds a run.

    Raises:
        ValueError: If it does.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` must be a folder, but {str(folder)!r} is a file instead.")
    if not (folder / PLAN_FILE).exists() and any((folder / name).exists() for name in RUN_FILES):
        raise ValueError(
            f"`out` must be a folder without a run, but {str(folder)!r} holds one instead."
        )
    return folder
