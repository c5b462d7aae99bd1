"""`MTLNet` over a batch in columns: its passes by fused kernels, without autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from smoothdistill.models.hooks import any_global_hook, is_hooked
from smoothdistill.ops._backend import cpu_kernels, cpu_module
from smoothdistill.ops.columns import from_columns_, to_columns_

if TYPE_CHECKING:
    from smoothdistill.models.mtl_net import MTLNet
    from smoothdistill.ops.columns import BatchInColumns
    from smoothdistill.ops.linear import LinearProducts

__all__ = [
    "TRUNK",
    "MTLNetColumns",
    "TrunkColumns",
    "can_run_in_columns",
    "empty",
    "label_of",
    "layers_of",
    "linear_of",
    "logits_in_columns",
    "weights_of",
]

empty = partial(torch.empty, dtype=torch.float32, device="cpu")
"""Memory for the kernels, whatever the program's own defaults are."""

Weights = Mapping[str, tuple[Tensor, Tensor]]
"""Weight and bias of each layer of the trunk, by its name."""

TRUNK = ("conv1", "conv2", "linear1", "linear2")
"""Names of the layers before the heads, in the order of the data."""
_NUM_CONVOLUTIONS = 2
_PLAIN_CONVOLUTION = ((1,), (0,), (1,), 1)  # stride, padding, dilation, groups


class TrunkColumns(NamedTuple):
    """What the trunk of an `MTLNet` computes of one batch, or the gradients of it.

    Everything is [blocks, features, columns]. Where several rows of the published layout are live,
    each has blocks of its own in the maps.
    """

    signals: Tensor
    conv1: Tensor
    conv2: Tensor
    flat: Tensor
    linear1: Tensor
    linear2: Tensor
    choice1: Tensor | None
    choice2: Tensor | None

    @classmethod
    def make(
        cls,
        model: MTLNet,
        layout: BatchInColumns,
        *,
        signals: Tensor | None = None,
        keeps_choice: bool = False,
    ) -> TrunkColumns:
        """Memory for the activations of a model.

        Args:
            model: Gives the sizes.
            layout: How the batch lies.
            signals: Of another batch in columns, to be read again; by default there is new memory.
            keeps_choice: Whether the passes keep what the gradient of the convolutions needs.
        """
        blocks, columns = layout
        rows = model.num_live_rows
        filters1, filters2 = model.conv1.out_channels, model.conv2.out_channels
        time1 = (model.window_samples - model.conv1.kernel_size[0] + 1) // 2
        time2 = (time1 - model.conv2.kernel_size[0] + 1) // 2
        if signals is None:
            channels = model.conv1.in_channels
            signals = empty(rows * blocks, channels, model.window_samples, columns)
        conv1 = empty(rows * blocks, filters1, time1, columns)
        conv2 = empty(rows * blocks, filters2, time2, columns)
        flat = conv2.flatten(1, 2)
        if rows > 1:
            flat = empty(blocks, filters2 * rows * time2, columns)
        return cls(
            signals, conv1, conv2, flat,
            empty(blocks, model.linear1.out_features, columns),
            empty(blocks, model.linear2.out_features, columns),
            torch.empty_like(conv1, dtype=torch.uint8) if keeps_choice else None,
            torch.empty_like(conv2, dtype=torch.uint8) if keeps_choice else None,
        )  # fmt: skip

    def load(self, model: MTLNet, signals: Tensor) -> None:
        """Take in signals [batch, channels, time], the published reshape applied."""
        rows = model.rows(signals)
        rows = rows.reshape(len(signals), model.num_live_rows, *rows.shape[1:])
        for number, blocks in enumerate(self.signals.chunk(model.num_live_rows)):
            to_columns_(rows[:, number].contiguous(), blocks)

    def forward(
        self,
        weights: Weights,
        products: LinearProducts,
        note: Callable[[str], None] = lambda part: None,
    ) -> None:
        """Fill in what follows from the signals.

        Args:
            weights: Of the layers, see `weights_of`.
            products: Who multiplies the matrices of the linear layers.
            note: Told of the end of each layer.
        """
        for name, x, y, choice in (
            ("conv1", self.signals, self.conv1, self.choice1),
            ("conv2", self.conv1, self.conv2, self.choice2),
        ):
            products.conv_pool(x, *weights[name], y, choice)
            note(f"student forward, {label_of(name)}")
        if self._num_rows > 1:
            flat, maps = self._filters_before_rows()
            flat.copy_(maps)
        for name, x, y in (
            ("linear1", self.flat, self.linear1),
            ("linear2", self.linear1, self.linear2),
        ):
            products.forward(x, *weights[name], True, y)
            note(f"student forward, {label_of(name)}")

    def backward(
        self,
        gradients: TrunkColumns,
        weights: Weights,
        products: LinearProducts,
        workspace: Tensor,
        into: Callable[[str], tuple[Tensor, Tensor]],
        *,
        update: Callable[[str, Tensor, Tensor], bool] = lambda name, dy, x: False,
        note: Callable[[str], None] = lambda part: None,
    ) -> None:
        """The gradients of all weights.

        Args:
            gradients: Memory for those of the activations; its `linear2` is given, 0 where ours
                is not above 0.
            weights: Of the layers, as in `forward`.
            products: As in `forward`.
            workspace: Of `num_workspace_floats`.
            into: Of a layer's name, where the gradients of its weight and bias go.
            update: Told of a linear layer, the gradient of what it gives, and what it reads; True
                if it has used them, so that `into` is not asked.
            note: Told of the end of each layer.
        """
        d = gradients
        for name, dy, x, gate, dx in (
            ("linear2", d.linear2, self.linear1, self.linear1, d.linear1),
            ("linear1", d.linear1, self.flat, None, d.flat),
        ):
            products.backward_input(dy, weights[name][0], gate, False, dx)
            if update(name, dy, x):
                note(f"backward, {label_of(name)}, with its Adam and EMA")
            else:
                products.backward_weight(dy, x, *into(name))
                note(f"backward, {label_of(name)}")
        if self._num_rows > 1:
            flat, maps = d._filters_before_rows()
            maps.copy_(flat)
        assert cpu_module is not None
        for name, dy, choice, maps, dmaps in (
            ("conv2", d.conv2, self.choice2, self.conv1, d.conv1),
            ("conv1", d.conv1, self.choice1, self.signals, None),
        ):
            cpu_module.conv_pool_backward_columns(
                dy, choice, maps, weights[name][0], workspace, dmaps, *into(name)
            )
            note(f"backward, {label_of(name)}")

    def num_workspace_floats(self, weights: Weights) -> int:
        """How large a workspace `backward` needs."""
        assert cpu_module is not None
        sizes: list[int] = []
        for name, maps in (("conv1", self.signals), ("conv2", self.conv1)):
            blocks, channels, time, columns = maps.shape
            out, _, kernel = weights[name][0].shape
            sizes.append(
                cpu_module.conv_pool_workspace_floats(blocks, columns, channels, time, out, kernel)
            )
        return max(sizes)

    @property
    def _num_rows(self) -> int:
        return self.conv2.shape[0] // self.flat.shape[0]

    def _filters_before_rows(self) -> tuple[Tensor, Tensor]:
        """Views of `flat` and `conv2`, [blocks, filters, rows, time, columns] both."""
        rows, blocks = self._num_rows, self.flat.shape[0]
        _, filters, time, columns = self.conv2.shape
        maps = self.conv2.view(rows, blocks, filters, time, columns).permute(1, 2, 0, 3, 4)
        return self.flat.view(blocks, filters, rows, time, columns), maps


class MTLNetColumns:
    """The activations of one batch of an `MTLNet`, heads and all.

    Args:
        model: Gives the sizes; its weights are read anew in every pass.
        batch: Number of windows, at least 1.
        trunk: The activations of its trunk.
    """

    def __init__(self, model: MTLNet, batch: int, trunk: TrunkColumns) -> None:
        self.trunk = trunk
        blocks, _, columns = trunk.linear2.shape
        sizes = [linear_of(head).out_features for head in model.heads]
        self.heads = [empty(blocks, size, columns) for size in sizes]
        self.logits = [empty(batch, size) for size in sizes]

    @torch.no_grad()  # PyTorch's products write into given memory, which autograd refuses
    def forward(
        self,
        model: MTLNet,
        products: LinearProducts,
        *,
        note: Callable[[str], None] = lambda part: None,
    ) -> list[Tensor]:
        """Logits [batch, classes] of every task, in memory that the next pass overwrites.

        Args:
            model: Whose weights are used.
            products: Who multiplies the matrices of the linear layers.
            note: Told of the end of each layer.
        """
        self.trunk.forward(weights_of(model), products, note)
        for head, columns, logits in zip(model.heads, self.heads, self.logits, strict=True):
            layer = linear_of(head)
            products.forward(self.trunk.linear2, layer.weight, layer.bias, False, columns)
            from_columns_(columns, logits)
        note("student forward, heads")
        return self.logits


def weights_of(model: MTLNet) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of each layer of the trunk, by its name."""
    found = {}
    for name in TRUNK:
        layer = model._modules[name]._parameters  # type: ignore[union-attr]
        found[name] = layer["weight"], layer["bias"]
    return found  # type: ignore[return-value]


def label_of(name: str) -> str:
    """Name of a layer for readers: "conv 1" for "conv1"."""
    return f"{name[:-1]} {name[-1]}"


def layers_of(model: MTLNet) -> tuple[nn.Module, ...]:
    """Its layers in the order of the data, heads last."""
    modules = model._modules  # not through `__getattr__`, which takes longer than the check
    heads = modules["heads"]
    return (*(modules[name] for name in TRUNK), *heads._modules.values())  # type: ignore[union-attr, arg-type]


def can_run_in_columns(model: MTLNet) -> bool:
    """Whether the kernels may stand in for the model's layers.

    They may where the weights are contiguous float32 on the CPU, and nobody has hooked into a layer
    or put another kind in its place.
    """
    if cpu_kernels() is None or any_global_hook():
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


def logits_in_columns(model: MTLNet, signals: Tensor) -> list[Tensor]:
    """Logits [batch, classes] of every task, in new memory; nothing is shared between calls.

    For one live row.
    """
    assert cpu_module is not None
    layers = layers_of(model)
    weights = [layer._parameters["weight"] for layer in layers]
    biases = [layer._parameters["bias"] for layer in layers]
    trunk = len(TRUNK)
    logits = [empty(len(signals), len(bias)) for bias in biases[trunk:]]  # type: ignore[arg-type]
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
