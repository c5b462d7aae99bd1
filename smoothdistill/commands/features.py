"""``smoothdistill features``: recordings in, a table of features out."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothdistill.commands.options import JsonOption, QuietOption, SetOption, configuration

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

    from smoothdistill.datasets import Dataset
    from smoothdistill.features import FeatureExtractor
    from smoothdistill.features.files import FilesSummary, Reporter
    from smoothdistill.training.config import DataConfig

__all__ = ["features"]

# Kernels that are in Numba's cache are there before.
LOADING_SECONDS = 2.0


def features(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="Recordings, CSV or Parquet: files, folders or patterns."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Table to write: .parquet or .csv.")
    ] = Path("features.parquet"),
    names: Annotated[
        str,
        typer.Option(
            "--features",
            help="Presets (basic, statistical, spectral, har), families, features or columns, by "
            "commas; or uci561 alone.",
        ),
    ] = "har",
    window_samples: Annotated[
        int | None, typer.Option(help="Length of a window, in samples.")
    ] = None,
    step_samples: Annotated[
        int | None,
        typer.Option(help="Hop between windows, in samples; by default the window's length."),
    ] = None,
    window_seconds: Annotated[
        float | None, typer.Option(help="Length of a window, in seconds.")
    ] = None,
    step_seconds: Annotated[
        float | None, typer.Option(help="Hop between windows, in seconds.")
    ] = None,
    sample_rate_hz: Annotated[
        float | None,
        typer.Option(help="Samples per second. Spectral features, slopes and times need it."),
    ] = None,
    channels: Annotated[str, typer.Option(help="Columns of the signal, by commas.")] = "x,y,z",
    channel_names: Annotated[
        str | None,
        typer.Option(help="What the table calls the channels, where not as the files do."),
    ] = None,
    time: Annotated[str | None, typer.Option(help="Column of times, if there is one.")] = None,
    time_unit: Annotated[str, typer.Option(help="Unit of the times: s, ms, us or ns.")] = "s",
    delimiter: Annotated[str, typer.Option(help="Character between the fields of a CSV.")] = ",",
    subject: Annotated[
        str | None,
        typer.Option(help="Column of subjects; by default subject, where there is one."),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(help="Column of sessions; by default session, where there is one."),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Columns of labels, by commas.")] = None,
    label_rule: Annotated[
        str | None,
        typer.Option(
            help="Label of a window: majority, last, middle, or pure (no window crosses a change); "
            "by default majority, or what the data set names."
        ),
    ] = None,
    name_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Where subject, session or labels are in the names of the files: named groups "
            "such as `(?P<subject>s[0-9]+)`.",
        ),
    ] = None,
    nan_policy: Annotated[
        str,
        typer.Option(
            help="Missing samples: propagate (as NaN), omit (features of what is left), or raise."
        ),
    ] = "propagate",
    acceleration_unit: Annotated[
        str | None,
        typer.Option(
            help='"m/s^2" or "g": what enmo takes for 1 g; by default m/s^2, or as the data set is.'
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the features: float64 or float32.")] = "float64",
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Files to work on at a time; -1 is one for each core. By default 1, or the whole "
            "cluster."
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="What shares the work: threads, processes, dask or ray.")
    ] = "threads",
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compute features of every window of recordings: a row per window, any number of files.

    A row has file, recording, subject, session and labels (where the files have them) and the
    window's first sample, then the features. With a column of times no window crosses a gap.
    Recordings too short for a window are left out and counted.

    Instead of files, --set data.name=wisdm --set data.root=DIR takes a data set of
    `smoothdistill data list`, by default with its own windows.
    """
    from smoothdistill.features.files import checked_out, extract_files, extract_recordings
    from smoothdistill.workers import check_backend

    checked_out(out)
    check_backend(backend)
    data, dataset = _dataset(overrides) if overrides else (None, None)
    if bool(files) == (dataset is not None):
        raise ValueError(
            "`FILE` or `--set data.name=...` must be given, and not both, but "
            f"{'both are' if files else 'neither is'} instead."
        )
    extractor = _extractor(
        data,
        dataset,
        label_rule=label_rule,
        lengths={
            "window_samples": window_samples,
            "step_samples": step_samples,
            "window_seconds": window_seconds,
            "step_seconds": step_seconds,
        },
        sample_rate_hz=sample_rate_hz,
        features=_listed(names),
        channel_names=_listed(channel_names) or None,
        nan_policy=nan_policy,
        acceleration_unit=acceleration_unit,
        dtype=dtype,
    )
    with _stoppable(), _Bar(show=not quiet and sys.stderr.isatty()) as bar:
        options: dict[str, Any] = {"n_jobs": jobs, "backend": backend, "reporter": bar.reporter()}
        if data is None or dataset is None:
            from smoothdistill.features.recording_files import RecordingFormat

            reading = RecordingFormat(
                channels=_listed(channels),
                time=time,
                time_unit=time_unit,
                delimiter=delimiter,
                subject=subject,
                session=session,
                labels=_listed(labels),
                name_pattern=name_pattern,
                sample_rate_hz=sample_rate_hz,
                allows_missing=nan_policy != "raise",
            )
            summary = extract_files(extractor, files or [], out, reading=reading, **options)
        else:
            from smoothdistill.datasets import load_recordings

            bar.say(f"reading {dataset.name}")
            recordings = load_recordings(dataset.name, root=data.root, **data.options)
            options |= {"class_names": dataset.class_names, "name": dataset.name}
            summary = extract_recordings(extractor, recordings, out, **options)
    _print(summary, quiet=quiet, as_json=as_json)


def _listed(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(name.strip() for name in text.split(","))


def _dataset(overrides: list[str]) -> tuple[DataConfig, Dataset]:
    """The data set that ``--set`` names."""
    from smoothdistill.datasets.registry import find_dataset

    for text in overrides:
        if not text.startswith("data."):
            raise ValueError(f"`--set` must change a key of data here, but is {text!r} instead.")
    data = configuration(None, overrides).data
    return data, find_dataset(data.name)


def _extractor(
    data: DataConfig | None,
    dataset: Dataset | None,
    *,
    label_rule: str | None,
    lengths: dict[str, Any],
    sample_rate_hz: float | None,
    acceleration_unit: str | None,
    **options: Any,
) -> FeatureExtractor:
    """What the options ask for; what they leave open is as the data set has it, if there is one."""
    from smoothdistill.features import FeatureExtractor
    from smoothdistill.windows import Segmenter

    how: dict[str, Any] = {"label": "majority", "backwards": "raise"}
    if data is not None and dataset is not None:
        sample_rate_hz = sample_rate_hz or dataset.sample_rate_hz
        acceleration_unit = acceleration_unit or ("g" if "g" in dataset.units else None)
        how = {
            "label": data.label or dataset.label,
            "max_gap_seconds": dataset.max_gap_seconds,
            "backwards": "border",
        }
        has_window, has_step = (
            any(lengths[f"{what}_{unit}"] is not None for unit in ("samples", "seconds"))
            for what in ("window", "step")
        )
        if not has_step:
            is_default = not has_window and data.window_samples is None
            default = dataset.step_samples if is_default else None
            lengths["step_samples"] = data.step_samples or default
        if not has_window:
            lengths["window_samples"] = data.window_samples or dataset.window_samples
    how["label"] = label_rule or how["label"]
    segmenter = Segmenter(**lengths, **how, sample_rate_hz=sample_rate_hz)
    options["acceleration_unit"] = acceleration_unit or "m/s^2"
    return FeatureExtractor(segmenter=segmenter, sample_rate_hz=sample_rate_hz, **options)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command in good order, so that nothing half-written stays.

    Raises:
        typer.Exit: With 130 after Ctrl-C, with 143 after SIGTERM.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        sys.stderr.write("Stopped; nothing was written.\n")
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 143) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


class _Bar:
    """A bar on stderr, on a terminal only."""

    def __init__(self, *, show: bool) -> None:
        self._bar: Any = None
        self._later: threading.Timer | None = None
        self._num_windows = 0
        self._show = show

    def __enter__(self) -> Self:
        if self._show:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[windows]}"),
                console=Console(stderr=True),
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task("looking at the files", total=None, windows="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._later is not None:
            self._later.cancel()
        if self._bar is not None:
            self._bar.stop()

    def reporter(self) -> Reporter:
        """What the work is to call."""
        from smoothdistill.features.files import Reporter

        return Reporter(preparing=self._prepare, starting=self._start, advanced=self._advance)

    def say(self, text: str) -> None:
        """Say what goes on."""
        if self._bar is not None:
            self._bar.update(self._task, description=text, refresh=True)

    def _prepare(self) -> None:
        self.say("loading kernels")
        self._later = threading.Timer(LOADING_SECONDS, self.say, ("compiling kernels (once)",))
        self._later.start()

    def _start(self, num_items: int) -> None:
        if self._later is not None:
            self._later.cancel()
        if self._bar is not None:
            self._bar.reset(self._task, description="features", total=num_items, windows="")

    def _advance(self, num_windows: int) -> None:
        self._num_windows += num_windows
        if self._bar is not None:
            self._bar.update(self._task, advance=1, windows=f"{self._num_windows:,} windows")


def _print(summary: FilesSummary, *, quiet: bool, as_json: bool) -> None:
    from smoothdistill.commands.output import print_json, print_lines

    if as_json:
        print_json(
            {
                "out": str(summary.out),
                "num_files": summary.num_files,
                "num_recordings": summary.num_recordings,
                "num_too_short": summary.num_too_short,
                "num_windows": summary.num_windows,
                "num_features": summary.num_features,
            }
        )
    elif not quiet:
        places = f" in {_counted(summary.num_files, 'file')}" if summary.num_files else ""
        short = f", {summary.num_too_short:,} too short for a window" * bool(summary.num_too_short)
        print_lines(
            f"{_counted(summary.num_windows, 'window')} x {summary.num_features} features of "
            f"{_counted(summary.num_recordings, 'recording')}{places}{short}: {summary.out}"
        )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
