"""Models by name: what `--set model.name=...` and a checkpoint's metadata refer to."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MODELS", "build_model", "register_model"]

MODELS: dict[str, type[nn.Module]] = {}
"""Model classes by name. Each takes `num_classes`, `in_channels`, `window_samples` and options."""


def register_model(name: str) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator that makes a model known by name.

    The class must take `num_classes`, `in_channels` and `window_samples` by keyword, and its
    `forward(signals)` must map [batch, channels, time] to {task: logits [batch, classes]}.

    Raises:
        ValueError: If the name is taken.
    """
    if name in MODELS:
        raise ValueError(
            f"`name` must be one that no model has, but is {name!r} ({MODELS[name].__name__}) "
            "instead."
        )

    def register(model_class: type[nn.Module]) -> type[nn.Module]:
        MODELS[name] = model_class
        return model_class

    return register


def build_model(
    name: str,
    *,
    num_classes: Mapping[str, int],
    in_channels: int = 3,
    window_samples: int = 100,
    **options: Any,
) -> nn.Module:
    """A freshly initialised model.

    Args:
        name: A key of `MODELS`.
        num_classes: Number of classes per task, in the order of the heads.
        in_channels: Number of sensor channels, at least 1.
        window_samples: Window length, in samples.
        **options: What else the model takes, by name.

    Raises:
        ValueError: If the model or an option is unknown, or a value breaks the model's rule.
    """
    if name not in MODELS:
        known = ", ".join(f"'{known}'" for known in MODELS)
        raise ValueError(f"`name` must be one of {known}, but is {name!r} instead.")
    shared = {"num_classes", "in_channels", "window_samples"}
    allowed = [key for key in inspect.signature(MODELS[name]).parameters if key not in shared]
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"`options` of model '{name}' must be among {allowed}, but has {option!r} instead."
            )
    return MODELS[name](
        num_classes=num_classes, in_channels=in_channels, window_samples=window_samples, **options
    )
