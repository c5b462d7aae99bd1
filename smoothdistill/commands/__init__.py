"""The verbs of the command line, one file each; cli.py lists them."""

from __future__ import annotations

__all__: list[str] = []
