"""Writes the tables of the README from results of `smoothdistill bench --json` and of `bench/`.

``python bench/readme_table.py bench/results/NAME.json`` replaces what stands between the `bench`
marks of README.md, and between the `step` marks where the result has steps (``bench all``). A
result of ``bench/features/bench_rivals.py`` goes between the `features` marks, one of
``bench/train/bench_method_costs.py`` between the `costs` marks. Every row of the result is kept,
also those that we lose.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"
STEP_BEGIN, STEP_END = "<!-- step: begin -->\n", "<!-- step: end -->\n"
BFLOAT16_BEGIN, BFLOAT16_END = "<!-- bfloat16: begin -->\n", "<!-- bfloat16: end -->\n"
FEATURES_BEGIN, FEATURES_END = "<!-- features: begin -->\n", "<!-- features: end -->\n"
COSTS_BEGIN, COSTS_END = "<!-- costs: begin -->\n", "<!-- costs: end -->\n"
OURS = "ours, float32"
OURS_BFLOAT16 = "ours, bfloat16"
STRONGEST_ONLY = ("conv_pool", "linear")  # ops with many cases: the README shows one rival of each
README = Path(__file__).parents[1] / "README.md"


def table(result: dict) -> str:
    """Markdown: one row for each of our providers and each baseline of PyTorch.

    Of `STRONGEST_ONLY` the fastest baseline of each case; the results file has the others.
    """
    strongest: dict[tuple[str, str], float] = {}
    for ratio in result["ratios"]:
        if ratio["kind"] == "baseline":
            place = (ratio["op"], ratio["case"])
            strongest[place] = min(ratio["ratio"], strongest.get(place, ratio["ratio"]))
    times = {(t["op"], t["case"], t["provider"]): t for t in result["times"]}
    lines = [
        "| ours | case | µs | against | µs | times faster (quartiles) | largest difference |",
        "|---|---|--:|---|--:|--:|--:|",
    ]
    for ratio in result["ratios"]:
        if ratio["kind"] != "baseline":
            continue
        place = (ratio["op"], ratio["case"])
        if ratio["op"] in STRONGEST_ONLY and ratio["ratio"] > strongest[place]:
            continue
        name = ratio["op"] if ratio["op"] in STRONGEST_ONLY else ratio["provider"]
        ours, other = times[*place, ratio["provider"]], times[*place, ratio["against"]]
        spread = f"{ratio['ratio_low']:.2f} to {ratio['ratio_high']:.2f}"
        lines.append(
            f"| `{name}` | {ratio['case']} | {ours['median_microseconds']:,.1f} "
            f"| {ratio['against'].replace('_foreach_lerp_', '`_foreach_lerp_`')} "
            f"| {other['median_microseconds']:,.1f} | **{ratio['ratio']:.2f}** ({spread}) "
            f"| {ours['largest_difference']:.0e} |"
        )
    return "\n".join(lines) + "\n"


def hardware(result: dict) -> str:
    """The line under the table: on what it was measured."""
    about = result["machine"]
    return (
        f"\n{about['processor']}, {about['simd_level']} kernels, one thread, "
        f"torch {about['torch']}; a plain copy moves {result['copy_gigabytes_per_second']:.1f} "
        "GB/s. Medians of 15 rounds in which the rivals take turns; the last column is against "
        "the float32 reference.\n"
    )


def step_table(steps: dict, ours: str = OURS) -> str:
    """Markdown: one row for each layout, batch and number of threads, one column for each rival.

    A rival's cell is its milliseconds and how many times faster ours is; a floor's is its
    milliseconds and how many times as long ours takes. Floors of other number formats than ours
    are left out.
    """
    place = ("layout", "batch", "threads")
    times = {(*(row[key] for key in place), row["provider"]): row for row in steps["times"]}
    ratios = {
        (*(row[key] for key in place), row["against"]): row
        for row in steps["ratios"]
        if row["provider"] == ours
    }
    floors = {row["provider"] for row in steps["times"] if row["kind"] == "floor"}
    other_format = {f for f in floors if f.endswith(", bfloat16") != ours.endswith(", bfloat16")}
    rivals = [name for name in dict.fromkeys(key[-1] for key in ratios) if name not in other_format]
    rivals.sort(key=lambda rival: rival in floors)  # stable: floors last
    lines = [
        f"| layout | batch | threads | {ours} | {' | '.join(rivals)} |",
        f"|---|{'--:|' * (3 + len(rivals))}",
    ]
    for key in dict.fromkeys(key[:-1] for key in times):
        cells = [f"{key[0]} | {key[1]} | {key[2]} | {_milliseconds(times[*key, ours])}"]
        for rival in rivals:
            row = ratios.get((*key, rival))
            if row is None:
                cells.append("")
                continue
            values = [row[name] for name in ("ratio", "ratio_low", "ratio_high")]
            if rival in floors:
                values = [1.0 / values[0], 1.0 / values[2], 1.0 / values[1]]
            ratio, low, high = values
            words = f"*{ratio:.2f}*" if rival in floors else f"**{ratio:.2f}**"
            milliseconds = _milliseconds(times[*key, rival])
            cells.append(f"{milliseconds}: {words} ({low:.2f} to {high:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _milliseconds(row: dict) -> str:
    return f"{row['median_microseconds'] / 1e3:.2f}"


def step_notes(result: dict) -> str:
    """The lines under the table of steps: how to read it, on what, and what is missing."""
    about = result["machine"]
    reasons = dict.fromkeys(
        f"{row['provider']} ({row['reason']})" for row in result["steps"]["left_out"]
    )
    missing = f" Left out: {'; '.join(reasons)}." if reasons else ""
    return (
        "\nMilliseconds for a step; in bold, how many times faster ours is (quartiles); in "
        f"italics, how many times as long as the floor ours takes. {about['processor']}, "
        f"{about['simd_level']} kernels, torch {about['torch']}.{missing}\n"
    )


def features_tables(features: dict) -> str:
    """Markdown: for each workload a table with one row for each provider, ours first.

    The others follow from fast to slow, each with how many times faster each of ours is.
    """
    return "\n".join(
        _features_table(features, workload)
        for workload in dict.fromkeys(row["workload"] for row in features["times"])
    )


def _features_table(features: dict, workload: str) -> str:
    rows = [row for row in features["times"] if row["workload"] == workload]
    rows.sort(key=lambda row: 0.0 if row["is_ours"] else row["median_nanoseconds"])
    ours = [row["provider"] for row in rows if row["is_ours"]]
    ratios = {
        (row["provider"], row["against"]): row
        for row in features["ratios"]
        if row["workload"] == workload
    }
    shown = [
        name
        for name in rows[0]["shown_errors"]
        # Only where windows share running sums does a glitch outlive its windows.
        if "after" not in name or (workload == "dense" and name == "variance, after a glitch")
    ]
    lines = [
        f"| {' | '.join([workload, 'values', 'windows', 'ns', *ours, *shown])} |",
        f"|---|{'--:|' * (3 + len(ours) + len(shown))}",
    ]
    for row in rows:
        faster = [_faster(ratios.get((provider, row["provider"]))) for provider in ours]
        errors = (row["shown_errors"][name] for name in shown)
        cells = [
            row["provider"] + (f" ({row['also']})" if row["also"] else ""),
            str(row["num_features"]),
            f"{row['num_windows']:,}",
            _short(row["median_nanoseconds"]),
            *faster,
            *("" if error is None else f"{error:.0e}" for error in errors),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _faster(ratio: dict | None) -> str:
    if ratio is None:
        return ""
    low, high = (_short(ratio[key]) for key in ("ratio_low", "ratio_high"))
    return f"**{_short(ratio['ratio'])}** ({low} to {high})"


def _short(number: float) -> str:
    """Three digits, or all in front of the point."""
    digits = next((digits for digits in (2, 1) if abs(number) < 10 ** (3 - digits)), 0)
    return f"{number:,.{digits}f}"


def features_notes(result: dict) -> str:
    """The lines under the tables of features: how to read them, on what, and what is missing."""
    about, features = result["machine"], result["features"]
    versions = ", ".join(f"{name} {number}" for name, number in about["packages"].items() if number)
    reasons = dict.fromkeys(f"{row['provider']} ({row['reason']})" for row in features["left_out"])
    missing = f" Left out: {'; '.join(reasons)}." if reasons else ""
    return (
        "\nNanoseconds per window and channel on one thread, for ours from the array to a pandas "
        "frame, for others from the input that they like best; in bold, how many times faster "
        "ours is, with results in float64 and in float32 (quartiles over rounds by turns). Errors "
        "are the largest against extended precision, everybody by their own definition, and apart "
        "from the last column on a still sensor (9.81 ± 0.002 m/s², float32): variance and power "
        'relative, the others absolute; "worst" is of all values, as a share of the largest. '
        f"{about['processor']}, Python {about['python']}, {versions}.{missing}\n"
    )


def costs_table(result: dict) -> str:
    """Markdown: one row for each method, cheap ones first, with a column for each precision."""
    rows = {(row["precision"], row["method"]): row for row in result["methods"]}
    precisions = list(dict.fromkeys(precision for precision, _ in rows))
    lines = [
        f"| a step by | {' | '.join(f'{name}, ms | times `multitask`' for name in precisions)} |",
        f"|---|{'--:|--:|' * len(precisions)}",
    ]
    for method in dict.fromkeys(row["method"] for row in result["methods"]):
        cells = [f"`{method}`" if " " not in method else method]
        for precision in precisions:
            row = rows[precision, method]
            spread = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
            cells += [f"{row['milliseconds']:.1f}", f"**{row['ratio']:.2f}** ({spread})"]
        lines.append(f"| {' | '.join(cells)} |")
    about = result["machine"]
    return (
        "\n".join(lines) + f"\n\n{about['processor']}, {about['simd_level']} kernels, "
        f"torch {about['torch']}, one thread.\n"
    )


def replaced(text: str, begin: str, end: str, content: str) -> str:
    """The text with other content between two marks."""
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end)[1]


def main(path: str) -> None:
    """Replace the marked parts of the README."""
    result = json.loads(Path(path).read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    if "times" in result:
        text = replaced(text, BEGIN, END, table(result) + hardware(result))
    if "steps" in result:
        steps = result["steps"]
        content = step_table(steps) + step_notes(result)
        text = replaced(text, STEP_BEGIN, STEP_END, content)
        if any(row["provider"] == OURS_BFLOAT16 for row in steps["ratios"]):
            content = step_table(steps, OURS_BFLOAT16) + step_notes(result)
            text = replaced(text, BFLOAT16_BEGIN, BFLOAT16_END, content)
    if "methods" in result:
        text = replaced(text, COSTS_BEGIN, COSTS_END, costs_table(result))
    if "features" in result:
        content = features_tables(result["features"]) + features_notes(result)
        text = replaced(text, FEATURES_BEGIN, FEATURES_END, content)
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
