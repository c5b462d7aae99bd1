"""`Segmenter`: cuts recordings into windows that cross no border, and labels them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.windows.arrays import IGNORE_INDEX
from smoothdistill.windows.borders import changes_in, steps_in_time
from smoothdistill.windows.checks import (
    check_choice,
    check_labels_are_classes,
    check_length,
    checked_count,
    checked_groups,
    checked_rate,
    checked_seconds,
    checked_share,
    checked_signal,
    checked_targets,
    is_constant,
    real_array,
)
from smoothdistill.windows.labelling import LabelRule, find_runs, window_labels
from smoothdistill.windows.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jaxtyping import Float64, Int64
    from numpy.typing import ArrayLike

__all__ = ["Segmenter", "cut_segments"]

# What seconds times rate may be off a whole number, in samples: rates come rounded ("33.3333").
SAMPLE_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """Cuts recordings into windows of equal length that cross no border.

    A border lies where the group changes, where time steps backwards, and where it steps on by more
    than `max_gap_seconds`; equal times are no border, for phones deliver samples in bursts that
    share one. Between two borders is a stretch. The grid of windows begins anew `origin` samples
    into each stretch, and goes on by the step.

    Args:
        window_samples: Window length, in samples, at least 1; this or `window_seconds`.
        step_samples: Hop between window starts, in samples, at least 1; this or `step_seconds`, or
            neither: then windows lie end to end.
        window_seconds: Window length, in seconds; a whole number of samples, to 0.001 sample.
        step_seconds: Hop between window starts, in seconds; likewise.
        sample_rate_hz: Samples per second, above 0. Needed where a length is in seconds, and where
            there are timestamps without `max_gap_seconds`.
        origin: First sample of the grid in each stretch, at least 0.
        partial: What becomes of samples behind the last whole window of a stretch. "drop": no
            window has them. "pad": the next window of the grid, cut short by the border, has them
            (where one begins before it); `Segments.windows` fills it with NaN.
        min_valid: Least share of a window's samples, in [0, 1], that must be there: neither behind
            the border nor with a NaN in a channel. Windows with less are dropped. None keeps all of
            them, and leaves NaN to whoever reads the windows.
        max_gap_seconds: Longest step of time inside a window, in seconds, above 0. The default is
            the larger of 2.5 sample periods and 0.25 s (see `cut_windows`).
        label: Which label a window gets. "last": that of its last sample. "middle": that of its
            middle sample, the later one of two. "majority": the most frequent one; in a tie the
            lowest class, and a class before `IGNORE_INDEX`. "pure": the same where its share of
            the window is at least `min_purity`, else none.
        min_purity: Least share of the most frequent label in a "pure" window, in [0, 1]. At 1 no
            window may cross a change of label in any task: each change is a border, so the grid
            begins anew with the label and no window is lost to the change before.
        backwards: "border" or "raise": whether time that runs backwards inside a group (not from
            one group to the next) is a border or an error.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If a value breaks its rule.
    """

    window_samples: int | None = None
    step_samples: int | None = None
    window_seconds: float | None = None
    step_seconds: float | None = None
    sample_rate_hz: float | None = None
    origin: int = 0
    partial: Literal["drop", "pad"] = "drop"
    min_valid: float | None = None
    max_gap_seconds: float | None = None
    label: LabelRule = "majority"
    min_purity: float = 1.0
    backwards: Literal["border", "raise"] = "border"

    def __post_init__(self) -> None:
        if self.sample_rate_hz is not None:
            self._set("sample_rate_hz", checked_rate(self.sample_rate_hz))
        self._check_lengths()
        self._set("origin", checked_count("origin", self.origin, at_least=0))
        check_choice("partial", self.partial, ("drop", "pad"))
        check_choice("label", self.label, get_args(LabelRule))
        check_choice("backwards", self.backwards, ("border", "raise"))
        self._set("min_purity", checked_share("min_purity", self.min_purity))
        if self.label != "pure" and self.min_purity != 1.0:
            raise ValueError(
                f"`min_purity` must be left at 1 where `label` is {self.label!r} and not 'pure', "
                f"but is {self.min_purity} instead."
            )
        if self.min_valid is not None:
            self._set("min_valid", checked_share("min_valid", self.min_valid))
        if self.max_gap_seconds is not None:
            gap = checked_seconds("max_gap_seconds", self.max_gap_seconds)
            self._set("max_gap_seconds", gap)

    def _check_lengths(self) -> None:
        for name in ("window", "step"):
            samples, seconds = getattr(self, f"{name}_samples"), getattr(self, f"{name}_seconds")
            if samples is not None and seconds is not None:
                raise ValueError(
                    f"`{name}_seconds` must be left out where `{name}_samples` is given, but is "
                    f"{seconds} instead."
                )
            if samples is not None:
                self._set(f"{name}_samples", checked_count(f"{name}_samples", samples))
            if seconds is not None:
                self._set(f"{name}_seconds", checked_seconds(f"{name}_seconds", seconds))
                self._whole_samples(f"{name}_seconds")
        if self.window_samples is None and self.window_seconds is None:
            raise ValueError(
                "`window_samples` or `window_seconds` must be given, but both are None instead."
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the only door into a frozen dataclass

    def _whole_samples(self, name: str) -> int:
        seconds: float = getattr(self, name)
        if self.sample_rate_hz is None:
            raise ValueError(
                f"`sample_rate_hz` must be given where `{name}` is, but is None instead."
            )
        samples = seconds * self.sample_rate_hz
        if not (0.5 < samples < 2**53 and abs(samples - round(samples)) <= SAMPLE_TOLERANCE):
            raise ValueError(
                f"`{name}` must be a whole number of samples at {self.sample_rate_hz} Hz, but is "
                f"{seconds} ({samples:.6g} samples) instead."
            )
        return round(samples)

    @property
    def width_samples(self) -> int:
        """Window length, in samples, whichever way it was given."""
        if self.window_samples is None:
            return self._whole_samples("window_seconds")
        return self.window_samples

    @property
    def hop_samples(self) -> int:
        """Hop between window starts, in samples, whichever way it was given."""
        if self.step_seconds is not None:
            return self._whole_samples("step_seconds")
        return self.width_samples if self.step_samples is None else self.step_samples

    def segment(
        self,
        signal: ArrayLike | int,
        *,
        timestamps_seconds: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        targets: Mapping[str, ArrayLike] | None = None,
        must_fit: bool = True,
    ) -> Segments:
        """Windows of one recording, or of several that `groups` tells apart.

        Args:
            signal: Recording [time, channels], or its number of samples. Its values are read for
                `min_valid` only.
            timestamps_seconds: Time of every sample, in seconds from any origin, finite.
            groups: Subject, session or the like of every sample, strings or integers.
            targets: Class index of every sample per task, at least 0, or `IGNORE_INDEX`. A
                windowing with targets has the windows of one without, unless `label` is "pure" at
                a `min_purity` of 1.
            must_fit: Whether a recording in which no window fits is an error. Otherwise it has
                none.

        Returns:
            The windows in the order of time, those without a label included.

        Raises:
            TypeError: If an argument is of the wrong kind.
            DataError: If a shape, a length or a value breaks a rule above, time runs backwards
                where that is an error, or no window fits where one must.
        """
        values = None
        if isinstance(signal, (int, np.integer)) and not isinstance(signal, bool):
            num_samples = checked_count("signal", signal)
        else:
            values = checked_signal("signal", signal, ("time", "channels"))
            num_samples = len(values)
        times = None
        if timestamps_seconds is not None:
            times = real_array("timestamps_seconds", timestamps_seconds, np.float64, ("time",))
            check_length("timestamps_seconds", times, num_samples, "samples")
        if groups is not None:
            groups = checked_groups(groups, num_samples)
        if targets is not None:
            targets = checked_targets(targets, num_samples, "samples", keep_constant=True)
        segments = cut_segments(
            self,
            num_samples,
            timestamps_seconds=times,
            groups=groups,
            targets=targets or {},
            check_labels=lambda labels: check_labels_are_classes(labels, IGNORE_INDEX),
        )
        if must_fit and not len(segments):
            self._refuse(segments, values)
        if self.min_valid is not None and len(segments):
            present = segments.lengths if values is None else segments.count_present(values)
            # The quotient and not the product, see `majority_labels`.
            segments = segments.select(present / self.width_samples >= self.min_valid)
        return segments

    def _refuse(self, segments: Segments, values: np.ndarray | None) -> NoReturn:
        width = self.width_samples
        if values is not None and len(values) < width <= values.shape[1]:
            raise DataError(
                "`signal` must have the shape [time, channels], but has the shape "
                f"{list(values.shape)}, too short for a window of {width}, instead; transpose it "
                "if it is [channels, time]."
            )
        longest = int(np.diff(segments.borders).max())
        if longest <= self.origin:
            raise DataError(
                f"`origin` must be at most {longest - 1} (the longest stretch without a border has "
                f"{longest} samples), but is {self.origin} instead."
            )
        behind = f" behind an origin of {self.origin}" if self.origin else ""
        seconds = f" ({self.window_seconds} s)" if self.window_samples is None else ""
        raise DataError(
            f"`window_samples` must be at most {longest - self.origin} (the longest stretch "
            f"without a border{behind}), but is {width}{seconds} instead."
        )

    @property
    def longest_gap_seconds(self) -> float:
        """Longest step of time inside a window, in seconds, given or by default."""
        if self.max_gap_seconds is not None:
            return self.max_gap_seconds
        if self.sample_rate_hz is None:
            raise ValueError(
                "`sample_rate_hz` or `max_gap_seconds` must be given where `timestamps_seconds` "
                "are, but both are None instead."
            )
        return max(2.5 / self.sample_rate_hz, 0.25)


def cut_segments(
    segmenter: Segmenter,
    num_samples: int,
    *,
    timestamps_seconds: Float64[np.ndarray, "time"] | None,
    groups: np.ndarray | None,
    targets: Mapping[str, Int64[np.ndarray, "time"]],
    check_labels: Callable[[Mapping[str, Int64[np.ndarray, "n"]]], None],
) -> Segments:
    """`Segmenter.segment` on arguments that are checked, but for the labels.

    `check_labels` gets, per task, every label that occurs: those of the runs where the runs are
    needed anyway, so that the samples are read once.
    """
    from smoothdistill.windows.kernels import count_windows, list_windows

    runs = {}
    occurring = dict(targets)
    for task, labels in targets.items():
        if is_constant(labels):
            occurring[task] = labels[:1]
        elif segmenter.label in ("pure", "majority"):
            runs[task] = find_runs(labels)
            occurring[task] = runs[task].labels
    check_labels(occurring)

    changes = [] if groups is None else [changes_in(groups)]
    if timestamps_seconds is not None:
        gaps = steps_in_time(
            timestamps_seconds,
            segmenter.longest_gap_seconds,
            changes[0] if changes else np.empty(0, np.int64),
            backwards=segmenter.backwards,
        )
        changes.append(gaps)
    if segmenter.label == "pure" and segmenter.min_purity == 1.0:
        changes += [found.changes for found in runs.values()]
    borders = np.unique(np.concatenate([[0], *changes, [num_samples]]))

    width, hop = segmenter.width_samples, segmenter.hop_samples
    grid = (borders, segmenter.origin, width, hop, segmenter.partial == "pad")
    starts = np.empty(count_windows(*grid), np.int64)
    lengths = np.empty(len(starts), np.int64)
    list_windows(*grid, starts, lengths)
    return Segments(
        starts,
        lengths,
        window_samples=width,
        num_samples=num_samples,
        borders=borders,
        groups=None if groups is None else _values_at(groups, starts),
        targets={
            task: window_labels(
                labels, runs.get(task), starts, lengths, segmenter.label, segmenter.min_purity
            )
            for task, labels in targets.items()
        },
    )


def _values_at(groups: np.ndarray, starts: Int64[np.ndarray, "windows"]) -> np.ndarray:
    values: np.ndarray = groups[starts]
    return values.astype(np.str_) if values.dtype.kind == "O" else values
