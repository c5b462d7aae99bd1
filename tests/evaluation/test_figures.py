"""Figures: each is drawn, follows the page's colours, and survives hostile or thin input."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib import pyplot

from smoothdistill.evaluation.figures import task_slugs, write_figures
from smoothdistill.evaluation.plots.heat_map import confusion_counts, confusion_figure
from smoothdistill.evaluation.plots.reliability import calibration_bins
from smoothdistill.evaluation.plots.style import INK, figure_style, new_figure, save_png, svg_text
from smoothdistill.evaluation.plots.variants import curves_of_variants, variant_styles
from smoothdistill.evaluation.run_record import RunRecord
from smoothdistill.methods import METHODS
from smoothdistill.training import score_predictions

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def record(tmp_path_factory, write_fake_run):
    classes = {"activity": ("sit", "stand", "walk"), "placement": ("wrist", "chest")}
    folder = tmp_path_factory.mktemp("figures") / "run"
    write_fake_run(folder, classes, num_subjects=6, num_folds=3, epochs=4, per_subject=40)
    return RunRecord.read(folder)


@pytest.fixture(scope="module")
def figures(record):
    return write_figures(record)


def test_every_kind_of_figure_is_written(record, figures):
    assert [figure.kind for figure in figures].count("confusion") == 4
    assert {figure.kind for figure in figures} == {
        "confusion", "cross-task", "curves", "reliability", "subjects",
    }  # fmt: skip
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names)
    for figure in figures:
        content = (record.folder / "figures" / f"{figure.name}.png").read_bytes()
        assert content.startswith(PNG_SIGNATURE)
        assert len(content) > 4_000, "an empty canvas is smaller"
        assert figure.svg.startswith("<svg")
        assert figure.width_pixels > 200
    assert pyplot.get_fignums() == [], "figures leaked into pyplot's global state"


def test_inlined_figures_take_their_colours_from_the_page(figures):
    together = "".join(figure.svg for figure in figures)
    assert INK not in together
    assert "currentColor" in together
    assert "var(--student, #0072b2)" in together
    assert "var(--share, #08529c)" in together


def test_inlined_figures_share_no_clip_path_and_name_no_address(figures):
    clips = [set(re.findall(r'<clipPath id="([^"]+)"', figure.svg)) for figure in figures]
    assert sum(map(len, clips)) == len(set().union(*clips))
    assert not re.search(r"https?://", "".join(figure.svg for figure in figures))


def test_the_same_run_gives_the_same_figures(record, figures):
    assert write_figures(record) == figures


def test_confusion_counts_have_a_row_per_annotated_class():
    counts = confusion_counts(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]), num_classes=3)
    assert counts.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("num_classes", [1, 2, 12, 18])
def test_a_confusion_matrix_shows_every_count(num_classes):
    counts = np.arange(1, num_classes**2 + 1).reshape(num_classes, num_classes)
    names = [f"class {k}" for k in range(num_classes)]
    with figure_style():
        figure = confusion_figure(counts, names, title="task")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown[: num_classes**2] == [str(count) for count in counts.ravel()]


def test_a_class_without_windows_is_said_to_have_none():
    with figure_style():
        figure = confusion_figure(np.array([[3, 1], [0, 0]]), ["a", "b"], title="task")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown[-3:] == ["75%", "no windows", "found"]


def test_names_are_neither_formulas_nor_markup(tmp_path):
    names = [r"$\frac{1}{$", "<script>alert(1)</script>", "--><b>", "走る"]
    with figure_style():
        figure = confusion_figure(np.eye(4, dtype=np.int64), names, title="$x^$ <b>")
        save_png(figure, tmp_path / "hostile.png")
        text = svg_text(figure, name="hostile")
    assert (tmp_path / "hostile.png").stat().st_size > 5_000
    assert "script" not in text
    assert "<b>" not in text


def test_calibration_bins_add_up_to_the_expected_calibration_error(record):
    rows = record.predictions["activity", "teacher"]
    confidence, accuracy, counts = calibration_bins(rows)
    filled = counts > 0
    error = np.sum(np.abs(confidence - accuracy)[filled] * counts[filled]) / counts.sum()
    wanted = score_predictions(rows.targets, rows.predictions, rows.confidences)["ece"]
    assert error == pytest.approx(wanted, rel=1e-9)


def test_a_single_fold_epoch_and_task_is_enough(make_fake_run):
    folder = make_fake_run(
        class_names={"posture": ("up", "down")}, num_subjects=2, num_folds=1, epochs=1
    )
    figures = write_figures(RunRecord.read(folder))
    assert "cross-task" not in {figure.kind for figure in figures}


def test_tasks_have_names_of_their_own_for_files():
    slugs = task_slugs(["活动", "位置", "sleep/wake", "sleep wake"])
    assert len(set(slugs.values())) == 4
    assert all(re.fullmatch("[A-Za-z0-9_-]+", slug) for slug in slugs.values())


@pytest.mark.parametrize("num_variants", [2, len(METHODS) + 1])
def test_every_curve_is_in_the_legend_with_a_look_of_its_own(num_variants):
    labels = [f"variant {number}" for number in range(num_variants)]
    styles = variant_styles(labels, labels[0])
    assert len(set(styles.values())) == num_variants
    curves = {"task": {label: np.linspace(0, 1, 3)[None] for label in labels}}
    with figure_style():
        figure = curves_of_variants(curves, styles, labels[:1])
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
    assert len(figure.legends[0].get_texts()) == num_variants
    assert figure.bbox.y0 <= box.y0
    assert box.y1 <= figure.bbox.y1


def test_a_failed_save_leaves_no_file(tmp_path):
    with figure_style():
        figure = new_figure(2, 2)
        with pytest.raises(OSError, match=r"no-folder"):
            save_png(figure, tmp_path / "no-folder" / "x.png")
    assert list(tmp_path.iterdir()) == []
