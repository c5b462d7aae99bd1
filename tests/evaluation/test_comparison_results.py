"""Results of a comparison: scores as in the runs, tables, figures, one offline page."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
import shutil
import sys
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest

import smoothdistill as sd
from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.evaluation import compare, write_comparison
from smoothdistill.evaluation.comparison.headline import MINUS, headline, points
from smoothdistill.evaluation.comparison.pairs import SURE, find_pair, pair_table
from smoothdistill.training import METRICS

TASKS = ("activity", "placement")
LABELS = ("multitask", "smooth-distill", "teacher only", "leaking")
FILES = {
    "cells", "cells.json", "cells.zip", "grid.toml", "comparison.json", "scores.csv",
    "per_subject.csv", "differences.csv", "pairs.csv", "table.md", "table.tex", "report.html",
    "figures",
}  # fmt: skip


def _rows(folder, name):
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _text(folder, name):
    return (folder / name).read_text(encoding="utf-8")


@pytest.fixture
def _no_figures(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_every_file_is_there(small_comparison):
    assert {path.name for path in small_comparison.folder.iterdir()} == FILES
    assert {path.name for path in (small_comparison.folder / "figures").iterdir()} == {
        "subjects.png", "differences.png", "validation.png", "recall-activity-by-placement.png",
        "recall-placement-by-activity.png",
    }  # fmt: skip


def test_scores_are_those_of_the_runs(small_comparison):
    """Means over folds and seeds of what each run has in its own metrics.csv."""
    found = {}
    for cell in small_comparison.content["cells"]:
        folder = small_comparison.folder / cell["folder"]
        chosen = json.loads(_text(folder, "summary.json"))["selected"][0]
        assert cell["selected"] == chosen
        for row in _rows(folder, "metrics.csv"):
            roles = {row["role"]} | ({"selected"} if row["role"] == chosen else set())
            for role in roles:
                key = (cell["variant"], role, row["task"], row["metric"])
                found.setdefault(key, []).append(float(row["value"] or "nan"))
    rows = _rows(small_comparison.folder, "scores.csv")
    assert len(rows) == len(LABELS) * 3 * len(TASKS) * len(METRICS)
    for row in rows:
        values = found[row["variant"], row["role"], row["task"], row["metric"]]
        # The file of predictions has six digits of the confidence.
        precision = 1e-5 if row["metric"] == "ece" else 1e-12
        assert float(row["mean"]) == pytest.approx(np.mean(values), abs=precision)
        if len(values) > 1:
            assert float(row["std"]) == pytest.approx(np.std(values, ddof=1), abs=precision)
        assert float(row["low"]) <= float(row["high"])


def test_intervals_of_one_seed_are_those_of_a_run(small_grid, small_comparison, tmp_path):
    """A run of all folds has the interval in its summary."""
    config = {"data": {"name": "synthetic", "num_subjects": 6}, "split": {"num_folds": 2}}
    config |= {"train": {"epochs": 2, "device": "cpu"}, "method": {"name": "smooth-distill"}}
    run = sd.Trainer.from_config(
        sd.training.RunConfig.from_table(config), out=tmp_path / "run", progress=False
    ).fit()
    shutil.copytree(small_comparison.folder, tmp_path / "copy")
    grid = small_grid.replace("seeds = [0, 1]", "seeds = [0]")
    found = compare(sd.evaluation.CompareConfig.from_toml(grid), out=tmp_path / "copy")
    mine = next(one for one in found.content["variants"] if one["label"] == "smooth-distill")
    for task in TASKS:
        for role in ("student", "teacher"):
            for metric in METRICS[:5]:
                expected = run.summary["tasks"][task][role][metric]
                assert mine["scores"][task][role][metric]["mean"] == pytest.approx(expected["mean"])
                assert mine["scores"][task][role][metric]["ci95"] == pytest.approx(expected["ci95"])


def test_rows_of_people_are_those_of_the_runs(small_comparison):
    cell = small_comparison.content["cells"][0]
    theirs = {
        (row["subject"], row["role"], row["task"]): float(row["macro_f1"])
        for row in _rows(small_comparison.folder / cell["folder"], "per_subject.csv")
    }
    mine = {
        (row["subject"], row["role"], row["task"]): float(row["macro_f1"])
        for row in _rows(small_comparison.folder, "per_subject.csv")
        if (row["variant"], int(row["seed"]), int(row["fold"]))
        == (cell["variant"], cell["seed"], cell["fold"])
    }
    assert mine == pytest.approx(theirs)


def test_differences_are_differences_of_scores(small_comparison):
    table = {(row["variant"], row["task"]): row for row in small_comparison.table()}
    for row in small_comparison.differences():
        if row["of"] == "pooled" and not row["why_not"]:
            mine, base = (table[label, row["task"]] for label in (row["variant"], "multitask"))
            assert row["difference"] == pytest.approx(mine["macro_f1"] - base["macro_f1"])
            assert mine["difference"] == row["difference"]
            assert row["ci95"][0] <= row["difference"] <= row["ci95"][1]
    people = [row for row in small_comparison.differences() if row["of"] == "subjects"]
    assert {row["metric"] for row in people} == {"macro_f1", "balanced_accuracy", "accuracy"}
    paired = [row for row in people if not row["why_not"]]
    assert all(row["p_value"] <= row["p_holm"] <= 1.0 for row in paired)
    assert {row["num_subjects"] for row in paired} == {6}


def test_pairs_of_the_baseline_are_its_differences(small_comparison):
    content = small_comparison.content
    pooled = [row for row in small_comparison.differences() if row["of"] == "pooled"]
    for row in pooled:
        found = find_pair(content, row["task"], row["variant"], "multitask")
        if row["why_not"]:
            assert found is None
        else:
            assert found == (row["difference"], *row["ci95"])
            value, low, high = found
            assert find_pair(content, row["task"], "multitask", row["variant"]) == (
                -value, -high, -low,
            )  # fmt: skip


def test_every_pair_is_there_once(small_comparison):
    rows = _rows(small_comparison.folder, "pairs.csv")
    expected = [
        (task, later, earlier)
        for task in TASKS
        for earlier, later in combinations(LABELS[:3], 2)  # the last has another protocol
    ]
    assert [(row["task"], row["variant"], row["over"]) for row in rows] == expected
    table = {(row["variant"], row["task"]): row for row in small_comparison.table()}
    for row in rows:
        mine, over = (table[row[side], row["task"]]["macro_f1"] for side in ("variant", "over"))
        assert float(row["difference"]) == pytest.approx(mine - over)
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])


def test_the_table_of_pairs_is_antisymmetric(small_comparison):
    content = small_comparison.content
    for task in TASKS:
        table = pair_table(content, task)
        assert table.headings == ("variant", "1", "2", "3", "4")
        assert [row[0] for row in table.rows] == [f"{n} {x}" for n, x in enumerate(LABELS, 1)]
        entries = [row[1:] for row in table.rows]
        for row in range(4):
            assert entries[row][row] == entries[row][3] == entries[3][row] == ""
            for column in range(row):
                one, other = entries[row][column], entries[column][row]
                assert one.endswith(SURE) == other.endswith(SURE)
                signs = str.maketrans({"+": MINUS, MINUS: "+"})
                assert one.translate(signs) == other


def test_another_protocol_has_no_pairs_and_is_called_leaking(small_comparison):
    rows = [row for row in small_comparison.differences() if row["variant"] == "leaking"]
    assert {row["why_not"] for row in rows} == {"another protocol (published)"}
    assert all(row["difference"] is None for row in rows)
    table = {row["variant"]: row for row in small_comparison.table()}
    assert table["leaking"]["leaks"]
    assert math.isnan(table["leaking"]["difference"])
    for name in ("table.md", "table.tex", "report.html"):
        text = _text(small_comparison.folder, name)
        assert "leaks: the same people" in text, name
        assert "another protocol (published)" in text, name
        assert "not paired" in text, name
    assert "Scores of leaking leak" in _text(small_comparison.folder, "report.html")


def test_the_table_has_a_row_for_each_variant_and_task(small_comparison):
    rows = small_comparison.table()
    assert [(row["variant"], row["task"]) for row in rows] == [
        (label, task) for label in LABELS for task in TASKS
    ]
    by_label = {row["variant"]: row for row in rows}
    assert by_label["teacher only"]["role"] == "teacher"
    markdown = _text(small_comparison.folder, "table.md")
    assert markdown.startswith(small_comparison.headline)
    assert "Protocol: subject and published; seeds 0, 1; 2 folds." in markdown
    for row in rows:
        assert f"{row['macro_f1']:.3f}" in markdown
    tex = _text(small_comparison.folder, "table.tex")
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2
    assert not re.search(r"(?<!\\)[%_&#](?!\s|\\)", tex.split("\n", 1)[1].replace(" & ", " "))


def test_comparison_json_says_how_it_was_made(small_comparison):
    content = json.loads(_text(small_comparison.folder, "comparison.json"))
    assert content["environment"]["torch"]
    assert content["data"]["fingerprint"]
    assert content["config"] == _text(small_comparison.folder, "grid.toml")
    assert content["protocols"] == ["subject", "published"]
    by_label = {one["label"]: one for one in content["variants"]}
    assert by_label["multitask"]["seconds_per_step_ratio"] == 1.0
    assert by_label["smooth-distill"]["num_parameters"] > 1e6
    assert by_label["smooth-distill"]["seconds_per_step"] > 0
    assert by_label["leaking"]["num_cells"] == 2
    assert set(by_label["multitask"]["convergence"]["activity"]) == {"student", "teacher"}


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.headings, self.tags, self.loads, self._is_heading = [], set(), [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._is_heading = tag == "h2"
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset")]

    def handle_data(self, data):
        if self._is_heading:
            self.headings.append(data.strip())
            self._is_heading = False


def test_the_report_is_whole_and_offline(small_comparison):
    text = _text(small_comparison.folder, "report.html")
    page = _Page(text)
    assert page.headings == [
        "Results", "Differences", "Figures", "Student and teacher", "Convergence", "Cost",
        "Protocol", "Cells", "Data", "Configuration, and how to run it again", "Environment",
    ]  # fmt: skip
    assert all(target.startswith("#") for target in page.loads)
    assert not {"script", "link", "iframe", "img"} & page.tags
    assert text.count("<svg") == 5
    assert "seeds = [0, 1]" in text
    assert small_comparison.headline.split(",")[0] in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


def test_everything_is_rebuilt_without_data_and_training(small_comparison, tmp_path, monkeypatch):
    folder = shutil.copytree(small_comparison.folder, tmp_path / "moved")
    for name in FILES - {"cells", "cells.json", "grid.toml", "figures"}:
        (folder / name).unlink()
    shutil.rmtree(folder / "figures")
    monkeypatch.setattr("smoothdistill.datasets.load", None)
    monkeypatch.setattr("smoothdistill.training.run_execution.resume_run", None)
    monkeypatch.setattr("smoothdistill.evaluation.comparison.train_cell.resume_run", None)
    write_comparison(folder)
    assert {path.name for path in folder.iterdir()} == FILES
    for name in ("comparison.json", "scores.csv", "per_subject.csv", "differences.csv",
                 "pairs.csv", "table.md", "table.tex", "report.html"):  # fmt: skip
        assert (folder / name).read_bytes() == (small_comparison.folder / name).read_bytes(), name


def test_figures_of_others_stay(small_comparison, tmp_path):
    folder = shutil.copytree(small_comparison.folder, tmp_path / "paper")
    drawn = {path.name for path in (folder / "figures").iterdir()}
    others = {"my-own.png", "recall.png", "subjects-2.png"}
    for name in (*others, "recall-sleep-by-side.png"):
        (folder / "figures" / name).write_bytes(b"mine")
    write_comparison(folder)
    assert {path.name for path in (folder / "figures").iterdir()} == drawn | others


@pytest.mark.usefixtures("_no_figures")
def test_without_matplotlib_the_tables_stand_alone(small_comparison, tmp_path):
    folder = shutil.copytree(small_comparison.folder, tmp_path / "bare")
    text = _text(write_comparison(folder).folder, "report.html")
    assert "`matplotlib` must be installed" in text
    assert "<svg" not in text


@pytest.mark.usefixtures("_no_figures")
def test_a_comparison_without_any_finished_cell_says_so(small_comparison, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(small_comparison.folder / "cells.json", folder)
    found = write_comparison(folder)
    assert (
        found.headline == "Nothing is paired with multitask. 14 of 14 cells are missing or failed."
    )
    assert found.table() == []


@pytest.fixture(scope="module")
def runs(write_fake_run, tmp_path_factory):
    """Finished runs of two methods on the same folds, one of them with two seeds."""
    parent = tmp_path_factory.mktemp("runs")
    found = {}
    for name, method, seed in (("a", "multitask", 0), ("b", "smooth-distill", 0),
                               ("c", "smooth-distill", 1)):  # fmt: skip
        folder = write_fake_run(
            parent / name, {"activity": ("x", "y", "z"), "placement": ("p", "q")},
            num_subjects=9, num_folds=3, per_subject=30, method=method,
        )  # fmt: skip
        config = _text(folder, "config.toml").replace("seed = 0", f"seed = {seed}")
        if method == "multitask":
            config = re.sub(r"distill_weight.*\ntemperature.*\n", "", config)
        (folder / "config.toml").write_text(config)
        splits = json.loads(_text(folder, "splits.json"))
        for fold in splits["folds"]:
            fold["digest"] = f"fold {fold['index']}"
        (folder / "splits.json").write_text(json.dumps(splits))
        found[name] = folder
    return found


@pytest.mark.usefixtures("_no_figures")
def test_runs_are_compared_by_method_and_seed(runs, tmp_path):
    found = compare(list(runs.values()), out=tmp_path / "out")
    content = found.content
    assert content["source"] == "runs"
    assert [one["label"] for one in content["variants"]] == ["multitask", "smooth-distill"]
    assert [one["num_cells"] for one in content["variants"]] == [3, 6]
    pooled = [row for row in found.differences() if row["of"] == "pooled"]
    # The fake runs' predictions are equal, whatever the method.
    assert [row["difference"] for row in pooled] == [0.0, 0.0]
    assert "is not told apart from multitask in activity macro-F1" in found.headline
    again = shlex.join(["smoothdistill", "compare", *map(str, runs.values())])
    assert content["config"] == f"{again} --baseline multitask"
    again = compare([runs["a"], sd.Run(runs["b"])], out=tmp_path / "two", baseline="smooth-distill")
    assert again.content["baseline"] == "smooth-distill"
    assert _text(write_comparison(found.folder).folder, "scores.csv")
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = found.folder.rename(tmp_path / "far" / "away" / "out")
    before = _text(moved, "comparison.json")
    with pytest.raises(CheckpointError, match=r"has lost 3 of them \(.*\) instead"):
        write_comparison(moved)
    assert _text(moved, "comparison.json") == before


@pytest.mark.usefixtures("_no_figures")
def test_runs_of_one_method_are_called_by_their_folders(runs, tmp_path):
    twin = shutil.copytree(runs["b"], tmp_path / "twin")
    found = compare([runs["b"], twin], out=tmp_path / "out")
    assert [one["label"] for one in found.content["variants"]] == ["b", "twin"]


def test_runs_that_cannot_be_compared(runs, tmp_path):
    with pytest.raises(ValueError, match="`cells` must be left out where runs are compared, but"):
        compare(list(runs.values()), out=tmp_path / "x", cells=["cells.zip"])
    assert not (tmp_path / "x").exists()
    out = tmp_path / "out"

    def spoilt(name, file, change):
        folder = shutil.copytree(runs["b"], tmp_path / name)
        content = json.loads(_text(folder, file))
        change(content)
        (folder / file).write_text(json.dumps(content))
        return folder

    other_data = spoilt("data", "data.json", lambda c: c.update(fingerprint="00"))
    other_folds = spoilt("folds", "splits.json", lambda c: c["folds"][0].update(digest="other"))
    fewer_folds = spoilt("fewer", "splits.json", lambda c: c["folds"].pop())
    unfinished = spoilt("unfinished", "status.json", lambda c: c.update(state="interrupted"))
    damaged = spoilt("damaged", "splits.json", lambda c: c.pop("folds"))
    for folder, kind, match in (
        (other_data, DataError, r"`runs` must have the same data, but .* different fingerprint"),
        (other_folds, DataError, r"`runs` must have the same folds, but .* different folds inst"),
        (fewer_folds, DataError, r"`runs` must have the same folds, but .* different folds inst"),
        (unfinished, CheckpointError, r"`runs` must be finished, but .*; `smoothdistill resume"),
        (damaged, CheckpointError, r"must hold a run with a readable splits\.json"),
        (tmp_path / "none", FileNotFoundError, r"must be a run folder, but .* does not exist"),
        (runs["a"], ValueError, r"`runs` must be at least two different run folders, but has 1"),
    ):
        with pytest.raises(kind, match=match):
            compare([runs["a"], folder], out=out)
    with pytest.raises(ValueError, match=r"`baseline` must be one of the labels .* but is 'x' ins"):
        compare([runs["a"], runs["b"]], out=out, baseline="x")
    assert not out.exists()
    out.mkdir()
    (out / "grid.toml").touch()
    with pytest.raises(ValueError, match=r"`out` must be a folder without a grid, but .* holds"):
        compare([runs["a"], runs["b"]], out=out)
    assert [path.name for path in out.iterdir()] == ["grid.toml"]


def _content(rows, labels=("base", "one")):
    differences = [
        {"variant": variant, "task": task, "metric": "macro_f1", "of": of, "difference": value,
         "ci95": span, "p_holm": p}
        for variant, task, value, span, p in rows
        for of in ("pooled", "subjects")
    ]  # fmt: skip
    variants = [{"label": label, "protocol": "subject"} for label in labels]
    return {"baseline": "base", "differences": differences, "variants": variants, "cells": []}


def test_headlines_say_no_more_than_the_intervals():
    found = headline(_content([
        ("one", "activity", 0.021, [0.008, 0.033], 0.01),
        ("one", "placement", 0.003, [-0.004, 0.01], 0.5),
    ]))  # fmt: skip
    assert found == (
        "one beats base by 2.1 points of activity macro-F1 [0.8, 3.3] and is not told apart from "
        f"it in placement macro-F1 (+0.3 [{MINUS}0.4, 1.0]), on unseen subjects."
    )
    assert "falls behind base by 2.0 points of activity macro-F1 [1.0, 3.0]" in headline(
        _content([("one", "activity", -0.02, [-0.03, -0.01], 0.01)])
    )
    assert "is ahead of base by 2.1 points of activity macro-F1 [0.8, 3.3] (not confirmed" in (
        headline(_content([("one", "activity", 0.021, [0.008, 0.033], 0.2)]))
    )
    against = _content([("one", "activity", 0.021, [0.008, 0.033], 0.001)])
    against["differences"][1]["difference"] = -0.04  # of people
    assert "is ahead of base by 2.1 points of activity macro-F1 [0.8, 3.3] (not confirmed by the " \
        "rank test, person by person it is not)" in headline(against)  # fmt: skip
    several = headline(_content(
        [(name, "activity", 0.02 - 0.03 * place, [0.01 - 0.03 * place, 0.03 - 0.03 * place], 0.01)
         for place, name in enumerate(("one", "two"))], ("base", "one", "two"),
    ))  # fmt: skip
    assert "Of 2 variants against base: 1 above and 0 below in activity" in several
    alone = headline(_content([], ("base",)))
    assert alone == "base alone was trained: there is nothing to compare it with."


def test_points_have_a_sign_and_no_negative_zero():
    assert points(0.0213) == "+2.1"
    assert points(-0.0213) == f"{MINUS}2.1"
    assert points(-0.0001) == points(0.0) == "0.0"
    assert points(None) == points(math.nan) == "—"
