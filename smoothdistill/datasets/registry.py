"""What a data set is: its description, how its files are found and read, and the table of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from smoothdistill.datasets.reports import FileReport
    from smoothdistill.windows import LabelRule, Recording, Windows

__all__ = ["DATASETS", "Dataset", "Source", "find_dataset", "register_dataset"]


@dataclass(frozen=True)
class Source:
    """The files that one call of a reader turns into recordings.

    Args:
        paths: Files in the order that the reader expects; the first one names the source.
    """

    paths: tuple[Path, ...]

    @property
    def name(self) -> str:
        """File name that reports and messages use."""
        return self.paths[0].name


@dataclass(frozen=True)
class Dataset:
    """Description of one data set, and the functions that read it.

    Args:
        name: What `load` is called with.
        title: Name in reports.
        tasks: Names of the tasks, in the order of the targets.
        class_names: Names of the classes per task.
        channel_names: Names of the channels, with the sensor in front.
        units: Unit of every channel.
        licence: Terms as seen in the public release.
        citation: Work to cite.
        source: Where a person gets the files; nothing is downloaded.
        sample_rate_hz: Nominal rate, in samples per second.
        window_samples: Default window length, in samples.
        step_samples: Default hop between windows, in samples.
        label: Default rule for the label of a window (see `smoothdistill.windows.cut_windows`).
        max_gap_seconds: Longest step of time inside a window, in seconds.
        test_subjects: Subjects of the release's own test part, if it has one.
        repairs: What the reader mends, one sentence per rule.
        version: Raised whenever the reader's result changes; part of the cache's key.
        find_sources: From the root folder to the files, in reading order.
        read_source: From one source to its recordings and report.
        read_windows: For a data set that is published as windows: the whole of it at once.
        make_recordings: For a data set that is made, not read.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]]
    channel_names: tuple[str, ...]
    units: tuple[str, ...]
    licence: str
    citation: str
    source: str
    sample_rate_hz: float
    window_samples: int = 100
    step_samples: int = 60
    label: LabelRule = "pure"
    max_gap_seconds: float | None = None
    test_subjects: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    version: int = 1
    find_sources: Callable[[Path], list[Source]] | None = field(default=None, repr=False)
    read_source: Callable[..., tuple[list[Recording], FileReport]] | None = field(
        default=None, repr=False
    )
    read_windows: Callable[[Path], tuple[Windows, list[FileReport]]] | None = field(
        default=None, repr=False
    )
    make_recordings: Callable[..., list[Recording]] | None = field(default=None, repr=False)

    @property
    def needs_root(self) -> bool:
        """Whether the data set is read from files."""
        return self.make_recordings is None


DATASETS: dict[str, Dataset] = {}


def register_dataset(dataset: Dataset) -> Dataset:
    """Add a data set to `DATASETS`.

    Raises:
        ValueError: If the name is taken, or the data set has no way to be read.
    """
    if dataset.name in DATASETS:
        raise ValueError(
            f"`dataset.name` must be new, but is {dataset.name!r} (registered already) instead."
        )
    has_files = dataset.find_sources is not None and dataset.read_source is not None
    if not (has_files or dataset.read_windows or dataset.make_recordings):
        raise ValueError(
            "`dataset` must have `find_sources` and `read_source`, `read_windows` or "
            f"`make_recordings`, but {dataset.name!r} has none of them instead."
        )
    DATASETS[dataset.name] = dataset
    return dataset


def find_dataset(name: Any) -> Dataset:
    """Look a data set up by name.

    Raises:
        TypeError: If `name` is not a string.
        ValueError: If no data set has that name.
    """
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a string, but is {type(name).__name__} instead.")
    if name not in DATASETS:
        raise ValueError(f"`name` must be one of {sorted(DATASETS)}, but is {name!r} instead.")
    return DATASETS[name]
