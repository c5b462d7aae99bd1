"""`adam_ema_`: an Adam or AdamW step and the EMA of the new weights in one pass over memory."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from smoothdistill import reference
from smoothdistill.ops._arguments import as_number, check_fraction, check_list, check_non_negative
from smoothdistill.ops._backend import cpu_module, kernels_for
from smoothdistill.ops._registration import register_op

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["adam_ema_"]

_increment_version = torch.autograd.graph.increment_version


def adam_ema_(
    params: list[Tensor],
    grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    teacher: list[Tensor] | None,
    *,
    lr: float | Tensor,
    step: int | list[Tensor],
    decay: float | Tensor = 0.999,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    clip_factor: Tensor | float = 1.0,
    ticket: Tensor | None = None,
) -> None:
    """Update parameters by Adam (or AdamW), and their EMA teacher right after, in one pass.

    The formula stands in `smoothdistill.reference.adam_ema_`. Gradients are left as they are.

    Args:
        params: Tensors of any shapes, all float32 or all float64, updated in place. Or all bfloat16
            or all float16, like their gradients, beside float32 moments and teacher: the step
            is made in float32, rounded once, and the teacher averages the rounded weights.
        grads: A gradient of the same shape for each, or None: that tensor is not stepped, but
            its teacher still follows.
        exp_avgs: First moments, updated in place.
        exp_avg_sqs: Second moments, updated in place.
        teacher: The EMA of each parameter, updated in place; None: Adam alone.
        lr: Learning rate, at least 0; or one float element on the parameters' device, which is
            read there and not checked, for CUDA graphs.
        step: Number of this update, from 1. Or one float32 element a parameter that counts
            the updates made so far, as `torch.optim.Adam` keeps them: then the op counts.
            Beside parameters on a GPU they may lie there, for CUDA graphs, or on the CPU; a
            `found_inf` on the GPU is then waited for.
        decay: Share of the old teacher that is kept, in [0, 1]; or one element, like `lr`.
        betas: Decay rates of the two moments, each in [0, 1).
        eps: Added to the denominator, at least 0.
        weight_decay: L2 penalty, at least 0.
        decoupled: False: Adam, the penalty joins the gradient. True: AdamW, the weights decay.
        grad_scale: One float element by which every gradient is divided (a `GradScaler`'s).
        found_inf: One float element; where it is not 0 nothing changes: neither parameters and
            moments, nor the teacher, nor the step counts.
        clip_factor: By which every gradient is multiplied (gradient clipping).
        ticket: One int32 zero on the GPU, for this call and later ones in the same order: counters
            that lie there are then counted up without a second launch. It is left at zero.

    Raises:
        TypeError: If a tensor is of another dtype, or has no memory (fake, meta, sparse).
        ValueError: If a number is outside its range, or lists, shapes, devices or memory
            formats do not match.

    Source:
        Kingma and Ba, Adam, ICLR 2015, algorithm 1; Loshchilov and Hutter, Decoupled weight
        decay regularization, ICLR 2019, algorithm 2.
    """
    is_compiling = torch.compiler.is_compiling()
    check = _check_numbers if is_compiling else _check_numbers_once
    lr, decay = as_number("lr", lr), as_number("decay", decay)
    check(_known(lr), _known(decay), betas[0], betas[1], eps, weight_decay)
    check_list("params", params)
    if not params and grads:
        raise ValueError(
            f"`grads` must hold as many tensors as `params` (0), but holds {len(grads)} instead."
        )
    if teacher is not None:
        check_list("teacher", teacher)
        if len(teacher) != len(params):
            raise ValueError(
                f"`teacher` must hold as many tensors as `params` ({len(params)}),"
                f" but holds {len(teacher)} instead."
            )
    if not isinstance(step, (list, tuple)) and not step >= 1:
        raise ValueError(f"`step` must be at least 1, but is {step} instead.")
    if is_compiling:
        steps = [torch.full((), float(step - 1)) for _ in params] if isinstance(step, int) else step
        factor = (
            clip_factor
            if isinstance(clip_factor, torch.Tensor)
            else torch.tensor(clip_factor, dtype=torch.float64)
        )
        torch.ops.smoothdistill.adam_ema_(
            params, grads, exp_avgs, exp_avg_sqs, teacher or [], steps,
            lr, betas[0], betas[1], eps, weight_decay, decoupled, decay,
            grad_scale, found_inf, factor,
        )  # fmt: skip
        return
    _run(
        params, grads, exp_avgs, exp_avg_sqs, teacher, step,
        lr, betas[0], betas[1], eps, weight_decay, decoupled, decay,
        grad_scale, found_inf, clip_factor, ticket,
    )  # fmt: skip
    # Of what is written, a graph may hold the weights. No graph holds moments, and bumping them
    # as well would cost as much as 5,000 elements of the step (2 us).
    if params:
        _increment_version([*params, *(teacher or ())])


def _known(number: float | Tensor) -> float:
    """What can be checked: one that lies on a GPU passes."""
    if type(number) is float or not isinstance(number, torch.Tensor):
        return number
    return 0.0


def _check_numbers(
    lr: float, decay: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> None:
    check_fraction("decay", decay)
    check_non_negative("lr", lr)
    check_non_negative("eps", eps)
    check_non_negative("weight_decay", weight_decay)
    for index, beta in enumerate((beta1, beta2)):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"`betas[{index}]` must be in [0, 1), but is {beta} instead.")


# The numbers of a training run are nearly always those of the last step.
_check_numbers_once = lru_cache(maxsize=64)(_check_numbers)


def _run(
    params: list[Tensor],
    grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    teacher: list[Tensor] | None,
    step: int | list[Tensor],
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    decay: float | Tensor,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
    clip_factor: Tensor | float,
    ticket: Tensor | None = None,
) -> None:
    teacher = teacher or None  # the registered op passes an empty list
    kernels = kernels_for(params[0], "adam_ema_") if params else None
    if kernels is not None:
        if found_inf is not None and _counts_elsewhere(step, found_inf):
            if found_inf.item() != 0.0:  # a sync: the counts on the CPU must know
                return
            found_inf = None
        of_cuda = (ticket,) if kernels is not cpu_module else ()
        kernels.adam_ema_(
            params, grads, exp_avgs, exp_avg_sqs, teacher, step,
            lr, beta1, beta2, eps, weight_decay, decoupled, decay,
            grad_scale, found_inf, clip_factor, *of_cuda,
        )  # fmt: skip
        return
    steps = [torch.full((), float(step - 1)) for _ in params] if isinstance(step, int) else step
    reference.adam_ema_(
        params, grads, exp_avgs, exp_avg_sqs, teacher, steps,
        lr=float(lr), decay=float(decay), betas=(beta1, beta2), eps=eps, weight_decay=weight_decay,
        decoupled=decoupled, grad_scale=grad_scale, found_inf=found_inf, clip_factor=clip_factor,
    )  # fmt: skip


def _counts_elsewhere(step: int | list[Tensor], found_inf: Tensor) -> bool:
    """Whether the step counts lie on the CPU, but the word on whether to skip on a GPU."""
    return found_inf.is_cuda and not isinstance(step, int) and not all(s.is_cuda for s in step)


register_op(
    "adam_ema_(Tensor(a!)[] params, Tensor?[] grads, Tensor(b!)[] exp_avgs,"
    " Tensor(c!)[] exp_avg_sqs, Tensor(d!)[] teacher, Tensor(e!)[] steps, float lr, float beta1,"
    " float beta2, float eps, float weight_decay, bool decoupled, float decay,"
    " Tensor? grad_scale, Tensor? found_inf, Tensor clip_factor) -> ()",
    _run,
    lambda *args: None,
)
