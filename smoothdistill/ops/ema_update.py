"""`ema_update_`: the exponential moving average of any number of tensors in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothdistill import reference
from smoothdistill.ops._arguments import as_number, check_fraction, check_list
from smoothdistill.ops._backend import kernels_for
from smoothdistill.ops._registration import register_op

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ema_update_"]


def ema_update_(teacher: list[Tensor], student: list[Tensor], *, decay: float | Tensor) -> None:
    """Move every teacher tensor towards its student: ``decay * teacher + (1 - decay) * student``.

    One pass over all tensors, in the form of `torch.lerp` (bit-equal to it on the AVX levels).
    ``decay=1`` writes nothing, ``decay=0`` copies exactly, and where student and teacher are
    equal the teacher keeps its bits. Tensors of integers and booleans are copied.

    Args:
        teacher: Tensors of any shapes, float32 or float64 (or integers), updated in place.
        student: As many tensors of the same shapes and dtypes; bfloat16 and float16
            are allowed for a float32 teacher.
        decay: Share of the old teacher that is kept, in [0, 1]; or one float element on the
            teacher's device, which is read there and not checked, for CUDA graphs.

    Raises:
        TypeError: If a tensor is of another dtype, or has no memory (fake, meta, sparse).
        ValueError: If the decay lies outside [0, 1], or lists, shapes, devices or memory
            formats do not match.

    Source:
        Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017, equation 1.
    """
    decay = as_number("decay", decay)
    if type(decay) is float or not isinstance(decay, torch.Tensor):
        check_fraction("decay", decay)
    check_list("teacher", teacher)
    if not teacher and student:
        raise ValueError(
            "`student` must hold as many tensors as `teacher` (0),"
            f" but holds {len(student)} instead."
        )
    if torch.compiler.is_compiling():
        torch.ops.smoothdistill.ema_update_(teacher, student, decay)
        return
    _run(teacher, student, decay)
    if teacher:
        torch.autograd.graph.increment_version(teacher)


def _run(teacher: list[Tensor], student: list[Tensor], decay: float | Tensor) -> None:
    kernels = kernels_for(teacher[0], "ema_update_") if teacher else None
    if kernels is not None:
        kernels.ema_update_(teacher, student, decay)
        return
    with torch.no_grad():
        reference.ema_update_(teacher, student, decay=float(decay))


register_op(
    "ema_update_(Tensor(a!)[] teacher, Tensor[] student, float decay) -> ()",
    _run,
    lambda teacher, student, decay: None,
)
