"""The Fourier transform of 16 real windows of any length, carried out step by step of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.butterflies import (
    half_bins_2,
    half_bins_4,
    join_bins_2,
    join_bins_3,
    join_bins_4,
    join_bins_5,
    join_bins_7,
    zero_bins_2,
    zero_bins_3,
    zero_bins_4,
    zero_bins_5,
    zero_bins_7,
)
from smoothdistill.features.kernels.complex_lanes import (
    add_scaled,
    conjugate,
    load_complex,
    rotate,
    store_complex,
    turn,
)
from smoothdistill.features.kernels.fourier_plan import GATHER, JOIN, JOIN_RARE, MULTIPLY, PAIR
from smoothdistill.features.kernels.lanes import LANES, broadcast, fma, load, store

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = ["transform"]

# NOTE [Half spectra]
# A recording is real, so the upper half of every spectrum mirrors the lower one. All stages keep
# bins 0 to length // 2 of each part, as rows of 16 lanes: bin 0 (which is real), then real and
# imaginary part of bin 1, of bin 2, ..., and for an even length the middle one, which is real
# again: as many rows as samples. A stage joins `radix` spectra of parts whose samples alternate, at
# first single samples, into one: bin q of each, turned by the twiddles, gives the bins
# q + r * length, and those above the middle are written as conjugates where they mirror. Thus a
# window costs half a complex transform, and no other window is mixed into it, as packing two real
# windows into a complex one would do: there a NaN, or the rounding errors of a large neighbour,
# would cross over.


@njit(error_model="numpy", nogil=True, cache=True)
def transform(
    program: Int64[np.ndarray, "steps 8"],
    twiddles: Float[np.ndarray, " numbers"],
    rows: Int64[np.ndarray, " rows"] | None,
    values: Float[np.ndarray, " values"],
    base: int,
) -> None:
    """Work off a plan on samples [time][lanes] that begin at `base`; the spectra are where it says.

    Where `rows` is None, all factors of the length are 2, 3 and 5. Numba then drops the branch for
    the others, which would take longer to compile than all the rest.
    """
    for step in range(program.shape[0]):
        source, target = base + program[step, 1], base + program[step, 2]
        radix, length, num_parts = program[step, 3], program[step, 4], program[step, 5]
        if program[step, 0] == JOIN:
            across = num_parts * length * LANES
            hop = length * PAIR
            stride = 2 * (radix - 1)
            for part in range(num_parts):
                row = source + part * length * LANES
                out = target + part * radix * length * LANES
                if radix == 2:
                    zero_bins_2(values, row, across, out, hop)
                elif radix == 3:
                    zero_bins_3(values, row, across, out, hop)
                elif radix == 4:
                    zero_bins_4(values, row, across, out, hop)
                else:
                    zero_bins_5(values, row, across, out, hop)
                if length == 1:
                    continue
                row += LANES
                up, down = out + LANES, out - PAIR - LANES
                place = program[step, 6]
                for w in range(place, place + (length - 1) // 2 * stride, stride):
                    if radix == 2:
                        join_bins_2(values, row, across, twiddles, w, up, down, hop)
                    elif radix == 3:
                        join_bins_3(values, row, across, twiddles, w, up, down, hop)
                    elif radix == 4:
                        join_bins_4(values, row, across, twiddles, w, up, down, hop)
                    else:
                        join_bins_5(values, row, across, twiddles, w, up, down, hop)
                    row += PAIR
                    up += PAIR
                    down -= PAIR
                if length % 2 == 0:  # never with an odd radix: those come first
                    if radix == 2:
                        half_bins_2(values, row, across, up, hop)
                    else:
                        half_bins_4(values, row, across, up, hop)
        elif rows is not None:
            _rare_step(program[step], twiddles, rows, values, base)


@njit(error_model="numpy", nogil=True, cache=True)
def _rare_step(
    step: Int64[np.ndarray, " 8"],
    twiddles: Float[np.ndarray, " numbers"],
    rows: Int64[np.ndarray, " rows"],
    values: Float[np.ndarray, " values"],
    base: int,
) -> None:
    """What lengths with other factors than 2, 3 and 5 need."""
    kind, source, target, radix = step[0], base + step[1], base + step[2], step[3]
    length, num_parts, place, extra = step[4], step[5], step[6], base + step[7]
    if kind == JOIN_RARE:
        _join_rare(values, source, target, num_parts, twiddles, place, length, radix, extra)
    elif kind == GATHER:
        _gather(values, source, target, num_parts, rows, place, length, radix)
    elif kind == MULTIPLY:
        _multiply(values, source, target, twiddles, place, radix, extra)
    else:
        _scatter(values, source, target, rows, place, length, radix, extra)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _join_rare(
    values: Float[np.ndarray, " values"],
    source: int,
    target: int,
    num_parts: int,
    twiddles: Float[np.ndarray, " numbers"],
    place: int,
    length: int,
    radix: int,
    folded: int,
) -> None:
    """Join 7 spectra, or any odd number by the definition."""
    step = num_parts * length * LANES
    hop = length * PAIR
    half = radix // 2
    stride = 2 * (radix - 1)
    for part in range(num_parts):
        row = source + part * length * LANES
        out = target + part * radix * length * LANES
        if radix == 7:
            w = place
            zero_bins_7(values, row, step, out, hop)
        else:
            w = place + 2 * half * half
            _zero_rare(values, row, step, out, hop, twiddles, place, half, folded)
        row += LANES
        up, down = out + LANES, out - PAIR - LANES
        for _ in range((length - 1) // 2):
            if radix == 7:
                join_bins_7(values, row, step, twiddles, w, up, down, hop)
            else:
                _bins_rare(values, row, step, up, down, hop, twiddles, w, place, half, folded)
            w += stride
            row += PAIR
            up += PAIR
            down -= PAIR


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _zero_rare(
    values: Float[np.ndarray, " values"],
    source: int,
    step: int,
    target: int,
    hop: int,
    twiddles: Float[np.ndarray, " numbers"],
    table: int,
    half: int,
    folded: int,
) -> None:
    """Join bin 0 of 2 * half + 1 spectra, inputs t and radix - t folded first."""
    x0 = load(values, source)
    total = x0
    for t in range(half):
        early = load(values, source + (t + 1) * step)
        late = load(values, source + (2 * half - t) * step)
        total = total + (early + late)
        store(values, folded + t * PAIR, early + late)
        store(values, folded + t * PAIR + LANES, late - early)
    store(values, target, total)
    for r in range(1, half + 1):
        re, im = x0, x0 * 0.0
        for t in range(half):
            cosine, sine = broadcast(twiddles, table), broadcast(twiddles, table + 1)
            re = fma(load(values, folded + t * PAIR), cosine, re)
            im = fma(load(values, folded + t * PAIR + LANES), sine, im)
            table += 2
        store(values, target + r * hop - LANES, re)
        store(values, target + r * hop, im)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _bins_rare(
    values: Float[np.ndarray, " values"],
    source: int,
    step: int,
    above: int,
    below: int,
    hop: int,
    twiddles: Float[np.ndarray, " numbers"],
    place: int,
    table: int,
    half: int,
    folded: int,
) -> None:
    """Join a bin of 2 * half + 1 spectra, inputs t and radix - t folded first."""
    x0 = load_complex(values, source)
    total = x0
    for t in range(half):
        mirror = 2 * half - 1 - t
        early = turn(load_complex(values, source + (t + 1) * step), twiddles, place + 2 * t)
        late = load_complex(values, source + (mirror + 1) * step)
        late = turn(late, twiddles, place + 2 * mirror)
        total = total + (early + late)
        store_complex(values, folded + 2 * t * PAIR, early + late)
        store_complex(values, folded + (2 * t + 1) * PAIR, rotate(early - late))
    store_complex(values, above, total)
    for r in range(1, half + 1):
        m, n = x0, x0 - x0
        for t in range(half):
            cosine, sine = broadcast(twiddles, table), broadcast(twiddles, table + 1)
            m = add_scaled(m, load_complex(values, folded + 2 * t * PAIR), cosine)
            n = add_scaled(n, load_complex(values, folded + (2 * t + 1) * PAIR), sine)
            table += 2
        store_complex(values, above + r * hop, m + n)
        store_complex(values, below + r * hop, conjugate(m - n))


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _gather(
    values: Float[np.ndarray, " values"],
    source: int,
    target: int,
    num_parts: int,
    rows: Int64[np.ndarray, " rows"],
    place: int,
    cycle: int,
    length: int,
) -> None:
    """Samples of a part in the order of Rader's convolution, and zeros behind."""
    for i in range(cycle):
        row = source + rows[place + i] * num_parts * LANES
        store(values, target + i * LANES, load(values, row))
    for i in range(cycle, length):
        store(values, target + i * LANES, load(values, source) * 0.0)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _multiply(
    values: Float[np.ndarray, " values"],
    source: int,
    target: int,
    twiddles: Float[np.ndarray, " numbers"],
    place: int,
    length: int,
    out: int,
) -> None:
    """The spectrum times the kernel's, real minus imaginary part; the sum of all goes to `out`."""
    store(values, out, load(values, source))
    store(values, target, load(values, source) * broadcast(twiddles, place))
    middle = (length - 1) * LANES  # the length is even
    last = load(values, source + middle) * broadcast(twiddles, place + length)
    store(values, target + length // 2 * LANES, last)
    for k in range(1, length // 2):
        at = source + k * PAIR - LANES
        re, im = load(values, at), load(values, at + LANES)
        kernel_re = broadcast(twiddles, place + 2 * k)
        kernel_im = broadcast(twiddles, place + 2 * k + 1)
        product_re = fma(-im, kernel_im, re * kernel_re)
        product_im = fma(re, kernel_im, im * kernel_re)
        store(values, target + k * LANES, product_re - product_im)
        store(values, target + (length - k) * LANES, product_re + product_im)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _scatter(
    values: Float[np.ndarray, " values"],
    source: int,
    target: int,
    rows: Int64[np.ndarray, " rows"],
    place: int,
    cycle: int,
    length: int,
    zeroth: int,
) -> None:
    """Bins of a part from Rader's convolution, whose samples are sums of both parts of bins."""
    x0 = load(values, zeroth)
    store(values, target, x0 + load(values, target))
    half = cycle // 2
    for i in range(half):
        first = load(values, source)
        if i > 0:
            at = source + i * PAIR - LANES
            first = load(values, at) - load(values, at + LANES)
        # Sample i + half lies above the middle where nothing was padded, and mirrors then.
        k, sign = i + half, -1.0
        if 2 * k > length:
            k, sign = length - k, 1.0
        at = source + k * PAIR - LANES
        second = load(values, at)
        if 2 * k < length:
            second = second + load(values, at + LANES) * sign
        bin_im = (first - second) * 0.5
        number = rows[place + i]
        if number < 0:
            number, bin_im = -number, -bin_im
        out = target + number * PAIR - LANES
        store(values, out, x0 + (first + second) * 0.5)
        store(values, out + LANES, bin_im)
