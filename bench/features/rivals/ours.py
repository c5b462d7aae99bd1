"""What this project offers for the three workloads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rivals.numpy_forms import SPECTRAL, STATISTICAL
from rivals.workload import (
    CHANNEL_NAMES,
    CHANNEL_PAIRS,
    SAMPLE_RATE_HZ,
    Answer,
    Case,
    Provider,
    Workload,
)


def make_ours(case: Case, *, names: Sequence[str], dtype: str) -> Workload:
    """From the array [time, channels] to a pandas frame with one row per window."""
    from smoothdistill.features import FeatureExtractor

    extractor = FeatureExtractor(
        features=list(names),
        window_samples=case.window_samples,
        step_samples=case.step_samples,
        sample_rate_hz=SAMPLE_RATE_HZ,
        dtype=dtype,
        channel_names=CHANNEL_NAMES,
    ).set_output(transform="pandas")

    def answer(table: object) -> Answer:
        found = {}
        for name in names:
            if name == "sma":
                columns = ["".join(CHANNEL_NAMES) + "__sma"]
            elif name == "corr":
                columns = [f"corr_{CHANNEL_NAMES[a]}_{CHANNEL_NAMES[b]}" for a, b in CHANNEL_PAIRS]
            else:
                columns = [f"{channel}__{name}" for channel in CHANNEL_NAMES]
            found[name] = np.asarray(table[columns])
        return found

    return Workload(lambda: extractor.fit_transform(case.signal), answer)


def providers(names: Sequence[str], num_features: int, also: str = "") -> tuple[Provider, ...]:
    """Ours with results in float64 and in float32."""
    return tuple(
        Provider(
            f"ours, {dtype}",
            num_features,
            lambda case, dtype=dtype: make_ours(case, names=names, dtype=dtype),
            ("smoothdistill.features", "numba", "pandas"),
            also=also,
            is_ours=True,
        )
        for dtype in ("float64", "float32")
    )


# Of a float32 signal, moments are summed in float64, and spectra are computed in float32.
STATISTICAL_PROVIDERS = providers((*STATISTICAL, "sma", "corr"), 17, "also SMA, correlations")
SPECTRAL_PROVIDERS = providers(SPECTRAL, 9, "transform in the signal's float32")
