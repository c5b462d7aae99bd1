"""The transform over lanes: parity with NumPy for every kind of length, and what keeps it apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit
from numba.core.errors import TypingError

from smoothdistill.features.kernels import butterflies, complex_lanes, lane_math
from smoothdistill.features.kernels.complex_lanes import (
    add_parts,
    add_scaled,
    conjugate,
    load_complex,
    rotate,
    square,
    store_complex,
    turn,
)
from smoothdistill.features.kernels.fourier import transform
from smoothdistill.features.kernels.fourier_plan import JOIN, plan_transform
from smoothdistill.features.kernels.lane_math import exp2, log2
from smoothdistill.features.kernels.lanes import LANES, load, store

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
DTYPES = list(EPS)
# Products of small primes; 7; primes by the definition, also twice in one length; primes with a
# good length below them (31, 97, 101, 257), and without (47, 59, 107, 509), also times others.
LENGTHS = (
    *range(1, 41),
    *(49, 50, 60, 64, 72, 77, 80, 94, 97, 98, 100, 101, 107, 118, 121, 125, 128, 143, 150, 169),
    *(180, 202, 250, 256, 257, 343, 361, 500, 509, 512, 1000, 1009, 1018, 1155),
)
PLAIN = config.DISABLE_JIT
compiled_only = pytest.mark.skipif(PLAIN, reason="nothing is compiled")


def spectrum(samples: np.ndarray, *, base: int = 0) -> np.ndarray:
    """Bins [bins, lanes] as complex128, of samples [time, lanes]; the scratch begins as NaN."""
    num_samples = len(samples)
    plan = plan_transform(num_samples, samples.dtype.name)
    values = np.full(base + plan.scratch_values, np.nan, samples.dtype)
    values[base : base + samples.size] = samples.ravel()
    transform(plan.program, plan.twiddles, plan.rows, values, base)
    rows = values[base + plan.result :][: samples.size].reshape(-1, LANES).astype(np.float64)
    found = np.zeros((num_samples // 2 + 1, LANES), np.complex128)
    found[0] = rows[0]
    found.real[1:] = rows[1::2]
    found.imag[1 : (num_samples + 1) // 2] = rows[2::2]
    return found


def make_samples(num_samples: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(num_samples).standard_normal((num_samples, LANES)).astype(dtype)


def assert_parity(samples: np.ndarray) -> None:
    """Errors spread over all bins alike: 2 units in the last place of their rms for each stage.

    Stages are counted as if all were of two points; a prime that is a convolution has two more
    transforms of up to four times its length.
    """
    expected = np.fft.rfft(samples.astype(np.float64), axis=0)
    stages = 2 * np.log2(4 * len(samples)) + 1
    size = np.sqrt(np.mean(np.abs(expected) ** 2, axis=0))
    error = np.abs(spectrum(samples) - expected).max(axis=0)
    assert (error <= 2 * EPS[samples.dtype.name] * stages * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_samples", [n for n in LENGTHS if not PLAIN or n < 64])
def test_parity_with_numpy(num_samples: int, dtype: str) -> None:
    assert_parity(make_samples(num_samples, dtype))


@compiled_only
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000))
def test_any_length(num_samples: int) -> None:
    assert_parity(make_samples(num_samples, "float64"))


@pytest.mark.parametrize("num_samples", [12, 20, 33, 35, 31, 47, 94])
def test_it_may_begin_anywhere(num_samples: int) -> None:
    samples = make_samples(num_samples, "float32")
    assert np.array_equal(spectrum(samples), spectrum(samples, base=5 * LANES))


@pytest.mark.parametrize("num_samples", [16, 60, 77, 31, 47])
def test_lanes_do_not_touch_each_other(num_samples: int) -> None:
    samples = make_samples(num_samples, "float32")
    alone = spectrum(samples)
    samples[:, 3] *= 1e30
    samples[num_samples // 2, 5] = np.nan
    others = [lane for lane in range(LANES) if lane not in (3, 5)]
    together = spectrum(samples)
    assert np.array_equal(together[:, others], alone[:, others])
    assert np.isnan(together[:, 5]).all()


@pytest.mark.parametrize("num_samples", [24, 35, 97])
def test_an_impulse_is_flat(num_samples: int) -> None:
    samples = np.zeros((num_samples, LANES))
    samples[0] = 1.0
    assert np.abs(spectrum(samples) - 1.0).max() <= 32 * EPS["float64"]


def test_usual_lengths_need_nothing_rare() -> None:
    for num_samples in (50, 64, 80, 100, 120, 125, 128, 150, 200, 250, 256, 300, 500, 512):
        plan = plan_transform(num_samples, "float32")
        assert plan.rows is None
        assert (plan.program[:, 0] == JOIN).all()
        assert plan.scratch_values == (2 * num_samples + 1) * LANES


def test_a_plan_is_made_once() -> None:
    assert plan_transform(100, "float32") is plan_transform(100, "float32")


@pytest.mark.parametrize("prime", [29, 31, 47, 97, 509, 1009])
def test_large_primes_are_convolutions(prime: int) -> None:
    """By the definition, twice the length would be four times the work."""
    largest = plan_transform(prime, "float32").program[:, 3]
    assert prime not in largest.tolist()


@pytest.mark.parametrize("radix", butterflies.FORMULAS)
def test_formulas(radix: int) -> None:
    rng = np.random.default_rng(radix)
    inputs = rng.standard_normal((radix, LANES)) + 1j * rng.standard_normal((radix, LANES))
    expected = np.fft.fft(inputs, axis=0)
    found = np.array(butterflies.FORMULAS[radix](*inputs))
    assert np.abs(found - expected).max() <= 32 * EPS["float64"]


# --- Vectors of complex numbers, and of logarithms -----------------------------------------------


@njit(error_model="numpy")
def _turn(values, table):
    store_complex(values, 0, turn(load_complex(values, 0), table, 1))


@njit(error_model="numpy")
def _rotate(values, table):
    store_complex(values, 0, rotate(load_complex(values, 0)))


@njit(error_model="numpy")
def _conjugate(values, table):
    store_complex(values, 0, conjugate(load_complex(values, 0)))


@njit(error_model="numpy")
def _square(values, table):
    store(values, 0, square(load_complex(values, 0)))


@njit(error_model="numpy")
def _add_number(values, table):
    z = load_complex(values, 0)
    store_complex(values, 0, add_scaled(z, z, 0.25))


@njit(error_model="numpy")
def _add_lanes(values, table):
    z = load_complex(values, 0)
    store_complex(values, 0, add_scaled(z, z, load(values, 0)))


@njit(error_model="numpy")
def _add_parts(values, table):
    z = load_complex(values, 0)
    store_complex(values, 0, add_parts(z, z, table, 1))


@njit(error_model="numpy")
def _sum_and_difference(values, table):
    z = load_complex(values, 0)
    store_complex(values, 0, z + (z - rotate(z)))


OPERATIONS = {
    _turn: lambda z, table: z * (table[1] - 1j * table[2]),
    _rotate: lambda z, table: -1j * z,
    _conjugate: lambda z, table: z.conj(),
    _square: lambda z, table: np.abs(z) ** 2 + 1j * z.imag,
    _add_number: lambda z, table: 1.25 * z,
    _add_lanes: lambda z, table: z + z * z.real,
    _add_parts: lambda z, table: z + z.real * table[1] + 1j * z.imag * table[2],
    _sum_and_difference: lambda z, table: z + z + 1j * z,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_complex_operations(operation, dtype: str) -> None:
    values = np.random.default_rng(2).standard_normal(2 * LANES).astype(dtype)
    table = np.array([7.0, 0.6, 0.8], dtype)
    z = values[:LANES] + 1j * values[LANES:].astype(np.float64)
    expected = OPERATIONS[operation](z, table.astype(np.float64))
    operation(values, table)
    found = values[:LANES] + 1j * values[LANES:].astype(np.float64)
    assert np.abs(found - expected).max() <= 4 * EPS[dtype] * np.abs(expected).max()


@compiled_only
def test_what_makes_no_sense_is_no_code() -> None:
    @njit
    def mix(values, other):
        store_complex(values, 0, load_complex(values, 0) + load_complex(other, 0))

    with pytest.raises(TypingError, match=r"[Nn]o implementation|No match"):
        mix(np.zeros(32), np.zeros(32, np.float32))


@njit(error_model="numpy")
def _log2(values):
    for place in range(0, values.size, LANES):
        store(values, place, log2(load(values, place)))


@njit(error_model="numpy")
def _exp2(values):
    for place in range(0, values.size, LANES):
        store(values, place, exp2(load(values, place)))


def positive_numbers(dtype: str, count: int) -> np.ndarray:
    """Numbers of all sizes, and many near 1, where a logarithm is small."""
    rng = np.random.default_rng(4)
    low, high = np.log2(np.finfo(dtype).tiny), np.log2(np.finfo(dtype).max)
    wide = np.exp2(rng.uniform(low, high, count))
    near = 1 + rng.standard_normal(count) * np.exp2(rng.uniform(-24, -3, count))
    edges = [1.0, 2.0, 0.5, np.sqrt(0.5), np.sqrt(2.0), np.finfo(dtype).tiny]
    numbers = np.concatenate([edges, wide, near]).astype(dtype)
    return numbers[: numbers.size // LANES * LANES]


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithm(dtype: str) -> None:
    """2 units in the last place; near 1 too, relative to the logarithm itself."""
    values = positive_numbers(dtype, 200 if PLAIN else 100_000)
    expected = np.log2(values.astype(np.longdouble))
    _log2(values)
    assert (np.abs(values - expected) <= 2 * EPS[dtype] * np.abs(expected)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_times_its_logarithm_is_nothing(dtype: str) -> None:
    values = np.zeros(LANES, dtype)
    values[1] = np.finfo(dtype).smallest_subnormal
    before = values.copy()
    _log2(values)
    assert np.isfinite(values).all()
    assert (values < -100).all()
    assert values[0] * before[0] == 0.0


def test_power_of_two() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([[-0.5, 0.5, 0.0, -1022.0], rng.uniform(-1022, 1023, 1020)])
    expected = np.exp2(values.astype(np.longdouble))
    _exp2(values)
    assert (np.abs(values - expected) <= 4 * EPS["float64"] * expected).all()
    assert values[2] == 1.0


def test_all_names_are_there() -> None:
    for module in (butterflies, complex_lanes, lane_math):
        assert set(module.__all__) <= set(dir(module))
