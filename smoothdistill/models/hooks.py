"""Whether something else is called with a layer, which a kernel in its place would not call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.modules.module import _has_any_global_hook

if TYPE_CHECKING:
    from torch import nn

__all__ = ["any_global_hook", "is_hooked"]


def is_hooked(module: nn.Module) -> bool:
    """Whether a module has hooks, or another `forward` put into it."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def any_global_hook() -> bool:
    """Whether there are hooks for every module."""
    return bool(_has_any_global_hook())  # type: ignore[no-untyped-call]
