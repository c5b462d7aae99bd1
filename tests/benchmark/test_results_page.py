"""docs/results.md is what its script makes of the committed comparisons."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

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


def test_an_unfinished_comparison_is_refused(results_page, tmp_path):
    (tmp_path / "comparison.json").write_text('{"is_complete": false}')
    with pytest.raises(SystemExit, match="is not complete"):
        results_page.take_in("x", tmp_path)
