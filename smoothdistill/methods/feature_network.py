"""Networks whose heads share features, which some methods look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FeatureNetwork", "feature_network"]


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network in two steps: signals to features, features to the logits of every task."""

    num_features: int

    def features(self, signals: Tensor) -> Tensor:
        """Features [batch, num_features], which all heads read, of [batch, channels, time]."""
        ...

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """Logits [batch, classes] of every task, of features [batch, num_features]."""
        ...


def feature_network(network: nn.Module, method: str) -> FeatureNetwork:
    """The network as one in two steps.

    Raises:
        TypeError: If it has no such steps.
    """
    if not isinstance(network, FeatureNetwork):
        raise TypeError(
            f"`model` must have `features`, `classify` and `num_features` for the method {method}, "
            f"but is a {type(network).__name__} instead."
        )
    return network
