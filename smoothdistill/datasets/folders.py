"""Where the files of a data set lie below the folder that the user names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find_folder", "list_files"]


def find_folder(root: Path, nestings: tuple[str, ...], holds: str, source: str) -> Path:
    """The first of some nestings below the root that holds a file of the given pattern.

    Args:
        root: Folder that the user named.
        nestings: Folders below it, in order of preference ("." is the root itself).
        holds: Glob pattern of the files.
        source: Where the data set is to be had, for the message.

    Raises:
        FileNotFoundError: If none does.
    """
    for nesting in nestings:
        folder = root / nesting
        if next(iter(folder.glob(holds)), None) is not None:
            return folder
    raise FileNotFoundError(
        f"`root` must be a folder with files {holds!r}, but is {str(root)!r} instead. {source}"
    )


def list_files(folder: Path, pattern: str) -> list[tuple[Path, re.Match[str]]]:
    """Files whose whole name matches a regular expression, by name."""
    expression = re.compile(pattern)
    return [
        (path, match)
        for path in sorted(folder.iterdir())
        if path.is_file() and (match := expression.fullmatch(path.name))
    ]
