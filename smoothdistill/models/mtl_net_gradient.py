"""The trunk of `MTLNet` as one operation of autograd, by the kernels of `mtl_net_columns`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from smoothdistill.models.mtl_net_columns import TRUNK, TrunkColumns, empty, weights_of
from smoothdistill.ops.columns import BatchInColumns, from_columns_, plan_columns, to_columns_
from smoothdistill.ops.linear import (
    NATIVE_BFLOAT16,
    PRODUCTS_VARIABLE,
    LinearProducts,
    bfloat16_products,
    make_products,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from smoothdistill.models.mtl_net import MTLNet

__all__ = ["can_join_graph", "features_in_columns"]


def features_in_columns(model: MTLNet, signals: Tensor) -> Tensor:
    """Features [batch, width] in new memory, float32, joined to the graph of the weights.

    Under autocast the products are of numbers rounded to bfloat16.
    """
    flat_weights = [tensor for pair in weights_of(model).values() for tensor in pair]
    features: Tensor = _Features.apply(model, signals, *flat_weights)  # type: ignore[no-untyped-call]
    return features


def can_join_graph(model: MTLNet, signals: Tensor) -> bool:
    """Whether `features_in_columns` has the gradients that are wanted, and is the faster way.

    It has none for the signals, and all of the weights or none. Somebody may want another library
    for the products, which the layers use, or another number format than the kernels have.
    """
    if os.environ.get(PRODUCTS_VARIABLE, "auto") not in ("", "auto", LinearProducts.name):
        return False
    if torch.is_autocast_enabled("cpu") and not _are_bfloat16_products_ours():
        return False
    if not torch.is_grad_enabled():
        return True
    wanted = {tensor.requires_grad for pair in weights_of(model).values() for tensor in pair}
    return not signals.requires_grad and len(wanted) == 1


def _are_bfloat16_products_ours() -> bool:
    return (
        torch.get_autocast_dtype("cpu") is torch.bfloat16
        and bfloat16_products()[0] == NATIVE_BFLOAT16
    )


class _Features(torch.autograd.Function):
    """The trunk as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, model: MTLNet, signals: Tensor, *flat_weights: Tensor) -> Tensor:
        weights = _by_layer(flat_weights)
        needs_gradient = any(ctx.needs_input_grad)
        layout = plan_columns(len(signals))
        trunk = TrunkColumns.make(model, layout, keeps_choice=needs_gradient)
        trunk.load(model, signals)
        is_autocast = torch.is_autocast_enabled("cpu")
        name = NATIVE_BFLOAT16 if is_autocast else LinearProducts.name
        trunk.forward(weights, make_products(name))
        if needs_gradient:
            ctx.model, ctx.products = model, name
            ctx.save_for_backward(signals, *trunk, *flat_weights)
        features = empty(len(signals), trunk.linear2.shape[1])
        from_columns_(trunk.linear2, features)
        return features

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        signals, *kept = ctx.saved_tensors
        number = len(TrunkColumns._fields)
        trunk, flat_weights = TrunkColumns(*kept[:number]), kept[number:]
        if torch.is_grad_enabled() or not torch._C._has_storage(gradient):
            return (None, None, *_gradients_by_layers(ctx.model, signals, flat_weights, gradient))
        weights = _by_layer(flat_weights)
        layout = BatchInColumns(trunk.linear2.shape[0], trunk.linear2.shape[2])
        d = TrunkColumns.make(ctx.model, layout, signals=trunk.signals)
        to_columns_(gradient.contiguous(), d.linear2)
        d.linear2.masked_fill_(~(trunk.linear2 > 0), 0.0)
        gradients = [torch.empty_like(weight) for weight in flat_weights]
        workspace = empty(trunk.num_workspace_floats(weights))
        into = _by_layer(gradients)
        products = make_products(ctx.products)
        trunk.backward(d, weights, products, workspace, into.__getitem__)
        return (None, None, *gradients)


def _gradients_by_layers(
    model: MTLNet, signals: Tensor, flat_weights: Sequence[Tensor], gradient: Tensor
) -> Sequence[Tensor]:
    """For who wants a derivative of the gradient, or many gradients at once."""
    is_differentiable = torch.is_grad_enabled()
    names = [f"model.{name}.{kind}" for name in TRUNK for kind in ("weight", "bias")]
    by_name = dict(zip(names, flat_weights, strict=True))
    with torch.enable_grad():
        features = torch.func.functional_call(_Layers(model), by_name, (signals,))
    return torch.autograd.grad(features, flat_weights, gradient, create_graph=is_differentiable)


class _Layers(nn.Module):
    """The trunk by its layers, whatever its weights."""

    def __init__(self, model: MTLNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, signals: Tensor) -> Tensor:
        return self.model.stages(signals)[-1]


def _by_layer(flat: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    return dict(zip(TRUNK, zip(flat[::2], flat[1::2], strict=True), strict=True))
