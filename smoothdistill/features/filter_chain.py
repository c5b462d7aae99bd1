"""A chain of filters in the terms of the kernels: sections, groups of channels, places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

    from smoothdistill.features.preprocessing_checks import Phase

__all__ = [
    "NOT_WANTED",
    "PASSES_ALL",
    "ChainPlan",
    "Memory",
    "channel_groups",
    "filter_sections",
    "run_chain",
]

# A vector of the kernels has four channels, and so has a group of a chain.
GROUP_CHANNELS = 4

NOT_WANTED = -1
"""Place of what a group does not put out."""

PASSES_ALL = np.zeros((1, 3))
"""The sections of a filter that changes nothing."""


class Memory(NamedTuple):
    """What a causal chain remembers between two samples; the kernels change it in place.

    Args:
        states: Of the filters, for each group of channels.
        position: Samples since the filters began, as far as they do not fill a block.
    """

    states: Float64[np.ndarray, "groups states"]
    position: Int64[np.ndarray, "1"]

    def clear(self) -> None:
        """Forget all samples."""
        self.states[:] = np.nan
        self.position[:] = 0


class ChainPlan(NamedTuple):
    """What the kernels of the chain are to do, in their terms.

    Args:
        has_median: Whether the median of three comes first.
        lowpass: Sections of the low-pass.
        gravity: Sections of the gravity filter.
        order: Order of both.
        phase: "causal" or "zero".
        sample_rate_hz: Samples per second.
        groups: One row for each group of channels: first channel, number of channels, and where in
            the output the first row of body, gravity, jerk and magnitudes begins, or `NOT_WANTED`.
        row_stride: Values from one row of the output to the next.
    """

    has_median: bool
    lowpass: Float64[np.ndarray, "sections 3"]
    gravity: Float64[np.ndarray, "sections 3"]
    order: int
    phase: Phase
    sample_rate_hz: float
    groups: Int64[np.ndarray, "groups 6"]
    row_stride: int

    def new_memory(self) -> Memory:
        """What a causal chain remembers before its first sample: NaN, for none has been seen."""
        num_vectors = 1 + 2 * (max(len(self.lowpass), 2) + max(len(self.gravity), 2))
        states = np.full((len(self.groups), GROUP_CHANNELS * num_vectors), np.nan)
        return Memory(states, np.zeros(1, dtype=np.int64))


def filter_sections(
    cutoff_hz: float | None, sample_rate_hz: float, order: int
) -> Float64[np.ndarray, "sections 3"]:
    """A Butterworth low-pass as the kernels take it.

    NOTE [State variables in place of b and a] in `kernels/preprocessing.py` says why.

    Args:
        cutoff_hz: Frequency that is passed at half power, in Hz, below half of the rate. None
            passes everything.
        sample_rate_hz: Samples per second.
        order: Number of poles, at least 1.

    Returns:
        A row for the real pole (0 if there is none), and one for each pair of poles.

    Source:
        S. Butterworth, On the theory of filter amplifiers, 1930 (poles); V. Zavalishin, The art of
        VA filter design, 2012, sections 3.10 and 4.4 (trapezoidal integrators).
    """
    if cutoff_hz is None:
        return PASSES_ALL
    warped = math.tan(math.pi * cutoff_hz / sample_rate_hz)
    rows = [(0.0, 0.0, 0.0)]
    if order % 2:
        gain = warped / (1.0 + warped)
        rows = [(gain, 2.0 * gain, 0.0)]
    for pair in range(order // 2):
        damping = 2.0 * math.sin((2 * pair + 1) * math.pi / (2 * order))
        scale = 1.0 / (1.0 + warped * (warped + damping))
        own = (1.0 - warped * (warped + damping)) * scale
        rows.append((own, 2.0 * warped * scale, 2.0 * warped * warped * scale))
    return np.array(rows)


def channel_groups(num_channels: int, first_channel: int = 0) -> list[tuple[int, int]]:
    """First channel and number of channels of each vector of up to four."""
    stop = first_channel + num_channels
    return [
        (first, min(GROUP_CHANNELS, stop - first))
        for first in range(first_channel, stop, GROUP_CHANNELS)
    ]


def run_chain(
    plan: ChainPlan,
    signal: Float[np.ndarray, "time channels"],
    borders: Int64[np.ndarray, " borders"],
    out: Float[np.ndarray, "..."],
    memory: Memory | None = None,
) -> None:
    """Run a chain over the stretches between borders, into contiguous memory.

    Args:
        plan: What to do.
        signal: Contiguous samples.
        borders: First sample of each stretch, and the end.
        out: Where the places in the plan's groups point to.
        memory: Of a causal chain that goes on; changed in place.
    """
    if not len(signal):
        return
    flat, values = signal.reshape(-1), out.reshape(-1)
    if plan.phase == "zero":
        from smoothdistill.features.kernels.zero_phase import run_zero_phase

        # scipy.signal.sosfiltfilt mirrors as many samples.
        pads = [
            3 * (plan.order + 1) if sections.any() else 0
            for sections in (plan.lowpass, plan.gravity)
        ]
        run_zero_phase(
            flat,
            signal.shape[1],
            borders,
            plan.groups,
            plan.has_median,
            plan.lowpass,
            plan.gravity,
            np.array(pads, dtype=np.int64),
            plan.sample_rate_hz,
            plan.row_stride,
            values,
        )
        return
    from smoothdistill.features.kernels.preprocessing import run_causal

    memory = plan.new_memory() if memory is None else memory
    run_causal(
        flat,
        signal.shape[1],
        borders,
        plan.groups,
        plan.has_median,
        plan.lowpass,
        plan.gravity,
        plan.sample_rate_hz,
        memory.states,
        memory.position,
        plan.row_stride,
        values,
    )
