"""Options that several commands share, and the configuration that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from smoothdistill.training.config import RunConfig

__all__ = [
    "ConfigOption",
    "DeviceOption",
    "JsonOption",
    "OutOption",
    "QuietOption",
    "RunArgument",
    "SeedOption",
    "SetOption",
    "SideBySideOption",
    "configuration",
    "torch_device",
]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE.toml", help="Configuration to start from: a file, or a preset."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the configuration, such as data.name=wisdm or train.epochs=5. "
        "May be given many times; the last one wins.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for the results.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Seed of weights and order: train.seed.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help='"auto", "cpu", "cuda" or "cuda:N".'),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only, and --json if it is given.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")
]
SideBySideOption = Annotated[
    bool,
    typer.Option(
        "--side-by-side",
        help="Train all folds at once on a GPU, which small networks leave mostly idle. A CPU "
        "trains one after the other.",
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, as `smoothdistill train` leaves it.")
]


def configuration(
    config: Path | None,
    overrides: list[str] | None,
    *,
    seed: int | None = None,
    device: str | None = None,
) -> RunConfig:
    """The configuration of a file, of ``--set``, and of the options that stand for a key.

    Raises:
        FileNotFoundError: If the file does not exist.
        TypeError: If a value is of the wrong kind.
        ValueError: If a key is unknown or a value out of its range.
    """
    from smoothdistill.training.config import RunConfig

    given = list(overrides or ())
    if seed is not None:
        given.append(f"train.seed={seed}")
    if device is not None:
        given.append(f'train.device="{device}"')
    if config is None:
        return RunConfig.from_toml("", given)
    return RunConfig.from_file(config, given)


def torch_device(name: str | None) -> str:
    """A device name without "auto".

    Raises:
        ValueError: If there is no such device.
    """
    import torch

    if name in (None, "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f'`device` must be "auto", "cpu", "cuda" or "cuda:N", but is {name!r} instead.'
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device` must be one of the {torch.cuda.device_count()} GPUs that PyTorch can use, "
            f"but is {name!r} instead; `smoothdistill doctor` says why."
        )
    return str(device)
