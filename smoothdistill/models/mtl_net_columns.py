"""The forward pass of `MTLNet` over a batch in columns: no autograd, nothing allocated twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook

from smoothdistill.ops._backend import cpu_kernels, cpu_module
from smoothdistill.ops.columns import from_columns_, to_columns_

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from smoothdistill.models.mtl_net import MTLNet
    from smoothdistill.ops.columns import BatchInColumns
    from smoothdistill.ops.linear import LinearProducts

__all__ = [
    "MTLNetColumns",
    "can_run_in_columns",
    "is_hooked",
    "label_of",
    "layers_of",
    "linear_of",
    "logits_in_columns",
]

_TRUNK = ("conv1", "conv2", "linear1", "linear2")
_NUM_CONVOLUTIONS = 2
_PLAIN_CONVOLUTION = ((1,), (0,), (1,), 1)  # stride, padding, dilation, groups


class MTLNetColumns:
    """The activations of one batch of an `MTLNet`, [blocks, features, columns] each.

    Args:
        model: Gives the sizes; its weights are read anew in every pass.
        batch: Number of windows, at least 1.
        layout: How the batch lies.
        keeps_choice: Whether the passes keep what the gradient of the convolutions needs.
    """

    def __init__(
        self, model: MTLNet, batch: int, layout: BatchInColumns, *, keeps_choice: bool
    ) -> None:
        blocks, columns = layout
        filters1, filters2 = model.conv1.out_channels, model.conv2.out_channels
        kernel1, kernel2 = model.conv1.kernel_size[0], model.conv2.kernel_size[0]
        time1 = (model.window_samples - kernel1 + 1) // 2
        time2 = (time1 - kernel2 + 1) // 2
        self.batch, self.layout = batch, layout
        self.signals = torch.empty(blocks, model.conv1.in_channels, model.window_samples, columns)
        self.conv1 = torch.empty(blocks, filters1, time1, columns)
        self.conv2 = torch.empty(blocks, filters2, time2, columns)
        self.flat = self.conv2.flatten(1, 2)
        self.linear1 = torch.empty(blocks, model.linear1.out_features, columns)
        self.linear2 = torch.empty(blocks, model.linear2.out_features, columns)
        sizes = [linear_of(head).out_features for head in model.heads]
        self.heads = [torch.empty(blocks, size, columns) for size in sizes]
        self.logits = [torch.empty(batch, size) for size in sizes]
        self.choice1 = torch.empty_like(self.conv1, dtype=torch.uint8) if keeps_choice else None
        self.choice2 = torch.empty_like(self.conv2, dtype=torch.uint8) if keeps_choice else None

    def load(self, model: MTLNet, signals: Tensor) -> None:
        """Take in signals [batch, channels, time], the published reshape applied."""
        to_columns_(model.rows(signals).contiguous(), self.signals)

    @torch.no_grad()  # PyTorch's products write into given memory, which autograd refuses
    def forward(
        self,
        model: MTLNet,
        products: LinearProducts,
        signals: Tensor | None = None,
        *,
        note: Callable[[str], None] = lambda part: None,
    ) -> list[Tensor]:
        """Logits [batch, classes] of every task, in memory that the next pass overwrites.

        Args:
            model: Whose weights are used.
            products: Who multiplies the matrices of the linear layers.
            signals: What another object has loaded, in columns; by default what this one has.
            note: Told of the end of each layer.
        """
        for name, x, y, choice in (
            ("conv1", self.signals if signals is None else signals, self.conv1, self.choice1),
            ("conv2", self.conv1, self.conv2, self.choice2),
        ):
            layer = getattr(model, name)
            products.conv_pool(x, layer.weight, layer.bias, y, choice)
            note(f"student forward, {label_of(name)}")
        for name, x, y in (
            ("linear1", self.flat, self.linear1),
            ("linear2", self.linear1, self.linear2),
        ):
            layer = getattr(model, name)
            products.forward(x, layer.weight, layer.bias, True, y)
            note(f"student forward, {label_of(name)}")
        for head, columns, logits in zip(model.heads, self.heads, self.logits, strict=True):
            layer = linear_of(head)
            products.forward(self.linear2, layer.weight, layer.bias, False, columns)
            from_columns_(columns, logits)
        note("student forward, heads")
        return self.logits


def label_of(name: str) -> str:
    """Name of a layer for readers: "conv 1" for "conv1"."""
    return f"{name[:-1]} {name[-1]}"


def layers_of(model: MTLNet) -> tuple[nn.Module, ...]:
    """Its layers in the order of the data, heads last."""
    modules = model._modules  # not through `__getattr__`, which takes longer than the check
    heads = modules["heads"]
    return (*(modules[name] for name in _TRUNK), *heads._modules.values())  # type: ignore[union-attr, arg-type]


def can_run_in_columns(model: MTLNet) -> bool:
    """Whether the kernels may stand in for the model's layers.

    They may where the weights are contiguous float32 on the CPU, nobody has hooked into a layer or
    put another kind in its place, and one row of the published layout is live.
    """
    if cpu_kernels() is None or model.num_live_rows != 1 or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    for number, layer in enumerate(layers_of(model)):
        if type(layer) is not (nn.Conv1d if number < _NUM_CONVOLUTIONS else nn.Linear):
            return False
        if is_hooked(layer):
            return False
        if isinstance(layer, nn.Conv1d) and (
            layer.stride, layer.padding, layer.dilation, layer.groups,
        ) != _PLAIN_CONVOLUTION:  # fmt: skip
            return False
        for tensor in (layer._parameters.get("weight"), layer._parameters.get("bias")):
            if (
                tensor is None
                or type(tensor) not in (nn.Parameter, torch.Tensor)  # others have their own rules
                or tensor.dtype is not torch.float32
                or not tensor.is_cpu
                or not tensor.is_contiguous()
            ):
                return False
    return True


def is_hooked(module: nn.Module) -> bool:
    """Whether something else is called with the module, which the kernels would not call."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def logits_in_columns(model: MTLNet, signals: Tensor) -> list[Tensor]:
    """Logits [batch, classes] of every task, in new memory; nothing is shared between calls."""
    assert cpu_module is not None
    layers = layers_of(model)
    weights = [layer._parameters["weight"] for layer in layers]
    biases = [layer._parameters["bias"] for layer in layers]
    trunk = len(_TRUNK)
    logits = [torch.empty(len(signals), len(bias)) for bias in biases[trunk:]]  # type: ignore[arg-type]
    cpu_module.conv_net_logits(
        model.rows(signals).contiguous(),
        weights[:_NUM_CONVOLUTIONS], biases[:_NUM_CONVOLUTIONS],
        weights[_NUM_CONVOLUTIONS:trunk], biases[_NUM_CONVOLUTIONS:trunk],
        weights[trunk:], biases[trunk:], logits,
    )  # fmt: skip
    return logits


def linear_of(module: nn.Module) -> nn.Linear:
    """A head, as the kind of layer that it is."""
    assert isinstance(module, nn.Linear)
    return module
