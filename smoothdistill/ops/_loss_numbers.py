"""The numbers of `multitask_kd_loss`: one of each kind for each task, some perhaps on a GPU."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.ops._arguments import as_number, check_non_negative, per_task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["known_numbers", "loss_numbers", "split_numbers"]


def known_numbers(num_tasks: int, given: tuple[Any, ...]) -> tuple[list[float], ...]:
    """`loss_numbers`, which are nearly always those of the last step."""
    try:
        return _remembered_numbers(num_tasks, *given)
    except TypeError:  # a list has no hash, a tensor changes; another kind has its own sentence
        return loss_numbers(num_tasks, *given)


def loss_numbers(
    num_tasks: int, task_weights: Any, distill_weight: Any, temperature: Any, label_smoothing: Any
) -> tuple[list[float], list[Any], list[Any], list[float]]:
    """One of each kind for each task, checked; what lies on a GPU stays a tensor."""
    if num_tasks == 0:
        raise ValueError("`student_logits` must hold at least 1 task, but holds 0 instead.")
    weights = per_task("task_weights", task_weights, num_tasks)
    lambdas = _with_tensors("distill_weight", distill_weight, num_tasks)
    temperatures = _with_tensors("temperature", temperature, num_tasks)
    smoothings = per_task("label_smoothing", label_smoothing, num_tasks)
    for task in range(num_tasks):
        check_non_negative("task_weights", weights[task])
        check_non_negative("distill_weight", _known(lambdas[task]))
        if not 0.0 < _known(temperatures[task]) < math.inf:
            raise ValueError(
                f"`temperature` must be finite and above 0, but is {temperatures[task]} instead."
            )
        if not 0.0 <= smoothings[task] <= 1.0:
            raise ValueError(
                f"`label_smoothing` must be in [0, 1], but is {smoothings[task]} instead."
            )
    return weights, lambdas, temperatures, smoothings


def _with_tensors(name: str, value: Any, num_tasks: int) -> list[Any]:
    """`per_task` of numbers, some of which may lie on a GPU."""
    if isinstance(value, torch.Tensor):
        value = [value] * num_tasks
    if not isinstance(value, list | tuple):
        return list(per_task(name, value, num_tasks))
    given = [as_number(name, one) for one in value]
    numbers = per_task(name, list(map(_known, given)), num_tasks)
    return [
        one if isinstance(one, torch.Tensor) else number
        for one, number in zip(given, numbers, strict=True)
    ]


def _known(number: Any) -> Any:
    """What can be checked: one that lies on a GPU passes."""
    return 1.0 if isinstance(number, torch.Tensor) else number


@lru_cache(maxsize=64)
def _remembered_numbers(num_tasks: int, *given: Any) -> tuple[list[float], ...]:
    for value in given:
        if isinstance(value, torch.Tensor) or (
            isinstance(value, tuple) and any(isinstance(one, torch.Tensor) for one in value)
        ):
            raise TypeError
    return loss_numbers(num_tasks, *given)


def split_numbers(numbers: list[Any]) -> tuple[list[float], list[Tensor | None] | None]:
    """Numbers, and where those lie that only the device knows; None where there are no such."""
    if not any(isinstance(one, torch.Tensor) for one in numbers):
        return numbers, None
    at = [one if isinstance(one, torch.Tensor) else None for one in numbers]
    return list(map(_known, numbers)), at
