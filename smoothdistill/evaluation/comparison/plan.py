"""Which cells a comparison is made of, where they lie, and what has become of each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.evaluation.comparison.config import CompareConfig
from smoothdistill.methods import METHODS, validate_options
from smoothdistill.models import MODELS
from smoothdistill.training.data_source import load_windows, make_split
from smoothdistill.training.environment import describe_environment
from smoothdistill.training.run_folder import read_json, write_json
from smoothdistill.training.teacher_run import checkpoint_digest
from smoothdistill.training.toml_text import to_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smoothdistill.training import RunConfig
    from smoothdistill.training.config import DataConfig
    from smoothdistill.windows import Windows

__all__ = [
    "PLAN_FILE",
    "RECORD_FILE",
    "Cell",
    "CellState",
    "Plan",
    "PlannedVariant",
    "cell_key",
    "cell_state",
    "forget_windows",
    "is_record_only",
    "make_plan",
    "windows_of",
]

PLAN_FILE = "cells.json"
"""File by which a folder is known to hold a comparison."""

RECORD_FILE = "record.safetensors"
"""What is there of a cell that was trained elsewhere: its counts and curves."""

CellState = Literal["finished", "failed", "interrupted", "to do"]

_KEY_DIGITS = 20  # of the digest: 80 bits, and still a name that a person can compare by eye

_WINDOWS: dict[str, Windows] = {}


@dataclass(frozen=True)
class Cell:
    """One variant with one seed on one fold.

    Attributes:
        variant: Label of the variant.
        seed: Its `train.seed`.
        fold: Number of the fold.
        folder: Run folder, from the comparison's folder on.
        config: What is trained; None in a comparison of runs that were there before.
        fingerprint: Fingerprint of the data.
    """

    variant: str
    seed: int
    fold: int
    folder: str
    config: RunConfig | None = None
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """What a progress bar calls it."""
        return f"{self.variant}, seed {self.seed}, fold {self.fold}"


@dataclass(frozen=True)
class PlannedVariant:
    """A column of the comparison, as the results need to know it.

    Attributes:
        label: What it is called.
        role: Which model speaks for it: "selected", "student" or "teacher".
        config: Its configuration as nested tables.
    """

    label: str
    role: str
    config: Mapping[str, Any]

    @property
    def protocol(self) -> str:
        """Name of the evaluation protocol."""
        return str(self.config.get("split", {}).get("protocol", "subject"))

    @property
    def leaks(self) -> bool:
        """Whether people, and samples, stand on both sides of its folds."""
        return self.protocol == "published"


@dataclass(frozen=True)
class Plan:
    """Variants and cells of a comparison.

    Attributes:
        source: "grid", or "runs" that were there before.
        config_text: The grid as TOML, or the command that repeats the comparison.
        baseline: Label of the variant that differences are taken against.
        variants: The columns, in their order.
        cells: Every cell; two variants that differ in their role only share folders.
    """

    source: Literal["grid", "runs"]
    config_text: str
    baseline: str
    variants: tuple[PlannedVariant, ...]
    cells: tuple[Cell, ...]

    @cached_property
    def work(self) -> tuple[Cell, ...]:
        """Cells of different folders, seed by seed and fold by fold, all variants in turn."""
        place = {variant.label: number for number, variant in enumerate(self.variants)}
        order = sorted(self.cells, key=lambda cell: (cell.seed, cell.fold, place[cell.variant]))
        return tuple({cell.folder: cell for cell in reversed(order)}.values())[::-1]

    def write(self, out: Path) -> None:
        """Write `cells.json`, from which results are rebuilt without data and without training."""
        variants = [
            {"label": one.label, "role": one.role, "config": dict(one.config)}
            for one in self.variants
        ]
        cells = [
            {"variant": one.variant, "seed": one.seed, "fold": one.fold, "folder": one.folder}
            for one in self.cells
        ]
        content = {"source": self.source, "config": self.config_text, "baseline": self.baseline}
        write_json(out / PLAN_FILE, {**content, "variants": variants, "cells": cells})

    @classmethod
    def read(cls, out: Path) -> Plan:
        """Read `cells.json`.

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        content = read_json(out / PLAN_FILE)
        try:
            return cls(
                content["source"],
                content["config"],
                content["baseline"],
                tuple(PlannedVariant(**entry) for entry in content["variants"]),
                tuple(Cell(**entry) for entry in content["cells"]),
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"`folder` must hold a comparison with a readable {PLAN_FILE}, "
                f"but {str(out)!r} holds another file of that name instead."
            ) from error


def make_plan(config: CompareConfig) -> Plan:
    """Load the data of a grid, divide them into folds, and name every cell.

    Raises:
        FileNotFoundError: If the recordings of a data set are not there.
        DataError: If they cannot be read or divided.
        ValueError: If a data set or a fold is unknown.
    """
    cells: list[Cell] = []
    variants = config.variants()
    found: dict[str, tuple[str, list[int]]] = {}
    for variant in variants:
        recipe = to_toml({"data": variant.config.data.model_dump(exclude_none=True)})
        recipe += variant.config.split.model_dump_json()
        if recipe not in found:
            windows = windows_of(variant.config.data)
            folds = [fold.index for fold in make_split(variant.config.split, windows)]
            found[recipe] = (windows.fingerprint(), folds)
        fingerprint, folds = found[recipe]
        for seed in config.compare.seeds:
            for fold in folds:
                cell = variant.cell_config(seed, fold)
                folder = f"cells/{cell_key(cell, fingerprint)}"
                cells.append(Cell(variant.label, seed, fold, folder, cell, fingerprint))
    planned = tuple(
        PlannedVariant(variant.label, variant.role, variant.config.to_table())
        for variant in variants
    )
    return Plan("grid", config.to_toml(), config.baseline, planned, tuple(cells))


def cell_key(config: RunConfig, fingerprint: str) -> str:
    """Name of a cell's folder: a digest of all that decides its result.

    That is its configuration where it differs from what this version does by itself, the data by
    their fingerprint (and so not by the folder that they happen to lie in), a teacher by its own
    cell or, one that was trained before, by its checkpoint, and the version of the package.

    Args:
        config: Configuration of a run of one fold.
        fingerprint: Fingerprint of its windows.
    """
    table = config.model_dump(
        exclude={"data": {"root"}, "train": {"save_every_steps"}, "teacher": True},
        exclude_defaults=True,
    )
    table = {section: keys for section, keys in table.items() if keys}
    method, model = config.method, config.model
    options = validate_options(METHODS[method.name].Options, method.options)
    table["method"] = [method.name, options.model_dump(mode="json", exclude_defaults=True)]
    defaults = {p.name: p.default for p in signature(MODELS[model.name]).parameters.values()}
    own = {k: v for k, v in model.options.items() if k not in defaults or v != defaults[k]}
    table["model"] = [model.name, own]
    if "device" in table.get("train", {}):
        table["train"]["device"] = config.train.device.partition(":")[0]
    if config.teacher is not None:
        table["teacher"] = [config.teacher.role, _teacher_key(config, fingerprint)]
    version = describe_environment(torch.device("cpu"))["smoothdistill"]
    text = json.dumps([table, fingerprint, str(version)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _teacher_key(config: RunConfig, fingerprint: str) -> str:
    """What tells one teacher from another; empty where its run lacks the fold, and will fail."""
    assert config.teacher is not None
    if config.teacher.run is None:
        return cell_key(config.of_teacher(), fingerprint)
    assert config.split.folds is not None
    try:
        return checkpoint_digest(Path(config.teacher.run), config.split.folds[0])
    except FileNotFoundError:
        return ""


def cell_state(folder: Path) -> tuple[CellState, str]:
    """What has become of a cell, and the reason if it failed."""
    if (folder / "failed.json").is_file():
        try:
            return "failed", str(read_json(folder / "failed.json").get("error", ""))
        except CheckpointError as error:
            return "failed", str(error)
    if not (folder / "config.toml").is_file():
        return ("finished" if is_record_only(folder) else "to do"), ""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        is_finished = status.get("state") == "finished" and (folder / "summary.json").is_file()
    except (OSError, ValueError, AttributeError):  # resuming writes it anew
        is_finished = False
    return ("finished", "") if is_finished else ("interrupted", "")


def is_record_only(folder: Path) -> bool:
    """Whether a cell was trained elsewhere, and only its counts and curves are here."""
    return (folder / RECORD_FILE).is_file() and not (folder / "config.toml").exists()


def windows_of(data: DataConfig, fingerprint: str = "") -> Windows:
    """Windows of a configuration, loaded once in each process.

    Args:
        data: The configuration.
        fingerprint: What the windows must have; others are loaded anew.

    Raises:
        FileNotFoundError: If the recordings are not there.
        DataError: If they cannot be read, or are not those of that fingerprint any more.
    """
    key = data.model_dump_json()
    windows = _WINDOWS.get(key)
    if windows is None or (fingerprint and windows.fingerprint() != fingerprint):
        windows = _WINDOWS[key] = load_windows(data)
        if fingerprint and windows.fingerprint() != fingerprint:
            raise DataError(
                f"`data` must stay as they were when the cells were named (fingerprint "
                f"{fingerprint[:16]}), but have {windows.fingerprint()[:16]} now instead."
            )
    return windows


def forget_windows() -> None:
    """Give back the memory of what `windows_of` has loaded, and look at the files anew."""
    _WINDOWS.clear()
