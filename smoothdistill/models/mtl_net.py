"""MTL-net: the two-convolution trunk of Smooth-Distill with one linear head per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from smoothdistill.models.mtl_net_columns import can_run_in_columns, logits_in_columns
from smoothdistill.models.mtl_net_gradient import can_join_graph, features_in_columns
from smoothdistill.models.network import Network
from smoothdistill.models.registry import register_model

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["MTLNet"]

Layout = Literal["axes", "published"]

_KERNEL_SAMPLES = 9
_NUM_FILTERS = 64
_NUM_FEATURES = 512
_FEWEST_WINDOWS = 8  # below, but for one alone, the kernels' 16 columns are mostly padding


@register_model("mtl-net")
class MTLNet(Network):
    """Shared convolutional trunk, one linear head per task: 1.8 M parameters at 3 x 100.

    Convolution 9 (32 filters), ReLU, max-pool 2; convolution 9 (64), ReLU, max-pool 2; flatten;
    linear 1024, ReLU; linear 512, ReLU; per task a linear layer to its classes. No normalisation,
    no dropout.

    Args:
        num_classes: Number of classes per task, each at least 1; its order is that of the heads.
            A task may have any name.
        in_channels: Number of sensor channels, at least 1.
        window_samples: Window length, in samples, at least 28 (one value is left of it after the
            second pool). The first linear layer grows with it: 1216 inputs at 100 samples.
        layout: "axes": the channels are the input channels of a one-dimensional convolution, so
            that every sample counts. "published": the function of the released code, defect
            included. It reshapes windows [time, channels] to rows [channels, time] without
            transposing them, and its pools step over rows as well as over time, so that of the
            three rows only the first reaches the heads: at 3 x 100, samples 0 to 33 with their
            axes interleaved. Only what is live is computed, with the same parameters. With other
            channel counts the same arithmetic leaves every fourth row (0, 4, 8, ...).

    Shape:
        signals [batch, channels, time] -> {task: logits [batch, classes]}

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument breaks its rule.

    Source:
        Smooth-Distill (arXiv 2507.00061), released code. "axes" is ours.
    """

    def __init__(
        self,
        num_classes: Mapping[str, int],
        in_channels: int = 3,
        window_samples: int = 100,
        layout: Layout = "axes",
    ) -> None:
        super().__init__(
            num_classes, in_channels, window_samples, shortest_window=_shortest_window()
        )
        if layout not in get_args(Layout):
            names = ", ".join(f"'{name}'" for name in get_args(Layout))
            raise ValueError(f"`layout` must be one of {names}, but is {layout!r} instead.")
        self.num_features = _NUM_FEATURES
        self.layout: Layout = layout
        # Two pools with a stride of 2 over rows keep ceil(ceil(rows / 2) / 2) of them.
        self.num_live_rows = -(-in_channels // 4) if layout == "published" else 1

        self.conv1 = nn.Conv1d(in_channels if layout == "axes" else 1, 32, _KERNEL_SAMPLES)
        self.conv2 = nn.Conv1d(32, _NUM_FILTERS, _KERNEL_SAMPLES)
        pooled = _pooled_samples(_pooled_samples(window_samples))
        self.linear1 = nn.Linear(_NUM_FILTERS * self.num_live_rows * pooled, 1024)
        self.linear2 = nn.Linear(1024, _NUM_FEATURES)
        # A list, not a dict of modules: a task may be called "where.it is", or "keys".
        self.heads = nn.ModuleList(
            nn.Linear(_NUM_FEATURES, classes) for classes in num_classes.values()
        )

    def stages(self, signals: Tensor) -> list[Tensor]:
        """Both pooled maps, and the outputs of both linear layers, all at least 0.

        Published layout: the maps are of the live rows, [batch, channels * live rows, time].
        """
        batch = signals.shape[0]
        rows = self.rows(signals)
        maps = []
        for convolution in (self.conv1, self.conv2):
            # Pool before ReLU: equal, bit for bit, to ReLU before pool, at half the ReLU's work.
            rows = functional.relu(functional.max_pool1d(convolution(rows), 2))
            channels = convolution.out_channels * self.num_live_rows
            maps.append(rows.reshape(batch, channels, rows.shape[-1]))
        if self.num_live_rows > 1:  # filters before rows, as a two-dimensional convolution has them
            rows = rows.reshape(batch, self.num_live_rows, *rows.shape[1:]).transpose(1, 2)
        hidden = functional.relu(self.linear1(rows.reshape(batch, self.linear1.in_features)))
        return [*maps, hidden, functional.relu(self.linear2(hidden))]

    def forward(
        self, signals: Float[Tensor, "batch channels time"]
    ) -> dict[str, Float[Tensor, "batch classes"]]:
        """Logits of every task. Raises as `features` does, and uses kernels where it does."""
        if (
            not torch.is_grad_enabled()
            and self._may_use_kernels(signals)
            and self.num_live_rows == 1
            and not torch.is_autocast_enabled("cpu")
        ):
            self.check_signals(signals)
            return dict(zip(self.tasks, logits_in_columns(self, signals), strict=True))
        return self.classify(self.features(signals))

    def features(
        self, signals: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "batch num_features"]:
        """What the heads read.

        Of float32 signals on a CPU fused kernels stand in for the layers, equal to them but for
        rounding, with a gradient for the weights; under autocast to bfloat16 too, where they have
        it. Where the signals want a gradient, or something traces, transforms or hooks into a
        layer, the layers are used.

        Raises:
            TypeError: If the signals are no floating-point tensor.
            ValueError: If they have not the model's channels and window length.
        """
        self.check_signals(signals)
        if (
            self._may_use_kernels(signals)
            and len(signals) >= _FEWEST_WINDOWS
            and can_join_graph(self, signals)
        ):
            return features_in_columns(self, signals)
        return self.stages(signals)[-1]

    def rows(
        self, signals: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "rows in_channels time"]:
        """What the first convolution reads: the signals, or their live rows as published."""
        if self.layout == "axes":
            return signals
        if self.num_live_rows == 1:  # the same, of the samples that reach it
            samples = -(-self.window_samples // self.in_channels)
            row = signals[:, :, :samples].transpose(1, 2).flatten(1)
            return row[:, None, : self.window_samples]
        interleaved = signals.transpose(1, 2).reshape(signals.shape)  # the published reshape
        return interleaved[:, ::4].reshape(-1, 1, self.window_samples)

    def _may_use_kernels(self, signals: Tensor) -> bool:
        """Whether the call is an ordinary one: nothing traces or transforms it."""
        return (
            not torch.compiler.is_compiling()  # first: the compiler stumbles over what follows
            and type(signals) in (torch.Tensor, nn.Parameter)
            and signals.dtype is torch.float32
            and signals.is_cpu
            and signals.ndim == 3
            and not signals.is_neg()
            and (len(signals) == 1 or len(signals) >= _FEWEST_WINDOWS)
            and type(self) is MTLNet
            and torch._C._get_tracing_state() is None
            and torch._C._functorch.maybe_current_level() is None
            and torch.autograd.forward_ad._current_level < 0
            and torch.utils._python_dispatch._get_current_dispatch_mode() is None
            and can_run_in_columns(self)
        )


def _pooled_samples(samples: int) -> int:
    return (samples - _KERNEL_SAMPLES + 1) // 2


def _shortest_window() -> int:
    """Shortest window that leaves one value after both convolutions and pools."""
    needed = 1
    for _ in range(2):
        needed = 2 * needed + _KERNEL_SAMPLES - 1
    return needed
