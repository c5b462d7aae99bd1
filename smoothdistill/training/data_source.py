"""From the `[data]` section of a configuration to windows."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from smoothdistill import datasets

if TYPE_CHECKING:
    from smoothdistill.training.config import DataConfig
    from smoothdistill.windows import Windows

__all__ = ["OWN_FILES", "load_windows"]

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
