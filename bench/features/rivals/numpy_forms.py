"""NumPy and SciPy: as a good programmer writes them, and at their best.

At their best, a chunk is held as [time, channels, windows]: sums over time are one product with a
row of ones, everything else runs over contiguous memory, buffers are reused, and one sort a chunk
gives all order statistics, the median absolute deviation included. On a 2.5 GHz Xeon that is 1.6 to
2 times faster than the same with time innermost (`usual_call`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.fft
from numpy.typing import DTypeLike, NDArray

from rivals.truth import BANDS_HZ, band_name, frequencies_hz
from rivals.workload import CHANNEL_PAIRS, SAMPLE_RATE_HZ, Case

STATISTICAL = (
    "mean", "std", "var", "min", "max", "median", "iqr", "rms", "mad", "skew", "kurtosis", "zcr",
    "mcr", "energy", "ptp", "slope", "autocorr_lag1",
)  # fmt: skip
SPECTRAL = (
    "dom_freq", "dom_power", "spec_entropy", "centroid", "power",
    *(band_name(low, high) for low, high in BANDS_HZ),
)  # fmt: skip


def chunks(case: Case, chunk: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First window, and a view [time, channels, windows] of its chunk."""
    windows = case.windows()
    for first in range(0, len(windows), chunk):
        yield first, windows[first : first + chunk].transpose(2, 1, 0)


def quantile_of_sorted(sorted_values: NDArray, share: float) -> NDArray:
    """Quantile with linear interpolation, from values sorted along the first axis."""
    place = share * (len(sorted_values) - 1)
    low = int(place)
    above = sorted_values[min(low + 1, len(sorted_values) - 1)]
    return sorted_values[low] + (above - sorted_values[low]) * (place - low)


def _nearest(count: int, below: NDArray, above: NDArray) -> NDArray:
    """The `count`-th smallest distance from the median, from distances to both sides of it.

    `below` falls and `above` rises along the first axis; the nearest `count` values are neighbours
    in order of size, so their largest distance is at one end of the run, and least over all runs.
    """
    return np.maximum(below, above).min(axis=0)


def mad_of_sorted(sorted_values: NDArray, median: NDArray) -> NDArray:
    """Median distance from the median, from values sorted along the first axis."""
    half = (len(sorted_values) - 1) // 2
    runs = len(sorted_values) - half
    below = median - sorted_values[:runs]
    above = sorted_values[half:] - median
    lower = _nearest(half + 1, below, above)
    if len(sorted_values) % 2:
        return lower
    return 0.5 * (lower + _nearest(half + 2, below[: runs - 1], above[1:]))


def statistical_call(case: Case, dtype: DTypeLike, chunk: int) -> Callable[[], dict[str, NDArray]]:
    """All 17 values per channel, the signal magnitude area, and three correlations."""
    num_time, num_channels, num_windows = case.window_samples, case.num_channels, case.num_windows
    mean_of = np.full(num_time, 1.0 / num_time, dtype)
    time = np.arange(num_time) - (num_time - 1) / 2
    slope_of = (time / (time @ time) * SAMPLE_RATE_HZ).astype(dtype)
    half = (num_time - 1) // 2  # of the sorted values: the lower middle one
    buffers = [np.empty((num_time, num_channels, chunk), dtype) for _ in range(3)]
    flags = np.empty((num_time, num_channels, chunk), np.bool_)

    def mean(values: NDArray) -> NDArray:
        return (mean_of[: len(values)] @ values.reshape(len(values), -1)).reshape(values.shape[1:])

    def changes(values: NDArray, above: NDArray) -> NDArray:
        np.greater(values, 0, out=above)
        changed = (above[1:] ^ above[:-1]).view(np.uint8)
        counts = changed.sum(axis=0, dtype=np.uint8 if num_time <= 256 else np.uint32)
        return counts / np.dtype(dtype).type(num_time - 1)

    def call() -> dict[str, NDArray]:
        out = {name: np.empty((num_channels, num_windows), dtype) for name in STATISTICAL}
        out["sma"] = np.empty((1, num_windows), dtype)
        out["corr"] = np.empty((len(CHANNEL_PAIRS), num_windows), dtype)
        for first, view in chunks(case, chunk):
            size = view.shape[2]
            place = slice(first, first + size)
            if size == chunk:
                x, c, square = buffers
                above = flags
            else:
                x, c, square = (np.empty(view.shape, dtype) for _ in range(3))
                above = np.empty(view.shape, np.bool_)
            np.copyto(x, view)
            row = {name: values[:, place] for name, values in out.items()}
            row["mean"][:] = mean(x)
            row["zcr"][:] = changes(x, above)
            row["slope"][:] = (slope_of @ x.reshape(num_time, -1)).reshape(num_channels, size)
            row["sma"][:] = mean(np.abs(x, out=square)).sum(axis=0)
            np.multiply(x, x, out=square)
            row["energy"][:] = mean(square)
            np.sqrt(row["energy"], out=row["rms"])
            np.subtract(x, row["mean"], out=c)
            row["mcr"][:] = changes(c, above)
            np.multiply(c, c, out=square)
            variance = row["var"]
            variance[:] = mean(square)
            deviation = np.sqrt(variance, out=row["std"])
            np.divide(
                mean(np.multiply(c[1:], c[:-1], out=x[1:])), variance, out=row["autocorr_lag1"]
            )
            for number, (a, b) in enumerate(CHANNEL_PAIRS):
                shared = mean(np.multiply(c[:, a], c[:, b]))
                row["corr"][number] = shared / (deviation[a] * deviation[b])
            np.multiply(square, c, out=c)
            row["skew"][:] = mean(c) / (variance * deviation)
            np.multiply(square, square, out=square)
            row["kurtosis"][:] = mean(square) / (variance * variance) - 3
            rows = np.ascontiguousarray(
                view.transpose(1, 2, 0)
            )  # float32 sorts faster, and exactly
            rows.sort(axis=-1)
            np.copyto(x, rows.transpose(2, 0, 1))
            row["min"][:], row["max"][:] = x[0], x[-1]
            np.subtract(x[-1], x[0], out=row["ptp"])
            row["median"][:] = 0.5 * (x[half] + x[num_time // 2])
            np.subtract(quantile_of_sorted(x, 0.75), quantile_of_sorted(x, 0.25), out=row["iqr"])
            row["mad"][:] = mad_of_sorted(x, row["median"])
        return out

    return call


def usual_call(case: Case, dtype: DTypeLike, chunk: int) -> Callable[[], dict[str, NDArray]]:
    """The same values, in chunks of contiguous windows [windows, channels, time]."""
    time = np.arange(case.window_samples) - (case.window_samples - 1) / 2
    slope_of = (time / (time @ time) * SAMPLE_RATE_HZ).astype(dtype)
    half, upper = (case.window_samples - 1) // 2, case.window_samples // 2

    def one_chunk(view: NDArray[np.float32]) -> dict[str, NDArray]:
        x = np.ascontiguousarray(view, dtype)
        ordered = np.sort(x, axis=-1)
        first = ordered.transpose(2, 0, 1)
        mean = x.mean(axis=-1)
        c = x - mean[..., None]
        square = c * c
        variance = square.mean(axis=-1)
        deviation = np.sqrt(variance)
        energy = np.einsum("nct,nct->nc", x, x) / case.window_samples
        median = 0.5 * (first[half] + first[upper])
        distance = np.abs(x - median[..., None])
        distance.partition((half, upper), axis=-1)
        out = {
            "mean": mean,
            "std": deviation,
            "var": variance,
            "min": first[0],
            "max": first[-1],
            "median": median,
            "iqr": quantile_of_sorted(first, 0.75) - quantile_of_sorted(first, 0.25),
            "rms": np.sqrt(energy),
            "mad": 0.5 * (distance[..., half] + distance[..., upper]),
            "skew": np.einsum("nct,nct->nc", square, c) / case.window_samples / variance**1.5,
            "kurtosis": np.einsum("nct,nct->nc", square, square) / case.window_samples / variance**2
            - 3,
            "energy": energy,
            "ptp": first[-1] - first[0],
            "slope": x @ slope_of,
            "autocorr_lag1": np.einsum("nct,nct->nc", c[..., 1:], c[..., :-1])
            / (case.window_samples * variance),
            "sma": np.abs(x).sum(axis=1, keepdims=True).mean(axis=-1),
            "corr": np.stack(
                [
                    np.einsum("nt,nt->n", c[:, a], c[:, b])
                    / (case.window_samples * deviation[:, a] * deviation[:, b])
                    for a, b in CHANNEL_PAIRS
                ],
                axis=1,
            ),
        }
        for name, values in (("zcr", x), ("mcr", c)):
            above = values > 0
            out[name] = (above[..., 1:] != above[..., :-1]).mean(axis=-1, dtype=dtype)
        return out

    def call() -> dict[str, NDArray]:
        windows = case.windows()
        parts = [
            one_chunk(windows[first : first + chunk]) for first in range(0, len(windows), chunk)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return call


def _spectral_sums(num_time: int) -> NDArray[np.float64]:
    """Rows that give power, sum of frequency times power, and the bands, from power by bin."""
    f = frequencies_hz(num_time).astype(np.float64)
    return np.stack([np.ones_like(f), f, *((f >= low) & (f < high) for low, high in BANDS_HZ)])


def _describe_power(power: NDArray, sums: NDArray, num_time: int, out: dict[str, NDArray]) -> None:
    """Fills `out` from power [bins, values]: one product for all sums but the entropy's."""
    total, weighted, *bands = sums @ power
    out["power"][:] = total
    np.divide(weighted, total, out=out["centroid"])
    for (low, high), values in zip(BANDS_HZ, bands, strict=True):
        out[band_name(low, high)][:] = values
    out["dom_power"][:] = power[1:].max(axis=0)
    out["dom_freq"][:] = (1 + power[1:].argmax(axis=0)) * (SAMPLE_RATE_HZ / num_time)
    logarithm = np.log2(power + np.finfo(power.dtype).tiny)
    logarithm *= power
    information = np.log2(total) - logarithm.sum(axis=0) / total
    np.divide(information, np.log2(len(power)), out=out["spec_entropy"])


def fft_call(case: Case, dtype: DTypeLike, chunk: int) -> Callable[[], dict[str, NDArray]]:
    """The nine spectral values by `scipy.fft`, which transforms several windows at once."""
    num_time, num_channels = case.window_samples, case.num_channels
    sums = _spectral_sums(num_time).astype(dtype)
    mean_of = np.full(num_time, 1.0 / num_time, dtype)

    def call() -> dict[str, NDArray]:
        windows = case.windows()
        out = {name: np.empty(len(windows) * num_channels, dtype) for name in SPECTRAL}
        for first in range(0, len(windows), chunk):
            x = windows[first : first + chunk].astype(dtype).reshape(-1, num_time)
            place = slice(num_channels * first, num_channels * first + len(x))
            x -= (x @ mean_of)[:, None]
            spectrum = scipy.fft.rfft(x, axis=-1, overwrite_x=True)
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            row = {name: values[place] for name, values in out.items()}
            _describe_power(power.T, sums, num_time, row)
        return {name: values.reshape(-1, num_channels) for name, values in out.items()}

    return call


def dft_call(case: Case, dtype: DTypeLike, chunk: int) -> Callable[[], dict[str, NDArray]]:
    """The nine spectral values by two matrix products, of the window's even and odd halves."""
    num_time, num_channels, num_windows = case.window_samples, case.num_channels, case.num_windows
    sums = _spectral_sums(num_time).astype(dtype)
    mean_of = np.full(num_time, 1.0 / num_time, dtype)
    num_even, num_odd = num_time // 2 + 1, (num_time - 1) // 2
    angle = 2.0 * np.pi / num_time * np.outer(np.arange(num_even), np.arange(num_even))
    cosines = np.cos(angle).astype(dtype)
    sines = np.sin(angle[1 : 1 + num_odd, 1 : 1 + num_odd]).astype(dtype)

    def call() -> dict[str, NDArray]:
        out = {name: np.empty((num_channels, num_windows), dtype) for name in SPECTRAL}
        for first, view in chunks(case, chunk):
            size = view.shape[2]
            x = view.astype(dtype, order="C").reshape(num_time, -1)
            x -= mean_of @ x
            early, late = x[1 : 1 + num_odd], x[: num_time - 1 - num_odd : -1]
            even = x[:num_even].copy()
            even[1 : 1 + num_odd] += late
            power = np.square(cosines @ even)
            power[1 : 1 + num_odd] += np.square(sines @ (early - late))
            row = {name: np.empty(num_channels * size, dtype) for name in SPECTRAL}
            _describe_power(power, sums, num_time, row)
            for name, values in row.items():
                out[name][:, first : first + size] = values.reshape(num_channels, size)
        return out

    return call
