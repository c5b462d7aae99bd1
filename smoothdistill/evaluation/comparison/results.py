"""From what the cells have left to `comparison.json`: scores, differences, convergence, cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.evaluation.comparison.bootstrap import SubjectBootstrap, interval
from smoothdistill.evaluation.comparison.convergence import (
    accuracy_gap,
    epoch_deviation,
    seconds_per_epoch,
    seconds_per_step,
)
from smoothdistill.evaluation.comparison.differences import (
    PAIRED_METRICS,
    Difference,
    fold_scores,
    holm,
    paired_cells,
    per_subject_difference,
    pooled_difference,
    subject_scores,
)
from smoothdistill.evaluation.comparison.pairs import pair_rows
from smoothdistill.training.roles import ROLES
from smoothdistill.training.tallies import METRICS

if TYPE_CHECKING:
    from smoothdistill.evaluation.comparison.plan import Plan, PlannedVariant
    from smoothdistill.evaluation.comparison.records import CellRecord, CellResult

__all__ = ["ROLES_SHOWN", "comparison_content", "records_of"]

ROLES_SHOWN = ("selected", *ROLES)
"""Rows of each variant in the tables of scores."""


def records_of(results: Sequence[CellResult], label: str) -> list[CellRecord]:
    """Finished cells of a variant, by seed and fold."""
    found = [
        result.record
        for result in results
        if result.cell.variant == label and result.record is not None
    ]
    return sorted(found, key=lambda record: (record.seed, record.fold))


def comparison_content(plan: Plan, results: Sequence[CellResult]) -> dict[str, Any]:
    """Everything that `comparison.json` says, but for its headline.

    Args:
        plan: Variants and cells.
        results: What the cells have left, from `read_cells`.
    """
    first = next((result.record for result in results if result.record is not None), None)
    bootstrap = SubjectBootstrap(_bootstrap_seed(plan))
    by_label = {one.label: records_of(results, one.label) for one in plan.variants}
    tasks = list(
        dict.fromkeys(task for cells in by_label.values() for c in cells for task in c.tasks)
    )
    return {
        "kind": "comparison",
        "source": plan.source,
        "is_complete": all(result.state == "finished" for result in results),
        "baseline": plan.baseline,
        "tasks": tasks,
        "seeds": sorted({result.cell.seed for result in results}),
        "protocols": list(dict.fromkeys(one.protocol for one in plan.variants)),
        "data": dict(first.data) if first else {},
        "environment": dict(first.environment) if first else {},
        "config": plan.config_text,
        "variants": _with_ratios(
            [_variant(one, results, by_label[one.label], bootstrap) for one in plan.variants],
            plan.baseline,
        ),
        "differences": _differences(plan, by_label, tasks, bootstrap),
        "pairs": pair_rows(plan.variants, by_label, tasks, bootstrap),
        "cells": [_cell(result) for result in results],
    }


def _tasks(cells: Iterable[CellRecord]) -> list[str]:
    return list(dict.fromkeys(task for cell in cells for task in cell.tasks))


def _bootstrap_seed(plan: Plan) -> int:
    """The seed of the split, as in the summary of each run."""
    config = next(one.config for one in plan.variants if one.label == plan.baseline)
    return int(config.get("split", {}).get("seed", 0))


def _variant(
    variant: PlannedVariant,
    results: Sequence[CellResult],
    cells: Sequence[CellRecord],
    bootstrap: SubjectBootstrap,
) -> dict[str, Any]:
    mine = [result for result in results if result.cell.variant == variant.label]
    tasks = _tasks(cells)
    return {
        "label": variant.label,
        "role": variant.role,
        "method": variant.config.get("method", {}).get("name"),
        "model": variant.config.get("model", {}).get("name"),
        "protocol": variant.protocol,
        "leaks": variant.leaks,
        "fingerprint": cells[0].data.get("fingerprint") if cells else None,
        "num_cells": len(mine),
        "num_finished": len(cells),
        "failures": [
            {"seed": result.cell.seed, "fold": result.cell.fold, "reason": result.reason}
            for result in mine
            if result.state == "failed"
        ],
        "missing": [
            {"seed": result.cell.seed, "fold": result.cell.fold, "state": result.state}
            for result in mine
            if result.state not in ("finished", "failed")
        ],
        "selected": dict(Counter(cell.selected for cell in cells)),
        "num_parameters": next((cell.num_parameters for cell in cells), None),
        "seconds_per_step": seconds_per_step(cells),
        "seconds_per_epoch": seconds_per_epoch(cells),
        "scores": {
            task: {role: _scores(cells, task, role, bootstrap) for role in ROLES_SHOWN}
            for task in tasks
        },
        "convergence": {
            task: {
                role: {
                    "epoch_deviation": epoch_deviation(cells, task, role),
                    "accuracy_gap": accuracy_gap(cells, task, role),
                }
                for role in ROLES
            }
            for task in tasks
        },
        "config": dict(variant.config),
    }


def _scores(
    cells: Sequence[CellRecord], task: str, role: str, bootstrap: SubjectBootstrap
) -> dict[str, Any]:
    """Mean and spread over seeds and folds, and the interval over subjects."""
    cells = [cell for cell in cells if (task, cell.role(role)) in cell.tallies]
    values = fold_scores(cells, task, role)
    means = bootstrap.means(cells, task, role)
    found = {}
    for metric in METRICS:
        known = [value for value in values.get(metric, ()) if math.isfinite(value)]
        low, high = (math.nan, math.nan) if means is None else interval(means[metric])
        found[metric] = {
            "mean": float(np.mean(known)) if known else math.nan,
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else math.nan,
            "ci95": [low, high],
        }
    return found


def _with_ratios(variants: list[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """The same with each cost as a multiple of the baseline's."""
    base = next(one for one in variants if one["label"] == baseline)
    for one in variants:
        for key in ("seconds_per_step", "seconds_per_epoch"):
            one[f"{key}_ratio"] = one[key] / base[key] if base[key] else math.nan
    return variants


def _differences(
    plan: Plan,
    by_label: Mapping[str, Sequence[CellRecord]],
    tasks: Sequence[str],
    bootstrap: SubjectBootstrap,
) -> list[dict[str, Any]]:
    """Rows of `differences.csv`, task by task and score by score, corrected over the variants."""
    base = next(one for one in plan.variants if one.label == plan.baseline)
    others = [one for one in plan.variants if one.label != plan.baseline]
    rows = []
    for task in tasks:
        for metric in PAIRED_METRICS:
            of_metric = []
            for variant in others:
                cells = by_label[variant.label]
                roles = (variant.role, base.role)
                pairs = paired_cells(cells, by_label[base.label], task, roles)
                why_not = _why_not_paired(variant, base, cells, by_label[base.label], pairs[0])
                start: dict[str, Any] = {"variant": variant.label, "baseline": base.label}
                start |= {"task": task, "metric": metric}
                start |= {"num_cells": len(pairs[0]), "why_not": why_not}
                if metric == "macro_f1":
                    pooled = _NOTHING
                    if not why_not:
                        pooled = pooled_difference(*pairs, task, roles, metric, bootstrap)
                    rows.append({**start, "of": "pooled", **_row(pooled)})
                per_subject = _NOTHING
                if not why_not:
                    per_subject = per_subject_difference(
                        subject_scores(pairs[0], task, roles[0], metric),
                        subject_scores(pairs[1], task, roles[1], metric),
                        bootstrap,
                    )
                of_metric.append({**start, "of": "subjects", **_row(per_subject)})
            corrected = holm([row["p_value"] for row in of_metric])
            for row, p_value in zip(of_metric, corrected, strict=True):
                row["p_holm"] = p_value
            rows += of_metric
    return rows


_NOTHING = Difference(math.nan, math.nan, math.nan)


def _row(found: Difference) -> dict[str, Any]:
    return {
        "difference": found.value,
        "ci95": [found.low, found.high],
        "p_value": found.p_value,
        "p_holm": math.nan,
        "num_subjects": found.num_subjects,
    }


def _why_not_paired(
    variant: PlannedVariant,
    base: PlannedVariant,
    cells: Sequence[CellRecord],
    others: Sequence[CellRecord],
    pairs: Sequence[CellRecord],
) -> str:
    """Why a variant has no paired differences; empty if it has."""
    if variant.protocol != base.protocol:
        return f"another protocol ({variant.protocol})"
    if not cells:
        return "no finished cell"
    if not others:
        return "no finished cell of the baseline"
    if not pairs:
        return "no cell that was tested on the same windows"
    return ""


def _cell(result: CellResult) -> dict[str, Any]:
    cell, record = result.cell, result.record
    scores = {}
    if record is not None:
        scores = {
            task: {
                role: fold_scores([record], task, role)["macro_f1"][0]
                for role in ROLES
                if (task, role) in record.tallies
            }
            for task in record.tasks
        }
    return {
        "variant": cell.variant,
        "seed": cell.seed,
        "fold": cell.fold,
        "folder": cell.folder,
        "state": result.state,
        "reason": result.reason,
        "selected": record.selected if record else None,
        "macro_f1": scores,
    }
