"""ONNX files: the same answers as PyTorch, in int8 nearly so; and what is refused."""

from __future__ import annotations

import csv
import logging
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from smoothdistill.errors import CheckpointError, DataError, ExportError
from smoothdistill.models import HARMLP, MobileNetV31D, build_model
from smoothdistill.training import Run, RunConfig, Trainer
from smoothdistill.training.standardization import Standardization
from smoothdistill.windows import Windows

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from smoothdistill.export import OnnxModel, export_checkpoint, export_onnx, export_run
from smoothdistill.onnx_model import quiet

TASKS = {"activity": 4, "where.it is": 3}
WINDOWS = np.random.default_rng(0).normal(3.0, 2.0, (70, 3, 64)).astype(np.float32)
STANDARDIZATION = Standardization(torch.full((3,), 3.0), torch.full((3,), 2.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A few epochs on made-up windows that can be told apart."""
    rng = np.random.default_rng(0)
    activity, placement = rng.integers(0, 3, 240), rng.integers(0, 2, 240)
    signals = rng.normal(size=(240, 3, 64)).astype(np.float32)
    signals[:, 0] += activity[:, None]
    signals[:, 1] *= 1.0 + placement[:, None]
    windows = Windows(
        signals,
        targets={"activity": activity, "placement": placement},
        subjects=np.repeat([f"s{number}" for number in range(6)], 40),
        sample_rate_hz=20.0,
    )
    table = {
        "model": {"name": "har-mlp", "width": 0.1},
        "method": {"name": "multitask"},
        "train": {"epochs": 5, "device": "cpu"},
        "split": {"num_folds": 2},
    }
    trainer = Trainer.from_config(
        RunConfig.from_table(table), out=tmp_path_factory.mktemp("export") / "run", progress=False
    )
    return trainer.fit(windows), windows


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mtl-net", {}),
        ("mtl-net", {"layout": "published"}),
        ("resnet-lstman", {"width": 0.0625}),
        ("mobilenet-v3-1d", {"width": 0.125, "table": "student", "head": "simh-associative"}),
    ],
)
def test_a_file_says_what_its_model_says(name, options, tmp_path):
    torch.manual_seed(0)
    model = build_model(name, num_classes=TASKS, in_channels=3, window_samples=64, **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, before they can be silenced
        report = export_onnx(
            model, path, windows=WINDOWS, standardization=STANDARDIZATION, metadata={"a": [1]}
        )
    assert report.num_bytes == path.stat().st_size
    assert report.agreement == {"activity": 1.0, "where.it is": 1.0}
    assert report.largest_difference < 1e-5
    exported = OnnxModel(path)
    assert exported.metadata == {"a": [1]}
    with torch.no_grad():
        expected = model.eval()((torch.from_numpy(WINDOWS) - 3.0) / 2.0)
    for batch in (1, 5, 70):  # any number of windows
        found = exported(WINDOWS[:batch])
        assert list(found) == list(TASKS)
        for task, logits in found.items():
            torch.testing.assert_close(
                torch.from_numpy(logits), expected[task][:batch], rtol=1e-4, atol=1e-5
            )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_run_in_int8_is_small_and_close(run, tmp_path):
    trained, windows = run
    plain = export_run(trained, tmp_path / "plain.onnx", fold=1, windows=windows)
    small = export_run(
        trained.folder, tmp_path / "small.onnx", fold=1, windows=windows, precision="int8"
    )
    assert small.num_bytes < 0.5 * plain.num_bytes  # a quarter of the weights, and the graph
    assert plain.macro_f1["activity"]["torch"] == plain.macro_f1["activity"]["onnx"]
    assert small.macro_f1["activity"]["torch"] == plain.macro_f1["activity"]["torch"]
    assert abs(small.macro_f1["activity"]["onnx"] - small.macro_f1["activity"]["torch"]) < 0.05
    assert small.agreement["activity"] > 0.9
    metadata = OnnxModel(tmp_path / "small.onnx").metadata
    assert metadata["window_samples"] == 64
    assert metadata["precision"] == "int8"
    assert metadata["class_names"]["placement"] == list(windows.class_names["placement"])
    with (trained.folder / "metrics.csv").open() as file:
        scores = {tuple(row[:4]): float(row[4]) for row in list(csv.reader(file))[1:] if row[4]}
    tested = scores["1", "student", "activity", "macro_f1"]
    assert plain.macro_f1["activity"]["torch"] == pytest.approx(tested, abs=1e-9)


def test_a_memory_head_is_quantized_too(tmp_path):
    torch.manual_seed(0)
    model = MobileNetV31D(TASKS, 3, 64, "student", 0.125, "simh-associative")
    report = export_onnx(
        model, tmp_path / "m.onnx", windows=WINDOWS, test_windows=WINDOWS[:9], precision="int8"
    )
    assert report.num_windows == 9
    assert np.isfinite(report.largest_difference)
    assert OnnxModel(tmp_path / "m.onnx")(WINDOWS[:2])["activity"].shape == (2, 4)


def test_what_cannot_be_exported_is_one_sentence_and_leaves_the_old_file(tmp_path):
    class Undecided(nn.Module):
        tasks = ("activity",)

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, signals):
            if signals.sum() > 0.0:  # which a graph cannot know
                return {"activity": self.weight * signals[:, 0, :2]}
            return {"activity": signals[:, 0, :2]}

    path = tmp_path / "model.onnx"
    path.write_text("old")
    with pytest.raises(ExportError, match=r"`model` must be one that torch\.onnx can export, but"):
        export_onnx(Undecided(), path, windows=WINDOWS)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_says_something_else_is_refused(tmp_path, monkeypatch):
    real = OnnxModel.__call__

    def off(self, signals):
        return {task: logits + 0.01 for task, logits in real(self, signals).items()}

    monkeypatch.setattr(OnnxModel, "__call__", off)
    with pytest.raises(ExportError, match=r"`model` must say the same .* but differs by 0\.01 ins"):
        export_onnx(HARMLP(TASKS, 3, 64, width=0.1), tmp_path / "m.onnx", windows=WINDOWS)
    assert not list(tmp_path.iterdir())


def test_a_nan_in_any_task_is_refused(tmp_path, monkeypatch):
    real = OnnxModel.__call__

    def spoilt(self, signals):
        logits = real(self, signals)
        logits["where.it is"][0, 0] = np.nan
        return logits

    monkeypatch.setattr(OnnxModel, "__call__", spoilt)
    with pytest.raises(ExportError, match=r"`model` must say the same .* but differs by nan inst"):
        export_onnx(HARMLP(TASKS, 3, 64, width=0.1), tmp_path / "m.onnx", windows=WINDOWS)


def test_arguments_without_sense_are_one_sentence(run, tmp_path):
    trained, windows = run
    model = HARMLP(TASKS, 3, 64, width=0.1)
    with pytest.raises(ValueError, match="`precision` must be one of 'float32', 'int8', but is"):
        export_onnx(model, tmp_path / "m.onnx", windows=WINDOWS, precision="int4")
    with pytest.raises(ValueError, match=r"`windows` must have the shape .* \[0, 3, 64\] instead"):
        export_onnx(model, tmp_path / "m.onnx", windows=WINDOWS[:0])
    with pytest.raises(TypeError, match=r"`metadata` must be what JSON can hold, but .*float32 is"):
        export_onnx(model, tmp_path / "m.onnx", windows=WINDOWS, metadata={"a": np.float32(1)})
    with pytest.raises(ValueError, match="`windows` must be given for int8, which calibrates with"):
        export_checkpoint(trained.checkpoint(0), tmp_path / "m.onnx", precision="int8")
    with pytest.raises(ValueError, match="`compress` must be false for a HARMLP, which has no"):
        export_run(trained, tmp_path / "m.onnx", windows=windows, compress=True)
    with pytest.raises(FileNotFoundError):
        export_run(trained, tmp_path / "m.onnx", windows=windows, fold=7)
    with pytest.raises(ValueError, match="`windows` must be the windows that the run was started"):
        export_run(trained, tmp_path / "m.onnx")
    others = replace(windows, subjects=windows.subjects[::-1].copy())
    with pytest.raises(DataError, match=r"`windows` must have the fingerprint .* of the run in"):
        export_run(trained, tmp_path / "m.onnx", windows=others)
    with pytest.raises(FileNotFoundError, match="`path` must be a file, but"):
        OnnxModel(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="`path` must be a model that ONNX Runtime can run, but"):
        OnnxModel(tmp_path / "broken.onnx")
    with pytest.raises(CheckpointError):
        export_run(_broken(trained, tmp_path), tmp_path / "m.onnx", windows=windows)


@pytest.mark.parametrize("name", ["windows", "test_windows"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])  # the last one in float32
def test_a_sample_that_is_no_number_is_refused(name, value, tmp_path):
    windows = {"windows": WINDOWS, name: WINDOWS.astype(np.float64)}
    windows[name][5, 0, 7] = value
    with pytest.raises(ValueError, match=rf"`{name}` must be finite .* at \[5, 0, 7\] instead"):
        export_onnx(HARMLP(TASKS, 3, 64), tmp_path / "m.onnx", precision="int8", **windows)


def test_windows_to_compare_on_have_the_shape_of_the_others(tmp_path):
    model, path = HARMLP(TASKS, 3, 64), tmp_path / "m.onnx"
    with pytest.raises(ValueError, match=r"`test_windows` must have the shape .* \[0, 3, 64\] in"):
        export_onnx(model, path, windows=WINDOWS, test_windows=WINDOWS[:0])
    sentence = r"`test_windows` must have the \[3, 64\] of `windows` .* but has \[3, 40\] instead"
    with pytest.raises(ValueError, match=sentence):
        export_onnx(model, path, windows=WINDOWS, test_windows=WINDOWS[:, :, :40])


def test_two_exports_at_once_take_turns_and_silence_no_one_else(tmp_path, monkeypatch, caplog):
    is_inside, may_leave = threading.Event(), threading.Event()
    inside, most = [], []

    def chatter(*_arguments, **_options):
        inside.append(1)
        most.append(len(inside))
        is_inside.set()
        may_leave.wait(10.0)
        logging.getLogger("onnxscript").warning("of the exporter's own workings")
        logging.warning("of the quantizer's")
        warnings.warn("and a warning", stacklevel=2)
        inside.pop()
        raise RuntimeError("enough")

    def export():
        with pytest.raises(ExportError, match="enough"):
            export_onnx(HARMLP(TASKS, 3, 64), tmp_path / "m.onnx", windows=WINDOWS)

    monkeypatch.setattr(torch.onnx, "export", chatter)
    before = logging.root.manager.disable, [*warnings.filters]
    threads = [threading.Thread(target=export) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert is_inside.wait(10.0)
    logging.getLogger("another").warning("heard")
    may_leave.set()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
    assert caplog.messages == ["heard"]
    assert (logging.root.manager.disable, [*warnings.filters]) == before
    logging.getLogger("onnxscript").warning("heard again")
    assert caplog.messages == ["heard", "heard again"]


def test_an_export_gives_the_root_logger_no_handler(monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    with quiet():
        logging.warning("of the quantizer's")  # which calls basicConfig where there is none
    assert not logging.root.handlers
    assert capsys.readouterr().err == ""


def _broken(run, folder):
    import shutil

    copy = Run(shutil.copytree(run.folder, folder / "broken"))
    (copy.folder / "fold-00" / "best.safetensors").write_bytes(b"x")
    return copy


def test_a_package_that_is_missing_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    sentence = (
        r'`onnxscript` must be installed for ONNX files, .* "smoothdistill\[export\]" adds it'
    )
    with pytest.raises(ImportError, match=sentence):
        export_onnx(HARMLP(TASKS, 3, 64), tmp_path / "m.onnx", windows=WINDOWS)


def test_compression_comes_before_the_export(tmp_path):
    model = MobileNetV31D(TASKS, 3, 64, "student", 0.125, "simh").eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(WINDOWS[:4]))
        found = model.compress()(torch.from_numpy(WINDOWS[:4]))
    for task, logits in expected.items():
        torch.testing.assert_close(found[task], logits, rtol=1e-4, atol=1e-6)
