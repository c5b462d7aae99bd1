"""Numba kernels behind `smoothdistill.windows`: borders, window starts, majority labels, the copy.

Imported on the first call of `cut_windows`, so that importing the package does not load Numba. The
kernels take plain arrays that the caller has checked, and write what the caller has allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, Int64

__all__ = [
    "copy_windows",
    "count_windows",
    "list_starts",
    "majority_labels",
    "mark_changes",
    "mark_gaps",
]

# A block of a recording is de-interleaved into scratch of [channels, BLOCK_SAMPLES] float32, 48 kB
# for three channels: it stays in the L2 cache while the windows are copied out of it. 1024 to 8192
# differ by less than the noise.
BLOCK_SAMPLES = 4096


@njit(error_model="numpy", nogil=True, cache=True)
def mark_changes(labels: Int64[np.ndarray, "time"], is_border: Bool[np.ndarray, "time"]) -> None:
    """Set `is_border[i]` where sample i has another label than sample i - 1."""
    before, after, border = labels[:-1], labels[1:], is_border[1:]
    for step in range(before.size):  # three views and one index: LLVM vectorises this
        border[step] |= before[step] != after[step]


@njit(error_model="numpy", nogil=True, cache=True)
def mark_gaps(
    timestamps_seconds: Float64[np.ndarray, "time"],
    max_gap_seconds: float,
    is_border: Bool[np.ndarray, "time"],
) -> None:
    """Set `is_border[i]` where time steps backwards, or on by more than the gap, into sample i."""
    before, after, border = timestamps_seconds[:-1], timestamps_seconds[1:], is_border[1:]
    for step in range(before.size):
        elapsed = after[step] - before[step]
        border[step] |= (elapsed < 0.0) | (elapsed > max_gap_seconds)


@njit(error_model="numpy", nogil=True, cache=True)
def count_windows(
    borders: Int64[np.ndarray, "borders"], window_samples: int, step_samples: int
) -> int:
    """Number of windows that fit between successive borders."""
    num_windows = 0
    for segment in range(borders.size - 1):
        spare = borders[segment + 1] - borders[segment] - window_samples
        if spare >= 0:
            num_windows += spare // step_samples + 1
    return num_windows


@njit(error_model="numpy", nogil=True, cache=True)
def list_starts(
    borders: Int64[np.ndarray, "borders"],
    window_samples: int,
    step_samples: int,
    out: Int64[np.ndarray, "windows"],
) -> None:
    """Write the first sample of every window that `count_windows` counted, in ascending order."""
    window = 0
    for segment in range(borders.size - 1):
        start = borders[segment]
        while start + window_samples <= borders[segment + 1]:
            out[window] = start
            window += 1
            start += step_samples


@njit(error_model="numpy", nogil=True, cache=True)
def majority_labels(
    labels: Int64[np.ndarray, "time"],
    run_stops: Int64[np.ndarray, "runs"],
    starts: Int64[np.ndarray, "windows"],
    window_samples: int,
    num_classes: int,
    ignore_index: int,
    out: Int64[np.ndarray, "windows"],
) -> None:
    """Most frequent label of each window; a tie goes to the lowest class, an unlabelled one last.

    A window is walked run by run (a run is a stretch of one label; `run_stops` holds the sample
    after each), not sample by sample: with step 1 its cost does not grow with its length.
    """
    counts = np.zeros(num_classes + 1, np.int64)  # the last one counts unlabelled samples
    first_run = 0
    for window in range(starts.size):
        start = starts[window]
        stop = start + window_samples
        while run_stops[first_run] <= start:
            first_run += 1
        if run_stops[first_run] >= stop:
            out[window] = labels[start]
            continue
        run = first_run
        position = start
        while position < stop:
            run_stop = min(run_stops[run], stop)
            label = labels[position]
            counts[num_classes if label == ignore_index else label] += run_stop - position
            position = run_stop
            run += 1
        best = 0
        for place in range(1, num_classes + 1):
            if counts[place] > counts[best]:  # strictly: a tie stays with the lowest class
                best = place
        for place in range(num_classes + 1):
            counts[place] = 0
        out[window] = ignore_index if best == num_classes else best


@njit(error_model="numpy", nogil=True, cache=True)
def copy_windows(
    signal: Float32[np.ndarray, "time channels"],
    starts: Int64[np.ndarray, "windows"],
    out: Float32[np.ndarray, "windows channels window_samples"],
) -> None:
    """Copy windows, time last, from one contiguous recording; `starts` ascends.

    Samples are de-interleaved once per block, not once per window. Indices are unsigned: signed
    ones cost a wrap-around test each and keep LLVM from vectorising (88 ns against 150 ns per
    window and channel for 1,000,000 x 3 samples, window 100, step 60; a plain copy of the output
    takes 81 ns on that machine).
    """
    num_channels = out.shape[1]
    window_samples = out.shape[2]
    scratch = np.empty((num_channels, max(BLOCK_SAMPLES, window_samples)), np.float32)
    flat = signal.reshape(-1)
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    stride = np.uint64(num_channels)
    window = 0
    while window < starts.size:
        # The block holds the following windows that touch or overlap, as far as scratch goes.
        block_start = starts[window]
        block_stop = block_start + window_samples
        next_window = window + 1
        while (
            next_window < starts.size
            and starts[next_window] <= block_stop
            and starts[next_window] + window_samples - block_start <= BLOCK_SAMPLES
        ):
            block_stop = starts[next_window] + window_samples
            next_window += 1
        block = flat[block_start * num_channels : block_stop * num_channels]
        block_samples = np.uint64(block_stop - block_start)
        if num_channels == 3:  # a constant stride lets LLVM load vectors and shuffle: 21 for 51 ns
            first, second, third = scratch[0], scratch[1], scratch[2]
            for sample in range(block_samples):
                place = np.uint64(sample) * three
                first[sample] = block[place]
                second[sample] = block[place + one]
                third[sample] = block[place + two]
        else:
            for channel in range(num_channels):
                row = scratch[channel]
                offset = np.uint64(channel)
                for sample in range(block_samples):
                    row[sample] = block[np.uint64(sample) * stride + offset]
        for copied in range(window, next_window):
            first_sample = starts[copied] - block_start
            for channel in range(num_channels):
                source = scratch[channel, first_sample : first_sample + window_samples]
                destination = out[copied, channel]
                for sample in range(window_samples):  # 31 ns a row; `destination[:] = source` 142
                    destination[sample] = source[sample]
        window = next_window
