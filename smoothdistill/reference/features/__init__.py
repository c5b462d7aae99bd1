"""Plain NumPy and SciPy twins of the feature kernels, in float64: the oracle of the tests."""

from __future__ import annotations

__all__: list[str] = []
