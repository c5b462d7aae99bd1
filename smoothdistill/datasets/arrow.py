"""The door to pyarrow, an optional dependency that is imported when a file is read."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["import_arrow"]


def import_arrow(part: str = "") -> Any:
    """The module pyarrow, or a part of it ("csv", "parquet").

    Raises:
        ImportError: If pyarrow is not installed; the message says how to install it.
    """
    try:
        return import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError as error:
        raise ImportError(
            "`pyarrow` must be installed to read recordings from files (pip install "
            f"'smoothdistill[data]'), but is not: {error}."
        ) from error
