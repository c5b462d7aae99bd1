"""The command line: from training to prediction, exit codes, and one sentence per error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from smoothdistill.benchmark import GROUPS
from smoothdistill.cli import app

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = (
    "--set", "data.num_subjects=6", "--set", "split.num_folds=2", "--set", "train.epochs=1",
    "--device", "cpu",
)  # fmt: skip
runner = CliRunner()


def _run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def _process(*arguments, cwd, **variables):
    """A real process, as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, "-c", "from smoothdistill.cli import main; main()", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder and what `train` printed about it."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    result = _run("train", *TINY, "--out", folder, "--seed", "3")
    assert result.exit_code == 0, result.stderr
    return folder, result


def _is_one_sentence(result, *words):
    text = result.stderr
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    for word in words:
        assert word in text


def test_train_prints_a_result_table_and_where_the_report_is(trained):
    folder, result = trained
    lines = result.stdout.splitlines()
    (heading,) = [line for line in lines if "macro-F1" in line]
    assert "95 % interval" in heading
    assert "accuracy" in heading
    summary = json.loads((folder / "summary.json").read_text())
    for task in ("activity", "placement"):
        for role in ("student", "teacher"):
            (row,) = [line for line in lines if line.split()[:2] == [task, role]]
            score = summary["tasks"][task][role]["macro_f1"]
            assert f"{score['mean']:.3f} ± {score['std']:.3f}" in row
    assert lines[-1] == f"report: {folder / 'report.html'}"
    assert "epoch 1/1" in result.stderr


def test_train_leaves_every_file_of_a_run(trained):
    folder, _ = trained
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "status.json", "config.toml", "environment.json", "data.json", "splits.json",
        "summary.json", "history.csv", "metrics.csv", "per_subject.csv", "predictions.csv.gz",
        "figures", "report.html", "MODEL_CARD.md", "fold-00", "fold-01",
    }  # fmt: skip
    assert "seed = 3" in (folder / "config.toml").read_text()


def test_evaluate_gives_the_same_scores_as_json(trained):
    folder, _ = trained
    result = _run("evaluate", folder, "--json")
    assert result.exit_code == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert json.loads(result.stdout)["tasks"] == summary["tasks"]


def test_evaluate_on_other_data_writes_tables(trained, tmp_path):
    folder, _ = trained
    result = _run("evaluate", folder, "--set", "data.num_subjects=2", "--out", tmp_path / "e")
    assert result.exit_code == 0, result.stderr
    assert "windows of synthetic" in result.stdout
    assert {path.name for path in (tmp_path / "e").iterdir()} == {
        "summary.json", "metrics.csv", "per_subject.csv", "predictions.csv.gz",
    }  # fmt: skip


def test_predict_writes_a_row_per_window(trained, tmp_path):
    folder, _ = trained
    rows = np.random.default_rng(0).normal(size=(250, 3))
    recording = tmp_path / "recording.csv"
    recording.write_text("x,y,z\n" + "".join(f"{x:.4f},{y:.4f},{z:.4f}\n" for x, y, z in rows))
    result = _run("predict", folder, recording, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.stderr
    assert "2 windows by the " in result.stdout
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3
    as_json = _run("predict", folder, recording, "-o", tmp_path / "out.csv", "--json")
    assert json.loads(as_json.stdout)["num_windows"] == 2


def test_predict_takes_either_engine_and_exported_files(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, _ = trained
    rows = np.random.default_rng(0).normal(size=(250, 3))
    recording = tmp_path / "recording.csv"
    recording.write_text("x,y,z\n" + "".join(f"{x:.4f},{y:.4f},{z:.4f}\n" for x, y, z in rows))
    by_torch, by_onnx, by_file = (tmp_path / f"{name}.csv" for name in ("torch", "onnx", "file"))
    assert _run("predict", folder, recording, "-o", by_torch).exit_code == 0
    result = _run("predict", folder, recording, "--engine", "onnx", "-o", by_onnx)
    assert result.exit_code == 0, result.stderr
    assert "(onnx)" in result.stdout
    assert [row.split(",")[:6] for row in by_onnx.read_text().splitlines()] == [
        row.split(",")[:6] for row in by_torch.read_text().splitlines()
    ]
    fold = json.loads(_run("predict", folder, recording, "-o", by_torch, "--json").stdout)
    assert fold["engine"] == "torch"
    exported = tmp_path / "model.onnx"
    assert _run("export", folder, "-o", exported, "--int8", "--quiet").exit_code == 0
    result = _run("predict", exported, recording, "-o", by_file, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["engine"] == "onnx"
    assert len(by_file.read_text().splitlines()) == 3


def test_a_finished_run_is_resumed_to_itself_and_reported_anew(trained):
    folder, _ = trained
    before = (folder / "summary.json").read_bytes()
    (folder / "report.html").unlink()
    resumed = _run("resume", folder, "--json")
    assert resumed.exit_code == 0
    assert json.loads(resumed.stdout)["folder"] == str(folder)
    assert (folder / "summary.json").read_bytes() == before
    assert (folder / "report.html").exists()


def test_own_files_are_trained_on_by_name(tmp_path):
    generator = np.random.default_rng(0)
    for subject in "abcd":
        lines = ["x,y,z,subject,label"]
        for label, level in (("still", 0.1), ("moving", 2.0)):
            for x, y, z in generator.normal(0, level, size=(500, 3)):
                lines.append(f"{x:.4f},{y:.4f},{z:.4f},{subject},{label}")
        (tmp_path / f"{subject}.csv").write_text("\n".join(lines) + "\n")
    result = _run(
        "train", "--set", "data.name=csv", "--set", f"data.root={tmp_path}",
        "--set", "data.targets.activity=label", "--set", "data.sample_rate_hz=50.0",
        "--set", "split.num_folds=2", "--set", "train.epochs=1",
        "--out", tmp_path / "run", "--quiet", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert list(json.loads(result.stdout)["tasks"]) == ["activity"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["trian"], 2, ["No such command 'trian'. Did you mean 'train'?"]),
        (["train", "--epochs", "3"], 2, ["No such option: --epochs"]),
        (["train", "--seed", "x"], 2, ["Invalid value for '--seed'"]),
        (["train", "--set", "train.epochs=0"], 2, ["`train.epochs` must be at least 1, but is 0"]),
        (["train", "--set", "train.epohcs=1"], 2, ["`train.epohcs` must be one of the known"]),
        (["train", "--set", "epochs"], 2, ["`--set` must be of the form section.key=value"]),
        (["train", "--set", "method.name=x"], 2, ["`method.name` must be one of"]),
        (["train", "--device", "tpu"], 2, ["`train.device` must be"]),
        (
            ["train", "--config", "none.toml"],
            3,
            ["`config` must be a TOML file or one of the presets", "none.toml"],
        ),
        (["train", "--set", "data.name=wisdm"], 3, ["`root` must be the folder of 'wisdm'"]),
        (["train", "--set", "data.name=none"], 2, ["`data.name` must be one of"]),
        (["resume", "none"], 3, ["must be a run folder, but 'none' does not exist"]),
        (["report", "none"], 3, ["`run_folder` must be the folder of a run, but is 'none'"]),
        (["evaluate", "none"], 3, ["must be a run folder, but 'none' does not exist"]),
        (
            ["predict", "none", "a.csv", "--engine", "tensor"],
            2,
            ["`engine` must be torch or onnx, "],
        ),
        (["predict", "none.onnx", "a.csv"], 3, ["`path` must be a file, but 'none.onnx' is not"]),
        (["predict", "none", "a.csv"], 3, ["must be a run folder, but 'none' does not exist"]),
        (["data", "check", "wisdm", "--root", "none"], 3, ["`root` must be an existing folder"]),
        (["data", "check", "none"], 2, ["`name` must be one of"]),
        (["bench", "everything"], 2, ["'everything' is not one of"]),
        (["bench", "step", "--layout", "x"], 2, ["`layout` must be one of published, axes, both"]),
        (["bench", "step", "--batch", "8;9"], 2, ["`batch` must be whole numbers", "'8;9'"]),
        (["bench", "step", "--threads", "0"], 2, ["`threads` must be at least 1, but is 0"]),
    ],
)
def test_errors_are_one_sentence_with_an_exit_code(arguments, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = _run(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    _is_one_sentence(result, *words)
    assert list(tmp_path.iterdir()) == [], "an error left something behind"


def test_damaged_and_taken_folders(trained, tmp_path):
    folder, _ = trained
    taken = _run("train", *TINY, "--out", folder)
    assert taken.exit_code == 2
    _is_one_sentence(taken, "`out` must be a folder without a run", "smoothdistill resume")
    broken = tmp_path / "broken"
    (broken / "fold-00").mkdir(parents=True)
    (broken / "fold-00" / "best.safetensors").write_bytes(b"\x80\x04\x95 a pickle, by its look")
    result = _run("evaluate", broken)
    assert result.exit_code == 4
    _is_one_sentence(result, "must be an undamaged checkpoint")
    empty = tmp_path / "empty"
    empty.mkdir()
    result = _run("report", empty)
    assert result.exit_code == 4
    _is_one_sentence(result, "must hold a finished run")


def test_losses_that_are_not_finite_end_with_five(tmp_path):
    options = ("--set", "train.lr=1e38", "--set", "train.batch_size=16", "--quiet")
    result = _run("train", *TINY, *options, "--out", tmp_path / "run")
    assert result.exit_code == 5
    _is_one_sentence(result, "`loss` must be finite")


def test_a_full_disk_is_the_machines_fault(trained, tmp_path, monkeypatch):
    folder, _ = trained

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("smoothdistill.evaluation.report.write_report", refuse)
    result = _run("report", folder)
    assert result.exit_code == 1
    _is_one_sentence(result, "No space left on device: report.html")


def test_a_fault_of_the_program_keeps_its_traceback(trained, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("shape mismatch deep inside")

    monkeypatch.setattr("smoothdistill.evaluation.report.write_report", fail)
    result = _run("report", trained[0])
    assert isinstance(result.exception, ValueError)


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupt(self, *arguments, **options):
        self.out.mkdir()
        (self.out / "config.toml").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr("smoothdistill.training.trainer.Trainer.fit", interrupt)
    result = _run("train", "--out", tmp_path / "run")
    assert result.exit_code == 130
    _is_one_sentence(result, "Stopped", f"smoothdistill resume {tmp_path / 'run'}")


def test_without_arguments_there_is_help():
    result = _run()
    assert result.exit_code == 0
    for verb in [
        "doctor",
        "train",
        "resume",
        "evaluate",
        "predict",
        "features",
        "compare",
        "data",
        "bench",
        "report",
    ]:
        assert verb in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        "train",
        "resume",
        "evaluate",
        "predict",
        "export",
        "report",
        "features",
        "compare",
        "data list",
        "data check",
        "models",
        "bench",
    ],
)
def test_every_command_explains_itself(words):
    result = _run(*words.split(), "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert len(result.stdout.splitlines()) > 8


def test_doctor_says_what_runs_where_and_why():
    result = _run("doctor", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["backends"]["ema_update_"][-1] == "reference"
    assert facts["cuda"]["meaning"]
    assert facts["packages"]["torch"] != "missing"
    assert set(facts["extras"]) == {"data", "export", "plot"}
    printed = _run("doctor").stdout
    assert all(name in printed for name in ("GPU", "products", "bfloat16"))


@pytest.mark.parametrize(
    ("built_for", "devices", "kernels", "meaning"),
    [
        (None, [], None, "not used: this PyTorch was built without CUDA"),
        ("13.0", [], None, "finds no GPU, or a driver that is too old for it"),
        ("13.0", [], "old", "too old for it (CUDA says: CUDA driver version is insufficient)"),
        ("13.0", ["H100"], None, "H100 (our ops run as plain PyTorch on it: this package was"),
        ("13.0", ["H100"], "there", "plain PyTorch on it: SMOOTHDISTILL_BACKEND=cuda switches our"),
        ("13.0", ["H100"], "used", "H100 (with our kernels)"),
    ],
)
def test_doctor_says_why_a_gpu_is_or_is_not_used(built_for, devices, kernels, meaning, monkeypatch):
    from smoothdistill.commands import doctor
    from smoothdistill.ops import _backend

    module = types.SimpleNamespace(
        device_error=lambda: "CUDA driver version is insufficient" if kernels == "old" else None
    )
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(devices))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: devices[number])
    monkeypatch.setattr(_backend, "cuda_module", module if kernels == "used" else None)
    monkeypatch.setattr(doctor, "find_spec", lambda name: module if kernels else None)
    monkeypatch.setattr(_backend, "device_error", module.device_error)
    assert meaning in doctor._cuda()["meaning"]


def test_models_counts_and_times_a_network():
    options = ("--set", "model.name=har-mlp", "--set", "model.width=0.1", "--channels", "3")
    sizes = ("--window-samples", "100", "--classes", "5", "--classes", "2")
    listed = json.loads(_run("models", *options, *sizes, "--json").stdout)
    assert [entry["model"] for entry in listed] == ["har-mlp"]
    units = 48  # 500 times 0.1, to a multiple of 4 (the even one of two)
    assert listed[0]["options"] == {"width": 0.1}
    assert listed[0]["num_macs"] == 300 * units + 2 * units**2 + units * 7
    assert listed[0]["num_parameters"] == listed[0]["num_macs"] + 3 * units + 7
    assert 0.0 < listed[0]["latency_seconds"] < 1.0
    shown = _run("models", *options, *sizes).stdout
    assert "har-mlp, width 0.1" in shown
    assert "3 channels x 100 samples and 5 + 2 classes" in shown
    wrong = _run("models", "--set", "model.name=lstm")
    _is_one_sentence(wrong, "`model.name` must be one of", "'lstm'")
    assert wrong.exit_code == 2


def test_models_lists_every_network(monkeypatch):
    from smoothdistill.benchmark import network_latency
    from smoothdistill.models import MODELS

    assert {model for model, _ in network_latency.NETWORKS.values()} == set(MODELS)
    few = {label: row for label, row in network_latency.NETWORKS.items() if "mlp" in label}
    monkeypatch.setattr(network_latency, "NETWORKS", few)
    assert "har-mlp" in _run("models").stdout


def test_data_list_names_every_data_set():
    from smoothdistill.datasets import DATASETS

    shown = _run("data", "list").stdout
    assert all(name in shown for name in DATASETS)
    listed = json.loads(_run("data", "list", "--json").stdout)
    assert [entry["name"] for entry in listed] == list(DATASETS)


def test_data_check_reads_the_synthetic_set():
    result = _run("data", "check", "synthetic")
    assert result.exit_code == 0
    assert "50 Hz: 60" in result.stdout
    assert json.loads(_run("data", "check", "synthetic", "--json").stdout)["num_subjects"] == 20


def test_bench_reports_times_and_ratios():
    result = _run("bench", "ops", "--quick", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert {row["op"] for row in found["times"]} == set(GROUPS["ops"])
    assert all(row["ratio"] > 0 for row in found["ratios"])
    assert found["machine"]["threads"] == 1


def test_bench_step_prints_each_of_its_tables():
    result = _run("bench", "step", "--quick", "--batch", "4", "--layout", "axes")
    assert result.exit_code == 0, result.stderr
    for words in (
        "ours, float32", "tuned PyTorch", "floor: products alone", "linear 1, forward",
        "where the time goes: ours, float32, axes, batch 4", "inference",
    ):  # fmt: skip
        assert words in result.stdout


def test_a_real_process_says_its_version_and_its_errors(tmp_path):
    version = _process("--version", cwd=tmp_path)
    assert version.returncode == 0
    assert version.stdout.startswith("smoothdistill ")
    assert version.stderr == ""
    wrong = _process("train", "--set", "train.batch_size=-1", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr == "`train.batch_size` must be at least 1, but is -1 instead.\n"
    shown = _process("resume", "none", cwd=tmp_path, SMOOTHDISTILL_TRACEBACK="1")
    assert shown.returncode != 0
    assert "Traceback" in shown.stderr


def test_help_does_not_wait_for_torch(tmp_path):
    code = (
        "import sys; from smoothdistill.cli import app; app(['--help'], standalone_mode=False);"
        "assert not {'torch', 'numba', 'matplotlib', 'sklearn', 'pyarrow'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
