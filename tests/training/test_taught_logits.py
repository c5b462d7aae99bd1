"""A teacher's logits of the training windows: its own, for those alone, or not at all."""

from __future__ import annotations

import numpy as np
import torch

from smoothdistill.models import HARMLP
from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.standardization import Standardization
from smoothdistill.training.taught_logits import TaughtLogits
from smoothdistill.windows import Windows

CLASSES = {"activity": 4, "placement": 2}
NUM_WINDOWS = 600  # three batches
STANDARDIZATION = Standardization(torch.full((3,), 2.0), torch.full((3,), 3.0))


def make(chosen):
    torch.manual_seed(0)
    teacher = HARMLP(CLASSES, 3, 30, width=0.1).eval()
    rng = np.random.default_rng(0)
    windows = Windows(
        rng.normal(2.0, 3.0, (NUM_WINDOWS, 3, 30)).astype(np.float32),
        targets={task: np.zeros(NUM_WINDOWS, np.int64) for task in CLASSES},
        subjects=np.full(NUM_WINDOWS, "s"),
        sample_rate_hz=20.0,
    )
    data = DeviceWindows(windows, torch.device("cpu"))
    return teacher, data, TaughtLogits(teacher, data, chosen, STANDARDIZATION)


def test_they_are_what_the_teacher_says_of_the_windows_that_were_chosen():
    chosen = np.random.default_rng(1).permutation(NUM_WINDOWS)[:517]
    teacher, data, taught = make(chosen)
    assert taught.compute()
    with torch.no_grad():
        expected = teacher((data.signals - 2.0) / 3.0)
    found = taught.of_batch(chosen[::-1].copy())
    assert found.keys() == CLASSES.keys()
    for task, logits in found.items():
        torch.testing.assert_close(logits, expected[task][chosen[::-1].copy()])
        assert not logits.requires_grad
    others = np.setdiff1d(np.arange(NUM_WINDOWS), chosen)
    assert all(logits.isnan().all() for logits in taught.of_batch(others).values())


def test_they_are_computed_once_and_not_by_halves():
    teacher, _, taught = make(np.arange(NUM_WINDOWS))
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    answers = iter([False, True])
    assert not taught.compute(lambda: next(answers))
    assert taught.of_batch(np.arange(3)) == {}
    assert len(calls) == 1
    assert taught.compute()
    assert len(calls) == 4
    assert taught.compute()
    assert len(calls) == 4
