"""Predictions for unlabelled recordings: cut like the training data, named, whole or refused."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from smoothdistill.datasets import load
from smoothdistill.errors import DataError, ExportError
from smoothdistill.evaluation import predict, predict_recordings, read_recordings
from smoothdistill.evaluation.predict import choose_checkpoint, choose_model, require_role
from smoothdistill.evaluation.recordings import as_recording


def _write_csv(path, signal, *, header="x,y,z", times=None):
    lines = [header]
    for number, row in enumerate(signal):
        cells = [f"{value:.5f}" for value in row]
        lines.append(",".join([*([] if times is None else [f"{times[number]:.4f}"]), *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def signal():
    return np.random.default_rng(3).normal(size=(450, 3)).astype(np.float32)


def test_predictions_are_those_of_the_model(tiny_run):
    data = load("synthetic", num_subjects=1)
    signal = data.signals[0].T
    found = predict(tiny_run.folder, [signal], sample_rate_hz=50.0, fold=1, role="teacher")
    checkpoint = tiny_run.checkpoint(1)
    with torch.no_grad():
        ready = checkpoint.standardization.apply_(torch.from_numpy(data.signals[:1].copy()))
        logits = checkpoint.model("teacher")(ready)
    for task, predicted in found.tasks.items():
        probabilities = torch.softmax(logits[task], dim=1)[0]
        assert predicted.predictions.tolist() == [int(probabilities.argmax())]
        assert predicted.confidences[0] == pytest.approx(float(probabilities.max()), rel=1e-5)


def test_windows_follow_one_another_unless_told_otherwise(tiny_run, signal):
    found = predict(tiny_run.folder, [signal, signal[:100]], sample_rate_hz=50.0)
    assert found.windows.starts.tolist() == [0, 100, 200, 300, 0]
    found = predict(tiny_run.folder, [signal[:200]], sample_rate_hz=50.0, step_samples=50)
    assert found.windows.starts.tolist() == [0, 50, 100]


def test_the_table_names_recordings_times_and_classes(tiny_run, signal, tmp_path):
    times = np.arange(450) / 50.0
    times[200:] += 30.0  # a gap, which no window may cross
    path = _write_csv(tmp_path / "walk.csv", signal, header="t,x,y,z", times=times)
    checkpoint = choose_checkpoint(tiny_run.folder)
    found = predict_recordings(checkpoint, read_recordings([path], checkpoint, time="t"))
    found.write_csv(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["first_sample"] for row in rows] == ["0", "100", "200", "300"]
    assert [row["first_seconds"] for row in rows] == ["0.000", "2.000", "34.000", "36.000"]
    assert {row["recording"] for row in rows} == {"walk.csv"}
    assert {row["placement"] for row in rows} <= {"wrist", "thigh", "chest"}
    assert all(0.0 < float(row["activity_confidence"]) <= 1.0 for row in rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "walk.csv"]


def test_columns_are_found_by_name_in_any_order(tiny_run, signal, tmp_path):
    checkpoint = choose_checkpoint(tiny_run.folder)
    plain = _write_csv(tmp_path / "a.csv", signal)
    turned = _write_csv(tmp_path / "b.csv", signal[:, ::-1], header="z,y,x")
    renamed = _write_csv(tmp_path / "c.csv", signal, header="ax,ay,az")
    first, second = read_recordings([plain, turned], checkpoint)
    (third,) = read_recordings([renamed], checkpoint, channels=("ax", "ay", "az"))
    assert np.array_equal(first.signal, second.signal)
    assert np.array_equal(first.signal, third.signal)


def test_the_default_model_is_the_best_in_validation(tiny_run):
    best = max(
        (tiny_run.checkpoint(fold) for fold in tiny_run.folds),
        key=lambda checkpoint: checkpoint.description.validation_macro_f1,
    )
    assert choose_checkpoint(tiny_run.folder).description.fold == best.description.fold


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"channels": ("x", "y")}, ValueError, r"`channels` must name the 3 columns .* names 2"),
        ({"channels": ("x", "y", "w")}, DataError, r"must have the column 'w', but has"),
        ({"time_unit": "h"}, ValueError, r"`time_unit` must be one of .*, but is 'h' instead"),
        ({"delimiter": ""}, ValueError, r"`delimiter` must be 1 character, but is '' instead"),
    ],
)
def test_bad_options_are_refused(tiny_run, signal, tmp_path, options, kind, message):
    path = _write_csv(tmp_path / "a.csv", signal)
    with pytest.raises(kind, match=message):
        read_recordings([path], choose_checkpoint(tiny_run.folder), **options)


def test_recordings_that_do_not_fit_are_refused(tiny_run, signal, tmp_path):
    checkpoint = choose_checkpoint(tiny_run.folder)
    with pytest.raises(DataError, match=r"must have the 3 channels \(x, y, z\) .* has 2 instead"):
        predict(tiny_run.folder, [signal[:, :2]], sample_rate_hz=50.0)
    with pytest.raises(DataError, match=r"50 Hz, but has 20 Hz instead"):
        predict(tiny_run.folder, [signal], sample_rate_hz=20.0)
    with pytest.raises(DataError, match=r"`window_samples` must be at most 40"):
        predict(tiny_run.folder, [signal[:40]], sample_rate_hz=50.0)
    with pytest.raises(DataError, match=r"`recordings` must hold at least 1 recording"):
        predict_recordings(checkpoint, [])
    with pytest.raises(DataError, match=r"finite"):
        as_recording(signal * np.nan, sample_rate_hz=50.0, session="a")
    with pytest.raises(FileNotFoundError, match=r"`file` must be a recording, but"):
        read_recordings([tmp_path / "none.csv"], checkpoint)


def test_bad_names_of_folds_and_roles_are_refused(tiny_run):
    with pytest.raises(ValueError, match=r"`fold` must be one of 0, 1, but is 7 instead"):
        choose_checkpoint(tiny_run.folder, 7)
    with pytest.raises(ValueError, match=r"`role` must be student, teacher or selected, but is"):
        require_role("pupil")
    assert require_role("teacher") == "teacher"


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """The file of the second fold's student."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from smoothdistill.export import export_checkpoint

    path = tmp_path_factory.mktemp("exported") / "student.onnx"
    export_checkpoint(tiny_run.checkpoint(1), path, role="student")
    return path


def test_an_exported_file_predicts_like_its_model(tiny_run, exported, signal):
    both = [signal, 3.0 * signal[:120] + 1.0]
    by_torch = predict(tiny_run.folder, both, sample_rate_hz=50.0, fold=1, role="student")
    by_onnx = predict(exported, both, sample_rate_hz=50.0)
    assert by_onnx.role == "student"
    assert by_onnx.class_names == by_torch.class_names
    assert list(by_onnx.rows()) != []
    for task, expected in by_torch.tasks.items():
        assert np.array_equal(by_onnx.tasks[task].predictions, expected.predictions)
        # A probability moves by at most half of what a logit does: 1e-4 of the largest.
        np.testing.assert_allclose(by_onnx.tasks[task].confidences, expected.confidences, atol=1e-4)


def test_an_exported_file_reads_recordings_by_itself(exported, signal, tmp_path):
    path = _write_csv(tmp_path / "a.csv", signal[:, ::-1], header="z,y,x")
    (recording,) = read_recordings([path], choose_model(exported))
    assert recording.sample_rate_hz == 50.0
    np.testing.assert_allclose(recording.signal, signal, atol=1e-5)


def test_what_an_exported_file_cannot_do_is_one_sentence(tiny_run, exported, signal, tmp_path):
    with pytest.raises(ValueError, match=r"`fold` must be left out for an exported file, .* is 1"):
        predict(exported, [signal], sample_rate_hz=50.0, fold=1)
    with pytest.raises(ValueError, match=r"`role` must be student, whom the .* is 'teacher' inst"):
        predict(exported, [signal], sample_rate_hz=50.0, role="teacher")
    with pytest.raises(ValueError, match=r"`device` must be cpu for ONNX Runtime, but is 'cuda'"):
        predict(exported, [signal], sample_rate_hz=50.0, device="cuda")
    with pytest.raises(DataError, match=r"50 Hz, but has 20 Hz instead"):
        predict(exported, [signal], sample_rate_hz=20.0)
    with pytest.raises(FileNotFoundError, match=r"`path` must be a file, but .*none\.onnx"):
        predict(tmp_path / "none.onnx", [signal], sample_rate_hz=50.0)

    from smoothdistill.export import export_onnx

    foreign, checkpoint = tmp_path / "foreign.onnx", tiny_run.checkpoint(1)
    export_onnx(checkpoint.model(), foreign, windows=np.zeros((1, 3, 100), np.float32))
    with pytest.raises(ExportError, match=r"`path` must be a file that `smoothdistill export` has"):
        predict(foreign, [signal], sample_rate_hz=50.0)
