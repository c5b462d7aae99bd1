"""Trainings that take turns compute what each computes by itself."""

from __future__ import annotations

import signal

import pytest
import torch

from smoothdistill.errors import NonFiniteError
from smoothdistill.training import Trainer, run_execution, turns
from smoothdistill.training.fold_trainer import FoldTrainer
from smoothdistill.training.interrupt import StopRequest
from smoothdistill.training.turns import in_one_go, side_by_side

CPU = torch.device("cpu")


@pytest.fixture
def _by_turns_on_a_cpu(monkeypatch):
    for module in (turns, run_execution):
        monkeypatch.setattr(module, "gains_by_turns", lambda device: True)


def _draw(names, log, name):
    for _ in range(3):
        log.append(name)
        names.setdefault(name, []).append(torch.rand(2).tolist())
        yield
    return name


@pytest.mark.usefixtures("_by_turns_on_a_cpu")
def test_turns_are_taken_in_order_and_each_draws_its_own_numbers():
    torch.manual_seed(5)
    alone = {}
    in_one_go(_draw(alone, [], "a"))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found, log = {}, []
    result = in_one_go(side_by_side([_draw(found, log, name) for name in "abc"], CPU))
    assert result == ["a", "b", "c"]
    assert log == list("abc" * 3)
    assert found["a"] == found["b"] == found["c"] == alone["a"]
    assert torch.equal(torch.get_rng_state(), before), "the caller's stay where they were"


@pytest.mark.usefixtures("_by_turns_on_a_cpu")
def test_no_more_than_so_many_at_a_time():
    found, log = {}, []
    in_one_go(side_by_side((_draw(found, log, name) for name in "abc"), CPU, most=2))
    assert "".join(log) == "ababab" + "ccc"


def test_a_cpu_trains_one_after_the_other():
    found, log = {}, []
    in_one_go(side_by_side([_draw(found, log, name) for name in "ab"], CPU))
    assert "".join(log) == "aaabbb"


@pytest.mark.usefixtures("_by_turns_on_a_cpu")
def test_one_that_fails_does_not_keep_others_from_their_end():
    def failing(error):
        yield
        raise error

    found, log = {}, []
    trainings = [
        failing(ValueError("first")), _draw(found, log, "a"), failing(KeyError("second"))
    ]  # fmt: skip
    with pytest.raises(ValueError, match="first"):
        in_one_go(side_by_side(trainings, CPU))
    assert log == ["a"] * 3


@pytest.mark.usefixtures("_by_turns_on_a_cpu")
def test_who_gives_up_closes_what_is_under_way():
    closed = []

    def training(name):
        try:
            while True:
                yield
        finally:
            closed.append(name)

    both = side_by_side([training("a"), training("b")], CPU)
    next(both)
    next(both)
    both.close()
    assert closed == ["a", "b"]


def _assert_same_run(one, two):
    for name in ("predictions.csv.gz", "metrics.csv", "per_subject.csv"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name
    for fold in one.folds:
        mine, other = one.checkpoint(fold), two.checkpoint(fold)
        for role, state in mine.weights.items():
            assert all(torch.equal(state[key], other.weights[role][key]) for key in state)


@pytest.mark.usefixtures("_by_turns_on_a_cpu")
def test_folds_side_by_side_are_the_folds_one_by_one(finished_run, tiny, tmp_path, monkeypatch):
    places = []
    monkeypatch.setattr(
        run_execution.Progress, "epoch_done", lambda self, place, *_, **__: places.append(place)
    )
    trainer = tiny.make_trainer(tmp_path / "run", side_by_side=True)
    run = trainer.fit(tiny.make_windows(), num_folds=3)
    assert places == [1, 2, 3] * 4
    _assert_same_run(run, finished_run)


@pytest.mark.usefixtures("_by_turns_on_a_cpu")
@pytest.mark.parametrize("num_calls", [2, 40, 100])
def test_a_signal_saves_every_fold_that_is_under_way(
    finished_run, tiny, tmp_path, monkeypatch, num_calls
):
    calls = iter(range(10**9))
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda self: next(calls) >= num_calls)
        with pytest.raises(KeyboardInterrupt, match="The run was saved in fold 0"):
            tiny.make_trainer(tmp_path / "run", side_by_side=True).fit(
                tiny.make_windows(), num_folds=3
            )
    assert len(list(tmp_path.glob("run/fold-0*/last.safetensors"))) == 3
    run = Trainer.resume(tmp_path / "run", data=tiny.make_windows(), side_by_side=True)
    _assert_same_run(run, finished_run)


@pytest.mark.usefixtures("_by_turns_on_a_cpu")
def test_a_fold_that_fails_is_all_that_a_resume_trains(finished_run, tiny, tmp_path, monkeypatch):
    find = FoldTrainer._test

    def fail(self, step, state):
        if self._fold.index == 1:
            raise NonFiniteError("fold 1")
        return find(self, step, state)

    with monkeypatch.context() as patch:
        patch.setattr(FoldTrainer, "_test", fail)
        with pytest.raises(NonFiniteError, match="fold 1"):
            tiny.make_trainer(tmp_path / "run", side_by_side=True).fit(
                tiny.make_windows(), num_folds=3
            )
    tested = []
    monkeypatch.setattr(
        FoldTrainer,
        "_test",
        lambda self, *at: tested.append(self._fold.index) or find(self, *at),
    )
    run = Trainer.resume(tmp_path / "run", data=tiny.make_windows())
    assert tested == [1]
    _assert_same_run(run, finished_run)


def test_runs_share_what_lies_on_the_device(tiny):
    windows = tiny.make_windows()
    first = run_execution._on_device(windows, windows.fingerprint(), CPU)
    assert run_execution._on_device(tiny.make_windows(), windows.fingerprint(), CPU) is first
    assert run_execution._on_device(windows, "another", CPU) is not first


def test_overlapping_blocks_all_hear_of_a_signal():
    before = signal.getsignal(signal.SIGTERM)
    first, second = StopRequest(), StopRequest()
    with first:
        second.__enter__()
    signal.raise_signal(signal.SIGTERM)  # the first block has ended, the second one has not
    assert (first.requested(), second.requested()) == (False, True)
    with StopRequest() as third:
        StopRequest.note_all(signal.SIGINT)
    assert third.signal_number == signal.SIGINT
    assert second.signal_number == signal.SIGTERM
    second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.cuda
def test_folds_on_streams_of_their_own_are_the_folds_one_by_one(tiny, tmp_path):
    runs = [
        tiny.make_trainer(tmp_path / name, device="cuda", side_by_side=name == "together").fit(
            tiny.make_windows(), num_folds=3
        )
        for name in ("alone", "together")
    ]
    for fold in range(3):
        mine, other = (run.checkpoint(fold) for run in runs)
        for role, state in mine.weights.items():
            for key, value in state.items():
                torch.testing.assert_close(value, other.weights[role][key], rtol=1e-3, atol=1e-4)
