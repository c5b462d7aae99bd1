"""`FeatureStream`: the features of samples as they come, with the very numbers of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.features.compute import Kernels, empty_columns, of_recording
from smoothdistill.features.inputs import check_names, column_names
from smoothdistill.windows.checks import check_finite, check_length, checked_signal, real_array

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int64
    from numpy.typing import ArrayLike

    from smoothdistill.features.plan import Plan
    from smoothdistill.features.preprocessing_chain import PreprocessingStream
    from smoothdistill.features.settings import Settings
    from smoothdistill.windows import Segmenter

__all__ = ["FeatureStream"]

SPARE_SAMPLES = 4096
"""How far the memory reaches beyond a window: so often are the last samples moved to its start."""


class FeatureStream:
    """Takes samples in pieces of any size and gives back each window's features once it is full.

    Memory does not grow. However the samples are cut into pieces, the rows are those that
    `FeatureExtractor.transform` computes of the whole recording, bit for bit. Made by
    `FeatureExtractor.stream`; can be pickled in the middle of a recording.

    Attributes:
        names: Names of the columns.
        starts: First sample of each window of the last `push`, counted from the first sample of
            the stream.
        num_samples: Samples taken so far.

    Example::

        stream = extractor.stream()
        for samples in sensor:  # [some, channels]
            rows = stream.push(samples)  # [windows that have become full, features]
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        segmenter: Segmenter,
        *,
        nan_policy: str,
        dtype: np.dtype[Any],
        num_channels: int,
        channel_names: tuple[str, ...] | None = None,
        filters: PreprocessingStream | None = None,
    ) -> None:
        self.names = plan.names
        self.starts: Int64[np.ndarray, " windows"] = np.empty(0, np.int64)
        self.num_samples = 0
        self._plan, self._settings, self._segmenter = plan, settings, segmenter
        self._nan_policy, self._dtype = nan_policy, dtype
        self._width, self._hop = segmenter.width_samples, segmenter.hop_samples
        self._num_channels, self._channel_names = num_channels, channel_names
        self._filters = filters
        self._kernels: Kernels | None = None
        self._memory: Float[np.ndarray, "memory channels"] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew: no window crosses from what came before to what comes next, nor do times."""
        self._last_time = np.nan
        self._has_times: bool | None = None  # the first piece decides
        self._begin_stretch()

    def _begin_stretch(self) -> None:
        self._filled = 0  # samples in the memory
        self._next = self._segmenter.origin  # first sample of the next window, as a place there
        if self._filters is not None:
            self._filters.reset()

    def push(
        self, samples: ArrayLike, *, timestamps_seconds: ArrayLike | None = None
    ) -> Float[np.ndarray, "windows features"]:
        """Take samples in.

        Args:
            samples: [time, channels], at least one, float32 or float64; all pieces of one dtype.
                The columns of a data frame must be those of `fit`.
            timestamps_seconds: Time of each sample, in seconds; windows then cross no gap, as in
                `Segmenter`. In all pieces or in none, until the next `reset`.

        Returns:
            One row for each window that has become full, maybe none.

        Raises:
            TypeError: If the samples are of the wrong kind, or their dtype has changed.
            ValueError: If shape or columns are wrong, a time is not finite or runs backwards where
                that is an error, or only some pieces have times; then nothing of the piece is taken
                in.
        """
        values = checked_signal("samples", samples, ("time", "channels"))
        check_names("samples", column_names(samples), self._channel_names)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float64)
        self._check(values)
        self._check_has_times(timestamps_seconds is not None)
        rows: list[Float[np.ndarray, "windows features"]] = []
        starts: list[Int64[np.ndarray, " windows"]] = []
        if timestamps_seconds is None:
            self._take(values, rows, starts)
        else:
            borders = self._borders(len(values), timestamps_seconds)
            for number, piece in enumerate(np.split(values, borders)):
                if number:
                    self._begin_stretch()
                self._take(piece, rows, starts)
        self._has_times = timestamps_seconds is not None
        if len(rows) == 1:
            self.starts = starts[0]
            return rows[0]
        self.starts = np.concatenate(starts) if starts else np.empty(0, np.int64)
        return np.concatenate(rows) if rows else np.empty((0, len(self.names)), self._dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernels": None}  # made anew when they are needed

    def _check(self, values: Float[np.ndarray, "time channels"]) -> None:
        if values.shape[1] != self._num_channels:
            raise DataError(
                f"`samples` must have {self._num_channels} channels, as in `fit`, but has "
                f"{values.shape[1]} instead."
            )
        if self._memory is None:
            shape = self._width + SPARE_SAMPLES, self._plan.num_channels
            self._memory = np.empty(shape, values.dtype)
        if values.dtype != self._memory.dtype:
            raise TypeError(
                f"`samples` must be of {self._memory.dtype}, as the first piece, but are of "
                f"{values.dtype} instead."
            )
        if self._nan_policy == "raise":
            check_finite("samples", values)

    def _check_has_times(self, has_times: bool) -> None:
        if self._has_times not in (None, has_times):
            rule, found = ("left out", "are given") if has_times else ("given", "are None")
            raise DataError(
                f"`timestamps_seconds` must be {rule}, as with the first piece, but {found} "
                "instead."
            )

    def _borders(
        self, num_samples: int, timestamps_seconds: ArrayLike
    ) -> Int64[np.ndarray, " borders"]:
        """First sample behind each gap in time."""
        times: Float64[np.ndarray, " time"] = real_array(
            "timestamps_seconds", timestamps_seconds, np.float64, ("time",)
        )
        check_length("timestamps_seconds", times, num_samples, "samples")
        check_finite("timestamps_seconds", times)
        elapsed = np.diff(times, prepend=self._last_time)
        backwards = np.flatnonzero(elapsed < 0)
        if backwards.size and self._segmenter.backwards == "raise":
            place = int(backwards[0])
            raise DataError(
                f"`timestamps_seconds` must not run backwards, but steps by {elapsed[place]} s at "
                f"sample {self.num_samples + place} instead."
            )
        gap = self._segmenter.longest_gap_seconds
        self._last_time = float(times[-1])
        return np.flatnonzero((elapsed < 0) | (elapsed > gap))

    def _take(
        self,
        piece: Float[np.ndarray, "time channels"],
        rows: list[Float[np.ndarray, "windows features"]],
        starts: list[Int64[np.ndarray, " windows"]],
    ) -> None:
        assert self._memory is not None  # `_check` has made it
        if self._filters is not None and len(piece):
            piece = self._filters.push(piece)
        while len(piece):
            room = len(self._memory) - self._filled
            if not room:
                kept = min(self._next, self._filled)
                self._memory[: self._filled - kept] = self._memory[kept : self._filled].copy()
                self._filled -= kept
                self._next -= kept
                continue
            taken = piece[:room]
            self._memory[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            self.num_samples += len(taken)
            piece = piece[room:]
            if self._next + self._width <= self._filled:
                places = np.arange(self._next, self._filled - self._width + 1, self._hop)
                self._next = int(places[-1]) + self._hop
                if self._segmenter.min_valid is not None:
                    places = places[self._is_valid(places)]
                rows.append(self._row(places))
                starts.append(places + (self.num_samples - self._filled))

    def _is_valid(self, places: Int64[np.ndarray, " windows"]) -> Bool[np.ndarray, " windows"]:
        """Which windows have their least share of samples without a NaN."""
        assert self._memory is not None
        is_there = ~np.isnan(self._memory[: self._filled]).any(1)
        before = np.concatenate([[0], np.cumsum(is_there)])
        present = before[places + self._width] - before[places]
        is_valid: Bool[np.ndarray, " windows"] = present / self._width >= self._segmenter.min_valid
        return is_valid

    def _row(self, places: Int64[np.ndarray, " windows"]) -> Float[np.ndarray, "windows features"]:
        assert self._memory is not None
        if self._kernels is None:
            self._kernels = Kernels(
                self._plan,
                self._width,
                is_interleaved=True,
                step_samples=self._hop,
                settings=self._settings,
            )
        columns = empty_columns(len(self.names), len(places), self._dtype)
        self._kernels.fill(
            of_recording(self._memory, places, self._width),
            columns,
            nan_policy="omit" if self._nan_policy == "omit" else "propagate",
        )
        return columns.T
