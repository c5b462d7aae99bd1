"""The grid file: what all cells share, and the variants that stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from smoothdistill.methods import METHODS, validate_options
from smoothdistill.training import RunConfig
from smoothdistill.training.config_file import parse_config, read_config
from smoothdistill.training.toml_text import merge_overrides, to_toml

if TYPE_CHECKING:
    from typing import Self

__all__ = ["CompareConfig", "Variant", "VariantConfig"]

Role = Literal["selected", "student", "teacher"]

_SECTIONS = ("data", "model", "method", "train", "augment", "split", "teacher")
_MAX_SEED = 2**63 - 1
_ALL = "all"


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class VariantConfig(_Section):
    """One column of the comparison: what it is called, and where it differs from the others.

    A section is laid over the shared one key by key. Where it names another method, model or data
    set than the shared one does, it takes its place, since options of one are none of the other.
    """

    label: str
    """What tables and figures call it; no two variants have the same."""

    role: Role = "selected"
    """Which model speaks for it: "student", "teacher", or in each cell what validation chose."""

    data: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[data]` that differ."""

    model: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[model]` that differ."""

    method: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[method]` that differ."""

    train: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[train]` that differ."""

    augment: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[augment]` that differ."""

    split: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[split]` that differ; with another protocol there are no paired differences."""

    teacher: dict[str, Any] = Field(default_factory=dict)
    """Keys of `[teacher]` that differ."""

    @field_validator("label")
    @classmethod
    def _label_can_be_read(cls, value: str) -> str:
        if not value.strip() or not value.isprintable():
            raise ValueError(
                f"`label` must be a text of at least one visible character, but is {value!r} "
                "instead."
            )
        return value


class GridConfig(_Section):
    """The section `[compare]`."""

    seeds: tuple[int, ...] = (0,)
    """Values of `train.seed`, each in [0, 2**63)."""

    methods: tuple[str, ...] | Literal["all"] = ()
    """Names in `methods.METHODS`, each a variant of that name, or "all"."""

    baseline: str | None = None
    """Label of the variant that differences are taken against; the first if not given."""

    variants: tuple[VariantConfig, ...] = ()
    """Further variants."""

    @field_validator("seeds", "methods", mode="before")
    @classmethod
    def _a_list_will_do(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        is_good = len(set(value)) == len(value) > 0 and min(value) >= 0 and max(value) <= _MAX_SEED
        if not is_good:
            raise ValueError(
                "`compare.seeds` must be a list of different numbers in [0, 2**63), "
                f"but is {list(value)!r} instead."
            )
        return value

    @field_validator("methods", mode="before")
    @classmethod
    def _methods_are_known(cls, value: object) -> object:
        names = [value] if isinstance(value, str) and value != _ALL else value
        unknown = [
            name for name in names if not isinstance(name, str) or name not in METHODS
        ] if isinstance(names, list | tuple) else []  # fmt: skip
        if unknown:
            raise ValueError(
                f'`compare.methods` must be a list of {", ".join(METHODS)}, or "all", '
                f"but has {unknown[0]!r} instead."
            )
        return names if isinstance(names, str) or not isinstance(names, list) else tuple(names)

    @field_validator("variants", mode="before")
    @classmethod
    def _variants_are_read_one_by_one(cls, value: object) -> object:
        if not isinstance(value, list | tuple) or not all(
            isinstance(entry, Mapping | VariantConfig) for entry in value
        ):
            raise ValueError(
                f"`compare.variants` must be a list of tables, but is {value!r} instead."
            )
        # One by one, so that a sentence names the number of the variant and the keys it may have.
        return tuple(
            entry
            if isinstance(entry, VariantConfig)
            else validate_options(VariantConfig, entry, path=f"compare.variants.{number}")
            for number, entry in enumerate(value)
        )


@dataclass(frozen=True)
class Variant:
    """A column of the comparison, ready to be trained.

    Attributes:
        label: What it is called.
        role: Which model speaks for it: "selected", "student" or "teacher".
        config: Configuration of its cells, but for `train.seed` and `split.folds`.
    """

    label: str
    role: Role
    config: RunConfig

    def cell_config(self, seed: int, fold: int) -> RunConfig:
        """Configuration of one cell, a run of one fold."""
        return self.config.model_copy(
            update={
                "train": self.config.train.model_copy(update={"seed": seed}),
                "split": self.config.split.model_copy(update={"folds": (fold,)}),
            }
        )


class CompareConfig(_Section):
    """A grid: variants x seeds x folds.

    Raises:
        TypeError: (from the constructors below) If a value is of the wrong kind.
        ValueError: If a key, a method or the baseline is unknown, a label stands twice, or there
            is no variant; one sentence with the key's path.
    """

    data: dict[str, Any] = Field(default_factory=dict)
    """`[data]` of a run's configuration, as all cells have it; likewise the next six."""

    model: dict[str, Any] = Field(default_factory=dict)
    method: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    augment: dict[str, Any] = Field(default_factory=dict)
    split: dict[str, Any] = Field(default_factory=dict)
    teacher: dict[str, Any] = Field(default_factory=dict)
    """Left out by variants whose method has no use for it."""
    compare: GridConfig = GridConfig()

    @model_validator(mode="after")
    def _variants_can_be_made(self) -> Self:
        variants = self.variants()
        labels = [variant.label for variant in variants]
        if not labels:
            raise ValueError(
                "`compare` must have at least one variant, in `methods` or `variants`, "
                "but has none instead."
            )
        twice = [label for place, label in enumerate(labels) if label in labels[:place]]
        if twice:
            raise ValueError(
                "`compare.variants` must have labels that stand once, those of `compare.methods` "
                f"among them, but has {twice[0]!r} twice instead."
            )
        if self.compare.baseline is not None and self.compare.baseline not in labels:
            raise ValueError(
                f"`compare.baseline` must be one of the labels ({', '.join(labels)}), "
                f"but is {self.compare.baseline!r} instead."
            )
        return self

    @property
    def baseline(self) -> str:
        """Label of the variant that differences are taken against."""
        return self.compare.baseline or self.variants()[0].label

    def variants(self) -> tuple[Variant, ...]:
        """Every variant, first those of `compare.methods`."""
        names = tuple(METHODS) if self.compare.methods == _ALL else self.compare.methods
        found = [
            Variant(name, "selected", self._config({"method": {"name": name}}, "", ()))
            for name in names
        ]
        for number, entry in enumerate(self.compare.variants):
            own = {section: getattr(entry, section) for section in _SECTIONS}
            given = [section for section in _SECTIONS if own[section]]
            config = self._config(own, f"compare.variants.{number}", given)
            found.append(Variant(entry.label, entry.role, config))
        return tuple(found)

    def _config(
        self, own: Mapping[str, Mapping[str, Any]], place: str, given: Sequence[str]
    ) -> RunConfig:
        """Lay a variant's sections over the shared ones; each is checked by itself.

        Args:
            own: The variant's keys by section.
            place: Where they stand in the file.
            given: Sections that stand there; a fault in any other one is a shared one.
        """
        tables = {}
        for section in _SECTIONS:
            shared, mine = getattr(self, section), own.get(section, {})
            is_other = "name" in mine and mine["name"] != shared.get("name", mine["name"])
            tables[section] = dict(mine) if is_other else {**shared, **mine}
        if "seed" in tables["train"]:
            path = place if "train" in given else ""
            key = f"{path}.train.seed".removeprefix(".")
            raise ValueError(
                f"`{key}` must be left to `compare.seeds`, "
                f"but is {tables['train']['seed']!r} instead."
            )
        method = METHODS.get(str(tables["method"].get("name", "")))
        if not own.get("teacher") and (method is None or method.teacher_model == "none"):
            tables["teacher"] = {}
        parts = {}
        for section in _SECTIONS[:-1]:
            table = {section: tables[section]}
            if section == "method" and tables["teacher"]:  # neither makes sense by itself
                table["teacher"] = tables["teacher"]
            path = place if section in given else ""
            found = validate_options(RunConfig, table, path=path)
            parts[section] = getattr(found, section)
            if section == "method":
                parts["teacher"] = found.teacher
        return RunConfig(**parts)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> CompareConfig:
        """Build from nested tables, such as those of a parsed TOML file."""
        return validate_options(cls, table)

    @classmethod
    def from_toml(cls, text: str, overrides: Sequence[str] = ()) -> CompareConfig:
        """Build from TOML text and ``section.key=value`` overrides, of which the last wins."""
        return cls.from_table(merge_overrides(parse_config(text), overrides))

    @classmethod
    def from_file(cls, path: str | Path, overrides: Sequence[str] = ()) -> CompareConfig:
        """Build from a TOML file of at most 1 MiB, or from the preset of that name.

        Raises:
            FileNotFoundError: If there is neither.
        """
        return cls.from_table(merge_overrides(read_config(path), overrides))

    def to_toml(self) -> str:
        """TOML text that `from_toml` reads back to an equal configuration."""
        return to_toml(self.model_dump(exclude_none=True, exclude_defaults=True))
