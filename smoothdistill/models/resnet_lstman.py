"""ResNetLSTMaN: residual convolutions beside LSTMs with attention, the teacher of HMKD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from smoothdistill.models.channels_last import arrange, convolve, normalize, pad
from smoothdistill.models.network import Network, scaled_width
from smoothdistill.models.registry import register_model

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["ResNetLSTMaN"]

_KERNELS = (8, 5, 3)
_FILTERS = (128, 256, 256)
_UNITS = 128
_NUM_LSTMAN_LAYERS = 2


@register_model("resnet-lstman")
class ResNetLSTMaN(Network):
    """Three residual blocks beside two LSTM-attention layers, joined, and a linear head per task.

    Residual branch: blocks of three convolutions (8, 5, 3 samples; length kept), each with batch
    norm, ReLU after the first two and after the sum with the shortcut, which is a 1 x 1 convolution
    with batch norm, or batch norm alone where the widths agree; 128, 256, 256 filters; mean over
    time. LSTM branch: layers of 128 units, in each of which three LSTMs give the query, key and
    value of every window, their last outputs, and ::

        out = softmax(query key^T) value + ReLU(W flatten(input) + b)

    The first layer's LSTMs step over the channels, and read a channel's whole series at each step;
    the second's take a single step, over what the first gives, for which an LSTM needs neither its
    recurrent weights nor its forget gate.

    Args:
        num_classes: Number of classes per task, each at least 1, in the order of the heads.
        in_channels: Number of sensor channels, at least 1.
        window_samples: Window length, in samples, at least 1.
        width: Factor of all widths, above 0; they are multiples of 8. The work of the residual
            branch grows with its square.

    Shape:
        signals [batch, channels, time] -> {task: logits [batch, classes]}. Stages: three maps
        [batch, filters, time], two vectors [batch, units], the features [batch, filters + units].

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument breaks its rule.

    Source:
        The teacher of HMKD (IEEE TNNLS 36(9):16589, 2025). Reconstruction: the layers are those of
        networks that its first author released elsewhere. Ours: attention within each window (the
        outer product of query and key), the second layer's one step, and `width`.
    """

    def __init__(
        self,
        num_classes: Mapping[str, int],
        in_channels: int = 3,
        window_samples: int = 100,
        width: float = 1.0,
    ) -> None:
        super().__init__(num_classes, in_channels, window_samples)
        filters = [scaled_width(count, width) for count in _FILTERS]
        units = scaled_width(_UNITS, width)
        self.blocks = nn.ModuleList(
            _ResidualBlock(narrow, wide)
            for narrow, wide in zip([in_channels, *filters], filters, strict=False)
        )
        self.attentions = nn.ModuleList(
            _LSTMAttention(in_channels, window_samples, units)
            if number == 0
            else _LSTMAttention(1, units, units)
            for number in range(_NUM_LSTMAN_LAYERS)
        )
        self.num_features = filters[-1] + units
        self.heads = nn.ModuleList(
            nn.Linear(self.num_features, classes) for classes in num_classes.values()
        )

    def stages(self, signals: Tensor) -> list[Tensor]:
        """Maps of the residual blocks, vectors of the LSTM layers, and both ends side by side."""
        maps, vectors = [arrange(signals)], [signals]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        for layer in self.attentions:
            vectors.append(layer(vectors[-1] if vectors[-1].ndim == 3 else vectors[-1][:, None]))
        joined = torch.cat([maps[-1].mean(-1), vectors[-1]], dim=1)
        return [*maps[1:], *vectors[1:], joined]


class _ResidualBlock(nn.Module):
    """Three convolutions with batch norm, and the input by a shortcut."""

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__()
        widths = [in_channels, *([filters] * len(_KERNELS))]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(narrow, wide, kernel, bias=False)
            for narrow, wide, kernel in zip(widths, widths[1:], _KERNELS, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(filters) for _ in _KERNELS)
        self.widen: nn.Conv1d | None = None
        if in_channels != filters:
            self.widen = nn.Conv1d(in_channels, filters, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm1d(filters)

    def forward(
        self, signals: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "batch filters time"]:
        values = signals
        for number, kernel in enumerate(_KERNELS):
            if number:
                values = functional.relu(values)
            convolution, norm = self.convolutions[number], self.norms[number]
            assert isinstance(convolution, nn.Conv1d)
            assert isinstance(norm, nn.BatchNorm1d)
            # An even kernel has one sample more after than before.
            values = pad(values, (kernel - 1) // 2, kernel // 2)
            values = normalize(norm, convolve(convolution, values))
        shortcut = signals
        if self.widen is not None:
            shortcut = convolve(self.widen, signals)
        return functional.relu(values + normalize(self.shortcut_norm, shortcut))


class _LSTMAttention(nn.Module):
    """Query, key and value by three LSTMs; see `ResNetLSTMaN`."""

    def __init__(self, steps: int, width: int, units: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            _LastOutput(width, units) if steps > 1 else _OnlyStep(width, units) for _ in range(3)
        )
        self.direct = nn.Linear(steps * width, units)

    def forward(self, values: Float[Tensor, "batch steps width"]) -> Float[Tensor, "batch units"]:
        query, key, value = self.query(values), self.key(values), self.value(values)
        attention = torch.softmax(query[:, :, None] * key[:, None, :], dim=-1)
        looked_up = torch.bmm(attention, value[:, :, None])[:, :, 0]
        return looked_up + functional.relu(self.direct(values.flatten(1)))


class _LastOutput(nn.LSTM):
    """An LSTM of which the last output is all that is wanted."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__(width, units, batch_first=True)

    def forward(  # type: ignore[override]
        self, values: Float[Tensor, "batch steps width"]
    ) -> Float[Tensor, "batch units"]:
        outputs, _ = super().forward(values)
        return outputs[:, -1]


class _OnlyStep(nn.Linear):
    """The first step of an LSTM, from nothing: input, cell and output gate."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__(width, 3 * units)

    def forward(self, values: Float[Tensor, "batch 1 width"]) -> Float[Tensor, "batch units"]:
        let_in, new, let_out = super().forward(values[:, 0]).chunk(3, dim=1)
        return let_out.sigmoid() * torch.tanh(let_in.sigmoid() * new.tanh())
