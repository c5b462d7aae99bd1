"""Does what a number format is for: tests/arm/run looks which instructions are executed.

python tests/arm/number_formats.py float32|int8|bfloat16: an exported MTL-net predicts, in float32
or int8, or one trains for two steps in bfloat16.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from smoothdistill.export import OnnxModel, export_onnx
from smoothdistill.models import MTLNet
from smoothdistill.training import TrainStep

TASKS = {"activity": 6, "placement": 2}


def main() -> None:
    """Do it."""
    number_format = sys.argv[1]
    torch.manual_seed(0)
    model = MTLNet(TASKS, in_channels=3)
    signals = np.random.default_rng(0).normal(size=(64, 3, 100)).astype(np.float32)
    if number_format == "bfloat16":
        step = TrainStep(model, precision="bfloat16")
        targets = {task: torch.zeros(64, dtype=torch.int64) for task in TASKS}
        for _ in range(2):
            step(torch.from_numpy(signals), targets)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path, windows=signals, precision=number_format)
        OnnxModel(path)(signals[:1])


if __name__ == "__main__":
    main()
