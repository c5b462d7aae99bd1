"""The products of a linear layer in plain PyTorch: the oracle of `ops.linear.LinearProducts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothdistill.reference.adam_ema import adam_ema_

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["linear", "linear_adam_ema_", "linear_backward_input", "linear_backward_weight"]


def linear(
    x: Float[Tensor, "blocks in columns"],
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, " out"],
    relu: bool,
) -> Float[Tensor, "blocks out columns"]:
    """``weight x + bias`` for every column of every block, after `relu` without what is negative.

    Args:
        x: Activations in columns (csrc/columns.h): a window's features run down a column.
        weight: As `nn.Linear` has it.
        bias: One number an output feature.
        relu: Whether ``max(., 0)`` follows; a NaN stays.

    Source:
        Definition.
    """
    y = weight @ x + bias[:, None]
    return y.relu() if relu else y


def linear_backward_input(
    dy: Float[Tensor, "blocks out columns"],
    weight: Float[Tensor, "out in"],
    gate: Float[Tensor, "blocks in columns"] | None,
    before: Float[Tensor, "blocks in columns"] | None,
) -> Float[Tensor, "blocks in columns"]:
    """``before + weight^T dy``, and 0 where the gate is not above 0.

    Args:
        dy: Gradient with respect to the outputs (those before the ReLU).
        weight: As `nn.Linear` has it.
        gate: What the layer below gave, after its ReLU; None: every gradient passes.
        before: What other layers have sent down; None: nothing.

    Source:
        Definition (chain rule).
    """
    dx = weight.t() @ dy
    if before is not None:
        dx = before + dx
    return dx if gate is None else torch.where(gate > 0, dx, 0.0)


def linear_backward_weight(
    dy: Float[Tensor, "blocks out columns"], x: Float[Tensor, "blocks in columns"]
) -> tuple[Float[Tensor, "out in"], Float[Tensor, " out"]]:
    """Gradients of weight and bias: ``dy x^T`` and the sum of dy, over all columns of all blocks.

    Args:
        dy: Gradient with respect to the outputs (those before the ReLU).
        x: What the layer was given.

    Source:
        Definition (chain rule).
    """
    return torch.einsum("boc,bic->oi", dy, x), dy.sum((0, 2))


def linear_adam_ema_(
    dy: Float[Tensor, "blocks out columns"],
    x: Float[Tensor, "blocks in columns"],
    weight: Float[Tensor, "out in"],
    exp_avg: Float[Tensor, "out in"],
    exp_avg_sq: Float[Tensor, "out in"],
    teacher: Float[Tensor, "out in"] | None,
    step: Tensor,
    *,
    lr: float,
    decay: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> Float[Tensor, " out"]:
    """`linear_backward_weight`, then `adam_ema_` of the weight with that gradient.

    Args:
        dy: As for `linear_backward_weight`.
        x: As for `linear_backward_weight`.
        weight: Updated in place, like its moments, its teacher and its step count.
        exp_avg: First moment.
        exp_avg_sq: Second moment.
        teacher: The EMA of the weight; None: Adam alone.
        step: One element: the updates made so far.
        lr: This and the other numbers as `adam_ema_` takes them.
        decay: Share of the old teacher that is kept.
        betas: Decay rates of the two moments.
        eps: Added to the denominator.
        weight_decay: L2 penalty.
        decoupled: False: Adam. True: AdamW.

    Returns:
        The gradient of the bias, which is not stepped here.

    Source:
        As `adam_ema_`.
    """
    dw, db = linear_backward_weight(dy, x)
    adam_ema_(
        [weight], [dw], [exp_avg], [exp_avg_sq], None if teacher is None else [teacher], [step],
        lr=lr, decay=decay, betas=betas, eps=eps, weight_decay=weight_decay, decoupled=decoupled,
        grad_scale=None, found_inf=None, clip_factor=1.0,
    )  # fmt: skip
    return db
