"""The engine of moments, order statistics and features across channels: one load for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.cross_channel import correlations, triad_features
from smoothdistill.features.kernels.lanes import LANES
from smoothdistill.features.kernels.moments import moments
from smoothdistill.features.kernels.order import order, sorting_size
from smoothdistill.features.kernels.tiles import (
    aligned_empty,
    is_any_wanted,
    load_tile,
    tile_targets,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

__all__ = ["statistics_engine"]


@njit(error_model="numpy", nogil=True, cache=True)
def statistics_engine(
    flat: Float[np.ndarray, " values"],
    offsets: Int64[np.ndarray, " windows"],
    window_samples: int,
    num_channels: int,
    is_interleaved: bool,
    triads: Int64[np.ndarray, "triads 3"],
    num_norms: int,
    slope_rate_hz: float,
    ddof: int,
    gravity: float,
    undefined: float,
    quantiles: Float64[np.ndarray, " quantiles"],
    moment_columns: Int64[np.ndarray, "channels slots"],
    order_columns: Int64[np.ndarray, "channels slots"],
    pairs: Int64[np.ndarray, "pairs 2"],
    pair_columns: Int64[np.ndarray, " pairs"],
    triad_columns: Int64[np.ndarray, "triads slots"],
    out: Float[np.ndarray, "columns windows"],
) -> None:
    """Fill the columns of all windows; a column of -1 was not asked for.

    `offsets` are the places in `flat` of each window's first value; a window's values are its
    samples channel by channel, or interleaved. Behind the channels come the norms of the first
    `num_norms` triads: a triad of which only the sum of magnitudes is wanted needs none.
    """
    norms = triads[:num_norms]
    num_signals = num_channels + num_norms
    targets = tile_targets(window_samples, num_channels, is_interleaved)
    tile = aligned_empty(num_signals * window_samples * LANES, flat)
    places = np.empty(LANES, np.int64)
    double = np.empty(0, np.float64)
    summary = aligned_empty(3 * num_signals * LANES, double)
    values = aligned_empty(sorting_size(window_samples) * LANES, flat)
    angles = np.empty((5, LANES), np.float64)
    times = np.empty(window_samples, np.float64)
    for time in range(window_samples):
        times[time] = time - 0.5 * (window_samples - 1)
    for first in range(0, offsets.size, LANES):
        count = load_tile(
            flat, offsets, first, targets, window_samples, num_channels, norms, places, tile
        )
        for channel in range(num_signals):
            # also where only others need its mean and its sum of squares
            moments(
                tile,
                channel,
                window_samples,
                first,
                count,
                slope_rate_hz,
                ddof,
                undefined,
                times,
                moment_columns[channel],
                summary,
                out,
            )
            if is_any_wanted(order_columns[channel], 0, order_columns.shape[1]):
                order(
                    tile,
                    channel,
                    window_samples,
                    first,
                    count,
                    quantiles,
                    order_columns[channel],
                    summary,
                    values,
                    out,
                )
        correlations(
            tile, window_samples, first, count, undefined, pairs, pair_columns, summary, out
        )
        for triad in range(triads.shape[0]):
            triad_features(
                tile,
                triad,
                triads[triad],
                num_channels,
                window_samples,
                first,
                count,
                gravity,
                triad_columns[triad],
                summary,
                angles,
                out,
            )
