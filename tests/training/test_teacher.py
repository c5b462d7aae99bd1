"""Runs with a teacher of another kind: trained before the student, beside it, or in another run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from smoothdistill.errors import CheckpointError, DataError, SplitLeakError
from smoothdistill.methods import KD
from smoothdistill.models import MTLNet
from smoothdistill.training import Run, RunConfig, Trainer
from smoothdistill.training.interrupt import StopRequest

TEACHER = {"model": {"name": "mtl-net"}, "train": {"epochs": 1, "lr": 0.002}}
EQUAL_FILES = ("predictions.csv.gz", "metrics.csv", "config.toml", "splits.json")


def config_of(method="kd", teacher=TEACHER, **train):
    table = {
        "model": {"name": "har-mlp", "width": 0.1},
        "method": {"name": method},
        "train": {"epochs": 2, "batch_size": 16, "device": "cpu", "path": "general", **train},
        "split": {"num_folds": 3},
    }
    return RunConfig.from_table(table | ({} if teacher is None else {"teacher": teacher}))


def fit(folder, windows, config=None):
    return Trainer.from_config(config or config_of(), out=folder, progress=False).fit(windows)


@pytest.fixture(scope="module")
def windows(tiny_module):
    return tiny_module.make_windows()


@pytest.fixture(scope="module")
def taught(windows, tmp_path_factory):
    """A finished run with a teacher of its own; not to be changed."""
    return fit(tmp_path_factory.mktemp("taught") / "run", windows)


@pytest.fixture
def copied(taught, tmp_path):
    return Run(shutil.copytree(taught.folder, tmp_path / "copy"))


def test_the_teacher_is_an_ordinary_run_in_the_folder(taught, windows, tmp_path):
    teacher = Run(taught.folder / "teacher")
    assert teacher.is_finished
    assert teacher.config == taught.config.of_teacher()
    assert teacher.config.train.lr == 0.002
    assert teacher.config.train.batch_size == 16
    assert teacher.folds == taught.folds
    alone = fit(tmp_path / "alone", windows, taught.config.of_teacher())
    for name in EQUAL_FILES:
        assert (teacher.folder / name).read_bytes() == (alone.folder / name).read_bytes(), name
    assert isinstance(teacher.checkpoint(0).model("student"), MTLNet)


def test_the_student_is_taught_by_its_own_fold(taught, windows, monkeypatch, tmp_path):
    seen = []
    take = KD.take_teacher

    def note(self, network):
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        take(self, network)

    monkeypatch.setattr(KD, "take_teacher", note)
    again = fit(tmp_path / "again", windows)
    teacher = Run(taught.folder / "teacher")
    expected = [teacher.selected(fold).state_dict() for fold in teacher.folds]
    for found, wanted in zip(seen[-3:], expected, strict=True):
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert (again.folder / "metrics.csv").read_bytes() == (
        taught.folder / "metrics.csv"
    ).read_bytes()


def test_a_teacher_from_another_run_gives_the_same_student(taught, windows, tmp_path):
    teacher = {**TEACHER, "run": str(taught.folder / "teacher")}
    run = fit(tmp_path / "run", windows, config_of(teacher=teacher))
    assert not (run.folder / "teacher").exists()
    name = "predictions.csv.gz"
    assert (run.folder / name).read_bytes() == (taught.folder / name).read_bytes()


# Looks for a signal: the teacher's three folds of one epoch are over after some 25 of them.
@pytest.mark.parametrize("num_calls", [0, 5, 20, 30, 45, 60])
def test_interrupted_anywhere_it_goes_on_to_the_same_bits(
    num_calls, taught, windows, tmp_path, monkeypatch
):
    calls = iter(range(10**9))
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda self: next(calls) >= num_calls)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "run", windows)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    run = Trainer.resume(tmp_path / "run", data=windows)
    assert run.is_finished
    for name in EQUAL_FILES:
        for folder in ("", "teacher"):
            one, two = run.folder / folder / name, taught.folder / folder / name
            assert one.read_bytes() == two.read_bytes(), (folder, name)


@pytest.fixture
def asked(monkeypatch):
    """Sizes of the batches that a teacher is shown in steps."""
    sizes = []
    ask = KD.teacher_logits

    def note(self, signals):
        sizes.append(len(signals))
        return ask(self, signals)

    monkeypatch.setattr(KD, "teacher_logits", note)
    return sizes


def test_a_teacher_that_says_the_same_in_every_epoch_is_asked_once(
    taught, windows, tmp_path, asked, monkeypatch
):
    fit(tmp_path / "once", windows)
    assert not asked  # before the first step, of all windows at once
    monkeypatch.setattr(KD, "learns_from_logits", False)
    always = fit(tmp_path / "always", windows)
    splits = json.loads((always.folder / "splits.json").read_text())
    assert sum(asked) == 2 * sum(fold["num_train"] for fold in splits["folds"])
    # Sums in another order: batches of up to 256 windows, and of 16.
    np.testing.assert_allclose(
        taught.history["train_total"], always.history["train_total"], rtol=1e-4
    )


def test_windows_that_vary_are_shown_to_the_teacher(windows, tmp_path, asked):
    table = config_of().to_table() | {"augment": {"scale": 0.1}}
    run = fit(tmp_path / "run", windows, RunConfig.from_table(table))
    assert len(asked) == 2 * sum(
        -(-fold["num_train"] // 16)
        for fold in json.loads((run.folder / "splits.json").read_text())["folds"]
    )


def test_a_student_is_used_without_its_teacher(copied, windows):
    shutil.rmtree(copied.folder / "teacher")
    signals = torch.from_numpy(windows.signals[:4])
    for role in ("student", "teacher", "selected"):
        logits = copied.checkpoint(0).model(role)(signals)
        assert {task: tuple(values.shape) for task, values in logits.items()} == {
            "activity": (4, 4),
            "placement": (4, 2),
        }


def test_a_teacher_trained_beside_is_kept_as_what_it_is(windows, tmp_path):
    config = config_of("hmkd", {"model": {"name": "mtl-net"}})
    run = fit(tmp_path / "run", windows, config)
    assert not (run.folder / "teacher").exists()
    checkpoint = run.checkpoint(0)
    assert type(checkpoint.model("teacher")).__name__ == "MTLNet"
    assert type(checkpoint.model("student")).__name__ == "HARMLP"
    assert checkpoint.description.selected == "student"
    assert set(run.summary["tasks"]["activity"]) == {"student", "teacher"}


def _other_folds(run):
    splits = json.loads((run.folder / "splits.json").read_text())
    splits["folds"][1]["digest"] = "0" * 64
    (run.folder / "splits.json").write_text(json.dumps(splits))


def _fewer_folds(run):
    splits = json.loads((run.folder / "splits.json").read_text())
    splits["folds"].pop()
    (run.folder / "splits.json").write_text(json.dumps(splits))


def _other_data(run):
    about = json.loads((run.folder / "data.json").read_text())
    about["fingerprint"] = "f" * 64
    (run.folder / "data.json").write_text(json.dumps(about))


def _not_finished(run):
    (run.folder / "status.json").write_text('{"state": "running"}')


@pytest.mark.parametrize(
    ("spoil", "kind", "sentence"),
    [
        (_other_folds, SplitLeakError, r"very folds of its student, but fold 1 of .* is another"),
        (_fewer_folds, SplitLeakError, r"very folds of its student, but fold 2 of .* is another"),
        (_other_data, DataError, r"fingerprint [0-9a-f]{16}, but .* has f{16} instead\."),
        (_not_finished, CheckpointError, r"a finished run, but .* is not instead\."),
    ],
)
def test_a_teacher_of_other_data_or_folds_is_refused(
    spoil, kind, sentence, copied, windows, tmp_path
):
    teacher = Run(copied.folder / "teacher")
    spoil(teacher)
    config = config_of(teacher={**TEACHER, "run": str(teacher.folder)})
    with pytest.raises(kind, match=r"`teacher\.run` must be .*" + sentence):
        fit(tmp_path / "run", windows, config)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_a_teacher_that_saw_other_units_is_refused(taught, windows, tmp_path):
    teacher = {**TEACHER, "run": str(taught.folder / "teacher")}
    with pytest.raises(ValueError, match=r"`teacher\.run` must have `train\.standardize` as its"):
        fit(tmp_path / "run", windows, config_of(teacher=teacher, standardize=False))


def test_another_run_in_the_teachers_place_is_refused(windows, tmp_path):
    other = config_of(teacher={**TEACHER, "train": {"epochs": 2}}).of_teacher()
    fit(tmp_path / "run" / "teacher", windows, other)
    with pytest.raises(CheckpointError, match="`out` must hold no other run as its `teacher`, but"):
        fit(tmp_path / "run", windows)


def test_ctrl_c_before_the_teachers_first_step_loses_nothing(
    taught, windows, tmp_path, monkeypatch
):
    from smoothdistill.training import run_execution

    real, calls = run_execution.describe_splits, iter(range(10))

    def interrupt(*arguments):
        if next(calls) == 1:  # the teacher's
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run_execution, "describe_splits", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "run", windows)
    run = Trainer.resume(tmp_path / "run", data=windows)
    name = "predictions.csv.gz"
    assert (run.folder / name).read_bytes() == (taught.folder / name).read_bytes()


def test_too_few_epochs_are_refused_before_the_teacher_is_trained(windows, tmp_path):
    with pytest.raises(ValueError, match=r"`train\.epochs` must be above 2, those for the stages"):
        fit(tmp_path / "run", windows, config_of("smldist"))
    assert not (tmp_path / "run").exists()


def test_a_teacher_from_a_run_is_of_that_runs_kind(windows, tmp_path):
    """What `teacher.model` would be by default has no part in it."""
    small = {"model": {"name": "har-mlp", "width": 0.05}, "train": {"epochs": 1}}
    source = fit(tmp_path / "source", windows, config_of(teacher=small).of_teacher())
    config = config_of("fitnets", {"run": str(source.folder)})
    run = fit(tmp_path / "run", windows, config)
    assert run.is_finished
    assert run.checkpoint(0).description.teacher_model is None
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit(tmp_path / "other", windows, config_of(teacher={"run": "nowhere"}))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("method", "teacher", "sentence"),
    [
        ("kd", None, r"`teacher\.model\.name` must be given for the method kd, but is missing"),
        ("hmkd", None, r"`teacher\.model\.name` must be given for the method hmkd"),
        ("multitask", TEACHER, "`teacher` must be left out for the method multitask, which has"),
        ("hmkd", {"run": "somewhere"}, r"`teacher\.run` must be left out for the method hmkd"),
        ("kd", {"train": {"seed": 1}}, r"`teacher\.train\.seed` must be left to `train\.seed`"),
        ("kd", {"train": {"epoch": 1}}, r"`teacher\.train\.epoch` must be one of the known keys"),
        ("kd", {"train": {"epochs": 0}}, r"`teacher\.train\.epochs` must be at least 1, but is 0"),
        ("hmkd", {"train": {"epochz": 1}}, r"`teacher\.train\.epochz` must be one of the known"),
        ("kd", {"method": {"name": "kd"}}, r"`teacher\.method\.name` must be a method without"),
        ("kd", {"model": {"name": "x"}}, r"`model\.name` must be one of"),
        ("kd", {"modl": {}}, r"`teacher\.modl` must be one of the known keys"),
    ],
)
def test_teachers_without_sense_are_one_sentence(method, teacher, sentence):
    with pytest.raises(ValueError, match=sentence):
        config_of(method, teacher)


def test_a_configuration_with_a_teacher_is_read_back():
    config = config_of("kd")
    assert RunConfig.from_toml(config.to_toml()) == config
    assert config.with_overrides(["teacher.train.epochs=7"]).of_teacher().train.epochs == 7
    assert "teacher" not in config_of("multitask", None).to_table()
