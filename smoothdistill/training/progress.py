"""What a user sees while a run goes on: one bar with losses and the time left, or plain lines."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Progress"]


class Progress:
    """Reports on stderr: a live bar on a terminal, one line per epoch elsewhere.

    Args:
        num_steps: Steps of the whole run.
        num_folds: Folds of the whole run.
        num_epochs: Epochs of each fold.
        show: Whether to report at all.
        title: What the run is, if it is not what was asked for itself: "teacher".
    """

    def __init__(
        self, *, num_steps: int, num_folds: int, num_epochs: int, show: bool, title: str = ""
    ) -> None:
        self._title = f"{title}, " if title else ""
        self._num_steps, self._num_folds, self._num_epochs = num_steps, num_folds, num_epochs
        self._bar: Any = None
        self._task: Any = None
        self._place = self._loss = self._score = ""
        self._shows_lines = show and not sys.stderr.isatty()
        self._shows_bar = show and sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self._shows_bar:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[losses]}"),
                console=Console(stderr=True),
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._num_steps, losses="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def skip(self, num_steps: int) -> None:
        """Count steps that an earlier process has done."""
        if self._bar is not None:
            # As a smaller total, so that the time left is reckoned from this process's steps.
            self._num_steps -= num_steps
            self._bar.update(self._task, total=max(self._num_steps, 1))

    def advance(self, fold_place: int, epoch: int, num_steps: int, loss: float) -> None:
        """Report steps.

        Args:
            fold_place: How many folds have been begun, from 1.
            epoch: Epoch, from 0.
            num_steps: Steps since the last report.
            loss: Newest total; NaN if there is none.
        """
        if self._bar is None:
            return
        epochs = f"epoch {epoch + 1}/{self._num_epochs}"
        self._place = f"{self._title}fold {fold_place}/{self._num_folds}, {epochs}"
        if not math.isnan(loss):
            self._loss = f"loss {loss:.3f}"
        losses = "  ".join(part for part in (self._loss, self._score) if part)
        self._bar.update(self._task, description=self._place, advance=num_steps, losses=losses)

    def epoch_done(
        self,
        fold_place: int,
        epoch: int,
        *,
        seconds: float,
        loss: float,
        student: float,
        teacher: float,
    ) -> None:
        """Report an epoch.

        Args:
            fold_place: How many folds have been begun, from 1.
            epoch: Epoch, from 0.
            seconds: Time it took, in seconds.
            loss: Mean total in training.
            student: Macro-F1 in validation, averaged over tasks.
            teacher: The same of the teacher.
        """
        self._score = f"validation F1 {student:.3f} (teacher {teacher:.3f})"
        if self._shows_lines:
            sys.stderr.write(
                f"{self._title}fold {fold_place}/{self._num_folds}  "
                f"epoch {epoch + 1}/{self._num_epochs}  {seconds:6.1f} s  "
                f"loss {loss:.4f}  {self._score}\n"
            )
            sys.stderr.flush()
