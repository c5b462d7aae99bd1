"""Windows in memory to columns: which kernels run, on how many threads, and what a NaN does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jaxtyping import Bool, Float, Int64

    from smoothdistill.features.inputs import Cut
    from smoothdistill.features.plan import Plan
    from smoothdistill.features.settings import Settings

    Call = Callable[[np.ndarray, np.ndarray, np.ndarray], None]

__all__ = ["Block", "Kernels", "Policy", "empty_columns", "of_recording", "of_windows"]


Policy = Literal["propagate", "omit"]
CHUNK_VALUES = 1 << 20  # of windows with a NaN, copied at a time: 8 MB of places beside them


class Block(NamedTuple):
    """Windows of equal length in one piece of memory.

    Args:
        flat: The memory, one-dimensional.
        offsets: Place of each window's first value. A window's values follow each other.
        window_samples: Length of a window, in samples.
        num_channels: Channels.
        is_interleaved: Whether the channels alternate, or follow each other.
    """

    flat: Float[np.ndarray, " values"]
    offsets: Int64[np.ndarray, " windows"]
    window_samples: int
    num_channels: int
    is_interleaved: bool


def of_recording(
    signal: Float[np.ndarray, "time channels"],
    starts: Int64[np.ndarray, " windows"],
    window_samples: int,
) -> Block:
    """Windows inside a contiguous recording, which is not copied."""
    num_channels = signal.shape[1]
    flat = _writable(signal.reshape(-1))
    return Block(flat, starts * num_channels, window_samples, num_channels, True)


def of_windows(windows: Float[np.ndarray, "windows channels time"]) -> Block:
    """Windows that were cut already, contiguous, and not copied."""
    num_windows, num_channels, window_samples = windows.shape
    offsets = np.arange(num_windows, dtype=np.int64) * (num_channels * window_samples)
    return Block(_writable(windows.reshape(-1)), offsets, window_samples, num_channels, False)


class _Writable:
    """The same memory, said to be writable: Numba compiles anew for an array that is not."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (array.__array_interface__["data"][0], False),
        }


def _writable(array: np.ndarray) -> np.ndarray:
    return array if array.flags.writeable else np.asarray(_Writable(array))


def empty_columns(
    num_columns: int, num_windows: int, dtype: np.dtype[Any]
) -> Float[np.ndarray, "columns windows"]:
    """Room for the columns, one after the other.

    A row and a few windows more are reserved: so that no slice of it is contiguous, and the kernels
    are compiled for one layout instead of two.
    """
    return np.empty((num_columns + 1, num_windows + 16), dtype)[:num_columns, :num_windows]


class Kernels:
    """What fills the columns of windows of one shape, ready to be called again and again.

    Args:
        plan: The columns.
        window_samples: Length of a window, in samples.
        is_interleaved: Whether a window's channels alternate, or follow each other.
        step_samples: Hop between windows that are evenly spaced in a recording; 0 elsewhere.
        settings: What else decides on the numbers.
    """

    def __init__(
        self,
        plan: Plan,
        window_samples: int,
        *,
        is_interleaved: bool,
        step_samples: int,
        settings: Settings,
    ) -> None:
        self.plan = plan
        self.settings = settings
        self.place = (window_samples, plan.num_channels, is_interleaved)
        self.triads = np.array([triad.axes for triad in plan.triads], np.int64).reshape(-1, 3)
        self.calls = list(self._calls(step_samples))

    def fill(
        self,
        block: Block,
        out: Float[np.ndarray, "columns windows"],
        *,
        nan_policy: Policy = "propagate",
        num_threads: int = 1,
    ) -> None:
        """Compute all columns of all windows.

        Args:
            block: The windows, float32 or float64.
            out: Rows of `empty_columns`, one for each column of the plan.
            nan_policy: "propagate": a window with a NaN has NaN in the features of that channel.
                "omit": they are computed from the samples that are left, as if these followed each
                other.
            num_threads: Threads that share the windows, at least 1.
        """
        if not len(block.offsets):
            return
        if len(out) == 1:  # a single row is contiguous, whatever `empty_columns` does
            out = np.lib.stride_tricks.as_strided(out, (2, out.shape[1]), (0, out.itemsize))
        if num_threads == 1:
            for call in self.calls:
                call(block.flat, block.offsets, out)
        else:
            pieces = _pieces(len(block.offsets), num_threads)
            with ThreadPoolExecutor(len(pieces)) as pool:
                running = [
                    pool.submit(call, block.flat, block.offsets[piece], out[:, piece])
                    for piece in pieces
                    for call in self.calls
                ]
                for task in running:
                    task.result()
        if nan_policy == "omit":
            _omit_nan(self.plan, block, self.settings, out)

    def _calls(self, step_samples: int) -> Iterator[Call]:
        plan, undefined = self.plan, self.settings.undefined
        families = {column.feature.family for column in plan.columns}
        norms = self.triads[: plan.num_norms]
        lag1 = ("autocorr_lag{k}", (1.0,))
        kinds = {(column.feature.name, column.numbers) for column in plan.columns}
        if families & {"moments", "order", "cross_channel"} or lag1 in kinds:
            yield self._statistics(step_samples)
        if any(
            column.feature.family == "temporal" and column.numbers != (1.0,)
            for column in plan.columns
        ):
            from smoothdistill.features.kernels.temporal import TEMPORAL, temporal_engine

            lags = [numbers for numbers in plan.numbers("autocorr_lag{k}") if numbers != (1.0,)]
            slots = _slots(TEMPORAL)
            for i, lag in enumerate(lags):
                slots["autocorr_lag{k}", lag] = len(TEMPORAL) + i
            table = plan.table(slots, len(TEMPORAL) + len(lags))
            numbers = np.array([lag[0] for lag in lags], np.int64)
            yield lambda flat, offsets, out: temporal_engine(
                flat, offsets, *self.place, norms, undefined, numbers, table, out
            )
        if "spectral" in families:
            yield self._spectral(norms)
        if "complexity" in families:
            from smoothdistill.features.kernels.complexity import (
                DEFAULT_PARAMS,
                SLOTS,
                complexity_engine,
            )

            yield self._costly(complexity_engine, SLOTS, np.array(DEFAULT_PARAMS), norms)
        if "catch22" in families:
            from smoothdistill.features.kernels.catch22 import SLOTS as NAMES
            from smoothdistill.features.kernels.catch22 import catch22_engine

            yield self._costly(catch22_engine, NAMES, np.empty(0), norms)

    def _statistics(self, step_samples: int) -> Call:
        from smoothdistill.features.kernels.cross_channel import TRIAD
        from smoothdistill.features.kernels.dense import dense_call, dense_is_faster
        from smoothdistill.features.kernels.moments import MOMENTS
        from smoothdistill.features.kernels.order import ORDER
        from smoothdistill.features.kernels.statistics import statistics_engine

        plan, settings = self.plan, self.settings
        percentiles = plan.numbers("q{q}")
        order_slots = _slots(ORDER)
        for i, numbers in enumerate(percentiles):
            order_slots["q{q}", numbers] = len(ORDER) + i
        pairs = [column for column in plan.columns if column.pair[0] >= 0]
        triad_table = np.full((len(self.triads), len(TRIAD)), -1, np.int64)
        for place, column in enumerate(plan.columns):
            if column.triad >= 0:
                triad_table[column.triad, TRIAD.index(column.feature.name)] = place
        arguments: tuple[Any, ...] = (
            self.triads,
            plan.num_norms,
            settings.slope_rate_hz,
            settings.ddof,
            settings.gravity,
            settings.undefined,
            np.array([numbers[0] / 100 for numbers in percentiles], np.float64),
            plan.table(_slots(MOMENTS), len(MOMENTS)),
            plan.table(order_slots, len(ORDER) + len(percentiles)),
            np.array([column.pair for column in pairs], np.int64).reshape(-1, 2),
            np.array([plan.columns.index(column) for column in pairs], np.int64),
            triad_table,
        )
        width, _, is_interleaved = self.place
        if is_interleaved and dense_is_faster(width, step_samples):
            return dense_call(width, plan.num_channels, *arguments)
        engine: Any = statistics_engine
        return lambda flat, offsets, out: engine(flat, offsets, *self.place, *arguments, out)

    def _spectral(self, norms: Int64[np.ndarray, "triads 3"]) -> Call:
        from smoothdistill.features.kernels.spectral import SPECTRAL, spectral_engine

        plan, settings = self.plan, self.settings
        rolloffs = plan.numbers("rolloff_{q}")
        bands = sorted({*plan.numbers("band_{lo}_{hi}"), *plan.numbers("band_ratio_{lo}_{hi}")})
        slots = _slots(SPECTRAL)
        for i, rolloff in enumerate(rolloffs):
            slots["rolloff_{q}", rolloff] = len(SPECTRAL) + i
        for i, band in enumerate(bands):
            slots["band_{lo}_{hi}", band] = len(SPECTRAL) + len(rolloffs) + i
            slots["band_ratio_{lo}_{hi}", band] = len(SPECTRAL) + len(rolloffs) + len(bands) + i
        width = self.place[0]
        taper = np.ones(width)
        if settings.taper == "hann":  # periodic, as scipy.signal.get_window makes it
            taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
        arguments: tuple[Any, ...] = (
            settings.sample_rate_hz,
            taper,
            settings.weight_by_magnitude,
            np.array([rolloff[0] / 100 for rolloff in rolloffs], np.float64),
            np.array(bands, np.float64).reshape(-1, 2),
            settings.undefined,
            plan.table(slots, len(SPECTRAL) + len(rolloffs) + 2 * len(bands)),
        )
        engine: Any = spectral_engine
        return lambda flat, offsets, out: engine(flat, offsets, *self.place, norms, *arguments, out)

    def _costly(
        self,
        engine: Any,
        names: tuple[str, ...],
        params: Float[np.ndarray, " params"],
        norms: Int64[np.ndarray, "triads 3"],
    ) -> Call:
        table = self.plan.table(_slots(names), len(names))
        wants = (table >= 0).any(0).astype(np.uint8)
        arguments = (wants, params, self.settings.undefined, table)
        return lambda flat, offsets, out: engine(flat, offsets, *self.place, norms, *arguments, out)


def _slots(names: tuple[str, ...]) -> dict[tuple[str, tuple[float, ...]], int]:
    """Number of each slot, by the feature's name in the catalog and the numbers in it."""
    return {
        ("autocorr_lag{k}", (1.0,)) if name == "autocorr_lag1" else (name, ()): number
        for number, name in enumerate(names)
    }


def fill_part(
    plan: Plan,
    values: Float[np.ndarray, "..."],
    cut: Cut,
    settings: Settings,
    out: Float[np.ndarray, "columns windows"],
    nan_policy: Policy,
    num_threads: int,
) -> None:
    """Compute all columns of the windows of one recording, or of windows that came as such.

    Args:
        plan: The columns.
        values: Recording [time, channels] or windows [windows, channels, time].
        cut: Where its windows lie; those that a border cuts short have features of what there is.
        settings: What else decides on the numbers.
        out: Rows of `empty_columns`, one for each column of the plan.
        nan_policy: As in `Kernels.fill`.
        num_threads: As in `Kernels.fill`.
    """
    if not len(cut.lengths):
        return
    longest = int(cut.lengths.max())
    is_whole = cut.lengths.min() == longest
    for length in [longest] if is_whole else np.unique(cut.lengths).tolist():
        kernels = Kernels(
            plan,
            length,
            is_interleaved=values.ndim == 2,
            step_samples=cut.step_samples,
            settings=settings,
        )
        if values.ndim == 3:
            kernels.fill(of_windows(values), out, nan_policy=nan_policy, num_threads=num_threads)
        elif is_whole:
            block = of_recording(values, cut.starts, length)
            kernels.fill(block, out, nan_policy=nan_policy, num_threads=num_threads)
        else:
            chosen = np.flatnonzero(cut.lengths == length)
            block = of_recording(values, cut.starts[chosen], length)
            columns = empty_columns(len(out), len(chosen), out.dtype)
            kernels.fill(block, columns, nan_policy=nan_policy, num_threads=num_threads)
            out[:, chosen] = columns


def _pieces(num_windows: int, num_threads: int) -> list[slice]:
    """Equal shares of whole blocks of 16 windows."""
    share = -(-num_windows // num_threads)
    share += -share % 16
    return [slice(start, min(start + share, num_windows)) for start in range(0, num_windows, share)]


def _omit_nan(
    plan: Plan, block: Block, settings: Settings, out: Float[np.ndarray, "columns windows"]
) -> None:
    """Compute again, from the samples that are left, what a NaN has spoilt.

    A feature of one channel leaves out that channel's NaN; one of several channels leaves out the
    times at which any of them is NaN.
    """
    if not np.isnan(block.flat).any():
        return
    spoilt = _windows_with_nan(block)
    units = sorted({plan.inputs(column) for column in plan.columns})

    @lru_cache(maxsize=1024)
    def kernels_of(
        channels: tuple[int, ...], length: int
    ) -> tuple[Int64[np.ndarray, " n"], Kernels]:
        places, part = plan.part(channels)
        return np.array(places), Kernels(
            part, length, is_interleaved=False, step_samples=0, settings=settings
        )

    share = max(1, CHUNK_VALUES // (block.window_samples * block.num_channels))
    for first in range(0, len(spoilt), share):
        windows = spoilt[first : first + share]
        values = _gather(block, windows)
        for channels in units:
            chosen = values[:, list(channels)]
            is_kept: Bool[np.ndarray, "windows time"] = ~np.isnan(chosen).any(1)
            lengths = is_kept.sum(1)
            for length in np.unique(lengths).tolist():
                if length in (0, block.window_samples):  # nothing to compute, or nothing spoilt
                    continue
                numbers = np.flatnonzero(lengths == length)
                # One window's samples at a time, for all of its channels alike.
                mask = np.broadcast_to(is_kept[numbers, None], chosen[numbers].shape)
                kept = chosen[numbers][mask].reshape(len(numbers), len(channels), length)
                places, kernels = kernels_of(channels, length)
                columns = empty_columns(len(places), len(numbers), out.dtype)
                kernels.fill(of_windows(kept), columns)
                out[np.ix_(places, windows[numbers])] = columns


def _windows_with_nan(block: Block) -> Int64[np.ndarray, " windows"]:
    """Numbers of the windows that hold a NaN in any channel."""
    length = block.window_samples * block.num_channels
    before = np.concatenate([[0], np.cumsum(np.isnan(block.flat))])
    return np.flatnonzero(before[block.offsets + length] > before[block.offsets])


def _gather(
    block: Block, windows: Int64[np.ndarray, " chosen"]
) -> Float[np.ndarray, "chosen channels time"]:
    length = block.window_samples * block.num_channels
    rows = block.flat[block.offsets[windows, None] + np.arange(length)]
    if block.is_interleaved:
        return rows.reshape(len(windows), block.window_samples, block.num_channels).swapaxes(1, 2)
    return rows.reshape(len(windows), block.num_channels, block.window_samples)
