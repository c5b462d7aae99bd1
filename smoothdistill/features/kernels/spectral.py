"""Spectral features of 16 windows at once: power, peak, centre, width, entropy, bands."""

from __future__ import annotations

from functools import lru_cache
from math import log2 as log2_of
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.complex_lanes import load_complex, square
from smoothdistill.features.kernels.fourier import transform
from smoothdistill.features.kernels.fourier_plan import plan_transform
from smoothdistill.features.kernels.lane_math import exp2, log2
from smoothdistill.features.kernels.lanes import (
    LANES,
    fma,
    load,
    minimum,
    select,
    splat,
    square_root,
    store,
    widen,
)
from smoothdistill.features.kernels.tiles import (
    is_any_wanted,
    load_tile,
    put,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["SPECTRAL", "spectral_engine"]

SPECTRAL = (
    "power",
    "dom_freq",
    "dom_power",
    "dom_ratio",
    "centroid",
    "spread",
    "spec_skew",
    "spec_kurt",
    "median_freq",
    "spec_entropy",
    "spec_flatness",
    "max_index",
)
"""Slots of the engine, in the order of its columns.

Behind them come a slot for each roll-off, for the power in each band, and for each band's share.
"""

POWER, DOM_FREQ, DOM_POWER, DOM_RATIO, CENTROID, SPREAD, SKEW, KURT = range(8)
MEDIAN_FREQ, ENTROPY, FLATNESS, MAX_INDEX, NUM_SLOTS = range(8, 13)
PAIR = 2 * LANES
SMALLEST = float(np.finfo(np.float32).tiny)

# NOTE [What float32 keeps]
# The mean is subtracted before the transform, so gravity costs no digits; the transform then has
# the samples' own dtype. Its errors are alike in all bins, 6e-7 of their root mean square for
# float32: sums of powers, frequencies and entropy come out to 1e-6, and a bin or a band that holds
# a share s of the power to 1e-6 / sqrt(s). Float64 would take twice as long. Only the features that
# hang on the weakest bins feel it: flatness, and skewness and kurtosis of a pure tone.


def spectral_engine(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    window_samples: int,
    num_channels: int,
    is_interleaved: bool,
    triads: Int64[np.ndarray, "triads 3"],
    sample_rate_hz: float,
    taper: Float64[np.ndarray, " time"],
    weight_by_magnitude: bool,
    rolloffs: Float64[np.ndarray, " rolloffs"],
    bands: Float64[np.ndarray, "bands 2"],
    undefined: float,
    columns: Int64[np.ndarray, "channels slots"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Fill the columns of all windows; a column of -1 was not asked for.

    `offsets` are the places in `flat` of each window's first value; a window's values are its
    samples channel by channel, or interleaved. Behind the channels come the norms of the triads.
    `undefined` is what a window without power gets for all but powers, and one with all its power
    in a single bin (but for what rounding spreads) for skewness and kurtosis. The transform has
    the dtype of `flat`.
    """
    num_signals = num_channels + triads.shape[0]
    num_bins = window_samples // 2 + 1
    plan = plan_transform(window_samples, flat.dtype.char)  # `name` takes microseconds
    # The signals are worked off from last to first: the places behind are scratch by then.
    num_values = (num_signals - 1) * window_samples * LANES + plan.scratch_values
    _fill_columns(
        flat,
        offsets,
        window_samples,
        num_channels,
        triads,
        float(sample_rate_hz) / window_samples,
        taper,
        bool(weight_by_magnitude),
        rolloffs,
        _edges(bands.tobytes(), window_samples, float(sample_rate_hz)),
        (4.0 * num_bins * float(np.finfo(flat.dtype).eps)) ** 2,
        float(undefined),
        columns,
        plan.program,
        plan.twiddles,
        plan.rows,
        plan.result,
        _targets(window_samples, num_channels, is_interleaved),
        np.empty(LANES, np.int64),
        np.empty(num_values + 64 // flat.itemsize, flat.dtype),
        np.empty(columns.shape[1] * LANES),
        out,
    )


@lru_cache(maxsize=64)
def _edges(
    bands: bytes, window_samples: int, sample_rate_hz: float
) -> Int64[np.ndarray, "bands 2"]:
    """First bins at or above the limits of the bands."""
    frequencies_hz = np.arange(window_samples // 2 + 1) * sample_rate_hz / window_samples
    edges = np.searchsorted(frequencies_hz, np.frombuffer(bands, np.float64))
    return edges.astype(np.int64).reshape(-1, 2)


@lru_cache(maxsize=64)
def _targets(
    window_samples: int, num_channels: int, is_interleaved: bool
) -> Int64[np.ndarray, " values"]:
    """As `tile_targets`, which has to be compiled."""
    channels, times = np.arange(num_channels), np.arange(window_samples)
    rows = channels * window_samples + times[:, None]
    return ((rows if is_interleaved else rows.T) * LANES).ravel()


@njit(error_model="numpy", nogil=True, cache=True)
def _fill_columns(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    window_samples: int,
    num_channels: int,
    triads: Int64[np.ndarray, "triads 3"],
    hop_hz: float,
    taper: Float64[np.ndarray, " time"],
    weight_by_magnitude: bool,
    rolloffs: Float64[np.ndarray, " rolloffs"],
    edges: Int64[np.ndarray, "bands 2"],
    line_variance: float,
    undefined: float,
    columns: Int64[np.ndarray, "channels slots"],
    program: Int64[np.ndarray, "steps 8"],
    twiddles: Float[np.ndarray, " numbers"],
    rows: Int64[np.ndarray, " rows"] | None,
    result: int,
    targets: Int64[np.ndarray, " values"],
    places: Int64[np.ndarray, " lanes"],
    memory: Float[np.ndarray, " values"],
    results: Float64[np.ndarray, " values"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """The work behind `spectral_engine`, with scratch allocated: np.empty takes time to compile."""
    tile = memory[(-memory.ctypes.data % 64) // memory.itemsize :]
    stride = window_samples * LANES
    is_tapered = False
    for time in range(window_samples):
        is_tapered |= taper[time] != 1.0
    for first in range(0, offsets.size, LANES):
        count = load_tile(
            flat, offsets, first, targets, window_samples, num_channels, triads, places, tile
        )
        for channel in range(columns.shape[0] - 1, -1, -1):
            wanted = columns[channel]
            if is_any_wanted(wanted, 0, wanted.size):
                base = channel * stride
                _centre(tile, base, window_samples, taper, is_tapered)
                transform(program, twiddles, rows, tile, base)
                _describe(
                    tile,
                    base + result,
                    window_samples,
                    is_tapered,
                    hop_hz,
                    weight_by_magnitude,
                    rolloffs,
                    edges,
                    line_variance,
                    undefined,
                    wanted,
                    results,
                )
                for slot in range(wanted.size):
                    if wanted[slot] >= 0:
                        put(out, wanted[slot], first, count, load(results, slot * LANES))


@njit(error_model="numpy", nogil=True, cache=True)
def _centre(
    tile: Float[np.ndarray, " values"],
    base: int,
    window_samples: int,
    taper: Float64[np.ndarray, " time"],
    is_tapered: bool,
) -> None:
    """Subtract the mean from a signal of the tile, and multiply with the taper.

    The mean is found relative to the first sample, and subtracted as two numbers whose sum is more
    accurate than one: a large first sample costs the others no digits, and 9.81 +- 0.002 none.
    """
    anchor = load(tile, base)
    even, odd = anchor - anchor, anchor - anchor
    stop = base + window_samples * LANES
    for place in range(base, stop - LANES, PAIR):
        even = even + (load(tile, place) - anchor)
        odd = odd + (load(tile, place + LANES) - anchor)
    if window_samples % 2:
        even = even + (load(tile, stop - LANES) - anchor)
    mean = (even + odd) * (1.0 / window_samples)
    high = anchor + mean
    low = mean - (high - anchor)
    for place in range(base, stop, LANES):
        store(tile, place, (load(tile, place) - high) - low)
    if is_tapered:
        for time in range(window_samples):
            place = base + time * LANES
            store(tile, place, load(tile, place) * float(taper[time]))


@njit(error_model="numpy", nogil=True, cache=True)
def _describe(
    values: Float[np.ndarray, " values"],
    place: int,
    window_samples: int,
    is_tapered: bool,
    hop_hz: float,
    weight_by_magnitude: bool,
    rolloffs: Float64[np.ndarray, " rolloffs"],
    edges: Int64[np.ndarray, "bands 2"],
    line_variance: float,
    undefined: float,
    columns: Int64[np.ndarray, " slots"],
    results: Float64[np.ndarray, " values"],
) -> None:
    """From the half spectrum at `place` to a vector in `results` for each slot that is wanted."""
    num_bins = window_samples // 2 + 1
    # Demeaned samples have nothing at 0 Hz but rounding errors.
    constant = load(values, place) * 0.0
    if is_tapered:
        constant = load(values, place) * load(values, place)
    store(values, place, constant)
    nil = constant * 0.0
    one = splat(values.dtype.type(1.0))
    if window_samples % 2 == 0:  # the middle is real; the row behind it is scratch
        store(values, place + window_samples * LANES, nil)
    number, peak = nil, nil
    best, above, moment = nil, nil, nil
    for k in range(1, num_bins):
        p = square(load_complex(values, place + k * PAIR - LANES))
        store(values, place + k * LANES, p)
        number = number + one
        above = above + p
        moment = fma(p, number, moment)
        is_best = p > best
        best = select(is_best, p, best)
        peak = select(is_best, number, peak)
    whole = above + constant
    total = widen(whole)
    poison = total * 0.0
    is_varied = (total > 0.0) & (poison == 0.0)
    share = splat(1.0) / total
    inverse = one / whole
    store(results, DOM_FREQ * LANES, widen(peak) * hop_hz)
    if columns[DOM_RATIO] >= 0:  # by division: a line that is alone is all
        store(results, DOM_RATIO * LANES, widen(best) / total)
    store(results, CENTROID * LANES, widen(moment) * share * hop_hz)
    store(results, MAX_INDEX * LANES, widen(peak))

    if weight_by_magnitude and columns[CENTROID] >= 0:
        amplitudes, number, weighted = square_root(constant), nil, nil
        for k in range(1, num_bins):
            amplitude = square_root(load(values, place + k * LANES))
            number = number + one
            amplitudes = amplitudes + amplitude
            weighted = fma(amplitude, number, weighted)
        store(results, CENTROID * LANES, widen(weighted) / widen(amplitudes) * hop_hz)

    if is_any_wanted(columns, SPREAD, KURT + 1):
        # in bins, around the centre as this dtype has it, which m1 then sets right
        # (by division, which is exact where all power is in the first or the middle bin)
        distance = -(moment / whole)
        m1 = constant * inverse * distance
        m2 = m1 * distance
        m3 = m2 * distance
        m4 = m3 * distance
        for k in range(1, num_bins):
            distance = distance + one
            first = load(values, place + k * LANES) * inverse * distance
            second = first * distance
            m1 = m1 + first
            m2 = m2 + second
            m3 = fma(second, distance, m3)
            m4 = fma(second, distance * distance, m4)
        offset, variance = widen(m1), widen(m2)
        third = widen(m3) - 3.0 * offset * variance
        fourth = widen(m4) - 4.0 * offset * widen(m3)
        precision = splat(1.0) / variance
        is_spread = variance > line_variance
        shapeless = splat(undefined) + poison
        skew = third * precision * square_root(precision)
        kurt = fourth * precision * precision
        store(results, SPREAD * LANES, square_root(variance) * hop_hz)
        store(results, SKEW * LANES, select(is_spread, skew, shapeless))
        store(results, KURT * LANES, select(is_spread, kurt, shapeless))

    if columns[ENTROPY] >= 0 or columns[FLATNESS] >= 0:
        p = constant * inverse
        information, logarithms, least = p * log2(p), nil, one
        for k in range(1, num_bins):
            p = load(values, place + k * LANES) * inverse
            logarithm = log2(p)
            information = fma(p, logarithm, information)
            logarithms = logarithms + logarithm
            least = minimum(p, least)
        entropy = widen(information) * (-1.0 / log2_of(num_bins + (num_bins == 1)))
        entropy = select(entropy > 0.0, entropy, splat(0.0))  # of one line: -0, or -1 unit
        store(results, ENTROPY * LANES, entropy)
        if columns[FLATNESS] >= 0:
            scale = 1.0 / (num_bins - 1 + (num_bins == 1))
            mean = exp2(widen(logarithms) * scale)
            mean = select(widen(least) > SMALLEST, mean, splat(0.0))
            store(results, FLATNESS * LANES, mean / (widen(above) * share * scale))

    for i in range(-1, rolloffs.size):
        slot, quantile = MEDIAN_FREQ, 0.5
        if i >= 0:
            slot, quantile = NUM_SLOTS + i, float(rolloffs[i])
        if columns[slot] >= 0:
            # The last bin that stays below is the one before; no bin is behind the last.
            threshold = whole * quantile
            reached, cumulated = nil, constant
            number = nil
            for k in range(1, num_bins):
                number = number + one
                reached = select(cumulated < threshold, number, reached)
                cumulated = cumulated + load(values, place + k * LANES)
            store(results, slot * LANES, widen(reached) * hop_hz)

    num_bands = edges.shape[0]
    first_band = NUM_SLOTS + rolloffs.size
    nothing = splat(undefined) + poison
    for slot in range(first_band):  # what a window without power does not have
        if columns[slot] >= 0:
            value = load(results, slot * LANES)
            store(results, slot * LANES, select(is_varied, value, nothing))
    store(results, POWER * LANES, total)
    store(results, DOM_POWER * LANES, widen(best) + poison)
    for band in range(num_bands):
        slot = first_band + band
        if columns[slot] >= 0 or columns[slot + num_bands] >= 0:
            energy = nil
            for k in range(edges[band, 0], edges[band, 1]):
                energy = energy + load(values, place + k * LANES)
            inside = widen(energy) + poison
            ratio = select(is_varied, inside * share, nothing)
            store(results, slot * LANES, inside)
            store(results, (slot + num_bands) * LANES, ratio)
