"""Numba kernels behind `smoothdistill.windows`: borders, window starts, majority labels, the copy.

Imported on the first call that cuts, so that importing the package does not load Numba. The
kernels take plain arrays that the caller has checked, and write what the caller has allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

import smoothdistill.numba_cache  # noqa: F401

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Float64, Int64

__all__ = [
    "copy_triads",
    "copy_windows",
    "count_present",
    "count_windows",
    "list_changes",
    "list_gaps",
    "list_windows",
    "majority_labels",
]

# Samples that are compared as vectors before any is looked at alone. 32 and 64 find the changes of
# 1,000,000 labels in 0.40 ms (reading them takes 0.35), 128 in 0.46, 512 in 0.92.
COMPARED_SAMPLES = 64

# A block of a recording of three channels is de-interleaved into scratch of 6 kB, or of four
# windows: it stays in the L1 cache while the windows are copied out of it. With 4096 samples, that
# is in L2, 1,000,000 x 3 samples take 81 ns per window-axis for 73, and 100,000 x 3 take 39 for 33.
BLOCK_SAMPLES = 512


@njit(error_model="numpy", nogil=True, cache=True)
def list_changes(
    values: Int64[np.ndarray, "time"], first_sample: int, out: Int64[np.ndarray, "changes"]
) -> int:
    """Write the number of every sample that differs from the one before; returns how many do.

    `first_sample` is the number of the first value: a long recording is read in pieces that share
    one value. `out` has room for one number less than there are values.
    """
    before, after = values[:-1], values[1:]
    num_changes = 0
    for block in range(0, before.size, COMPARED_SAMPLES):
        left = before[block : block + COMPARED_SAMPLES]
        right = after[block : block + COMPARED_SAMPLES]
        difference = np.int64(0)
        for step in range(left.size):  # two views and one index: LLVM vectorises this
            difference |= left[step] ^ right[step]
        if difference != 0:
            for step in range(left.size):  # written always, kept where it counts: no branch
                out[num_changes] = first_sample + block + step + 1
                num_changes += left[step] != right[step]
    return num_changes


@njit(error_model="numpy", nogil=True, cache=True)
def list_gaps(
    timestamps_seconds: Float64[np.ndarray, "time"],
    max_gap_seconds: float,
    first_sample: int,
    out: Int64[np.ndarray, "gaps"],
) -> int:
    """Write every sample into which time steps backwards, or on by more than the gap, or by NaN."""
    before, after = timestamps_seconds[:-1], timestamps_seconds[1:]
    num_gaps = 0
    for block in range(0, before.size, COMPARED_SAMPLES):
        left = before[block : block + COMPARED_SAMPLES]
        right = after[block : block + COMPARED_SAMPLES]
        is_even = True
        for step in range(left.size):
            elapsed = right[step] - left[step]
            is_even &= (elapsed >= 0.0) & (elapsed <= max_gap_seconds)
        if not is_even:
            for step in range(left.size):
                elapsed = right[step] - left[step]
                out[num_gaps] = first_sample + block + step + 1
                num_gaps += not ((elapsed >= 0.0) & (elapsed <= max_gap_seconds))
    return num_gaps


@njit(error_model="numpy", nogil=True, cache=True)
def count_windows(
    borders: Int64[np.ndarray, "borders"],
    origin: int,
    window_samples: int,
    step_samples: int,
    keeps_rest: bool,
) -> int:
    """Number of windows between successive borders, whole ones and with `keeps_rest` cut ones."""
    num_windows = 0
    for stretch in range(borders.size - 1):
        start = borders[stretch] + origin
        stop = borders[stretch + 1]
        covered = start
        spare = stop - start - window_samples
        if spare >= 0:
            num_whole = spare // step_samples + 1
            num_windows += num_whole
            start += num_whole * step_samples
            covered = start - step_samples + window_samples
        if keeps_rest and covered < stop and start < stop:
            num_windows += 1
    return num_windows


@njit(error_model="numpy", nogil=True, cache=True)
def list_windows(
    borders: Int64[np.ndarray, "borders"],
    origin: int,
    window_samples: int,
    step_samples: int,
    keeps_rest: bool,
    starts: Int64[np.ndarray, "windows"],
    lengths: Int64[np.ndarray, "windows"],
) -> None:
    """Write first sample and length of every window that `count_windows` counted, in order."""
    window = 0
    for stretch in range(borders.size - 1):
        start = borders[stretch] + origin
        stop = borders[stretch + 1]
        covered = start
        while start + window_samples <= stop:
            starts[window] = start
            lengths[window] = window_samples
            window += 1
            covered = start + window_samples
            start += step_samples
        if keeps_rest and covered < stop and start < stop:
            starts[window] = start
            lengths[window] = stop - start
            window += 1


@njit(error_model="numpy", nogil=True, cache=True)
def count_present(
    signal: Float[np.ndarray, "time channels"],
    starts: Int64[np.ndarray, "windows"],
    lengths: Int64[np.ndarray, "windows"],
    out: Int64[np.ndarray, "windows"],
) -> None:
    """Write how many samples of each window have a NaN in no channel.

    The count runs on from window to window and is of integers, so exact: where starts and stops
    ascend, a sample is looked at twice, however many windows hold it.
    """
    num_channels = signal.shape[1]
    first = 0
    last = 0
    present = 0
    for window in range(starts.size):
        start = starts[window]
        stop = start + lengths[window]
        if start >= last or start < first or stop < last:
            first = start
            last = start
            present = 0
        while last < stop:
            is_missing = False
            for channel in range(num_channels):
                is_missing |= signal[last, channel] != signal[last, channel]
            present += not is_missing
            last += 1
        while first < start:
            is_missing = False
            for channel in range(num_channels):
                is_missing |= signal[first, channel] != signal[first, channel]
            present -= not is_missing
            first += 1
        out[window] = present


@njit(error_model="numpy", nogil=True, cache=True)
def majority_labels(
    run_labels: Int64[np.ndarray, "runs"],
    run_codes: Int64[np.ndarray, "runs"],
    run_stops: Int64[np.ndarray, "runs"],
    starts: Int64[np.ndarray, "windows"],
    lengths: Int64[np.ndarray, "windows"],
    min_purity: float,
    ignore_index: int,
    counts: Int64[np.ndarray, "codes"],
    out: Int64[np.ndarray, "windows"],
) -> None:
    """Most frequent label of each window, `ignore_index` where its share is below `min_purity`.

    A run is a stretch of one label and `run_stops` holds the sample after it. A tie goes to the
    lowest code. A window is walked run by run, not sample by sample: with step 1 its cost does not
    grow with its length. `counts` is zero for every code, and left so.
    """
    first_run = 0
    for window in range(starts.size):
        start = starts[window]
        stop = start + lengths[window]
        while run_stops[first_run] <= start:
            first_run += 1
        if run_stops[first_run] >= stop:
            out[window] = run_labels[first_run]
            continue
        run = first_run
        position = start
        while position < stop:
            run_stop = min(run_stops[run], stop)
            counts[run_codes[run]] += run_stop - position
            position = run_stop
            run += 1
        best = first_run
        most = 0
        for counted in range(first_run, run):
            count = counts[run_codes[counted]]
            counts[run_codes[counted]] = 0
            if count > most or (count == most and run_codes[counted] < run_codes[best]):
                most = count
                best = counted
        # The quotient and not the product: 7 of 100 is 0.07 exactly where 0.07 * 100 is above 7.
        is_pure = most / lengths[window] >= min_purity
        out[window] = run_labels[best] if is_pure else ignore_index


@njit(error_model="numpy", nogil=True, cache=True)
def copy_windows(
    signal: Float[np.ndarray, "time channels"],
    starts: Int64[np.ndarray, "windows"],
    lengths: Int64[np.ndarray, "windows"],
    out: Float[np.ndarray, "windows channels window_samples"],
) -> None:
    """Copy windows, time last, from one contiguous recording; NaN behind those cut short.

    Indices are unsigned: signed ones cost a wrap-around test each.
    """
    num_channels = out.shape[1]
    flat = signal.reshape(-1)
    stride = np.uint64(num_channels)
    for window in range(starts.size):
        values = flat[starts[window] * num_channels :]
        for channel in range(num_channels):
            destination = out[window, channel]
            offset = np.uint64(channel)
            for sample in range(np.uint64(lengths[window])):
                destination[sample] = values[np.uint64(sample) * stride + offset]
            for sample in range(lengths[window], destination.size):
                destination[sample] = np.nan


@njit(error_model="numpy", nogil=True, cache=True)
def copy_triads(
    signal: Float32[np.ndarray, "time 3"],
    starts: Int64[np.ndarray, "windows"],
    lengths: Int64[np.ndarray, "windows"],
    out: Float32[np.ndarray, "windows 3 window_samples"],
) -> None:
    """`copy_windows` for three channels of float32, de-interleaved once per block.

    A constant stride lets LLVM load vectors and shuffle. Against `copy_windows`, per window-axis of
    100 samples: 33 for 52 ns where recording and windows are in the cache, 73 for 73 where they are
    not (nor is a plain copy faster). Float64 and other numbers of channels lose by it.
    """
    window_samples = out.shape[2]
    block_samples = max(BLOCK_SAMPLES, 4 * window_samples)
    scratch = np.empty((3, block_samples), np.float32)
    first, second, third = scratch[0], scratch[1], scratch[2]
    flat = signal.reshape(-1)
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    window = 0
    while window < starts.size:
        # The block holds the following windows that touch or overlap, as far as scratch goes.
        block_start = starts[window]
        block_stop = block_start + lengths[window]
        next_window = window + 1
        while (
            next_window < starts.size
            and block_start <= starts[next_window] <= block_stop
            and starts[next_window] + lengths[next_window] - block_start <= block_samples
        ):
            block_stop = max(block_stop, starts[next_window] + lengths[next_window])
            next_window += 1
        block = flat[block_start * 3 : block_stop * 3]
        for sample in range(np.uint64(block_stop - block_start)):
            place = np.uint64(sample) * three
            first[sample] = block[place]
            second[sample] = block[place + one]
            third[sample] = block[place + two]
        for copied in range(window, next_window):
            first_sample = starts[copied] - block_start
            for channel in range(3):
                source = scratch[channel, first_sample : first_sample + lengths[copied]]
                destination = out[copied, channel]
                for sample in range(source.size):  # 31 ns a row; `destination[:] = source` 142
                    destination[sample] = source[sample]
                for sample in range(source.size, window_samples):
                    destination[sample] = np.nan
        window = next_window
