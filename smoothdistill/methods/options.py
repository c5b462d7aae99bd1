"""Options of a method as frozen pydantic models, and pydantic's complaints as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from typing import Self

__all__ = ["LossOptions", "MethodOptions", "validate_options"]

Model = TypeVar("Model", bound=BaseModel)

_KINDS = {
    "bool": "true or false",
    "dict": "a table",
    "float": "a number",
    "int": "an integer",
    "list": "a list",
    "string": "a string",
    "tuple": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


class LossOptions(BaseModel):
    """Options that every method takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    task_weights: dict[str, float] | None = None
    """Weight of each task in the total, at least 0; an equal share that sums to 1 by default."""

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of each target that is spread over all classes, in [0, 1)."""

    buffers: Literal["copy", "ema", "skip"] = "ema"
    """What the teacher does with buffers such as running means; integers are always copied."""

    @model_validator(mode="after")
    def _weights_are_not_negative(self) -> Self:
        require_not_negative("task_weights", self.task_weights)
        return self


class MethodOptions(LossOptions):
    """Options of a method with an exponential moving average of its model."""

    decay: float = Field(default=0.999, ge=0.0, le=1.0)
    """Share of the old teacher that one update keeps, in [0, 1] (d of the paper)."""

    half_life_steps: float | None = Field(default=None, gt=0.0)
    """Steps after which a weight counts half, above 0; takes the place of `decay`."""

    warmup_steps: int = Field(default=1000, ge=0)
    """Steps over which the decay rises to its value, at least 0. Mended: the published code has no
    warm-up (0), so for about 1,000 steps its teacher is near its random start."""


def require_not_negative(name: str, value: float | Mapping[str, float] | None) -> None:
    """Refuse a weight below zero, of one number or of any task.

    Raises:
        ValueError: If `value`, or one of its values, is below 0.
    """
    numbers = value.values() if isinstance(value, Mapping) else [] if value is None else [value]
    if any(number < 0.0 for number in numbers):
        raise ValueError(f"`{name}` must be at least 0 for every task, but is {value!r} instead.")


def require_positive(name: str, value: float | Mapping[str, float]) -> None:
    """Refuse a value that is not above zero, of one number or of any task.

    Raises:
        ValueError: If `value`, or one of its values, is 0 or below.
    """
    numbers = value.values() if isinstance(value, Mapping) else [value]
    if any(number <= 0.0 for number in numbers):
        raise ValueError(f"`{name}` must be above 0 for every task, but is {value!r} instead.")


def validate_options(model: type[Model], values: Mapping[str, Any], *, path: str = "") -> Model:
    """Build a pydantic model, or say in one sentence which key is wrong and how.

    Args:
        model: The pydantic model to build.
        values: Its fields by name.
        path: Where the values stand in the configuration, such as ``"method"``; put in front
            of the key that the sentence names.

    Returns:
        The validated model.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If a key is unknown or missing, or a value is out of its range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        sentence = _sentence(first, model, path)
        kind = TypeError if str(first["type"]).endswith("_type") else ValueError
        raise kind(sentence) from error


def _sentence(error: Any, model: type[BaseModel], path: str) -> str:
    kind = str(error["type"])
    context = error.get("ctx", {})
    location = [str(part) for part in error["loc"] if not _is_branch_of_a_union(part, error["loc"])]
    key = ".".join([*([path] if path else []), *location])
    value = error["input"]
    if kind == "value_error":
        inner = str(context["error"])
        # Our own validators speak the whole sentence; only the path is added.
        if inner.startswith("`") and path and not inner.startswith(f"`{path}."):
            return f"`{path}.{inner[1:]}"
        return inner
    if kind == "extra_forbidden":
        known = ", ".join(_fields_at(model, location[:-1]))
        return f"`{key}` must be one of the known keys ({known}), but is an unknown key instead."
    if kind == "missing":
        return f"`{key}` must be given, but is missing instead."
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        return f"`{key}` must be {words} {context[limit]:g}, but is {value!r} instead."
    if kind == "literal_error":
        return f"`{key}` must be {context['expected']}, but is {value!r} instead."
    if kind == "finite_number":
        return f"`{key}` must be a finite number, but is {value!r} instead."
    if kind in {"model_type", "model_attributes_type", "mapping_type"}:
        return f"`{key}` must be a table, but is {value!r} instead."
    if kind.endswith("_type") and kind.removesuffix("_type") in _KINDS:
        rule = _KINDS[kind.removesuffix("_type")]
        return f"`{key}` must be {rule}, but is {value!r} instead."
    rule = str(error["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return f"`{key}` must be {rule}, but is {value!r} instead."


def _is_branch_of_a_union(part: int | str, location: tuple[int | str, ...]) -> bool:
    """Whether pydantic put a type's name into the path, as it does below ``float | dict``."""
    return part != location[0] and (
        part in {"float", "int", "str", "bool"}
        or str(part).startswith(("dict[", "tuple[", "list["))
    )


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        inner = model.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)
