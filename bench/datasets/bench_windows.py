"""Recordings to windows: 1,000,000 x 3 samples, windows of 100, step 60, one thread.

    pytest bench/datasets/bench_windows.py --benchmark-enable -s

Divide by the number of windows (`extra_info["windows"]`) and channels for the time per window-axis.
Every provider's answer is asserted before it is timed. `-k ratios` times the providers of the
segmenter by turns, so that a busy machine meets all of them alike, and prints what it found.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.windows import Recording, Segmenter, cut_windows

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


SEGMENTER = Segmenter(window_samples=WINDOW, step_samples=STEP)


def make_signal(num_channels):
    generator = np.random.default_rng(0)
    return generator.standard_normal((NUM_SAMPLES, num_channels)).astype(np.float32)


def make_labels():
    return np.concatenate([recording.targets["activity"] for recording in make_recordings()])


def view_numpy(signal):
    return np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)[::STEP]


def copy_python(signal):
    starts = range(0, len(signal) - WINDOW + 1, STEP)
    return np.array([signal[start : start + WINDOW].T for start in starts])


def mode_scipy(labels):
    from scipy.stats import mode

    return mode(np.lib.stride_tricks.sliding_window_view(labels, WINDOW)[::STEP], axis=1).mode


def bincount_python(labels):
    starts = range(0, len(labels) - WINDOW + 1, STEP)
    return np.array([np.bincount(labels[start : start + WINDOW]).argmax() for start in starts])


# From the array to the windows or their labels, all of it: no provider is handed anything ready.
VIEWS = {"ours": lambda signal: SEGMENTER.segment(signal).view(signal), "numpy": view_numpy}
COPIES = {
    "ours": lambda signal: SEGMENTER.segment(signal).windows(signal),
    "numpy": lambda signal: np.ascontiguousarray(view_numpy(signal)),
    "python-loop": copy_python,
}
MAJORITIES = {
    "ours": lambda labels: SEGMENTER.segment(len(labels), targets={"a": labels}).targets["a"],
    "scipy-mode": mode_scipy,
    "bincount-loop": bincount_python,
}

# What is asked for: input, who answers it, and the number of channels.
SEGMENTATIONS = {
    "view": (lambda: make_signal(3), VIEWS, 3),
    "copy": (lambda: make_signal(3), COPIES, 3),
    "copy of 6 channels": (lambda: make_signal(6), COPIES, 6),
    "majority label": (make_labels, MAJORITIES, 3),
}


@pytest.mark.parametrize(
    ("segmentation", "provider"),
    [(name, provider) for name, (_, calls, _) in SEGMENTATIONS.items() for provider in calls],
)
def test_segmenter(benchmark, segmentation, provider):
    make, calls, num_channels = SEGMENTATIONS[segmentation]
    values = make()
    answer = calls[provider](values)
    np.testing.assert_array_equal(answer, calls[list(calls)[-1]](values))
    benchmark.group = segmentation
    benchmark.extra_info.update(windows=len(answer), channels=num_channels)
    del answer
    benchmark(calls[provider], values)


@pytest.mark.parametrize("segmentation", SEGMENTATIONS)
def test_ratios(segmentation, capsys):
    make, calls, num_channels = SEGMENTATIONS[segmentation]
    values = make()
    answers = {provider: call(values) for provider, call in calls.items()}
    for answer in answers.values():
        np.testing.assert_array_equal(answer, answers["ours"])
    num_axes = len(answers["ours"]) * num_channels
    answers.clear()
    found = time_in_turns({name: lambda call=call: call(values) for name, call in calls.items()})
    lines = [f"\n{segmentation}, ns per window-axis (and times slower than ours)"]
    for provider, timing in found.items():
        ratio = compare(found["ours"], timing)
        lines.append(
            f"  {provider:14s} {timing.median / num_axes * 1e9:8.1f}  ({ratio.median:.2f}, "
            f"{ratio.low:.2f} to {ratio.high:.2f})"
        )
    with capsys.disabled():
        print("\n".join(lines))
