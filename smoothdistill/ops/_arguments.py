"""Checks of the numbers that ops take. Tensors are checked where their memory is read, in C++."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["as_number", "check_fraction", "check_list", "check_non_negative", "per_task"]


def check_fraction(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"`{name}` must be in [0, 1], but is {value} instead.")


def as_number(name: str, value: float | Tensor) -> float | Tensor:
    """A tensor on the CPU as a number; one on a GPU stays, so that nobody waits for it.

    Raises:
        ValueError: If the tensor holds more or less than one number, or a graph is compiled.
    """
    if type(value) is float or not isinstance(value, torch.Tensor):  # a quick look comes first
        return value
    if torch.compiler.is_compiling():
        raise ValueError(f"`{name}` must be a float in a compiled call, but is a tensor instead.")
    if value.numel() != 1:
        raise ValueError(f"`{name}` must hold one element, but holds {value.numel()} instead.")
    return value.item() if value.is_cpu else value


def check_list(name: str, tensors: object) -> None:
    """Raise TypeError unless `tensors` is a list or tuple; its items are checked later."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(
            f"`{name}` must be a list or tuple of tensors, but is {type(tensors).__name__} instead."
        )


def check_non_negative(name: str, value: float) -> None:
    """Raise ValueError unless `value` is finite and at least 0."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"`{name}` must be finite and at least 0, but is {value} instead.")


def per_task(name: str, value: float | Sequence[float], num_tasks: int) -> list[float]:
    """One number a task: a scalar stands for all tasks."""
    if isinstance(value, (int, float)):
        return [float(value)] * num_tasks
    if isinstance(value, (Mapping, str)) or not isinstance(value, Sequence):
        raise TypeError(
            f"`{name}` must be a number or a sequence of numbers, but is {type(value).__name__}"
            " instead."
        )
    values = [float(v) for v in value]
    if len(values) != num_tasks:
        raise ValueError(
            f"`{name}` must hold one number a task ({num_tasks}), but holds {len(values)} instead."
        )
    return values
