"""One offline page about a run: ``report.html``, with its figures inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from smoothdistill.errors import SmoothDistillError
from smoothdistill.evaluation.figures import DrawnFigure, write_figures
from smoothdistill.evaluation.model_card import model_card_text
from smoothdistill.evaluation.run_record import RunRecord
from smoothdistill.evaluation.tables import (
    METRICS,
    Score,
    Table,
    fold_table,
    format_value,
    lacking_classes,
    score_of,
    subject_table,
)
from smoothdistill.methods import METHODS
from smoothdistill.training.checkpoint import write_atomically
from smoothdistill.training.roles import ROLES

__all__ = ["PROTOCOL_MEANINGS", "flat_table", "page_text", "write_report"]

PROTOCOL_MEANINGS = {
    "subject": (
        "Grouped folds by subject: every test subject is unknown to the model of its fold. "
        "Validation subjects, apart from both, choose the epoch; the standardisation and every "
        "other fitted thing saw training subjects only."
    ),
    "leave-one-subject-out": (
        "Each subject is tested once by a model that never saw them; the other subjects train it "
        "and, apart from those, choose its epoch."
    ),
    "official": (
        "The data set's own test part: its subjects are unknown to the model. Validation subjects, "
        "apart from both, choose the epoch."
    ),
    "published": (
        "As published: windows are dealt to training and test at random, so subjects, and samples "
        "of overlapping windows, stand on both sides. The scores say little about new people."
    ),
}

_SECTIONS = (
    ("results", "Results"),
    ("trained", "What was trained"),
    ("protocol", "Protocol"),
    ("figures", "Figures"),
    ("subjects-table", "Subjects"),
    ("folds-table", "Folds"),
    ("data", "Data"),
    ("configuration", "Configuration"),
    ("environment", "Environment"),
)
_GROUP_TITLES = {
    "curves": "Training curves",
    "confusion": "Confusion matrices",
    "subjects": "Test subjects",
    "reliability": "Calibration",
    "cross-task": "What and where",
}
_WIDEST_OF_A_PAIR_PIXELS = 560


@dataclass(frozen=True)
class _Group:
    title: str
    figures: tuple[DrawnFigure, ...]
    folded: bool


def write_report(run_folder: str | Path) -> Path:
    """Write ``figures/``, ``MODEL_CARD.md`` and ``report.html`` of a finished run.

    The page loads nothing from elsewhere: styles and figures are inside. Without matplotlib it
    says so and has no figures.

    Args:
        run_folder: A folder written by ``Trainer.fit``.

    Returns:
        The path of ``report.html``.

    Raises:
        FileNotFoundError: If there is no such folder.
        CheckpointError: If the run is not finished, or one of its files is damaged.
    """
    record = RunRecord.read(run_folder)
    no_figures = ""
    try:
        figures = write_figures(record)
    except SmoothDistillError as error:  # matplotlib is an extra: the tables stand without it
        figures, no_figures = [], str(error)
    card = model_card_text(record)
    write_atomically(record.folder / "MODEL_CARD.md", lambda path: _write_text(path, card))
    page = report_text(record, figures, no_figures=no_figures)
    target = record.folder / "report.html"
    write_atomically(target, lambda path: _write_text(path, page))
    return target


def report_text(record: RunRecord, figures: list[DrawnFigure], *, no_figures: str = "") -> str:
    """The page as HTML text.

    Args:
        record: A finished run.
        figures: What `write_figures` returned.
        no_figures: Why there are no figures, if there are none.
    """
    subjects = record.data.get("num_subjects")
    people = f", {subjects} subjects" if subjects is not None else ""
    return page_text(
        "report.html.jinja",
        title=f"{record.method} on {record.data_name}",
        lead=(
            f"{record.model}, {len(record.tasks)} task{'s' if len(record.tasks) != 1 else ''} "
            f"({', '.join(record.tasks)}){people}. Protocol: {record.protocol}."
        ),
        sections=_SECTIONS,
        leaks=record.protocol == "published",
        unfinished=_unfinished(record),
        tiles=[_tile(record, task) for task in record.tasks],
        selection=_selection(record),
        num_folds=len(record.folds),
        metrics=METRICS,
        roles=record.role_meanings,
        results=list(_result_rows(record)),
        trained=_trained_table(record),
        protocol_meaning=PROTOCOL_MEANINGS.get(record.protocol, record.protocol),
        lacking=[
            f"fold {fold}, {side} windows, {task}: {', '.join(names)}"
            for fold, side, task, names in lacking_classes(record)
        ],
        folds=_split_table(record),
        no_figures=no_figures,
        figure_groups=_groups(figures, record),
        subjects=subject_table(record),
        folds_scores=fold_table(record),
        data=_data_table(record),
        config_text=record.config_text,
        environment=flat_table(record.environment),
    )


def page_text(template: str, **content: Any) -> str:
    """A page from a template beside this file, with the styles and the version that all share.

    Args:
        template: Name of the template.
        **content: What it shows.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (here / "report.css").read_text("utf-8")
    return environment.get_template(template).render(css=css, version=_version(), **content)


def _tile(record: RunRecord, task: str) -> dict[str, Any]:
    score = score_of(record.summary, task, "selected", "macro_f1")
    if math.isnan(score.mean):
        score = score_of(record.summary, task, record.selected_role, "macro_f1")
    share = score_of(record.summary, task, "teacher", "largest_class_share").mean
    return {
        "task": task,
        "value": format_value(score.mean),
        "interval": score.interval,
        "roles": [
            (role, format_value(score_of(record.summary, task, role, "macro_f1").mean))
            for role in ROLES
            if role in record.summary["tasks"][task]
        ],
        "num_classes": len(record.class_names[task]),
        "largest": "of unknown share" if math.isnan(share) else f"{share:.0%} of windows",
    }


def _selection(record: RunRecord) -> str:
    selected = record.summary.get("selected") or []
    counts = Counter(role for role in selected if role in ROLES)
    if not counts:
        return ""
    words = " and ".join(f"the {role} in {count}" for role, count in counts.items())
    return f"{words} of {len(selected)} folds (macro-F1 on validation windows, averaged over tasks)"


def _result_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for task in record.tasks:
        roles = [role for role in ROLES if role in record.summary["tasks"][task]]
        for role in roles:
            cells = []
            for metric in METRICS:
                scores: dict[str, Score] = {
                    each: score_of(record.summary, task, each, metric.key) for each in roles
                }
                # The share of the largest class is a fact about the data: no spread, no winner.
                is_fact = metric.key == "largest_class_share"
                score = scores[role]
                cells.append(
                    {
                        "text": format_value(score.mean) if is_fact else score.spread,
                        "interval": "" if is_fact else score.interval,
                        "best": not is_fact and _is_best(scores, role, metric.key),
                    }
                )
            yield {"task": task, "role": role, "cells": cells}


def _is_best(scores: Mapping[str, Score], role: str, metric: str) -> bool:
    means = {each: round(score.mean, 3) for each, score in scores.items()}
    best = min(means.values()) if metric == "ece" else max(means.values())
    return means[role] == best and len(set(means.values())) > 1


def _trained_table(record: RunRecord) -> Table:
    train = record.config.get("train", {})
    shown = ("epochs", "batch_size", "lr", "weight_decay", "seed", "standardize", "device")
    rows: list[tuple[str, ...]] = [
        ("method", _named_options(_method_options(record), record.method)),
        ("model", _named_options(record.config.get("model", {}), record.model)),
        ("taught by", _taught_by(record)),
        ("data", _named_options(record.config.get("data", {}), record.data_name)),
        ("training", _options({key: train[key] for key in shown if key in train})),
        ("protocol", f"{record.protocol}, {len(record.folds)} folds"),
        ("selected", _selection(record)),
    ]
    parameters = record.summary.get("num_parameters")
    if isinstance(parameters, int):
        rows.insert(2, ("parameters", f"{parameters:,}"))
    seconds = record.status.get("seconds")
    if isinstance(seconds, int | float):
        rows.append(("time", f"{seconds / 60:.1f} minutes"))
    return Table(("", ""), tuple(row for row in rows if row[1]))


def _taught_by(record: RunRecord) -> str:
    """The network that is named as a teacher, and where it comes from; empty if there is none."""
    teacher = record.config.get("teacher")
    if not teacher:
        return ""
    if teacher.get("run"):
        return f"the run {teacher['run']}"
    model = teacher.get("model", {})
    named = _named_options(model, str(model.get("name", "unknown")))
    return f"{named}; {_options(teacher['train'])}" if teacher.get("train") else named


def _split_table(record: RunRecord) -> Table:
    sides = ("test", "validation", "train")
    rows: list[tuple[str, ...]] = []
    for fold in record.splits.get("folds", ()):
        cells = [str(fold.get("index", len(rows)))]
        for side in sides:
            subjects = fold.get(f"{side}_subjects")
            count = fold.get(f"num_{side}")
            words = [] if count is None else [f"{count} windows"]
            if subjects is not None and len(subjects) <= 30:
                words.append(", ".join(map(str, subjects)))
            elif subjects is not None:
                words.append(f"{len(subjects)} subjects")
            cells.append(": ".join(words))
        rows.append(tuple(cells))
    return Table(("fold", *sides), tuple(rows))


def _groups(figures: list[DrawnFigure], record: RunRecord) -> list[_Group]:
    """Figures by kind; large confusion matrices show the shipped role and fold the other away."""
    groups = []
    for kind, title in _GROUP_TITLES.items():
        of_kind = [figure for figure in figures if figure.kind == kind]
        if kind != "confusion":
            groups += [_Group(title, (figure,), folded=False) for figure in of_kind[:1]]
            groups += [_Group(figure.title, (figure,), folded=False) for figure in of_kind[1:]]
            continue
        for start in range(0, len(of_kind), len(ROLES)):
            pair = of_kind[start : start + len(ROLES)]
            pair.sort(key=lambda figure: figure.role != record.selected_role)
            wide = any(figure.width_pixels > _WIDEST_OF_A_PAIR_PIXELS for figure in pair)
            task = pair[0].title.rpartition(",")[0]
            groups.append(_Group(task, tuple(pair), folded=wide))
    return groups


def _data_table(record: RunRecord) -> Table:
    """``data.json``, with the number of windows beside the name of each class."""
    about = dict(record.data)
    counts = about.pop("num_labelled", None) or {}
    about.pop("tasks", None)
    for task, names in (about.pop("class_names", None) or {}).items():
        of_task = counts.get(task, ())
        words = [
            f"{name} ({of_task[number]})" if number < len(of_task) else str(name)
            for number, name in enumerate(names)
        ]
        about[f"windows of {task}"] = words
    return flat_table(about)


def flat_table(content: Mapping[str, Any]) -> Table:
    """Nested facts as rows of name and value."""
    return Table(("", ""), tuple(_flat(content, "")))


def _flat(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        name = f"{prefix}{key}".removeprefix("num_").replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} · ")
        else:
            yield name, _cell(value)


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "—" if value is None else str(value)


def _named_options(section: Mapping[str, Any], name: str) -> str:
    # A path says nothing to a reader elsewhere.
    shown = {key: value for key, value in section.items() if key not in ("name", "root")}
    return f"{name} ({_options(shown)})" if shown else name


def _options(section: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_cell(value)}" for key, value in section.items())


def _method_options(record: RunRecord) -> dict[str, Any]:
    """The method's options with the defaults that were in force."""
    given = dict(record.config.get("method", {}))
    method = METHODS.get(given.pop("name", ""))
    if method is None:
        return given
    options = method.Options.model_validate(given).model_dump()
    return {key: value for key, value in options.items() if value is not None}


def _unfinished(record: RunRecord) -> str:
    state = str(record.status.get("state") or record.status.get("status") or "")
    return "" if state in ("", "finished", "done", "complete", "completed") else state


def _version() -> str:
    try:
        return installed_version("smoothdistill")
    except PackageNotFoundError:  # a source tree on the path, not installed
        return "(not installed)"


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
