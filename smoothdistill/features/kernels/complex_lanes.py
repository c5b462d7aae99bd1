"""Complex vectors of 16 lanes for Numba: the numbers of a Fourier transform over 16 windows.

A complex vector lies in memory as 16 real parts and then 16 imaginary ones. In plain Python it is a
complex NumPy array of 16; `lanes.py` says what this is for.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, models, register_model, type_callable

from smoothdistill.features.kernels.lane_code import (
    address,
    broadcast_value,
    call_function,
    intp,
    vector_type,
)
from smoothdistill.features.kernels.lanes import LANES, Lanes, load, store

__all__ = [
    "ComplexLanes",
    "add_parts",
    "add_scaled",
    "conjugate",
    "emit_numbers",
    "emit_row",
    "emit_rows",
    "load_complex",
    "rotate",
    "square",
    "store_complex",
    "turn",
]


class ComplexLanes(types.Type):
    """Numba's type of a vector of `LANES` complex numbers."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"ComplexLanes({dtype})")


@register_model(ComplexLanes)
class _ComplexLanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes) -> None:
        parts = [vector_type(lanes.dtype)] * 2
        super().__init__(manager, lanes, ir.LiteralStructType(parts))


# --- The functions, as plain Python sees them ----------------------------------------------------


def load_complex(array: np.ndarray, index: int) -> Any:
    """16 real parts and, behind them, 16 imaginary ones."""
    return _join(load(array, index), load(array, index + LANES))


def store_complex(array: np.ndarray, index: int, vector: Any) -> None:
    """Write 16 real parts and, behind them, 16 imaginary ones."""
    store(array, index, vector.real)
    store(array, index + LANES, vector.imag)


def turn(vector: Any, table: np.ndarray, index: int) -> Any:
    """The product with c - is, where the table has c and s at the index."""
    cosine, sine = table[index], table[index + 1]
    return _join(
        vector.imag * sine + vector.real * cosine, -vector.real * sine + vector.imag * cosine
    )


def rotate(vector: Any) -> Any:
    """The product with -i."""
    return _join(vector.imag, -vector.real)


def conjugate(vector: Any) -> Any:
    """The conjugates."""
    return np.conj(vector)


def square(vector: Any) -> Any:
    """Squares of the absolute values."""
    return vector.real * vector.real + vector.imag * vector.imag


def add_scaled(summand: Any, vector: Any, factor: Any) -> Any:
    """`summand + vector * factor` for a real factor: a number, or 16."""
    return summand + vector * factor


def add_parts(summand: Any, vector: Any, table: np.ndarray, index: int) -> Any:
    """Add the parts, the real one times the table's number, the imaginary one times the next."""
    return _join(
        summand.real + vector.real * table[index], summand.imag + vector.imag * table[index + 1]
    )


def _join(real: Any, imaginary: Any) -> Any:
    joined = np.empty(LANES, np.result_type(real, np.complex64))
    joined.real, joined.imag = real, imaginary
    return joined


# --- The same in LLVM ----------------------------------------------------------------------------


def _parts(builder, vector):
    return builder.extract_value(vector, 0), builder.extract_value(vector, 1)


def _pair(builder, real, imaginary):
    nothing = ir.Constant(ir.LiteralStructType([real.type, imaginary.type]), ir.Undefined)
    return builder.insert_value(builder.insert_value(nothing, real, 0), imaginary, 1)


def _define(function, typer, kinds, emit) -> None:
    """Give a function its type and its code."""
    type_callable(function)(lambda _: typer)
    lower_builtin(function, *kinds)(emit)


def emit_row(context, builder, array_type, array, index):
    """Pointer to the vector at the index."""
    return address(context, builder, array_type, array, types.intp, index, intp(LANES))


def emit_rows(context, builder, array_type, array, index, index_type=types.intp):
    """Pointers to the vector at the index and to the next one."""
    place = address(context, builder, array_type, array, index_type, index, intp(2 * LANES))
    return place, builder.gep(place, [intp(1)])


def emit_numbers(context, builder, array_type, array, index, index_type=types.intp):
    """The numbers of a table at the index and after it, each in all lanes."""
    place = address(context, builder, array_type, array, index_type, index, intp(2))
    first = builder.bitcast(place, vector_type(array_type.dtype).element.as_pointer())
    pointers = first, builder.gep(first, [intp(1)])
    return [broadcast_value(builder, builder.load(pointer)) for pointer in pointers]


def _emit_load(context, builder, sig, args):
    array, index = sig.args
    rows = emit_rows(context, builder, array, args[0], args[1], index)
    alignment = array.dtype.bitwidth // 8
    return _pair(builder, *[builder.load(row, align=alignment) for row in rows])


def _emit_store(context, builder, sig, args):
    array, index, _ = sig.args
    rows = emit_rows(context, builder, array, args[0], args[1], index)
    for part, row in zip(_parts(builder, args[2]), rows, strict=True):
        builder.store(part, row, align=array.dtype.bitwidth // 8)
    return context.get_dummy_value()


def _emit_turn(context, builder, sig, args):
    vector, array, index = sig.args
    real, imaginary = _parts(builder, args[0])
    cosine, sine = emit_numbers(context, builder, array, args[1], args[2], index)
    return _pair(
        builder,
        call_function(
            builder, "llvm.fma", vector.dtype, [imaginary, sine, builder.fmul(real, cosine)]
        ),
        call_function(
            builder,
            "llvm.fma",
            vector.dtype,
            [builder.fneg(real), sine, builder.fmul(imaginary, cosine)],
        ),
    )


def _emit_add_scaled(context, builder, sig, args):
    summand, _, kind = sig.args
    factor = args[2]
    if not isinstance(kind, Lanes):
        factor = broadcast_value(builder, context.cast(builder, factor, kind, summand.dtype))
    parts = zip(_parts(builder, args[1]), _parts(builder, args[0]), strict=True)
    return _pair(
        builder,
        *[
            call_function(builder, "llvm.fma", summand.dtype, [part, factor, old])
            for part, old in parts
        ],
    )


def _emit_add_parts(context, builder, sig, args):
    summand, _, array, index = sig.args
    factors = emit_numbers(context, builder, array, args[2], args[3], index)
    parts = zip(_parts(builder, args[1]), factors, _parts(builder, args[0]), strict=True)
    return _pair(
        builder, *[call_function(builder, "llvm.fma", summand.dtype, part) for part in parts]
    )


def _emit_rotate(context, builder, sig, args):
    real, imaginary = _parts(builder, args[0])
    return _pair(builder, imaginary, builder.fneg(real))


def _emit_conjugate(context, builder, sig, args):
    real, imaginary = _parts(builder, args[0])
    return _pair(builder, real, builder.fneg(imaginary))


def _emit_square(context, builder, sig, args):
    real, imaginary = _parts(builder, args[0])
    return call_function(
        builder, "llvm.fma", sig.args[0].dtype, [real, real, builder.fmul(imaginary, imaginary)]
    )


def _emit_each(name):
    def emit(context, builder, sig, args):
        pairs = zip(*[_parts(builder, arg) for arg in args], strict=True)
        return _pair(builder, *[getattr(builder, name)(*pair) for pair in pairs])

    return emit


def _same(vector):
    return vector if isinstance(vector, ComplexLanes) else None


_define(
    load_complex,
    lambda array, index: ComplexLanes(array.dtype),
    (types.Array, types.Integer),
    _emit_load,
)
_define(
    store_complex,
    lambda array, index, vector: types.none,
    (types.Array, types.Integer, ComplexLanes),
    _emit_store,
)
_define(
    turn,
    lambda vector, table, index: vector,
    (ComplexLanes, types.Array, types.Integer),
    _emit_turn,
)
_define(
    add_parts,
    lambda summand, vector, table, index: summand,
    (ComplexLanes, ComplexLanes, types.Array, types.Integer),
    _emit_add_parts,
)
_define(rotate, _same, (ComplexLanes,), _emit_rotate)
_define(conjugate, _same, (ComplexLanes,), _emit_conjugate)
_define(square, lambda vector: Lanes(vector.dtype), (ComplexLanes,), _emit_square)
type_callable(add_scaled)(lambda _: lambda summand, vector, factor: summand)
for _kind in (Lanes, types.Number):
    lower_builtin(add_scaled, ComplexLanes, ComplexLanes, _kind)(_emit_add_scaled)


def _same_two(first, second):
    return first if isinstance(first, ComplexLanes) and first == second else None


for _function, _name in ((operator.add, "fadd"), (operator.sub, "fsub")):
    _define(_function, _same_two, (ComplexLanes, ComplexLanes), _emit_each(_name))
