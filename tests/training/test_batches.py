"""Batches are the windows asked for, in their order, and lie in memory alike in every run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.standardization import Standardization
from smoothdistill.windows import Windows

NUM_WINDOWS = 3000
SHIFT = Standardization(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0]))


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(0)
    return Windows(
        rng.normal(size=(NUM_WINDOWS, 2, 5)).astype(np.float32),
        targets={"activity": rng.integers(0, 4, NUM_WINDOWS), "where": np.arange(NUM_WINDOWS)},
        subjects=np.full(NUM_WINDOWS, "s"),
        sample_rate_hz=20.0,
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("count", [1, 64, 1024, 2501])
def test_batches_are_the_chosen_windows_in_order(windows, batch_size, count):
    order = np.random.default_rng(1).permutation(NUM_WINDOWS)[:count]
    data = DeviceWindows(windows, torch.device("cpu"))
    before = data.signals.clone()
    batches = list(data.batches(order, batch_size, SHIFT))
    assert len(batches) == -(-count // batch_size)
    for number, (signals, targets) in enumerate(batches):
        chosen = order[number * batch_size : (number + 1) * batch_size]
        expected = SHIFT.apply_(torch.from_numpy(windows.signals[chosen]))
        assert torch.equal(signals, expected)
        assert signals.is_contiguous()
        assert list(targets) == ["activity", "where"]
        assert torch.equal(targets["where"], torch.from_numpy(chosen))
        assert torch.equal(
            targets["activity"], torch.from_numpy(windows.targets["activity"][chosen])
        )
    assert torch.equal(data.signals, before)


@pytest.mark.parametrize("first", [0, 1, 145, 146, 147, 300, 357, 358, 400])
def test_beginning_later_gives_the_same_batches_in_the_same_places(windows, first):
    order = np.random.default_rng(2).permutation(NUM_WINDOWS)[:2501]
    data = DeviceWindows(windows, torch.device("cpu"))
    whole = list(data.batches(order, 7, SHIFT))[first:]
    later = list(data.batches(order, 7, SHIFT, first=first))
    assert len(later) == len(whole)
    for (signals, targets), (expected, labels) in zip(later, whole, strict=True):
        assert torch.equal(signals, expected)
        assert signals.storage_offset() == expected.storage_offset()
        assert all(torch.equal(targets[task], labels[task]) for task in labels)


def test_without_windows_there_are_no_batches(windows):
    data = DeviceWindows(windows, torch.device("cpu"))
    assert list(data.batches(np.zeros(0, np.int64), 64, SHIFT)) == []
