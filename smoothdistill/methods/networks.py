"""Where a method gets its networks from: those of the user's kind, and those of a teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NetworkBuilder"]


@dataclass(frozen=True)
class NetworkBuilder:
    """Makes networks with fresh weights from the number of classes of each task.

    Attributes:
        student: Makes one of the kind that the user trains; calling the builder does the same.
        teacher: Makes one of the kind that `[teacher]` of a configuration names; None without it.
    """

    student: Callable[[Mapping[str, int]], nn.Module]
    teacher: Callable[[Mapping[str, int]], nn.Module] | None = None

    def __call__(self, num_classes: Mapping[str, int]) -> nn.Module:
        """A network of the kind that the user trains."""
        return self.student(num_classes)

    def build_teacher(self, num_classes: Mapping[str, int]) -> nn.Module:
        """A network of the teacher's kind.

        Raises:
            ValueError: If no kind was named.
        """
        if self.teacher is None:
            raise ValueError(
                "`teacher.model` must be given for a method with a teacher of another kind, "
                "but is missing instead."
            )
        return self.teacher(num_classes)
