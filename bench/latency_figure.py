"""docs/latency.png: macro-F1 of the variants of comparisons, against what their networks cost.

    python bench/latency_figure.py compare-official-hapt compare-smldist-hapt compare-hmkd-hapt

Reads committed results only: the comparisons that are named, which must be of one data set and
split, and bench/results/networks-*.json for the time of one window. Variants that differ in how
they were trained, or in the head alone, stand around the place of their network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from smoothdistill.evaluation.plots.style import (
    INK,
    figure_style,
    new_figure,
    save_png,
    tidy,
)

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS, FIGURE = REPOSITORY / "bench" / "results", REPOSITORY / "docs" / "latency.png"
LINE_INCHES = 0.2  # of the legend
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


class Point(NamedTuple):
    """What one variant reaches, and what its network costs."""

    label: str
    network: str
    milliseconds: float
    score: float
    low: float
    high: float


def network_label(model: Mapping[str, Any]) -> str:
    """The name of a network in the table of costs."""
    parts = [model["name"], model.get("table"), f"width {model.get('width', 1.0):g}"]
    return ", ".join(part for part in parts if part and part != "width 1")


def points_of(names: Sequence[str]) -> list[Point]:
    """Every variant of the comparisons whose network has been timed.

    Raises:
        SystemExit: If they are not of the same data set and split.
    """
    (timed,) = RESULTS.glob("networks-*.json")
    seconds = {
        row["label"]: row["seconds"]["onnx_float32"]
        for row in json.loads(timed.read_text(encoding="utf-8"))["networks"]
    }
    points: dict[tuple[str, float], Point] = {}
    splits = set()
    for name in names:
        content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        (task,) = content["tasks"]
        for variant in content["variants"]:
            config = variant["config"]
            splits.add((variant["fingerprint"], json.dumps(config["split"], sort_keys=True)))
            speaks = (
                config.get("teacher", {}).get("model") if variant["role"] == "teacher" else None
            )
            label = network_label(speaks or config["model"])
            score = variant["scores"][task][variant["role"]]["macro_f1"]
            # One training may stand in several comparisons, by other names.
            points.setdefault(
                (label, score["mean"]),
                Point(variant["label"], label, 1e3 * seconds[label], score["mean"], *score["ci95"]),
            )
    if len(splits) != 1:
        sys.exit("The comparisons must be of one data set and split, but are not.")
    return list(points.values())


def draw(points: Sequence[Point], path: Path) -> None:
    """Time of a window to the right, macro-F1 upwards, whiskers over people; a letter a variant."""
    networks = sorted({point.network: point.milliseconds for point in points}.items(), key=_second)
    letters = iter("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    lines: list[tuple[str, str, str]] = []
    height = max(4.5, LINE_INCHES * (len(points) + len(networks)))
    with figure_style():
        figure = new_figure(9.5, height + 0.9)
        axes = figure.subplots()
        for (network, milliseconds), colour in zip(networks, COLOURS, strict=False):
            lines.append((f"{network}: {milliseconds:.2f} ms", colour, "bold"))
            own = sorted((p for p in points if p.network == network), key=lambda p: -p.score)
            for rank, point in enumerate(own):
                # Side by side, or the whiskers of one network would lie on each other.
                x = milliseconds * 1.045 ** (rank - (len(own) - 1) / 2)
                letter = next(letters)
                axes.errorbar(
                    x, point.score, [[point.score - point.low], [point.high - point.score]],
                    fmt="o", ms=4.5, color=colour, elinewidth=0.8,
                )  # fmt: skip
                axes.annotate(
                    letter, (x, point.score), xytext=(2.5, 4), textcoords="offset points",
                    fontsize=8.0, color=INK,
                )  # fmt: skip
                lines.append((f"{letter}  {point.label}: {100.0 * point.score:.1f}", INK, "normal"))
        for number, (text, colour, weight) in enumerate(lines):
            axes.text(
                1.03, 1.0 - LINE_INCHES / height * number, text, color=colour, weight=weight,
                fontsize=8.5, va="top", transform=axes.transAxes,
            )  # fmt: skip
        axes.set_xscale("log")
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
                 if networks[0][1] / 2 < tick < networks[-1][1] * 2]  # fmt: skip
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("one window in ONNX Runtime, float32, one thread (ms)")
        axes.set_ylabel("macro-F1")
        tidy(axes, grid="both")
        save_png(figure, path)


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


if __name__ == "__main__":
    draw(points_of(sys.argv[1:]), FIGURE)
