"""What the channels of 16 windows have to do with each other: correlations, features of triads."""

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
    select,
    splat,
    square_root,
    store,
    widen,
)
from smoothdistill.features.kernels.tiles import is_any_wanted, put

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["TRIAD", "correlations", "triad_features"]

TRIAD = ("sma", "enmo", "mad_mag", "pitch", "roll", "angle_x", "angle_y", "angle_z")
"""Slots of the kernel of triads, in the order of its columns."""


@njit(error_model="numpy", nogil=True, cache=True)
def correlations(
    tile: Float[np.ndarray, " values"],
    window_samples: int,
    first: int,
    count: int,
    undefined: float,
    pairs: Int64[np.ndarray, "pairs 2"],
    columns: Int64[np.ndarray, " pairs"],
    summary: Float64[np.ndarray, " values"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Write Pearson's correlation of pairs of channels, which `moments` has summed up before."""
    for pair in range(pairs.shape[0]):
        if columns[pair] < 0:
            continue
        a, b = pairs[pair, 0], pairs[pair, 1]
        mean_a, mean_b = load(summary, 3 * a * LANES), load(summary, 3 * b * LANES)
        even, odd = splat(0.0), splat(0.0)
        place_a, place_b = a * window_samples * LANES, b * window_samples * LANES
        for time in range(0, (window_samples - 1) * LANES, 2 * LANES):
            first_a = widen(load(tile, place_a + time)) - mean_a
            first_b = widen(load(tile, place_b + time)) - mean_b
            even = fma(first_a, first_b, even)
            second_a = widen(load(tile, place_a + time + LANES)) - mean_a
            second_b = widen(load(tile, place_b + time + LANES)) - mean_b
            odd = fma(second_a, second_b, odd)
        if window_samples % 2:
            time = (window_samples - 1) * LANES
            last_a = widen(load(tile, place_a + time)) - mean_a
            last_b = widen(load(tile, place_b + time)) - mean_b
            even = fma(last_a, last_b, even)
        square_a = load(summary, (3 * a + 1) * LANES)
        square_b = load(summary, (3 * b + 1) * LANES)
        poison = load(summary, (3 * a + 2) * LANES) + load(summary, (3 * b + 2) * LANES)
        is_varied = (square_a > 0.0) & (square_b > 0.0)
        correlation = (even + odd) / (square_root(square_a) * square_root(square_b))
        put(
            out,
            columns[pair],
            first,
            count,
            select(is_varied, correlation, splat(undefined)) + poison,
        )


@njit(error_model="numpy", nogil=True, cache=True)
def triad_features(
    tile: Float[np.ndarray, " values"],
    triad: int,
    axes: Int64[np.ndarray, " 3"],
    num_channels: int,
    window_samples: int,
    first: int,
    count: int,
    gravity: float,
    columns: Int64[np.ndarray, " slots"],
    summary: Float64[np.ndarray, " values"],
    angles: Float64[np.ndarray, "5 lanes"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Write the features of a triad of axes and of its norm; `angles` is scratch."""
    length = window_samples * LANES
    x, y, z = axes[0] * length, axes[1] * length, axes[2] * length
    poison = splat(0.0)
    for axis in axes:
        poison = poison + load(summary, (3 * axis + 2) * LANES)
    if columns[0] >= 0:
        even, odd = splat(0.0), splat(0.0)
        for time in range(0, length, LANES):
            even = even + (
                widen(absolute(load(tile, x + time))) + widen(absolute(load(tile, y + time)))
            )
            odd = odd + widen(absolute(load(tile, z + time)))
        put(out, columns[0], first, count, (even + odd) / window_samples + poison)
    norm = (num_channels + triad) * length
    if columns[1] >= 0:
        excess, zero = splat(0.0), splat(0.0)
        for time in range(norm, norm + length, LANES):
            excess = excess + maximum(widen(load(tile, time)) - gravity, zero)
        put(out, columns[1], first, count, excess / window_samples + poison)
    if columns[2] >= 0:
        mean = load(summary, 3 * (num_channels + triad) * LANES)
        deviation = splat(0.0)
        for time in range(norm, norm + length, LANES):
            deviation = deviation + absolute(widen(load(tile, time)) - mean)
        put(out, columns[2], first, count, deviation / window_samples + poison)
    if is_any_wanted(columns, 3, 8):
        for axis in range(3):
            store(angles[axis], 0, load(summary, 3 * axes[axis] * LANES))
        for lane in range(LANES):
            a, b, c = angles[0, lane], angles[1, lane], angles[2, lane]
            length_yz = np.sqrt(b * b + c * c)
            angles[0, lane] = np.arctan2(-a, length_yz)
            angles[1, lane] = np.arctan2(b, c)
            # arctan2 and not arccos, which loses half of the digits near 0 and pi
            angles[2, lane] = np.arctan2(length_yz, a)
            angles[3, lane] = np.arctan2(np.sqrt(a * a + c * c), b)
            angles[4, lane] = np.arctan2(np.sqrt(a * a + b * b), c)
        for slot in range(5):
            put(out, columns[3 + slot], first, count, load(angles[slot], 0) + poison)
