"""What the numbers say, in a sentence: no more than their intervals allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MINUS", "best_variant", "headline", "main_differences", "points", "verdict"]

MINUS = "\N{MINUS SIGN}"

_LEVEL = 0.05  # of the corrected rank test; with few people an interval alone is too bold

_AMONG = {
    "subject": "on unseen subjects",
    "leave-one-subject-out": "on unseen subjects",
    "official": "on the subjects of the official test part",
    "published": "on random windows of the people that were trained on, a protocol that leaks",
}


def main_differences(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the headline number: macro-F1 of pooled folds, where it could be paired."""
    return [
        row
        for row in content["differences"]
        if row["of"] == "pooled" and _is_known(row["difference"])
    ]


def best_variant(content: Mapping[str, Any]) -> str:
    """Label of the variant whose macro-F1, averaged over tasks, leads the baseline by the most.

    The baseline itself where none leads.
    """
    leads: dict[str, list[float]] = {}
    for row in main_differences(content):
        leads.setdefault(row["variant"], []).append(row["difference"])
    means = {label: sum(values) / len(values) for label, values in leads.items()}
    best = max(means, key=lambda label: means[label], default=content["baseline"])
    return best if means.get(best, 0.0) > 0.0 else str(content["baseline"])


def verdict(row: Mapping[str, Any]) -> str:
    """Where a difference lies: "above", "below", or "not told apart" by its interval."""
    low, high = row["ci95"]
    if _is_known(low) and low > 0.0:
        return "above"
    if _is_known(high) and high < 0.0:
        return "below"
    return "not told apart"


def points(value: float | None, *, sign: bool = True) -> str:
    """A difference of scores in points (hundredths), for example ``+2.1``."""
    if not _is_known(value):
        return "—"
    assert value is not None
    text = f"{100 * value:{'+' if sign else ''}.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def headline(content: Mapping[str, Any]) -> str:
    """A sentence about the best variant, and one about the others."""
    rows = main_differences(content)
    baseline = content["baseline"]
    sentences = []
    if not rows:
        others = len(content["variants"]) - 1
        sentences.append(
            f"Nothing is paired with {baseline}."
            if others
            else f"{baseline} alone was trained: there is nothing to compare it with."
        )
    else:
        sentences += _about_pairs(content, rows, baseline)
    unfinished = sum(cell["state"] != "finished" for cell in content["cells"])
    if unfinished:
        sentences.append(f"{unfinished} of {len(content['cells'])} cells are missing or failed.")
    return " ".join(sentences)


def _about_pairs(
    content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], baseline: str
) -> list[str]:
    labels = list(dict.fromkeys(row["variant"] for row in rows))
    means = {
        label: sum(row["difference"] for row in rows if row["variant"] == label) for label in labels
    }
    shown = max(labels, key=lambda label: means[label])
    of_people = {
        row["task"]: row
        for row in content["differences"]
        if (row["variant"], row["metric"], row["of"]) == (shown, "macro_f1", "subjects")
    }
    clauses = [
        _clause(row, baseline if place == 0 else "it", of_people.get(row["task"], {}))
        for place, row in enumerate(row for row in rows if row["variant"] == shown)
    ]
    protocol = next(one["protocol"] for one in content["variants"] if one["label"] == baseline)
    sentences = [f"{shown} {_joined(clauses)}, {_AMONG.get(protocol, protocol)}."]
    if len(labels) > 1:
        sentences.append(_about_all(rows, len(labels), baseline))
    return sentences


def _clause(row: Mapping[str, Any], baseline: str, people: Mapping[str, Any]) -> str:
    score = f"{row['task']} macro-F1"
    where = verdict(row)
    ends = row["ci95"] if where != "below" else [-end for end in reversed(row["ci95"])]
    low, high = (points(end, sign=False) for end in ends)
    span = f" [{low}, {high}]" if low != "—" else ""
    if where == "not told apart":
        return f"is not told apart from {baseline} in {score} ({points(row['difference'])}{span})"
    by = points(abs(row["difference"]), sign=False)
    if where == "below":
        return f"falls behind {baseline} by {by} points of {score}{span}"
    p_value, of_people = people.get("p_holm"), people.get("difference")
    if _is_known(of_people) and of_people is not None and of_people <= 0.0:
        doubt = "person by person it is not"
    elif not _is_known(p_value) or p_value is None:
        doubt = "too few people"
    elif p_value <= _LEVEL:
        return f"beats {baseline} by {by} points of {score}{span}"
    else:
        doubt = f"p = {p_value:.3f}"
    return (
        f"is ahead of {baseline} by {by} points of {score}{span} "
        f"(not confirmed by the rank test, {doubt})"
    )


def _about_all(rows: Sequence[Mapping[str, Any]], num_variants: int, baseline: str) -> str:
    counts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        found = [verdict(row) for row in rows if row["task"] == task]
        counts.append(f"{found.count('above')} above and {found.count('below')} below in {task}")
    return (
        f"Of {num_variants} variants against {baseline}: {_joined(counts)}; "
        "the rest cannot be told apart from it."
    )


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + f" and {parts[-1]}"


def _is_known(value: Any) -> bool:
    return value is not None and value == value
