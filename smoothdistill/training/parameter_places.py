"""Notices when a model's parameter is replaced by another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ParameterPlaces"]


class ParameterPlaces:
    """Where a model keeps the parameters that are trained.

    Args:
        model: Its parameters that require a gradient are watched; they may change their values
            and move to other memory.
    """

    def __init__(self, model: nn.Module) -> None:
        # Dictionaries and keys: attribute look-ups through modules would take ten times as long.
        self._places = [
            (module._parameters, key, parameter, f"{prefix}.{key}" if prefix else key)
            for prefix, module in model.named_modules()
            for key, parameter in module._parameters.items()
            if parameter is not None and parameter.requires_grad
        ]

    def require_unchanged(self) -> None:
        """Refuse a parameter that was replaced, which would neither be stepped nor averaged.

        Raises:
            ValueError: If there is one.
        """
        for owner, key, parameter, name in self._places:
            if owner.get(key) is not parameter:
                raise ValueError(
                    "`model` must keep the parameters that it had when the step was built, but has "
                    f"another {name!r} instead; build a new TrainStep."
                )
