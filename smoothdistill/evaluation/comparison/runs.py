"""A comparison of runs that were there before: the same data and folds, or none at all."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.evaluation.comparison.plan import Cell, Plan, PlannedVariant
from smoothdistill.training import Run
from smoothdistill.training.run_folder import read_json
from smoothdistill.training.toml_text import to_toml

__all__ = ["plan_of_runs"]


def plan_of_runs(folders: Sequence[str | Path], out: Path, baseline: str | None = None) -> Plan:
    """Variants and cells of finished runs.

    Runs that differ in `train.seed` alone are seeds of one variant. A variant is called by its
    method, or by the names of its folders where two have the same.

    Args:
        folders: Run folders, at least two.
        out: Folder of the comparison.
        baseline: Label of the variant that differences are taken against; the first by default.

    Raises:
        FileNotFoundError: If there is no such folder.
        CheckpointError: If a run is not finished, or damaged.
        DataError: If runs have different data or folds.
        ValueError: If there are fewer than two runs, or the baseline is none of the labels.
    """
    runs = [Run(folder) for folder in folders]
    paths = {run.folder.resolve() for run in runs}
    if len(paths) < 2 or len(paths) < len(runs):
        raise ValueError(
            f"`runs` must be at least two different run folders, but has {len(paths)} instead."
        )
    for run in runs:
        if not run.is_finished:
            raise CheckpointError(
                f"`runs` must be finished, but {str(run.folder)!r} is not instead; "
                f"`smoothdistill resume {run.folder}` goes on with it."
            )
    for run in runs[1:]:
        _require_equal("data", "fingerprint", runs[0], run, _fingerprint)
        _require_equal("folds", "folds", runs[0], run, _folds)
    groups = _groups(runs)
    labels = _labels(groups)
    variants, cells = [], []
    for label, group in zip(labels, groups, strict=True):
        variants.append(PlannedVariant(label, "selected", group[0].config.to_table()))
        cells += [
            Cell(label, run.config.train.seed, fold, _from(out, run.folder))
            for run in group
            for fold in sorted(_folds(run))
        ]
    chosen = labels[0] if baseline is None else baseline
    if chosen not in labels:
        raise ValueError(
            f"`baseline` must be one of the labels ({', '.join(labels)}), "
            f"but is {chosen!r} instead."
        )
    words = ["smoothdistill", "compare", *(run.folder.as_posix() for run in runs)]
    command = shlex.join([*words, "--baseline", chosen])
    return Plan("runs", command, chosen, tuple(variants), tuple(cells))


def _require_equal(what: str, name: str, first: Run, other: Run, read: Any) -> None:
    if read(first) != read(other):
        raise DataError(
            f"`runs` must have the same {what}, but {str(first.folder)!r} and "
            f"{str(other.folder)!r} have different {name} instead."
        )


def _fingerprint(run: Run) -> str:
    return str(read_json(run.folder / "data.json").get("fingerprint"))


def _folds(run: Run) -> dict[int, str]:
    """Digest of each fold's windows, by its number."""
    splits = read_json(run.folder / "splits.json")
    try:
        return {int(fold["index"]): str(fold["digest"]) for fold in splits["folds"]}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"`folder` must hold a run with a readable splits.json, "
            f"but {str(run.folder)!r} has one without folds instead."
        ) from error


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs by their configuration without the seed; a seed that stands twice is no group."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        table = run.config.to_table()
        table["train"].pop("seed", None)
        groups.setdefault(to_toml(table), []).append(run)
    found: list[list[Run]] = []
    for group in groups.values():
        seeds = {run.config.train.seed for run in group}
        found += [group] if len(seeds) == len(group) else [[run] for run in group]
    return found


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    methods = [group[0].config.method.name for group in groups]
    names = ["+".join(run.folder.resolve().name for run in group) for group in groups]
    labels = [
        method if methods.count(method) == 1 else name
        for method, name in zip(methods, names, strict=True)
    ]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{label} ({place})" for place, label in enumerate(labels, start=1)]


def _from(out: Path, folder: Path) -> str:
    """The way from one folder to another, so that both can be moved together."""
    try:
        return Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix()
    except ValueError:  # another drive
        return folder.resolve().as_posix()
