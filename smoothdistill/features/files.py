"""`extract_files`: recordings from files, any number of them, to one table of features on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from smoothdistill.datasets.arrow import import_arrow
from smoothdistill.datasets.own_files import _files
from smoothdistill.errors import DataError
from smoothdistill.features.recording_files import RecordingFormat, Wearing, as_wearing
from smoothdistill.features.table_files import SUFFIXES, TableWriter, table_file
from smoothdistill.workers import check_backend, count_workers, results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jaxtyping import Float, Int64

    from smoothdistill.features.extractor import FeatureExtractor
    from smoothdistill.windows import Recording

__all__ = ["FilesSummary", "Reporter", "checked_out", "extract_files", "extract_recordings"]

WARM_UP_WINDOWS = 48


@dataclass(frozen=True)
class FilesSummary:
    """What was written.

    Args:
        out: The table.
        num_files: Files that were read; 0 where the recordings were in memory.
        num_recordings: Recordings: wearings of one subject, in one file.
        num_too_short: Those of them that have no window.
        num_windows: Rows.
        num_features: Columns that are features.
    """

    out: Path
    num_files: int
    num_recordings: int
    num_too_short: int
    num_windows: int
    num_features: int


@dataclass(frozen=True)
class Reporter:
    """Who is told what goes on.

    Args:
        preparing: Called before kernels are loaded, or compiled.
        starting: Called with the number of files, or of recordings in memory.
        advanced: Called after each with its number of windows.
    """

    preparing: Callable[[], None] = field(default=lambda: None)
    starting: Callable[[int], None] = field(default=lambda num_items: None)
    advanced: Callable[[int], None] = field(default=lambda num_windows: None)


class Work(NamedTuple):
    """A file to read, or a recording that was read already."""

    source: str
    path: Path | None = None
    wearing: Wearing | None = None


class Rows(NamedTuple):
    """The windows of one recording."""

    starts: Int64[np.ndarray, " windows"]
    values: Float[np.ndarray, "windows features"]
    labels: dict[str, tuple[Int64[np.ndarray, " windows"], tuple[str, ...]]]
    owners: dict[str, str | None]


class Done(NamedTuple):
    """What became of a piece of work: rows per recording, none where it is too short."""

    recordings: list[Rows | None]
    longest_samples: int


def extract_files(
    extractor: FeatureExtractor,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    reading: RecordingFormat | None = None,
    n_jobs: int | None = None,
    backend: str = "threads",
    reporter: Reporter | None = None,
) -> FilesSummary:
    """Features of recordings from CSV or Parquet files, written to one table as they come.

    The rows lie in the order of the files, then of time: file, recording, subject, session and
    labels (where the files have them), start, features. However many files there are, no more than
    a few, and their results, are in memory.

    Args:
        extractor: What to compute, and how recordings are cut. It is not changed.
        paths: A file, a folder, a glob pattern, or several of them.
        out: The table, .parquet or .csv. It appears when all of it is written.
        reading: Which columns of the files are what; by default channels x, y and z.
        n_jobs: Files that are worked on at a time, at least 1, or -1 for one on each core. None is
            1, and the whole cluster with "dask" and "ray". Where there are more jobs than files,
            the windows of a file are shared by threads.
        backend: "threads", "processes", "dask" or "ray".
        reporter: Who is told what goes on.

    Returns:
        Counts of what was read and written.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If one breaks its rule.
        FileNotFoundError: If there is no file.
        DataError: If a file lacks a column or has a bad cell, or no recording has a window. Then
            nothing is written.
    """
    reading = RecordingFormat() if reading is None else reading
    out = checked_out(out)
    files = _inputs(paths, out)
    reading = reading.resolved(files[0])
    for path in files:
        reading.check(path)
    if extractor.channel_names is None:
        extractor = _clone(extractor, channel_names=reading.channels)
    run = _Run(
        extractor,
        out,
        owners=[name for name in ("subject", "session") if getattr(reading, name) is not None],
        tasks=reading.labels,
        num_channels=len(reading.channels),
    )
    work = [Work(path.as_posix(), path.absolute()) for path in files]
    return run.all_of(work, reading, n_jobs, backend, reporter or Reporter())


def extract_recordings(
    extractor: FeatureExtractor,
    recordings: Sequence[Recording],
    out: str | os.PathLike[str],
    *,
    class_names: Mapping[str, tuple[str, ...]],
    name: str,
    n_jobs: int | None = None,
    backend: str = "threads",
    reporter: Reporter | None = None,
) -> FilesSummary:
    """`extract_files` for recordings in memory, such as those of `datasets.load_recordings`.

    Args:
        extractor: As there.
        recordings: At least one, all with the same channels and tasks.
        out: As there.
        class_names: Names of the classes per task.
        name: What stands in the column "file".
        n_jobs: As there.
        backend: As there.
        reporter: As there.
    """
    first = recordings[0]
    if extractor.channel_names is None and first.channel_names:
        extractor = _clone(extractor, channel_names=first.channel_names)
    run = _Run(
        extractor,
        checked_out(out),
        owners=["subject", "session"],
        tasks=tuple(class_names),
        num_channels=first.signal.shape[1],
    )
    work = [Work(name, wearing=as_wearing(each, class_names)) for each in recordings]
    return run.all_of(work, None, n_jobs, backend, reporter or Reporter())


def checked_out(out: str | os.PathLike[str]) -> Path:
    """The path of the table.

    Raises:
        ValueError: If its suffix is unknown, or its folder does not exist.
    """
    path = Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"`out` must end with {' or '.join(SUFFIXES)}, but is {os.fspath(out)!r} instead."
        )
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(
            f"`out` must be a file in a folder that exists, but is {os.fspath(out)!r} instead."
        )
    return path


def _inputs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], out: Path
) -> list[Path]:
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if out.resolve() in [Path(path).resolve() for path in given]:
        raise ValueError(f"`out` must be none of the recordings, but is {str(out)!r} instead.")
    found = dict.fromkeys(file for path in given for file in _files(path))
    # A folder may hold the table of the last time.
    files = [path for path in found if path.resolve() != out.resolve()]
    if not files:
        raise FileNotFoundError(
            f"`file` must be at least 1 recording, but {str(out)!r} is the only file there instead."
        )
    return files


def _clone(extractor: FeatureExtractor, **parameters: Any) -> FeatureExtractor:
    from sklearn.base import clone

    copied: FeatureExtractor = clone(extractor).set_params(**parameters)
    return copied


class _Run:
    """One table: what its columns are, and how rows get into it."""

    def __init__(
        self,
        extractor: FeatureExtractor,
        out: Path,
        *,
        owners: Sequence[str],
        tasks: Sequence[str],
        num_channels: int,
    ) -> None:
        self.extractor = _clone(extractor)
        segmenter = self.extractor._segmenter()
        if segmenter is None:
            raise ValueError(
                "`window_samples` or `window_seconds` must be given for recordings, but both are "
                "None instead."
            )
        self.segmenter = segmenter
        self.num_channels = num_channels
        self.extractor.fit(np.zeros((segmenter.width_samples, num_channels), np.float32))
        self.out, self.owners, self.tasks = out, owners, tasks
        self.num_recordings = self.num_too_short = self.num_windows = self.longest_samples = 0
        self.schema = self._schema()

    def _schema(self) -> Any:
        pa = import_arrow()
        names = ["file", "recording", *self.owners, *self.tasks, "start", *self.feature_names]
        for task in self.tasks:
            if names.count(task) > 1:
                raise ValueError(
                    "`labels` must have other names than the columns of the table, but has "
                    f"{task!r} instead."
                )
        value = pa.from_numpy_dtype(np.dtype(self.extractor.dtype))
        kinds = dict.fromkeys(self.feature_names, value)
        kinds |= dict.fromkeys(("recording", "start"), pa.int64())
        return pa.schema([(name, kinds.get(name, pa.string())) for name in names])

    @property
    def feature_names(self) -> list[str]:
        names: list[str] = self.extractor.get_feature_names_out().tolist()
        return names

    def all_of(
        self,
        work: Sequence[Work],
        reading: RecordingFormat | None,
        n_jobs: int | None,
        backend: str,
        reporter: Reporter,
    ) -> FilesSummary:
        check_backend(backend)
        num_workers = count_workers(n_jobs, backend)
        threads_each = 1
        if num_workers is not None and num_workers > len(work):
            threads_each, num_workers = num_workers // len(work), len(work)
        self.extractor.n_jobs = threads_each
        if backend in ("threads", "processes"):  # a cluster has other machines, with other caches
            reporter.preparing()
            self._warm_up()
        reporter.starting(len(work))
        task = _Task(self.extractor, reading)
        with (
            closing(results(task, work, num_workers, backend)) as finished,
            table_file(self.out, self.schema) as table,
        ):
            for item, done in zip(work, finished, strict=True):
                self._write(table, item.source, done)
                reporter.advanced(sum(len(rows.starts) for rows in done.recordings if rows))
            if not self.num_windows:
                self.segmenter.segment(self.longest_samples)  # says what does not fit into it
                raise DataError(
                    "`min_valid` must leave a window in at least 1 of "
                    f"{self.num_recordings} recordings, but is {self.segmenter.min_valid} instead."
                )
        return FilesSummary(
            out=self.out,
            num_files=sum(item.path is not None for item in work),
            num_recordings=self.num_recordings,
            num_too_short=self.num_too_short,
            num_windows=self.num_windows,
            num_features=len(self.feature_names),
        )

    def _warm_up(self) -> None:
        """Compile, or load from Numba's cache, before workers all do so at once."""
        hop, width = self.segmenter.hop_samples, self.segmenter.width_samples
        shape = (self.segmenter.origin + width + WARM_UP_WINDOWS * hop, self.num_channels)
        noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        self.extractor.extract(noise)

    def _write(self, table: TableWriter, source: str, done: Done) -> None:
        self.longest_samples = max(self.longest_samples, done.longest_samples)
        for rows in done.recordings:
            if rows is None:
                self.num_too_short += 1
            else:
                table.write(self._arrow(source, rows))
                self.num_windows += len(rows.starts)
            self.num_recordings += 1

    def _arrow(self, source: str, rows: Rows) -> Any:
        pa = import_arrow()
        num_windows = len(rows.starts)

        def text(value: str | None) -> Any:
            return pa.repeat(pa.scalar(value, pa.string()), num_windows)

        def label(codes: Int64[np.ndarray, " windows"], words: tuple[str, ...]) -> Any:
            places = pa.array(codes, mask=codes < 0)
            words = pa.array(words, pa.string())
            return pa.DictionaryArray.from_arrays(places, words).cast(pa.string())

        columns = [
            text(source),
            pa.repeat(pa.scalar(self.num_recordings, pa.int64()), num_windows),
            *(text(rows.owners[name]) for name in self.owners),
            *(label(*rows.labels[task]) for task in self.tasks),
            pa.array(rows.starts),
            *(pa.array(column) for column in rows.values.T),
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)


class _Task:
    """What a worker does with each piece of work; it may be sent to another process."""

    def __init__(self, extractor: FeatureExtractor, reading: RecordingFormat | None) -> None:
        self.extractor, self.reading = extractor, reading

    def __call__(self, work: Work) -> Done:
        if work.path is not None:
            assert self.reading is not None
            wearings = self.reading.read(work.path)
        else:
            assert work.wearing is not None
            wearings = [work.wearing]
        try:
            found = [self._rows(wearing) for wearing in wearings]
        except DataError as error:  # which knows the array, but not the file
            raise DataError(f"{str(error).removesuffix('.')}, in {work.source}.") from error
        return Done([rows for rows, _ in found], max(longest for _, longest in found))

    def _rows(self, wearing: Wearing) -> tuple[Rows | None, int]:
        segmenter = self.extractor._segmenter()
        assert segmenter is not None
        beside: dict[str, Any] = {
            "targets": wearing.targets or None,
            "timestamps_seconds": wearing.seconds,
        }
        segments = segmenter.segment(wearing.signal, **beside, must_fit=False)
        longest = int(np.diff(segments.borders).max())
        if not len(segments):
            return None, longest
        table = self.extractor.extract(wearing.signal, **beside)
        labels = {task: (codes, wearing.words[task]) for task, codes in table.targets.items()}
        owners = {"subject": wearing.subject, "session": wearing.session}
        return Rows(table.starts, table.values, labels, owners), longest
