"""What a network costs whoever runs it: parameters and multiply-adds."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NetworkCost", "network_cost"]


class NetworkCost(NamedTuple):
    """Size and work of a network."""

    num_parameters: int
    """Numbers that training moves."""
    num_macs: int
    """Multiply-adds of convolutions and matrix products for one window."""


def network_cost(model: nn.Module, in_channels: int, window_samples: int) -> NetworkCost:
    """Count parameters and multiply-adds; the model is left as it was.

    Args:
        model: Maps signals [batch, channels, time] to logits.
        in_channels: Number of sensor channels, at least 1.
        window_samples: Window length, in samples, at least 1.
    """
    from torch.utils.flop_counter import FlopCounterMode

    # Where nothing is computed every product is one call that is counted, those of LSTMs included.
    shapes = deepcopy(model).to("meta").eval()
    signals = torch.empty(1, in_channels, window_samples, device="meta")
    with FlopCounterMode(display=False) as counter:
        shapes(signals.to(next(shapes.parameters()).dtype))
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return NetworkCost(parameters, counter.get_total_flops() // 2)
