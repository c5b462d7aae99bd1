"""`Segments`: where the windows of a recording lie, their labels, and their samples on demand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.windows.arrays import IGNORE_INDEX
from smoothdistill.windows.checks import checked_indices, checked_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Bool, Float, Int64, Real
    from numpy.typing import ArrayLike

__all__ = ["Segments", "copy_into"]


@dataclass(frozen=True, eq=False)
class Segments:
    """Where the windows of one recording lie, and what they are called. Made by `Segmenter`.

    Args:
        starts: First sample of each window.
        lengths: Samples of each window that the recording has: `window_samples`, or fewer where a
            window is cut short by a border (`partial="pad"`).
        window_samples: Window length, in samples.
        num_samples: Length of the recording, in samples.
        borders: First sample of every stretch without a border, and `num_samples`.
        groups: Group of each window, or None.
        targets: Class index of each window per task, or `IGNORE_INDEX` where unlabelled.
    """

    starts: Int64[np.ndarray, "windows"]
    lengths: Int64[np.ndarray, "windows"]
    window_samples: int
    num_samples: int
    borders: Int64[np.ndarray, "borders"]
    groups: np.ndarray | None = None
    targets: Mapping[str, Int64[np.ndarray, "windows"]] = field(default_factory=dict)

    def __len__(self) -> int:  # windows
        return len(self.starts)

    @property
    def stops(self) -> Int64[np.ndarray, "windows"]:
        """The sample after each window."""
        stops: Int64[np.ndarray, "windows"] = self.starts + self.lengths
        return stops

    @property
    def is_labelled(self) -> Bool[np.ndarray, "windows"]:
        """Whether each window has a label in any task."""
        found: Bool[np.ndarray, "windows"] = np.zeros(len(self), np.bool_)
        for labels in self.targets.values():
            found |= labels != IGNORE_INDEX
        return found

    def select(self, indices: ArrayLike) -> Segments:
        """Some of the windows.

        Args:
            indices: Window numbers in any order, or one bool per window.

        Raises:
            TypeError: If `indices` is neither integer nor bool.
            DataError: If a number is outside the windows.
        """
        chosen = checked_indices(indices, len(self), may_be_empty=True)
        return replace(
            self,
            starts=self.starts[chosen],
            lengths=self.lengths[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            targets={task: labels[chosen] for task, labels in self.targets.items()},
        )

    def view(self, signal: Real[np.ndarray, "time channels"]) -> np.ndarray:
        """The windows as a read-only view [windows, channels, time] that copies nothing.

        Args:
            signal: The recording, in any unit and of any type.

        Raises:
            TypeError: If `signal` is no array of real numbers.
            DataError: If its shape is wrong, or a view cannot show these windows: one is cut short,
                or they do not lie at even distances. `windows` copies them.
        """
        signal = self._checked(signal)
        if not len(self):
            return _read_only(np.empty((0, signal.shape[1], self.window_samples), signal.dtype))
        short = np.flatnonzero(self.lengths != self.window_samples)
        if short.size:
            raise DataError(
                f"`lengths` must be {self.window_samples} throughout for a view, but is "
                f"{self.lengths[short[0]]} at window {short[0]} instead; `windows` copies them."
            )
        hops = np.diff(self.starts)
        hop = int(hops[0]) if hops.size else 1
        if hop < 1 or (hops != hop).any():
            raise DataError(
                "`starts` must lie at one distance above 0 for a view, but lie at "
                f"{np.unique(hops)[:4].tolist()} instead; `windows` copies them."
            )
        every = np.lib.stride_tricks.sliding_window_view(signal, self.window_samples, axis=0)
        return every[int(self.starts[0]) :: hop][: len(self)]

    def windows(
        self, signal: Real[np.ndarray, "time channels"]
    ) -> Float[np.ndarray, "windows channels time"]:
        """The windows as an array [windows, channels, time] of their own.

        Args:
            signal: The recording, in any unit.

        Returns:
            float32 where that holds every value of the type of `signal`, else float64; NaN behind
            the end of a window that is cut short.

        Raises:
            TypeError: If `signal` is no array of real numbers.
            DataError: If its shape is wrong, or a window lies outside it.
        """
        signal = _floating(self._checked(signal))
        self._check_places()
        out = np.empty((len(self), signal.shape[1], self.window_samples), signal.dtype)
        copy_into(out, signal, self)
        return out

    def count_present(
        self, signal: Real[np.ndarray, "time channels"]
    ) -> Int64[np.ndarray, "windows"]:
        """Number of samples of each window that `signal` has, with a NaN in no channel.

        Args:
            signal: The recording, in any unit.

        Raises:
            TypeError: If `signal` is no array of real numbers.
            DataError: If its shape is wrong, or a window lies outside it.
        """
        from smoothdistill.windows.kernels import count_present

        signal = self._checked(signal)
        self._check_places()
        if signal.dtype.kind != "f":  # integers have no NaN
            return self.lengths
        out = np.empty(len(self), np.int64)
        count_present(_floating(signal), self.starts, self.lengths, out)
        return out

    def _checked(self, signal: Any) -> np.ndarray:
        array = checked_signal("signal", signal, ("time", "channels"))
        if len(array) != self.num_samples:
            raise DataError(
                f"`signal` must have the {self.num_samples} samples that were cut, but has "
                f"{len(array)} instead."
            )
        return array

    def _check_places(self) -> None:
        """What the kernels take for granted, for they index without a bound."""
        if not len(self):
            return
        for name, value, low, high in (
            ("lengths", self.lengths.min(), 1, self.window_samples),
            ("lengths", self.lengths.max(), 1, self.window_samples),
            ("starts", self.starts.min(), 0, self.num_samples),
            ("stops", self.stops.max(), 0, self.num_samples),
        ):
            if not low <= value <= high:
                raise DataError(f"`{name}` must be in [{low}, {high}], but is {value} instead.")


def copy_into(
    out: Float[np.ndarray, "windows channels time"],
    signal: Float[np.ndarray, "time channels"],
    segments: Segments,
) -> None:
    """`Segments.windows` on what is checked: C order, and both arrays of one type."""
    from smoothdistill.windows.kernels import copy_triads, copy_windows

    is_triad = signal.shape[1] == 3 and signal.dtype == np.float32
    copy = copy_triads if is_triad else copy_windows
    copy(signal, segments.starts, segments.lengths, out)


def _floating(signal: np.ndarray) -> np.ndarray:
    """`signal` in C order, as float32 where that is exact, else as float64."""
    is_single = np.result_type(signal.dtype, np.float32) == np.float32
    return np.ascontiguousarray(signal, dtype=np.float32 if is_single else np.float64)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
