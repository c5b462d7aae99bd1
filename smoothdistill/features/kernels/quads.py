"""Vectors of four float64 lanes for Numba: one lane is one channel at one instant.

NOTE [Vectors across channels]
A recursive filter waits for its own last output, so a loop over time cannot become vectors, and one
channel leaves a processor idle most of the time. The three axes of a sensor are alike and
independent: they are the lanes here, and the fourth is spare. `kernels/lanes.py` has the same idea
    for
windows, with 16 lanes of the signal's own type; here 16 would cost four times the work of three.

The functions below are ordinary Python functions on NumPy arrays of 4, which is what runs when
compilation is off (`NUMBA_DISABLE_JIT=1`). Compiled, they become single instructions, the same ones
wherever they stand: a stream gives the bits of a batch. Indices are checked under
`NUMBA_BOUNDSCHECK=1`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, attr-defined"
from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import lower_builtin, models, register_model, type_callable

__all__ = [
    "QUAD",
    "Quad",
    "any_nan",
    "fma",
    "load_first",
    "maximum",
    "minimum",
    "nan_to",
    "norms_of_three",
    "only_finite",
    "splat",
    "store_first",
]

QUAD = 4
"""Lanes of a vector."""


class Quad(types.Type):
    """Numba's type of a vector of four float64."""

    def __init__(self) -> None:
        super().__init__(name="Quad")


_QUAD = Quad()
_DOUBLES = ir.VectorType(ir.DoubleType(), QUAD)
_ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_BYTES = {types.float32: 4, types.float64: 8}


@register_model(Quad)
class _QuadModel(models.PrimitiveModel):
    def __init__(self, manager, quad) -> None:
        super().__init__(manager, quad, _DOUBLES)


# --- The functions, as plain Python sees them ----------------------------------------------------


def load_first(array: np.ndarray, index: int, count: int) -> Any:
    """`count` (1 to 4) neighbouring values of a one-dimensional array, and zeros behind them."""
    _check(array, index, count)
    quad = np.zeros(QUAD)
    quad[: int(count)] = array[int(index) : int(index + count)]
    return quad


def store_first(array: np.ndarray, index: int, quad: Any, count: int) -> None:
    """Write the first `count` (1 to 4) lanes, rounded to the array's dtype."""
    _check(array, index, count)
    array[int(index) : int(index + count)] = quad[: int(count)]


def splat(value: float) -> Any:
    """One value in all lanes."""
    return np.full(QUAD, value)


def fma(factor: Any, other: Any, summand: Any) -> Any:
    """`factor * other + summand`, rounded once where the processor can, otherwise twice."""
    return factor * other + summand


def minimum(first: Any, second: Any) -> Any:
    """Lesser of each pair; with a NaN in it, the second."""
    return np.where(first < second, first, second)


def maximum(first: Any, second: Any) -> Any:
    """Greater of each pair; with a NaN in it, the second."""
    return np.where(first > second, first, second)


def only_finite(quad: Any) -> Any:
    """NaN in place of infinities."""
    return np.where(np.abs(quad) < np.inf, quad, np.nan)


def any_nan(quad: Any) -> bool:
    """Whether a lane is NaN."""
    return bool(np.isnan(quad).any())


def nan_to(tested: Any, replacement: Any, other: Any) -> Any:
    """`replacement` in the lanes where `tested` is NaN, `other` elsewhere."""
    return np.where(np.isnan(tested), replacement, other)


def norms_of_three(first: Any, second: Any, third: Any) -> Any:
    """Euclidean lengths of the first three lanes of each vector, in lanes 0, 1 and 2."""
    squares = np.stack([first, second, third, third])[:, :3] ** 2
    return np.sqrt(squares[:, 0] + squares[:, 1] + squares[:, 2])


def _check(array: np.ndarray, index: int, count: int) -> None:
    if not 0 <= int(index) <= array.size - int(count):
        raise IndexError("index is out of bounds")


# --- The same in LLVM ----------------------------------------------------------------------------


def _address(context, builder, array_type, array, place, count):
    """Pointer to the values from `place` on, checked if asked for."""
    view = context.make_array(array_type)(context, builder, array)
    if config.BOUNDSCHECK:
        length = builder.extract_value(view.shape, 0)
        last = builder.sub(length, count)
        outside = builder.or_(
            builder.icmp_signed("<", place, ir.Constant(place.type, 0)),
            builder.icmp_signed(">", place, last),
        )
        with builder.if_then(outside, likely=False):
            context.call_conv.return_user_exc(builder, IndexError, ("index is out of bounds",))
    return builder.gep(view.data, [place])


def _by_count(builder, count, emit) -> None:
    """Run `emit(lanes)` for the number of lanes that `count` is.

    Three comparisons and a default: with a fourth, LLVM would make a jump table of them, whose
    indirect jump costs more in each round of a loop than all else that is done here.
    """
    done = builder.append_basic_block("done")
    for lanes in (3, 4, 2):
        matches = builder.icmp_signed("==", count, ir.Constant(count.type, lanes))
        with builder.if_then(matches, likely=lanes == 3):
            emit(lanes)
            builder.branch(done)
    emit(1)
    builder.branch(done)
    builder.position_at_end(done)


def _lane_mask(*lanes):
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))


def _shuffle(builder, first, second, *lanes):
    return builder.shuffle_vector(first, second, _lane_mask(*lanes))


def _vector_address(builder, pointer, element, lanes):
    return builder.bitcast(pointer, ir.VectorType(element, lanes).as_pointer())


def _call(builder, name, *arguments):
    kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * len(arguments))
    function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.v4f64")
    return builder.call(function, arguments)


def _broadcast(builder, value):
    undefined = ir.Constant(_DOUBLES, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, single, undefined, 0, 0, 0, 0)


@type_callable(load_first)
def _type_load_first(_):
    def typer(array, index, count):
        return _QUAD if isinstance(array, types.Array) else None

    return typer


@lower_builtin(load_first, types.Array, types.Integer, types.Integer)
def _lower_load_first(context, builder, sig, args):
    array_type, index_type, count_type = sig.args
    place = context.cast(builder, args[1], index_type, types.intp)
    count = context.cast(builder, args[2], count_type, types.intp)
    pointer = _address(context, builder, array_type, args[0], place, count)
    element = _ELEMENTS[array_type.dtype]
    result = cgutils.alloca_once(builder, _DOUBLES)

    def emit(lanes):
        address = _vector_address(builder, pointer, element, lanes)
        values = builder.load(address, align=_BYTES[array_type.dtype])
        zeros = ir.Constant(ir.VectorType(element, lanes), [0.0] * lanes)
        spread = _shuffle(builder, values, zeros, *range(lanes), *[lanes] * (QUAD - lanes))
        if array_type.dtype == types.float32:
            spread = builder.fpext(spread, _DOUBLES)
        builder.store(spread, result)

    _by_count(builder, count, emit)
    return builder.load(result)


@type_callable(store_first)
def _type_store_first(_):
    def typer(array, index, quad, count):
        return types.none if isinstance(quad, Quad) else None

    return typer


@lower_builtin(store_first, types.Array, types.Integer, Quad, types.Integer)
def _lower_store_first(context, builder, sig, args):
    array_type, index_type, _, count_type = sig.args
    place = context.cast(builder, args[1], index_type, types.intp)
    count = context.cast(builder, args[3], count_type, types.intp)
    pointer = _address(context, builder, array_type, args[0], place, count)
    element = _ELEMENTS[array_type.dtype]
    quad = args[2]
    if array_type.dtype == types.float32:
        quad = builder.fptrunc(quad, ir.VectorType(element, QUAD))

    def emit(lanes):
        values = _shuffle(builder, quad, quad, *range(lanes))
        address = _vector_address(builder, pointer, element, lanes)
        builder.store(values, address, align=_BYTES[array_type.dtype])

    _by_count(builder, count, emit)
    return context.get_dummy_value()


@type_callable(splat)
def _type_splat(_):
    return lambda value: _QUAD if value == types.float64 else None


@lower_builtin(splat, types.Float)
def _lower_splat(context, builder, sig, args):
    return _broadcast(builder, args[0])


@type_callable(any_nan)
def _type_any_nan(_):
    return lambda quad: types.boolean if isinstance(quad, Quad) else None


@lower_builtin(any_nan, Quad)
def _lower_any_nan(context, builder, sig, args):
    mask = builder.fcmp_unordered("uno", args[0], args[0])
    bits = builder.bitcast(mask, ir.IntType(QUAD))
    found = builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(QUAD), 0))
    bit = ir.IntType(1)
    expect = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(bit, [bit, bit]), "llvm.expect.i1"
    )
    return builder.call(expect, [found, ir.Constant(bit, 0)])


def _define_function(function, arity, emit) -> None:
    """Give a function of `arity` vectors its type and its code."""

    def type_of(*quads):
        return _QUAD if all(isinstance(quad, Quad) for quad in quads) else None

    @type_callable(function)
    def _type(_):  # Numba wants the parameters spelled out
        if arity == 1:
            return lambda first: type_of(first)
        if arity == 2:
            return lambda first, second: type_of(first, second)
        return lambda first, second, third: type_of(first, second, third)

    lower_builtin(function, *[Quad] * arity)(lambda _, builder, __, args: emit(builder, *args))


def _emit_only_finite(builder, quad):
    is_finite = builder.fcmp_ordered("<", _call(builder, "llvm.fabs", quad), _all_lanes(np.inf))
    return builder.select(is_finite, quad, _all_lanes(np.nan))


def _all_lanes(value):
    return ir.Constant(_DOUBLES, [value] * QUAD)


def _emit_norms(builder, *quads):
    first, second, third = (builder.fmul(quad, quad) for quad in quads)
    # Transposed three by three: lane i of `x` is the first square of vector i.
    low = _shuffle(builder, first, second, 0, 4, 2, 6)
    high = _shuffle(builder, first, second, 1, 5, 3, 7)
    x = _shuffle(builder, low, third, 0, 1, 4, 4)
    y = _shuffle(builder, high, third, 0, 1, 5, 5)
    z = _shuffle(builder, low, third, 2, 3, 6, 6)
    return _call(builder, "llvm.sqrt", builder.fadd(builder.fadd(x, y), z))


_define_function(fma, 3, lambda builder, *quads: _call(builder, "llvm.fmuladd", *quads))
_define_function(
    minimum, 2, lambda builder, *quads: builder.select(builder.fcmp_ordered("<", *quads), *quads)
)
_define_function(
    maximum, 2, lambda builder, *quads: builder.select(builder.fcmp_ordered(">", *quads), *quads)
)
_define_function(only_finite, 1, _emit_only_finite)
_define_function(
    nan_to,
    3,
    lambda builder, tested, replacement, other: builder.select(
        builder.fcmp_unordered("uno", tested, tested), replacement, other
    ),
)
_define_function(norms_of_three, 3, _emit_norms)


def _define_operator(function, emit) -> None:
    def typer(first, second):
        return _QUAD if isinstance(first, Quad) and isinstance(second, Quad) else None

    type_callable(function)(lambda _: typer)
    lower_builtin(function, Quad, Quad)(lambda _, builder, __, args: emit(builder, *args))


_define_operator(operator.add, lambda builder, first, second: builder.fadd(first, second))
_define_operator(operator.sub, lambda builder, first, second: builder.fsub(first, second))
_define_operator(operator.mul, lambda builder, first, second: builder.fmul(first, second))
