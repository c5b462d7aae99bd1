"""Filters of a recording, piece by piece: median, low-pass, gravity, jerk, magnitude.

All of them work on *stretches*: the samples of one channel between two that are missing (NaN or
infinite), within one group. Every stretch is filtered as if it were a recording of its own, so a
missing sample makes itself NaN and nothing else, and no filter rings into the next recording.
`Preprocessing` does the whole chain in one pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smoothdistill.features.filter_chain import (
    NOT_WANTED,
    PASSES_ALL,
    ChainPlan,
    channel_groups,
    filter_sections,
    run_chain,
)
from smoothdistill.features.preprocessing_checks import (
    check_below_nyquist,
    check_triads_fit,
    checked_borders,
    checked_number,
    checked_order,
    checked_phase,
    checked_signal,
    checked_triads,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int

    from smoothdistill.features.preprocessing_checks import Phase

__all__ = ["Split", "butter_lowpass", "jerk", "magnitude", "median3", "split_gravity"]


class Split(NamedTuple):
    """What the wearer's movement and what gravity contribute.

    Args:
        body: Signal less gravity, in its unit.
        gravity: Low-passed signal, in its unit.
    """

    body: Float[np.ndarray, "time channels"]
    gravity: Float[np.ndarray, "time channels"]


def median3(
    signal: Float[np.ndarray, "time channels"],
    *,
    groups: Int[np.ndarray, " time"] | None = None,
) -> Float[np.ndarray, "time channels"]:
    """Median of every sample and its two neighbours, per channel: it takes out single spikes.

    The first and the last sample of a stretch have one neighbour, and stay as they are.

    Args:
        signal: Recording in any unit.
        groups: A number of every sample; where it changes, a stretch ends.

    Returns:
        The medians, in the dtype of the signal, NaN where the signal is not finite and nowhere
        else.

    Raises:
        TypeError: If the signal is no array of real numbers.
        DataError: If an array has another shape.

    Source:
        Definition; as scipy.ndimage.median_filter(size=3, mode="nearest").
    """
    from smoothdistill.features.kernels import nearby_samples

    signal = checked_signal(signal)
    out = np.empty_like(signal)
    borders = checked_borders(groups, len(signal))
    if len(signal):
        nearby_samples.median3(signal.reshape(-1), signal.shape[1], borders, out.reshape(-1))
    return out


def butter_lowpass(
    signal: Float[np.ndarray, "time channels"],
    *,
    cutoff_hz: float,
    sample_rate_hz: float,
    order: int = 3,
    phase: Phase = "causal",
    groups: Int[np.ndarray, " time"] | None = None,
) -> Float[np.ndarray, "time channels"]:
    """Butterworth low-pass, per channel, computed in float64.

    Args:
        signal: Recording in any unit. A sample that is not finite becomes NaN, and the filter
            starts anew behind it.
        cutoff_hz: Frequency that is passed at half power (causal) or a quarter (zero), in Hz, above
            0 and below half of the rate.
        sample_rate_hz: Samples per second, above 0.
        order: Number of poles, from 1 to 12.
        phase: "causal": what is known at a sample depends on none after it. The filter starts at
            rest at the first sample, as if the signal had always been that, so there is no jump.
            "zero": forwards and backwards, without delay; a stretch is mirrored through its end
            points by 3 * (order + 1) samples, or as many as it has.
        groups: A number of every sample; where it changes, the filter starts anew.

    Returns:
        The low-passed signal, in its dtype.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of its range, or the cutoff not below half of the rate.
        DataError: If an array has another shape.

    Source:
        scipy.signal.butter(output="sos") with sosfilt (and sosfilt_zi) or sosfiltfilt, to rounding.
    """
    signal = checked_signal(signal)
    rate = checked_number("sample_rate_hz", sample_rate_hz, unit=" Hz")
    cutoff = checked_number("cutoff_hz", cutoff_hz, unit=" Hz")
    check_below_nyquist("cutoff_hz", cutoff, rate)
    order = checked_order(order)
    num_channels = signal.shape[1]
    groups_table = [
        (first, count, first, NOT_WANTED, NOT_WANTED, NOT_WANTED)
        for first, count in channel_groups(num_channels)
    ]
    plan = ChainPlan(
        False,
        filter_sections(cutoff, rate, order),
        PASSES_ALL,
        order,
        checked_phase(phase),
        rate,
        np.array(groups_table, dtype=np.int64),
        num_channels,
    )
    out = np.empty_like(signal)
    run_chain(plan, signal, checked_borders(groups, len(signal)), out)
    return out


def split_gravity(
    signal: Float[np.ndarray, "time channels"],
    *,
    sample_rate_hz: float,
    cutoff_hz: float = 0.3,
    order: int = 3,
    phase: Phase = "causal",
    groups: Int[np.ndarray, " time"] | None = None,
) -> Split:
    """Part acceleration into gravity, which a low-pass lets through, and the rest.

    A causal gravity follows a change of posture late, by about 1 / cutoff seconds.

    Args:
        signal: Acceleration in m/s² or g. A sample that is not finite becomes NaN in both parts,
            and the filter starts anew behind it.
        sample_rate_hz: Samples per second, above 0.
        cutoff_hz: Of the low-pass, in Hz, above 0 and below half of the rate.
        order: Number of poles, from 1 to 12.
        phase: "causal" or "zero"; see `butter_lowpass`.
        groups: A number of every sample; where it changes, the filter starts anew.

    Returns:
        Body and gravity, in the dtype of the signal. Of a constant, body is exactly 0.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of its range, or the cutoff not below half of the rate.
        DataError: If an array has another shape.

    Source:
        D. Anguita et al., A public domain dataset for human activity recognition using smartphones,
        ESANN 2013, section 2 (0.3 Hz).
    """
    signal = checked_signal(signal)
    rate = checked_number("sample_rate_hz", sample_rate_hz, unit=" Hz")
    cutoff = checked_number("cutoff_hz", cutoff_hz, unit=" Hz")
    check_below_nyquist("cutoff_hz", cutoff, rate)
    order = checked_order(order)
    num_channels = signal.shape[1]
    groups_table = [
        (first, count, first, signal.size + first, NOT_WANTED, NOT_WANTED)
        for first, count in channel_groups(num_channels)
    ]
    plan = ChainPlan(
        False,
        PASSES_ALL,
        filter_sections(cutoff, rate, order),
        order,
        checked_phase(phase),
        rate,
        np.array(groups_table, dtype=np.int64),
        num_channels,
    )
    out = np.empty((2, *signal.shape), dtype=signal.dtype)
    run_chain(plan, signal, checked_borders(groups, len(signal)), out)
    return Split(out[0], out[1])


def jerk(
    signal: Float[np.ndarray, "time channels"],
    *,
    sample_rate_hz: float,
    groups: Int[np.ndarray, " time"] | None = None,
) -> Float[np.ndarray, "time channels"]:
    """Change since the sample before, per second.

    Args:
        signal: Recording in any unit *u* (m/s² for acceleration).
        sample_rate_hz: Samples per second, above 0.
        groups: A number of every sample; where it changes, a stretch ends.

    Returns:
        As many samples, in *u*/s and the dtype of the signal. The first of a stretch is 0 (before
        it, the signal counts as constant, as it does for the causal filters), and not NaN, which
        would cost the first window of every recording. NaN where the signal is not finite.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the rate is not above 0.
        DataError: If an array has another shape.

    Source:
        Definition.
    """
    from smoothdistill.features.kernels import nearby_samples

    signal = checked_signal(signal)
    rate = checked_number("sample_rate_hz", sample_rate_hz, unit=" Hz")
    out = np.empty_like(signal)
    borders = checked_borders(groups, len(signal))
    if len(signal):
        nearby_samples.jerk(signal.reshape(-1), signal.shape[1], borders, rate, out.reshape(-1))
    return out


def magnitude(
    signal: Float[np.ndarray, "time channels"],
    triads: Sequence[tuple[int, int, int]] = ((0, 1, 2),),
) -> Float[np.ndarray, "time triads"]:
    """Euclidean length of three channels, computed in float64.

    Args:
        signal: Recording in any unit.
        triads: Channel numbers of x, y and z, one triple for each column of the result.

    Returns:
        Lengths in the unit and dtype of the signal, NaN where one of the three is.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a triad breaks its rule.
        DataError: If the signal has another shape, or too few channels.

    Source:
        Definition.
    """
    from smoothdistill.features.kernels import nearby_samples

    signal = checked_signal(signal)
    triples = checked_triads(triads)
    check_triads_fit(triples, signal.shape[1])
    out = np.empty((len(signal), len(triples)), dtype=signal.dtype)
    for number, (x, y, z) in enumerate(triples):
        axes, first = signal, x
        if (y, z) != (x + 1, x + 2):
            axes, first = np.ascontiguousarray(signal[:, [x, y, z]]), 0
        flat = axes.reshape(-1)
        nearby_samples.magnitudes(flat, len(axes), axes.shape[1], first, out, number)
    return out
