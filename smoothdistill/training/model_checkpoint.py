"""`best.safetensors`: the best student and teacher of a fold, with all that using them needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from smoothdistill.errors import CheckpointError
from smoothdistill.methods import METHODS, NetworkBuilder, build_method
from smoothdistill.models import build_model
from smoothdistill.training.checkpoint import (
    load_checkpoint,
    require_matching_tensors,
    save_checkpoint,
)
from smoothdistill.training.roles import ROLES
from smoothdistill.training.standardization import Standardization

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from smoothdistill.splits import Fold
    from smoothdistill.training.config import RunConfig
    from smoothdistill.training.fold_state import BestSoFar
    from smoothdistill.training.roles import Role
    from smoothdistill.windows import Windows

__all__ = ["ModelCheckpoint", "ModelDescription"]

KIND = "model"


@dataclass(frozen=True)
class ModelDescription:
    """What a model is, what it reads and what it tells apart.

    Attributes:
        model_name: A name in `models.MODELS`.
        model_options: Options of that model.
        method_name: The method it was trained with.
        method_options: Options of that method.
        class_names: Names of the classes, by task.
        channel_names: Names of the channels; may be empty.
        num_channels: Number of channels.
        window_samples: Length of a window, in samples.
        sample_rate_hz: Samples per second.
        selected: The role that did better in validation, which is the one to use.
        epochs: Epoch of the weights, from 0, by role: each role's best in validation.
        validation_scores: Macro-F1 in validation then, averaged over tasks; None if undefined.
        fold: Fold that the model was trained in, from 0.
        data_name: Name of the data set.
        teacher_model: Name and options of the teacher's kind of network, where that is another.
    """

    model_name: str
    model_options: dict[str, Any]
    method_name: str
    method_options: dict[str, Any]
    class_names: dict[str, list[str]]
    channel_names: list[str]
    num_channels: int
    window_samples: int
    sample_rate_hz: float
    selected: Role
    epochs: dict[Role, int]
    validation_scores: dict[Role, float | None]
    fold: int
    data_name: str = "custom"
    teacher_model: dict[str, Any] | None = None

    @classmethod
    def of(
        cls, config: RunConfig, windows: Windows, fold: Fold, best: BestSoFar
    ) -> ModelDescription:
        """The description of a fold's networks, in their best epochs."""
        return cls(
            model_name=config.model.name,
            model_options=config.model.options,
            method_name=config.method.name,
            method_options=config.method.options,
            class_names={task: list(windows.class_names[task]) for task in windows.tasks},
            channel_names=list(windows.channel_names),
            num_channels=windows.num_channels,
            window_samples=windows.window_samples,
            sample_rate_hz=windows.sample_rate_hz,
            selected=best.role,
            epochs=dict(best.epochs),
            validation_scores=dict(best.scores),
            fold=fold.index,
            data_name=windows.name,
            teacher_model=_second_network(config),
        )

    @property
    def num_classes(self) -> dict[str, int]:
        """Number of classes, by task."""
        return {task: len(names) for task, names in self.class_names.items()}

    @property
    def validation_macro_f1(self) -> float | None:
        """What the selected role reached in validation; None if undefined."""
        return self.validation_scores.get(self.selected)

    def build(self, role: Role = "student") -> nn.Module:
        """A model of this kind with fresh weights: the part of it that predicts."""
        method = build_method(self.method_name, tasks=list(self.class_names), **self.method_options)
        return method.build_predictor(self.builder, self.num_classes, role)

    def network_name(self, role: Role | Literal["selected"]) -> str:
        """Name of the kind of network that predicts for a role."""
        chosen = self.selected if role == "selected" else role
        is_beside = METHODS[self.method_name].teacher_model == "beside"
        if chosen == "teacher" and is_beside and self.teacher_model is not None:
            return str(self.teacher_model["name"])
        return self.model_name

    @property
    def builder(self) -> NetworkBuilder:
        """Makes networks of the student's and the teacher's kind."""
        student = {"name": self.model_name, **self.model_options}
        return NetworkBuilder(
            partial(self._build_network, student),
            None
            if self.teacher_model is None
            else partial(self._build_network, self.teacher_model),
        )

    def _build_network(self, model: Mapping[str, Any], num_classes: Mapping[str, int]) -> nn.Module:
        sizes = {"in_channels": self.num_channels, "window_samples": self.window_samples}
        return build_model(**{**model, "num_classes": num_classes, **sizes})


@dataclass(frozen=True, eq=False)
class ModelCheckpoint:
    """The best student and teacher of a fold.

    Attributes:
        description: What the models are.
        weights: State of the model, by role.
        standardization: To be applied to signals before they are given to the model.
        config: The run's configuration, as nested tables.
    """

    description: ModelDescription
    weights: dict[Role, dict[str, Tensor]]
    standardization: Standardization
    config: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, atomically."""
        tensors = {
            f"{role}.{name}": tensor
            for role, state in self.weights.items()
            for name, tensor in state.items()
        }
        tensors["standardization.mean"] = self.standardization.mean
        tensors["standardization.deviation"] = self.standardization.deviation
        save_checkpoint(
            path,
            tensors,
            {"kind": KIND, "description": asdict(self.description), "config": self.config},
        )

    @classmethod
    def load(cls, path: str | Path) -> ModelCheckpoint:
        """Read a file written by `save`.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If the file is damaged, of another kind, or does not fit its model.
        """
        tensors, metadata = load_checkpoint(path, kind=KIND)
        try:
            description = ModelDescription(**metadata["description"])
            with torch.random.fork_rng(devices=[]):
                expected = {role: description.build(role).state_dict() for role in ROLES}
            standardization = Standardization(
                tensors.pop("standardization.mean"), tensors.pop("standardization.deviation")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"`path` must be a checkpoint of a model that is known here, "
                f"but {str(path)!r} is not ({error}) instead."
            ) from error
        weights: dict[Role, dict[str, Tensor]] = {"student": {}, "teacher": {}}
        for name, tensor in tensors.items():
            role, _, rest = name.partition(".")
            if role not in weights:
                raise CheckpointError(
                    "`path` must hold tensors of a student and a teacher only, "
                    f"but {str(path)!r} holds {name!r} instead."
                )
            weights["student" if role == "student" else "teacher"][rest] = tensor
        for role, state in weights.items():
            require_matching_tensors(state, expected[role], what=role)
        return cls(description, weights, standardization, metadata["config"])

    def model(self, role: Role | Literal["selected"] = "selected") -> nn.Module:
        """A model with the saved weights, on the CPU and in evaluation mode.

        Args:
            role: "student", "teacher", or "selected": the one that did better in validation.

        Raises:
            ValueError: If there is no such role.
        """
        chosen = self.description.selected if role == "selected" else role
        if chosen not in self.weights:
            raise ValueError(
                f"`role` must be student, teacher or selected, but is {role!r} instead."
            )
        # Initial weights are drawn and thrown away: the caller's random numbers stay put.
        with torch.random.fork_rng(devices=[]):
            model = self.description.build(chosen)
        model.load_state_dict(self.weights[chosen])
        return model.eval()


def _second_network(config: RunConfig) -> dict[str, Any] | None:
    """Name and options of a network of another kind that is trained with the student, if any."""
    is_beside = METHODS[config.method.name].teacher_model in ("beside", "optional")
    if config.teacher is None or not is_beside:
        return None
    return config.teacher.model.model_dump()
