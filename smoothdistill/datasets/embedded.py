"""The entry of the embedded synthetic data set in the table of data sets."""

from __future__ import annotations

from smoothdistill.datasets.registry import Dataset, register_dataset
from smoothdistill.datasets.synthetic import (
    ACTIVITIES,
    CHANNELS,
    DEFAULT_STEP_SAMPLES,
    DEFAULT_WINDOW_SAMPLES,
    PLACEMENTS,
    SAMPLE_RATE_HZ,
    synthetic_recordings,
)

__all__ = ["SYNTHETIC"]

SYNTHETIC = register_dataset(
    Dataset(
        name="synthetic",
        title="Synthetic wearers (wrist, thigh and chest)",
        tasks=("activity", "placement"),
        class_names={"activity": ACTIVITIES, "placement": PLACEMENTS},
        channel_names=CHANNELS,
        units=("m/s²",) * 3,
        licence="Apache-2.0, part of this package",
        citation="none: made up, not measured",
        source="It is made from a seed by `smoothdistill.datasets.synthetic`.",
        sample_rate_hz=SAMPLE_RATE_HZ,
        window_samples=DEFAULT_WINDOW_SAMPLES,
        step_samples=DEFAULT_STEP_SAMPLES,
        make_recordings=synthetic_recordings,
    )
)
