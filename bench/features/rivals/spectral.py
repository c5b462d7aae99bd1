"""Providers of the spectral set: dominant frequency to band powers, 9 values per channel."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from rivals import numpy_forms
from rivals.libraries import columns_by_channel, long_frame, tsfel_workload
from rivals.numpy_forms import SPECTRAL
from rivals.statistical import numpy_workload
from rivals.truth import BANDS_HZ, band_name
from rivals.workload import CHANNEL_NAMES, SAMPLE_RATE_HZ, Answer, Case, Provider, Workload

scipy_fft = partial(numpy_workload, form=numpy_forms.fft_call, chunk=512, is_transposed=False)
matrix_products = partial(numpy_workload, form=numpy_forms.dft_call, chunk=512, is_transposed=True)


def make_numba(case: Case) -> Workload:
    from rivals import compiled

    return compiled.make_spectral(case)


def make_skdh(case: Case) -> Workload:
    """It pads with zeros to a power of two and keeps the mean, which leaks into the low bands."""
    from skdh import features
    from skdh.utility.windowing import get_windowed_view

    lowest, highest = BANDS_HZ[0][0], SAMPLE_RATE_HZ / 2
    names = (
        "dom_freq_padded_raw", "", "",
        *(f"{band_name(low, high)}_padded_raw" for low, high in BANDS_HZ),
    )  # fmt: skip
    bank = features.Bank()
    bank.add(
        [
            features.DominantFrequency(0, lowest, highest),
            features.DominantFrequencyValue(0, lowest, highest),
            features.SpectralEntropy(0, lowest, highest),
            *(features.RangePowerSum(0, low, high) for low, high in BANDS_HZ),
        ]
    )

    def call() -> NDArray:
        view = get_windowed_view(case.signal, case.window_samples, case.step_samples)
        return bank.compute(view, fs=SAMPLE_RATE_HZ, axis=1)

    def answer(values: object) -> Answer:
        found = dict(zip(names, np.asarray(values), strict=True))
        del found[""]
        return found

    return Workload(call, answer)


def make_antropy(case: Case) -> Workload:
    from antropy import spectral_entropy

    def call() -> NDArray:
        return spectral_entropy(
            case.windows().astype(np.float64), SAMPLE_RATE_HZ, method="fft", normalize=True, axis=-1
        )

    return Workload(call, lambda values: {"spec_entropy_one_sided": values})


def _numpy_function(x: NDArray) -> tuple[NDArray, ...]:
    """The nine values of windows [..., time], as users write them."""
    num_time = x.shape[-1]
    frequencies = np.fft.rfftfreq(num_time, 1.0 / SAMPLE_RATE_HZ)
    power = np.abs(np.fft.rfft(x - x.mean(axis=-1, keepdims=True), axis=-1)) ** 2
    place = 1 + power[..., 1:].argmax(axis=-1)
    total = power.sum(axis=-1)
    share = power / total[..., None]
    entropy = -(share * np.log2(share + 1e-300)).sum(axis=-1) / np.log2(len(frequencies))
    bands = [
        power[..., (frequencies >= low) & (frequencies < high)].sum(axis=-1)
        for low, high in BANDS_HZ
    ]
    most = power[..., 1:].max(axis=-1)
    return frequencies[place], most, entropy, (power @ frequencies) / total, total, *bands


def make_tsflex(case: Case) -> Workload:
    import pandas as pd
    from tsflex.features import FeatureCollection, FuncWrapper, MultipleFeatureDescriptors

    collection = FeatureCollection(
        MultipleFeatureDescriptors(
            FuncWrapper(_numpy_function, output_names=list(SPECTRAL), vectorized=True),
            list(CHANNEL_NAMES),
            windows=case.window_samples,
            strides=case.step_samples,
        )
    )
    frame = pd.DataFrame(case.signal.astype(np.float64), columns=list(CHANNEL_NAMES))

    def call() -> pd.DataFrame:
        return collection.calculate(
            frame, return_df=True, n_jobs=1, include_final_window=True, approve_sparsity=True
        )

    def answer(table: object) -> Answer:
        rows = table.iloc[: case.num_windows]
        suffix = f"w={case.window_samples}"
        return {
            name: columns_by_channel(
                rows, lambda channel, name=name: f"{channel}__{name}__{suffix}"
            )
            for name in SPECTRAL
        }

    return Workload(call, answer)


def make_python_loop(case: Case) -> Workload:
    signal = case.signal.astype(np.float64)

    def call() -> list[list[tuple[float, ...]]]:
        return [
            [
                _numpy_function(signal[first : first + case.window_samples, channel])
                for channel in range(case.num_channels)
            ]
            for first in range(0, len(signal) - case.window_samples + 1, case.step_samples)
        ]

    def answer(rows: object) -> Answer:
        values = np.array(rows)
        return {name: values[:, :, number] for number, name in enumerate(SPECTRAL)}

    return Workload(call, answer)


def make_tsfresh(case: Case) -> Workload:
    from tsfresh import extract_features

    settings = {
        "fft_aggregated": [{"aggtype": "centroid"}],
        "fourier_entropy": [{"bins": 10}],
        "spkt_welch_density": [{"coeff": 2}, {"coeff": 5}, {"coeff": 8}],
    }
    frame = long_frame(case)

    def call() -> pd.DataFrame:
        return extract_features(
            frame, column_id="id", column_sort="time", default_fc_parameters=settings, n_jobs=0,
            disable_progressbar=True,
        )  # fmt: skip

    def answer(table: object) -> Answer:
        column = 'fft_aggregated__aggtype_"centroid"'
        centroid = columns_by_channel(table, lambda channel: f"{channel}__{column}")
        return {"centroid_magnitude_raw_bins": centroid}

    return Workload(call, answer)


TSFEL = {
    "Spectral entropy": "spec_entropy",
    "Spectral centroid": "centroid_magnitude_raw",
    "Human range energy": "human_range_raw",
    "Fundamental frequency": None,
    "Maximum frequency": None,
}

PROVIDERS = (
    Provider(
        "NumPy, DFT as two matrix products, float32", 9, partial(matrix_products, dtype=np.float32)
    ),
    Provider(
        "NumPy, DFT as two matrix products, float64", 9, partial(matrix_products, dtype=np.float64)
    ),
    Provider("scipy.fft in chunks, float32", 9, partial(scipy_fft, dtype=np.float32)),
    Provider("scipy.fft in chunks, float64", 9, partial(scipy_fft, dtype=np.float64)),
    Provider("Numba with rocket-fft, a loop over windows", 9, make_numba, ("numba", "rocket_fft")),
    Provider("antropy", 1, make_antropy, ("antropy",), also="entropy alone, of one side"),
    Provider("tsflex, one vectorized function", 9, make_tsflex, ("tsflex",)),
    Provider(
        "scikit-digital-health Bank", 7, make_skdh, ("skdh",), 4000, "zero-padded, mean left in"
    ),
    Provider("Python loop, NumPy", 9, make_python_loop, num_windows=300),
    Provider(
        "TSFEL",
        5,
        partial(tsfel_workload, names=TSFEL),
        ("tsfel",),
        100,
        "mean left in but in 2",
        # Its entropy is divided by the logarithm of the bins that are not exactly 0: 50 or 51.
        tolerance=1e-2,
    ),
    Provider("tsfresh", 5, make_tsfresh, ("tsfresh",), 100, "mean left in"),
)
