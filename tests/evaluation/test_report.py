"""The report: complete, offline, escaped, honest about leaks, and whole or not there."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser

import pytest

from smoothdistill.errors import CheckpointError
from smoothdistill.evaluation import write_report

SECTIONS = (
    "Results", "What was trained", "Protocol", "Figures", "Subjects", "Folds", "Data",
    "Configuration", "Environment",
)  # fmt: skip
EVIL = "<script>alert('x')</script>"


class _Page(HTMLParser):
    """Headings, elements, and everything that a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.tags, self.loads = [], [], []
        self._is_heading = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._is_heading = tag == "h2"
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                self.loads.append(value)
            assert not name.startswith("on"), "an event handler"

    def handle_data(self, data):
        if self._is_heading:
            self.headings.append(data.strip())
            self._is_heading = False


@pytest.fixture
def small_run(make_fake_run):
    return make_fake_run(num_subjects=6, num_folds=3, per_subject=40)


@pytest.fixture
def _no_figures(monkeypatch):
    """Figures take most of the time, and matplotlib is an extra: a report without them is whole."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture(scope="module")
def reported(tmp_path_factory, write_fake_run):
    """A run of 18 and 2 classes with its report, only to be looked at."""
    folder = write_fake_run(
        tmp_path_factory.mktemp("reported") / "run", num_subjects=6, num_folds=3, per_subject=40
    )
    assert write_report(folder) == folder / "report.html"
    return folder


def test_the_report_has_every_section_and_both_roles(reported):
    text = (reported / "report.html").read_text(encoding="utf-8")
    assert _Page(text).headings == list(SECTIONS)
    for wanted in ("student", "teacher", "macro-F1", "ECE", "MCC", "largest class", "±", "95 %"):
        assert wanted in text
    summary = json.loads((reported / "summary.json").read_text())
    for task in ("activity", "placement"):
        for role in ("student", "teacher"):
            assert f"{summary['tasks'][task][role]['macro_f1']['mean']:.3f}" in text
    assert text.count("<svg") == 9
    assert "batch_size = 64" in text
    assert "5f5f5f" in text, "the fingerprint of the data"
    assert "1603" in text, "a subject"


def test_the_report_loads_nothing(reported):
    text = (reported / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert all(target.startswith("#") for target in page.loads)
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_names_of_the_users_own_are_escaped(make_fake_run):
    folder = make_fake_run(
        class_names={"<img src=x>": (EVIL, "b"), "placement & co": ("a", "b")},
        num_subjects=3, num_folds=2, per_subject=20, subject_prefix=EVIL,
    )  # fmt: skip
    (folder / "config.toml").write_text(f'[data]\nname = "{EVIL}"\n[method]\nname = "x"\n')
    text = write_report(folder).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "<script" not in card
    names = [path.name for path in (folder / "figures").iterdir()]
    assert all(re.fullmatch(r"[\w-]+\.png", name) for name in names)


@pytest.mark.usefixtures("_no_figures")
def test_a_published_split_is_called_a_leak(make_fake_run, small_run):
    leaking = make_fake_run("leaking", num_subjects=4, num_folds=2, protocol="published")
    assert "These scores leak" in write_report(leaking).read_text(encoding="utf-8")
    assert "These scores leak" not in write_report(small_run).read_text(encoding="utf-8")
    assert "These scores leak" in (leaking / "MODEL_CARD.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("_no_figures")
def test_lacking_classes_are_named(make_fake_run):
    folder = make_fake_run(num_subjects=6, num_folds=3, per_subject=200)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "fold 2, test windows, activity: folding" in text
    summary = json.loads((folder / "summary.json").read_text())
    entry = {"fold": 1, "side": "train", "task": "placement", "classes": ["watch"]}
    (folder / "summary.json").write_text(json.dumps(summary | {"missing_classes": [entry]}))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "fold 1, train windows, placement: watch" in text
    assert "activity: folding" not in text, "what the trainer noted counts"


@pytest.mark.usefixtures("_no_figures")
def test_without_matplotlib_the_tables_stand_alone(small_run):
    text = write_report(small_run).read_text(encoding="utf-8")
    assert "<svg" not in text
    assert "`matplotlib` must be installed" in text
    assert _Page(text).headings == list(SECTIONS)


@pytest.mark.usefixtures("_no_figures")
def test_unknown_scores_are_dashes(small_run):
    summary = json.loads((small_run / "summary.json").read_text())
    summary["tasks"]["activity"]["student"]["mcc"] = {"mean": None, "std": None, "ci95": [None] * 2}
    del summary["tasks"]["activity"]["teacher"]["mcc"]
    (small_run / "summary.json").write_text(json.dumps(summary))
    text = write_report(small_run).read_text(encoding="utf-8")
    assert "<td>—</td>" in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`run_folder` must be the folder of a run, but"):
        write_report(tmp_path / "nowhere")


@pytest.mark.usefixtures("_no_figures")
def test_an_unfinished_run_is_refused_with_the_way_on(small_run):
    (small_run / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"lacks summary\.json instead; `smoothdistill resum"):
        write_report(small_run)
    assert not (small_run / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "[1, 2]"),
        ("summary.json", "{"),
        ("config.toml", "= 3"),
        ("history.csv", "fold,epoch\n1"),
        ("history.csv", "fold,epoch\n1,x\n"),
        ("predictions.csv.gz", "not gzip"),
    ],
)
def test_a_damaged_file_is_named(small_run, name, content):
    (small_run / name).write_text(content)
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)}' is damaged \("):
        write_report(small_run)


@pytest.mark.usefixtures("_no_figures")
def test_a_report_that_cannot_be_written_leaves_the_old_one(small_run):
    page = write_report(small_run)
    before = page.read_bytes()
    (small_run / "predictions.csv.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(CheckpointError):
        write_report(small_run)
    assert page.read_bytes() == before
    assert not list(small_run.glob("*.partial"))
