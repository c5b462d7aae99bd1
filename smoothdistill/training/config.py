"""What a run is made of, as frozen pydantic models that are read from and written to TOML."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from smoothdistill.methods import METHODS, validate_options
from smoothdistill.training.config_file import parse_config, read_config
from smoothdistill.training.toml_text import merge_overrides, to_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

__all__ = [
    "PRECISIONS",
    "AugmentConfig",
    "DataConfig",
    "MethodConfig",
    "ModelConfig",
    "RunConfig",
    "SplitConfig",
    "TeacherConfig",
    "TrainConfig",
]

PRECISIONS = ("float32", "bfloat16")
"""What `train.precision` may be."""

_MAX_SEED = 2**63 - 1


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class _OpenSection(BaseModel):
    """A section whose further keys are options of what its `name` names."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are options of what `name` names."""
        return dict(self.model_extra or {})

    def _require_known(self, section: str, known: Sequence[str]) -> None:
        unknown = [key for key in self.options if key not in known]
        if unknown:
            keys = ", ".join(dict.fromkeys([*type(self).model_fields, *known]))
            raise ValueError(
                f"`{section}.{unknown[0]}` must be one of the known keys for "
                f"{self.name} ({keys}), but is an unknown key instead."
            )


class DataConfig(_OpenSection):
    """Which recordings, and how they are cut into windows; further keys go to the loader."""

    name: str = "synthetic"
    """A name in `datasets.DATASETS`, "csv" for own files, or the name of handed-over windows."""

    root: str | None = None
    """Folder or file of the recordings; the data set's own default if not given."""

    window_samples: int | None = Field(default=None, ge=1)
    """Length of a window, in samples, at least 1; the data set's default if not given."""

    step_samples: int | None = Field(default=None, ge=1)
    """Hop between window starts, in samples, at least 1; the data set's default if not given."""

    label: Literal["last", "majority", "middle", "pure"] | None = None
    """How a window gets its label; the data set's default if not given."""


class ModelConfig(_OpenSection):
    """Which network; further keys are its options, such as `layout` of MTL-net."""

    name: str = "mtl-net"
    """A name in `models.MODELS`."""

    @model_validator(mode="after")
    def _name_and_options_are_known(self) -> Self:
        from smoothdistill.models import MODELS

        _require_name("model", self.name, list(MODELS))
        parameters = inspect.signature(MODELS[self.name]).parameters.values()
        given_by_data = {"self", "num_classes", "in_channels", "window_samples"}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            names = [p.name for p in parameters if p.name not in given_by_data]
            self._require_known("model", names)
        return self


class MethodConfig(_OpenSection):
    """Which method; further keys are its options, such as `decay`."""

    name: str = "smooth-distill"
    """A name in `methods.METHODS`."""

    @model_validator(mode="after")
    def _name_and_options_are_known(self) -> Self:
        _require_name("method", self.name, list(METHODS))
        try:
            validate_options(METHODS[self.name].Options, self.options, path="method")
        except TypeError as error:  # pydantic turns only a ValueError into an error of the field
            raise ValueError(str(error)) from error
        return self


class TrainConfig(_Section):
    """How long, how fast and with what randomness."""

    epochs: int = Field(default=50, ge=1)
    """Passes over the training windows of each fold, at least 1."""

    batch_size: int = Field(default=64, ge=1)
    """Windows per step, at least 1."""

    lr: float = Field(default=1e-3, ge=0.0)
    """Learning rate of Adam, at least 0."""

    weight_decay: float = Field(default=0.0, ge=0.0)
    """Weight decay, at least 0, added to the gradient (Adam) unless `decoupled`."""

    decoupled: bool = False
    """Whether weight decay acts on the weights directly (AdamW)."""

    seed: int = Field(default=0, ge=0, le=_MAX_SEED)
    """Seed of initial weights, order of windows and dropout, in [0, 2**63)."""

    device: str = "auto"
    """Where to train: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N"."""

    precision: str = "float32"
    """Number format of the products of both passes: "float32", or "bfloat16" where there is one."""

    path: Literal["auto", "fused", "general"] = "auto"
    """How steps run; see `TrainStep`: "auto" is fused where it is possible."""

    standardize: bool = True
    """Whether each channel is brought to mean 0 and variance 1 of the training windows."""

    save_every_steps: int = Field(default=0, ge=0)
    """Steps between saves of the whole state; 0 saves at ends of epochs only."""

    max_consecutive_skips: int = Field(default=5, ge=1)
    """Steps in a row with a non-finite loss after which training gives up, at least 1."""

    check_gradients: bool = False
    """Whether each gradient, not only the loss, is looked at before a step (about 2 % slower)."""

    @field_validator("precision")
    @classmethod
    def _precision_is_offered(cls, value: str) -> str:
        require_precision(value, "train.precision")
        return value

    @field_validator("device")
    @classmethod
    def _device_is_well_formed(cls, value: str) -> str:
        kind, _, number = value.partition(":")
        is_good = kind in {"auto", "cpu", "cuda"} and (
            number.isdecimal() if kind == "cuda" and ":" in value else value == kind
        )
        if not is_good:
            raise ValueError(
                '`train.device` must be "auto", "cpu", "cuda" or "cuda:N", '
                f"but is {value!r} instead."
            )
        return value


class AugmentConfig(_Section):
    """How training windows are varied, anew in every epoch; nothing by default."""

    rotation_degrees: float = Field(default=0.0, ge=0.0, le=180.0)
    """Largest angle by which a window is turned about any axis, in degrees; the three axes of each
    sensor are turned together, as by a strap that sits otherwise."""

    scale: float = Field(default=0.0, ge=0.0, le=1.0)
    """Standard deviation of the logarithm of the factor of a window, in [0, 1]."""

    jitter: float = Field(default=0.0, ge=0.0, le=1.0)
    """Standard deviation of noise, as a share of each channel's own, in [0, 1]."""

    time_warp: float = Field(default=0.0, ge=0.0, le=1.0)
    """Standard deviation of the logarithm of the speed at which a window runs, in [0, 1]."""

    @property
    def is_on(self) -> bool:
        """Whether anything is varied."""
        return any(self.model_dump().values())


class SplitConfig(_Section):
    """Which windows train, validate and test."""

    protocol: Literal["subject", "leave-one-subject-out", "official", "published"] = "subject"
    """Unseen subjects in folds, one by one, or those of the data set's own test part ("official",
    one fold); "published" leaks, and is for replication only."""

    num_folds: int = Field(default=5, ge=2)
    """Number of folds, at least 2; not read with "leave-one-subject-out" and "official"."""

    validation_fraction: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of what is left for training that chooses the best epoch, in (0, 1)."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the split, in [0, 2**32); apart from `train.seed`, so that seeds share folds."""

    folds: tuple[int, ...] | None = None
    """Numbers of the folds to run, from 0; all if not given."""

    @field_validator("folds", mode="before")
    @classmethod
    def _a_list_will_do(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("folds")
    @classmethod
    def _folds_are_distinct(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if not value or len(set(value)) != len(value) or min(value) < 0:
            raise ValueError(
                "`split.folds` must be a list of different numbers, each at least 0, "
                f"but is {list(value)!r} instead."
            )
        return tuple(sorted(value))


class TeacherConfig(_Section):
    """The network that teaches, for methods with one of another kind or trained before.

    Data, folds and augmentation are the student's.
    """

    model: ModelConfig = Field(default_factory=ModelConfig)
    """Which network."""

    method: MethodConfig = Field(default_factory=lambda: MethodConfig(name="multitask"))
    """How it is trained, where it is trained before."""

    train: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[train]` in which its training differs, where it is trained before."""

    role: Literal["selected", "student", "teacher"] = "selected"
    """Which model of its training teaches: that which did better in validation, or a given one."""

    run: str | None = None
    """Folder of a finished run on the same data and folds, to take the teacher from; then the other
    keys but `role` have no effect. Without it the teacher is trained into the folder `teacher` of
    the run."""

    @field_validator("train")
    @classmethod
    def _has_no_seed(cls, value: dict[str, Any]) -> dict[str, Any]:
        shared = [key for key in ("seed", "device", "standardize") if key in value]
        if shared:
            raise ValueError(
                f"`teacher.train.{shared[0]}` must be left to `train.{shared[0]}`, which both "
                f"share, but is {value[shared[0]]!r} instead."
            )
        return value


class RunConfig(_Section):
    """Everything that decides a run's result, but the recordings themselves.

    Raises:
        TypeError: (from the constructors below) If a value is of the wrong kind.
        ValueError: If a key is unknown or a value out of its range; one sentence with the
            key's path.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = Field(default_factory=ModelConfig)
    method: MethodConfig = Field(default_factory=MethodConfig)
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    split: SplitConfig = SplitConfig()
    teacher: TeacherConfig | None = None
    """Must be given for methods whose `teacher_model` says so, and not for those without one."""

    @model_validator(mode="after")
    def _teacher_is_given_where_there_is_one(self) -> Self:
        use = METHODS[self.method.name].teacher_model
        if self.teacher is None and use in ("beside", "trained"):
            raise ValueError(
                f"`teacher.model.name` must be given for the method {self.method.name}, "
                "but is missing instead."
            )
        if self.teacher is not None:
            of_teacher = self.teacher.method.name
            if METHODS[of_teacher].teacher_model in ("beside", "trained"):
                raise ValueError(
                    "`teacher.method.name` must be a method without another teacher, but is "
                    f"{of_teacher!r} instead."
                )
            if use == "none":
                raise ValueError(
                    f"`teacher` must be left out for the method {self.method.name}, which has no "
                    "teacher but its own average, but is given instead."
                )
            self.of_teacher()
            if use != "trained" and self.teacher.run is not None:
                raise ValueError(
                    f"`teacher.run` must be left out for the method {self.method.name}, which "
                    f"trains its teacher itself, but is {self.teacher.run!r} instead."
                )
        return self

    def of_teacher(self) -> RunConfig:
        """Configuration of the training of the teacher.

        Raises:
            ValueError: If there is no teacher, or a key of its training is unknown or wrong.
        """
        if self.teacher is None:
            raise ValueError("`teacher` must be given, but is missing instead.")
        table = {"train": {**self.train.model_dump(), **self.teacher.train}}
        train = validate_options(RunConfig, table, path="teacher").train
        return RunConfig(
            data=self.data,
            model=self.teacher.model,
            method=self.teacher.method,
            train=train,
            augment=self.augment,
            split=self.split,
        )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> RunConfig:
        """Build from nested tables, such as those of a parsed TOML file."""
        return validate_options(cls, table)

    @classmethod
    def from_toml(cls, text: str, overrides: Sequence[str] = ()) -> RunConfig:
        """Build from TOML text and ``section.key=value`` overrides, of which the last wins."""
        return cls.from_table(merge_overrides(parse_config(text), overrides))

    @classmethod
    def from_file(cls, path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
        """Build from a TOML file of at most 1 MiB, or from the preset of that name.

        Of a grid for `compare` this is what all of its variants share; its teacher is left out
        where the method has no use for one.

        Raises:
            FileNotFoundError: If there is neither.
        """
        table = read_config(path)
        is_grid = table.pop("compare", None) is not None
        table = merge_overrides(table, overrides)
        method = table.get("method", {}).get("name", MethodConfig().name)
        if is_grid and method in METHODS and METHODS[method].teacher_model == "none":
            table.pop("teacher", None)
        return cls.from_table(table)

    def with_overrides(self, overrides: Sequence[str]) -> RunConfig:
        """A copy with ``section.key=value`` overrides applied, of which the last wins."""
        return self.from_table(merge_overrides(self.to_table(), overrides))

    def to_table(self) -> dict[str, Any]:
        """Nested tables of TOML's own kinds; keys without a value are left out."""
        table = self.model_dump(exclude_none=True)
        if "folds" in table["split"]:
            table["split"]["folds"] = list(table["split"]["folds"])
        return table

    def to_toml(self) -> str:
        """TOML text that `from_toml` reads back to an equal configuration."""
        return to_toml(self.to_table())


def require_precision(value: str, name: str = "precision") -> None:
    """Refuse a number format that is not offered.

    Raises:
        ValueError: If `value` is not in `PRECISIONS`.
    """
    if value not in PRECISIONS:
        allowed = ", ".join(PRECISIONS)
        raise ValueError(f"`{name}` must be one of {allowed}, but is {value!r} instead.")


def _require_name(section: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(
            f"`{section}.name` must be one of {', '.join(known)}, but is {name!r} instead."
        )
