from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pytest
import torch

from smoothdistill.errors import CheckpointError
from smoothdistill.splits import make_folds
from smoothdistill.training import ModelCheckpoint, Run, score_predictions
from smoothdistill.training.history import history_columns

TASKS = ("activity", "placement")


def _rows(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_has_every_file(finished_run):
    found = {
        p.relative_to(finished_run.folder).as_posix() for p in finished_run.folder.rglob("*.*")
    }
    assert found == {
        "status.json", "config.toml", "environment.json", "data.json", "splits.json",
        "summary.json", "history.csv", "metrics.csv", "per_subject.csv", "predictions.csv.gz",
        *(f"fold-0{k}/{name}.safetensors" for k in range(3) for name in ("best", "last")),
    }  # fmt: skip
    assert finished_run.is_finished


def test_the_model_has_learnt(finished_run):
    for task in TASKS:
        for role in ("student", "teacher"):
            score = finished_run.summary["tasks"][task][role]["macro_f1"]
            assert score["mean"] > (0.4 if task == "activity" else 0.55)  # by chance 0.25, 0.5
            assert score["ci95"][0] < score["mean"] < score["ci95"][1]
            assert 0.0 < score["std"] < 0.4


def test_config_and_data_files(finished_run, tiny):
    assert finished_run.config.train.epochs == 4
    assert finished_run.config.split.num_folds == 3
    data = json.loads((finished_run.folder / "data.json").read_text())
    windows = tiny.make_windows()
    assert data["fingerprint"] == windows.fingerprint()
    assert data["class_names"]["placement"] == ["wrist", "hip"]
    assert data["source"] == "given"
    assert sum(data["num_labelled"]["placement"]) == int((windows.targets["placement"] >= 0).sum())


def test_splits_file(finished_run, tiny):
    splits = json.loads((finished_run.folder / "splits.json").read_text())
    assert (splits["protocol"], splits["num_folds"]) == ("subject", 3)
    for fold, described in zip(
        make_folds(tiny.make_windows(), num_folds=3), splits["folds"], strict=True
    ):
        assert described["index"] == fold.index
        assert described["num_train"] == len(fold.train)
        sides = [set(described[f"{side}_subjects"]) for side in ("train", "validation", "test")]
        assert set.union(*sides) == {f"s{k}" for k in range(6)}
        assert sum(map(len, sides)) == 6


def test_history(finished_run):
    history = finished_run.history
    assert list(history) == history_columns(TASKS)
    assert history["fold"].tolist() == [k for k in range(3) for _ in range(4)]
    assert history["epoch"].tolist() == [0, 1, 2, 3] * 3
    for task in TASKS:
        assert np.isfinite(history[f"train_{task}_distillation"]).all()
        assert (history[f"train_{task}_accuracy"] <= 1.0).all()
    means = np.mean([history[f"validation_teacher_{task}_macro_f1"] for task in TASKS], axis=0)
    np.testing.assert_allclose(history["validation_teacher_macro_f1"], means)
    for fold in range(3):
        own = history["fold"] == fold
        scores = {
            role: history[f"validation_{role}_macro_f1"][own] for role in ("student", "teacher")
        }
        about = finished_run.checkpoint(fold).description
        for role, reached in scores.items():  # each role has its own best epoch
            assert about.epochs[role] == reached.argmax()
            assert about.validation_scores[role] == reached.max()
        best = "student" if scores["student"].max() > scores["teacher"].max() else "teacher"
        assert about.selected == best
        assert about.validation_macro_f1 == scores[best].max()
        assert history["is_best"][own].tolist() == [k == scores[best].argmax() for k in range(4)]


def test_predictions_and_scores_agree(finished_run, tiny):
    windows = tiny.make_windows()
    rows = _rows(finished_run.folder / "predictions.csv.gz")
    assert len(rows) == len(windows) * 2 * 2  # each window tested once, two roles, two tasks
    metrics = {
        (r["fold"], r["role"], r["task"], r["metric"]): float(r["value"])
        for r in _rows(finished_run.folder / "metrics.csv")
    }
    for task in TASKS:
        for role in ("student", "teacher"):
            means = []
            for fold in "012":
                own = [r for r in rows if (r["task"], r["role"], r["fold"]) == (task, role, fold)]
                columns = ("target", "prediction", "confidence")
                arrays = [np.array([float(r[c]) for r in own]) for c in columns]
                scores = score_predictions(*(a.astype(int) for a in arrays[:2]), arrays[2])
                for name, value in scores.items():
                    assert metrics[fold, role, task, name] == pytest.approx(value, abs=1e-6)
                means.append(scores["macro_f1"])
                for r in own:
                    assert windows.subjects[int(r["window"])] == r["subject"]
                    assert windows.targets[task][int(r["window"])] == int(r["target"])
            summary = finished_run.summary["tasks"][task][role]["macro_f1"]
            assert summary["mean"] == pytest.approx(np.mean(means))
            assert summary["std"] == pytest.approx(np.std(means, ddof=1))


def test_per_subject(finished_run):
    rows = _rows(finished_run.folder / "per_subject.csv")
    assert len(rows) == 6 * 2 * 2
    assert {r["subject"] for r in rows} == {f"s{k}" for k in range(6)}
    assert sum(int(r["num_windows"]) for r in rows if r["task"] == "activity") == 2 * 120
    predictions = _rows(finished_run.folder / "predictions.csv.gz")
    for r in rows:
        own = [
            p
            for p in predictions
            if all(p[k] == r[k] for k in ("fold", "subject", "role", "task")) and p["target"] >= "0"
        ]
        right = sum(p["target"] == p["prediction"] for p in own)
        assert float(r["accuracy"]) == pytest.approx(right / len(own))


def test_best_models_give_the_saved_predictions(finished_run, tiny):
    windows = tiny.make_windows()
    rows = _rows(finished_run.folder / "predictions.csv.gz")
    for fold in range(3):
        checkpoint = finished_run.checkpoint(fold)
        assert finished_run.summary["selected"][fold] == checkpoint.description.selected
        own = [r for r in rows if r["fold"] == str(fold) and r["task"] == "activity"]
        test = sorted({int(r["window"]) for r in own})
        signals = checkpoint.standardization.apply_(torch.tensor(windows.signals[test]))
        for role in ("student", "teacher"):
            with torch.no_grad():
                predicted = checkpoint.model(role)(signals)["activity"].argmax(1).tolist()
            assert predicted == [int(r["prediction"]) for r in own if r["role"] == role]
        assert not torch.equal(finished_run.student(fold).heads[0].weight,
                               finished_run.teacher(fold).heads[0].weight)  # fmt: skip
        selected = finished_run.selected(fold).heads[0].weight
        assert torch.equal(selected, checkpoint.model("selected").heads[0].weight)
        assert not checkpoint.model().training


def test_standardization_is_fitted_on_training_windows_only(finished_run, tiny):
    windows = tiny.make_windows()
    for fold in make_folds(windows, num_folds=3):
        fitted = finished_run.checkpoint(fold.index).standardization
        train = windows.signals[fold.train].astype(np.float64)
        np.testing.assert_allclose(fitted.mean, train.mean((0, 2)), rtol=1e-6)
        np.testing.assert_allclose(fitted.deviation, train.std((0, 2)), rtol=1e-6)


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="`folder` must be a run folder, but"):
        Run(tmp_path / "none")
    with pytest.raises(
        CheckpointError, match=r"`folder` must hold a run with a readable config\.toml"
    ):
        _ = Run(tmp_path).config
    with pytest.raises(CheckpointError, match=r"a readable summary\.json, but .* \(FileNotFound"):
        _ = Run(tmp_path).summary
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds no object instead"):
        _ = Run(tmp_path).summary
    with pytest.raises(CheckpointError, match=r"a readable history\.csv"):
        _ = Run(tmp_path).history


def test_a_checkpoint_of_an_unknown_model(finished_run, tiny, monkeypatch):
    path = finished_run.folder / "fold-00" / "best.safetensors"
    with pytest.raises(ValueError, match="`role` must be student, teacher or selected"):
        ModelCheckpoint.load(path).model("nurse")
    from smoothdistill.models import MODELS

    monkeypatch.delitem(MODELS, "tiny-net")
    with pytest.raises(CheckpointError, match="must be a checkpoint of a model that is known here"):
        ModelCheckpoint.load(path)
    with pytest.raises(CheckpointError, match=r"of kind 'model', but .* 'training-state' instead"):
        ModelCheckpoint.load(path.with_name("last.safetensors"))
