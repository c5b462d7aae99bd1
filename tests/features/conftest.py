"""What holds for all tests of the features: kernels that run as plain Python do not warn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numba
import pytest


@pytest.fixture(autouse=True)
def _as_quiet_as_compiled() -> Iterator[None]:
    """With NUMBA_DISABLE_JIT=1, NumPy would report a 1 / 0 that compiled code passes over."""
    with warnings.catch_warnings():
        if numba.config.DISABLE_JIT:  # on whatever thread, where `np.errstate` would not reach
            warnings.simplefilter("ignore", RuntimeWarning)
        yield
