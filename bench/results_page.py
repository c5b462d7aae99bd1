"""docs/results.md from committed comparisons.

    python bench/results_page.py                                   # the page anew
    python bench/results_page.py subject-wisdm runs/subject-wisdm  # first take a comparison in

A comparison's `cells.zip` becomes `bench/results/cells-<name>.zip`, from which the same grid goes
on elsewhere; once it is complete, its `comparison.json` becomes `compare-<name>.json` there,
without the folder of the recordings. The page has a part for each of these, in alphabetical order,
and before them tables of what was trained or timed besides (`trees-*.json`, `networks-*.json`).
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from smoothdistill.evaluation.comparison.archive import ARCHIVE_FILE
from smoothdistill.evaluation.comparison.headline import headline, points
from smoothdistill.evaluation.comparison.page import (
    convergence_table,
    role_table,
)
from smoothdistill.evaluation.comparison.pairs import SURE, find_pair, pair_table
from smoothdistill.evaluation.comparison.tables import markdown_text

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS, PAGE = REPOSITORY / "bench" / "results", REPOSITORY / "docs" / "results.md"

HEAD = """# Results on real recordings

Made by `python bench/results_page.py` from the comparisons in `bench/results/`, which
`smoothdistill compare` wrote ([how](compare.md)). All methods have the same folds, seeds, epochs
and rule of selection, and are tested on people whom they have not seen, unless a table says
otherwise. The recordings are no part of this project; what is left of newer grids' cells is in
`cells-*.zip` beside the comparisons, from which `smoothdistill compare --cells` goes on.

Intervals are over people, for the trainings as they were. Chance in training comes on top: a later
version of this package, which draws or rounds otherwise, trained two variants of `official-hapt`
anew by the same three seeds: one rose by 1.3 points (`mtl-net, best`), one fell by 2.1 (`har-mlp`).
On HAPT, which has one task, `gradnorm` and `cross-task` compute what `multitask` computes, rounded
otherwise, and with three seeds came out 1.8 points lower [-3.0, -0.2], though their validation
scores were level with its: in 15 pairs of trainings the difference between the students' scores on
the test people had a standard deviation of 3.2 points (of the averages' scores 1.9, mean +0.6). On
WISDM v1.1 the same two came out 0.4 points higher [-0.8, 1.8], with 3.3 and 3.3. So of a point or
two nothing should be made, whatever its interval, and less yet with a single seed.
"""


def without_places(value: Any) -> Any:
    """The same content without where the recordings and the cells lay."""
    if isinstance(value, dict):
        return {k: without_places(v) for k, v in value.items() if k not in ("root", "folder")}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(?m)^root = .*\n", "", value)
    return value


def take_in(name: str, folder: Path) -> Path:
    """Copy a comparison to the results; of one that is not complete its cells alone."""
    content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    shutil.copyfile(folder / ARCHIVE_FILE, RESULTS / f"cells-{name}.zip")
    if not content["is_complete"]:
        raise SystemExit(f"{folder} is not complete: its finished cells were taken in, no more.")
    path = RESULTS / f"compare-{name}.json"
    text = json.dumps(without_places(content), ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
    return path


def rows_of(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(headings)} |", "|---" + "|--:" * (len(headings) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def folded(title: str, text: str) -> str:
    """What a reader opens if he wants to."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def part(name: str, content: dict[str, Any]) -> str:
    """The part of the page that one comparison has."""
    data, environment = content["data"], content["environment"]
    tables = (
        ("Student, teacher, and what validation chose (macro-F1)", role_table(content)),
        (
            "Convergence, in points: standard deviation of validation macro-F1 from epoch to "
            "epoch, and training minus validation accuracy",
            convergence_table(content),
        ),
    )
    grid = f"```toml\n{content['config'].strip()}\n```"
    tables += tuple(
        (
            f"{task}: points of macro-F1 by which a row leads a column; {SURE} where the 95 % "
            "interval leaves out zero, without a correction for their number",
            pair_table(content, task),
        )
        for task in content["tasks"]
    )
    details = "\n\n".join(
        folded(title, rows_of(table.headings, table.rows)) for title, table in tables
    )
    return (
        f"## {name}\n\n"
        f"{data['name']}: {data['num_windows']:,} windows of {data['window_samples']} samples at "
        f"{data['sample_rate_hz']:g} Hz, {data['num_channels']} channels, {data['num_subjects']} "
        f"people.\n\n"
        f"{markdown_text(content)}\n{details}\n\n"
        f"{folded('The grid', grid)}\n\n"
        f"Python {environment['python']}, torch {environment['torch']}, {environment['device']} "
        f"({environment['cpu_capability']}), {environment['num_threads']} thread(s) a cell.\n"
    )


WORTH = """## What each step is worth

Points of macro-F1 on people whom no model has seen, with 95 % intervals over people. Where the
interval has zero in it, the step is not shown to help or to harm. Where there is none, the two were
tested on different windows: these are points that a paper reports and no new person sees.
"""

OF_SMOOTH_DISTILL = (
    ("published, as coded, and its split", "published, as coded", "What the published split adds "
     "by testing windows that overlap trained ones of the same people"),
    ("best", "published, as coded", "What was published, and what we train"),
    ("smooth-distill, published layout", "published, as coded", "Signals standardized, and the "
     "better of student and teacher taken"),
    ("smooth-distill", "smooth-distill, published layout", "All of the window read, the average "
     "warmed up"),
    ("ema-only", "multitask", "Averaging the weights"),
    ("smooth-distill", "multitask", "Distilling from the average"),
    ("smooth-distill", "ema-only", "Distilling from the average, beyond averaging"),
    ("best", "ema-only", "Turning the training windows"),
    ("smooth-distill, turned windows", "best", "Distilling, where windows are turned"),
)  # fmt: skip
"""A variant, the one that it is held against, and what the step between them is."""

OF_HMKD = (
    ("hmkd", "student alone", "The student, from learning beside its teacher"),
    ("hmkd", "kd", "Beside its teacher, beyond from a trained one"),
    ("hmkd", "deep-mutual-learning", "Intermediate layers, too, beyond the outputs"),
    ("teacher beside its student", "teacher alone", "The teacher, from having a student"),
    ("teacher alone", "student alone", "The teacher's network, each trained alone"),
)

OF_SMLDIST = (
    ("smldist", "student alone", "The student, from three kinds of distillation"),
    ("smldist", "kd", "All three, beyond logits alone"),
    ("smldist", "smldist, published form", "The mended form, beyond the published one"),
    ("smldist", "teacher alone", "The student, beyond its teacher"),
    ("smldist, 7 epochs", "student alone, 7 epochs", "The student, with longer training for both"),
    ("smldist, 7 epochs", "teacher alone", "The same, beyond its teacher of 4 epochs"),
)


def steps(
    title: str,
    questions: Sequence[tuple[str, str, str]],
    contents: dict[str, dict[str, Any]],
    prefix: str = "",
) -> str:
    """What each step is worth in the comparisons whose names begin so."""
    columns = [
        (name, task)
        for name, content in contents.items()
        for task in content["tasks"]
        if name.startswith(prefix)
        and any(find_pair(content, task, variant, over) for variant, over, _ in questions)
    ]
    rows = []
    for variant, over, step in questions:
        entries = [_points(contents[name], task, variant, over) for name, task in columns]
        if any(entries):
            rows.append((step, f"{variant} over {over}", *entries))
    headings = (
        "step", "which is", *(f"{name.removeprefix(prefix)}, {task}" for name, task in columns)
    )  # fmt: skip
    seeds = {name: len(contents[name]["seeds"]) for name, _ in columns}
    of_names = ", ".join(f"{name.removeprefix(prefix)} {count}" for name, count in seeds.items())
    return f"### {title}\n\n{rows_of(headings, rows)}\n\nSeeds: {of_names}.\n"


def _points(content: dict[str, Any], task: str, variant: str, over: str) -> str:
    """Their difference; without an interval where one of them was tested on other windows."""
    pair = find_pair(content, task, variant, over)
    if pair is not None:
        value, low, high = map(points, pair)
        return f"{value} [{low}, {high}]"
    scored = {row["label"]: row for row in content["variants"]}
    if variant not in scored or over not in scored:
        return ""
    means = [
        row["scores"][task][row["role"]]["macro_f1"]["mean"]
        for row in (scored[variant], scored[over])
    ]
    return points(means[0] - means[1])


def networks() -> list[str]:
    """What the networks cost on each machine that was measured."""
    parts = []
    for path in sorted(RESULTS.glob("networks-*.json"), key=lambda path: path.stem):
        content = json.loads(path.read_text(encoding="utf-8"))
        environment = content["environment"]
        rows = [
            (
                row["label"],
                f"{row['num_parameters']:,}",
                f"{row['num_macs'] / 1e6:.2f} M",
                *(f"{1e3 * seconds:.2f}" for seconds in row["seconds"].values()),
                *(f"{size / 1e6:.2f}" for size in row["num_bytes"].values()),
            )
            for row in content["networks"]
        ]
        headings = (
            "network", "parameters", "multiply-adds", "PyTorch, ms", "ONNX float32, ms",
            "ONNX int8, ms", "float32, MB", "int8, MB",
        )  # fmt: skip
        parts.append(
            "## What the networks cost\n\n"
            "One window of 6 channels x 128 samples, 12 classes, one thread; medians of rounds in "
            "which the three take turns (`bench/models/bench_networks.py`).\nThe heads of "
            "mobilenet-v3-1d are `simh-associative`; its student has 128 features.\n\n"
            f"{rows_of(headings, rows)}\n\n"
            f"torch {environment['torch']}, {environment['device']} "
            f"({environment['cpu_capability']}).\n"
        )
    return parts


TREES = """## Boosted trees on features

scikit-learn's `HistGradientBoostingClassifier`, 100 rounds, on the table of a preset of
`FeatureExtractor`: the same windows and folds, one seed (`bench/features/bench_pipeline.py`,
files `trees-*.json`). Macro-F1, mean of the folds (and seeds), 95 % interval over people.
"""

NETWORKS_BESIDE_TREES = ("smooth-distill", "best")


def trees(contents: dict[str, dict[str, Any]]) -> str:
    """Features and boosted trees beside the networks of the comparison of that name."""
    rows = []
    for path in sorted(RESULTS.glob("trees-*.json"), key=lambda path: path.stem):
        name = path.stem.removeprefix("trees-")
        found = json.loads(path.read_text(encoding="utf-8"))
        content = contents[name]
        num_windows = content["data"]["num_windows"]
        if found["windows"] != num_windows:
            raise ValueError(
                f"`{path.name}` must have the {num_windows} windows of compare-{name}.json, but "
                f"has {found['windows']} instead."
            )
        variants = {row["label"]: row for row in content["variants"]}
        for scores in found["scores"]:
            task = scores["task"]
            entries = [_score(variants[label], task) for label in NETWORKS_BESIDE_TREES]
            features = f"`{found['features']}`, {scores['num_features']} columns"
            by_trees = (
                f"{scores['macro_f1']:.3f} "
                f"[{scores['macro_f1_low']:.3f}, {scores['macro_f1_high']:.3f}]"
            )
            epochs = variants["best"]["config"]["train"]["epochs"]
            rows.append((f"{name}, {task}", str(epochs), *entries, by_trees, features))
    headings = (
        "data, task", "epochs", *NETWORKS_BESIDE_TREES, "boosted trees", "of which features",
    )  # fmt: skip
    return f"{TREES}\n{rows_of(headings, rows)}\n"


def _score(variant: dict[str, Any], task: str) -> str:
    """Macro-F1 of the role that a variant is tested in, with its interval."""
    score = variant["scores"][task][variant["role"]]["macro_f1"]
    low, high = score["ci95"]
    return f"{score['mean']:.3f} [{low:.3f}, {high:.3f}]"


LATENCY = """What training makes of them on HAPT (`official-hapt`, `smldist-hapt`, `hmkd-hapt`), by
`python bench/latency_figure.py compare-official-hapt compare-smldist-hapt compare-hmkd-hapt`.
Variants of a network, whatever its head, stand side by side around its time; whiskers are 95 %
intervals over people.

![Macro-F1 on the official test part of HAPT against the time of one window](latency.png)
"""


def contents_list(contents: dict[str, dict[str, Any]]) -> str:
    """All comparisons, with the sentence that each begins with."""
    lines = [f"- [{name}](#{anchor(name)}): {contents[name]['headline']}" for name in contents]
    return "\n".join(["## All comparisons\n", *lines, ""])


def anchor(heading: str) -> str:
    """What GitHub makes of a heading for links to it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def page() -> str:
    """The whole page."""
    paths = sorted(RESULTS.glob("compare-*.json"), key=lambda path: path.stem)
    contents = {
        path.stem.removeprefix("compare-"): json.loads(path.read_text(encoding="utf-8"))
        for path in paths
    }
    for content in contents.values():  # by today's words
        content["headline"] = headline(content)
    return "\n".join(
        [
            HEAD,
            WORTH,
            steps("Smooth-Distill", OF_SMOOTH_DISTILL, contents),
            steps("HMKD", OF_HMKD, contents, "hmkd-"),
            steps("SMLDist", OF_SMLDIST, contents, "smldist-"),
            trees(contents),
            *networks(),
            LATENCY,
            contents_list(contents),
            *(part(name, content) for name, content in contents.items()),
        ]
    )


def main(arguments: Sequence[str]) -> None:
    """Take a comparison in, if one is named, and write the page."""
    if arguments:
        name, folder = arguments
        take_in(name, Path(folder))
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
