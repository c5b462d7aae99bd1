"""All cells of a grid: by one process or many, with one bar, and in good order after a signal."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from smoothdistill.errors import CheckpointError
from smoothdistill.evaluation.comparison.plan import Cell, Plan, cell_state, forget_windows
from smoothdistill.evaluation.comparison.records import read_cells
from smoothdistill.evaluation.comparison.train_cell import CellTrainer, Outcome
from smoothdistill.methods import METHODS
from smoothdistill.models import MODELS
from smoothdistill.training.interrupt import StopRequest
from smoothdistill.training.run_folder import read_json
from smoothdistill.workers import check_backend, count_workers, results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["check_jobs", "forget_failures", "train_grid"]


def check_jobs(jobs: int | None, backend: str) -> int | None:
    """Number of workers of a backend that can be used; None is all of a cluster.

    Raises:
        TypeError: If `jobs` is no integer.
        ValueError: If it is neither at least 1 nor -1, or the backend cannot be used.
    """
    check_backend(backend)
    try:
        return count_workers(jobs, backend)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`n_jobs`", "`jobs`")) from error


def forget_failures(plan: Plan, out: Path) -> None:
    """Before another attempt: make of cells that failed, and their teachers, interrupted ones.

    Those whose files are damaged are removed.

    Args:
        plan: The cells.
        out: Folder of the comparison, which nobody is filling.
    """
    for path in out.glob("cells/*/failed.json"):
        try:
            is_damaged = read_json(path).get("kind") == CheckpointError.__name__
        except CheckpointError:
            is_damaged = True
        if is_damaged:
            shutil.rmtree(path.parent)
        else:  # it goes on from the saved state
            path.unlink()
    for folder in {one.cell.folder for one in read_cells(plan, out) if one.state == "failed"}:
        shutil.rmtree(out / folder)


def train_grid(plan: Plan, out: Path, *, jobs: int | None, backend: str, show: bool) -> None:
    """Train every cell that has not ended; one that fails is marked, and the others go on.

    Args:
        plan: The cells.
        out: Folder of the comparison.
        jobs: Cells to train at a time. With "threads" they take turns on a GPU, in this very
            thread; on a CPU it is one after the other.
        backend: One of `workers.BACKENDS`.
        show: Whether to show a bar, which needs a terminal.

    Raises:
        KeyboardInterrupt: After Ctrl-C, once the cells under way are saved.
        SystemExit: After SIGTERM, likewise; the code is 143.
        OSError: If a worker process was killed.
    """
    num_workers = check_jobs(jobs, backend)
    states = {cell.folder: cell_state(out / cell.folder)[0] for cell in plan.work}
    todo = [cell for cell in plan.work if states[cell.folder] not in ("finished", "failed")]
    if num_workers == 1 or len(todo) == 1:
        backend = "threads"
    stop_file = out / "cells" / f".stop-{os.getpid()}"
    stop_file.unlink(missing_ok=True)
    trainer = _trainer(todo, out.resolve(), stop_file.resolve(), backend)
    bar = _Bar(len(plan.work), len(plan.work) - len(todo), todo, show=show)
    try:
        with _GridStop(stop_file) as stop, bar:
            try:
                if backend == "threads":
                    outcomes = trainer.here(todo, num_workers or 1)
                else:
                    outcomes = results(trainer, todo, num_workers, backend)
                with closing(outcomes):
                    for outcome in outcomes:
                        bar.advance(outcome)
            except RuntimeError as error:
                if "worker" not in type(error).__name__.lower():
                    raise
                raise OSError(
                    "A worker process was killed from outside, perhaps for want of memory; the "
                    "same command goes on, with fewer `--jobs` if need be."
                ) from error
            if stop.requested():
                stop.leave("The cells under way were saved.")
    finally:
        stop_file.unlink(missing_ok=True)
        _remove_locks(out / "cells")
        forget_windows()


def _remove_locks(cells: Path) -> None:
    """Remove the locks that nobody holds; a worker of a cluster may train on after a signal."""
    for path in cells.glob(".?*.lock"):
        lock = FileLock(path)
        with suppress(Timeout), lock.acquire(timeout=0):
            path.unlink(missing_ok=True)


def _trainer(todo: Sequence[Cell], out: Path, stop_file: Path, backend: str) -> CellTrainer:
    if backend == "threads":
        return CellTrainer(out, stop_file)
    configs = [cell.config for cell in todo if cell.config is not None]
    configs += [config.of_teacher() for config in configs if config.teacher is not None]
    return CellTrainer(
        out,
        stop_file,
        parent=os.getpid() if backend == "processes" else 0,
        methods={config.method.name: METHODS[config.method.name] for config in configs},
        models={config.model.name: MODELS[config.model.name] for config in configs},
        is_worker=True,
    )


class _GridStop(StopRequest):
    """Notes a signal, and passes it on to the workers through a file."""

    def __init__(self, stop_file: Path) -> None:
        super().__init__()
        self._stop_file = stop_file

    def note(self, number: int) -> None:
        super().note(number)
        self._stop_file.touch()


class _Bar:
    """Cells done, time left, and the cell under way: on stderr, on a terminal only."""

    def __init__(self, total: int, done: int, todo: Sequence[Cell], *, show: bool) -> None:
        self._total, self._done = total, done
        self._names = [cell.name for cell in todo]
        self._place = self._num_failed = 0
        self._show = show and sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._show:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("cells"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self._description(), total=self._total, completed=self._done
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _description(self) -> str:
        failed = f"{self._num_failed} failed  " if self._num_failed else ""
        return failed + (self._names[self._place] if self._place < len(self._names) else "")

    def advance(self, outcome: Outcome) -> None:
        """Note that the next cell has ended, well or not."""
        self._place += 1
        self._num_failed += outcome.state == "failed"
        if self._bar is not None:
            step = 1 if outcome.state in ("finished", "failed") else 0
            self._bar.update(self._task, advance=step, description=self._description())
