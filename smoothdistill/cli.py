"""The command line: a table of contents of ``commands/``, and what becomes of errors.

Exit codes: 0 done, 1 the machine's fault (disk, memory) or a failed cell of a comparison, 2 usage,
3 data, 4 checkpoint or run folder, 5 non-finite losses, 130 after Ctrl-C, 143 after SIGTERM. An
error is one sentence on stderr; with ``SMOOTHDISTILL_TRACEBACK=1`` it is a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from smoothdistill.commands.bench import bench
from smoothdistill.commands.compare import compare
from smoothdistill.commands.data import data_app
from smoothdistill.commands.doctor import doctor
from smoothdistill.commands.evaluate import evaluate
from smoothdistill.commands.export import export
from smoothdistill.commands.features import features
from smoothdistill.commands.models import models
from smoothdistill.commands.predict import predict
from smoothdistill.commands.report import report
from smoothdistill.commands.resume import resume
from smoothdistill.commands.train import train
from smoothdistill.errors import MISSING_TORCH, SmoothDistillError

__all__ = ["app", "main"]

EXIT_MACHINE = 1
EXIT_USAGE = 2
EXIT_DATA = 3
EXIT_INTERRUPTED = 130


class _SentenceGroup(TyperGroup):
    """Turns what a command raises into one sentence and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(
                args=given or ["--help"],
                prog_name=prog_name or "smoothdistill",
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except Exception as raised:
            no_torch = isinstance(raised, ModuleNotFoundError) and raised.name == "torch"
            error = ImportError(MISSING_TORCH) if no_torch else raised
            found = _exit_code(error)
            if found is None or os.environ.get("SMOOTHDISTILL_TRACEBACK") == "1":
                raise
            sys.stderr.write(f"{_sentence(error)}\n")
            code = found
        if not standalone_mode:
            return code
        return sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: Exception) -> int | None:
    """The code that an error ends with; None for one that is a fault of this program."""
    if isinstance(error, SmoothDistillError):
        return error.exit_code
    if hasattr(error, "format_message"):  # usage errors of typer, which brings its own click
        return EXIT_USAGE
    if isinstance(error, typer.Abort):
        return EXIT_INTERRUPTED
    if isinstance(error, FileNotFoundError):
        return EXIT_DATA
    if isinstance(error, OSError | MemoryError):
        return EXIT_MACHINE
    # Public functions check their arguments and say so in a sentence that begins with the name.
    if isinstance(error, ValueError | TypeError | ImportError) and str(error).startswith("`"):
        return EXIT_USAGE
    return None


def _sentence(error: Exception) -> str:
    if hasattr(error, "format_message"):
        message = str(error.format_message()).removesuffix(".")
        return f"{message}{'' if message.endswith('?') else '.'} See `smoothdistill --help`."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _print_version(value: bool) -> None:
    if value:
        from smoothdistill.commands.output import package_version

        typer.echo(f"smoothdistill {package_version()}")
        raise typer.Exit


app = typer.Typer(
    cls=_SentenceGroup,
    name="smoothdistill",
    help=(
        "Train small multitask networks on wearable-sensor recordings: what the wearer does, and "
        "where the sensor sits. `smoothdistill train` alone runs on an embedded synthetic data set."
    ),
    epilog=(
        "Exit codes: 0 done, 1 the machine or a failed cell, 2 usage, 3 data, 4 checkpoint, "
        "5 non-finite losses, 130 or 143 stopped by a signal."
    ),
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hold the options of the program as a whole."""


app.command()(doctor)
app.command()(train)
app.command()(resume)
app.command()(evaluate)
app.command()(predict)
app.command()(export)
app.command()(features)
app.command()(compare)
app.command()(report)
app.add_typer(data_app, name="data")
app.command()(models)
app.command()(bench)


def main() -> None:
    """Run the command line with the arguments of the process."""
    app()
