"""`Run`: a run folder read back, with its best models."""

from __future__ import annotations

import csv
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import CheckpointError
from smoothdistill.training.config import RunConfig
from smoothdistill.training.model_checkpoint import ModelCheckpoint
from smoothdistill.training.run_folder import fold_folder, read_json

if TYPE_CHECKING:
    from jaxtyping import Float64
    from torch import nn

__all__ = ["Run"]


class Run:
    """A run that is finished or under way; everything is read when it is asked for.

    Args:
        folder: A folder written by `Trainer`.

    Attributes:
        folder: The same, as a path.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"`folder` must be a run folder, but {str(folder)!r} does not exist instead."
            )

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def config(self) -> RunConfig:
        """What the run was started with.

        Raises:
            CheckpointError: If `config.toml` is missing or damaged.
        """
        try:
            return RunConfig.from_file(self.folder / "config.toml")
        except (OSError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"`folder` must hold a run with a readable config.toml, "
                f"but {str(self.folder)!r} does not ({error}) instead."
            ) from error

    @property
    def status(self) -> dict[str, Any]:
        """`status.json`: state ("running", "interrupted", "failed" or "finished") and place."""
        return read_json(self.folder / "status.json")

    @property
    def is_finished(self) -> bool:
        """Whether every fold has been tested."""
        return bool(self.status.get("state") == "finished")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`.

        ``summary["tasks"][task][role][metric]`` is ``{"mean", "std", "ci95"}``: mean and sample
        standard deviation over folds, and the 95 % interval of the mean by a bootstrap over
        test subjects; None where undefined.
        """
        return read_json(self.folder / "summary.json")

    @property
    def history(self) -> dict[str, Float64[np.ndarray, " epochs"]]:
        """Columns of `history.csv`, one value per fold and epoch; NaN where a cell is empty."""
        path = self.folder / "history.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            values = [[float(cell) if cell else math.nan for cell in row] for row in rows]
            table = np.array(values).reshape(len(rows), len(header))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"`folder` must hold a run with a readable history.csv, "
                f"but {str(path)!r} cannot be read ({type(error).__name__}) instead."
            ) from error
        return {name: table[:, column] for column, name in enumerate(header)}

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds whose best models are there."""
        return sorted(
            int(path.parent.name.removeprefix("fold-"))
            for path in self.folder.glob("fold-*/best.safetensors")
        )

    def checkpoint(self, fold: int = 0) -> ModelCheckpoint:
        """Best student and teacher of one fold.

        Raises:
            FileNotFoundError: If the fold is not finished.
            CheckpointError: If the file is damaged.
        """
        return ModelCheckpoint.load(fold_folder(self.folder, fold) / "best.safetensors")

    def student(self, fold: int = 0) -> nn.Module:
        """The student of its best epoch in the fold, on the CPU and in evaluation mode.

        It takes windows that `checkpoint(fold).standardization` has standardized.
        """
        return self.checkpoint(fold).model("student")

    def teacher(self, fold: int = 0) -> nn.Module:
        """The averaged teacher of its best epoch in the fold, on the CPU and in evaluation mode.

        It takes windows that `checkpoint(fold).standardization` has standardized.
        """
        return self.checkpoint(fold).model("teacher")

    def selected(self, fold: int = 0) -> nn.Module:
        """Whichever of the two did better in validation; it takes windows as they do."""
        return self.checkpoint(fold).model("selected")
