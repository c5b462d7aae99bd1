"""Born-again networks: a network begins anew, and learns from the one that it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from smoothdistill.methods.base import require_student
from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.optim import MultitaskKDLoss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder
    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["BornAgain", "BornAgainOptions"]


class BornAgainOptions(MultitaskOptions):
    """Options of `BornAgain`."""

    num_generations: int = Field(default=2, ge=2)
    """Generations, at least 2, which share the epochs; the last one has what is left over."""

    distill_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the divergence from the generation before, at least 0."""

    temperature: float = Field(default=1.0, gt=0.0)
    """Temperature of the divergence, above 0."""


class _Generations(nn.Module):
    """The network of this generation, and the one before, which does not learn any more."""

    def __init__(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> None:
        super().__init__()
        self._build, self._num_classes = build, dict(num_classes)
        self.network = build(num_classes)
        self.previous = build(num_classes).requires_grad_(False).eval()
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))
        self.number = 0  # the same, known without waiting for a device
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            _Generations._note_generation
        )

    def _note_generation(self, _: object) -> None:
        self.number = int(self.get_buffer("generation"))

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.network(signals)
        return logits

    def train(self, mode: bool = True) -> Self:
        """As of any module, but the one before only ever predicts."""
        super().train(mode)
        self.previous.eval()
        return self

    def begin_anew(self) -> None:
        """Hand the weights down, and draw new ones."""
        self.previous.load_state_dict(self.network.state_dict())
        self.network.load_state_dict(self._build(self._num_classes).state_dict())
        self.get_buffer("generation").add_(1)
        self.number += 1


@register_method
class BornAgain(Multitask):
    """Generations of a network, each from new weights, taught by the last state of the one before.

    The first generation is `Multitask`; in the others, with p = softmax(z / T)::

        loss = sum_t w_t * (CE_t + distill_weight * T ** 2 * KL(p'_t || p_t))

    The generations share the epochs, so that the training is as long as any other's; what is chosen
    in validation is of the last generation.

    Source:
        Furlanello et al., Born-again neural networks, ICML 2018, section 3.1.
    """

    name: ClassVar[str] = "born-again"
    changes_by_epoch: ClassVar[bool] = True
    Options: ClassVar[type[LossOptions]] = BornAgainOptions
    options: BornAgainOptions

    def __init__(self, tasks: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(tasks, options)
        self._taught = MultitaskKDLoss(
            task_weights=self.task_weights(),
            distill_weight=self.options.distill_weight,
            temperature=self.options.temperature,
            label_smoothing=self.options.label_smoothing,
        )

    def build_student(self, build: NetworkBuilder, num_classes: Mapping[str, int]) -> nn.Module:
        """The network of this generation and room for the one before."""
        return _Generations(build, num_classes)

    def network(self, student: nn.Module) -> nn.Module:
        """The network of this generation."""
        return require_student(self, student, _Generations).network

    def require_epochs(self, num_epochs: int) -> None:
        """At least one for each generation."""
        count = self.options.num_generations
        if num_epochs < count:
            raise ValueError(
                f"`train.epochs` must be at least {count} for the generations of the method "
                f"born-again, but is {num_epochs} instead."
            )

    def begin_epoch(self, student: nn.Module, epoch: int, num_epochs: int) -> bool:
        """Begin a generation where its share of the epochs begins."""
        student = require_student(self, student, _Generations)
        self.require_epochs(num_epochs)
        count = self.options.num_generations
        is_first = epoch > 0 and epoch % (num_epochs // count) == 0
        if not is_first or epoch // (num_epochs // count) >= count:
            return False
        student.begin_anew()
        return True

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> MultitaskKDOutput:
        """See the class."""
        del teacher
        student = require_student(self, student, _Generations)
        logits = self.in_order(student.network(signals))
        if student.number == 0:
            return self.loss(logits, None, targets)
        with torch.no_grad():
            taught = student.previous(signals)
        out: MultitaskKDOutput = self._taught(logits, taught, targets)
        return out
