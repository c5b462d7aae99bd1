"""Methods by name, so that a configuration can ask for one."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from smoothdistill.methods.base import Method

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["METHODS", "build_method", "register_method"]

METHODS: dict[str, type[Method]] = {}
"""Every known method by its name."""

MethodType = TypeVar("MethodType", bound=type[Method])


def register_method(method: MethodType) -> MethodType:
    """Class decorator that makes a method known under its `name`.

    Raises:
        TypeError: If the class is no `Method`.
        ValueError: If it has no name, or its name is taken by another class.
    """
    candidate: object = method
    if not (inspect.isclass(candidate) and issubclass(candidate, Method)):
        raise TypeError(f"`method` must be a subclass of Method, but is {method!r} instead.")
    name = getattr(method, "name", "")
    if not name or METHODS.get(name, method) is not method:
        raise ValueError(
            f"`name` of the method {method.__name__} must be a name that no other method has "
            f"({', '.join(METHODS)} are taken), but is {name!r} instead."
        )
    METHODS[name] = method
    return method


def build_method(name: str, *, tasks: Sequence[str], **options: Any) -> Method:
    """Make a method by its name.

    Args:
        name: One of `METHODS`.
        tasks: Names of the tasks, in the order of the loss parts.
        options: Options of that method; see its `Options`.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If there is no such method, or an option is unknown or out of range.
    """
    if name not in METHODS:
        raise ValueError(
            f"`method.name` must be one of {', '.join(METHODS)}, but is {name!r} instead."
        )
    return METHODS[name](tasks, options)
