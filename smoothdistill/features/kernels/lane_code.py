"""What the functions of `lanes.py` are in compiled code: Numba's types and LLVM's instructions."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, attr-defined, index"
from __future__ import annotations

import operator

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable

from smoothdistill.features.kernels.lanes import (
    LANES,
    Lanes,
    absolute,
    binary_exponent,
    broadcast,
    floor,
    fma,
    is_nan,
    load,
    maximum,
    minimum,
    power_of_two,
    select,
    significand,
    splat,
    square_root,
    store,
    store_first,
    transpose_into,
    widen,
)

__all__ = ["address", "broadcast_value", "call_function", "intp", "vector_type"]


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes) -> None:
        super().__init__(manager, lanes, vector_type(lanes.dtype))


_ELEMENTS = {
    types.boolean: ir.IntType(1),
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
}
_SUFFIXES = {types.float32: "v16f32", types.float64: "v16f64"}
_BYTES = {types.float32: 4, types.float64: 8}


def vector_type(dtype: types.Type) -> ir.VectorType:
    """LLVM's type of `Lanes(dtype)`."""
    return ir.VectorType(_ELEMENTS[dtype], LANES)


def address(context, builder, array_type, array, index_type, index, count):
    """Pointer to `count` values from `index` on, typed as one vector, and checked if asked for."""
    view = context.make_array(array_type)(context, builder, array)
    place = context.cast(builder, index, index_type, types.intp)
    if config.BOUNDSCHECK:
        length = builder.extract_value(view.shape, 0)
        last = builder.sub(length, count)
        outside = builder.or_(
            builder.icmp_signed("<", place, ir.Constant(place.type, 0)),
            builder.icmp_signed(">", place, last),
        )
        with builder.if_then(outside, likely=False):
            context.call_conv.return_user_exc(builder, IndexError, ("index is out of bounds",))
    pointer = builder.gep(view.data, [place])
    return builder.bitcast(pointer, vector_type(array_type.dtype).as_pointer())


def intp(value: int) -> ir.Constant:
    """An index."""
    return ir.Constant(ir.IntType(64), value)


def cast_lanes(builder, vector, source, target):
    if _BYTES[source] < _BYTES[target]:
        return builder.fpext(vector, vector_type(target))
    if _BYTES[source] > _BYTES[target]:
        return builder.fptrunc(vector, vector_type(target))
    return vector


def broadcast_value(builder, value):
    """A number in all lanes."""
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    single = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, nothing, picks([0] * LANES))


def call_function(builder, name, dtype, arguments):
    """Call an LLVM function on vectors, such as `llvm.fma`."""
    vector = vector_type(dtype)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector] * len(arguments)),
        f"{name}.{_SUFFIXES[dtype]}",
    )
    return builder.call(function, arguments)


@type_callable(load)
def _type_load(_):
    def typer(array, index):
        return Lanes(array.dtype) if isinstance(array, types.Array) else None

    return typer


@lower_builtin(load, types.Array, types.Integer)
def _lower_load(context, builder, sig, args):
    place = address(context, builder, sig.args[0], args[0], sig.args[1], args[1], intp(LANES))
    return builder.load(place, align=_BYTES[sig.args[0].dtype])


@type_callable(broadcast)
def _typebroadcast_value(_):
    def typer(array, index):
        return Lanes(array.dtype) if isinstance(array, types.Array) else None

    return typer


@lower_builtin(broadcast, types.Array, types.Integer)
def _lowerbroadcast_value(context, builder, sig, args):
    array = sig.args[0]
    place = address(context, builder, array, args[0], sig.args[1], args[1], intp(1))
    value = builder.load(builder.bitcast(place, _ELEMENTS[array.dtype].as_pointer()))
    return broadcast_value(builder, value)


@type_callable(store)
def _type_store(_):
    def typer(array, index, vector):
        return types.none if isinstance(vector, Lanes) else None

    return typer


@lower_builtin(store, types.Array, types.Integer, Lanes)
def _lower_store(context, builder, sig, args):
    array, index, lanes = sig.args
    place = address(context, builder, array, args[0], index, args[1], intp(LANES))
    vector = cast_lanes(builder, args[2], lanes.dtype, array.dtype)
    builder.store(vector, place, align=_BYTES[array.dtype])
    return context.get_dummy_value()


@type_callable(store_first)
def _type_store_first(_):
    def typer(array, index, vector, count):
        return types.none if isinstance(vector, Lanes) else None

    return typer


@lower_builtin(store_first, types.Array, types.Integer, Lanes, types.Integer)
def _lower_store_first(context, builder, sig, args):
    array, index, lanes, count_type = sig.args
    count = context.cast(builder, args[3], count_type, types.intp)
    place = address(context, builder, array, args[0], index, args[1], count)
    vector = cast_lanes(builder, args[2], lanes.dtype, array.dtype)
    numbers = ir.Constant(ir.VectorType(ir.IntType(64), LANES), list(range(LANES)))
    is_written = builder.icmp_signed("<", numbers, broadcast_value(builder, count))
    alignment = ir.Constant(ir.IntType(32), _BYTES[array.dtype])
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [vector.type, place.type, alignment.type, is_written.type]),
        f"llvm.masked.store.{_SUFFIXES[array.dtype]}.p0",
    )
    builder.call(function, [vector, place, alignment, is_written])
    return context.get_dummy_value()


@type_callable(splat)
def _type_splat(_):
    def typer(value):
        return Lanes(value) if value in (types.float32, types.float64) else None

    return typer


@lower_builtin(splat, types.Float)
def _lower_splat(context, builder, sig, args):
    return broadcast_value(builder, args[0])


@type_callable(widen)
def _type_widen(_):
    def typer(vector):
        return Lanes(types.float64) if isinstance(vector, Lanes) else None

    return typer


@lower_builtin(widen, Lanes)
def _lower_widen(context, builder, sig, args):
    return cast_lanes(builder, args[0], sig.args[0].dtype, types.float64)


def _define_function(function, arity, emit, *, result=None) -> None:
    """Give a function of `arity` equal vectors its type and its code."""

    def type_of(*vectors):
        is_one_kind = isinstance(vectors[0], Lanes) and len(set(vectors)) == 1
        return Lanes(result or vectors[0].dtype) if is_one_kind else None

    @type_callable(function)
    def _type(_):  # Numba wants the parameters spelled out
        if arity == 1:
            return lambda first: type_of(first)
        if arity == 2:
            return lambda first, second: type_of(first, second)
        return lambda first, second, third: type_of(first, second, third)

    @lower_builtin(function, *[Lanes] * arity)
    def _lower(context, builder, sig, args):
        return emit(builder, sig.args[0].dtype, args)


def _emit_named(name):
    return lambda builder, dtype, args: call_function(builder, name, dtype, args)


def _emit_extreme(relation):
    def emit(builder, _, args):
        return builder.select(builder.fcmp_ordered(relation, *args), *args)

    return emit


_MANTISSA_BITS = {types.float32: 23, types.float64: 52}
_EXPONENT_BIAS = {types.float32: 127, types.float64: 1023}


def _integer_lanes(dtype) -> ir.VectorType:
    return ir.VectorType(ir.IntType(8 * _BYTES[dtype]), LANES)


def _emit_exponent(builder, dtype, args):
    integers = _integer_lanes(dtype)
    bits = builder.bitcast(args[0], integers)
    shift = ir.Constant(integers, [_MANTISSA_BITS[dtype]] * LANES)
    bias = ir.Constant(integers, [_EXPONENT_BIAS[dtype]] * LANES)
    exponent = builder.sub(builder.lshr(bits, shift), bias)
    return builder.sitofp(exponent, vector_type(dtype))


def _emit_significand(builder, dtype, args):
    integers = _integer_lanes(dtype)
    bits = builder.bitcast(args[0], integers)
    mantissa = ir.Constant(integers, [(1 << _MANTISSA_BITS[dtype]) - 1] * LANES)
    one = ir.Constant(integers, [_EXPONENT_BIAS[dtype] << _MANTISSA_BITS[dtype]] * LANES)
    return builder.bitcast(builder.or_(builder.and_(bits, mantissa), one), vector_type(dtype))


def _emit_power_of_two(builder, dtype, args):
    integers = _integer_lanes(dtype)
    bias = ir.Constant(integers, [_EXPONENT_BIAS[dtype]] * LANES)
    shift = ir.Constant(integers, [_MANTISSA_BITS[dtype]] * LANES)
    biased = builder.add(builder.fptosi(args[0], integers), bias)
    return builder.bitcast(builder.shl(biased, shift), vector_type(dtype))


_define_function(fma, 3, _emit_named("llvm.fma"))
_define_function(minimum, 2, _emit_extreme("<"))
_define_function(maximum, 2, _emit_extreme(">"))
_define_function(absolute, 1, _emit_named("llvm.fabs"))
_define_function(floor, 1, _emit_named("llvm.floor"))
_define_function(square_root, 1, _emit_named("llvm.sqrt"))
_define_function(binary_exponent, 1, _emit_exponent)
_define_function(significand, 1, _emit_significand)
_define_function(power_of_two, 1, _emit_power_of_two)
_define_function(operator.neg, 1, lambda builder, _, args: builder.fneg(args[0]))
_define_function(
    is_nan,
    1,
    lambda builder, _, args: builder.fcmp_unordered("uno", args[0], args[0]),
    result=types.boolean,
)


@type_callable(select)
def _type_select(_):
    def typer(mask, chosen, other):
        if isinstance(mask, Lanes) and isinstance(chosen, Lanes) and chosen == other:
            return chosen
        return None

    return typer


@lower_builtin(select, Lanes, Lanes, Lanes)
def _lower_select(context, builder, sig, args):
    return builder.select(*args)


# --- Operators: between vectors, and between a vector and a number that is cast to its dtype -----


def _define_operator(function, emit, *, result=None, in_place=None) -> None:
    def typer(first, second):
        vectors = {side for side in (first, second) if isinstance(side, Lanes)}
        numbers = [side for side in (first, second) if not isinstance(side, Lanes)]
        if len(vectors) != 1 or not all(isinstance(side, types.Number) for side in numbers):
            return None
        return Lanes(result or vectors.pop().dtype)

    type_callable(function)(lambda _: typer)
    if in_place:  # typed only: for values that cannot change, Numba takes the code of `function`
        type_callable(in_place)(lambda _: typer)

    def lower(context, builder, sig, args):
        dtype = next(side.dtype for side in sig.args if isinstance(side, Lanes))
        sides = [
            arg
            if isinstance(side, Lanes)
            else broadcast_value(builder, context.cast(builder, arg, side, dtype))
            for side, arg in zip(sig.args, args, strict=True)
        ]
        return emit(builder, sides)

    for kinds in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(function, *kinds)(lower)


_define_operator(operator.add, lambda builder, sides: builder.fadd(*sides), in_place=operator.iadd)
_define_operator(operator.sub, lambda builder, sides: builder.fsub(*sides), in_place=operator.isub)
_define_operator(operator.mul, lambda builder, sides: builder.fmul(*sides), in_place=operator.imul)
_define_operator(
    operator.truediv, lambda builder, sides: builder.fdiv(*sides), in_place=operator.itruediv
)
_define_operator(operator.and_, lambda builder, sides: builder.and_(*sides))
_define_operator(operator.or_, lambda builder, sides: builder.or_(*sides))
_define_operator(operator.xor, lambda builder, sides: builder.xor(*sides))
for _relation, _function in (
    ("<", operator.lt),
    ("<=", operator.le),
    (">", operator.gt),
    (">=", operator.ge),
    ("==", operator.eq),
):
    _define_operator(
        _function,
        lambda builder, sides, relation=_relation: builder.fcmp_ordered(relation, *sides),
        result=types.boolean,
    )


# --- The square transposition --------------------------------------------------------------------


@type_callable(transpose_into)
def _type_transpose_into(_):
    def typer(source, places, row, tile, targets):
        return types.none if isinstance(source, types.Array) else None

    return typer


@lower_builtin(transpose_into, types.Array, types.Array, types.Integer, types.Array, types.Array)
def _lower_transpose_into(context, builder, sig, args):
    source, places, row_type, tile, targets = sig.args
    row = context.cast(builder, args[2], row_type, types.intp)
    place_data = context.make_array(places)(context, builder, args[1]).data
    target_data = context.make_array(targets)(context, builder, args[4]).data
    rows = []
    for lane in range(LANES):
        place = builder.load(builder.gep(place_data, [intp(lane)]))
        index = builder.add(place, row)
        where = address(context, builder, source, args[0], types.intp, index, intp(LANES))
        rows.append(builder.load(where, align=_BYTES[source.dtype]))
    # Four rounds, each exchanging halves of pairs of rows that are 8, 4, 2, 1 apart.
    distance = LANES // 2
    while distance:
        low = [i if not i & distance else i - distance + LANES for i in range(LANES)]
        high = [i + distance if not i & distance else i + LANES for i in range(LANES)]
        for first in range(LANES):
            if first & distance:
                continue
            pair = rows[first], rows[first + distance]
            rows[first] = builder.shuffle_vector(*pair, picks(low))
            rows[first + distance] = builder.shuffle_vector(*pair, picks(high))
        distance //= 2
    for i in range(LANES):
        target = builder.load(builder.gep(target_data, [builder.add(row, intp(i))]))
        where = address(context, builder, tile, args[3], types.intp, target, intp(LANES))
        builder.store(rows[i], where, align=_BYTES[tile.dtype])
    return context.get_dummy_value()


def picks(indices):
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), indices)
