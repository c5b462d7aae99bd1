"""``smoothdistill data``: which data sets there are, and what is in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smoothdistill.commands.options import JsonOption

__all__ = ["data_app"]

data_app = typer.Typer(help="List the known data sets, or check the files of one.")


@data_app.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """List the data sets that data.name may name, their tasks and licence."""
    from smoothdistill.commands.output import print_json, print_lines, print_table
    from smoothdistill.datasets import DATASETS

    if as_json:
        print_json([_describe(dataset) for dataset in DATASETS.values()])
        return
    rows = [
        (
            dataset.name,
            ", ".join(f"{task} ({len(dataset.class_names[task])})" for task in dataset.tasks),
            f"{len(dataset.channel_names)} at {dataset.sample_rate_hz:g} Hz",
            f"{dataset.title}; {dataset.licence}",
        )
        for dataset in DATASETS.values()
    ]
    print_table(("name", "tasks (classes)", "channels", "what; licence"), rows, num_names=4)
    print_lines(
        "Nothing is downloaded: `smoothdistill data check NAME --root DIR` reads unpacked files,",
        "and `smoothdistill data list --json` says where each data set is published.",
        "Your own CSV or Parquet files: `data.name=csv`, with the keys of `datasets.from_csv`.",
    )


@data_app.command("check")
def check_dataset(
    name: Annotated[str, typer.Argument(help="A data set of `smoothdistill data list`.")],
    root: Annotated[
        Path | None, typer.Option("--root", metavar="DIR", help="Folder of the unpacked files.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read every file of a data set and say what is in it: rates, gaps, repairs, classes, units."""
    from smoothdistill import datasets
    from smoothdistill.commands.output import print_json, print_lines, print_table

    found = datasets.check(name, root).to_dict()
    if as_json:
        print_json(found)
        return
    norm = found["median_norm"]
    facts = [
        ("files", str(found["num_files"])),
        ("subjects", str(found["num_subjects"])),
        ("recordings", str(found["recordings"])),
        ("rows", f"{found['rows']:,}"),
        ("kept samples", f"{found['kept_samples']:,}"),
        ("measured rates", _histogram(found["rate_histogram"])),
        ("gaps", str(found["gaps"])),
        ("backward steps", str(found["backward_steps"])),
        ("tied timestamps", str(found["tied_timestamps"])),
        ("duplicate rows", str(found["duplicates"])),
        (
            "median norm of acceleration",
            "unknown" if norm is None else f"{norm:.3g}, which speaks for {found['unit_evidence']}",
        ),
        *((f"repaired: {what}", str(count)) for what, count in found["repairs"].items()),
    ]
    print_table(("", ""), facts, title=f"{name} {found['root']}".strip(), num_names=2)
    for task, counts in found["class_samples"].items():
        total = max(1, sum(counts.values()))
        rows = [(label, f"{count:,}", f"{count / total:.1%}") for label, count in counts.items()]
        print_table((task, "samples", "share"), rows)
    for note in found["notes"]:
        print_lines(f"note: {note}")


def _describe(dataset: Any) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "class_names": {task: list(dataset.class_names[task]) for task in dataset.tasks},
        "channel_names": list(dataset.channel_names),
        "units": list(dataset.units),
        "sample_rate_hz": dataset.sample_rate_hz,
        "window_samples": dataset.window_samples,
        "step_samples": dataset.step_samples,
        "label": dataset.label,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "source": dataset.source,
        "needs_root": dataset.needs_root,
        "repairs": list(dataset.repairs),
    }


def _histogram(counts: dict[str, int]) -> str:
    return ", ".join(f"{rate} Hz: {count}" for rate, count in counts.items()) or "no times"
