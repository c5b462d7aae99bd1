"""SIMH: a head that mixes what a memory associates with what a linear layer says at once."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from smoothdistill.models.network import check_at_least

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["SIMHHead"]

Association = Literal["published", "associative"]

_BETA = 0.5  # times 1 / sqrt(features): low enough that patterns have a share at first


class SIMHHead(nn.Module):
    """Self-adaptive intuition-memory head: a memory branch, a linear branch, and their mixture.

    With normalized features n = LayerNorm(x)::

        memory:     y_h = W_o (W_v v + b_v) + b_o       v: what the memory associates with n
        intuition:  y_l = W_l x + b_l
        training:   softmax(a)_0 softmax(y_h) + softmax(a)_1 softmax(y_l)
        otherwise:  y_h

    As published the memory is a Hopfield layer over a sequence of one element, of which the
    association is that element: v = n, and the projections to queries and keys do nothing, so they
    are not here. "associative" is ours: learned patterns P follow n in the sequence, and v is
    looked up among M = [n; LayerNorm(P)], with up to `max_updates` steps of ::

        q <- softmax(beta q K^T) K,  K = W_k M;   v = softmax(beta q K^T) [n; P]

    from q = W_q n on, until q moves by no more than `tolerance`; beta is 1 / (2 sqrt(features)).
    Without n among them lookups begin near the mean of the patterns, whatever the window,
    and hardly learn; W_q and W_k begin as the identity for the same reason.

    Args:
        in_features: Width of the features, at least 1.
        num_classes: Number of classes, at least 1.
        association: "published" or "associative".
        num_patterns: Stored patterns of "associative", at least 1.
        max_updates: Most update steps of a lookup, at least 1.
        tolerance: Largest distance between two states that count as one, at least 0.
        is_compressed: Whether the head has the memory branch only, as `compress` leaves it.

    Shape:
        features [batch, in_features] -> logits [batch, classes]. In training their softmax is the
        mixture.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument breaks its rule.

    Source:
        SMLDist (arXiv 2107.07331), released code; the Hopfield lookup is that of Ramsauer et al.,
        Hopfield networks is all you need, ICLR 2021, equation 3. Mended: training gives logits
        whose softmax is the mixture, so that no loss takes a softmax of a softmax.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        association: Association = "published",
        *,
        num_patterns: int = 64,
        max_updates: int = 2,
        tolerance: float = 1e-2,
        is_compressed: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_features", in_features),
            ("num_classes", num_classes),
            ("num_patterns", num_patterns),
            ("max_updates", max_updates),
        ):
            check_at_least(name, value, 1)
        if association not in get_args(Association):
            names = ", ".join(f"'{name}'" for name in get_args(Association))
            raise ValueError(
                f"`association` must be one of {names}, but is {association!r} instead."
            )
        if not tolerance >= 0.0:
            raise ValueError(f"`tolerance` must be at least 0, but is {tolerance} instead.")
        self.association: Association = association
        self.max_updates, self.tolerance = max_updates, tolerance
        self.is_compressed = is_compressed
        self.norm = nn.LayerNorm(in_features)
        if association == "associative":
            self.patterns = nn.Parameter(torch.randn(num_patterns, in_features))
            self.query = nn.Linear(in_features, in_features)
            self.key = nn.Linear(in_features, in_features)
            for projection in (self.query, self.key):
                nn.init.eye_(projection.weight)
                nn.init.zeros_(projection.bias)
            if is_compressed:  # of the patterns they are the same for every window
                self.keys = nn.Parameter(torch.zeros(num_patterns, in_features))
            else:
                self.pattern_norm = nn.LayerNorm(in_features)
        if is_compressed:  # the two layers of the memory branch are one
            self.output = nn.Linear(in_features, num_classes)
        else:
            self.value = nn.Linear(in_features, in_features)
            self.output = nn.Linear(in_features, num_classes)
            self.intuition = nn.Linear(in_features, num_classes)
            self.mixture = nn.Parameter(torch.zeros(2))

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Logits: of the mixture in training, of the memory branch otherwise."""
        if self.is_compressed:
            remembered: Tensor = self.output(self._associate(features))
            return remembered
        remembered = self.memory_logits(features)
        if not self.training:
            return remembered
        branches = torch.stack([remembered, self.intuition(features)])
        log_shares = torch.log_softmax(self.mixture, dim=0)
        return torch.logsumexp(
            torch.log_softmax(branches, dim=-1) + log_shares[:, None, None], dim=0
        )

    def memory_logits(
        self, features: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the memory branch, in training, too."""
        associated = self._associate(features)
        logits: Tensor = self.output(associated if self.is_compressed else self.value(associated))
        return logits

    def compress(self) -> SIMHHead:
        """A head with the memory branch alone: keys as they are, its last two layers as one.

        It gives what this head gives in evaluation, but for rounding; this head is left as it was.
        """
        head = deepcopy(self)
        if self.is_compressed:
            return head
        with torch.no_grad():
            weight = self.output.weight.double()
            head.output.weight.copy_(weight @ self.value.weight.double())
            head.output.bias.copy_(weight @ self.value.bias.double() + self.output.bias)
            if self.association == "associative":
                head.keys = nn.Parameter(self._pattern_keys().clone())
                del head.pattern_norm
        del head.value, head.intuition, head.mixture
        head.is_compressed = True
        return head

    def _associate(self, features: Tensor) -> Tensor:
        state: Tensor = self.norm(features)
        if self.association == "published":
            return state
        own_key, keys = self.key(state), self._pattern_keys()
        query = self.query(state)
        for _ in range(self.max_updates):
            own_share, shares = self._shares(query, own_key, keys)
            moved = own_share * own_key + shares @ keys
            # Windows that have settled stay: a batch gives each window what it gives it alone.
            has_moved = (moved - query).norm(dim=1, keepdim=True) > self.tolerance
            query = torch.where(has_moved, moved, query)
        own_share, shares = self._shares(query, own_key, keys)
        associated: Tensor = own_share * state + shares @ self.patterns
        return associated

    @staticmethod
    def _shares(query: Tensor, own_key: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Shares [batch, 1] of the windows' own states and [batch, patterns] of the patterns."""
        own = (query * own_key).sum(dim=1, keepdim=True)
        scores = _BETA * keys.shape[1] ** -0.5 * torch.cat([own, query @ keys.T], dim=1)
        shares = torch.softmax(scores, dim=1)
        return shares[:, :1], shares[:, 1:]

    def _pattern_keys(self) -> Tensor:
        """Keys [patterns, features] of the stored patterns."""
        keys: Tensor = (
            self.keys if self.is_compressed else self.key(self.pattern_norm(self.patterns))
        )
        return keys
