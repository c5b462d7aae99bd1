"""What every network of ours shares: checked sizes, stages, and one head for each task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["Network", "check_at_least", "scaled_width"]


class Network(nn.Module, ABC):
    """Windows to the logits of every task, by way of stages.

    A subclass builds its layers, the `heads` last, and gives `stages`.

    Args:
        num_classes: Number of classes per task, each at least 1; its order is that of the heads.
            A task may have any name.
        in_channels: Number of sensor channels, at least 1.
        window_samples: Window length, in samples, at least `shortest_window`.
        shortest_window: Fewest samples that the layers can take.

    Attributes:
        tasks: Names of the tasks, in the order of the heads.
        num_features: Width of what the heads read.
        heads: One module per task, from features [batch, num_features] to logits [batch, classes].

    Shape:
        signals [batch, channels, time] -> {task: logits [batch, classes]}

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument breaks its rule.
    """

    num_features: int
    heads: nn.ModuleList

    def __init__(
        self,
        num_classes: Mapping[str, int],
        in_channels: int,
        window_samples: int,
        *,
        shortest_window: int = 1,
    ) -> None:
        super().__init__()
        _check_num_classes(num_classes)
        check_at_least("in_channels", in_channels, 1)
        check_at_least("window_samples", window_samples, shortest_window)
        self.tasks = tuple(num_classes)
        self.in_channels = in_channels
        self.window_samples = window_samples

    @abstractmethod
    def stages(self, signals: Tensor) -> list[Tensor]:
        """What the stages of the network give, from the first on.

        Args:
            signals: Windows [batch, channels, time] that `check_signals` lets pass.

        Returns:
            Maps [batch, channels, time] or vectors [batch, width]; the last are the features
            [batch, num_features], which all heads read.
        """

    def features(
        self, signals: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "batch num_features"]:
        """What the heads read.

        Raises:
            TypeError: If the signals are no floating-point tensor.
            ValueError: If they have not the model's channels and window length.
        """
        self.check_signals(signals)
        return self.stages(signals)[-1]

    def classify(
        self, features: Float[Tensor, "batch num_features"]
    ) -> dict[str, Float[Tensor, "batch classes"]]:
        """Logits of every task, from what `features` gives."""
        return {task: head(features) for task, head in zip(self.tasks, self.heads, strict=True)}

    def forward(
        self, signals: Float[Tensor, "batch channels time"]
    ) -> dict[str, Float[Tensor, "batch classes"]]:
        """Logits of every task. Raises as `features` does."""
        return self.classify(self.features(signals))

    def check_signals(self, signals: Tensor) -> None:
        """Raise as `features` does if the model cannot take the signals."""
        if not signals.is_floating_point():
            raise TypeError(
                f"`signals` must be a floating-point tensor, but is {signals.dtype} instead."
            )
        if signals.ndim != 3 or signals.shape[1:] != (self.in_channels, self.window_samples):
            raise ValueError(
                f"`signals` must have the shape [batch, {self.in_channels}, {self.window_samples}] "
                f"(channels, time), but has the shape {list(signals.shape)} instead."
            )


def scaled_width(channels: int, width: float, *, divisor: int = 8) -> int:
    """Channels of a layer of a network that is narrowed or widened.

    Args:
        channels: Of the layer at width 1.
        width: Factor, above 0.
        divisor: What the result is a multiple of; it is never below.

    Raises:
        TypeError: If `width` is no number.
        ValueError: If `width` is not above 0.
    """
    if isinstance(width, bool) or not isinstance(width, int | float):
        raise TypeError(f"`width` must be a number, but is {type(width).__name__} instead.")
    if not 0.0 < width < float("inf"):
        raise ValueError(f"`width` must be above 0 and finite, but is {width} instead.")
    return max(divisor, round(channels * width / divisor) * divisor)


def check_at_least(name: str, value: int, smallest: int) -> None:
    """Refuse what is no integer, or below the smallest that makes sense."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, but is {type(value).__name__} instead.")
    if value < smallest:
        raise ValueError(f"`{name}` must be at least {smallest}, but is {value} instead.")


def _check_num_classes(num_classes: Mapping[str, int]) -> None:
    if not isinstance(num_classes, Mapping):
        raise TypeError(
            "`num_classes` must be a mapping of task to number of classes, but is "
            f"{type(num_classes).__name__} instead."
        )
    if not num_classes:
        raise ValueError("`num_classes` must hold at least 1 task, but is empty instead.")
    for task, classes in num_classes.items():
        check_at_least(f"num_classes[{task!r}]", classes, 1)
