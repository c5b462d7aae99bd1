"""A batch in columns: how the kernels of whole layers keep activations.

They are [blocks, features, columns]: the features of a window run down a column, neighbouring
windows lie side by side, and a block has 1 or a multiple of 16 of them. See csrc/columns.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from smoothdistill.ops._backend import cpu_module

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BatchInColumns", "from_columns_", "plan_columns", "to_columns_"]

_GRANULE = 16
_MOST_COLUMNS = 64  # then the activations of a block of MTL-net stay in a core's L2 cache


class BatchInColumns(NamedTuple):
    """Number of blocks, and of columns of each; their product is at least the batch."""

    blocks: int
    columns: int


def plan_columns(batch: int) -> BatchInColumns:
    """As few blocks of at most 64 columns as hold the batch, and those no wider than needed.

    Args:
        batch: Number of windows, at least 1.
    """
    blocks = -(-batch // _MOST_COLUMNS)
    columns = -(-batch // blocks)
    return BatchInColumns(blocks, -(-columns // _GRANULE) * _GRANULE)


def to_columns_(rows: Tensor, columns: Tensor) -> None:
    """Copy rows [batch, ...] to columns [blocks, ..., columns], with zeros after the batch."""
    assert cpu_module is not None
    cpu_module.to_columns(rows, columns)


def from_columns_(columns: Tensor, rows: Tensor) -> None:
    """Copy columns [blocks, ..., columns] to rows [batch, ...]."""
    assert cpu_module is not None
    cpu_module.from_columns(columns, rows)
