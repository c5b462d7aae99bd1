"""SWA: multitask training, of which the plain average of the last stretch's weights is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from smoothdistill.methods.multitask import Multitask
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.optim import EMATeacher

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["SWA", "SWAOptions", "average_from"]


class SWAOptions(LossOptions):
    """Options of `SWA`."""

    start: float = Field(default=0.75, ge=0.0, lt=1.0)
    """Share of the epochs after which averaging begins, in [0, 1)."""


@register_method
class SWA(Multitask):
    """`Multitask`, and what is used is the average of the weights at the ends of late epochs.

    Up to `start` the average is the student itself, and is not chosen; from then on each end of an
    epoch counts as much as any other. Short trainings have few such ends: with 5 epochs and the
    default `start` it is the mean of two. The learning rate stays as it is, and the statistics of
    batch norms are averaged like the weights (`buffers`), not measured anew as in the paper.

    Source:
        Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI
        2018.
    """

    name: ClassVar[str] = "swa"
    Options: ClassVar[type[LossOptions]] = SWAOptions
    options: SWAOptions
    selectable: ClassVar[tuple[Literal["student", "teacher"], ...]] = ("teacher",)

    def first_teacher_epoch(self, num_epochs: int) -> int:
        """The first whose end is averaged."""
        return int(self.options.start * num_epochs)

    def build_teacher(
        self,
        model: nn.Module,
        *,
        num_epochs: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> EMATeacher:
        """A copy that follows the student up to `start`, and then averages."""
        for name, value in (("num_epochs", num_epochs), ("steps_per_epoch", steps_per_epoch)):
            if value is None:
                raise ValueError(f"`{name}` must be given for the method swa, but is None instead.")
        assert num_epochs is not None
        assert steps_per_epoch is not None
        first = self.first_teacher_epoch(num_epochs) * steps_per_epoch
        return EMATeacher(
            model,
            schedule=average_from(first, steps_per_epoch),
            buffers=self.options.buffers,
        )


def average_from(first: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Decays that make an average the plain mean of the weights at the ends of epochs.

    Args:
        first: Updates during which the average is a copy.
        steps_per_epoch: Updates of an epoch.

    Returns:
        The decay of the next update, by the number of updates made.
    """

    def decay(num_updates: int) -> float:
        if num_updates < first:
            return 0.0
        num_ends, place = divmod(num_updates - first + 1, steps_per_epoch)
        if num_ends == 0:
            return 0.0  # before the first end there is nothing to average
        return 1.0 if place else (num_ends - 1) / num_ends

    return decay
