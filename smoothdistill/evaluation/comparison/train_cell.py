"""Cells in whatever process it is: prepared, trained or resumed, and marked if they fail."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock, Timeout

from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.evaluation.comparison.plan import (
    Cell,
    CellState,
    cell_key,
    cell_state,
    windows_of,
)
from smoothdistill.methods import METHODS, Method
from smoothdistill.models import MODELS
from smoothdistill.training import Run
from smoothdistill.training.checkpoint import remove_leftovers
from smoothdistill.training.data_source import make_split
from smoothdistill.training.interrupt import StopRequest
from smoothdistill.training.run_execution import Manner, device_of, resume_run
from smoothdistill.training.run_folder import (
    describe_data,
    describe_splits,
    fold_folder,
    write_json,
    write_text,
)
from smoothdistill.training.turns import in_one_go, side_by_side
from smoothdistill.workers import torch_threads

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import nn

    from smoothdistill.training.turns import Turns

__all__ = ["CellTrainer", "Outcome"]

_LOOK_EVERY_SECONDS = 0.2
_LOCK_SECONDS = 0.001  # that others wait for somebody who waits for a cell

# PyTorch's random generator is one for all threads of a process: two cells at once would take
# each other's numbers, and no result would come twice.
_ONE_AT_A_TIME = threading.Lock()

_NUM_THREADS = 1  # of PyTorch's, wherever a cell is trained: sums of several have other bits


@dataclass(frozen=True)
class Outcome:
    """What has become of a cell.

    Attributes:
        cell: The cell.
        state: "finished" or "failed"; after a signal "interrupted", or "to do" if not begun.
        reason: Why it failed.
    """

    cell: Cell
    state: CellState
    reason: str = ""


@dataclass(frozen=True, eq=False)  # by identity: Dask hashes its tasks
class CellTrainer:
    """Trains one cell after the other in worker processes, or several by turns in this one.

    Attributes:
        out: Folder of the comparison.
        stop_file: As soon as it exists, cells under way save and leave, and no other is begun.
        parent: Process number of the process that shares out the work; 0 where it is this one, or
            on another machine.
        methods: The methods that the cells name, for processes in which they are not registered.
        models: The models, likewise.
        is_worker: Whether it runs in a process of its own.
    """

    out: Path
    stop_file: Path
    parent: int = 0
    methods: dict[str, type[Method]] = field(default_factory=dict)
    models: dict[str, type[nn.Module]] = field(default_factory=dict)
    is_worker: bool = False

    def __call__(self, cell: Cell) -> Outcome:
        """What a worker does: train a cell to its end, or to where a signal stops it."""
        with _ONE_AT_A_TIME, torch_threads(_NUM_THREADS), self._watch():
            self._settle_in()
            try:
                return in_one_go(self.turns(cell))
            except (KeyboardInterrupt, SystemExit):  # the state is saved
                pass
        return self._left(cell)

    def here(self, cells: Sequence[Cell], most: int) -> Generator[Outcome, None, None]:
        """Train cells in this very thread, and say of each what has become of it.

        Args:
            cells: The cells.
            most: Cells to train at a time where they are trained on a GPU, by turns; on a CPU it is
                one after the other.

        Raises:
            KeyboardInterrupt, SystemExit: After a signal.
        """
        ended: list[Outcome] = []

        def train(cell: Cell) -> Turns[None]:
            ended.append((yield from self.turns(cell)))

        with _ONE_AT_A_TIME, torch_threads(_NUM_THREADS):
            for _ in side_by_side(map(train, cells), _device(cells), most):
                while ended:
                    yield ended.pop(0)
            yield from ended

    def turns(self, cell: Cell) -> Turns[Outcome]:
        """Train a cell to its end, unless all must stop.

        Raises:
            KeyboardInterrupt, SystemExit: After a signal.
        """
        if self._must_stop():
            return self._left(cell)
        return (yield from self._train(cell, self.out / cell.folder))

    def _train(self, cell: Cell, folder: Path) -> Turns[Outcome]:
        """Train a cell, after its teacher where it has one of its own; others wait meanwhile."""
        failure = folder / "failed.json"
        folder.mkdir(parents=True, exist_ok=True)
        # Two may want one cell: as what it is, and as the teacher of another.
        lock = FileLock(self.out / "cells" / f".{folder.name}.lock")
        while not self._acquired(lock):
            yield
        try:
            state, reason = cell_state(folder)
            if state == "failed" or (state == "finished" and _can_teach(cell, folder)):
                return Outcome(cell, state, reason)
            if self._must_stop():
                return Outcome(cell, cell_state(folder)[0])
            _prepare(cell, folder)
            assert cell.config is not None
            windows = windows_of(cell.config.data, cell.fingerprint)
            teacher = yield from self._teacher_of(cell)
            yield from resume_run(Run(folder), windows, Manner(show=False), teacher=teacher)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            folder.mkdir(parents=True, exist_ok=True)
            write_json(failure, {"error": reason, "kind": type(error).__name__})
            return Outcome(cell, "failed", reason)
        finally:
            lock.release()
        # The state to go on from is three times as large as the two models, and nobody goes on.
        (fold_folder(folder, cell.fold) / "last.safetensors").unlink(missing_ok=True)
        return Outcome(cell, "finished")

    def _acquired(self, lock: FileLock) -> bool:
        """Whether a cell is ours now; a worker waits until it is, in this thread others train."""
        try:
            lock.acquire(timeout=-1 if self.is_worker else _LOCK_SECONDS)
        except Timeout:
            return False
        return True

    def _teacher_of(self, cell: Cell) -> Turns[Path | None]:
        """Folder of the cell that teaches another, trained if need be; None where none does.

        Raises:
            DataError: If it failed.
            KeyboardInterrupt, SystemExit: After a signal.
        """
        config = cell.config
        assert config is not None
        is_trained = METHODS[config.method.name].teacher_model == "trained"
        if not is_trained or config.teacher is None or config.teacher.run is not None:
            return None
        own = config.of_teacher()
        folder = f"cells/{cell_key(own, cell.fingerprint)}"
        teacher = replace(cell, variant=f"{cell.variant}, teacher", folder=folder, config=own)
        outcome = yield from self._train(teacher, self.out / folder)
        if outcome.state == "failed":
            raise DataError(f"The teacher failed: {outcome.reason}")
        if outcome.state != "finished":
            raise KeyboardInterrupt
        return self.out / folder

    def _left(self, cell: Cell) -> Outcome:
        """The outcome of a cell that was left alone; an orphan has nobody to give it to."""
        if self._is_orphan():
            os._exit(128 + signal.SIGTERM)
        return Outcome(cell, cell_state(self.out / cell.folder)[0])

    def _settle_in(self) -> None:
        """Make a worker process know what its parent knows."""
        for name, method in self.methods.items():
            METHODS.setdefault(name, method)
        for name, model in self.models.items():
            MODELS.setdefault(name, model)
        # Ctrl-C goes to the whole group of processes of a terminal. A worker leaves the group, so
        # that it hears of a signal once, from its parent: a second one would end it unsaved.
        if self.parent and hasattr(os, "setpgrp") and os.getpgrp() == os.getpgid(self.parent):
            os.setpgrp()

    def _must_stop(self) -> bool:
        return self._is_orphan() or self.stop_file.exists()

    def _is_orphan(self) -> bool:
        """Whether the process that shares out the work was killed."""
        return self.is_worker and self.parent != 0 and os.getppid() != self.parent

    @contextmanager
    def _watch(self) -> Iterator[None]:
        """Pass a stop on to the trainer, which has set its handlers while it trains.

        They are set in the main thread only. In any other (Dask's workers have such) a cell is
        trained to its end.
        """
        is_done = threading.Event()

        def look() -> None:
            while not is_done.wait(_LOOK_EVERY_SECONDS):
                if self._must_stop():
                    StopRequest.note_all(signal.SIGTERM)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_done.set()
            watcher.join()


def _device(cells: Sequence[Cell]) -> torch.device:
    """Where cells are trained; where there is no such device, none will be, and each says why."""
    try:
        devices = {device_of(cell.config.train.device) for cell in cells if cell.config is not None}
    except ValueError:
        devices = set()
    return devices.pop() if len(devices) == 1 else torch.device("cpu")


def _can_teach(cell: Cell, folder: Path) -> bool:
    """Whether the networks of a finished cell can be read; what is damaged is removed."""
    try:
        Run(folder).checkpoint(cell.fold)
    except (CheckpointError, FileNotFoundError):
        shutil.rmtree(folder)
        return False
    return True


def _prepare(cell: Cell, folder: Path) -> None:
    """Write the files by which `Trainer.resume` knows what to train, where they are not there.

    A cell is begun like one that was interrupted before its first step. So its windows, which
    many cells share, are handed over, and its configuration names them all the same.
    """
    if (folder / "config.toml").is_file():
        return
    assert cell.config is not None
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    windows = windows_of(cell.config.data, cell.fingerprint)
    split = cell.config.split
    write_json(folder / "data.json", describe_data(windows, is_given=False))
    write_json(folder / "splits.json", describe_splits(windows, make_split(split, windows), split))
    write_json(folder / "status.json", {"state": "running"})
    # The last one: a folder with a configuration has the others too.
    write_text(folder / "config.toml", cell.config.to_toml())
