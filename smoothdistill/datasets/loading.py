"""From the name of a data set to recordings, windows or a report."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.datasets.cache import cache_key, read_cached, write_cached
from smoothdistill.datasets.registry import Dataset, find_dataset
from smoothdistill.datasets.reports import DataReport, FileReport
from smoothdistill.errors import DataError
from smoothdistill.windows import IGNORE_INDEX, cut_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smoothdistill.windows import LabelRule, Recording, Windows

__all__ = ["check", "load", "load_recordings"]


def load(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    window_samples: int | None = None,
    step_samples: int | None = None,
    label: LabelRule | None = None,
    cache: bool = True,
    **options: Any,
) -> Windows:
    """Windows of a registered data set.

    Args:
        name: One of `DATASETS`.
        root: Folder of the unpacked files; not needed for "synthetic".
        window_samples: Window length, in samples; the data set's own default if None.
        step_samples: Hop between windows, in samples; the data set's own default if None.
        label: "pure", "last", "middle" or "majority" (see `cut_windows`); the data set's default if
            None.
        cache: Whether parsed recordings are kept, by content, in the cache folder
            (`SMOOTHDISTILL_CACHE` or the platform's own).
        **options: What the data set's reader takes besides.

    Returns:
        Windows with the data set's tasks, class names and subjects.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the name, an option or a window length breaks its rule.
        FileNotFoundError: If the files are not there; the message says where to get them.
        DataError: If a file breaks its layout; the message names file:line:column.
    """
    dataset = find_dataset(name)
    if dataset.read_windows is not None:
        return _published_windows(dataset, root, window_samples, step_samples, label, options)
    recordings = load_recordings(name, root=root, cache=cache, **options)
    return cut_windows(
        recordings,
        class_names=dataset.class_names,
        window_samples=dataset.window_samples if window_samples is None else window_samples,
        step_samples=dataset.step_samples if step_samples is None else step_samples,
        label=dataset.label if label is None else label,
        max_gap_seconds=dataset.max_gap_seconds,
        name=name,
    )


def load_recordings(
    name: str, *, root: str | os.PathLike[str] | None = None, cache: bool = True, **options: Any
) -> list[Recording]:
    """Recordings of a registered data set, one per subject, session and placement.

    Args:
        name: One of `DATASETS`, but not one that is published as windows ("uci-har").
        root: Folder of the unpacked files; not needed for "synthetic".
        cache: As in `load`.
        **options: What the data set's reader takes besides.

    Returns:
        Recordings in the order of the files; `timestamps_seconds` are set where the files have
        times.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the name or an option breaks its rule.
        FileNotFoundError: If the files are not there.
        DataError: If a file breaks its layout.
    """
    dataset = find_dataset(name)
    if dataset.make_recordings is not None:
        _call_without_root(dataset, root)
        made: list[Recording] = _with_known_options(dataset, dataset.make_recordings, options)
        return made
    if dataset.read_windows is not None:
        raise DataError(
            f"`name` must be a data set of recordings, but is {name!r} (published as windows; use "
            "`load`) instead."
        )
    recordings: list[Recording] = []
    for read, _ in _read_all(dataset, root, options, cache=cache):
        recordings += read
    return recordings


def check(name: str, root: str | os.PathLike[str] | None = None, **options: Any) -> DataReport:
    """Read every file of a data set anew and report what is in it.

    Args:
        name: One of `DATASETS`.
        root: Folder of the unpacked files; not needed for "synthetic".
        **options: What the data set's reader takes besides.

    Returns:
        Counts per file (rows, subjects, gaps, duplicates, repairs), a histogram of the measured
        rates, samples per class, and the unit that the norm of the acceleration speaks for.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the name or an option breaks its rule.
        FileNotFoundError: If the files are not there.
        DataError: If a file breaks its layout.
    """
    dataset = find_dataset(name)
    counts = {task: np.zeros(len(names), np.int64) for task, names in dataset.class_names.items()}
    files: list[FileReport] = []
    if dataset.read_windows is not None:
        windows, files = _with_known_options(
            dataset, dataset.read_windows, options, _folder(dataset, root)
        )
        for task, labels in windows.targets.items():
            _count(counts[task], labels, windows.window_samples)
    elif dataset.make_recordings is not None:
        _call_without_root(dataset, root)
        recordings = _with_known_options(dataset, dataset.make_recordings, options)
        files = [_report_of_made(dataset, recordings)]
        _count_recordings(counts, recordings)
    else:
        for recordings, report in _read_all(dataset, root, options, cache=False):
            files.append(report)
            _count_recordings(counts, recordings)
    return DataReport(
        dataset=name,
        root="" if root is None else os.fspath(root),
        files=tuple(files),
        units=dataset.units,
        class_samples={
            task: dict(zip(names, counts[task].tolist(), strict=True))
            for task, names in dataset.class_names.items()
        },
    )


def _read_all(
    dataset: Dataset,
    root: str | os.PathLike[str] | None,
    options: dict[str, Any],
    *,
    cache: bool,
) -> Iterator[tuple[list[Recording], FileReport]]:
    """Source by source, so that no more than one file's text is in memory."""
    assert dataset.find_sources is not None
    assert dataset.read_source is not None
    for source in dataset.find_sources(_folder(dataset, root)):
        key = cache_key(dataset, source, options) if cache else ""
        found = read_cached(dataset, key) if cache else None
        if found is None:
            found = _with_known_options(dataset, dataset.read_source, options, source)
            if cache:
                write_cached(dataset, key, *found)
        yield found


def _with_known_options(
    dataset: Dataset, function: Any, options: dict[str, Any], *arguments: Any
) -> Any:
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            raise ValueError(
                f"`options` must be among {known} for {dataset.name!r}, but is {option!r} instead."
            )
    return function(*arguments, **options)


def _folder(dataset: Dataset, root: str | os.PathLike[str] | None) -> Path:
    if root is None:
        raise FileNotFoundError(
            f"`root` must be the folder of {dataset.name!r}, but is None instead. {dataset.source}"
        )
    if not isinstance(root, str | os.PathLike):
        raise TypeError(f"`root` must be a path, but is {type(root).__name__} instead.")
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`root` must be an existing folder, but is {str(folder)!r} instead. {dataset.source}"
        )
    return folder


def _call_without_root(dataset: Dataset, root: str | os.PathLike[str] | None) -> None:
    if root is not None:
        raise ValueError(
            f"`root` must be None for {dataset.name!r}, which is made, not read, but is "
            f"{os.fspath(root)!r} instead."
        )


def _published_windows(
    dataset: Dataset,
    root: str | os.PathLike[str] | None,
    window_samples: int | None,
    step_samples: int | None,
    label: str | None,
    options: dict[str, Any],
) -> Windows:
    for argument, value, published in (
        ("window_samples", window_samples, dataset.window_samples),
        ("step_samples", step_samples, dataset.step_samples),
        ("label", label, dataset.label),
    ):
        if value is not None and value != published:
            raise ValueError(
                f"`{argument}` must be {published} or None for {dataset.name!r}, whose windows "
                f"come cut, but is {value} instead."
            )
    windows: Windows
    windows, _ = _with_known_options(dataset, dataset.read_windows, options, _folder(dataset, root))
    return windows


def _count_recordings(counts: dict[str, np.ndarray], recordings: list[Recording]) -> None:
    for recording in recordings:
        for task, labels in recording.targets.items():
            _count(counts[task], labels, 1)


def _count(counts: np.ndarray, labels: np.ndarray, samples_each: int) -> None:
    labelled = labels[labels != IGNORE_INDEX]
    counts += np.bincount(labelled, minlength=len(counts)) * samples_each


def _report_of_made(dataset: Dataset, recordings: list[Recording]) -> FileReport:
    from smoothdistill.datasets.reports import median_norm

    num_samples = sum(len(recording) for recording in recordings)
    return FileReport(
        file=dataset.name,
        rows=num_samples,
        subjects=tuple(dict.fromkeys(recording.subject for recording in recordings)),
        recordings=len(recordings),
        kept_samples=num_samples,
        rates_hz=tuple(recording.sample_rate_hz for recording in recordings),
        median_norm=median_norm(recordings),
    )
