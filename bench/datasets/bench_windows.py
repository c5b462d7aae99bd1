"""Recordings to windows: 1,000,000 x 3 samples, windows of 100, step 60, one thread.

    pytest bench/datasets/bench_windows.py --benchmark-enable

Divide by the number of windows (`extra_info["windows"]`) and channels for the time per window-axis.
Every provider's answer is asserted before it is timed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from smoothdistill.windows import Recording, cut_windows, kernels

NUM_SAMPLES = 1_000_000
NUM_CHANNELS = 3
WINDOW = 100
STEP = 60
NUM_CLASSES = 6
CLASS_NAMES = {"activity": tuple("ABCDEF"), "placement": ("wrist", "pocket")}


def make_recordings(num_samples: int = NUM_SAMPLES) -> list[Recording]:
    """Ten subjects; a label holds for 500 to 1500 samples."""
    generator = np.random.default_rng(0)
    recordings = []
    for subject in range(10):
        length = num_samples // 10
        runs = generator.integers(500, 1500, length // 500)
        labels = np.repeat(generator.integers(0, NUM_CLASSES, len(runs)), runs)[:length]
        recordings.append(
            Recording(
                generator.standard_normal((length, NUM_CHANNELS)).astype(np.float32),
                {"activity": labels, "placement": np.full(length, subject % 2)},
                subject=f"s{subject}",
                sample_rate_hz=50.0,
                timestamps_seconds=np.arange(length) / 50.0,
            )
        )
    return recordings


def stretches(recording: Recording, rule: str) -> list[tuple[int, int]]:
    """First and last + 1 sample between borders, by NumPy."""
    elapsed = np.diff(recording.timestamps_seconds)
    border = (elapsed < 0) | (elapsed > 0.25)
    if rule == "pure":
        for labels in recording.targets.values():
            border |= labels[1:] != labels[:-1]
    edges = [0, *(np.flatnonzero(border) + 1).tolist(), len(recording)]
    return list(pairwise(edges))


def cut_ours(recordings, rule):
    windows = cut_windows(
        recordings, class_names=CLASS_NAMES, window_samples=WINDOW, step_samples=STEP, label=rule
    )
    return windows.signals, windows.targets


def cut_numpy(recordings, rule):
    """`sliding_window_view` over every stretch, then one concatenation."""
    signals, targets = [], {task: [] for task in CLASS_NAMES}
    for recording in recordings:
        for start, stop in stretches(recording, rule):
            if stop - start < WINDOW:
                continue
            view = np.lib.stride_tricks.sliding_window_view(
                recording.signal[start:stop], WINDOW, axis=0
            )
            signals.append(view[::STEP])
            for task, labels in recording.targets.items():
                targets[task].append(labels[start + WINDOW - 1 : stop : STEP])
    return np.concatenate(signals), {task: np.concatenate(parts) for task, parts in targets.items()}


def cut_python(recordings, rule):
    """The loop of the notebooks: one slice and one append per window."""
    signals, targets = [], {task: [] for task in CLASS_NAMES}
    for recording in recordings:
        for start, stop in stretches(recording, rule):
            for first in range(start, stop - WINDOW + 1, STEP):
                signals.append(recording.signal[first : first + WINDOW].T)
                for task, labels in recording.targets.items():
                    targets[task].append(labels[first + WINDOW - 1])
    return np.array(signals), {task: np.array(parts) for task, parts in targets.items()}


CUTTERS = {"ours": cut_ours, "numpy": cut_numpy, "python-loop": cut_python}


@pytest.mark.parametrize("rule", ["pure", "last"])
@pytest.mark.parametrize("provider", CUTTERS)
def test_cut_windows(benchmark, provider, rule):
    recordings = make_recordings()
    expected = cut_python(recordings, rule)
    signals, targets = CUTTERS[provider](recordings, rule)
    np.testing.assert_array_equal(signals, expected[0])
    for task, labels in expected[1].items():
        np.testing.assert_array_equal(targets[task], labels)
    benchmark.group = f"cut_windows, label={rule}"
    benchmark.extra_info["windows"] = len(signals)
    benchmark(CUTTERS[provider], recordings, rule)


def copy_ours(signal, starts, out):
    kernels.copy_windows(signal, starts, out)


def copy_numpy(signal, starts, out):
    view = np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)
    np.copyto(out, view[::STEP])


def copy_output_only(signal, starts, out):
    """The floor: as many bytes, already in place and in order."""
    np.copyto(out, copy_output_only.source)


COPIERS = {"ours": copy_ours, "numpy": copy_numpy, "memcpy-floor": copy_output_only}


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("provider", COPIERS)
def test_copy_windows(benchmark, provider, channels):
    generator = np.random.default_rng(0)
    signal = generator.standard_normal((NUM_SAMPLES, channels)).astype(np.float32)
    starts = np.arange(0, NUM_SAMPLES - WINDOW + 1, STEP)
    expected = np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)[::STEP]
    copy_output_only.source = np.ascontiguousarray(expected)
    out = np.zeros_like(copy_output_only.source)
    COPIERS[provider](signal, starts, out)
    np.testing.assert_array_equal(out, expected)
    benchmark.group = f"copy_windows, {channels} channels"
    benchmark.extra_info["windows"] = len(starts)
    benchmark(COPIERS[provider], signal, starts, out)


def majority_ours(labels, starts):
    run_stops = np.append(np.flatnonzero(labels[1:] != labels[:-1]) + 1, len(labels))
    out = np.empty(len(starts), np.int64)
    kernels.majority_labels(labels, run_stops, starts, WINDOW, NUM_CLASSES, -100, out)
    return out


def majority_scipy(labels, starts):
    from scipy.stats import mode

    return mode(np.lib.stride_tricks.sliding_window_view(labels, WINDOW)[::STEP], axis=1).mode


def majority_loop(labels, starts):
    return np.array([np.bincount(labels[start : start + WINDOW]).argmax() for start in starts])


LABELLERS = {"ours": majority_ours, "scipy-mode": majority_scipy, "bincount-loop": majority_loop}


@pytest.mark.parametrize("provider", LABELLERS)
def test_majority_labels(benchmark, provider):
    labels = np.concatenate([recording.targets["activity"] for recording in make_recordings()])
    starts = np.arange(0, len(labels) - WINDOW + 1, STEP)
    np.testing.assert_array_equal(
        LABELLERS[provider](labels, starts), majority_loop(labels, starts)
    )
    benchmark.group = "majority_labels"
    benchmark.extra_info["windows"] = len(starts)
    benchmark(LABELLERS[provider], labels, starts)
