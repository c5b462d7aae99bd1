"""Do the loss curves of the fused step and of PyTorch's layers by autograd lie on each other?

Both train MTL-net from equal weights on the training subjects of one fold, with equal shuffles.
The sums of the two are rounded in other orders, and training magnifies every difference. So a third
run, `nudged`, goes the fused path from weights that are each moved by one unit in the last place:
it shows how far two runs come apart that differ in nothing but rounding.

Each run has a process of its own, and is kept in `paths.csv` (epoch, run, mean total,
cross-entropy and distillation by task, seconds), to which a later call adds; `paths.png` has the
curves, and below them by how much they differ.

    python bench/train/compare_paths.py --data wisdm --root wisdm-dataset --epochs 50 --out paths
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch

import smoothdistill as sd
from smoothdistill.models import MTLNet
from smoothdistill.splits import make_folds
from smoothdistill.training import TrainStep
from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.seeding import shuffled
from smoothdistill.training.standardization import Standardization

RUNS = ("fused", "layers", "nudged")
CPU = torch.device("cpu")
Row = dict[str, str]


def train(run: str, arguments: argparse.Namespace) -> list[Row]:
    """One row an epoch."""
    torch.set_num_threads(1)
    data = sd.datasets.load(arguments.data, **({"root": arguments.root} if arguments.root else {}))
    fold = make_folds(data, num_folds=5, seed=arguments.seed)[0]
    torch.manual_seed(arguments.seed)
    classes = {task: len(names) for task, names in data.class_names.items()}
    model = MTLNet(classes, data.num_channels, data.window_samples)
    if run == "nudged":
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.nextafter(weight, torch.full_like(weight, np.inf)))
    step = TrainStep(model, "smooth-distill", path="general" if run == "layers" else "fused")
    if run == "layers":  # a hook into a layer makes the model call it
        model.conv1.register_forward_hook(lambda *args: None)
    windows = DeviceWindows(data, CPU)
    standardization = Standardization.fit(data, fold.train).to(CPU)
    rows: list[Row] = []
    for epoch in range(arguments.epochs):
        begun, sums, count = time.perf_counter(), np.zeros(1 + 2 * len(classes)), 0
        order = shuffled(fold.train, arguments.seed, fold.index, epoch)
        for signals, targets in windows.batches(order, 64, standardization):
            out = step(signals, targets)
            parts = torch.cat([out.total[None], out.cross_entropy, out.distillation])
            sums += parts.double().numpy() * len(signals)
            count += len(signals)
        means = dict(zip(_names(classes), map(str, sums / count), strict=True))
        seconds = time.perf_counter() - begun
        rows.append({"epoch": str(epoch + 1), "run": run, **means, "seconds": f"{seconds:.1f}"})
        print(run, epoch + 1, f"{float(means['total']):.6f}", f"{seconds:.1f} s", flush=True)
    return rows


def _names(tasks: dict[str, int]) -> list[str]:
    parts = ("cross_entropy", "distillation")
    return ["total", *(f"{task}_{part}" for part in parts for task in tasks)]


def plot(rows: list[Row], to: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(7, 5.2), height_ratios=(3, 1.3), layout="constrained"
    )

    def curve(run: str, key: str) -> np.ndarray:
        return np.array([float(row[key]) for row in rows if row["run"] == run])

    keys = [key for key in rows[0] if key == "total" or key.endswith("cross_entropy")]
    epochs = np.arange(1, len(curve("fused", "total")) + 1)
    for key in keys:
        (line,) = above.plot(epochs, curve("layers", key), linewidth=5, alpha=0.35)
        label = key.replace("_", " ", 1).replace(" ", ", ", 1).replace("cross_", "cross-")
        above.plot(epochs, curve("fused", key), color=line.get_color(), linewidth=1.2, label=label)
    above.set_ylabel("training loss (mean of epoch)")
    above.legend(title="broad: layers by autograd, thin: fused path", frameon=False)
    fused = curve("fused", "total")
    for run, style in (("nudged", {"color": "0.65", "linewidth": 4}), ("layers", {"color": "C0"})):
        if len(curve(run, "total")) == len(fused):
            below.plot(epochs, fused - curve(run, "total"), label=f"fused less {run}", **style)
    below.axhline(0.0, color="0.5", linewidth=0.6)
    below.set_ylabel("total, difference")
    below.set_xlabel("epoch")
    below.legend(frameon=False, loc="upper left")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(to, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--root")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / "paths.csv"
    rows: list[Row] = []
    if table.exists():
        with table.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["run"] not in arguments.runs]
    with multiprocessing.get_context("spawn").Pool(len(arguments.runs)) as pool:
        for found in pool.starmap(train, [(run, arguments) for run in arguments.runs]):
            rows += found
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, arguments.out / "paths.png")


if __name__ == "__main__":
    main()
