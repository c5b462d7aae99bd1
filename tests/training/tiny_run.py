"""A run that takes seconds, for tests: made-up windows, and a network with all kinds of state.

As a script it trains or resumes: ``tiny_run.py train|resume FOLDER [SECONDS_PER_STEP]``.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import nn

from smoothdistill.models import MODELS
from smoothdistill.training import Trainer
from smoothdistill.windows import Windows

SECONDS_PER_STEP = 0.0


class TinyNet(nn.Module):
    """Batch norm has buffers and dropout draws random numbers: both must survive a resume."""

    def __init__(self, num_classes, in_channels=3, window_samples=40, width=8):
        super().__init__()
        self.tasks = tuple(num_classes)
        self.trunk = nn.Sequential(
            nn.Conv1d(in_channels, width, 5),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(4),
            nn.Flatten(),
            nn.Dropout(0.2),
        )
        self.num_features = 4 * width
        self.heads = nn.ModuleList(nn.Linear(4 * width, n) for n in num_classes.values())

    def forward(self, signals):
        if SECONDS_PER_STEP and self.training:
            time.sleep(SECONDS_PER_STEP)
        return self.classify(self.features(signals))

    def features(self, signals):
        return self.trunk(signals)

    def classify(self, features):
        return {task: head(features) for task, head in zip(self.tasks, self.heads, strict=True)}


def make_windows(num_subjects=6, per_subject=20, seed=0, samples=40):
    """Two tasks that can be learnt in part; some windows have no label for the second."""
    rng = np.random.default_rng(seed)
    count = num_subjects * per_subject
    activity, placement = rng.integers(0, 4, count), rng.integers(0, 2, count)
    signals = rng.normal(size=(count, 3, samples)).astype(np.float32)
    signals[:, 0] += 0.8 * activity[:, None]
    signals[:, 1] *= 1.0 + placement[:, None]
    placement[rng.random(count) < 0.1] = -100
    return Windows(
        signals,
        targets={"activity": activity, "placement": placement},
        subjects=np.repeat([f"s{number}" for number in range(num_subjects)], per_subject),
        sample_rate_hz=20.0,
        class_names={"activity": ("lie", "sit", "walk", "run"), "placement": ("wrist", "hip")},
        channel_names=("x", "y", "z"),
    )


def make_trainer(out, **changes):
    """Three folds of four epochs of eleven steps."""
    options = {
        "epochs": 4,
        "batch_size": 8,
        "lr": 0.01,
        "device": "cpu",
        "progress": False,
        "model": "tiny-net",
        "method_options": {"decay": 0.9},
    }
    return Trainer(out=out, **(options | changes))


def main():
    global SECONDS_PER_STEP
    action, folder, seconds = sys.argv[1:4]
    SECONDS_PER_STEP = float(seconds)
    torch.set_num_threads(1)
    MODELS["tiny-net"] = TinyNet
    try:
        if action == "train":
            make_trainer(folder, save_every_steps=3).fit(make_windows(), num_folds=3)
        else:
            Trainer.resume(folder, data=make_windows())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
