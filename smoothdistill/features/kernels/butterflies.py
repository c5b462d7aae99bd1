"""Fourier transforms of 2 to 7 points over 16 lanes: the innermost step of the long ones.

The formulas below are ordinary Python for complex numbers. In plain Python they get complex NumPy
arrays of 16, and in compiled code what stands for two LLVM vectors (`_Emitted`): each transform is
one operation for Numba. Written in the vectors of `complex_lanes.py`, and compiled one by one, they
took 3.5 s; as they are, all of `fourier.transform` takes 0.7 s.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from math import cos, pi, sin
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from smoothdistill.features.kernels.complex_lanes import (
    emit_numbers,
    emit_row,
    emit_rows,
    load_complex,
    store_complex,
    turn,
)
from smoothdistill.features.kernels.lane_code import call_function, intp
from smoothdistill.features.kernels.lanes import LANES, load, store

__all__ = [
    "half_bins_2",
    "half_bins_4",
    "join_bins_2",
    "join_bins_3",
    "join_bins_4",
    "join_bins_5",
    "join_bins_7",
    "zero_bins_2",
    "zero_bins_3",
    "zero_bins_4",
    "zero_bins_5",
    "zero_bins_7",
]

COS_72, COS_144, SIN_72, SIN_144 = cos(pi * 0.4), cos(pi * 0.8), sin(pi * 0.4), sin(pi * 0.8)
SIN_60, SQRT_HALF = sin(pi / 3), sin(pi / 4)


def _of_2(x0, x1):
    return x0 + x1, x0 - x1


def _of_3(x0, x1, x2):
    a, b = x1 + x2, (x1 - x2) * -1j
    middle = x0 - a * 0.5
    return x0 + a, middle + b * SIN_60, middle - b * SIN_60


def _of_4(x0, x1, x2, x3):
    even, apart = x0 + x2, x0 - x2
    odd, turned = x1 + x3, (x1 - x3) * -1j
    return even + odd, apart + turned, even - odd, apart - turned


def _of_5(x0, x1, x2, x3, x4):
    a, b = x1 + x4, x2 + x3
    c, d = (x1 - x4) * -1j, (x2 - x3) * -1j
    outer, inner = x0 + a * COS_72 + b * COS_144, x0 + a * COS_144 + b * COS_72
    return (
        x0 + (a + b),
        outer + c * SIN_72 + d * SIN_144,
        inner + c * SIN_144 - d * SIN_72,
        inner - c * SIN_144 + d * SIN_72,
        outer - c * SIN_72 - d * SIN_144,
    )


def _of_7(x0, *others):
    sums = [others[t] + others[5 - t] for t in range(3)]
    turned = [(others[t] - others[5 - t]) * -1j for t in range(3)]
    lower, upper = [], []
    for r in range(1, 4):
        angles = [2 * pi / 7 * (r * t % 7) for t in range(1, 4)]
        middle = x0
        for t in range(3):
            middle = middle + sums[t] * cos(angles[t])
        below = above = middle
        for t in range(3):
            below = below + turned[t] * sin(angles[t])
            above = above - turned[t] * sin(angles[t])
        lower.append(below)
        upper.append(above)
    return x0 + sums[0] + sums[1] + sums[2], *lower, *upper[::-1]


FORMULAS: dict[int, Any] = {2: _of_2, 3: _of_3, 4: _of_4, 5: _of_5, 7: _of_7}

# What a real number is multiplied with for half a turn in so many steps: cosine, and minus sine.
HALF_TURNS = {
    2: ((1.0, None), (None, -1.0)),
    4: ((1.0, None), (SQRT_HALF, -SQRT_HALF), (None, -1.0), (-SQRT_HALF, -SQRT_HALF)),
}


# --- The operations, as plain Python sees them ---------------------------------------------------


def _plain_zero(radix):
    def zero_bins(values: Any, source: int, step: int, target: int, hop: int) -> None:
        results = FORMULAS[radix](*[load(values, source + t * step) + 0j for t in range(radix)])
        store(values, target, results[0].real)
        for r in range(1, (radix + 1) // 2):
            store_complex(values, target + r * hop - LANES, results[r])
        if radix % 2 == 0:
            store(values, target + radix // 2 * hop - LANES, results[radix // 2].real)

    zero_bins.__doc__ = f"""Join bin 0 of {radix} half spectra that are `step` apart.

    It is real; from single samples, this makes the first half spectra. The results are `hop` apart.
    """
    return zero_bins


def _plain_half(radix):
    def half_bins(values: Any, source: int, step: int, target: int, hop: int) -> None:
        inputs = [
            load(values, source + t * step) * complex(cosine or 0.0, sine or 0.0)
            for t, (cosine, sine) in enumerate(HALF_TURNS[radix])
        ]
        for r in range(radix // 2):
            store_complex(values, target + r * hop, FORMULAS[radix](*inputs)[r])

    half_bins.__doc__ = f"""Join the middle bin of {radix} half spectra that are `step` apart.

    It is real, for they are even in length. The results are `hop` apart.
    """
    return half_bins


def _plain_join(radix):
    def join_bins(
        values: Any,
        source: int,
        step: int,
        twiddles: Any,
        place: int,
        above: int,
        below: int,
        hop: int,
    ) -> None:
        inputs = [load_complex(values, source)]
        for t in range(1, radix):
            turned = turn(load_complex(values, source + t * step), twiddles, place + 2 * t - 2)
            inputs.append(turned)
        for r, result in enumerate(FORMULAS[radix](*inputs)):
            if 2 * r < radix:
                store_complex(values, above + r * hop, result)
            else:
                store_complex(values, below + (radix - r) * hop, result.conj())

    join_bins.__doc__ = f"""Join a bin of {radix} half spectra `step` apart, turned by the twiddles.

    Results below the middle go to `above` and every `hop` from there, the others, as
    conjugates, to every `hop` from `below`.
    """
    return join_bins


zero_bins_2, zero_bins_3, zero_bins_4, zero_bins_5, zero_bins_7 = map(_plain_zero, FORMULAS)
half_bins_2, half_bins_4 = map(_plain_half, HALF_TURNS)
join_bins_2, join_bins_3, join_bins_4, join_bins_5, join_bins_7 = map(_plain_join, FORMULAS)


# --- The same in LLVM ----------------------------------------------------------------------------


class _Emitted:
    """A complex vector in code that is being written; a part of None is 0.

    A product with a number waits for the sum that it goes into: they become one instruction.
    """

    def __init__(self, builder, dtype, real, imaginary, factor=None) -> None:
        self.builder, self.dtype = builder, dtype
        self.parts, self.factor = (real, imaginary), factor

    def _with(self, real, imaginary, factor=None):
        return _Emitted(self.builder, self.dtype, real, imaginary, factor)

    def __mul__(self, factor):
        real, imaginary = self.parts
        if factor == -1j:
            return self._with(imaginary, None if real is None else self.builder.fneg(real))
        return self._with(real, imaginary, factor)

    def __add__(self, other):
        return self._with(*map(self._sum, self.parts, other.parts, [other.factor or 1.0] * 2))

    def __sub__(self, other):
        return self._with(*map(self._sum, self.parts, other.parts, [-(other.factor or 1.0)] * 2))

    def _sum(self, part, other, factor):
        if other is None:
            return part
        if factor == 1.0:
            return other if part is None else self.builder.fadd(part, other)
        if factor == -1.0:
            return self.builder.fneg(other) if part is None else self.builder.fsub(part, other)
        vector = ir.Constant(other.type, [factor] * LANES)
        if part is None:
            return self.builder.fmul(other, vector)
        return call_function(self.builder, "llvm.fma", self.dtype, [other, vector, part])

    def times(self, cosine, sine):
        """A real number times one that is known; a factor of None is 0."""
        factors = cosine, sine
        zero = self._with(None, None)
        real, imaginary = [
            None if factor is None else (zero + self * factor).parts[0] for factor in factors
        ]
        return self._with(real, imaginary)

    def turned(self, cosine, sine):
        """The product with cosine - i * sine."""
        real, imaginary = self.parts
        terms = (
            [imaginary, sine, self.builder.fmul(real, cosine)],
            [self.builder.fneg(real), sine, self.builder.fmul(imaginary, cosine)],
        )
        return self._with(
            *[call_function(self.builder, "llvm.fma", self.dtype, three) for three in terms]
        )

    def conj(self):
        real, imaginary = self.parts
        return self._with(real, None if imaginary is None else self.builder.fneg(imaginary))


class _Values:
    """The array of scratch in code that is being written."""

    def __init__(self, context, builder, kind, array) -> None:
        self.context, self.builder, self.kind, self.array = context, builder, kind, array
        self.alignment = kind.dtype.bitwidth // 8

    def place(self, start, step, count, offset=0):
        """`start + step * count + offset`."""
        along = self.builder.add(start, self.builder.mul(step, intp(count)))
        return self.builder.add(along, intp(offset))

    def _rows(self, place):
        return emit_rows(self.context, self.builder, self.kind, self.array, place)

    def load(self, place):
        parts = [self.builder.load(row, align=self.alignment) for row in self._rows(place)]
        return _Emitted(self.builder, self.kind.dtype, *parts)

    def load_real(self, place):
        row = emit_row(self.context, self.builder, self.kind, self.array, place)
        part = self.builder.load(row, align=self.alignment)
        return _Emitted(self.builder, self.kind.dtype, part, None)

    def store(self, place, result):
        for part, row in zip(result.parts, self._rows(place), strict=True):
            self.builder.store(part, row, align=self.alignment)

    def store_real(self, place, result):
        row = emit_row(self.context, self.builder, self.kind, self.array, place)
        self.builder.store(result.parts[0], row, align=self.alignment)


def _integers(context, builder, sig, args):
    """The arguments that are places or distances, as 64-bit integers."""
    return [
        context.cast(builder, arg, kind, types.intp)
        for arg, kind in zip(args, sig.args, strict=True)
        if isinstance(kind, types.Integer)
    ]


def _define(function, num_integers, emit) -> None:
    """An operation on an array of scratch and places in it."""
    names = [types.Integer] * num_integers
    type_callable(function)(lambda _: lambda values, source, step, target, hop: types.none)

    @lower_builtin(function, types.Array, *names)
    def _lower(context, builder, sig, args):
        values = _Values(context, builder, sig.args[0], args[0])
        emit(values, *_integers(context, builder, sig, args))
        return context.get_dummy_value()


def _emit_zero(radix):
    def emit(values, source, step, target, hop):
        inputs = [values.load_real(values.place(source, step, t)) for t in range(radix)]
        results = FORMULAS[radix](*inputs)
        values.store_real(target, results[0])
        for r in range(1, (radix + 1) // 2):
            values.store(values.place(target, hop, r, -LANES), results[r])
        if radix % 2 == 0:
            last = values.place(target, hop, radix // 2, -LANES)
            values.store_real(last, results[radix // 2])

    return emit


def _emit_half(radix):
    def emit(values, source, step, target, hop):
        inputs = [
            values.load_real(values.place(source, step, t)).times(cosine, sine)
            for t, (cosine, sine) in enumerate(HALF_TURNS[radix])
        ]
        results = FORMULAS[radix](*inputs)
        for r in range(radix // 2):
            values.store(values.place(target, hop, r), results[r])

    return emit


def _define_join(function, radix) -> None:
    type_callable(function)(
        lambda _: lambda values, source, step, twiddles, place, above, below, hop: types.none
    )
    integers = [types.Integer] * 3

    @lower_builtin(function, types.Array, *integers[:2], types.Array, types.Integer, *integers)
    def _lower(context, builder, sig, args):
        values = _Values(context, builder, sig.args[0], args[0])
        source, step, place, above, below, hop = _integers(context, builder, sig, args)
        inputs = [values.load(source)]
        for t in range(1, radix):
            number = builder.add(place, intp(2 * t - 2))
            cosine, sine = emit_numbers(context, builder, sig.args[3], args[3], number)
            vector = values.load(values.place(source, step, t))
            inputs.append(vector.turned(cosine, sine))
        for r, result in enumerate(FORMULAS[radix](*inputs)):
            if 2 * r < radix:
                values.store(values.place(above, hop, r), result)
            else:
                values.store(values.place(below, hop, radix - r), result.conj())
        return context.get_dummy_value()


for _radix, _zero, _join in (
    (2, zero_bins_2, join_bins_2),
    (3, zero_bins_3, join_bins_3),
    (4, zero_bins_4, join_bins_4),
    (5, zero_bins_5, join_bins_5),
    (7, zero_bins_7, join_bins_7),
):
    _define(_zero, 4, _emit_zero(_radix))
    _define_join(_join, _radix)
_define(half_bins_2, 4, _emit_half(2))
_define(half_bins_4, 4, _emit_half(4))
