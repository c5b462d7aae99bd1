"""The loss curves of the fused and the general path on the same batches: do they lie on each other?

Both paths train MTL-net from equal weights on the training subjects of one fold, with equal
shuffles, each in a process of its own. Written are a table (`paths.csv`: epoch, path, mean total,
cross-entropy and distillation by task, seconds) and a figure (`paths.png`: the curves, and below
them by how much they differ).

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

PATHS = ("fused", "general")
CPU = torch.device("cpu")


def train(path: str, arguments: argparse.Namespace) -> list[dict[str, float | str]]:
    """One row an epoch."""
    torch.set_num_threads(1)
    data = sd.datasets.load(arguments.data, **({"root": arguments.root} if arguments.root else {}))
    fold = make_folds(data, num_folds=5, seed=arguments.seed)[0]
    torch.manual_seed(arguments.seed)
    classes = {task: len(names) for task, names in data.class_names.items()}
    model = MTLNet(classes, data.num_channels, data.window_samples)
    step = TrainStep(model, "smooth-distill", path=path)
    windows = DeviceWindows(data, CPU)
    standardization = Standardization.fit(data, fold.train).to(CPU)
    rows: list[dict[str, float | str]] = []
    for epoch in range(arguments.epochs):
        begun, sums, count = time.perf_counter(), np.zeros(1 + 2 * len(classes)), 0
        order = shuffled(fold.train, arguments.seed, fold.index, epoch)
        for signals, targets in windows.batches(order, 64, standardization):
            out = step(signals, targets)
            parts = torch.cat([out.total[None], out.cross_entropy, out.distillation])
            sums += parts.double().numpy() * len(signals)
            count += len(signals)
        means = sums / count
        row: dict[str, float | str] = {"epoch": epoch, "path": path, "total": means[0]}
        for index, task in enumerate(classes):
            row[f"{task}_cross_entropy"] = means[1 + index]
            row[f"{task}_distillation"] = means[1 + len(classes) + index]
        row["seconds"] = time.perf_counter() - begun
        rows.append(row)
        print(path, epoch, f"{means[0]:.6f}", f"{row['seconds']:.1f} s", flush=True)
    return rows


def plot(rows: list[dict[str, float | str]], to: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(7, 5.2), height_ratios=(3, 1.2), layout="constrained"
    )
    by_path = {path: [row for row in rows if row["path"] == path] for path in PATHS}
    epochs = [int(row["epoch"]) + 1 for row in by_path["fused"]]
    for key, label in (("total", "total"),) + tuple(
        (key, key.replace("_", ", ").replace("cross, entropy", "cross-entropy"))
        for key in by_path["fused"][0]
        if key.endswith("cross_entropy")
    ):
        fused, general = (np.array([row[key] for row in by_path[path]]) for path in PATHS)
        (line,) = above.plot(epochs, general, linewidth=5, alpha=0.35)
        above.plot(epochs, fused, color=line.get_color(), linewidth=1.2, label=label)
        below.plot(epochs, fused / general - 1.0, color=line.get_color(), linewidth=1)
    above.set_ylabel("training loss (mean of epoch)")
    above.legend(title="broad: general path, thin: fused path", frameon=False)
    below.axhline(0.0, color="0.7", linewidth=0.8)
    below.set_ylabel("fused / general − 1")
    below.set_xlabel("epoch")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(to, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--root")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(len(PATHS)) as pool:
        rows = [
            row
            for found in pool.starmap(train, [(path, arguments) for path in PATHS])
            for row in found
        ]
    with (arguments.out / "paths.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, arguments.out / "paths.png")


if __name__ == "__main__":
    main()
