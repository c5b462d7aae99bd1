"""Where a model keeps its buffers, which `Module.to` replaces by others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BufferPlaces"]


class BufferPlaces:
    """The buffers of a model by name, found anew whenever they are asked for.

    Args:
        model: Buffers that it has now are found, those that share a place once.
    """

    def __init__(self, model: nn.Module) -> None:
        # Dictionaries and keys: attribute look-ups through modules would take ten times as long.
        places = {
            f"{prefix}.{key}" if prefix else key: (module._buffers, key)
            for prefix, module in model.named_modules()
            for key in module._buffers
        }
        self._places = {name: places[name] for name, _ in model.named_buffers()}

    def tensors(self) -> dict[str, Tensor]:
        """The buffers as they are now, by name, in the order of `named_buffers`."""
        found = {name: owner[key] for name, (owner, key) in self._places.items()}
        return {name: buffer for name, buffer in found.items() if buffer is not None}
