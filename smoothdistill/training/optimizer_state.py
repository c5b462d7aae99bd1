"""The state of an optimizer as tensors by name, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.errors import CheckpointError
from smoothdistill.optim.adam_ema import moment_dtype
from smoothdistill.training.checkpoint import require_matching_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.optim import AdamEMA

__all__ = ["flat_optimizer_state", "nested_optimizer_state", "parts_of_state"]

_GROUP_NUMBERS = ("lr", "eps", "weight_decay")


def flat_optimizer_state(optimizer: AdamEMA) -> dict[str, Tensor]:
    """``{number}.{key}`` of each parameter that was stepped, and one row a group in ``groups``."""
    saved = optimizer.state_dict()
    tensors = {
        f"{number}.{key}": torch.as_tensor(value)
        for number, entries in saved["state"].items()
        for key, value in entries.items()
    }
    tensors["groups"] = torch.tensor(
        [
            [*(float(group[key]) for key in _GROUP_NUMBERS), *map(float, group["betas"])]
            for group in saved["param_groups"]
        ],
        dtype=torch.float64,
    )
    return tensors


def parts_of_state(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, dict[str, Tensor]], Tensor]:
    """The tensors of student, teacher and optimizer of a step's state, and its counters.

    Raises:
        CheckpointError: If a name belongs to none of them, or the counters are not four numbers.
    """
    parts: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if name in ("products", "counters"):
            continue
        if part not in parts:
            raise CheckpointError(
                "`state` must have names that begin with student, teacher, optimizer or "
                f"counters, but has {name!r} instead."
            )
        parts[part][rest] = tensor
    counters = tensors.get("counters")
    if counters is None or counters.shape != (4,) or counters.dtype != torch.int64:
        raise CheckpointError("`counters` must be 4 int64 numbers, but are not instead.")
    return parts, counters


def nested_optimizer_state(
    found: dict[str, Tensor], optimizer: AdamEMA, parameters: Sequence[Tensor]
) -> dict[str, Any]:
    """What the optimizer's own `load_state_dict` takes, checked tensor by tensor.

    Args:
        found: As `flat_optimizer_state` gave it.
        optimizer: Which shall take it; it is left as it is.
        parameters: The parameters, in the order of their numbers.

    Raises:
        CheckpointError: If a tensor is missing, too many, or of another shape or dtype.
    """
    current = optimizer.state_dict()
    found = dict(found)
    rows = found.pop("groups", torch.empty(0))
    if rows.shape != (len(current["param_groups"]), len(_GROUP_NUMBERS) + 2):
        raise CheckpointError(
            "`optimizer.groups` must have one row for each parameter group, "
            f"but is of shape {list(rows.shape)} instead."
        )
    expected = {}
    for number in {name.partition(".")[0] for name in found}:
        if not number.isdecimal() or int(number) >= len(parameters):
            raise CheckpointError(
                f"`optimizer` must have states of {len(parameters)} parameters, "
                f"but has one of number {number!r} instead."
            )
        parameter = parameters[int(number)]
        expected[f"{number}.step"] = torch.zeros(())
        for key in ("exp_avg", "exp_avg_sq"):
            expected[f"{number}.{key}"] = torch.empty_like(
                parameter, device="meta", dtype=moment_dtype(parameter)
            )
    require_matching_tensors(found, expected, what="optimizer")
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor.clone()
    for group, row in zip(current["param_groups"], rows.tolist(), strict=True):
        group.update(zip(_GROUP_NUMBERS, row, strict=False))
        group["betas"] = tuple(row[-2:])
    return {"state": state, "param_groups": current["param_groups"]}
