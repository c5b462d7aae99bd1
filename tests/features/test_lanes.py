"""Vectors of 16 lanes: what compiled code does is what the plain Python beside it says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numba import config, njit, types
from numba.core.errors import TypingError

from smoothdistill.features.kernels import lanes
from smoothdistill.features.kernels.lanes import (
    LANES,
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

DTYPES = (np.float32, np.float64)
ROWS = 32
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")


def operands(dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three arrays of vectors, every pair of special values among the lanes of the first two."""
    rng = np.random.default_rng(0)
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40], dtype)
    pairs = np.stack(np.meshgrid(special, special), -1).reshape(-1, 2)  # 64: four rows
    usual = rng.standard_normal((3, 12 * LANES)).astype(dtype)
    first = np.concatenate([pairs[:, 0], usual[0]])
    second = np.concatenate([pairs[:, 1], usual[1]])
    third = np.concatenate([pairs[::-1, 0], usual[2]])
    return first, second, third


def every_operation(a, b, c, out):
    """Row `ROWS * k + i` of the result is operation i on the k-th vectors of the operands."""
    for k in range(a.size // LANES):
        x, y, z = load(a, k * LANES), load(b, k * LANES), load(c, k * LANES)
        place = k * ROWS * LANES
        zero, one = x - x, x - x + 1.0
        zero = select(is_nan(zero), y - y, zero)  # of the operands' own type
        store(out, place, x + y)
        store(out, place + LANES, x - y)
        store(out, place + 2 * LANES, x * y)
        store(out, place + 3 * LANES, x / y)
        store(out, place + 4 * LANES, fma(x, y, z))
        store(out, place + 5 * LANES, minimum(x, y))
        store(out, place + 6 * LANES, maximum(x, y))
        store(out, place + 7 * LANES, absolute(x))
        store(out, place + 8 * LANES, -x)
        store(out, place + 9 * LANES, floor(x))
        store(out, place + 10 * LANES, square_root(x))
        store(out, place + 11 * LANES, select(x < y, x, z))
        store(out, place + 12 * LANES, select(x <= y, x, z))
        store(out, place + 13 * LANES, select(x > y, x, z))
        store(out, place + 14 * LANES, select(x >= y, x, z))
        store(out, place + 15 * LANES, select(x == y, x, z))
        store(out, place + 16 * LANES, select(is_nan(x), y, z))
        store(out, place + 17 * LANES, select((x < y) & (y < z), x, z))
        store(out, place + 18 * LANES, select((x < y) | (y < z), x, z))
        store(out, place + 19 * LANES, select((x < y) ^ (y < z), x, z))
        store(out, place + 20 * LANES, x + 2)
        store(out, place + 21 * LANES, 2.5 - x)
        store(out, place + 22 * LANES, x * 0.1)
        store(out, place + 23 * LANES, 1.0 / x)
        store(out, place + 24 * LANES, select(0.5 < x, x, y))  # noqa: SIM300
        store(out, place + 25 * LANES, broadcast(a, k * LANES + 3))
        total = x * 1.0
        total += y
        total *= z
        store(out, place + 26 * LANES, total)
        store(out, place + 27 * LANES, zero * one)
        for row in range(28, ROWS):
            store(out, place + row * LANES, x)


def double_operations(a, b, out):
    """What is for float64 results only: widening, and a number in all lanes."""
    for k in range(a.size // LANES):
        x = widen(load(a, k * LANES))
        store(out, 3 * k * LANES, x * 3.0)
        store(out, (3 * k + 1) * LANES, splat(0.1) + x)
        store(out, (3 * k + 2) * LANES, splat(b[k]))


def exponent_operations(a, out):
    for k in range(a.size // LANES):
        x = load(a, k * LANES)
        store(out, 3 * k * LANES, binary_exponent(x))
        store(out, (3 * k + 1) * LANES, significand(x))
        store(out, (3 * k + 2) * LANES, power_of_two(binary_exponent(x)))


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal, the sign of zero included; NaN is NaN, of whatever bits."""
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected, equal_nan=True)
    is_number = ~np.isnan(expected)
    assert np.array_equal(np.signbit(got)[is_number], np.signbit(expected)[is_number])


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_and_plain_agree(dtype: type) -> None:
    a, b, c = operands(dtype)
    got, expected = np.empty((2, len(a) // LANES * ROWS * LANES), dtype)
    njit(error_model="numpy")(every_operation)(a, b, c, got)
    with np.errstate(all="ignore"):
        every_operation(a, b, c, expected)
    got, expected = got.reshape(-1, ROWS, LANES), expected.reshape(-1, ROWS, LANES)
    for row in range(ROWS):
        if row != 4:  # the fused operation rounds once
            assert_same(got[:, row], expected[:, row])


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fused_operation_rounds_once(dtype: type) -> None:
    a, b, c = (operand[4 * LANES :] for operand in operands(dtype))
    c = -(a * b)  # all but the rounding error cancels
    got = np.empty(len(a) // LANES * ROWS * LANES, dtype)
    njit(error_model="numpy")(every_operation)(a, b, c, got)
    fused = got.reshape(-1, ROWS, LANES)[:, 4].ravel()
    exact = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)]
    errors = [float(product + Fraction(float(z))) for product, z in zip(exact, c, strict=True)]
    assert np.array_equal(fused, np.array(errors, dtype))
    assert np.any(fused != 0)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_doubles(dtype: type) -> None:
    a = operands(dtype)[0]
    b = np.random.default_rng(1).standard_normal(len(a) // LANES)
    got, expected = np.empty((2, 3 * len(a)))
    njit(error_model="numpy")(double_operations)(a, b, got)
    with np.errstate(all="ignore"):
        double_operations(a, b, expected)
    assert_same(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponents(dtype: type) -> None:
    """For positive normal numbers, from the least to the greatest."""
    info = np.finfo(dtype)
    a = np.geomspace(float(info.tiny), float(info.max) / 2, 10 * LANES).astype(dtype)
    a[:5] = info.tiny, 1.0, np.nextafter(dtype(1), dtype(0)), 2.0, info.max
    found = np.empty(3 * len(a), dtype)
    njit(error_model="numpy")(exponent_operations)(a, found)
    exponents, significands, powers = found.reshape(-1, 3, LANES).swapaxes(0, 1).reshape(3, -1)
    assert np.array_equal(exponents, np.frexp(a)[1] - 1)
    assert ((significands >= 1) & (significands < 2)).all()
    assert np.array_equal(significands * powers, a)


@compiled_only
def test_storing_rounds_to_the_array() -> None:
    """A block of float64 results goes into a column of float32, and back without a change."""

    @njit(error_model="numpy")
    def convert(source, target):
        for k in range(0, source.size, LANES):
            store(target, k, load(source, k))

    source = np.random.default_rng(2).standard_normal(4 * LANES)
    narrow, wide = np.empty(len(source), np.float32), np.empty(len(source))
    convert(source, narrow)
    convert(narrow, wide)
    assert np.array_equal(narrow, source.astype(np.float32))
    assert np.array_equal(wide, narrow)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 7, 15, 16])
def test_only_the_first_lanes_are_stored(count: int, dtype: type) -> None:
    """The last block of a column ends where the column ends; behind it lies another's memory."""

    @njit(error_model="numpy")
    def put(source, target, start, count):
        store_first(target, start, load(source, 0), count)

    source = np.arange(1.0, LANES + 1)
    target = np.full(3 + LANES + 4, -1.0, dtype)
    put(source, target, 3, count)
    assert np.array_equal(target[3 : 3 + count], source[:count])
    assert (target[:3] == -1).all()
    assert (target[3 + count :] == -1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [0, 5])
def test_transposition(row: int, dtype: type) -> None:
    @njit(error_model="numpy")
    def transpose(source, places, row, tile, targets):
        transpose_into(source, places, row, tile, targets)

    rng = np.random.default_rng(3)
    source = rng.standard_normal(500).astype(dtype)
    places = rng.integers(0, 480, LANES)
    targets = rng.permutation(30) * LANES
    tile = np.full(30 * LANES, -1, dtype)
    transpose(source, places, row, tile, targets)
    expected = np.full((30, LANES), -1, dtype)
    for i in range(LANES):
        expected[targets[row + i] // LANES] = source[places + row + i]
    assert np.array_equal(tile.reshape(30, LANES), expected)


@pytest.mark.parametrize("index", [-1, 1, 100])
def test_plain_python_minds_the_bounds(index: int) -> None:
    array = np.zeros(LANES)
    with pytest.raises(IndexError, match="index is out of bounds"):
        load(array, index)
    with pytest.raises(IndexError, match="index is out of bounds"):
        store(array, index, np.ones(LANES))
    with pytest.raises(IndexError, match="index is out of bounds"):
        store_first(array, index, np.ones(LANES), LANES)
    with pytest.raises(IndexError, match="index is out of bounds"):
        broadcast(array, -1 if index == 1 else index)
    assert not array.any()


@compiled_only
def test_what_makes_no_sense_is_no_code() -> None:
    """Mixed types would be widened in plain Python, and must not pass in one of the two only."""
    single, double = np.zeros(LANES, np.float32), np.zeros(LANES)

    @njit
    def add(a, b):
        return (load(a, 0) + load(b, 0)) is None

    @njit
    def fuse(a, b):
        return fma(load(a, 0), load(b, 0), load(a, 0)) is None

    for function in (add, fuse):
        with pytest.raises(TypingError, match=r"[Nn]o implementation|No match|cannot determine"):
            function(single, double)


def test_the_type_tells_its_lanes_apart() -> None:
    assert lanes.Lanes(types.float32) == lanes.Lanes(types.float32)
    assert lanes.Lanes(types.float32) != lanes.Lanes(types.float64)
    assert str(lanes.Lanes(types.boolean)) == "Lanes(bool)"
    assert set(lanes.__all__) <= set(dir(lanes))
