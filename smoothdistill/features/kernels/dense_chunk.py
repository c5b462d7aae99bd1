"""Windows of a chunk that overlap almost entirely: which kernels run, and in which memory.

NOTE [Loops in Python]
Kernels that one compiled function calls are compiled again inside it, all of them, whatever is
asked for: an engine in one piece took three times as long. So the loop over chunks is Python's. A
chunk is as long as the L2 cache allows, and what a call needs is prepared before the loop: calls
take 2 ns of 60 a window and channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from smoothdistill.features.kernels.dense_doubling import (
    NUM_STATES,
    double_moments,
    double_pair,
    list_sizes,
    plan_rows,
)
from smoothdistill.features.kernels.dense_layout import (
    add_magnitudes,
    count_zero_crossings,
    lay_out,
    lay_out_rows,
    make_sortable,
    take_excess,
)
from smoothdistill.features.kernels.dense_order import PADDING, fill_buffer, slide
from smoothdistill.features.kernels.dense_results import (
    BLOCK,
    count_mean_crossings,
    sum_deviations,
    write_correlation,
    write_mean,
    write_moments,
)
from smoothdistill.features.kernels.dense_sums import double_extremes, double_sums
from smoothdistill.features.kernels.lanes import LANES
from smoothdistill.features.kernels.moments import MOMENTS
from smoothdistill.features.kernels.order import sort_lanes, sorting_size

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["Chunk", "Wanted"]

CHUNK_SAMPLES = 8192
"""Starts that are computed at a time: six planes of float64 are 400 kB, which an L2 cache holds."""

MIN_CHUNK_WINDOWS = 1024
"""With a larger step, the calls would cost more than the L3 cache does."""

_Rows: TypeAlias = tuple[Any, Any, Any, int]  # sizes, what `plan_rows` returns, length of a row


class Wanted(NamedTuple):
    """What is asked for, as `statistics_engine` has it."""

    slope_rate_hz: float
    ddof: int
    gravity: float
    undefined: float
    ranks: Float64[np.ndarray, " ranks"]
    moment_columns: Int64[np.ndarray, "signals slots"]
    order_columns: Int64[np.ndarray, "signals slots"]
    pairs: Int64[np.ndarray, "pairs 2"]
    pair_columns: Int64[np.ndarray, " pairs"]
    triads: Int64[np.ndarray, "triads 3"]
    triad_columns: Int64[np.ndarray, "triads slots"]


class _Plan(NamedTuple):
    """What depends on the number of windows."""

    sums: _Rows
    extremes: _Rows
    windows_per_lane: int
    lane_windows: Int64[np.ndarray, " lanes"]
    lane_starts: Int64[np.ndarray, " lanes"]


class Chunk:
    """Memory for a piece of a run, and the kernels that fill its columns.

    Args:
        dtype: Type of the samples.
        out_dtype: Type of the results.
        window_samples: Window length, in samples.
        step_samples: Hop between windows, in samples.
        num_channels: Channels of the recording.
        num_norms: Triads whose norms are signals, too.
        wanted: What is asked for.
        longest_run: Windows of the longest run.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        window_samples: int,
        step_samples: int,
        num_channels: int,
        num_norms: int,
        wanted: Wanted,
        longest_run: int,
    ) -> None:
        self.wanted, self.dtypes = wanted, (dtype, out_dtype)
        self.window_samples, self.step_samples = window_samples, step_samples
        self.num_channels, self.norms = num_channels, wanted.triads[:num_norms]
        num_signals = num_channels + num_norms
        self._list_needs()
        self.row_stride = -1

        # Sizes of windows, and room for all starts of the smaller ones.
        capacity = max(CHUNK_SAMPLES // step_samples, MIN_CHUNK_WINDOWS)
        self.capacity = _whole_vectors(min(capacity, longest_run))
        self.sizes = list_sizes(window_samples, may_overlap=False)
        self.parts = list_sizes(window_samples, may_overlap=True)
        self.plans: dict[int, _Plan] = {}
        sums, extremes = (
            plan_rows(sizes, step_samples, self.capacity) for sizes in (self.sizes, self.parts)
        )
        length = self.capacity + window_samples // step_samples + 1
        length = max(length, int(sums[1][0]), int(extremes[1][0]))
        self.row_length = _whole_vectors(length) + 4 * LANES
        samples = np.arange(window_samples)
        self.spots = samples % step_samples * self.row_length + samples // step_samples
        self.last_spot = int(self.spots[-1])

        # Planes a multiple of 4096 bytes apart would evict one another from the L1 cache: 14 for
        # 11 ns a window of 256. With a step of 1, sums are doubled in place.
        plane = -(-step_samples * self.row_length // 512) * 512 + 112
        num_halves = min(step_samples, 2)
        self.signals = _zeros(num_signals, plane, dtype)
        self.rows = _zeros(num_signals, plane, dtype) if num_halves > 1 else self.signals
        self.planes = _zeros(num_halves, NUM_STATES * plane, np.float64)
        self.extremes = _zeros(num_halves, 2 * plane, dtype)
        self.summands = _zeros(1, plane, np.float64)[0]
        self.changes = _zeros(1, plane, np.int32)[0]
        room = self.capacity + 4 * LANES
        self.sides = _zeros(3, room, np.float64)
        self.summaries = _zeros(2 * num_signals, room, np.float64).reshape(num_signals, 2, room)
        self.levels = _zeros(1, room, dtype)[0]
        self.results = _zeros(1, len(MOMENTS) * BLOCK, out_dtype)[0]

        # Sorted windows, and as many samples as make some cache lines in each of the 16 places.
        windows = LANES * max(1, 4 // step_samples)
        size = sorting_size(window_samples) + 2 * PADDING + LANES
        self.sortable = _zeros(1, plane, dtype)[0]
        self.buffer = _zeros(1, size * LANES, dtype)[0]
        self.unpadded = self.buffer[PADDING * LANES :]
        self.leaving, self.entering = _zeros(2, windows * step_samples * LANES, dtype)
        self.read = _zeros(1, len(wanted.ranks) * windows * LANES, out_dtype)[0]
        self.multiples = LANES * np.arange(
            LANES + max(windows * step_samples, PADDING + window_samples)
        )

    def _list_needs(self) -> None:
        """Find out what each signal needs."""
        wanted = self.wanted
        self.slots = [set(np.flatnonzero(row >= 0).tolist()) for row in wanted.moment_columns]
        self.has_order = [bool((row >= 0).any()) for row in wanted.order_columns]
        self.pairs = [
            (int(a), int(b), int(column))
            for (a, b), column in zip(wanted.pairs, wanted.pair_columns, strict=True)
            if column >= 0
        ]
        self.triads = [
            (number, wanted.triads[number], columns)
            for number, columns in enumerate(wanted.triad_columns.tolist())
            if max(columns) >= 0
        ]
        # Highest power sums of each signal that something is made of: 0, 1, 2 or 4. The mean says
        # which windows are not finite.
        self.degrees = [
            4 if slots & {10, 11} else 2 if slots & {1, 2, 7, 8, 9, 17} else min(len(slots), 1)
            for slots in self.slots
        ]
        for a, b, _ in self.pairs:
            self.degrees[a], self.degrees[b] = max(self.degrees[a], 2), max(self.degrees[b], 2)
        for number, axes, columns in self.triads:
            needed = [self.num_channels + number] if columns[2] >= 0 else []
            needed += axes.tolist() if max(columns[3:]) >= 0 else []
            for signal in needed:
                self.degrees[signal] = max(self.degrees[signal], 1)

    def fits(
        self, dtype: np.dtype[Any], out_dtype: np.dtype[Any], step_samples: int, longest_run: int
    ) -> bool:
        """Whether the memory will do for another recording."""
        most = max(CHUNK_SAMPLES // step_samples, MIN_CHUNK_WINDOWS)
        return (
            self.dtypes == (dtype, out_dtype)
            and self.step_samples == step_samples
            and self.capacity >= min(most, longest_run)
        )

    def attach(
        self, flat: Float[np.ndarray, " values"], out: Float[np.ndarray, "columns windows"]
    ) -> None:
        """Take the samples from `flat` and put the results into `out` from now on."""
        # All columns as one array: a call takes 5 us more for an array that is not contiguous.
        row_stride = out.strides[0] // out.itemsize if len(out) > 1 else out.shape[1]
        size = max(len(out) - 1, 0) * row_stride + out.shape[1]
        self.flat = flat
        self.out = np.lib.stride_tricks.as_strided(out, (size,), (out.itemsize,))
        if row_stride != self.row_stride:
            self.row_stride = row_stride
            columns = self.wanted.moment_columns
            self.moment_places = list(np.where(columns >= 0, columns * row_stride, -1))
            columns = self.wanted.order_columns
            self.order_places = list(np.where(columns >= 0, columns * row_stride, -1))

    def fill(self, origin: int, first: int, num_windows: int) -> None:
        """Compute all columns of windows that follow one another in a run.

        Args:
            origin: Place of the first window's first value.
            first: Number of the first window.
            num_windows: Windows, from 1 to `capacity`.
        """
        plan = self._plan(num_windows)
        num_samples = (num_windows - 1) * self.step_samples + self.window_samples
        samples = self.flat[origin : origin + num_samples * self.num_channels]
        lay_out(samples, self.num_channels, self.norms, self.signals)
        if self.step_samples > 1:
            lay_out_rows(self.signals, num_samples, self.step_samples, self.row_length, self.rows)
        for signal, has_order in enumerate(self.has_order):
            if has_order:
                places = self.order_places[signal]
                self._fill_order(self.signals[signal, :num_samples], plan, places, first)
        for signal, degree in enumerate(self.degrees):
            if degree:
                self._fill_moments(signal, plan, first, num_windows)
        for a, b, column in self.pairs:
            half = double_pair(self.rows[a], self.rows[b], *plan.sums, self.planes)
            write_correlation(
                self.planes[half],
                self.summaries[a, 1],
                self.summaries[b, 1],
                num_windows,
                self.wanted.undefined,
                column * self.row_stride + first,
                self.out,
            )
        for number, axes, columns in self.triads:
            self._fill_triad(number, axes, columns, plan, first, num_windows)

    def _plan(self, num_windows: int) -> _Plan:
        if num_windows not in self.plans:
            step = self.step_samples
            per_lane = -(-num_windows // LANES)  # the last lanes repeat what others do
            windows = np.minimum(np.arange(LANES) * per_lane, num_windows - per_lane)
            self.plans[num_windows] = _Plan(
                (self.sizes, *plan_rows(self.sizes, step, num_windows), self.row_length),
                (self.parts, *plan_rows(self.parts, step, num_windows), self.row_length),
                per_lane,
                windows,
                windows * step,
            )
        return self.plans[num_windows]

    def _fill_order(
        self,
        samples: Float[np.ndarray, " time"],
        plan: _Plan,
        places: Int64[np.ndarray, " slots"],
        first: int,
    ) -> None:
        make_sortable(samples, self.sortable)
        fill_buffer(
            self.sortable, plan.lane_starts, self.window_samples, self.multiples, self.buffer
        )
        sort_lanes(self.unpadded, self.window_samples)
        slide(
            self.sortable,
            plan.lane_windows,
            plan.windows_per_lane,
            self.step_samples,
            self.window_samples,
            self.wanted.ranks,
            places,
            self.multiples,
            self.buffer,
            self.leaving,
            self.entering,
            self.read,
            first,
            self.out,
        )

    def _fill_moments(self, signal: int, plan: _Plan, first: int, num_windows: int) -> None:
        rows, slots = self.rows[signal], self.slots[signal]
        has_trend, has_differences = int(16 in slots), int(17 in slots)
        half = double_moments(
            rows, *plan.sums, self.degrees[signal], has_trend, has_differences, self.planes
        )
        states, half_of_extremes = self.planes[half], 0
        if slots & {3, 4, 5}:
            half_of_extremes = double_extremes(rows, *plan.extremes, self.extremes)
        if slots & {12, 14}:
            count_zero_crossings(
                self.signals[signal],
                self.window_samples,
                self.step_samples,
                num_windows,
                self.changes,
                self.sides[0],
            )
        if slots & {13, 15}:
            count_mean_crossings(rows, self.spots, states, num_windows, self.levels, self.sides[1])
        if 6 in slots:
            sum_deviations(rows, self.spots, states, num_windows, self.sides[2])
        write_moments(
            rows,
            self.last_spot,
            states,
            self.extremes[half_of_extremes],
            self.sides,
            first,
            num_windows,
            self.window_samples,
            self.wanted.slope_rate_hz,
            self.wanted.ddof,
            self.wanted.undefined,
            self.moment_places[signal],
            self.summaries[signal],
            self.results,
            self.out,
        )

    def _fill_triad(
        self,
        number: int,
        axes: Int64[np.ndarray, " 3"],
        columns: list[int],
        plan: _Plan,
        first: int,
        num_windows: int,
    ) -> None:
        """Write the features of a triad; the slots are those of `cross_channel.TRIAD`."""
        norm = self.num_channels + number
        sma, enmo, mad_mag, *angle_columns = columns
        if sma >= 0:
            add_magnitudes(self.rows, axes, self.summands)
            half = double_sums(self.summands, *plan.sums, self.planes)
            self._write_mean(sma, self.planes[half], first, num_windows)
        if enmo >= 0:
            take_excess(self.rows[norm], self.wanted.gravity, self.summands)
            half = double_sums(self.summands, *plan.sums, self.planes)
            self._write_mean(enmo, self.planes[half], first, num_windows)
        if mad_mag >= 0:
            means = self.summaries[norm, 0]
            sum_deviations(self.rows[norm], self.spots, means, num_windows, self.sides[2])
            self._write_mean(mad_mag, self.sides[2], first, num_windows)
        if max(angle_columns) >= 0:
            x, y, z = self.summaries[axes, 0, :num_windows]
            across_x, across_y = np.sqrt(y * y + z * z), np.sqrt(x * x + z * z)
            across_z = np.sqrt(x * x + y * y)
            # arctan2 and not arccos, which loses half of the digits near 0 and pi
            legs = (-x, across_x), (y, z), (across_x, x), (across_y, y), (across_z, z)
            for column, (opposite, adjacent) in zip(angle_columns, legs, strict=True):
                if column >= 0:
                    angles = np.arctan2(opposite, adjacent) + (x + y + z) * 0
                    place = column * self.row_stride + first
                    self.out[place : place + num_windows] = angles

    def _write_mean(
        self, column: int, sums: Float64[np.ndarray, " values"], first: int, num_windows: int
    ) -> None:
        place = column * self.row_stride + first
        write_mean(sums, num_windows, self.window_samples, place, self.out)


def _whole_vectors(size: int) -> int:
    return -(-size // LANES) * LANES


def _zeros(rows: int, length: int, dtype: Any) -> np.ndarray:
    """Zeros on a 64-byte border: what lies beyond a chunk is computed with, too."""
    padded = np.zeros(rows * length + 16, dtype)
    skipped = -padded.ctypes.data % 64 // padded.itemsize
    return padded[skipped : skipped + rows * length].reshape(rows, length)
