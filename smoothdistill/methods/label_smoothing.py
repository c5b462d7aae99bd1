"""Label smoothing: multitask training towards targets that leave every class a little."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method

__all__ = ["LabelSmoothing", "LabelSmoothingOptions"]


class LabelSmoothingOptions(MultitaskOptions):
    """Options of `LabelSmoothing`."""

    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of each target that is spread over all classes, in [0, 1)."""


@register_method
class LabelSmoothing(Multitask):
    """`Multitask` with a tenth of each target spread over all classes.

    Source:
        Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016,
        section 7.
    """

    name: ClassVar[str] = "label-smoothing"
    Options: ClassVar[type[LossOptions]] = LabelSmoothingOptions
