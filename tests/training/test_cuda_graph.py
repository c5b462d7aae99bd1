"""Steps by CUDA graphs: their bookkeeping anywhere, with a stand-in for the graph; all on a GPU."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from smoothdistill.models import MTLNet
from smoothdistill.ops import _backend
from smoothdistill.optim import AdamEMA
from smoothdistill.training import TrainStep
from smoothdistill.training.batches import Batch
from smoothdistill.training.cuda_graph import GraphedSteps
from smoothdistill.training.device_step import DeviceStep
from smoothdistill.training.skipped_steps import SkippedSteps
from smoothdistill.training.step_log import StepLog

CLASSES = {"activity": 5, "placement": 3}


class Recorder:
    """A graph that runs the function again; like a real one it runs nothing when it is made."""

    def __init__(self):
        self.num_captures = self.num_replays = 0

    def aside(self):
        return nullcontext()

    def __call__(self, run):
        self.num_captures += 1

        def replay():
            self.num_replays += 1
            run()

        return replay


def _batch(seed, size=8, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(size, 3, 40, generator=generator)
    targets = {
        task: torch.randint(classes, (size,), generator=generator)
        for task, classes in CLASSES.items()
    }
    return signals.to(device), {task: labels.to(device) for task, labels in targets.items()}


def _net(tiny):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = tiny.TinyNet(CLASSES)
    net.trunk[-1].p = 0.0
    return net


@pytest.fixture
def on_device(tiny):
    """A step as on a GPU, and one as on a CPU, of equal networks."""
    net = _net(tiny)
    plain = TrainStep(copy.deepcopy(net), "smooth-distill", lr=0.01)
    method = plain.method
    teacher = method.build_teacher(net)
    optimizer = AdamEMA(net.parameters(), lr=0.01, teacher=teacher, capturable=True)
    skips = SkippedSteps(torch.device("cpu"), 5)

    def loss(signals, targets, taught):
        assert taught is None
        net.train()
        return method.batch_loss(net, teacher.model, signals, targets)

    return DeviceStep(loss, net, optimizer, skips, check_gradients=True), plain, optimizer, skips


def _state(model, teacher):
    return [*model.state_dict().values(), *teacher.state_dict().values()]


def _assert_equal(step, plain, optimizer):
    teacher = optimizer.teacher
    for now, expected in zip(
        _state(teacher.student, teacher), _state(plain.model, plain.teacher), strict=True
    ):
        assert torch.equal(now, expected)


def test_a_step_on_the_device_is_that_of_a_cpu(on_device):
    step, plain, optimizer, skips = on_device
    for number in range(7):
        signals, targets = _batch(number)
        if number == 3:
            signals[0, 0, 0] = float("nan")
        out, expected = step(signals, targets), plain(signals, targets)
        assert not out.total.requires_grad
        for mine, other in zip(out, expected, strict=True):
            assert torch.equal(mine.isnan(), other.isnan())
            assert torch.equal(mine.nan_to_num(), other.nan_to_num())
    _assert_equal(step, plain, optimizer)
    assert skips.counts.tolist() == [1, 0, 1]
    assert plain.num_skipped == 1
    assert optimizer.teacher.num_updates == 6


def test_graphs_are_made_once_for_each_size_of_batch(on_device):
    step, plain, optimizer, _ = on_device
    recorder = Recorder()
    steps = GraphedSteps(step, optimizer.write_rates, recorder)
    outs, expected = [], []
    for number in range(20):
        batch = _batch(number, size=5 if number % 4 == 3 else 8)
        optimizer.param_groups[0]["lr"] = plain.optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
        outs.append(steps(*batch))
        expected.append(plain(*batch))
    assert recorder.num_captures == 2, "one for each size, though sizes alternate"
    assert recorder.num_replays == (15 - 3) + (5 - 3)
    for out, other in zip(outs, expected, strict=True):
        assert type(out) is type(other)
        assert all(torch.equal(a, b) for a, b in zip(out, other, strict=True)), "overwritten"
    _assert_equal(step, plain, optimizer)


def test_a_rate_is_written_before_each_replay(on_device):
    step, _, optimizer, _ = on_device
    prepared = []
    steps = GraphedSteps(step, lambda: prepared.append(optimizer.write_rates()), Recorder())
    for number in range(6):
        steps(*_batch(number))
    assert len(prepared) == 3 + 1, "before each replay, and before the capture"


def test_batches_are_taken_from_what_was_loaded(on_device):
    step, plain, optimizer, _ = on_device
    recorder, log = Recorder(), StepLog(torch.device("cpu"))
    steps = GraphedSteps(step, optimizer.write_rates, recorder, log.write)
    for number, count in enumerate((30, 21, 30, 30, 30, 30, 8)):
        signals, targets = _batch(number, size=count)
        steps.load(Batch(signals, targets))
        expected = []
        for begin in range(0, count, 8):
            batch = slice(begin, begin + 8)
            parts = plain(signals[batch], {task: labels[batch] for task, labels in targets.items()})
            expected.append([float(parts.total), *parts.num_correct.tolist()])
            steps.train(len(signals[batch]))
            log.note(len(signals[batch]))
            if begin == 8:  # a step by itself takes nothing from the others
                for one in (steps, plain):
                    one(*_batch(100 + number))
        rows = log.read()
        assert rows[:, 0].tolist() == [min(8, count - begin) for begin in range(0, count, 8)]
        found = np.column_stack([rows[:, 1] / rows[:, 0], rows[:, [4, 8]]])
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    _assert_equal(step, plain, optimizer)
    assert steps.num_graphs == recorder.num_captures == 3, "of 8, and of 8 and 6 that are logged"


def test_a_greater_load_takes_more_memory_and_other_graphs(on_device):
    step, plain, optimizer, _ = on_device
    recorder = Recorder()
    steps = GraphedSteps(step, optimizer.write_rates, recorder)
    for number, count in enumerate((40, 40, 56)):
        signals, targets = _batch(number, size=count)
        steps.load(Batch(signals, targets))
        for begin in range(0, count, 8):
            batch = slice(begin, begin + 8)
            steps.train(8)
            plain(signals[batch], {task: labels[batch] for task, labels in targets.items()})
    assert (recorder.num_captures, steps.num_graphs) == (2, 1)
    _assert_equal(step, plain, optimizer)


def test_other_steps_are_captured_anew_after_eager_ones(on_device):
    step, plain, optimizer, _ = on_device
    recorder = Recorder()
    steps = GraphedSteps(step, optimizer.write_rates, recorder)
    for number in range(12):
        if number in (5, 6):
            steps.clear()
        steps(*_batch(number))
        plain(*_batch(number))
    assert (recorder.num_captures, recorder.num_replays) == (2, 5)
    _assert_equal(step, plain, optimizer)


def test_no_moments_come_to_be_within_a_capture(on_device):
    """A replay would set them to zero again."""
    step, _, optimizer, _ = on_device

    class Watching(Recorder):
        def __call__(self, run):
            def watched():
                before = len(optimizer.state)
                run()
                assert len(optimizer.state) == before > 0

            return super().__call__(watched)

    recorder = Watching()
    steps = GraphedSteps(step, optimizer.write_rates, recorder)
    for number in range(12):
        if number == 5:  # as where a method begins anew
            optimizer.state.clear()
            optimizer._companions.clear()
            steps.clear()
        steps(*_batch(number))
    assert (recorder.num_captures, recorder.num_replays) == (2, 6)


def test_what_cannot_be_captured_is_run_eagerly_with_one_warning(on_device):
    step, plain, optimizer, _ = on_device

    class Failing(Recorder):
        def __call__(self, run):
            if self.num_captures == 1:
                self.num_captures += 1
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            return super().__call__(run)

    recorder = Failing()
    steps = GraphedSteps(step, optimizer.write_rates, recorder)

    def both(number, size):
        steps(*_batch(number, size))
        plain(*_batch(number, size))

    for number in range(8):
        both(number, 8 if number < 5 else 6)
    assert steps.num_graphs == 1, "of 8"
    with pytest.warns(
        UserWarning, match=r"captured in a CUDA graph \(operation not permitted when"
    ):
        both(8, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(9, 14):
            both(number, 8 if number % 2 else 6)
    assert (recorder.num_captures, recorder.num_replays, steps.num_graphs) == (2, 2, 0)
    _assert_equal(step, plain, optimizer)


def test_a_cpu_has_no_graphs(tiny):
    step = TrainStep(_net(tiny), "smooth-distill")
    assert step._graphs is None
    assert not step.optimizer.capturable


# ---- With a GPU ----------------------------------------------------------------------------------


@pytest.fixture
def _kernels():
    if _backend.cuda_module is None:
        pytest.skip("needs the CUDA kernels: SMOOTHDISTILL_BACKEND=cuda")


def _mtl_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MTLNet(CLASSES, in_channels=3, window_samples=40).cuda()


@pytest.mark.cuda
@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("method", ["multitask", "smooth-distill", "sd-dropout"])
def test_a_graph_trains_as_its_step_does(method):
    steps = {path: TrainStep(_mtl_net(), method, path=path) for path in ("auto", "general")}
    for number in range(20):
        batch = _batch(number, size=5 if number % 4 == 3 else 8, device="cuda")
        outs = {}
        for path, step in steps.items():
            torch.manual_seed(number)
            step.optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
            outs[path] = step(*batch)
        torch.testing.assert_close(outs["auto"].total, outs["general"].total)
    assert steps["auto"]._graphs.num_graphs == 2, "one for each size"
    for mine, other in zip(*(step.model.parameters() for step in steps.values()), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.usefixtures("_kernels")
def test_random_numbers_go_on_where_a_capture_failed():
    class Reading(nn.Module):
        """Asks for a number, which no capture allows, between two draws of random ones."""

        tasks = tuple(CLASSES)

        def __init__(self):
            super().__init__()
            self.inner = _mtl_net()

        def forward(self, signals):
            signals = nn.functional.dropout(signals, 0.1, self.training)
            scale = 1.0 + 0.0 * signals.sum().item()
            return self.inner(scale * nn.functional.dropout(signals, 0.1, self.training))

    totals = {}
    for path in ("auto", "general"):
        step = TrainStep(Reading(), "multitask", path=path)
        torch.manual_seed(0)
        with pytest.warns(UserWarning, match="captured in") if path == "auto" else nullcontext():
            totals[path] = [step(*_batch(n, device="cuda")).total.item() for n in range(8)]
    assert totals["auto"] == pytest.approx(totals["general"], rel=1e-4)


@pytest.mark.cuda
@pytest.mark.usefixtures("_kernels")
def test_a_replay_waits_for_nothing_and_takes_no_memory(without_waits):
    step = TrainStep(_mtl_net(), "smooth-distill", check_every_steps=10_000)
    batch = _batch(0, device="cuda")
    for _ in range(8):
        step(*batch)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    with without_waits():
        for _ in range(50):
            step(*batch)
    assert torch.cuda.memory_allocated() <= before
    assert step.num_skipped == 0
    assert step.teacher.num_updates == 58


@pytest.mark.cuda
@pytest.mark.usefixtures("_kernels")
def test_a_step_without_a_finite_loss_changes_nothing_in_a_replay():
    step = TrainStep(_mtl_net(), "smooth-distill")
    for number in range(5):
        step(*_batch(number, device="cuda"))
    before = [t.clone() for t in _state(step.model, step.teacher)]
    signals, targets = _batch(5, device="cuda")
    step(signals.fill_(float("nan")), targets)
    for now, then in zip(_state(step.model, step.teacher), before, strict=True):
        assert torch.equal(now, then)
    assert step.num_skipped == 1
