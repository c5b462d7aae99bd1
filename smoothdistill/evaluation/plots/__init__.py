"""The figures of a run, one file per kind; figures.py puts them together."""

from __future__ import annotations

__all__: list[str] = []
