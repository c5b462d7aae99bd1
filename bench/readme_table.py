"""Writes the table of the README from a result of `smoothdistill bench --json`.

``python bench/readme_table.py bench/results/NAME.json`` replaces what stands between the two
`bench` marks of README.md. Every row of the result is kept, also those that we lose.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"
README = Path(__file__).parents[1] / "README.md"


def table(result: dict) -> str:
    """Markdown: one row for each of our providers and each baseline of PyTorch."""
    times = {(t["op"], t["case"], t["provider"]): t for t in result["times"]}
    lines = [
        "| ours | case | µs | against | µs | times faster (quartiles) | largest difference |",
        "|---|---|--:|---|--:|--:|--:|",
    ]
    for ratio in result["ratios"]:
        if ratio["kind"] != "baseline":
            continue
        place = (ratio["op"], ratio["case"])
        ours, other = times[*place, ratio["provider"]], times[*place, ratio["against"]]
        spread = f"{ratio['ratio_low']:.2f} to {ratio['ratio_high']:.2f}"
        lines.append(
            f"| `{ratio['provider']}` | {ratio['case']} | {ours['median_microseconds']:,.1f} "
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


def main(path: str) -> None:
    """Replace the marked part of the README."""
    result = json.loads(Path(path).read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(before + BEGIN + table(result) + hardware(result) + END + after, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
