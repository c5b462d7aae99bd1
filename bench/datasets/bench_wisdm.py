"""WISDM 2019 raw text to windows, one thread: ours against pandas and a Python loop.

    pytest bench/datasets/bench_wisdm.py --benchmark-enable -s

`SMOOTHDISTILL_DATA` may name the unpacked data set, or a folder with its archives
(`wisdm2019_raw_{phone,watch}_accel.tar.xz`); without it a file set of the same layout is made up.
Every provider's windows are asserted before they are timed. Peak memory is that of a fresh process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from smoothdistill import datasets

WINDOW = 100
STEP = 60
MAX_GAP_SECONDS = 1.0
MOST_FILES = int(os.environ.get("BENCH_WISDM_FILES", "1000"))

PEAK_MEMORY = """
import json, resource, sys
from pathlib import Path
from smoothdistill import cut_windows, datasets

def peak_bytes():  # since the program began; ru_maxrss would count the parent's peak, too
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

def run(root):
    about = datasets.DATASETS["wisdm"]
    recordings = datasets.load_recordings("wisdm", root=root, cache=False)
    windows = cut_windows(recordings, class_names=about.class_names, max_gap_seconds=1.0)
    arrays = [windows.signals, *windows.targets.values()]
    for recording in recordings:
        arrays += [recording.signal, recording.timestamps_seconds, recording.targets["activity"]]
    return sum(array.nbytes for array in arrays)

run(sys.argv[2])  # compiles the kernels
before = peak_bytes()
produced = run(sys.argv[1])
print(json.dumps({"produced": produced, "growth": peak_bytes() - before}))
"""


def write_made_up(root: Path, *, num_subjects: int, block_rows: int) -> None:
    generator = np.random.default_rng(0)
    for device in ("phone", "watch"):
        folder = root / "raw" / device / "accel"
        folder.mkdir(parents=True)
        for subject in range(1600, 1600 + num_subjects):
            lines = []
            for letter in "ABCDEFGHIJKLMOPQRS":
                begin = generator.integers(10**14, 2 * 10**14)
                signal = generator.normal(0.0, 6.0, (block_rows, 3)).astype(np.float32)
                lines += [
                    f"{subject},{letter},{begin + 50_354_000 * row},{x!s},{y!s},{z!s};\n"
                    for row, (x, y, z) in enumerate(signal)
                ]
            text = "".join(lines)
            (folder / f"data_{subject}_accel_{device}.txt").write_text(text, newline="\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    given = Path(os.environ.get("SMOOTHDISTILL_DATA") or "nowhere")
    for unpacked in (given, given / "wisdm-dataset"):
        if (unpacked / "raw").is_dir():
            return unpacked
    archives = sorted(given.glob("wisdm2019_raw_*_accel.tar.xz"))
    folder = tmp_path_factory.mktemp("wisdm")
    if not archives:
        write_made_up(folder, num_subjects=4, block_rows=3600)
        return folder
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in [member for member in tar if member.isfile()][:MOST_FILES]:
                tar.extract(member, folder, filter="data")
    return next(folder.rglob("raw")).parent


@pytest.fixture(scope="module")
def small_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_made_up(folder, num_subjects=1, block_rows=200)
    return folder


def log_files(root):
    raw = root / "raw"
    return sorted((raw / "phone" / "accel").glob("*.txt")) + sorted(
        (raw / "watch" / "accel").glob("*.txt")
    )


def ours(root):
    windows = datasets.load("wisdm", root=root, cache=False, resample=False)
    return windows.signals, windows.targets["activity"]


def read_frame(path):
    """One file with pandas, the trailing `;` stripped as people do, and the edges of its runs."""
    import pandas as pd

    names = ["subject", "activity", "timestamp", "x", "y", "z"]
    frame = pd.read_csv(path, header=None, names=names)
    frame["z"] = frame["z"].str.rstrip(";").astype(float)
    letters = frame["activity"].to_numpy()
    steps = np.diff(frame["timestamp"].to_numpy()) / 1e9
    is_border = (letters[1:] != letters[:-1]) | (steps < 0) | (steps > MAX_GAP_SECONDS)
    edges = [0, *(np.flatnonzero(is_border) + 1).tolist(), len(frame)]
    return frame, list(pairwise(edges))


def stacked(segments, letters):
    signals = np.asarray(segments, dtype=np.float32)
    return signals, np.array(["ABCDEFGHIJKLMOPQRS".index(letter) for letter in letters])


def pandas_loop(root):
    """The loop of the notebooks: the columns' values are sliced for each window."""
    segments, letters = [], []
    for path in log_files(root):
        frame, runs = read_frame(path)
        for begin, end in runs:
            for start in range(begin, end - WINDOW + 1, STEP):
                x = frame["x"].values[start : start + WINDOW]
                y = frame["y"].values[start : start + WINDOW]
                z = frame["z"].values[start : start + WINDOW]
                segments.append([x, y, z])
                letters.append(frame["activity"].iloc[start + WINDOW - 1])
    return stacked(segments, letters)


def pandas_slices(root):
    """The careful form: plain arrays of each file, one slice for each window."""
    segments, letters = [], []
    for path in log_files(root):
        frame, runs = read_frame(path)
        values = frame[["x", "y", "z"]].to_numpy(dtype=np.float32).T
        activities = frame["activity"].to_numpy()
        for begin, end in runs:
            for start in range(begin, end - WINDOW + 1, STEP):
                segments.append(values[:, start : start + WINDOW])
                letters.append(activities[start + WINDOW - 1])
    return stacked(segments, letters)


PROVIDERS = {"ours": ours, "pandas-loop": pandas_loop, "pandas-slices": pandas_slices}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    num_threads = pa.cpu_count()
    pa.set_cpu_count(1)
    yield
    pa.set_cpu_count(num_threads)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_text_to_windows(benchmark, provider, root):
    read = PROVIDERS[provider]
    signals, activities = read(root)
    expected_signals, expected_activities = ours(root)
    # pandas' default parser of numbers may be off by one unit in the last place of float64
    np.testing.assert_array_max_ulp(signals, expected_signals, maxulp=1)
    np.testing.assert_array_equal(activities, expected_activities)
    benchmark.group = "WISDM 2019 text to windows"
    benchmark.extra_info["windows"] = len(signals)
    benchmark.extra_info["bytes"] = sum(path.stat().st_size for path in log_files(root))
    benchmark.pedantic(read, (root,), rounds=3, iterations=1)


def test_peak_memory(root, small_root):
    command = [sys.executable, "-c", PEAK_MEMORY, str(root), str(small_root)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(answer.stdout)
    ratio = peak["growth"] / peak["produced"]
    print(f"\npeak memory: {peak['growth'] / 1e6:.0f} MB for {peak['produced'] / 1e6:.0f} MB")
    if peak["produced"] > 100e6:  # in the small made-up set the libraries' own memory dominates
        assert ratio < 3.0, f"{ratio:.2f} times the arrays produced"
