"""docs/features.md shows the catalog; running this file as a script writes its tables anew."""

from __future__ import annotations

from pathlib import Path

from smoothdistill.features import FeatureExtractor, catalog
from smoothdistill.features.presets import PRESETS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"
BEGIN, END = "<!-- catalog: begin -->\n", "<!-- catalog: end -->"
TITLES = {
    "moments": "Moments, extremes, crossings, trend",
    "order": "Order statistics",
    "temporal": "How samples follow each other",
    "cross_channel": "Across channels",
    "spectral": "Spectrum, of the demeaned samples; needs the sample rate",
    "complexity": "Costly, only if asked for",
    "catch22": "The catch22 set (Lubba et al., 2019), only if asked for",
}


def page_tables() -> str:
    rows = catalog()
    lines = []
    for family, title in TITLES.items():
        lines += [f"**{title}** (`{family}`)", ""]
        lines += ["| name | formula | unit | source |", "|---|---|---|---|"]
        for row in rows:
            if row["family"] == family:
                formula = row["formula"].replace("|", "\\|")
                lines.append(f"| `{row['name']}` | {formula} | {row['unit']} | {row['source']} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_has_the_catalog() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == page_tables()


def test_every_family_has_a_title() -> None:
    assert {row["family"] for row in catalog()} == set(TITLES)


def test_the_page_counts_the_columns_of_the_presets() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for preset in PRESETS:
        extractor = FeatureExtractor(preset, window_samples=100, sample_rate_hz=50.0)
        num_columns = len(extractor.fit([[0.0] * 3] * 200).get_feature_names_out())
        row = next(line for line in text.splitlines() if line.startswith(f"| `{preset}` |"))
        assert row.endswith(f"| {num_columns} |"), f"{preset} has {num_columns} columns"


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    before, after = old[: old.index(BEGIN) + len(BEGIN)], old[old.index(END) :]
    PAGE.write_text(before + page_tables() + after, encoding="utf-8")
