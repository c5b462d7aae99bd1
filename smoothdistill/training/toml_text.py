"""Writing TOML (the standard library only reads it) and reading `--set a.b=value` overrides."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["merge_overrides", "parse_override", "to_toml"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_toml(table: Mapping[str, Any]) -> str:
    """TOML text that `tomllib.loads` reads back to an equal table.

    Tables of the first level become ``[sections]``, deeper ones are written inline. A key
    whose value is None is left out, since TOML has no such value.

    Args:
        table: Texts, integers, finite or infinite floats, booleans, lists and tables of these.

    Returns:
        The text, ending in a newline unless it is empty.

    Raises:
        TypeError: If a value is of any other kind, or a key is no text.
    """
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    blocks = [_lines(plain)] if _lines(plain) else []
    for key, value in table.items():
        if isinstance(value, Mapping):
            blocks.append("\n".join(part for part in (f"[{_key(key)}]", _lines(value)) if part))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _lines(table: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None
    )


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"`key` must be a text, but is {key!r} instead.")
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return repr(float(value))  # exact, and never a bare integer
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        inner = (f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(
        "`value` must be a text, an integer, a float, a boolean, a list or a table, "
        f"but is a {type(value).__name__} instead."
    )


def _text(text: str) -> str:
    escaped = (
        _ESCAPES.get(character)
        or (f"\\u{ord(character):04x}" if ord(character) < 32 or ord(character) == 127 else None)
        or character
        for character in text
    )
    return '"' + "".join(escaped) + '"'


def parse_override(override: str) -> tuple[list[str], Any]:
    """Split ``"train.epochs=5"`` into its path and its value.

    The value is read as TOML (``5``, ``0.1``, ``true``, ``[1, 2]``, ``"text"``); what is no
    TOML is taken as text, so that ``data.name=wisdm`` needs no quotes.

    Raises:
        ValueError: If there is no ``=``, or the path has fewer than two parts.
    """
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or len(keys) < 2 or not all(keys):
        raise ValueError(
            f"`--set` must be of the form section.key=value, but is {override!r} instead."
        )
    try:
        parsed = tomllib.loads(f"value = {text.strip()}")
    except tomllib.TOMLDecodeError:
        return keys, text.strip()
    # A line break in the text could smuggle in further keys: then it is text after all.
    return keys, parsed["value"] if len(parsed) == 1 else text.strip()


def merge_overrides(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `table` in which each override has replaced or added its key.

    Args:
        table: The configuration as nested tables.
        overrides: Texts such as ``"train.epochs=5"``; the last one wins.

    Raises:
        ValueError: If an override is malformed, or its path leads through a value that is no
            table.
    """
    merged: dict[str, Any] = _copy(table)
    for override in overrides:
        keys, value = parse_override(override)
        place = merged
        for depth, key in enumerate(keys[:-1]):
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ValueError(
                    f"`{'.'.join(keys)}` must lead through tables only, "
                    f"but `{'.'.join(keys[: depth + 1])}` is {place!r} instead."
                )
        place[keys[-1]] = value
    return merged


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copy(value) if isinstance(value, Mapping) else value for key, value in table.items()
    }
