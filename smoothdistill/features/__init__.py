"""Windows to features: statistical, spectral and across channels; filters; streams.

Names are imported on first use: scikit-learn and Numba cost seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothdistill.features.acceleration_unit import (
        check_acceleration_unit as check_acceleration_unit,
    )
    from smoothdistill.features.definitions import catalog as catalog
    from smoothdistill.features.extractor import FeatureExtractor as FeatureExtractor
    from smoothdistill.features.families import catch22 as catch22
    from smoothdistill.features.families import complexity as complexity
    from smoothdistill.features.families import cross_channel as cross_channel
    from smoothdistill.features.families import moments as moments
    from smoothdistill.features.families import order as order
    from smoothdistill.features.families import spectral as spectral
    from smoothdistill.features.families import temporal as temporal
    from smoothdistill.features.files import extract_files as extract_files
    from smoothdistill.features.preprocessing import butter_lowpass as butter_lowpass
    from smoothdistill.features.preprocessing import jerk as jerk
    from smoothdistill.features.preprocessing import magnitude as magnitude
    from smoothdistill.features.preprocessing import median3 as median3
    from smoothdistill.features.preprocessing import split_gravity as split_gravity
    from smoothdistill.features.preprocessing_chain import Preprocessing as Preprocessing
    from smoothdistill.features.recording_files import RecordingFormat as RecordingFormat
    from smoothdistill.features.resampling import resample as resample
    from smoothdistill.features.stream import FeatureStream as FeatureStream
    from smoothdistill.features.table import FeatureTable as FeatureTable

_HOME = {
    "FeatureExtractor": "extractor",
    "FeatureStream": "stream",
    "FeatureTable": "table",
    "Preprocessing": "preprocessing_chain",
    "RecordingFormat": "recording_files",
    "butter_lowpass": "preprocessing",
    "catalog": "definitions",
    "catch22": "families",
    "check_acceleration_unit": "acceleration_unit",
    "complexity": "families",
    "cross_channel": "families",
    "extract_files": "files",
    "jerk": "preprocessing",
    "magnitude": "preprocessing",
    "median3": "preprocessing",
    "moments": "families",
    "order": "families",
    "resample": "resampling",
    "spectral": "families",
    "split_gravity": "preprocessing",
    "temporal": "families",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'smoothdistill.features' has no attribute {name!r}")
    value = getattr(import_module(f"smoothdistill.features.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
