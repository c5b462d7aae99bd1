from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.training import Run, Trainer
from smoothdistill.training.interrupt import StopRequest

EQUAL_FILES = ("predictions.csv.gz", "metrics.csv", "per_subject.csv", "splits.json", "config.toml")


def _assert_bit_equal(run, expected):
    for name in EQUAL_FILES:
        assert (run.folder / name).read_bytes() == (expected.folder / name).read_bytes(), name
    for name, values in expected.history.items():
        if name != "seconds":
            assert run.history[name].tolist() == values.tolist(), name
    assert {**run.summary, "seconds": 0} == {**expected.summary, "seconds": 0}
    for fold in expected.folds:
        one, two = run.checkpoint(fold), expected.checkpoint(fold)
        assert one.description == two.description
        for role, state in two.weights.items():
            assert all(torch.equal(one.weights[role][key], state[key]) for key in state)
        states = [_last(r, fold) for r in (run, expected)]
        assert states[0].keys() == states[1].keys()
        for key, value in states[1].items():
            if key == "history":  # its second column is the time
                assert torch.equal(states[0][key][:, 2:], value[:, 2:])
            else:
                assert torch.equal(states[0][key], value), key
    assert not list(run.folder.rglob("*.partial"))


def _last(run, fold):
    from smoothdistill.training.checkpoint import load_checkpoint

    return load_checkpoint(run.folder / f"fold-{fold:02d}" / "last.safetensors").tensors


def _interrupt_after(monkeypatch, num_calls):
    """Make the trainer believe that Ctrl-C was pressed, at one of its looks for a signal."""
    calls = iter(range(10**9))
    monkeypatch.setattr(StopRequest, "requested", lambda self: next(calls) >= num_calls)


# An epoch has 8 steps and takes 11 looks: its steps, the validation of each role, its end. The
# numbers hit the first step, the middle, the last steps, the validations, the end, the next
# epoch, and the other folds.
@pytest.mark.parametrize("num_calls", [0, 3, 6, 7, 8, 9, 10, 11, 50, 90, 130])
def test_every_point_of_interruption_resumes_bit_equally(
    finished_run, tiny, tmp_path, monkeypatch, num_calls
):
    trainer = tiny.make_trainer(tmp_path / "run", save_every_steps=3)
    with monkeypatch.context() as patch:
        _interrupt_after(patch, num_calls)
        with pytest.raises(KeyboardInterrupt, match="The run was saved in fold"):
            trainer.fit(tiny.make_windows(), num_folds=3)
    assert Run(tmp_path / "run").status["state"] == "interrupted"
    run = Trainer.resume(tmp_path / "run", data=tiny.make_windows())
    _assert_bit_equal(run, finished_run)


def test_many_interruptions(finished_run, tiny, tmp_path, monkeypatch):
    num_resumes = 0
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 25)
        with pytest.raises(KeyboardInterrupt):
            tiny.make_trainer(tmp_path / "run", save_every_steps=3).fit(
                tiny.make_windows(), num_folds=3
            )
    while not Run(tmp_path / "run").is_finished:
        with monkeypatch.context() as patch:
            _interrupt_after(patch, 25)
            try:
                Trainer.resume(tmp_path / "run", data=tiny.make_windows())
            except KeyboardInterrupt:
                num_resumes += 1
    assert num_resumes >= 3
    _assert_bit_equal(Run(tmp_path / "run"), finished_run)


def test_a_save_at_ends_of_epochs_only(finished_run, tiny, tmp_path, monkeypatch):
    """Without a signal to answer, a run that dies goes on from the last end of an epoch."""
    calls = iter(range(10**9))

    def die(self):
        if next(calls) >= 50:
            raise MemoryError
        return False

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "requested", die)
        with pytest.raises(MemoryError):
            tiny.make_trainer(tmp_path / "run").fit(tiny.make_windows(), num_folds=3)
    assert Run(tmp_path / "run").status["state"] == "failed"
    run = Trainer.resume(tmp_path / "run", data=tiny.make_windows())
    for name in EQUAL_FILES[:-1]:  # the configuration differs in save_every_steps
        assert (run.folder / name).read_bytes() == (finished_run.folder / name).read_bytes(), name


def test_a_finished_run_is_returned_as_it_is(finished_run):
    before = {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*")}
    assert Trainer.resume(finished_run.folder).summary == finished_run.summary
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*")}


@pytest.fixture
def interrupted(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 60)
        with pytest.raises(KeyboardInterrupt):
            tiny.make_trainer(tmp_path / "run").fit(tiny.make_windows(), num_folds=3)
    return tmp_path / "run"


def test_resume_needs_the_same_windows(interrupted, tiny):
    with pytest.raises(
        ValueError, match="`data` must be the windows that the run was started with"
    ):
        Trainer.resume(interrupted)
    with pytest.raises(DataError, match=r"`data` must have the fingerprint .* but has"):
        Trainer.resume(interrupted, data=tiny.make_windows(seed=1))


def test_resume_loads_data_that_a_configuration_names(tiny, tmp_path, monkeypatch):
    import smoothdistill.training.run_execution as execution
    import smoothdistill.training.trainer as module

    for part in (execution, module):
        monkeypatch.setattr(part, "load_windows", lambda config: tiny.make_windows())
    options = {"model": {"name": "tiny-net"}, "train": {"epochs": 1}}
    config = module.RunConfig.from_table(options)
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 9)
        with pytest.raises(KeyboardInterrupt):
            Trainer.from_config(config, out=tmp_path / "run").fit()
    assert Trainer.resume(tmp_path / "run").is_finished


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        (
            "config.toml",
            lambda text: text.replace("epochs = 4", "epochs = 5"),
            "`config` must be what",
        ),
        ("config.toml", lambda text: text.replace("epochs", "epoch"), r"readable config\.toml"),
        ("config.toml", lambda text: "[", r"readable config\.toml"),
        ("data.json", lambda text: text[: len(text) // 2], r"readable data\.json"),
        ("splits.json", lambda text: "{}", r"`splits\.json` must describe the folds"),
    ],
)
def test_a_damaged_run_folder_is_refused(interrupted, tiny, name, damage, sentence):
    path = interrupted / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(CheckpointError, match=sentence):
        Trainer.resume(interrupted, data=tiny.make_windows())


def test_a_damaged_state_is_refused(interrupted, tiny):
    path = interrupted / "fold-00" / "last.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="its content does not match its digest"):
        Trainer.resume(interrupted, data=tiny.make_windows())


def test_a_state_of_another_fold_is_refused(interrupted, finished_run, tiny):
    shutil.copy(finished_run.folder / "fold-01" / "last.safetensors", interrupted / "fold-00")
    with pytest.raises(CheckpointError, match=r"must be what the run in .* was started with"):
        Trainer.resume(interrupted, data=tiny.make_windows())


def _start(script, folder, seconds_per_step):
    return subprocess.Popen(
        [sys.executable, str(script), "train", str(folder), str(seconds_per_step)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _wait_for_fold(folder, process, fold, epoch):
    """Wait until the run has saved a state in the given fold and epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status = json.loads((folder / "status.json").read_text())
        except (OSError, ValueError):
            status = {}
        if (status.get("fold", -1), status.get("epoch", -1)) >= (fold, epoch):
            return
        time.sleep(0.002)
    raise AssertionError(f"the run did not get so far: {process.communicate()[1]}")


@pytest.mark.parametrize("place", [(0, 1), (1, 2)])
def test_kill_nine_and_resume(finished_run, tiny, tiny_script, tmp_path, place):
    folder = tmp_path / "run"
    process = _start(tiny_script, folder, 0.02)
    _wait_for_fold(folder, process, *place)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert Run(folder).status["state"] == "running"
    run = Trainer.resume(folder, data=tiny.make_windows())
    _assert_bit_equal(run, finished_run)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_exits(finished_run, tiny, tiny_script, tmp_path, number, code):
    folder = tmp_path / "run"
    process = _start(tiny_script, folder, 0.02)
    _wait_for_fold(folder, process, 0, 2)
    process.send_signal(number)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5.0
    assert process.returncode == code
    assert "Traceback" not in errors
    assert Run(folder).status["state"] == "interrupted"
    run = Trainer.resume(folder, data=tiny.make_windows())
    _assert_bit_equal(run, finished_run)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_second_signal_leaves_at_once(number, code):
    script = textwrap.dedent(f"""
        import os, signal, time
        from smoothdistill.training.interrupt import StopRequest
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.{number})
            assert stop.requested()
            os.kill(os.getpid(), signal.{number})
            time.sleep(30)
    """)
    process = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert process.returncode == code


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
