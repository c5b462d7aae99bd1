"""``smoothdistill export``: a run's model as one ONNX file, in float32 or int8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smoothdistill.commands.options import JsonOption, QuietOption, RunArgument

__all__ = ["export"]


def export(
    run: RunArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.onnx", help="The file to write.")
    ] = Path("model.onnx"),
    fold: Annotated[int, typer.Option(min=0, help="Number of the fold.")] = 0,
    role: Annotated[
        str, typer.Option(help="student, teacher, or selected: who did better in validation.")
    ] = "selected",
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize, calibrated on windows of training subjects.")
    ] = False,
    compress: Annotated[
        bool, typer.Option("--compress", help="Keep of SIMH heads their memory branch only.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model of a run to an ONNX file, and compare it with PyTorch on the test windows.

    The file takes raw windows ("signals", [batch, channels, time], in the unit of the recordings)
    and gives the logits of each task; standardization is inside. Needs the extra "export", and the
    recordings of the run.
    """
    from dataclasses import asdict

    from smoothdistill.commands.output import print_json, print_lines, print_table
    from smoothdistill.export import export_run

    found = export_run(
        run,
        out,
        fold=fold,
        role=role,  # type: ignore[arg-type]  # checked where the model is loaded
        precision="int8" if int8 else "float32",
        compress=compress,
    )
    if as_json:
        print_json(asdict(found))
    elif not quiet:
        rows = [
            (
                task,
                f"{found.agreement[task]:.2%}",
                f"{scores['torch']:.4f}",
                f"{scores['onnx']:.4f}",
                f"{100.0 * (scores['onnx'] - scores['torch']):+.2f}",
            )
            for task, scores in found.macro_f1.items()
        ]
        headings = ("task", "same answer", "macro-F1, PyTorch", "macro-F1, ONNX", "points")
        print_table(headings, rows)
        print_lines(
            f"{found.precision}, {found.num_bytes:,} bytes; logits differ by at most "
            f"{found.largest_difference:.2g} on {found.num_windows} test windows",
            f"model: {out}",
        )
