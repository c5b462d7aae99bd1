"""``smoothdistill compare``: a grid from a file, its report, and one sentence per error."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from smoothdistill.cli import app
from smoothdistill.methods import METHODS, Multitask

GRID = """
[data]
name = "synthetic"
num_subjects = 6

[train]
epochs = 1
device = "cpu"

[split]
num_folds = 2

[compare]
methods = ["multitask", "smooth-distill"]
"""
runner = CliRunner()


def _run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def _is_one_sentence(result, code, *words):
    assert result.exit_code == code, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A grid file, the folder of its comparison, and what was printed."""
    parent = tmp_path_factory.mktemp("compare")
    (parent / "grid.toml").write_text(GRID)
    result = _run("compare", "--config", parent / "grid.toml", "--out", parent / "out")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == "", "no bar off a terminal"
    return parent / "grid.toml", parent / "out", result.stdout


def test_it_prints_tables_a_headline_and_where_the_report_is(compared):
    _, folder, printed = compared
    assert "activity (points: macro-F1 over multitask)" in printed
    assert "smooth-distill" in printed
    assert "protocol: subject" in printed
    content = json.loads((folder / "comparison.json").read_text())
    assert content["headline"] in printed
    assert printed.endswith(f"report: {folder / 'report.html'}\n")
    assert all(len(line) <= 132 for line in printed.splitlines()[:-3])


def test_a_second_call_trains_nothing_and_prints_json(compared):
    grid, folder, _ = compared
    before = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/status.json")}
    result = _run("compare", "--config", grid, "--out", folder, "--json", "--quiet")
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert content["folder"] == str(folder)
    assert len(content["cells"]) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_dry_run_lists_cells_and_touches_nothing(compared, tmp_path):
    grid, folder, _ = compared
    listed = _run("compare", "--config", grid, "--out", folder, "--dry-run")
    assert listed.exit_code == 0, listed.stderr
    assert "4 finished" in listed.stdout
    wider = _run(
        "compare", "--config", grid, "--out", folder, "--dry-run", "--json",
        "--set", "compare.seeds=[0, 1]",
    )  # fmt: skip
    states = [cell["state"] for cell in json.loads(wider.stdout)]
    assert sorted(states) == ["finished"] * 4 + ["to do"] * 4
    fresh = _run("compare", "--config", grid, "--out", tmp_path / "new", "--dry-run", "--seed", "9")
    assert "4 to do" in fresh.stdout
    taken = _run(
        "compare", "--config", grid, "--out", tmp_path / "new", "--dry-run",
        "--cells", folder / "cells.zip", "--set", "compare.seeds=[0, 1]",
    )  # fmt: skip
    assert "4 finished, 4 to do" in taken.stdout
    assert list(tmp_path.iterdir()) == []


def test_report_rebuilds_a_comparison(compared):
    _, folder, _ = compared
    before = {name: (folder / name).read_bytes() for name in ("scores.csv", "report.html")}
    for name in before:
        (folder / name).unlink()
    result = _run("report", folder)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"report: {folder / 'report.html'}\n"
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_runs_are_compared_by_their_folders(compared, tmp_path):
    _, folder, _ = compared
    cells = json.loads((folder / "comparison.json").read_text())["cells"]
    first, second = (
        next(c["folder"] for c in cells if c["variant"] == label and c["fold"] == 0)
        for label in ("multitask", "smooth-distill")
    )
    result = _run(
        "compare", folder / first, folder / second, "--out", tmp_path, "--baseline",
        "smooth-distill", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["baseline"] == "smooth-distill"
    other_fold = next(c["folder"] for c in cells if c["fold"] == 1)
    refused = _run("compare", folder / first, folder / other_fold, "--out", tmp_path / "x")
    _is_one_sentence(refused, 3, "`runs` must have the same folds, but")


def test_a_failed_cell_ends_with_one_and_its_reason(tmp_path, monkeypatch):
    class Failing(Multitask):
        name = "failing"

        def build_teacher(self, *arguments, **options):
            raise RuntimeError("out of luck")

    monkeypatch.setitem(METHODS, "failing", Failing)
    (tmp_path / "grid.toml").write_text(GRID.replace('"smooth-distill"', '"failing"'))
    arguments = ("compare", "--config", tmp_path / "grid.toml", "--out", tmp_path / "out")
    result = _run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"failed: failing, seed 0, fold {fold}: out of luck" for fold in (0, 1)
    ]
    assert "failing †" in result.stdout
    assert "failing: 2 failed: out of luck" in result.stdout
    listed = _run(*arguments, "--dry-run")
    assert "failed: out of luck" in listed.stdout
    monkeypatch.setitem(METHODS, "failing", type("Mended", (Multitask,), {"name": "failing"}))
    assert _run(*arguments).exit_code == 1
    assert _run(*arguments, "--retry", "--quiet").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, ["`RUN` or `--config` must be given, and not both, but neither is instead"]),
        (["run", "--config", "quick"], 2, ["must be given, and not both, but both are instead"]),
        (["run", "run", "--retry"], 2, ["`RUN` must be compared as it is, but"]),
        (["none", "nowhere"], 3, ["must be a run folder, but 'none' does not exist"]),
        (
            ["--config", "none"],
            3,
            ["`config` must be a TOML file or one of the presets (", "quick"],
        ),
        (["--config", "quick", "--set", "compare.methods=['x']"], 2, ["`compare.methods` must be"]),
        (["--config", "quick", "--set", "compare.foo=1"], 2, ["`compare.foo` must be one of the"]),
        (
            ["--config", "quick", "--set", "train.epochs=0"],
            2,
            ["`train.epochs` must be at least 1"],
        ),
        (["--config", "quick", "--set", "data.name=x"], 2, ["`data.name` must be one of"]),
        (["--config", "quick", "--baseline", "x"], 2, ["`compare.baseline` must be one of the"]),
        (["--config", "quick", "--seed", "-1"], 2, ["`compare.seeds` must be"]),
        (["--config", "quick", "--jobs", "0"], 2, ["`jobs` must be at least 1, or -1"]),
        (
            ["--config", "quick", "--cells", "x.zip"],
            3,
            ["`cells` must be files", "'x.zip' does not"],
        ),
        (["--config", "quick", "--backend", "x"], 2, ["`backend` must be one of 'threads'"]),
    ],
)
def test_errors_are_one_sentence_with_an_exit_code(arguments, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = _run("compare", *arguments)
    assert result.stdout == ""
    _is_one_sentence(result, code, *words)
    assert list(tmp_path.rglob("*")) == [], "an error left something behind"


def test_without_out_the_folder_is_named_by_the_grid(tmp_path, monkeypatch):
    """So that the same command goes on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(GRID)
    listed = _run("compare", "--config", "mine.toml", "--dry-run")
    assert listed.exit_code == 0

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    module = sys.modules["smoothdistill.evaluation.comparison.compare"]
    monkeypatch.setattr(module, "train_grid", interrupt)
    result = _run("compare", "--config", "mine.toml")
    _is_one_sentence(result, 130, "Stopped; the same command goes on.")
    assert (tmp_path / "runs" / "compare-mine" / "cells.json").is_file()


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_a_signal_saves_what_processes_have_under_way(number, code, tmp_path):
    """A terminal's Ctrl-C goes to the whole group, SIGTERM to one process."""
    text = GRID.replace("epochs = 1", "epochs = 400\nbatch_size = 16")
    (tmp_path / "grid.toml").write_text(text)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from smoothdistill.cli import main; main()", "compare", "--config",
         "grid.toml", "--out", "out", "--jobs", "2"],
        cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out = tmp_path / "out"
    deadline = time.monotonic() + 90
    while len(list(out.glob("cells/*/fold-*/last.safetensors"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors == "Stopped; the same command goes on.\n"
    states = [json.loads(path.read_text())["state"] for path in out.glob("cells/*/status.json")]
    assert states == ["interrupted"] * 2
    assert not list(out.glob("cells/.stop*"))
    listed = _run("compare", "--config", tmp_path / "grid.toml", "--out", out, "--dry-run")
    assert re.search(r"2 interrupted, 2 to do|2 to do, 2 interrupted", listed.stdout)


def test_help_explains_itself():
    shown = _run("compare", "--help").stdout
    for word in ("--config", "--dry-run", "--retry", "--jobs", "--backend", "--baseline"):
        assert word in shown


def test_labels_are_no_markup(tmp_path):
    labels = ("ours [w/o warm-up]", "T=4 [/2]")
    variants = "".join(
        f'[[compare.variants]]\nlabel = "{label}"\ntrain = {{ lr = {0.1 * number} }}\n'
        for number, label in enumerate(labels)
    )
    grid = GRID.replace('["multitask", "smooth-distill"]', "[]") + variants
    (tmp_path / "grid.toml").write_text(grid)
    for label in labels:
        found = _run(
            "compare", "--config", tmp_path / "grid.toml", "--out", tmp_path / "out",
            "--baseline", label,
        )  # fmt: skip
        assert found.exit_code == 0, found.output
        assert f"macro-F1 over {label})" in found.output
