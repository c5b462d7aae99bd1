"""How long networks take for one window, by turns in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothdistill.benchmark.timing import Timing, time_in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

__all__ = ["NETWORKS", "network_latencies"]

NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "mtl-net": ("mtl-net", {}),
    "mtl-net, published layout": ("mtl-net", {"layout": "published"}),
    "har-mlp": ("har-mlp", {}),
    "resnet-lstman": ("resnet-lstman", {}),
    "resnet-lstman, width 0.5": ("resnet-lstman", {"width": 0.5}),
    "mobilenet-v3-1d, teacher": ("mobilenet-v3-1d", {"table": "teacher"}),
    "mobilenet-v3-1d, student": ("mobilenet-v3-1d", {"table": "student"}),
    "mobilenet-v3-1d, teacher, width 0.25": (
        "mobilenet-v3-1d", {"table": "teacher", "width": 0.25},
    ),
    "mobilenet-v3-1d, student, width 0.25": (
        "mobilenet-v3-1d", {"table": "student", "width": 0.25},
    ),
}  # fmt: skip
"""Models and options worth a row, by label."""


def network_latencies(
    networks: Mapping[str, nn.Module],
    in_channels: int,
    window_samples: int,
    *,
    num_rounds: int = 11,
) -> dict[str, Timing]:
    """Time the logits of one window on the CPU, without gradients; the networks are in evaluation.

    Args:
        networks: What to time, by label; all take the same windows.
        in_channels: Number of sensor channels, at least 1.
        window_samples: Window length, in samples, at least 1.
        num_rounds: Rounds, at least 1.
    """
    signals = torch.randn(1, in_channels, window_samples)
    return time_in_turns(
        {label: _call(network.eval(), signals) for label, network in networks.items()},
        num_rounds=num_rounds,
    )


def _call(network: nn.Module, signals: torch.Tensor) -> Callable[[], object]:
    @torch.no_grad()
    def call() -> object:
        return network(signals)

    return call
