"""Ready-made grids for ``smoothdistill compare``, by name: TOML files beside this one."""

from __future__ import annotations

from pathlib import Path

__all__ = ["names", "path"]

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the presets, in alphabetical order."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def path(name: str) -> Path:
    """Where the file of a preset lies.

    Args:
        name: One of `names`.

    Raises:
        ValueError: If there is no such preset.
    """
    if name not in names():
        raise ValueError(f"`preset` must be one of {', '.join(names())}, but is {name!r} instead.")
    return _FOLDER / f"{name}.toml"
