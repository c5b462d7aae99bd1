"""Cells of a grid: trained once, resumed to the same bits, marked when they fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext

import pytest
import torch
from filelock import FileLock

import smoothdistill as sd
from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.evaluation import CompareConfig, compare
from smoothdistill.evaluation.comparison import grid as grid_module
from smoothdistill.evaluation.comparison.grid import forget_failures
from smoothdistill.evaluation.comparison.plan import cell_state, make_plan
from smoothdistill.evaluation.comparison.train_cell import CellTrainer
from smoothdistill.methods import METHODS, Multitask
from smoothdistill.training import Trainer, run_execution, turns

TINY = """
[data]
name = "synthetic"
num_subjects = 6

[train]
epochs = 1
device = "cpu"
path = "general"  # fused, each process measures which products are fastest

[split]
num_folds = 2

[compare]
methods = ["multitask"]
"""


def _cells(folder):
    return sorted(path for path in (folder / "cells").iterdir() if path.is_dir())


def _written(folder):
    """What tells whether a cell was trained again: its times would not be the same."""
    return {path.name: (path / "status.json").read_text() for path in _cells(folder)}


@pytest.fixture
def copied(small_comparison, tmp_path):
    """A copy of the small comparison, to be spoilt."""
    return shutil.copytree(small_comparison.folder, tmp_path / "copy")


def test_a_cell_is_an_ordinary_run(small_comparison, tmp_path):
    plan = make_plan(CompareConfig.from_toml((small_comparison.folder / "grid.toml").read_text()))
    cell = plan.cells[0]
    run = Trainer.from_config(cell.config, out=tmp_path / "run", progress=False).fit()
    mine = small_comparison.folder / cell.folder
    for name in ("predictions.csv.gz", "metrics.csv", "per_subject.csv", "config.toml",
                 "splits.json", "data.json", "summary.json"):  # fmt: skip
        if name == "summary.json":
            left, right = (json.loads((f / name).read_text()) for f in (mine, run.folder))
            left.pop("seconds"), right.pop("seconds")
            assert left == right
        else:
            assert (mine / name).read_bytes() == (run.folder / name).read_bytes(), name
    assert sd.Run(mine).selected(cell.fold) is not None
    assert not list(mine.glob("fold-*/last.safetensors")), "nobody goes on with a finished cell"


def test_variants_that_differ_in_their_role_share_cells(small_comparison):
    content = small_comparison.content
    folders = {
        label: [cell["folder"] for cell in content["cells"] if cell["variant"] == label]
        for label in ("smooth-distill", "teacher only")
    }
    assert folders["smooth-distill"] == folders["teacher only"]
    assert len(_cells(small_comparison.folder)) == 4 + 4 + 2


def test_finished_cells_are_not_trained_again(copied, small_grid):
    before = _written(copied)
    scores = (copied / "scores.csv").read_bytes()
    compare(CompareConfig.from_toml(small_grid), out=copied, progress=False)
    assert _written(copied) == before
    assert (copied / "scores.csv").read_bytes() == scores


def test_another_grid_in_the_folder_reuses_cells(copied, small_grid):
    before = _written(copied)
    grid = small_grid.replace("seeds = [0, 1]", "seeds = [1]")
    found = compare(CompareConfig.from_toml(grid), out=copied, baseline="smooth-distill")
    assert _written(copied) == before
    assert found.content["seeds"] == [1]
    assert found.content["baseline"] == "smooth-distill"


def test_after_a_kill_between_cells_the_bytes_are_the_same(copied, small_grid, small_comparison):
    expected = {
        name: (small_comparison.folder / name).read_bytes()
        for name in ("scores.csv", "per_subject.csv", "differences.csv")
    }
    gone, half = _cells(copied)[:2]
    shutil.rmtree(gone)
    # Killed while the results of a cell were written: all files but the last ones are there.
    (half / "status.json").write_text('{"state": "running"}')
    for name in ("summary.json", "per_subject.csv"):
        (half / name).unlink()
    for name in expected:
        (copied / name).unlink()
    compare(CompareConfig.from_toml(small_grid), out=copied, progress=False)
    assert {name: (copied / name).read_bytes() for name in expected} == expected


def test_a_cell_is_trained_by_one_thread_wherever_it_is(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = compare(CompareConfig.from_toml(TINY), out=tmp_path / "out", progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    environments = [json.loads((c / "environment.json").read_text()) for c in _cells(found.folder)]
    assert [one["num_threads"] for one in environments] == [1, 1]


def test_one_comparison_at_a_time_fills_a_folder(copied, small_grid):
    with FileLock(copied / "cells" / ".lock"):
        before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
        with pytest.raises(ValueError, match="`out` must be a folder that no other comparison is"):
            compare(CompareConfig.from_toml(small_grid), out=copied, progress=False)
        assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before
    compare(CompareConfig.from_toml(small_grid), out=copied, progress=False)


@pytest.mark.parametrize("backend", ["processes", "dask", "ray"])
def test_workers_give_the_same_bytes(tmp_path, backend):
    config = CompareConfig.from_toml(TINY)
    alone = compare(config, out=tmp_path / "alone", progress=False).folder
    with CLUSTERS.get(backend, nullcontext)():
        found = compare(config, out=tmp_path / "two", jobs=2, backend=backend, progress=False)
    for name in ("scores.csv", "per_subject.csv", "differences.csv", "table.md", "grid.toml"):
        assert (found.folder / name).read_bytes() == (alone / name).read_bytes(), name


@contextmanager
def _dask():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield


@contextmanager
def _ray():
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


CLUSTERS = {"dask": _dask, "ray": _ray}


def _process(grid, out):
    code = (
        "import sys\nfrom smoothdistill.evaluation import compare\n"
        "compare(sys.argv[1], out=sys.argv[2])\n"
    )
    # The package that is tested: a checkout may have no kernels, whose last bits are their own.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(grid), str(out)],
        cwd=grid.parent, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A grid whose cells save every other step, as a file, and its results."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    text = TINY.replace("epochs = 1", "epochs = 3\nsave_every_steps = 2")
    (folder / "grid.toml").write_text(text)
    compare(folder / "grid.toml", out=folder / "out", progress=False)
    return folder


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_after_a_signal_inside_a_cell_the_bytes_are_the_same(number, uninterrupted, tmp_path):
    grid = uninterrupted / "grid.toml"
    out = tmp_path / "cut"
    process = _process(grid, out)
    deadline = time.monotonic() + 60
    while not list(out.glob("cells/*/fold-*/last.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    states = [cell_state(path)[0] for path in _cells(out)]
    assert "interrupted" in states
    assert not (out / "scores.csv").exists()
    compare(grid, out=out, progress=False)
    for name in ("scores.csv", "per_subject.csv"):
        assert (out / name).read_bytes() == (uninterrupted / "out" / name).read_bytes(), name
    assert not list(out.rglob("*.partial"))
    assert not list(out.glob("cells/.stop*"))


@pytest.fixture
def failing(monkeypatch):
    """A method that raises in fold 1 for as long as its `fails` is true."""

    class Failing(Multitask):
        name = "failing"
        fails = True

        def loss(self, *arguments):
            raise RuntimeError("the method\nhas a fault")

        def build_teacher(self, *arguments, **options):
            if self.fails:
                raise RuntimeError("the method\nhas a fault")
            return super().build_teacher(*arguments, **options)

    Failing.loss = Multitask.loss
    monkeypatch.setitem(METHODS, "failing", Failing)
    return Failing


def test_a_cell_that_fails_is_marked_and_the_others_go_on(failing, tmp_path):
    config = CompareConfig.from_toml(TINY.replace('["multitask"]', '["multitask", "failing"]'))
    found = compare(config, out=tmp_path, progress=False)
    assert len(found.failures) == 2
    assert found.failures[0] == "failing, seed 0, fold 0: the method has a fault"
    by_label = {one["label"]: one for one in found.content["variants"]}
    assert by_label["multitask"]["num_finished"] == 2
    assert by_label["failing"]["num_finished"] == 0
    assert not found.content["is_complete"]
    assert "2 of 4 cells are missing or failed" in found.headline
    for name in ("table.md", "table.tex", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "the method has a fault" in text, name
        assert "†" in text or r"\dagger" in text, name
    rows = [row for row in found.differences() if row["variant"] == "failing"]
    assert {row["why_not"] for row in rows} == {"no finished cell"}

    failing.fails = False
    again = compare(config, out=tmp_path, progress=False)
    assert len(again.failures) == 2, "a failed cell is not tried again unasked"
    retried = compare(config, out=tmp_path, retry=True, progress=False)
    assert not retried.failures
    assert retried.content["is_complete"]


def test_a_damaged_state_is_thrown_away_by_a_retry(tmp_path):
    config = CompareConfig.from_toml(TINY)
    plan = make_plan(config)
    folder = tmp_path / plan.cells[0].folder
    (folder / f"fold-{plan.cells[0].fold:02d}").mkdir(parents=True)
    trainer = CellTrainer(tmp_path, tmp_path / ".stop")
    (folder / f"fold-{plan.cells[0].fold:02d}" / "last.safetensors").write_bytes(b"damaged")
    assert trainer(plan.cells[0]).state == "failed"
    assert json.loads((folder / "failed.json").read_text())["kind"] == "CheckpointError"
    forget_failures(plan, tmp_path)
    assert trainer(plan.cells[0]).state == "finished"
    assert cell_state(folder) == ("finished", "")


def test_a_damaged_cell_counts_as_failed_until_a_retry(copied, small_grid):
    config = CompareConfig.from_toml(small_grid)
    (_cells(copied)[0] / "predictions.csv.gz").write_bytes(b"no gzip")
    before = _written(copied)
    archive = (copied / "cells.zip").read_bytes()
    found = compare(config, out=copied, progress=False)
    assert found.failures
    assert "is damaged" in found.failures[0]
    assert _written(copied) == before
    assert (copied / "cells.zip").read_bytes() == archive, "it keeps what it had"
    again = compare(config, out=copied, retry=True, progress=False)
    assert again.content["is_complete"]
    after = _written(copied)
    assert [name for name in after if after[name] != before[name]] == [_cells(copied)[0].name]
    assert (copied / "cells.zip").read_bytes() != archive, "of times, at least"


def test_a_stop_is_heard_before_a_cell_begins(tmp_path):
    plan = make_plan(CompareConfig.from_toml(TINY))
    (tmp_path / ".stop").touch()
    assert CellTrainer(tmp_path, tmp_path / ".stop")(plan.cells[0]).state == "to do"
    assert not (tmp_path / plan.cells[0].folder).exists()


def test_a_signal_between_cells_stops_the_grid(tmp_path, monkeypatch):
    def stop(self, cell):
        if not self.stop_file.exists():  # a second one would end this very process
            signal.raise_signal(signal.SIGINT)
        return train(self, cell)

    train = CellTrainer.turns
    monkeypatch.setattr(CellTrainer, "turns", stop)
    with pytest.raises(KeyboardInterrupt):
        compare(CompareConfig.from_toml(TINY), out=tmp_path, progress=False)
    assert not _cells(tmp_path)
    assert not list((tmp_path / "cells").glob(".stop*"))


@pytest.mark.parametrize(
    ("table", "kind", "match"),
    [
        ({"data": {"name": "none"}}, ValueError, "`data.name` must be one of"),
        ({"data": {"name": "wisdm"}}, FileNotFoundError, "`root` must be the folder of 'wisdm'"),
        ({"split": {"folds": [9]}}, ValueError, "`split.folds` must be numbers below 5"),
        ({"split": {"num_folds": 21}}, DataError, "must"),
    ],
)
def test_what_no_cell_could_be_made_of_is_refused_at_once(table, kind, match, tmp_path):
    with pytest.raises(kind, match=match):
        compare({**table, "compare": {"methods": ["multitask"]}}, out=tmp_path / "out")
    assert not list(tmp_path.rglob("*.json"))


def test_arguments_of_the_wrong_kind(tmp_path):
    (tmp_path / "file").write_text("")
    config = CompareConfig.from_toml(TINY)
    with pytest.raises(TypeError, match=r"`config_or_runs` must be a grid .* but is a int instead"):
        compare(3, out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"`backend` must be one of .* but is 'gpu' instead"):
        compare(config, out=tmp_path / "out", backend="gpu")
    with pytest.raises(ValueError, match=r"`jobs` must be at least 1, or -1 .* but is 0 instead"):
        compare(config, out=tmp_path / "out", jobs=0)
    with pytest.raises(TypeError, match=r"`jobs` must be an integer, but is str instead"):
        compare(config, out=tmp_path / "out", jobs="2")
    with pytest.raises(ValueError, match=r"`compare.baseline` must be one of the labels \(multi"):
        compare(config, out=tmp_path / "out", baseline="x")
    with pytest.raises(ValueError, match=r"`out` must be a folder, but .* is a file instead"):
        compare(config, out=tmp_path / "file")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"`out` must be a folder without a run, but"):
        compare(config, out=tmp_path / "run")


def test_a_worker_that_is_killed_is_the_machines_fault(tmp_path, monkeypatch):
    class TerminatedWorkerError(RuntimeError):
        pass

    def killed(*arguments):
        raise TerminatedWorkerError
        yield

    monkeypatch.setattr(grid_module, "results", killed)
    with pytest.raises(OSError, match="A worker process was killed from outside"):
        compare(CompareConfig.from_toml(TINY), out=tmp_path, jobs=2, progress=False)


def test_folders_that_hold_no_comparison(tmp_path):
    with pytest.raises(FileNotFoundError, match="`folder` must be the folder of a comparison"):
        sd.evaluation.write_comparison(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"must hold a run with a readable cells\.json"):
        sd.evaluation.write_comparison(tmp_path)
    (tmp_path / "cells.json").write_text('{"source": "grid"}')
    with pytest.raises(
        CheckpointError, match=r"must hold a comparison with a readable cells\.json"
    ):
        sd.evaluation.write_comparison(tmp_path)


# --- Teachers of another kind --------------------------------------------------------------------

TAUGHT = """
[data]
name = "synthetic"
num_subjects = 4

[model]
name = "har-mlp"
width = 0.1

[teacher]
model = { name = "mtl-net" }

[train]
epochs = 1
device = "cpu"
path = "general"

[split]
num_folds = 2

[compare]
methods = ["multitask", "kd", "rkd", "hmkd"]

[[compare.variants]]
label = "the teacher alone"
model = { name = "mtl-net" }
method = { name = "multitask" }
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_teacher_is_trained_for_all_who_learn_from_it(jobs, tmp_path):
    found = compare(
        CompareConfig.from_toml(TAUGHT), out=tmp_path / "out", jobs=jobs, progress=False
    )
    assert found.content["is_complete"]
    assert len(_cells(found.folder)) == 10, "two cells for each variant, none twice"
    assert not list(found.folder.rglob("teacher"))
    assert not list((found.folder / "cells").glob(".?*.lock"))
    alone = [cell for cell in found.content["cells"] if cell["variant"] == "the teacher alone"]
    config = (found.folder / alone[0]["folder"] / "config.toml").read_text()
    assert "teacher" not in config
    if jobs == 1:  # the cell is a run like any other, but for where its teacher lies
        (cell,) = (
            one for one in make_plan(CompareConfig.from_toml(TAUGHT)).cells
            if (one.variant, one.fold) == ("kd", 1)
        )  # fmt: skip
        run = Trainer.from_config(cell.config, out=tmp_path / "run", progress=False).fit()
        name = "predictions.csv.gz"
        mine = found.folder / cell.folder / name
        assert (run.folder / name).read_bytes() == mine.read_bytes()


@pytest.mark.parametrize("jobs", [3, 100])
def test_cells_by_turns_give_the_same_bytes(tmp_path, monkeypatch, jobs):
    """A teacher is wanted by several at once, and is trained in the turns of one of them."""
    config = CompareConfig.from_toml(TAUGHT)
    alone = compare(config, out=tmp_path / "alone", progress=False).folder
    under_way, most = 0, 0
    execute = run_execution._execute

    def counted(*arguments):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        run = yield from execute(*arguments)
        under_way -= 1
        return run

    monkeypatch.setattr(turns, "gains_by_turns", lambda device: True)
    monkeypatch.setattr(run_execution, "_execute", counted)
    found = compare(config, out=tmp_path / "out", jobs=jobs, backend="threads", progress=False)
    assert 1 < most <= jobs
    assert len(_cells(found.folder)) == 10, "none twice"
    for name in ("scores.csv", "per_subject.csv", "differences.csv", "table.md"):
        assert (found.folder / name).read_bytes() == (alone / name).read_bytes(), name


def test_a_teacher_that_fails_fails_those_whom_it_would_teach(tmp_path, monkeypatch):
    few = TAUGHT.replace('"multitask", "kd", "rkd", "hmkd"', '"multitask", "kd", "rkd"')
    taught = CompareConfig.from_toml(few)
    resume = "smoothdistill.evaluation.comparison.train_cell.resume_run"
    from smoothdistill.evaluation.comparison import train_cell

    real = train_cell.resume_run
    tried = []

    def fail(run, *arguments, **options):
        if run.config.model.name == "mtl-net":
            tried.append(run.folder.name)
            raise RuntimeError("no luck")
        return real(run, *arguments, **options)

    monkeypatch.setattr(resume, fail)
    found = compare(taught, out=tmp_path / "out", progress=False)
    states = {
        (cell["variant"], cell["fold"]): (cell["state"], cell.get("reason", ""))
        for cell in found.content["cells"]
    }
    assert states["multitask", 0][0] == "finished"
    assert states["kd", 0] == ("failed", "The teacher failed: no luck")
    assert states["rkd", 0] == states["kd", 0]
    assert states["the teacher alone", 0][0] == "failed"
    assert len(tried) == len(set(tried)) == 2, "once in each fold"
    tried.clear()
    assert compare(taught, out=tmp_path / "out", progress=False, retry=True).failures
    assert len(tried) == len(set(tried)) == 2
    monkeypatch.setattr(resume, real)
    again = compare(taught, out=tmp_path / "out", progress=False, retry=True)
    assert again.content["is_complete"]


def test_a_damaged_teacher_is_trained_anew(tmp_path):
    few = TAUGHT.replace('"multitask", "kd", "rkd", "hmkd"', '"multitask"')
    first = compare(CompareConfig.from_toml(few), out=tmp_path / "out", progress=False)
    alone = [cell for cell in first.content["cells"] if cell["variant"] == "the teacher alone"]
    checkpoint = first.folder / alone[0]["folder"] / "fold-00" / "best.safetensors"
    before = (first.folder / alone[0]["folder"] / "predictions.csv.gz").read_bytes()
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    more = TAUGHT.replace('"multitask", "kd", "rkd", "hmkd"', '"multitask", "kd"')
    found = compare(CompareConfig.from_toml(more), out=tmp_path / "out", progress=False)
    assert found.content["is_complete"]
    assert (first.folder / alone[0]["folder"] / "predictions.csv.gz").read_bytes() == before
    assert sd.Run(first.folder / alone[0]["folder"]).checkpoint(0)


def test_a_lock_that_somebody_holds_is_left(tmp_path):
    (tmp_path / "cells").mkdir()
    held, free = (tmp_path / "cells" / f".{name}.lock" for name in ("held", "free"))
    free.touch()
    with FileLock(held):
        grid_module._remove_locks(tmp_path / "cells")
        assert held.exists()
        assert not free.exists()


def test_a_shared_teacher_is_for_those_who_take_one():
    variants = {one.label: one.config for one in CompareConfig.from_toml(TAUGHT).variants()}
    assert variants["multitask"].teacher is None
    assert variants["kd"].teacher.model.name == "mtl-net"
    assert variants["the teacher alone"].teacher is None
    own = TAUGHT + "teacher = { train = { epochs = 3 } }\n"
    with pytest.raises(ValueError, match=r"`.*teacher` must be left out for the method multi"):
        CompareConfig.from_toml(own)
