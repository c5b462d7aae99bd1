"""The tables of a comparison: rows for Python, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothdistill.evaluation.comparison.headline import MINUS, points
from smoothdistill.evaluation.tables import METRICS as COLUMNS
from smoothdistill.evaluation.tables import Score, Table, format_value
from smoothdistill.training.checkpoint import write_atomically
from smoothdistill.training.tallies import METRICS, scores_of

if TYPE_CHECKING:
    from smoothdistill.evaluation.comparison.plan import Plan
    from smoothdistill.evaluation.comparison.records import CellResult

__all__ = [
    "LEAK_SENTENCE",
    "comparison_rows",
    "footnotes",
    "format_p",
    "markdown_text",
    "protocol_sentence",
    "score_in",
    "task_table",
    "tex_text",
    "write_tables",
]

INCOMPLETE, LEAKING = "†", "‡"

LEAK_SENTENCE = (
    "leaks: the same people, and overlapping windows, are in training and test; these scores say "
    "little about new people"
)

_PAIR_COLUMNS = ("task", "variant", "over", "difference", "low", "high")
_DIFFERENCE_COLUMNS = (
    "variant", "baseline", "task", "metric", "of", "difference", "low", "high", "p_value",
    "p_holm", "num_subjects", "num_cells", "why_not",
)  # fmt: skip
_SCORE_COLUMNS = (
    "variant", "role", "speaks_for_variant", "task", "metric", "mean", "std", "low", "high",
    "num_cells",
)  # fmt: skip
_SUBJECT_COLUMNS = (
    "variant", "seed", "fold", "subject", "role", "is_selected", "task", "num_windows", *METRICS,
)  # fmt: skip
_SHOWN = ("balanced_accuracy", "accuracy", "ece")


def score_in(variant: Mapping[str, Any], task: str, role: str, metric: str) -> Score:
    """One score of a variant; all NaN where it has none."""
    entry = variant["scores"].get(task, {}).get(role, {}).get(metric)
    if entry is None:
        return Score()
    return Score(*map(_number, (entry["mean"], entry["std"], *entry["ci95"])))


def comparison_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per variant and task: its scores, and the headline difference with its test."""
    rows = []
    for variant in content["variants"]:
        for task in content["tasks"]:
            pooled = _difference(content, variant["label"], task, "pooled")
            tested = _difference(content, variant["label"], task, "subjects")
            row = {
                "variant": variant["label"],
                "role": variant["role"],
                "task": task,
                "protocol": variant["protocol"],
                "leaks": variant["leaks"],
                "num_cells": variant["num_cells"],
                "num_finished": variant["num_finished"],
            }
            for metric in METRICS:
                score = score_in(variant, task, variant["role"], metric)
                row[metric] = score.mean
                if metric == "macro_f1":
                    row |= {"macro_f1_std": score.std}
                    row |= {"macro_f1_low": score.low, "macro_f1_high": score.high}
            row["difference"] = _number(pooled.get("difference"))
            row["difference_low"], row["difference_high"] = map(
                _number, pooled.get("ci95", (None, None))
            )
            row["p_value"] = _number(tested.get("p_value"))
            row["p_holm"] = _number(tested.get("p_holm"))
            row["why_not"] = pooled.get("why_not", "")
            rows.append(row)
    return rows


def task_table(content: Mapping[str, Any], task: str) -> Table:
    """Variants against macro-F1, other scores, and the difference against the baseline."""
    labels = {metric.key: metric.label for metric in COLUMNS}
    headings = (
        "variant", "macro-F1", "95 % interval", *(labels[key] for key in _SHOWN),
        f"points over {content['baseline']}", "95 % interval", "p (Holm)",
    )  # fmt: skip
    rows = []
    for row in comparison_rows(content):
        if row["task"] != task:
            continue
        score = Score(*(row[key] for key in (
            "macro_f1", "macro_f1_std", "macro_f1_low", "macro_f1_high",
        )))  # fmt: skip
        is_baseline = row["variant"] == content["baseline"]
        difference = "baseline" if is_baseline else points(row["difference"])
        if row["why_not"]:
            difference = "not paired"
        rows.append(
            (
                marked(row),
                score.spread,
                score.interval,
                *(format_value(row[key]) for key in _SHOWN),
                difference,
                _span(row["difference_low"], row["difference_high"]),
                format_p(row["p_holm"]),
            )
        )
    return Table(headings, tuple(rows))


def marked(row: Mapping[str, Any]) -> str:
    """A variant's label with the marks that its footnotes explain."""
    marks = INCOMPLETE * (row["num_finished"] < row["num_cells"]) + LEAKING * row["leaks"]
    return f"{row['variant']} {marks}".strip()


def footnotes(content: Mapping[str, Any]) -> list[str]:
    """What the marks of the tables mean: cells that are missing or failed, leaks, no pairs."""
    notes = []
    for variant in content["variants"]:
        label = variant["label"]
        if variant["num_finished"] < variant["num_cells"]:
            notes.append(
                f"{INCOMPLETE} {label}: {variant['num_finished']} of {variant['num_cells']} cells."
            )
            reasons = Counter(one["reason"] for one in variant["failures"])
            notes += [
                f"{INCOMPLETE} {label}: {count} failed: {reason}"
                for reason, count in reasons.items()
            ]
        if variant["leaks"]:
            notes.append(f"{LEAKING} {label}: the protocol {variant['protocol']} {LEAK_SENTENCE}.")
    unpaired = {
        (row["variant"], row["why_not"]) for row in content["differences"] if row["why_not"]
    }
    notes += [f"{label}: not paired; it has {reason}." for label, reason in sorted(unpaired)]
    return notes


def protocol_sentence(content: Mapping[str, Any]) -> str:
    """Which protocol made the tables, and what their numbers are."""
    protocols = " and ".join(content["protocols"])
    seeds = ", ".join(map(str, content["seeds"]))
    folds = len({cell["fold"] for cell in content["cells"]})
    leaks = any(variant["leaks"] for variant in content["variants"])
    warning = f" The protocol published {LEAK_SENTENCE}." if leaks else ""
    return (
        f"Protocol: {protocols}; seeds {seeds}; {folds} fold{'' if folds == 1 else 's'}.{warning} "
        "Scores: mean ± standard deviation over seeds and folds, 95 % interval by a bootstrap "
        "over subjects. Differences: macro-F1 of pooled folds in points, the same subjects drawn "
        "for both; p: Wilcoxon signed-rank test of the subjects' differences, corrected by Holm."
    )


def markdown_text(content: Mapping[str, Any]) -> str:
    """Contents of `table.md`."""
    parts = [content["headline"], protocol_sentence(content)]
    for task in content["tasks"]:
        table = task_table(content, task)
        lines = [f"### {_plain_markdown(task)}", ""]
        lines.append("| " + " | ".join(map(_plain_markdown, table.headings)) + " |")
        lines.append("|---" + "|--:" * (len(table.headings) - 1) + "|")
        lines += ["| " + " | ".join(map(_plain_markdown, row)) + " |" for row in table.rows]
        parts.append("\n".join(lines))
    notes = "\n".join(f"- {_plain_markdown(note)}" for note in footnotes(content))
    return "\n\n".join([*parts, notes] if notes else parts) + "\n"


def tex_text(content: Mapping[str, Any]) -> str:
    """Contents of `table.tex`; needs the package booktabs."""
    parts = ["% \\usepackage{booktabs}"]
    notes = " ".join([protocol_sentence(content), *footnotes(content)])
    for task in content["tasks"]:
        table = task_table(content, task)
        lines = [
            r"\begin{table}",
            rf"\caption{{{_tex(task)}. {_tex(notes)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}",
            r"\toprule",
            " & ".join(map(_tex, table.headings)) + r" \\",
            r"\midrule",
            # The empty group: a label that begins with [ would be an option of the row's end.
            *("{}" + " & ".join(map(_tex, row)) + r" \\" for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_tables(
    out: Path, content: Mapping[str, Any], plan: Plan, results: Sequence[CellResult]
) -> None:
    """Write the CSV files, `table.md` and `table.tex`."""
    _write_csv(out / "scores.csv", _SCORE_COLUMNS, _score_rows(content))
    _write_csv(out / "per_subject.csv", _SUBJECT_COLUMNS, _subject_rows(plan, results))
    _write_csv(
        out / "differences.csv",
        _DIFFERENCE_COLUMNS,
        (
            [
                {**row, "low": row["ci95"][0], "high": row["ci95"][1]}[name]
                for name in _DIFFERENCE_COLUMNS
            ]
            for row in content["differences"]
        ),
    )
    _write_csv(
        out / "pairs.csv",
        _PAIR_COLUMNS,
        (
            [row["task"], row["variant"], row["over"], row["difference"], *row["ci95"]]
            for row in content["pairs"]
        ),
    )
    _write_text(out / "table.md", markdown_text(content))
    _write_text(out / "table.tex", tex_text(content))


def _score_rows(content: Mapping[str, Any]) -> Iterable[list[Any]]:
    for variant in content["variants"]:
        for task, roles in variant["scores"].items():
            for role, scores in roles.items():
                for metric, entry in scores.items():
                    yield [
                        variant["label"], role, int(role == variant["role"]), task, metric,
                        entry["mean"], entry["std"], *entry["ci95"], variant["num_finished"],
                    ]  # fmt: skip


def _subject_rows(plan: Plan, results: Sequence[CellResult]) -> Iterable[list[Any]]:
    order = [variant.label for variant in plan.variants]
    for result in sorted(
        results, key=lambda one: (order.index(one.cell.variant), one.cell.seed, one.cell.fold)
    ):
        record = result.record
        if record is None:
            continue
        for (task, role), tally in record.tallies.items():
            scores = scores_of(tally)
            counts = tally.confusion.sum(axis=(-2, -1)).astype(int)
            for number, subject in enumerate(record.subjects):
                if counts[number]:
                    yield [
                        result.cell.variant, record.seed, record.fold, subject, role,
                        int(role == record.selected), task, counts[number],
                        *(float(scores[metric][number]) for metric in METRICS),
                    ]  # fmt: skip


def _difference(
    content: Mapping[str, Any], label: str, task: str, of: str, metric: str = "macro_f1"
) -> Mapping[str, Any]:
    for row in content["differences"]:
        if (row["variant"], row["task"], row["of"], row["metric"]) == (label, task, of, metric):
            found: Mapping[str, Any] = row
            return found
    return {}


def format_p(value: float | None) -> str:
    """A p as text: three digits, or what it is below."""
    value = _number(value)
    if math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _span(low: float, high: float) -> str:
    return "" if math.isnan(low + high) else f"[{points(low)}, {points(high)}]"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plain_markdown(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", MINUS: "$-$", "κ": r"$\kappa$", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "—": "---", "<": "$<$", ">": "$>$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in " ".join(text.split()))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_cell(value) for value in row] for row in rows)

    write_atomically(path, write)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: _fill(partial, text))


def _fill(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
