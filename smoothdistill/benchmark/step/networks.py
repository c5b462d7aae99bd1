"""MTL-net as plain modules of PyTorch: what the baselines train, in three forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.models import MTLNet

__all__ = ["LAYERS", "PlainNet", "conv2d_form", "pool_first_form", "relu_first_form"]

LAYERS = ("conv 1", "conv 2", "linear 1", "linear 2", "heads")
"""The layers whose times are told apart, in forward order; each with its pool and its ReLU."""

_KERNEL = 9


class PlainNet(nn.Module):
    """A trunk of four layers and one linear head for each task.

    Args:
        trunk: The layers of `LAYERS` but for the heads.
        model: What the weights are copied from.
        takes: Which input it wants: "signals" [batch, 3, time], "rows" [batch, 1, 3, time] as
            the released code reshapes them, or "live row" [batch, 1, time].
    """

    def __init__(self, trunk: list[nn.Module], model: MTLNet, takes: str) -> None:
        super().__init__()
        self.tasks = model.tasks
        self.takes = takes
        self.trunk = nn.ModuleList(trunk)
        self.heads = nn.ModuleList(
            nn.Linear(head.in_features, head.out_features)
            for head in model.heads
            if isinstance(head, nn.Linear)
        )
        with torch.no_grad():
            for target, source in zip(self.parameters(), model.parameters(), strict=True):
                target.copy_(source.reshape(target.shape))
        self.to(next(model.parameters()).device)

    def prepare(self, signals: Tensor) -> Tensor:
        """The input in the form that this one takes; done once, outside what is timed."""
        if self.takes == "signals":
            return signals
        rows = signals.transpose(1, 2).reshape(len(signals), 1, *signals.shape[1:])
        return rows if self.takes == "rows" else rows[:, :, 0].contiguous()

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Logits of every task."""
        hidden = rows
        for layer in self.trunk:
            hidden = layer(hidden)
        return {task: head(hidden) for task, head in zip(self.tasks, self.heads, strict=True)}


def conv2d_form(model: MTLNet) -> PlainNet:
    """The released network: two-dimensional, its pools stepping over rows as well as over time.

    It computes the rows that no output depends on, and pools after the ReLU.
    """
    trunk: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(1, 32, (1, _KERNEL)), nn.ReLU(), nn.MaxPool2d((1, 2), stride=2)),
        nn.Sequential(
            nn.Conv2d(32, 64, (1, _KERNEL)), nn.ReLU(), nn.MaxPool2d((1, 2), stride=2), nn.Flatten()
        ),
        *_dense(model),
    ]
    return PlainNet(trunk, model, takes="rows")


def relu_first_form(model: MTLNet) -> PlainNet:
    """One-dimensional, the ReLU before the pool."""
    return _conv1d_form(model, is_pool_first=False)


def pool_first_form(model: MTLNet) -> PlainNet:
    """One-dimensional, the pool before the ReLU: equal bit for bit, with half the work of it."""
    return _conv1d_form(model, is_pool_first=True)


def _conv1d_form(model: MTLNet, *, is_pool_first: bool) -> PlainNet:
    trunk: list[nn.Module] = []
    for conv in (model.conv1, model.conv2):
        after: list[nn.Module] = [nn.ReLU(), nn.MaxPool1d(2)]
        convolution = nn.Conv1d(conv.in_channels, conv.out_channels, _KERNEL)
        trunk.append(nn.Sequential(convolution, *(reversed(after) if is_pool_first else after)))
    trunk[1].append(nn.Flatten())  # type: ignore[operator]
    takes = "signals" if model.layout == "axes" else "live row"
    return PlainNet([*trunk, *_dense(model)], model, takes=takes)


def _dense(model: MTLNet) -> list[nn.Module]:
    return [
        nn.Sequential(nn.Linear(linear.in_features, linear.out_features), nn.ReLU())
        for linear in (model.linear1, model.linear2)
    ]
