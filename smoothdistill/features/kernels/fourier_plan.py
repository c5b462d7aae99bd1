"""Plans of Fourier transforms: which steps with which twiddles a window's length takes."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smoothdistill.features.kernels.lanes import LANES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int64

__all__ = ["GATHER", "JOIN", "JOIN_RARE", "MULTIPLY", "SCATTER", "FourierPlan", "plan_transform"]

# NOTE [Program of a transform]
# A plan is a table of steps over one array of scratch, worked off by `fourier.transform`. Functions
# that call each other for the transforms inside a transform (see `write_prime`) would read better,
# but Numba compiles each level into the next again: 7 s in place of 1.

JOIN, JOIN_RARE, GATHER, MULTIPLY, SCATTER = range(5)
"""What a step does."""

# Primes above are transformed by two shorter transforms instead of by the definition, if they are
# the largest: 23 takes 484 multiplications by the definition, and about 900 in place of it.
MAX_DIRECT_PRIME = 23
PAIR = 2 * LANES


class FourierPlan(NamedTuple):
    """All that the transforms of one length and dtype need to know; see `plan_transform`."""

    program: Int64[np.ndarray, "steps 8"]
    twiddles: Float[np.ndarray, " numbers"]
    rows: Int64[np.ndarray, " rows"] | None
    result: int
    scratch_values: int


@lru_cache(maxsize=64)
def plan_transform(window_samples: int, dtype: str) -> FourierPlan:
    """Steps and twiddles of the transform of windows of one length.

    The twiddles are computed in float64, from angles up to a half turn, and rounded once.

    Args:
        window_samples: Length of a window, in samples, at least 1.
        dtype: Float32 or float64, of the samples and of all arithmetic; any name of it.

    Returns:
        The plan: `program`, `twiddles` and `rows` for `transform`; the scratch that it needs, in
        values, of which the first `window_samples * 16` hold the samples; and where in it the half
        spectrum lies afterwards (see NOTE [Half spectra]).

    Source:
        C. Van Loan, Computational Frameworks for the Fast Fourier Transform, SIAM 1992, sections
        1.7 (Stockham) and 4.3 (real data). C. M. Rader, Discrete Fourier transforms when the number
        of data samples is prime, Proc. IEEE 56, 1968. R. N. Bracewell, The discrete Hartley
        transform, J. Opt. Soc. Am. 73, 1983.
    """
    writer = _PlanWriter()
    radices = _radices(window_samples)
    # one row more, for what takes a middle bin for a complex one
    ends = writer.reserve(window_samples), writer.reserve(window_samples + 1)
    if max(radices, default=1) > MAX_DIRECT_PRIME:
        writer.write_prime(radices[0], window_samples // radices[0], *ends)
        result = writer.write_stages(window_samples, radices, *ends[::-1], first_stage=1)
    else:
        result = writer.write_stages(window_samples, radices, *ends)
    return FourierPlan(
        np.array(writer.steps, np.int64).reshape(-1, 8),
        np.concatenate([*writer.tables.values(), [0.0]]).astype(dtype),
        writer.rows if any(step[0] != JOIN for step in writer.steps) else None,
        result,
        writer.num_values,
    )


class _PlanWriter:
    """Collects the steps, the twiddles, and the scratch of a plan."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, ...]] = []
        self.tables: dict[tuple[int, ...], Float[np.ndarray, " numbers"]] = {}
        self.rows = np.empty(0, np.int64)
        self.num_values = 0

    def reserve(self, num_rows: int) -> int:
        """Place of so many rows of scratch."""
        place = self.num_values
        self.num_values += num_rows * LANES
        return place

    def add_rows(self, rows: Int64[np.ndarray, " rows"]) -> int:
        """Place of row numbers behind those that are there."""
        place = self.rows.size
        self.rows = np.concatenate([self.rows, rows])
        return place

    def write_stages(
        self,
        num_samples: int,
        radices: Sequence[int],
        source: int,
        target: int,
        *,
        first_stage: int = 0,
    ) -> int:
        """Add the stages from one on, back and forth between two buffers; return where they end."""
        length = prod(radices[:first_stage])
        for radix in radices[first_stage:]:
            num_parts = num_samples // (length * radix)
            place, folded = self._twiddles(radix, length), 0
            if radix > 7:
                folded = self.reserve(2 * radix)
            kind = JOIN if radix <= 5 else JOIN_RARE
            self.steps.append((kind, source, target, radix, length, num_parts, place, folded))
            length *= radix
            source, target = target, source
        return source

    def _twiddles(self, radix: int, length: int) -> int:
        """Where cosine and sine stand for all bins but the real ones.

        For a radix that goes by the definition, those of result by result and input by input come
        before.
        """
        q = np.arange(1, (length + 1) // 2)[:, None]
        table = _turns(q * np.arange(1, radix), length * radix)
        if radix > 7:
            t = np.arange(1, radix // 2 + 1)
            table = np.concatenate([_turns(t[:, None] * t, radix).ravel(), table.ravel()])
        return self._add_table((radix, length), table)

    def _add_table(self, key: tuple[int, ...], table: Float[np.ndarray, ...]) -> int:
        if key not in self.tables:
            self.tables[key] = table.ravel()
        before = list(self.tables)[: list(self.tables).index(key)]
        return sum(self.tables[other].size for other in before)

    def write_prime(self, prime: int, num_parts: int, source: int, target: int) -> None:
        """Add a first stage whose radix is a large prime: Rader's convolution, part by part.

        Bin g**-q is the zeroth sample plus sum_t x[g**t] * w**(g**(t - q)), a cyclic convolution of
        length prime - 1. Its kernel h = Re w + Im w is real, and so is the result s; as
        g**((prime - 1) / 2) is -1, the cosines repeat after half a cycle and the sines change their
        sign, so that half of s[q] + s[q + half] is the real part, and half of their difference
        the imaginary one.

        The inverse transform is a forward one: a real sequence whose spectrum is Y has the samples
        sum_k (Re Y - Im Y) cas(2 pi k n / length), and such a sum of cas = cos + sin is the real
        part minus the imaginary part of the spectrum of Re Y - Im Y.
        """
        cycle = prime - 1
        powers = np.array(_powers(_primitive_root(prime), prime))
        inverses = np.concatenate([powers[:1], powers[:0:-1]])
        cosines_and_sines = _turns(inverses, prime)
        kernel = cosines_and_sines[:, 0] - cosines_and_sines[:, 1]
        length = cycle
        if max(_radices(cycle)) > 7:  # then a linear convolution, of a good length
            length = next(n for n in range(2 * cycle, 4 * cycle, 4) if max(_radices(n)) <= 5)
            gap = np.zeros(length - 2 * cycle + 1)
            kernel = np.concatenate([kernel, gap, kernel[1:]])
        spectrum = np.fft.rfft(kernel) / length
        pairs = np.stack([spectrum.real, spectrum.imag], axis=-1)
        place = self._add_table((prime,), pairs)
        radices = _radices(length)
        ends = self.reserve(length), self.reserve(length)

        # Where a sample comes from; where a bin goes, negative if as a conjugate where it mirrors.
        bins = inverses[: cycle // 2]
        gathered = self.add_rows(powers)
        scattered = self.add_rows(np.where(2 * bins > prime, bins - prime, bins))
        for part in range(num_parts):
            zeroth, out = source + part * LANES, target + part * prime * LANES
            self.steps.append((GATHER, zeroth, ends[0], length, cycle, num_parts, gathered, 0))
            middle = self.write_stages(length, radices, *ends)
            other = ends[0] if middle == ends[1] else ends[1]
            self.steps.append((MULTIPLY, middle, other, length, 0, 0, place, out))
            last = self.write_stages(length, radices, other, middle)
            self.steps.append((SCATTER, last, out, length, cycle, 0, scattered, zeroth))


def _radices(num_samples: int) -> list[int]:
    """Prime factors, the largest first, where two 2 are one 4 and a single 2 comes last.

    The first stage, which has real samples, is the cheap place for a large prime. With the even
    ones last, no odd radix ever meets spectra of an even length and their real bin in the middle.
    """
    odd, rest, prime = [], num_samples, 3
    twos = (rest & -rest).bit_length() - 1
    rest >>= twos
    while rest > 1:
        if prime * prime > rest:
            prime = rest
        while rest % prime == 0:
            odd.append(prime)
            rest //= prime
        prime += 2
    return [*sorted(odd, reverse=True), *[4] * (twos // 2), *[2] * (twos % 2)]


def _turns(numerators: Int64[np.ndarray, ...], denominator: int) -> Float[np.ndarray, "... 2"]:
    """Cosine and sine of 2 pi numerator / denominator."""
    nearest = numerators % denominator
    nearest = np.where(2 * nearest > denominator, nearest - denominator, nearest)
    angles = 2 * np.pi * nearest / denominator
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _powers(root: int, prime: int) -> list[int]:
    powers = [1]
    while len(powers) < prime - 1:
        powers.append(powers[-1] * root % prime)
    return powers


def _primitive_root(prime: int) -> int:
    """Least number whose powers are all of 1 to prime - 1."""
    divisors = [divisor for divisor in range(1, prime - 1) if (prime - 1) % divisor == 0]
    return next(root for root in range(2, prime) if all(pow(root, n, prime) != 1 for n in divisors))
