"""``MODEL_CARD.md``: what is known about the trained models, and nothing that is not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from smoothdistill.datasets import DATASETS
from smoothdistill.evaluation.run_record import RunRecord
from smoothdistill.evaluation.tables import lacking_classes, score_of
from smoothdistill.training.roles import ROLES

__all__ = ["model_card_text"]


def model_card_text(record: RunRecord) -> str:
    """The model card as Markdown.

    A field that the run does not record (licence of private data, age of the subjects) is said to
    be unrecorded rather than guessed.

    Args:
        record: A finished run.
    """
    return "\n".join([*_heading(record), *_data(record), *_scores(record), *_limits(record), ""])


def _heading(record: RunRecord) -> Iterator[str]:
    yield f"# Model card: {_plain(record.method)} on {_plain(record.data_name)}"
    yield ""
    yield (
        f"{_plain(record.model)} with {len(record.tasks)} heads: "
        + "; ".join(
            f"**{_plain(task)}** ({', '.join(map(_plain, record.class_names[task]))})"
            for task in record.tasks
        )
        + "."
    )
    yield ""
    yield "## Intended use"
    yield ""
    yield (
        "Research and product development on wearable-sensor recordings that resemble the training "
        "data. Not a medical device: do not use it for diagnosis, treatment or alarms."
    )


def _data(record: RunRecord) -> Iterator[str]:
    yield ""
    yield "## Training data"
    yield ""
    labels = {
        "name": "data set",
        "num_windows": "windows",
        "num_subjects": "subjects",
        "sample_rate_hz": "sample rate (Hz)",
        "window_samples": "window (samples)",
        "channel_names": "channels",
        "fingerprint": "fingerprint (SHA-256)",
    }
    for key, label in labels.items():
        value = record.data.get(key)
        if value not in (None, "", [], {}):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"- {label}: {_plain(text)}"
    public = DATASETS.get(record.data_name)
    if public is None:
        yield "- licence, source and units: not recorded by this run"
    else:
        yield f"- licence: {_plain(public.licence)}"
        yield f"- source: {_plain(public.source)}"
        yield f"- to be cited: {_plain(public.citation)}"
        yield f"- units: {_plain(', '.join(dict.fromkeys(public.units)))}"
    placement = record.class_names.get("placement")
    if placement:
        yield f"- placements: {', '.join(map(_plain, placement))}"
    yield "- age, sex and health of the subjects: not recorded by this run"
    split = "leaks between training and test" if record.protocol == "published" else "unseen people"
    yield f"- split: {_plain(record.protocol)} ({split}), {len(record.folds)} folds"


def _scores(record: RunRecord) -> Iterator[str]:
    yield ""
    yield "## Scores on the test folds"
    yield ""
    if record.protocol == "published":
        yield (
            "**These scores leak**: the same people stand on both sides of the split. They do not "
            "say how well the model does on new people."
        )
        yield ""
    yield "| task | model | macro-F1 | 95 % interval | accuracy | ECE | worst subject |"
    yield "|---|---|---|---|---|---|---|"
    for task in record.tasks:
        for role in ROLES:
            if role not in record.summary["tasks"][task]:
                continue
            f1, accuracy, ece = (
                score_of(record.summary, task, role, key) for key in ("macro_f1", "accuracy", "ece")
            )
            yield (
                f"| {_plain(task)} | {role} | {f1.spread} | {f1.interval or '—'} | "
                f"{accuracy.spread} | {ece.spread} | {_worst(record, task, role)} |"
            )
    yield ""
    yield "; ".join(f"{role}: {meaning}" for role, meaning in record.role_meanings.items()) + "."
    lacking = lacking_classes(record)
    if lacking:
        yield ""
        yield "Classes without windows: " + "; ".join(
            f"{_plain(task)}, {side} side of fold {fold}: {', '.join(map(_plain, names))}"
            for fold, side, task, names in lacking
        )


def _worst(record: RunRecord, task: str, role: str) -> str:
    scores = [
        (float(row["macro_f1"]), row["subject"])
        for row in record.subject_rows
        if row["task"] == task and row["role"] == role and row.get("macro_f1")
    ]
    finite = [(score, subject) for score, subject in scores if math.isfinite(score)]
    if not finite:
        return "—"
    score, subject = min(finite)
    return f"{score:.3f} ({_plain(subject)})"


def _limits(record: RunRecord) -> Iterator[str]:
    yield ""
    yield "## Known limits"
    yield ""
    rate = record.data.get("sample_rate_hz")
    rate_text = f" ({rate:g} Hz)" if isinstance(rate, int | float) else ""
    yield (
        f"- Recordings at another sample rate than the training data's{rate_text}, in another unit "
        "or with the axes in another order or direction (a band worn upside down) are not covered "
        "by these scores."
    )
    yield "- Activities and placements that are not listed above are forced into one that is."
    for task in record.tasks:
        ece = score_of(record.summary, task, "teacher", "ece").mean
        if math.isfinite(ece) and ece > 0.1:
            yield (
                f"- The confidences for {_plain(task)} are off by {ece:.2f} on average; calibrate "
                "before setting thresholds on them."
            )
    yield "- Energy and latency on a device: not measured by this run."
    checkpoints = sorted(record.folder.glob("fold-*/best.safetensors"))
    if checkpoints:
        yield ""
        yield "## Weights"
        yield ""
        yield "| file | SHA-256 |"
        yield "|---|---|"
        for path in checkpoints:
            yield f"| {path.parent.name}/{path.name} | `{_sha256(path)}` |"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, {"<": "&lt;", ">": "&gt;"}.get(mark, "\\" + mark))
    return " ".join(text.split())
