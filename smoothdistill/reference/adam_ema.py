"""Adam or AdamW followed by an EMA in plain PyTorch: the oracle and fallback of `adam_ema_`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothdistill.reference.ema_update import ema_update_

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["adam_ema_"]


def adam_ema_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    teacher: Sequence[Tensor] | None,
    steps: Sequence[Tensor],
    *,
    lr: float,
    decay: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
    clip_factor: Tensor | float,
) -> None:
    """One Adam (or AdamW) update of every tensor, then the EMA of the new weights.

    With gradient ``g = grad * clip_factor / grad_scale`` (and ``g += weight_decay * param``
    for Adam, ``param *= 1 - lr * weight_decay`` for AdamW)::

        exp_avg    <- beta1 * exp_avg    + (1 - beta1) * g
        exp_avg_sq <- beta2 * exp_avg_sq + (1 - beta2) * g ** 2
        param      <- param - lr / (1 - beta1 ** step)
                      * exp_avg / (sqrt(exp_avg_sq) / sqrt(1 - beta2 ** step) + eps)
        teacher    <- decay * teacher + (1 - decay) * param

    bfloat16 and float16 parameters are stepped in the precision of their moments and rounded once.
    A tensor whose gradient is None only takes part in the last line. Where `found_inf` is
    not zero nothing changes at all, the step counts included.

    Source:
        Kingma and Ba, Adam, ICLR 2015, algorithm 1; Loshchilov and Hutter, Decoupled weight
        decay regularization, ICLR 2019, algorithm 2.
    """
    if found_inf is not None and bool(found_inf != 0):
        return
    beta1, beta2 = betas
    with torch.no_grad():
        for param, grad, exp_avg, exp_avg_sq, step in zip(
            params, grads, exp_avgs, exp_avg_sqs, steps, strict=True
        ):
            if grad is None:
                continue
            step += 1
            count = float(step)
            weight = param if param.dtype is exp_avg.dtype else param.to(exp_avg.dtype)
            gradient = grad.to(exp_avg.dtype) * clip_factor
            if grad_scale is not None:
                gradient = gradient / grad_scale
            if decoupled:
                weight.mul_(1.0 - lr * weight_decay)
            else:
                gradient = gradient + weight_decay * weight
            exp_avg.lerp_(gradient, 1.0 - beta1)
            exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
            denominator = (exp_avg_sq.sqrt() / (1.0 - beta2**count) ** 0.5).add_(eps)
            weight.addcdiv_(exp_avg, denominator, value=-lr / (1.0 - beta1**count))
            if weight is not param:
                param.copy_(weight)
        if teacher is not None:
            ema_update_(teacher, params, decay=decay)
