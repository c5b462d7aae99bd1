"""Tables of a TOML text, of a file, or of a preset by its name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from smoothdistill import presets

__all__ = ["parse_config", "read_config"]

_MAX_FILE_BYTES = 1 << 20


def parse_config(text: str) -> dict[str, Any]:
    """Nested tables of a TOML text.

    Raises:
        ValueError: If the text is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error)
        raise ValueError(
            f"`config` must be valid TOML, but {reason[:1].lower()}{reason[1:]} instead."
        ) from error


def read_config(path: str | Path) -> dict[str, Any]:
    """Nested tables of a TOML file of at most 1 MiB, or of the preset of that name.

    Args:
        path: The file; a preset's name where there is no such file.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If the file is larger, is no UTF-8 text, or no TOML.
    """
    path = Path(path)
    if not path.is_file():
        if str(path) not in presets.names():
            raise FileNotFoundError(
                f"`config` must be a TOML file or one of the presets "
                f"({', '.join(presets.names())}), but {str(path)!r} does not exist instead."
            )
        path = presets.path(str(path))
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(
            f"`config` must be a file of at most {_MAX_FILE_BYTES} bytes, "
            f"but {str(path)!r} has {path.stat().st_size} instead."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`config` must be UTF-8 text, but {str(path)!r} is not instead."
        ) from error
    return parse_config(text)
