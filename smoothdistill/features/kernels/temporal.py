"""How the samples of 16 windows follow each other: differences, Hjorth, Burg, histogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import (
    LANES,
    absolute,
    fma,
    load,
    maximum,
    minimum,
    select,
    splat,
    square_root,
    store,
    widen,
)
from smoothdistill.features.kernels.tiles import (
    aligned_empty,
    is_any_wanted,
    load_tile,
    put,
    tile_targets,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["TEMPORAL", "temporal_engine"]

TEMPORAL = (
    "mean_abs_diff",
    "wave_length",
    "n_turning",
    "hjorth_mobility",
    "hjorth_complexity",
    "hist_entropy",
    "ar1",
    "ar2",
    "ar3",
    "ar4",
)
"""Slots of the engine, in the order of its columns; behind them autocorrelations at the lags."""

NUM_BINS = 10
AR_ORDER = 4


@njit(error_model="numpy", nogil=True, cache=True)
def temporal_engine(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    window_samples: int,
    num_channels: int,
    is_interleaved: bool,
    triads: Int64[np.ndarray, "triads 3"],
    undefined: float,
    lags: Int64[np.ndarray, " lags"],
    columns: Int64[np.ndarray, "channels slots"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Fill the columns of all windows; the arguments are those of `statistics_engine`."""
    num_signals = num_channels + triads.shape[0]
    targets = tile_targets(window_samples, num_channels, is_interleaved)
    tile = aligned_empty(num_signals * window_samples * LANES, flat)
    places = np.empty(LANES, np.int64)
    double = np.empty(0, np.float64)
    forward = aligned_empty(window_samples * LANES, double)
    backward = aligned_empty(window_samples * LANES, double)
    for first in range(0, offsets.size, LANES):
        count = load_tile(
            flat, offsets, first, targets, window_samples, num_channels, triads, places, tile
        )
        for channel in range(num_signals):
            if is_any_wanted(columns[channel], 0, columns.shape[1]):
                _temporal(
                    tile,
                    channel,
                    window_samples,
                    first,
                    count,
                    undefined,
                    lags,
                    columns[channel],
                    forward,
                    backward,
                    out,
                )


@njit(error_model="numpy", nogil=True, cache=True)
def _temporal(
    tile: Float[np.ndarray, " values"],
    channel: int,
    window_samples: int,
    first: int,
    count: int,
    undefined: float,
    lags: Int64[np.ndarray, " lags"],
    columns: Int64[np.ndarray, " slots"],
    forward: Float64[np.ndarray, " values"],
    backward: Float64[np.ndarray, " values"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Write the features of a channel of the tile; `forward` and `backward` are scratch."""
    base = channel * window_samples * LANES
    anchor = widen(load(tile, base))
    total = splat(0.0)
    for time in range(0, window_samples * LANES, LANES):
        total = total + (widen(load(tile, base + time)) - anchor)
    poison = total * 0.0
    mean = anchor + total / window_samples
    m2 = splat(0.0)
    nothing = splat(undefined) + poison
    for time in range(0, window_samples * LANES, LANES):
        centred = widen(load(tile, base + time)) - mean
        m2 = fma(centred, centred, m2)
        store(forward, time, centred)
    is_varied = m2 > 0.0  # false for NaN
    if is_any_wanted(columns, 0, 3):
        _differences(forward, window_samples, first, count, poison, nothing, columns, out)
    if is_any_wanted(columns, 3, 5):
        _hjorth(forward, window_samples, first, count, m2, nothing, columns, out)
    if columns[5] >= 0:
        entropy = _histogram_entropy(tile, base, anchor, window_samples, backward)
        put(out, columns[5], first, count, entropy + poison)
    for number in range(lags.size):
        column = columns[6 + AR_ORDER + number]
        if column >= 0:
            lagged = splat(0.0)
            start = lags[number] * LANES
            for time in range(start, window_samples * LANES, LANES):
                lagged = fma(load(forward, time), load(forward, time - start), lagged)
            if lags[number] >= window_samples:
                put(out, column, first, count, nothing)
            else:
                put(out, column, first, count, select(is_varied, lagged / m2, nothing))
    if is_any_wanted(columns, 6, 6 + AR_ORDER):  # last: it works in the place of the samples
        reflections = columns[6 : 6 + AR_ORDER]
        _burg(forward, backward, window_samples, first, count, is_varied, nothing, reflections, out)


@njit(error_model="numpy", nogil=True, cache=True)
def _differences(samples, window_samples, first, count, poison, nothing, columns, out):  # type: ignore[no-untyped-def]
    length, turns = splat(0.0), splat(0.0)
    before = splat(0.0)
    for time in range(LANES, window_samples * LANES, LANES):
        step = load(samples, time) - load(samples, time - LANES)
        length = length + absolute(step)
        turns = turns + select(step * before < 0.0, splat(1.0), splat(0.0))
        before = step
    if window_samples > 1:
        put(out, columns[0], first, count, length / (window_samples - 1.0) + poison)
    else:
        put(out, columns[0], first, count, nothing)
    put(out, columns[1], first, count, length + poison)
    put(out, columns[2], first, count, turns + poison)


@njit(error_model="numpy", nogil=True, cache=True)
def _hjorth(samples, window_samples, first, count, m2, nothing, columns, out):  # type: ignore[no-untyped-def]
    """Square roots of ratios of the variances of signal, first and second difference."""
    end = window_samples * LANES
    if window_samples < 3:
        put(out, columns[3], first, count, nothing)
        put(out, columns[4], first, count, nothing)
        return
    # The mean of the differences is known beforehand: they telescope.
    last_step = load(samples, end - LANES) - load(samples, end - 2 * LANES)
    first_step = load(samples, LANES) - load(samples, 0)
    mean_step = (load(samples, end - LANES) - load(samples, 0)) / (window_samples - 1.0)
    mean_turn = (last_step - first_step) / (window_samples - 2.0)
    steps = (first_step - mean_step) * (first_step - mean_step)
    turns = splat(0.0)
    before = first_step
    for time in range(2 * LANES, end, LANES):
        step = load(samples, time) - load(samples, time - LANES)
        deviation = step - mean_step
        steps = fma(deviation, deviation, steps)
        turn = step - before - mean_turn
        turns = fma(turn, turn, turns)
        before = step
    variance = m2 / (1.0 * window_samples)
    step_variance = steps / (window_samples - 1.0)
    turn_variance = turns / (window_samples - 2.0)
    mobility = square_root(step_variance / variance)
    is_moving = (m2 > 0.0) & (steps > 0.0)
    complexity = square_root(turn_variance / step_variance) / mobility
    put(out, columns[3], first, count, select(m2 > 0.0, mobility, nothing))
    put(out, columns[4], first, count, select(is_moving, complexity, nothing))


@njit(error_model="numpy", nogil=True, cache=True)
def _histogram_entropy(tile, base, anchor, window_samples, tenfold):  # type: ignore[no-untyped-def]
    """Shannon entropy, in bits, of 10 bins of equal width from the least to the greatest sample.

    Ten times the distance to the first sample is held against whole multiples of the extremes:
    nothing is rounded of counts, which often lie on an edge. `tenfold` is scratch.
    """
    end = window_samples * LANES
    least = greatest = load(tile, base)
    for time in range(0, end, LANES):
        sample = load(tile, base + time)
        least = minimum(sample, least)
        greatest = maximum(sample, greatest)
        store(tenfold, time, (widen(sample) - anchor) * (1.0 * NUM_BINS))
    low, high = widen(least) - anchor, widen(greatest) - anchor
    entropy = splat(0.0)
    above = splat(1.0 * window_samples)  # samples from the bin's lower edge on
    shares = np.empty(LANES, np.float64)
    for number in range(1, NUM_BINS + 1):
        edge = low * (1.0 * (NUM_BINS - number)) + high * (1.0 * number)
        beyond = splat(0.0)
        if number < NUM_BINS:  # the last bin holds its upper edge
            for time in range(0, end, LANES):
                is_beyond = load(tenfold, time) >= edge
                beyond = beyond + select(is_beyond, splat(1.0), splat(0.0))
        store(shares, 0, (above - beyond) / (1.0 * window_samples))
        for lane in range(LANES):
            share = shares[lane]
            shares[lane] = -share * np.log2(share) if share > 0.0 else 0.0
        entropy = entropy + load(shares, 0)
        above = beyond
    # Samples that are all alike make one bin of no width: no entropy.
    return select(high > low, entropy, splat(0.0))


@njit(error_model="numpy", nogil=True, cache=True)
def _burg(forward, backward, window_samples, first, count, is_defined, nothing, columns, out):  # type: ignore[no-untyped-def]
    """Autoregression by Burg's method: each order adds the best reflection of both errors.

    Source: J. P. Burg, Maximum entropy spectral analysis, 1975; x[t] = sum of ar{k} * x[t - k].
    """
    end = window_samples * LANES
    zero = splat(0.0)
    a1, a2, a3, a4 = zero, zero, zero, zero
    for time in range(0, end, LANES):
        store(backward, time, load(forward, time))
    for degree in range(1, AR_ORDER + 1):
        product, power = splat(0.0), splat(0.0)
        for time in range(degree * LANES, end, LANES):
            ahead, behind = load(forward, time), load(backward, time - LANES)
            product = fma(ahead, behind, product)
            power = fma(ahead, ahead, fma(behind, behind, power))
        reflection = select(power > 0.0, product * 2.0 / power, zero)
        for time in range(end - LANES, (degree - 1) * LANES, -LANES):
            ahead, behind = load(forward, time), load(backward, time - LANES)
            store(forward, time, ahead - reflection * behind)
            store(backward, time, behind - reflection * ahead)
        if degree == 1:
            a1 = reflection
        elif degree == 2:
            a1, a2 = a1 - reflection * a1, reflection
        elif degree == 3:
            a1, a2, a3 = a1 - reflection * a2, a2 - reflection * a1, reflection
        else:
            a1, a2, a3, a4 = (
                a1 - reflection * a3,
                a2 - reflection * a2,
                a3 - reflection * a1,
                reflection,
            )
    if window_samples <= AR_ORDER:
        a1, a2, a3, a4 = nothing, nothing, nothing, nothing
    put(out, columns[0], first, count, select(is_defined, a1, nothing))
    put(out, columns[1], first, count, select(is_defined, a2, nothing))
    put(out, columns[2], first, count, select(is_defined, a3, nothing))
    put(out, columns[3], first, count, select(is_defined, a4, nothing))
