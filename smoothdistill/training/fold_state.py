"""`last.safetensors`: everything that the rest of a fold depends on, for a bit-equal resume."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smoothdistill.errors import CheckpointError
from smoothdistill.training.checkpoint import load_checkpoint, save_checkpoint
from smoothdistill.training.history import FoldHistory
from smoothdistill.training.inference import TaskPredictions
from smoothdistill.training.roles import ROLES, Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor


__all__ = ["BestSoFar", "FoldState", "TestPredictions"]

KIND = "training-state"

TestPredictions = dict[Role, dict[str, TaskPredictions]]
"""Predictions for the test windows, by role and task."""


@dataclass
class BestSoFar:
    """The best epoch of each role up to now: a student often peaks before its average does.

    Attributes:
        selectable: The roles of which one is to be used; see `Method.selectable`.
        epochs: Their numbers, from 0, by role.
        scores: Macro-F1 in validation then, averaged over tasks; None if undefined.
        weights: Copies of the models' states then, on the CPU.
    """

    selectable: Sequence[Role] = ROLES
    epochs: dict[Role, int] = field(default_factory=dict)
    scores: dict[Role, float | None] = field(default_factory=dict)
    weights: dict[Role, dict[str, Tensor]] = field(default_factory=dict)

    def offer(self, role: Role, epoch: int, score: float, state: dict[str, Tensor]) -> None:
        """Keep copies of a role's weights if this epoch beats those before it."""
        if role in self.epochs and not _rank(score) > _rank(self.scores[role]):
            return
        self.epochs[role] = epoch
        self.scores[role] = None if math.isnan(score) else score
        self.weights[role] = {name: value.detach().cpu().clone() for name, value in state.items()}

    @property
    def role(self) -> Role:
        """Who did better, each in its best epoch. The teacher wins a tie: it is the smoother."""
        if len(self.selectable) == 1:
            return self.selectable[0]
        student, teacher = (_rank(self.scores.get(role)) for role in ROLES)
        return "student" if student > teacher else "teacher"


@dataclass
class FoldState:
    """Where a fold stands between two steps.

    Attributes:
        epoch: Epoch that is under way, from 0; the number of epochs once all are done.
        step: Steps of that epoch that are done.
        sums: Sums of that epoch up to now, of `EpochMeter`.
        seconds: Time spent in that epoch up to now, in seconds.
        history: Rows of the epochs that are done.
        best: The best epoch of each role; empty before the first has ended.
        test: Test predictions; present once the fold is finished.
        num_skipped: Steps with a non-finite loss; known once the fold is finished.
    """

    epoch: int = 0
    step: int = 0
    sums: np.ndarray | None = None
    seconds: float = 0.0
    history: FoldHistory = field(default_factory=FoldHistory)
    best: BestSoFar = field(default_factory=BestSoFar)
    test: TestPredictions | None = None
    num_skipped: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the fold has been tested."""
        return self.test is not None

    def save(
        self,
        path: Path,
        train_step: dict[str, Tensor],
        random_states: dict[str, Tensor],
        identity: dict[str, Any],
    ) -> None:
        """Write the state to a file, atomically.

        Args:
            path: The file.
            train_step: From `TrainStep.state_dict`.
            random_states: From `seeding.random_state`.
            identity: What the run is; `load` refuses a state of any other.
        """
        tensors = {f"step.{name}": tensor for name, tensor in train_step.items()}
        tensors |= {f"random.{name}": tensor for name, tensor in random_states.items()}
        tensors["history"] = torch.tensor(self.history.rows, dtype=torch.float64)
        if self.sums is not None:
            tensors["sums"] = torch.from_numpy(self.sums)
        for role, state in self.best.weights.items():
            tensors |= {f"best.{role}.{name}": tensor for name, tensor in state.items()}
        for role, by_task in (self.test or {}).items():
            for task, predicted in by_task.items():
                for part, array in predicted._asdict().items():
                    tensors[f"test.{role}.{part}.{task}"] = torch.from_numpy(array)
        metadata = {
            "kind": KIND,
            "identity": identity,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "best": {
                "selectable": list(self.best.selectable),
                "epochs": self.best.epochs,
                "scores": self.best.scores,
            },
            "num_skipped": self.num_skipped,
        }
        save_checkpoint(path, tensors, metadata)

    @classmethod
    def load(
        cls, path: Path, identity: dict[str, Any]
    ) -> tuple[FoldState, dict[str, Tensor], dict[str, Tensor]]:
        """Read back what `save` wrote.

        Args:
            path: The file.
            identity: What the run is.

        Returns:
            The state, the tensors for `TrainStep.load_state_dict`, and the random states.

        Raises:
            CheckpointError: If the file is damaged, or is of a run with another configuration,
                other data or another split.
        """
        tensors, metadata = load_checkpoint(path, kind=KIND)
        for key, value in identity.items():
            saved = metadata["identity"].get(key)
            if saved != value:
                raise CheckpointError(
                    f"`{key}` must be what the run in {str(path.parent.parent)!r} was started "
                    f"with ({saved!r}), but is {value!r} instead."
                )
        parts: dict[str, dict[str, Tensor]] = {"step": {}, "random": {}, "best": {}, "test": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if part in parts:
                parts[part][rest] = tensor
        state = cls(
            epoch=metadata["epoch"],
            step=metadata["step"],
            sums=tensors["sums"].numpy() if "sums" in tensors else None,
            seconds=metadata["seconds"],
            history=FoldHistory(tensors["history"].tolist()),
            num_skipped=metadata["num_skipped"],
        )
        state.best = BestSoFar(**metadata["best"], weights=_by_role(parts["best"]))
        if parts["test"]:
            state.test = {
                role: _predictions(flat) for role, flat in _by_role(parts["test"]).items()
            }
        return state, parts["step"], parts["random"]


def _by_role(tensors: dict[str, Tensor]) -> dict[Role, dict[str, Tensor]]:
    found: dict[Role, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        for role in ROLES:
            if name.startswith(role + "."):
                found.setdefault(role, {})[name.removeprefix(role + ".")] = tensor
    return found


def _rank(score: float | None) -> float:
    """The score as something to compare: one that is undefined is worse than any other."""
    return -math.inf if score is None or math.isnan(score) else score


def _predictions(tensors: dict[str, Tensor]) -> dict[str, TaskPredictions]:
    tasks = [name.partition(".")[2] for name in tensors if name.startswith("predictions.")]
    return {
        task: TaskPredictions(
            tensors[f"predictions.{task}"].numpy(), tensors[f"confidences.{task}"].numpy()
        )
        for task in tasks
    }
