"""Features of samples as they come: a window at a time, and a whole day.

    python bench/features/bench_stream.py              # a day at 100 Hz, second by second
    pytest bench/features/bench_stream.py -o python_files='bench_*.py' --benchmark-enable

The statistical set of 3 float32 axes, one thread. The rivals keep the newest samples in an array
and compute a window's features once it is full: NumPy over the channels, and a loop over them with
NumPy and SciPy. The rows of a day must be those of the batch, bit for bit.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rivals.measure import one_thread
from rivals.numpy_forms import STATISTICAL, usual_call
from rivals.statistical import make_python_loop
from rivals.workload import SAMPLE_RATE_HZ, Case, moving_signal

from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.features import FeatureExtractor

WINDOW, STEP = 100, 60
RATE_HZ = 100.0
SECONDS_PER_DAY = 86_400
FEATURES = [*STATISTICAL, "sma", "corr"]


def make_extractor(rate_hz=SAMPLE_RATE_HZ):
    return FeatureExtractor(
        FEATURES, window_samples=WINDOW, step_samples=STEP, sample_rate_hz=rate_hz
    )


def pieces_of(signal, num_samples):
    return [signal[start : start + num_samples] for start in range(0, len(signal), num_samples)]


def ours(signal):
    stream = make_extractor().fit(signal).stream()
    return [stream.push(piece) for piece in pieces_of(signal, STEP)]


def from_newest(describe):
    """A stream as people write it: the newest samples in an array, features once it is full."""

    def run(signal):
        rows, newest = [], np.empty((0, signal.shape[1]), signal.dtype)
        for piece in pieces_of(signal, STEP):
            newest = np.concatenate([newest, piece])
            while len(newest) >= WINDOW:
                rows.append(describe(newest[:WINDOW]))
                newest = newest[STEP:]
        return rows

    return run


def by_numpy(window):
    return usual_call(Case(window, WINDOW, STEP), np.float64, 1)()


def by_loop(window):
    return make_python_loop(Case(window, WINDOW, STEP)).call()


STREAMS = {
    "ours": ours,
    "NumPy over the channels": from_newest(by_numpy),
    "loop over channels, NumPy and SciPy": from_newest(by_loop),
}


@pytest.mark.parametrize("name", list(STREAMS))
def test_stream(benchmark, name):
    signal = moving_signal(50 * STEP)
    benchmark.group = f"{(len(signal) - WINDOW) // STEP + 1} windows of 3 axes"
    benchmark(STREAMS[name], signal)


def test_pieces_change_nothing():
    signal = moving_signal(2_000)
    batch = make_extractor().fit_transform(signal)
    assert np.concatenate(ours(signal)).tobytes() == batch.tobytes()


def test_ratios():
    measure(20 * STEP, num_rounds=3)


def measure(num_samples, *, num_rounds):
    """Microseconds for each window of 3 axes, all Python around it included."""
    signal = moving_signal(num_samples)
    num_windows = (len(signal) - WINDOW) // STEP + 1
    calls = {name: (lambda run=run: run(signal)) for name, run in STREAMS.items()}
    timings = time_in_turns(calls, num_rounds=num_rounds)
    for name, timing in timings.items():
        ratio, (low, high) = compare(timings["ours"], timing), timing.quartiles
        print(
            f"{name:36s} {timing.median / num_windows * 1e6:9.1f} us a window "
            f"({low / num_windows * 1e6:.1f} to {high / num_windows * 1e6:.1f}) "
            f"{ratio.median:7.1f}x ({ratio.low:.1f} to {ratio.high:.1f})"
        )


def push_a_day(num_seconds):
    """A day, second by second; the batch must give the same bits."""
    signal = moving_signal(int(num_seconds * RATE_HZ))
    extractor = make_extractor(RATE_HZ).fit(signal)
    stream = extractor.stream()
    stream.push(signal[:WINDOW])  # compiles, or loads what was compiled
    stream = extractor.stream()
    pieces = pieces_of(signal, int(RATE_HZ))
    begin, slowest, rows = time.perf_counter(), 0.0, []
    for piece in pieces:
        start = time.perf_counter()
        rows.append(stream.push(piece))
        slowest = max(slowest, time.perf_counter() - start)
    seconds = time.perf_counter() - begin
    found = np.concatenate(rows)
    begin = time.perf_counter()
    batch = extractor.transform(signal)
    print(
        f"{len(signal):,} samples in {len(pieces):,} pieces, {len(found):,} rows: {seconds:.2f} s, "
        f"{seconds / len(found) * 1e6:.1f} us a window, slowest push {slowest * 1e6:,.0f} us, "
        f"{num_seconds / seconds:,.0f} times as fast as it was recorded\n"
        f"the batch: {time.perf_counter() - begin:.2f} s; "
        f"the same bits: {found.tobytes() == batch.tobytes()}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=SECONDS_PER_DAY)
    arguments = parser.parse_args()
    with one_thread():
        measure(500 * STEP, num_rounds=9)
        push_a_day(arguments.seconds)


if __name__ == "__main__":
    main()
