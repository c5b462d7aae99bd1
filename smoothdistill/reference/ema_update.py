"""Exponential moving average in plain PyTorch: the oracle and fallback of `ema_update_`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["ema_update_"]


def ema_update_(teacher: Sequence[Tensor], student: Sequence[Tensor], *, decay: float) -> None:
    """Move every teacher tensor towards its student: ``decay * teacher + (1 - decay) * student``.

    The two ends are exact: ``decay=1`` writes nothing and ``decay=0`` copies, also where a
    value is infinite. Tensors of integers and booleans are copied.

    Args:
        teacher: Tensors that are updated in place.
        student: As many tensors of the same shapes.
        decay: Share of the old teacher that is kept, in [0, 1].

    Source:
        Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017, equation 1.
    """
    for target, source in zip(teacher, student, strict=True):
        if decay == 0.0 or not target.is_floating_point():
            target.copy_(source)
        elif decay != 1.0:
            target.lerp_(source.to(target.dtype), 1.0 - decay)
