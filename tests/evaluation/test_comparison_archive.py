"""`cells.zip`: what cells have left, taken to another folder, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import fields

import numpy as np
import pytest

from smoothdistill.errors import CheckpointError
from smoothdistill.evaluation import CompareConfig, compare, write_comparison
from smoothdistill.evaluation.comparison import train_cell
from smoothdistill.evaluation.comparison.plan import RECORD_FILE, Plan
from smoothdistill.evaluation.comparison.records import CellRecord, read_cells

TABLES = (
    "scores.csv", "per_subject.csv", "differences.csv", "pairs.csv", "table.md", "table.tex",
    "comparison.json", "cells.json", "cells.zip", "grid.toml",
)  # fmt: skip


@pytest.fixture
def config(small_grid):
    return CompareConfig.from_toml(small_grid)


@pytest.fixture
def _no_training(monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("a cell was trained")

    monkeypatch.setattr(train_cell, "resume_run", fail)


@pytest.fixture
def archive(small_comparison):
    return small_comparison.folder / "cells.zip"


def _same(left, right):
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, tuple) and left and isinstance(left[0], np.ndarray):
        return all(map(_same, left, right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=True)
    return left == right


def _assert_same_results(folder, other):
    for name in TABLES:
        mine, theirs = ((one / name).read_bytes() for one in (folder, other))
        if name == "comparison.json":
            assert json.loads(mine) == json.loads(theirs)
        else:
            assert mine == theirs, name


def test_a_record_is_read_as_it_was_written(small_comparison, tmp_path):
    plan = Plan.read(small_comparison.folder)
    for result in read_cells(plan, small_comparison.folder):
        result.record.write(tmp_path / "record")
        found = CellRecord.read(tmp_path / "record")
        for field in fields(CellRecord):
            mine, other = getattr(result.record, field.name), getattr(found, field.name)
            if field.name in ("crossings", "history"):  # which no order matters of
                mine, other = (dict(sorted(one.items())) for one in (mine, other))
            if field.name in ("data", "environment", "class_names"):
                assert mine == other
            else:
                assert _same(mine, other), field.name


@pytest.mark.usefixtures("_no_training")
def test_a_comparison_is_the_same_from_the_archive_alone(
    small_comparison, config, archive, tmp_path
):
    found = compare(config, out=tmp_path / "out", cells=[archive], progress=False)
    cells = [path for path in (found.folder / "cells").iterdir() if path.is_dir()]
    assert {path.name for cell in cells for path in cell.iterdir()} == {RECORD_FILE}
    _assert_same_results(found.folder, small_comparison.folder)
    for path in (small_comparison.folder / "figures").iterdir():
        assert (found.folder / "figures" / path.name).read_bytes() == path.read_bytes()
    # Nothing else is needed: no data, no runs, and not the archive either.
    before = (found.folder / "scores.csv").read_bytes()
    (found.folder / "scores.csv").unlink()
    write_comparison(found.folder)
    assert (found.folder / "scores.csv").read_bytes() == before


def test_what_the_archive_lacks_is_trained(small_comparison, small_grid, config, tmp_path):
    """As if one machine had trained one seed, and another the other one."""
    few = shutil.copytree(small_comparison.folder, tmp_path / "few")
    one_seed = CompareConfig.from_toml(small_grid.replace("seeds = [0, 1]", "seeds = [1]"))
    compare(one_seed, out=few, progress=False)
    with zipfile.ZipFile(few / "cells.zip") as archive:
        assert len(archive.namelist()) == 5
    kept = shutil.copytree(small_comparison.folder, tmp_path / "out")
    for cell in Plan.read(kept).cells:
        if cell.seed == 1 and (kept / cell.folder).exists():
            shutil.rmtree(kept / cell.folder)
    for name in TABLES:
        (kept / name).unlink()
    found = compare(config, out=kept, cells=[few / "cells.zip"], progress=False)
    for name in ("scores.csv", "differences.csv", "cells.zip"):
        assert (found.folder / name).read_bytes() == (small_comparison.folder / name).read_bytes()


def test_a_report_takes_what_is_gone_from_the_archive(small_comparison, tmp_path):
    kept = shutil.copytree(small_comparison.folder, tmp_path / "kept")
    shutil.rmtree(kept / "cells")
    for _ in range(2):
        write_comparison(kept)
        _assert_same_results(kept, small_comparison.folder)
    assert not (kept / "cells").exists()


@pytest.mark.parametrize("spoil", [None, "cut"])
def test_a_report_of_nothing_does_not_replace_results(spoil, small_comparison, tmp_path):
    kept = shutil.copytree(small_comparison.folder, tmp_path / "kept")
    shutil.rmtree(kept / "cells")
    if spoil:
        _cut(kept / "cells.zip")
    else:
        (kept / "cells.zip").unlink()
    before = {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match="`folder` must hold the cells that its results were"):
        write_comparison(kept)
    assert {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()} == before


def test_what_was_trained_here_stays(small_comparison, config, archive, tmp_path):
    out = shutil.copytree(small_comparison.folder, tmp_path / "out")
    compare(config, out=out, cells=[archive], progress=False)
    assert not list(out.rglob(RECORD_FILE))


def test_a_teacher_of_whom_only_the_record_is_there_is_trained(tmp_path):
    alone = {
        "data": {"name": "synthetic", "num_subjects": 4},
        "train": {"epochs": 1, "device": "cpu", "path": "general"},
        "model": {"name": "har-mlp", "width": 0.1},
        "split": {"num_folds": 2, "folds": [0]},
        "compare": {"methods": ["multitask"]},
    }
    taught = {
        **alone,
        "teacher": {"model": {"name": "har-mlp", "width": 0.1}},
        "compare": {"methods": ["multitask", "kd"]},
    }
    first = compare(alone, out=tmp_path / "first", progress=False)
    found = compare(
        taught, out=tmp_path / "out", cells=[first.folder / "cells.zip"], progress=False
    )
    assert found.content["is_complete"]
    teacher = found.folder / found.content["cells"][0]["folder"]
    assert list(teacher.glob("fold-00/best.safetensors"))


def _damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(bytes(content))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def _no_archive(path):
    path.write_text("no archive")


def _other_records(path):
    """A file of the right name with something else in it."""
    with zipfile.ZipFile(path) as archive:
        name = archive.namelist()[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"nothing")


@pytest.mark.parametrize("spoil", [_damage, _cut, _no_archive, _other_records])
@pytest.mark.usefixtures("_no_training")
def test_a_damaged_archive_is_refused_before_anything_is_written(spoil, config, archive, tmp_path):
    spoilt = shutil.copy(archive, tmp_path / "spoilt.zip")
    spoil(tmp_path / "spoilt.zip")
    with pytest.raises(CheckpointError, match="`cells` must be whole files of a comparison"):
        compare(config, out=tmp_path / "out", cells=[archive, spoilt], progress=False)
    assert not (tmp_path / "out").exists()


def test_cells_of_another_grid_are_refused(config, archive, tmp_path):
    other = config.model_dump(exclude_none=True)
    other["train"]["epochs"] = 3
    with pytest.raises(ValueError, match=r"`cells` must hold cells of this grid.* 10 others inst"):
        compare(other, out=tmp_path / "out", cells=[archive], progress=False)
    with pytest.raises(FileNotFoundError, match="does not exist instead"):
        compare(config, out=tmp_path / "out", cells=[tmp_path / "none.zip"], progress=False)
    assert not (tmp_path / "out").exists()
