"""Numba kernels of the features: plain arrays in, plain arrays out, imported on first use."""

from __future__ import annotations

import smoothdistill.numba_cache  # noqa: F401
from smoothdistill.features.kernels import lane_code as lane_code  # gives the lanes their code

__all__ = ["lane_code"]
