"""Numba kernel that walks a log once: its stretches, and how many steps are off the rate.

Imported on the first use, so that importing the package does not load Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

import smoothdistill.numba_cache  # noqa: F401

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["walk_steps"]


@njit(error_model="numpy", nogil=True, cache=True)
def walk_steps(
    times_seconds: Float64[np.ndarray, " time"],
    blocks: Int64[np.ndarray, " time"],
    max_gap_seconds: float,
    sample_rate_hz: float,
    tolerance: float,
    edges: Int64[np.ndarray, " edges"],
    num_off: Int64[np.ndarray, " edges"],
    counts: Int64[np.ndarray, " 3"],
) -> int:
    """Write where each stretch begins, and its steps off the rate; return how many there are.

    `edges` and `num_off` are filled as far as they reach. `counts` gets the gaps, the backward
    steps and the ties between samples of one block.
    """
    num_stretches = 0
    off = 0
    for sample in range(1, times_seconds.size):
        step = times_seconds[sample] - times_seconds[sample - 1]
        is_new_block = blocks[sample] != blocks[sample - 1]
        if is_new_block or step < 0.0 or step > max_gap_seconds:
            if not is_new_block:
                counts[0] += step > max_gap_seconds
                counts[1] += step < 0.0
            if num_stretches + 1 < edges.size:
                num_off[num_stretches] = off
                edges[num_stretches + 1] = sample
            num_stretches += 1
            off = 0
        else:
            counts[2] += step == 0.0
            off += abs(step * sample_rate_hz - 1.0) > tolerance
    if num_stretches + 1 < edges.size:
        num_off[num_stretches] = off
        edges[num_stretches + 1] = times_seconds.size
    return num_stretches + 1
