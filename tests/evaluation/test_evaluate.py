"""Evaluation anew gives the run's own scores; other data are matched by name or refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from smoothdistill.datasets import load
from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.evaluation import evaluate
from smoothdistill.evaluation.evaluate import fit_windows_to_model, load_checkpoints
from smoothdistill.windows import IGNORE_INDEX, Windows


def _windows(targets, class_names, *, channels=3, samples=100, rate=50.0):
    count = len(next(iter(targets.values())))
    signals = np.random.default_rng(0).normal(size=(count, channels, samples))
    return Windows(
        signals.astype(np.float32),
        targets={task: np.array(labels) for task, labels in targets.items()},
        subjects=["a", "b"] * (count // 2),
        sample_rate_hz=rate,
        class_names=class_names,
    )


def test_the_runs_own_test_windows_give_the_runs_own_scores(tiny_run, tmp_path):
    found = evaluate(tiny_run.folder)
    assert found.summary["tasks"] == tiny_run.summary["tasks"]
    found.write(tmp_path)
    for name in ("metrics.csv", "per_subject.csv", "predictions.csv.gz"):
        assert (tmp_path / name).read_bytes() == (tiny_run.folder / name).read_bytes()


def test_other_data_are_tested_whole_by_every_fold(tiny_run):
    data = load("synthetic", num_subjects=2, seed=5)
    found = evaluate(tiny_run.folder, data)
    assert found.facts["num_windows"] == 2 * len(data)
    scores = found.summary["tasks"]["placement"]["teacher"]["macro_f1"]
    assert 0.0 <= scores["mean"] <= 1.0
    one = evaluate(tiny_run.folder / "fold-01" / "best.safetensors", data)
    assert one.facts["num_folds"] == 1


def test_classes_are_matched_by_name_and_other_tasks_left_out(tiny_run):
    checkpoint = load_checkpoints(tiny_run.folder)[0]
    data = _windows(
        {"placement": [0, 1, IGNORE_INDEX, 0], "weather": [0, 0, 0, 0]},
        {"placement": ("chest", "wrist"), "weather": ("fine",)},
    )
    fitted = fit_windows_to_model(data, checkpoint)
    names = checkpoint.description.class_names["placement"]
    wanted = [names.index("chest"), names.index("wrist"), IGNORE_INDEX, names.index("chest")]
    assert fitted.tasks == ("placement",)
    assert fitted.targets["placement"].tolist() == wanted
    assert list(fitted.class_names["placement"]) == names


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            _windows({"placement": [0, 0]}, {"placement": ("ankle",)}),
            r"classes of 'placement' that the model knows \(wrist, thigh, chest\), but has ankle",
        ),
        (_windows({"mood": [0, 0]}, {}), r"at least one of the model's tasks \(activity, placeme"),
        (_windows({"placement": [0, 0]}, {}, channels=6), r"trained with, 3, but has 6 instead"),
        (_windows({"placement": [0, 0]}, {}, samples=90), r"with, 100, but has 90 instead"),
        (_windows({"placement": [0, 0]}, {}, rate=20.0), r"50 Hz, but has 20 Hz instead"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(tiny_run, data, message):
    with pytest.raises(DataError, match=message):
        evaluate(tiny_run.folder, data)


def test_one_checkpoint_needs_data(tiny_run):
    with pytest.raises(ValueError, match=r"`data` must be given to evaluate a single checkpoint"):
        evaluate(tiny_run.folder / "fold-00" / "best.safetensors")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a run folder, but"):
        evaluate(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"at least one fold-\*/best.safetensors, but"):
        evaluate(tmp_path)


def test_a_cut_checkpoint_is_refused(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    path = folder / "fold-01" / "best.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"is damaged"):
        evaluate(folder)


def test_an_evaluation_is_not_written_over_a_run(tiny_run):
    data = load("synthetic", num_subjects=2)
    with pytest.raises(ValueError, match=r"`out` must be a folder without a run, but"):
        evaluate(tiny_run.folder, data).write(tiny_run.folder)
