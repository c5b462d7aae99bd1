"""catch22 features of the spectrum: Welch's estimate with one rectangular window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from smoothdistill.features.kernels.lanes import LANES, load, select, splat, store

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["spectrum_features", "transform_plan"]


def transform_plan(
    window_samples: int,
) -> tuple[Int64[np.ndarray, " places"], Float64[np.ndarray, "2 twiddles"]]:
    """Bit-reversed places and cosines and sines for a transform of the next power of two."""
    num_bits = max(window_samples - 1, 1).bit_length()
    size = 1 << num_bits
    places = np.zeros(size, np.int64)
    for bit in range(num_bits):
        places |= (np.arange(size) >> bit & 1) << (num_bits - 1 - bit)
    angles = -2.0 * np.pi * np.arange(size // 2) / size
    return places, np.stack([np.cos(angles), np.sin(angles)])


@njit(error_model="numpy", nogil=True, cache=True)
def spectrum_features(  # type: ignore[no-untyped-def]
    z, num_samples, places, twiddles, real, imaginary, low_powers, median_frequencies
):
    """Power in the lowest fifth of the bins; angular frequency below which half of the power lies.

    `real` and `imaginary` are scratch for the transform.
    """
    size = places.size
    num_bins = size // 2 + 1
    zero = splat(0.0)
    for number in range(z.shape[0]):
        series = z[number]
        for sample in range(size):
            value = load(series, sample * LANES) if sample < num_samples else zero
            store(real, places[sample] * LANES, value)
            store(imaginary, sample * LANES, zero)
        _transform(twiddles, size, real, imaginary)
        total, low = splat(0.0), splat(0.0)
        for bin in range(num_bins):
            a, b = load(real, bin * LANES), load(imaginary, bin * LANES)
            power = (a * a + b * b) / num_samples
            if 0 < bin < num_bins - 1:
                power *= 2.0
            total += power
            store(real, bin * LANES, total)
            if bin == num_bins // 5 - 1:
                low = total / size
        median_frequency = splat(-1.0)
        for bin in range(num_bins):
            is_first = (median_frequency < 0.0) & (load(real, bin * LANES) > total * 0.5)
            frequency = splat(2.0 * np.pi * bin / size)
            median_frequency = select(is_first, frequency, median_frequency)
        store(low_powers, number * LANES, low)
        store(median_frequencies, number * LANES, median_frequency)


@njit(error_model="numpy", nogil=True, cache=True)
def _transform(twiddles, size, real, imaginary):  # type: ignore[no-untyped-def]
    """Fourier transform, radix 2, in place, of vectors in bit-reversed order."""
    half = 1
    while half < size:
        for pair in range(half):
            cosine = twiddles[0, pair * (size // (2 * half))]
            sine = twiddles[1, pair * (size // (2 * half))]
            for low in range(pair * LANES, size * LANES, 2 * half * LANES):
                high = low + half * LANES
                a, b = load(real, high), load(imaginary, high)
                c, d = a * cosine - b * sine, a * sine + b * cosine
                a, b = load(real, low), load(imaginary, low)
                store(real, low, a + c)
                store(imaginary, low, b + d)
                store(real, high, a - c)
                store(imaginary, high, b - d)
        half *= 2
