"""One epoch of training on windows of WISDM's size: the published protocol against ours.

    OMP_NUM_THREADS=1 python bench/train/bench_epoch.py [--root WISDM] [--layout axes]
    OMP_NUM_THREADS=1 python bench/train/bench_epoch.py --device cuda --layout axes

Published: a DataLoader that collates window by window, default Adam, a Python loop for the moving
average, losses and accuracy read in every step, and for the published layout the two-dimensional
network with its dead rows. Ours: what `Trainer` does in an epoch, before it validates. Both start
from the same weights, see the same batches in the same order, and must end with the same mean loss.

Each runs in a process of its own, on one thread, so that peaks of memory do not mix. For ours it
is also measured how much of the epoch passes outside the steps: gathering, shuffling, metrics,
logging.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from smoothdistill import datasets
from smoothdistill.benchmark.step.case import StepCase
from smoothdistill.benchmark.step.providers import PROVIDERS, build_train_step
from smoothdistill.datasets.synthetic import synthetic_recordings
from smoothdistill.models import MTLNet
from smoothdistill.splits import Fold
from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.config import RunConfig
from smoothdistill.training.environment import describe_environment
from smoothdistill.training.fold_state import FoldState
from smoothdistill.training.fold_trainer import FoldTrainer
from smoothdistill.training.history import EpochMeter
from smoothdistill.training.interrupt import StopRequest
from smoothdistill.training.progress import Progress
from smoothdistill.training.seeding import shuffled
from smoothdistill.training.standardization import Standardization
from smoothdistill.training.turns import in_one_go
from smoothdistill.windows import Windows, cut_windows

NUM_WINDOWS, NUM_SUBJECTS = 57_000, 51  # a fold's training side of WISDM's 71,503
BATCH = 64
MOST_OUTSIDE = 0.03


def make_windows(count: int) -> Windows:
    """Made-up windows; the same count gives the same ones."""
    about = datasets.DATASETS["synthetic"]
    rounds = 1 + count // 5000
    while True:
        recordings = synthetic_recordings(num_subjects=NUM_SUBJECTS, num_rounds=rounds)
        windows = cut_windows(recordings, class_names=about.class_names)
        if len(windows.signals) >= count:
            return windows
        rounds = 1 + int(1.1 * rounds * count / len(windows.signals))


def read_windows(root: Path) -> Windows:
    about = datasets.DATASETS["wisdm"]
    recordings = datasets.load_recordings("wisdm", root=root, cache=False)
    return cut_windows(recordings, class_names=about.class_names, max_gap_seconds=1.0)


def save_windows(windows: Windows, count: int, path: Path) -> None:
    """Standardized signals and labels of `count` windows, or of all where there are fewer."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(windows.signals))[:count])
    standard = Standardization.fit(windows, chosen)
    signals = standard.apply_(torch.from_numpy(windows.signals[chosen].copy())).numpy()
    labels = {f"target.{task}": values[chosen] for task, values in windows.targets.items()}
    np.savez(path, signals=signals, **labels)


def load_windows(path: Path) -> Windows:
    with np.load(path) as file:
        targets = {
            name.removeprefix("target."): file[name]
            for name in file.files
            if name.startswith("target.")
        }
        signals = file["signals"]
    subjects = np.full(len(signals), "s")
    return Windows(signals, targets=targets, subjects=subjects, sample_rate_hz=20.0)


@dataclass(frozen=True)
class EpochCase(StepCase):
    """The step's case, with the classes of the windows."""

    num_classes: tuple[tuple[str, int], ...] = ()

    def model(self) -> MTLNet:
        """The model that both start from."""
        torch.manual_seed(0)
        return MTLNet(dict(self.num_classes), layout=self.layout).to(self.device)


def published_epoch(windows: Windows, case: EpochCase, order: np.ndarray) -> dict[str, float]:
    """Seconds of the epoch, and the mean loss of its windows."""
    prepared = PROVIDERS["published form"].make(case)
    tasks = list(windows.targets)
    data = torch.utils.data.TensorDataset(
        prepared.prepare(torch.from_numpy(windows.signals)),
        *(torch.from_numpy(windows.targets[task]) for task in tasks),
    )
    # The order is given, so that both train on the same batches; a sampler costs the same.
    loader = torch.utils.data.DataLoader(data, batch_size=case.batch, sampler=order.tolist())
    total, begun, begun_process = 0.0, time.perf_counter(), time.process_time()
    for rows, *labels in loader:
        targets = {task: of.to(case.device) for task, of in zip(tasks, labels, strict=True)}
        total += prepared.step(rows.to(case.device), targets) * len(rows)
    seconds, of_process = time.perf_counter() - begun, time.process_time() - begun_process
    return {"seconds": seconds, "of_process": of_process, "loss": total / len(order)}


class TimedStep:
    """A `TrainStep` that adds up the time inside it."""

    def __init__(self, step) -> None:
        self._step = step
        self.seconds = 0.0

    def over(self, windows, batch_size):
        """Steps."""
        steps = self._step.over(windows, batch_size)
        while True:
            begun = time.perf_counter()
            size = next(steps, None)
            self.seconds += time.perf_counter() - begun
            if size is None:
                return
            yield size

    def __getattr__(self, name: str):
        return getattr(self._step, name)


def our_epoch(windows: Windows, case: EpochCase, order: np.ndarray) -> dict[str, float]:
    """Seconds of the epoch, those of them inside the steps, and the mean loss of its windows."""
    # The windows are standardized already; the identity costs what any other one costs.
    train = {"epochs": 1, "batch_size": case.batch, "seed": 0, "standardize": False}
    config = RunConfig.from_table({"train": train})
    fold = Fold(0, np.sort(order), order[:1], order[:1])
    data = DeviceWindows(windows, torch.device(case.device))
    with TemporaryDirectory() as folder:
        trainer = FoldTrainer(
            config, windows, data, fold, Path(folder), identity={}, stop=StopRequest(), place=1,
            progress=Progress(num_steps=1, num_folds=1, num_epochs=1, show=False),
            on_save=lambda state: None,
        )  # fmt: skip
        step, state = TimedStep(build_train_step(case.model())), FoldState()
        begun, begun_process = time.perf_counter(), time.process_time()
        in_one_go(trainer.train_epoch(step, state))
        seconds, of_process = time.perf_counter() - begun, time.process_time() - begun_process
    loss = EpochMeter(len(windows.tasks), sums=state.sums).means()[0]
    times = {"seconds": seconds, "of_process": of_process, "inside": step.seconds}
    return {**times, "loss": loss}


def peak_bytes() -> int:
    """Since the program began; `ru_maxrss` would count the parent's peak, too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def run_child(who: str, path: str, layout: str, device: str) -> None:
    """Train for an epoch, and print one line of JSON."""
    torch.set_num_threads(1)
    windows = load_windows(Path(path))
    classes = tuple((task, int(values.max()) + 1) for task, values in windows.targets.items())
    case = EpochCase(layout, BATCH, device, num_classes=classes)
    order = shuffled(np.arange(len(windows.signals)), 0, 0, 0)
    before = peak_bytes()
    found = {"published": published_epoch, "ours": our_epoch}[who](windows, case, order)
    print(json.dumps({**found, "before": before, "peak": peak_bytes()}))


def run_epochs(path: Path, layout: str, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Both epochs, each in its own process; their mean losses are equal."""
    found = {}
    for who in ("published", "ours"):
        command = [sys.executable, __file__, "--child", who, str(path), layout, device]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        found[who] = json.loads(done.stdout.splitlines()[-1])
    losses = {who: row["loss"] for who, row in found.items()}
    # Roundings grow over hundreds of steps of Adam; the mean over an epoch evens them out.
    assert abs(losses["ours"] - losses["published"]) <= 1e-2 * losses["published"], losses
    return found


def describe(found: dict[str, dict[str, float]]) -> list[str]:
    lines = []
    for who, row in found.items():
        peak, growth = row["peak"] / 2**20, (row["peak"] - row["before"]) / 2**20
        lines += [
            f"{who:10} {row['seconds']:.1f} s ({row['of_process']:.1f} s of processor time)   "
            f"peak {peak:.0f} MiB ({growth:.0f} MiB of it since the windows were loaded)   "
            f"mean loss {row['loss']:.4f}"
        ]
    ours, published = found["ours"], found["published"]
    by_clock, by_process = (published[key] / ours[key] for key in ("seconds", "of_process"))
    lines.append(f"times faster: {by_clock:.2f}, by processor time {by_process:.2f}")
    lines.append(f"of our epoch outside the steps: {100 * outside(ours):.2f} %")
    return lines


def outside(ours: dict[str, float]) -> float:
    return 1.0 - ours["inside"] / ours["seconds"]


def test_epochs_agree(tmp_path):
    path = tmp_path / "windows.npz"
    save_windows(make_windows(640), 640, path)
    run_epochs(path, "published")


@pytest.mark.parametrize("layout", ["published", "axes"])
def test_ratios(tmp_path, capsys, layout):
    path = tmp_path / "windows.npz"
    save_windows(make_windows(NUM_WINDOWS), NUM_WINDOWS, path)
    found = run_epochs(path, layout)
    with capsys.disabled():
        print(f"\nepoch of {NUM_WINDOWS:,} windows, {layout}", *describe(found), sep="\n  ")
    assert outside(found["ours"]) < MOST_OUTSIDE


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="One epoch: the published protocol against ours.")
    parser.add_argument("--root", type=Path, help="the recordings of WISDM 2019")
    parser.add_argument("--windows", type=int, default=NUM_WINDOWS)
    parser.add_argument("--layout", choices=("published", "axes"), default="published")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="where to write the figures, too, as JSON")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "windows.npz"
        windows = read_windows(options.root) if options.root else make_windows(options.windows)
        save_windows(windows, options.windows, path)
        found = run_epochs(path, options.layout, options.device)
    print(*describe(found), sep="\n")
    if options.out is not None:
        environment = describe_environment(torch.device(options.device))
        options.out.write_text(json.dumps({"environment": environment, **found}, indent=1))


if __name__ == "__main__":
    main()
