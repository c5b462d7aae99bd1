"""docs/results.md is what its script makes of the committed comparisons."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import pytest

from smoothdistill.evaluation.comparison.records import CellRecord

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results_page():
    path = REPOSITORY / "bench" / "results_page.py"
    spec = importlib.util.spec_from_file_location("results_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_committed_comparisons(results_page):
    assert results_page.page() == results_page.PAGE.read_text(encoding="utf-8")
    names = [path.stem for path in results_page.RESULTS.glob("compare-*.json")]
    assert names


def test_trees_of_other_windows_are_refused(results_page, tmp_path, monkeypatch):
    monkeypatch.setattr(results_page, "RESULTS", tmp_path)
    (tmp_path / "trees-x.json").write_text('{"windows": 7, "scores": []}')
    contents = {"x": {"data": {"num_windows": 8}, "variants": []}}
    with pytest.raises(ValueError, match=r"`trees-x\.json` must have the 8 windows .*, but has 7"):
        results_page.trees(contents)


def test_no_comparison_says_where_things_lay(results_page):
    for path in results_page.RESULTS.glob("compare-*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["is_complete"]
        assert results_page.without_places(content) == content


def test_places_are_left_out(results_page):
    content = {
        "config": '[data]\nname = "wisdm"\nroot = "/somewhere"\n[train]\n',
        "variants": [{"config": {"data": {"name": "wisdm", "root": "/somewhere"}}}],
        "cells": [{"folder": "cells/1", "fold": 0}],
    }
    assert results_page.without_places(content) == {
        "config": '[data]\nname = "wisdm"\n[train]\n',
        "variants": [{"config": {"data": {"name": "wisdm"}}}],
        "cells": [{"fold": 0}],
    }


def test_of_an_unfinished_comparison_the_cells_alone_are_taken(results_page, tmp_path, monkeypatch):
    monkeypatch.setattr(results_page, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "comparison.json").write_text('{"is_complete": false}')
    (tmp_path / "cells.zip").write_bytes(b"cells")
    with pytest.raises(SystemExit, match="is not complete"):
        results_page.take_in("x", tmp_path)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["cells-x.zip"]


def test_no_cell_says_where_things_lay(results_page, tmp_path):
    """And each can be read."""
    for path in results_page.RESULTS.glob("cells-*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path)
    for path in tmp_path.iterdir():
        record = CellRecord.read(path)
        assert record.tallies
        assert "/" not in json.dumps([record.data, record.environment])
