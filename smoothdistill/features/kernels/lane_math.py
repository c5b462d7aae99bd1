"""Logarithm and power of 2 over 16 lanes: Numba has no vectors of them without Intel's library."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, overload, type_callable

from smoothdistill.features.kernels.lane_code import broadcast_value, call_function, vector_type
from smoothdistill.features.kernels.lanes import (
    LANES,
    Lanes,
    floor,
    fma,
    power_of_two,
)

__all__ = ["exp2", "log2", "nearest_exponent", "nearest_significand", "polynomial"]

# Minimax polynomials, found by Remez exchange in 40 digits, from the highest power down.
# log2(1 + t) / t for 1 + t between sqrt(1/2) and sqrt(2): relative error 2.6e-8.
LOG2_FLOAT32 = (
    0.125837039621,
    -0.207269749646,
    0.21571559893,
    -0.238944820166,
    0.287916248777,
    -0.360703682914,
    0.480910642929,
    -0.721347346801,
    1.44269500365,
)
# log2(m) / s of s**2, for s = (m - 1) / (m + 1) and the same m: relative error 1.1e-18.
LOG2_FLOAT64 = (
    0.21367078336619818,
    0.2209118662567944,
    0.26233440177918154,
    0.32059853392554053,
    0.41219858585107714,
    0.5770780163454702,
    0.9617966939259898,
    2.8853900817779268,
)
# 2**x for x between -1/2 and 1/2: relative error 3.1e-18.
EXP2 = (
    4.435281892117942e-10,
    7.074105613499429e-09,
    1.0178198027112659e-07,
    1.3215433089671956e-06,
    1.5252733489975453e-05,
    1.5403530462514505e-04,
    1.3333558146789935e-03,
    9.618129107588335e-03,
    5.550410866481992e-02,
    2.4022650695910156e-01,
    6.931471805599453e-01,
    1.0,
)
SQRT_HALF = 0.7071067811865476


def polynomial(vector: Any, coefficients: tuple[float, ...]) -> Any:
    """A polynomial of each lane, its coefficients from the highest power down."""
    result = np.full_like(vector, coefficients[0])
    for coefficient in coefficients[1:]:
        result = fma(result, vector, vector.dtype.type(coefficient))
    return result


@type_callable(polynomial)
def _type_polynomial(_):
    def typer(vector, coefficients):
        return vector if isinstance(vector, Lanes) else None

    return typer


@lower_builtin(polynomial, Lanes, types.BaseTuple)
def _lower_polynomial(context, builder, sig, args):
    vector, coefficients = sig.args
    result = None
    for place, kind in enumerate(coefficients):
        number = builder.extract_value(args[1], place)
        number = broadcast_value(builder, context.cast(builder, number, kind, vector.dtype))
        terms = [result, args[0], number]
        result = (
            number if result is None else call_function(builder, "llvm.fma", vector.dtype, terms)
        )
    return result


def nearest_exponent(vector: Any) -> Any:
    """The e of `m * 2**e` with m from sqrt(1/2) to sqrt(2), as a float; some number for 0."""
    return _split(vector)[1].astype(vector.dtype)


def nearest_significand(vector: Any) -> Any:
    """The m of `m * 2**e` with m from sqrt(1/2) to sqrt(2); 1 for 0."""
    bits, exponent = _split(vector)
    return (bits - (exponent << np.finfo(vector.dtype).nmant)).view(vector.dtype)


def _split(vector: Any) -> Any:
    """The bits as whole numbers, and the exponent, which grows by 1 at each sqrt(1/2) * 2**n."""
    bits = vector.view(f"i{vector.dtype.itemsize}")
    least = vector.dtype.type(SQRT_HALF).view(bits.dtype)
    return bits, (bits - least) >> np.finfo(vector.dtype).nmant


def _emit_split(builder, dtype, vector):
    """Bits, exponent as 32-bit numbers (which all processors convert), bits below the exponent."""
    size, mantissa_bits = (32, 23) if dtype == types.float32 else (64, 52)
    least = np.dtype(f"f{size // 8}").type(SQRT_HALF).view(f"i{size // 8}")
    bits = builder.bitcast(vector, _integers(size))
    above = builder.sub(bits, _constant(size, int(least)))
    if size == 64:
        above = builder.trunc(builder.lshr(above, _constant(64, 32)), _integers(32))
    return bits, builder.ashr(above, _constant(32, mantissa_bits % 32)), mantissa_bits


def _integers(size):
    return ir.VectorType(ir.IntType(size), LANES)


def _constant(size, value):
    return ir.Constant(_integers(size), [value] * LANES)


@type_callable(nearest_exponent)
def _type_exponent(_):
    return lambda vector: vector if isinstance(vector, Lanes) else None


@type_callable(nearest_significand)
def _type_significand(_):
    return lambda vector: vector if isinstance(vector, Lanes) else None


@lower_builtin(nearest_exponent, Lanes)
def _lower_exponent(context, builder, sig, args):
    dtype = sig.args[0].dtype
    return builder.sitofp(_emit_split(builder, dtype, args[0])[1], vector_type(dtype))


@lower_builtin(nearest_significand, Lanes)
def _lower_significand(context, builder, sig, args):
    dtype = sig.args[0].dtype
    bits, exponent, mantissa_bits = _emit_split(builder, dtype, args[0])
    exponent = builder.sext(exponent, bits.type) if bits.type != exponent.type else exponent
    shifted = builder.shl(exponent, ir.Constant(bits.type, [mantissa_bits] * LANES))
    return builder.bitcast(builder.sub(bits, shifted), vector_type(dtype))


def _log2_float32(vector: Any) -> Any:
    t = nearest_significand(vector) - 1.0
    return fma(t, polynomial(t, LOG2_FLOAT32), nearest_exponent(vector))


def _log2_float64(vector: Any) -> Any:
    m = nearest_significand(vector)
    s = (m - 1.0) / (m + 1.0)
    return fma(s, polynomial(s * s, LOG2_FLOAT64), nearest_exponent(vector))


def log2(vector: Any) -> Any:
    """Binary logarithm of positive normal numbers, to 1.5 units in the last place.

    Of 0 and of subnormal numbers it is some number between -1100 and -120, so that p * log2(p) is 0
    for p = 0; of a negative number or a NaN it is meaningless.
    """
    return _log2_float32(vector) if vector.dtype == np.float32 else _log2_float64(vector)


@overload(log2, strict=False)
def _overload_log2(vector):
    return _log2_float32 if vector.dtype == types.float32 else _log2_float64


def exp2(vector: Any) -> Any:
    """2 to the power of float64 lanes, to 1e-15, where that is a normal number."""
    whole = floor(vector + 0.5)
    return polynomial(vector - whole, EXP2) * power_of_two(whole)


@overload(exp2, strict=False)
def _overload_exp2(vector):
    return exp2
