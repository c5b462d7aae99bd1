"""The obvious loop in Numba: one window after the other, each by the book, in float64."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from rivals.numpy_forms import SPECTRAL, STATISTICAL
from rivals.truth import BANDS_HZ
from rivals.workload import CHANNEL_PAIRS, SAMPLE_RATE_HZ, Answer, Case, Workload


@njit(error_model="numpy", nogil=True)
def _statistical(windows, slope_weights, sample_rate_hz, out, area, correlations):
    num_windows, num_channels, num_time = windows.shape
    x = np.empty((num_channels, num_time))
    ordered = np.empty(num_time)
    for i in range(num_windows):
        magnitude = 0.0
        for channel in range(num_channels):
            for t in range(num_time):
                value = np.float64(windows[i, channel, t])
                x[channel, t] = value
                ordered[t] = value
            ordered.sort()
            total = energy = slope = 0.0
            for t in range(num_time):
                value = x[channel, t]
                total += value
                energy += value * value
                slope += value * slope_weights[t]
                magnitude += abs(value)
            mean = total / num_time
            median = 0.5 * (ordered[(num_time - 1) // 2] + ordered[num_time // 2])
            second = third = fourth = lagged = before = 0.0
            zero_crossings = mean_crossings = 0
            was_above = x[channel, 0] > 0
            for t in range(num_time):
                is_above = x[channel, t] > 0
                zero_crossings += is_above != was_above
                was_above = is_above
                centred = x[channel, t] - mean
                x[channel, t] = centred
                square = centred * centred
                second += square
                third += square * centred
                fourth += square * square
                if t > 0:
                    lagged += centred * before
                    mean_crossings += (centred > 0) != (before > 0)
                before = centred
            variance = second / num_time
            place = 0.25 * (num_time - 1)
            low = int(place)
            q25 = ordered[low] + (ordered[low + 1] - ordered[low]) * (place - low)
            place = 0.75 * (num_time - 1)
            low = int(place)
            q75 = ordered[low] + (ordered[low + 1] - ordered[low]) * (place - low)
            smallest, largest = ordered[0], ordered[num_time - 1]
            for t in range(num_time):
                ordered[t] = abs(ordered[t] - median)
            ordered.sort()
            out[0, i, channel] = mean
            out[1, i, channel] = math.sqrt(variance)
            out[2, i, channel] = variance
            out[3, i, channel] = smallest
            out[4, i, channel] = largest
            out[5, i, channel] = median
            out[6, i, channel] = q75 - q25
            out[7, i, channel] = math.sqrt(energy / num_time)
            out[8, i, channel] = 0.5 * (ordered[(num_time - 1) // 2] + ordered[num_time // 2])
            out[9, i, channel] = third / num_time / (variance * math.sqrt(variance))
            out[10, i, channel] = fourth / num_time / (variance * variance) - 3.0
            out[11, i, channel] = zero_crossings / (num_time - 1)
            out[12, i, channel] = mean_crossings / (num_time - 1)
            out[13, i, channel] = energy / num_time
            out[14, i, channel] = largest - smallest
            out[15, i, channel] = slope * sample_rate_hz
            out[16, i, channel] = lagged / second
        area[i, 0] = magnitude / num_time
        pair = 0
        for a in range(num_channels):
            for b in range(a + 1, num_channels):
                shared = 0.0
                for t in range(num_time):
                    shared += x[a, t] * x[b, t]
                correlations[i, pair] = shared / (num_time * out[1, i, a] * out[1, i, b])
                pair += 1


def _spectral_kernel():
    import scipy.fft  # needs rocket-fft, which teaches Numba `scipy.fft`

    @njit(error_model="numpy", nogil=True)
    def spectral(windows, frequencies, edges, out):
        num_windows, num_channels, num_time = windows.shape
        num_bins = num_time // 2 + 1
        x = np.empty(num_time)
        for i in range(num_windows):
            for channel in range(num_channels):
                total = 0.0
                for t in range(num_time):
                    x[t] = windows[i, channel, t]
                    total += x[t]
                mean = total / num_time
                for t in range(num_time):
                    x[t] -= mean
                spectrum = scipy.fft.rfft(x)
                power = weighted = information = most = 0.0
                place = 1
                for k in range(num_bins):
                    value = spectrum[k].real ** 2 + spectrum[k].imag ** 2
                    power += value
                    weighted += frequencies[k] * value
                    if value > 0.0:
                        information += value * math.log2(value)
                    if k > 0 and value > most:
                        most = value
                        place = k
                out[0, i, channel] = frequencies[place]
                out[1, i, channel] = most
                bits = math.log2(power) - information / power
                out[2, i, channel] = bits / math.log2(num_bins)
                out[3, i, channel] = weighted / power
                out[4, i, channel] = power
                for band in range(len(edges)):
                    inside = 0.0
                    for k in range(edges[band, 0], edges[band, 1]):
                        inside += spectrum[k].real ** 2 + spectrum[k].imag ** 2
                    out[5 + band, i, channel] = inside

    return spectral


def make_statistical(case: Case) -> Workload:
    """All of the statistical set."""
    time = np.arange(case.window_samples) - (case.window_samples - 1) / 2
    weights = time / (time @ time)

    def call() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        windows = case.windows()
        out = np.empty((len(STATISTICAL), len(windows), case.num_channels))
        area = np.empty((len(windows), 1))
        correlations = np.empty((len(windows), len(CHANNEL_PAIRS)))
        _statistical(windows, weights, SAMPLE_RATE_HZ, out, area, correlations)
        return out, area, correlations

    def answer(result: object) -> Answer:
        out, area, correlations = result
        return dict(zip(STATISTICAL, out, strict=True)) | {"sma": area, "corr": correlations}

    return Workload(call, answer)


def make_spectral(case: Case) -> Workload:
    """All of the spectral set."""
    import rocket_fft  # noqa: F401 - registers itself with Numba

    kernel = _spectral_kernel()
    frequencies = np.arange(case.window_samples // 2 + 1) * SAMPLE_RATE_HZ / case.window_samples
    edges = np.searchsorted(frequencies, np.array(BANDS_HZ))

    def call() -> np.ndarray:
        windows = case.windows()
        out = np.empty((len(SPECTRAL), len(windows), case.num_channels))
        kernel(windows, frequencies, edges, out)
        return out

    return Workload(call, lambda out: dict(zip(SPECTRAL, out, strict=True)))
