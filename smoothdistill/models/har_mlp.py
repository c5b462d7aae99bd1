"""HAR-MLP: three linear layers over the whole window, the student of HMKD."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

from smoothdistill.models.network import Network, scaled_width
from smoothdistill.models.registry import register_model

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HARMLP"]

_UNITS = 500
_NUM_LAYERS = 3


@register_model("har-mlp")
class HARMLP(Network):
    """Flatten; three times linear 500, ReLU, dropout; a linear head per task.

    Args:
        num_classes: Number of classes per task, each at least 1, in the order of the heads.
        in_channels: Number of sensor channels, at least 1.
        window_samples: Window length, in samples, at least 1.
        width: Factor of the layers' width, above 0; they are multiples of 4.
        dropout: Share of the outputs of each layer that training leaves out, in [0, 1).

    Shape:
        signals [batch, channels, time] -> {task: logits [batch, classes]}. Stages: the three
        layers' outputs [batch, units] before dropout, at least 0, and the features.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument breaks its rule.

    Source:
        The student of HMKD (IEEE TNNLS 36(9):16589, 2025), a reconstruction; the layers are those
        of the MLP of Wang et al., Time series classification from scratch with deep neural
        networks, IJCNN 2017. Ours: one rate of dropout for all layers, 0.2.
    """

    def __init__(
        self,
        num_classes: Mapping[str, int],
        in_channels: int = 3,
        window_samples: int = 100,
        width: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(num_classes, in_channels, window_samples)
        if isinstance(dropout, bool) or not isinstance(dropout, int | float):
            raise TypeError(f"`dropout` must be a number, but is {type(dropout).__name__} instead.")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"`dropout` must be at least 0 and below 1, but is {dropout} instead.")
        self.dropout = dropout
        self.num_features = scaled_width(_UNITS, width, divisor=4)
        widths = [in_channels * window_samples, *([self.num_features] * _NUM_LAYERS)]
        self.layers = nn.ModuleList(nn.Linear(narrow, wide) for narrow, wide in pairwise(widths))
        self.heads = nn.ModuleList(
            nn.Linear(self.num_features, classes) for classes in num_classes.values()
        )

    def stages(self, signals: Tensor) -> list[Tensor]:
        """Outputs of the layers, and of the last of them after dropout."""
        outputs, values = [], signals.flatten(1)
        for layer in self.layers:
            outputs.append(functional.relu(layer(values)))
            values = functional.dropout(outputs[-1], self.dropout, self.training)
        return [*outputs, values]
