"""From the `[data]` and `[split]` sections of a configuration to windows and folds."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from smoothdistill import datasets
from smoothdistill.splits import make_folds

if TYPE_CHECKING:
    from smoothdistill.splits import Fold
    from smoothdistill.training.config import DataConfig, SplitConfig
    from smoothdistill.windows import Windows

__all__ = ["OWN_FILES", "load_windows", "make_split"]

OWN_FILES = "csv"
"""The `data.name` of the user's own CSV or Parquet files, which `data.root` then names."""


def load_windows(config: DataConfig) -> Windows:
    """Load the windows that a configuration names.

    Args:
        config: Its `name` is one of `datasets.DATASETS`, or "csv": then `root` is a file, folder
            or pattern, and further keys are those of `datasets.from_csv`.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If the data set or an option is unknown, or `root` is needed but not given.
        FileNotFoundError: If the files are not there.
        DataError: If a file breaks its layout.
    """
    given = config.model_dump(exclude_none=True)
    name = given.pop("name")
    if name == OWN_FILES:
        known = set(inspect.signature(datasets.from_csv).parameters) - {"paths", "name"}
        for key in given:
            if key not in known | {"root"}:
                raise ValueError(
                    f"`data.{key}` must be one of the known keys for {OWN_FILES} "
                    f"({', '.join(sorted(known))}), but is an unknown key instead."
                )
        for key in ("root", "targets"):
            if key not in given:
                raise ValueError(
                    f"`data.{key}` must be given where `data.name` is {OWN_FILES!r}, "
                    "but is missing instead."
                )
        return datasets.from_csv(given.pop("root"), **given)
    if name not in datasets.DATASETS:
        raise ValueError(
            f"`data.name` must be one of {', '.join([*datasets.DATASETS, OWN_FILES])}, "
            f"but is {name!r} instead."
        )
    return datasets.load(name, **given)


def make_split(config: SplitConfig, windows: Windows) -> list[Fold]:
    """The folds that a configuration asks for.

    Raises:
        ValueError: If it asks for a fold that there is not.
        DataError: If the windows cannot be divided so.
    """
    known = datasets.DATASETS.get(windows.name)
    if config.protocol == "official" and (known is None or not known.test_subjects):
        with_one = [one.name for one in datasets.DATASETS.values() if one.test_subjects]
        raise ValueError(
            "`split.protocol` must be another than 'official' for data without a test part of "
            f"their own ({', '.join(with_one)} have one), but is 'official' for {windows.name!r} "
            "instead."
        )
    folds = make_folds(
        windows,
        protocol=config.protocol,
        num_folds=config.num_folds,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        test_subjects=known.test_subjects if known is not None else (),
    )
    if config.folds is None:
        return folds
    if max(config.folds) >= len(folds):
        raise ValueError(
            f"`split.folds` must be numbers below {len(folds)}, the number of folds, "
            f"but is {list(config.folds)} instead."
        )
    return [folds[index] for index in config.folds]
