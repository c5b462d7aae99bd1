"""Vectors of 16 lanes for Numba: one lane is one window.

NOTE [Vectors across windows]
A feature kernel works on 16 windows at once: its loops run over time, and every operation is one on
16 lanes. Left to itself, LLVM turns such code into vectors only while a loop over the lanes is
neither so short that it is unrolled first nor so long that it leaves the registers; which of
them happens changes with its version. `Lanes` says it outright: a Numba type that is one
LLVM vector, which is split or widened to what the processor has.

All sums are sequential in time and each lane is alone: a window's numbers depend on nothing but
its samples, so batch and stream give the same bits, and a NaN stays in its window.

The functions below are ordinary Python functions on NumPy arrays of 16, which is what runs when
compilation is off (`NUMBA_DISABLE_JIT=1`); in compiled code they become single instructions
(`lane_code.py`).
Indices are checked under `NUMBA_BOUNDSCHECK=1`.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

__all__ = [
    "LANES",
    "Lanes",
    "absolute",
    "binary_exponent",
    "broadcast",
    "floor",
    "fma",
    "is_nan",
    "load",
    "maximum",
    "minimum",
    "power_of_two",
    "select",
    "significand",
    "splat",
    "square_root",
    "store",
    "store_first",
    "transpose_into",
    "widen",
]

LANES = 16
"""Windows in a vector."""


class Lanes(types.Type):
    """Numba's type of a vector of `LANES` numbers, or of `LANES` truth values."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


def load(array: np.ndarray, index: int) -> Any:
    """16 neighbouring values of a one-dimensional contiguous array."""
    _check(array, index, LANES)
    return array[index : index + LANES].copy()


def broadcast(array: np.ndarray, index: int) -> Any:
    """One value of a one-dimensional contiguous array in all lanes."""
    _check(array, index, 1)
    return np.full(LANES, array[index])


def store(array: np.ndarray, index: int, vector: Any) -> None:
    """Write 16 neighbouring values, rounded to the array's dtype."""
    _check(array, index, LANES)
    array[index : index + LANES] = vector


def store_first(array: np.ndarray, index: int, vector: Any, count: int) -> None:
    """Write the first `count` lanes, rounded to the array's dtype."""
    _check(array, index, count)
    array[index : index + count] = vector[:count]


def splat(value: Any) -> Any:
    """One value in all lanes, of its own type."""
    return np.full(LANES, value)


def widen(vector: Any) -> Any:
    """The same values in float64."""
    return vector.astype(np.float64)


def fma(factor: Any, other: Any, summand: Any) -> Any:
    """`factor * other + summand`, rounded once in compiled code and twice in plain Python."""
    return factor * other + summand


def minimum(first: Any, second: Any) -> Any:
    """Lesser of each pair; with a NaN in it, the second."""
    return np.where(first < second, first, second)


def maximum(first: Any, second: Any) -> Any:
    """Greater of each pair; with a NaN in it, the second."""
    return np.where(first > second, first, second)


def select(mask: Any, chosen: Any, other: Any) -> Any:
    """`chosen` in the lanes where the mask holds, `other` elsewhere."""
    return np.where(mask, chosen, other)


def is_nan(vector: Any) -> Any:
    """Mask of the lanes that are NaN."""
    return vector != vector


def absolute(vector: Any) -> Any:
    """Absolute values."""
    return np.abs(vector)


def floor(vector: Any) -> Any:
    """Greatest whole numbers that are not above."""
    return np.floor(vector)


def square_root(vector: Any) -> Any:
    """Square roots; NaN below 0."""
    return np.sqrt(vector)


def binary_exponent(vector: Any) -> Any:
    """The e of `m * 2**e` with m in [1, 2), as a float; for positive normal numbers only."""
    return (np.frexp(vector)[1] - 1).astype(vector.dtype)


def significand(vector: Any) -> Any:
    """The m of `m * 2**e` with m in [1, 2); for positive normal numbers only."""
    return np.frexp(vector)[0] * vector.dtype.type(2)


def power_of_two(vector: Any) -> Any:
    """2 to the power of whole numbers, as long as that is a normal number."""
    return np.ldexp(vector.dtype.type(1), vector.astype(np.int32))


def transpose_into(
    source: np.ndarray, places: np.ndarray, row: int, tile: np.ndarray, targets: np.ndarray
) -> None:
    """Transpose a square: `tile[targets[row + i] + lane] = source[places[lane] + row + i]`."""
    square = np.stack([load(source, place + row) for place in places[:LANES]])
    for i in range(LANES):
        store(tile, targets[row + i], square[:, i])


def _check(array: np.ndarray, index: int, count: int) -> None:
    if not 0 <= index <= array.size - count:
        raise IndexError("index is out of bounds")
