"""Every variant over every other: differences of macro-F1 with their intervals, without a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from smoothdistill.evaluation.comparison.differences import paired_cells, pooled_difference
from smoothdistill.evaluation.comparison.headline import points, verdict
from smoothdistill.evaluation.tables import Table

if TYPE_CHECKING:
    from smoothdistill.evaluation.comparison.bootstrap import SubjectBootstrap
    from smoothdistill.evaluation.comparison.plan import PlannedVariant
    from smoothdistill.evaluation.comparison.records import CellRecord

__all__ = ["SURE", "find_pair", "pair_rows", "pair_table"]

SURE = "*"
"""Marks a difference whose interval leaves out zero."""


def pair_rows(
    variants: Sequence[PlannedVariant],
    by_label: Mapping[str, Sequence[CellRecord]],
    tasks: Sequence[str],
    bootstrap: SubjectBootstrap,
) -> list[dict[str, Any]]:
    """Rows of `pairs.csv`: macro-F1 of pooled folds, a later variant's minus an earlier one's.

    Variants of different protocols, or without a common cell, are left out.

    Args:
        variants: In the order of the tables.
        by_label: Finished cells of each.
        tasks: All tasks.
        bootstrap: Draws of subjects.
    """
    rows = []
    for task in tasks:
        for over, variant in combinations(variants, 2):
            roles = (variant.role, over.role)
            cells = paired_cells(by_label[variant.label], by_label[over.label], task, roles)
            if over.protocol != variant.protocol or not cells[0]:
                continue
            found = pooled_difference(*cells, task, roles, "macro_f1", bootstrap)
            rows.append(
                {
                    "task": task,
                    "variant": variant.label,
                    "over": over.label,
                    "difference": found.value,
                    "ci95": [found.low, found.high],
                }
            )
    return rows


def find_pair(
    content: Mapping[str, Any], task: str, variant: str, over: str
) -> tuple[float, float, float] | None:
    """Difference and interval of two variants in either order; None if they are not paired."""
    for row in content["pairs"]:
        if row["task"] != task or {row["variant"], row["over"]} != {variant, over}:
            continue
        value, (low, high) = row["difference"], row["ci95"]
        if value is None or low is None:
            return None
        return (value, low, high) if row["variant"] == variant else (-value, -high, -low)
    return None


def pair_table(content: Mapping[str, Any], task: str) -> Table:
    """Points of macro-F1 by which the variant of a row leads that of a column."""
    labels = [variant["label"] for variant in content["variants"]]
    rows = []
    for number, label in enumerate(labels, 1):
        found = [find_pair(content, task, label, over) for over in labels]
        rows.append((f"{number} {label}", *(_entry(pair) for pair in found)))
    return Table(("variant", *(str(number) for number in range(1, len(labels) + 1))), tuple(rows))


def _entry(pair: tuple[float, float, float] | None) -> str:
    if pair is None:
        return ""
    value, low, high = pair
    is_sure = verdict({"ci95": (low, high)}) != "not told apart"
    return points(value) + (SURE if is_sure else "")
