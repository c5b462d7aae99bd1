"""One offline page about a comparison: ``report.html``, with its figures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smoothdistill.evaluation.comparison.headline import best_variant, main_differences, points
from smoothdistill.evaluation.comparison.pairs import pair_table
from smoothdistill.evaluation.comparison.tables import (
    comparison_rows,
    footnotes,
    format_p,
    protocol_sentence,
    score_in,
    task_table,
)
from smoothdistill.evaluation.figures import DrawnFigure
from smoothdistill.evaluation.report import PROTOCOL_MEANINGS, flat_table, page_text
from smoothdistill.evaluation.tables import METRICS, Table, format_value
from smoothdistill.training.roles import ROLES

__all__ = ["comparison_page", "convergence_table", "cost_table", "role_table"]

_SECTIONS = (
    ("results", "Results"),
    ("differences", "Differences"),
    ("figures", "Figures"),
    ("roles", "Student and teacher"),
    ("convergence", "Convergence"),
    ("cost", "Cost"),
    ("protocol", "Protocol"),
    ("cells", "Cells"),
    ("data", "Data"),
    ("configuration", "Configuration"),
    ("environment", "Environment"),
)


def comparison_page(
    content: Mapping[str, Any], figures: Sequence[DrawnFigure], *, no_figures: str = ""
) -> str:
    """The page as HTML text.

    Args:
        content: Contents of `comparison.json`.
        figures: What `write_comparison_figures` returned.
        no_figures: Why there are no figures, if there are none.
    """
    data, variants = content["data"], content["variants"]
    count, cells = len(variants), content["cells"]
    finished = sum(cell["state"] == "finished" for cell in cells)
    is_grid = content["source"] == "grid"
    return page_text(
        "comparison.html.jinja",
        title=f"{count} method{'s' if count != 1 else ''} on {data.get('name', 'no data')}",
        lead=(
            f"{len(content['tasks'])} task{'s' if len(content['tasks']) != 1 else ''} "
            f"({', '.join(content['tasks'])}), {data.get('num_subjects', '?')} subjects, "
            f"{_grouped(data.get('num_windows'))} windows; {finished} runs of one fold each."
        ),
        sections=_SECTIONS,
        headline=content["headline"],
        baseline=content["baseline"],
        leaking=[one["label"] for one in variants if one["leaks"]],
        unfinished=""
        if content["is_complete"]
        else f"{len(cells) - finished} of {len(cells)} cells are missing or failed.",
        tiles=_tiles(content),
        protocol=protocol_sentence(content),
        tables=[(task, task_table(content, task)) for task in content["tasks"]],
        notes=footnotes(content),
        differences=[(task, _difference_table(content, task)) for task in content["tasks"]],
        pairs=[(task, pair_table(content, task)) for task in content["tasks"]],
        no_figures=no_figures,
        figures=figures,
        roles=role_table(content),
        convergence=convergence_table(content),
        cost=cost_table(content),
        protocols=[(name, PROTOCOL_MEANINGS.get(name, "")) for name in content["protocols"]],
        cells=_cell_table(content),
        data=flat_table({key: value for key, value in data.items() if key not in _LONG}),
        again=(
            "Save this text as grid.toml; `smoothdistill compare --config grid.toml --out FOLDER` "
            "repeats the comparison, and trains only cells that FOLDER does not have."
            if is_grid
            else "The runs were there before; this command compares them again."
        ),
        config_text=content["config"],
        environment=flat_table(content["environment"]),
    )


_LONG = ("class_names", "num_labelled")


def _tiles(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    best = best_variant(content)
    if best == content["baseline"]:
        labels = [row["variant"] for row in main_differences(content)]
        best = labels[0] if labels else best
    rows = {(row["variant"], row["task"]): row for row in comparison_rows(content)}
    tiles = []
    for pooled in main_differences(content):
        if pooled["variant"] != best:
            continue
        mine = rows[best, pooled["task"]]
        base = rows[content["baseline"], pooled["task"]]
        low, high = (points(end) for end in pooled["ci95"])
        tiles.append(
            {
                "task": pooled["task"],
                "variant": best,
                "value": points(pooled["difference"]),
                "interval": f"[{low}, {high}]" if low != "—" else "",
                "from_to": f"{format_value(base['macro_f1'])} → {format_value(mine['macro_f1'])}",
                "p": format_p(mine["p_holm"]),
            }
        )
    return tiles


def _difference_table(content: Mapping[str, Any], task: str) -> Table:
    labels = {metric.key: metric.label for metric in METRICS}
    rows = []
    for row in content["differences"]:
        if row["task"] != task:
            continue
        of = "pooled folds" if row["of"] == "pooled" else "people"
        low, high = (points(end) for end in row["ci95"])
        rows.append(
            (
                row["variant"],
                f"{labels[row['metric']]}, {of}",
                row["why_not"] or points(row["difference"]),
                f"[{low}, {high}]" if low != "—" else "",
                format_p(row["p_value"]),
                format_p(row["p_holm"]),
                str(row["num_subjects"] or ""),
            )
        )
    headings = ("variant", "score", "points", "95 % interval", "p", "p (Holm)", "people")
    return Table(headings, tuple(rows))


def role_table(content: Mapping[str, Any]) -> Table:
    """Macro-F1 of student, teacher and selected, and how often validation chose which."""
    rows = []
    for variant in content["variants"]:
        cells = [variant["label"]]
        for task in content["tasks"]:
            cells += [
                score_in(variant, task, role, "macro_f1").spread for role in (*ROLES, "selected")
            ]
        chosen = ", ".join(f"{role} {count}" for role, count in variant["selected"].items())
        rows.append((*cells, chosen, variant["role"]))
    headings = [f"{task}, {role}" for task in content["tasks"] for role in (*ROLES, "selected")]
    return Table(("variant", *headings, "chosen", "reported"), tuple(rows))


def convergence_table(content: Mapping[str, Any]) -> Table:
    """How restless validation is from epoch to epoch, and how far it stays behind training."""
    rows = []
    for variant in content["variants"]:
        for role in ROLES:
            found = [
                variant["convergence"].get(task, {}).get(role, {}) for task in content["tasks"]
            ]
            values = [
                points(entry.get(key), sign=key == "accuracy_gap")
                for entry in found
                for key in ("epoch_deviation", "accuracy_gap")
            ]
            rows.append((variant["label"], role, *(value.replace("—", "") for value in values)))
    headings = [f"{task}, {what}" for task in content["tasks"] for what in ("unrest", "gap")]
    return Table(("variant", "model", *headings), tuple(rows))


def cost_table(content: Mapping[str, Any]) -> Table:
    """Parameters and time of training."""
    rows = [
        (
            one["label"],
            f"{one['num_parameters']:,}" if one["num_parameters"] else "",
            _scaled(one["seconds_per_step"], 1000.0, 2),
            _scaled(one["seconds_per_step_ratio"], 1.0, 2),
            _scaled(one["seconds_per_epoch"], 1.0, 2),
        )
        for one in content["variants"]
    ]
    headings = (
        "variant",
        "parameters",
        "ms per step",
        f"times {content['baseline']}",
        "s per epoch",
    )
    return Table(headings, tuple(rows))


def _cell_table(content: Mapping[str, Any]) -> Table:
    rows = []
    for cell in content["cells"]:
        scores = [cell["macro_f1"].get(task, {}) for task in content["tasks"]]
        values = [format_value(entry.get(role)) for entry in scores for role in ROLES]
        state = f"{cell['state']}: {cell['reason']}" if cell["reason"] else cell["state"]
        rows.append(
            (
                cell["variant"],
                str(cell["seed"]),
                str(cell["fold"]),
                state,
                *values,
                cell["selected"] or "",
            )
        )
    headings = [f"{task}, {role}" for task in content["tasks"] for role in ROLES]
    return Table(("variant", "seed", "fold", "state", *headings, "chosen"), tuple(rows))


def _grouped(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _scaled(value: float | None, factor: float, digits: int) -> str:
    return "" if value is None else format_value(factor * value, digits)
