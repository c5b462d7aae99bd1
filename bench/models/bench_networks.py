"""What networks cost whoever runs them: size, multiply-adds, and the time for one window.

    OMP_NUM_THREADS=1 python bench/models/bench_networks.py [--save]

One thread, 6 channels x 128 samples, 12 classes, fresh weights (times do not depend on them), by
turns: PyTorch, ONNX Runtime in float32, and in int8. `--save` writes bench/results/networks-*.json,
of which `bench/results_page.py` makes a table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smoothdistill.benchmark.timing import time_in_turns
from smoothdistill.export import OnnxModel, export_onnx
from smoothdistill.models import MobileNetV31D, build_model
from smoothdistill.models.cost import network_cost
from smoothdistill.training.environment import describe_environment
from smoothdistill.workers import torch_threads

TASKS = {"activity": 12}
CHANNELS, SAMPLES, WINDOWS = 6, 128, 128
SMALL = {"table": "student", "width": 0.2, "num_features": 128, "head": "simh-associative"}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mtl-net": ("mtl-net", {}),
    "har-mlp": ("har-mlp", {}),
    "resnet-lstman, width 0.5": ("resnet-lstman", {"width": 0.5}),
    "mobilenet-v3-1d, teacher, width 0.25": (
        "mobilenet-v3-1d", {"table": "teacher", "width": 0.25, "head": "simh-associative"},
    ),
    "mobilenet-v3-1d, student, width 0.2": ("mobilenet-v3-1d", SMALL),
    "the same, compressed": ("mobilenet-v3-1d", SMALL),
}  # fmt: skip
RESULTS = Path(__file__).resolve().parents[1] / "results"


def make_network(label: str) -> nn.Module:
    """A network in evaluation, whose batch norm has seen some windows."""
    name, options = NETWORKS[label]
    torch.manual_seed(0)
    sizes = {"in_channels": CHANNELS, "window_samples": SAMPLES}
    network = build_model(name, num_classes=TASKS, **sizes, **options)
    with torch.no_grad():
        for _ in range(10):
            network(torch.randn(32, CHANNELS, SAMPLES))
    if isinstance(network, MobileNetV31D) and "compressed" in label:
        network = network.compress()
    return network.eval()


def measure(label: str, folder: Path, num_rounds: int) -> dict[str, Any]:
    """A row of the table."""
    network = make_network(label)
    windows = np.random.default_rng(0).normal(size=(WINDOWS, CHANNELS, SAMPLES))
    files = {}
    for precision in ("float32", "int8"):
        path = folder / f"{precision}.onnx"
        report = export_onnx(network, path, windows=windows, precision=precision)
        files[precision] = (OnnxModel(path), report)
    signal = windows[:1].astype(np.float32)
    tensor = torch.from_numpy(signal)

    @torch.no_grad()
    def by_torch() -> object:
        return network(tensor)

    calls: dict[str, Callable[[], object]] = {"torch": by_torch}
    for precision, (model, _) in files.items():
        calls[f"onnx_{precision}"] = lambda model=model: model(signal)
    timings = time_in_turns(calls, num_rounds=num_rounds)
    cost = network_cost(network, CHANNELS, SAMPLES)
    return {
        "label": label,
        "num_parameters": cost.num_parameters,
        "num_macs": cost.num_macs,
        "seconds": {name: timing.median for name, timing in timings.items()},
        "quartiles": {name: timing.quartiles for name, timing in timings.items()},
        "num_bytes": {precision: report.num_bytes for precision, (_, report) in files.items()},
        "agreement_of_int8": files["int8"][1].agreement,
    }


def row_text(row: Mapping[str, Any]) -> str:
    """A line for people."""
    times = ", ".join(f"{name} {1e3 * value:.3f} ms" for name, value in row["seconds"].items())
    sizes = ", ".join(f"{name} {value:,} bytes" for name, value in row["num_bytes"].items())
    return (
        f"{row['label']}: {row['num_parameters']:,} parameters, {row['num_macs'] / 1e6:.2f} M "
        f"multiply-adds; {times}; {sizes}"
    )


def test_network(tmp_path: Path) -> None:
    """One network of the table, quickly."""
    with torch_threads(1):
        row = measure("har-mlp", tmp_path, num_rounds=1)
    assert row["num_bytes"]["int8"] < 0.3 * row["num_bytes"]["float32"]
    assert set(row["seconds"]) == {"torch", "onnx_float32", "onnx_int8"}


@pytest.mark.parametrize("label", NETWORKS)
def test_costs(label: str) -> None:
    """Networks of the table can be built and counted."""
    assert network_cost(make_network(label), CHANNELS, SAMPLES).num_macs > 0


def main() -> None:
    """Print the table, and save it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    rows = []
    with torch_threads(1), TemporaryDirectory() as folder:
        for label in NETWORKS:
            rows.append(measure(label, Path(folder), arguments.rounds))
            print(row_text(rows[-1]), flush=True)
    if arguments.save:
        content = {"environment": describe_environment(torch.device("cpu")), "networks": rows}
        path = RESULTS / "networks-xeon-2.5ghz-avx512.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
