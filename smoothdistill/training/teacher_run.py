"""The run of a teacher that is trained before its student: begun, resumed or found, and checked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from smoothdistill.errors import CheckpointError, DataError, SplitLeakError
from smoothdistill.training.run_folder import fold_folder, read_json, split_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from torch import nn

    from smoothdistill.splits import Fold
    from smoothdistill.training.roles import Role
    from smoothdistill.training.run import Run
    from smoothdistill.training.standardization import Standardization

__all__ = ["TeacherRun", "checkpoint_digest"]


def checkpoint_digest(folder: Path, fold: int) -> str:
    """What tells the networks that a run has chosen in a fold from any others.

    Args:
        folder: The run.
        fold: Number of the fold.

    Raises:
        FileNotFoundError: If the run has not come so far.
    """
    with (fold_folder(folder, fold) / "best.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class TeacherRun:
    """A finished run whose networks teach, each the student of its own fold.

    Args:
        run: The run.
        role: Which of its models teaches.
        folds: The student's folds.
        fingerprint: Fingerprint of the student's data.

    Raises:
        CheckpointError: If the run is not finished, or a file of it is missing or damaged.
        DataError: If it was trained on other data.
        SplitLeakError: If it was trained on other folds, and so perhaps on what tests the student.
    """

    def __init__(
        self,
        run: Run,
        role: Role | Literal["selected"],
        folds: Sequence[Fold],
        fingerprint: str,
    ) -> None:
        self._run, self._role = run, role
        if not run.is_finished:
            raise CheckpointError(
                f"`teacher.run` must be a finished run, but {str(run.folder)!r} is not instead."
            )
        found = read_json(run.folder / "data.json").get("fingerprint")
        if found != fingerprint:
            raise DataError(
                f"`teacher.run` must be a run on data with the fingerprint {fingerprint[:16]}, but "
                f"{str(run.folder)!r} has {str(found)[:16]} instead."
            )
        trained = {
            fold.get("index"): fold.get("digest")
            for fold in read_json(run.folder / "splits.json").get("folds", [])
        }
        for fold in folds:
            if trained.get(fold.index) != split_digest(fold):
                raise SplitLeakError(
                    "`teacher.run` must be a run on the very folds of its student, but fold "
                    f"{fold.index} of {str(run.folder)!r} is another or missing instead."
                )

    def digest(self, fold: int) -> str:
        """What tells the teacher of a fold from any other."""
        return checkpoint_digest(self._run.folder, fold)

    def network(
        self, fold: int, standardization: Standardization, device: torch.device
    ) -> nn.Module:
        """The teacher of a fold.

        Args:
            fold: Number of the fold.
            standardization: The student's, which the teacher's must equal: both see one batch.
            device: Where it shall lie.

        Raises:
            CheckpointError: If its checkpoint is missing or damaged.
            ValueError: If its signals were standardized otherwise.
        """
        checkpoint = self._run.checkpoint(fold)
        own, theirs = standardization, checkpoint.standardization
        if not (
            torch.equal(own.mean.cpu(), theirs.mean)
            and torch.equal(own.deviation.cpu(), theirs.deviation)
        ):
            raise ValueError(
                "`teacher.run` must have `train.standardize` as its student has, but "
                f"{str(self._run.folder)!r} has not instead."
            )
        return checkpoint.model(self._role).to(device)
