"""Cells of a grid: what their names depend on, and the data that they are made of."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from smoothdistill.errors import DataError
from smoothdistill.evaluation import CompareConfig, compare
from smoothdistill.evaluation.comparison import plan as plan_module
from smoothdistill.evaluation.comparison.grid import train_grid
from smoothdistill.evaluation.comparison.plan import cell_key, forget_windows, make_plan
from smoothdistill.training import RunConfig, Trainer

TINY = """
[data]
name = "synthetic"
num_subjects = 6

[model]
name = "har-mlp"
width = 0.1

[train]
epochs = 1
device = "cpu"
path = "general"

[split]
num_folds = 2

[compare]
methods = ["multitask"]
"""


def _key(*overrides, fingerprint="f"):
    config = RunConfig.from_table({"split": {"folds": [0]}})
    return cell_key(config.with_overrides(overrides), fingerprint)


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=1", "train.epochs=2", "train.device=cuda", "split.folds=[1]",
        "data.num_subjects=7", "method.name=multitask", "method.decay=0.9", "method.warmup_steps=0",
        "model.name=har-mlp", "model.layout=published", "augment.jitter=0.1",
    ],
)  # fmt: skip
def test_a_key_depends_on_what_decides_the_result(override):
    assert _key(override) != _key()
    assert _key(fingerprint="g") != _key()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["data.root=elsewhere"], []),
        (["train.save_every_steps=7"], []),
        (["train.epochs=50", "method.warmup_steps=1000", "model.layout=axes"], []),
        (
            ["method.decay=0.9", "method.warmup_steps=5"],
            ["method.warmup_steps=5", "method.decay=0.9"],
        ),
        (["method.temperature=2"], ["method.temperature=2.0"]),
        (["train.device=cuda:0"], ["train.device=cuda:1"]),
        (["data.num_subjects=7", "data.seed=1"], ["data.seed=1", "data.num_subjects=7"]),
    ],
)
def test_a_key_depends_on_nothing_else(left, right):
    assert _key(*left) == _key(*right)


def test_a_student_is_named_by_its_teacher(tmp_path):
    taught = {
        "data": {"name": "synthetic", "num_subjects": 4},
        "model": {"name": "har-mlp", "width": 0.1},
        "train": {"epochs": 1, "device": "cpu", "path": "general"},
        "split": {"num_folds": 2, "folds": [0]},
    }
    student = RunConfig.from_table(
        {**taught, "method": {"name": "kd"}, "teacher": {"run": str(tmp_path / "teacher")}}
    )
    own = RunConfig.from_table(
        {**taught, "method": {"name": "kd"}, "teacher": {"train": {"epochs": 1}}}
    )
    assert cell_key(own, "f") == cell_key(
        own.with_overrides(["teacher.method.name=multitask"]), "f"
    )
    assert cell_key(own, "f") != cell_key(own.with_overrides(["teacher.train.epochs=2"]), "f")
    keys = [cell_key(own, "f"), cell_key(student, "f")]
    for seed in (0, 1):
        alone = RunConfig.from_table({**taught, "method": {"name": "multitask"}})
        alone = alone.with_overrides([f"train.seed={seed}"])
        shutil.rmtree(tmp_path / "teacher", ignore_errors=True)
        Trainer.from_config(alone, out=tmp_path / "teacher", progress=False).fit()
        keys.append(cell_key(student, "f"))
    assert len(set(keys)) == 4
    (tmp_path / "teacher").rename(tmp_path / "moved")
    moved = student.with_overrides([f"teacher.run={tmp_path / 'moved'}"])
    assert cell_key(moved, "f") == keys[-1]


def test_data_of_one_configuration_are_loaded_once(tmp_path, monkeypatch):
    loads = []

    def load(config):
        loads.append(config.name)
        return real(config)

    real = plan_module.load_windows
    forget_windows()  # which an earlier test may have left
    monkeypatch.setattr(plan_module, "load_windows", load)
    compare(CompareConfig.from_toml(TINY), out=tmp_path, progress=False)
    assert loads == ["synthetic"]


def test_cells_are_not_trained_on_data_that_have_changed(tmp_path, monkeypatch):
    forget_windows()
    plan = make_plan(CompareConfig.from_toml(TINY))
    forget_windows()  # as in the process of a worker
    real = plan_module.load_windows

    def changed(config):
        windows = real(config)
        return windows.select(np.arange(len(windows) - 1))

    monkeypatch.setattr(plan_module, "load_windows", changed)
    (tmp_path / "cells").mkdir()
    train_grid(plan, tmp_path, jobs=1, backend="threads", show=False)
    for cell in plan.cells:
        state, reason = plan_module.cell_state(tmp_path / cell.folder)
        assert state == "failed"
        assert reason.startswith("`data` must stay as they were when the cells were named")
    with pytest.raises(DataError, match=f"{plan.cells[0].fingerprint[:16]}.*instead"):
        plan_module.windows_of(plan.cells[0].config.data, plan.cells[0].fingerprint)
    forget_windows()
