"""Plain NumPy twins of the complexity features: two entropies and two fractal measures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = ["complexity", "dfa", "dfa_scales", "higuchi_fd", "perm_entropy", "sample_entropy"]


def complexity(
    window: Float64[np.ndarray, " time"],
    *,
    sample_entropy_order: int = 2,
    sample_entropy_tolerance: float = 0.2,
    perm_entropy_order: int = 3,
    perm_entropy_delay: int = 1,
    perm_entropy_normalize: bool = False,
    higuchi_kmax: int = 10,
    undefined: float = math.nan,
) -> dict[str, float]:
    """All complexity features of one window, by name.

    Args:
        window: Samples in any unit.
        sample_entropy_order: Length of the shorter templates, in samples, at least 1.
        sample_entropy_tolerance: Radius of a match, in standard deviations, above 0.
        perm_entropy_order: Samples of an ordinal pattern, 2 to 7.
        perm_entropy_delay: Distance of a pattern's samples, in samples, at least 1.
        perm_entropy_normalize: Divide by the largest possible entropy instead of giving bits.
        higuchi_kmax: Longest stride, in samples, at least 2.
        undefined: What stands for a value that the definition does not give.

    Returns:
        Values by feature; all NaN if a sample is NaN or infinite.
    """
    if not np.isfinite(window).all():
        return dict.fromkeys(("sample_entropy", "perm_entropy", "higuchi_fd", "dfa"), math.nan)
    values = {
        "sample_entropy": sample_entropy(
            window, order=sample_entropy_order, tolerance=sample_entropy_tolerance
        ),
        "perm_entropy": perm_entropy(
            window,
            order=perm_entropy_order,
            delay=perm_entropy_delay,
            normalize=perm_entropy_normalize,
        ),
        "higuchi_fd": higuchi_fd(window, kmax=higuchi_kmax),
        "dfa": dfa(window),
    }
    return {name: undefined if math.isnan(value) else value for name, value in values.items()}


def sample_entropy(
    window: Float64[np.ndarray, " time"], *, order: int = 2, tolerance: float = 0.2
) -> float:
    """Minus the log of how often templates that match for `order` samples match for one more.

    Templates match if no sample differs by the radius or more, which is `tolerance` times the
    (population) standard deviation. Both lengths count the same `time - order` templates.

    Args:
        window: Samples in any unit.
        order: Length of the shorter templates, in samples, at least 1.
        tolerance: Radius of a match, in standard deviations, above 0.

    Returns:
        Nats, at least 0; NaN for a constant window and where no templates match.

    Source:
        Richman & Moorman 2000, Am. J. Physiol. Heart Circ. Physiol. 278, H2039: SampEn.
    """
    num_templates = len(window) - order
    if num_templates < 2 or np.ptp(window) == 0.0:
        return math.nan
    num_matches = []
    for length in (order, order + 1):
        templates = np.lib.stride_tricks.sliding_window_view(window, length)[:num_templates]
        distances = np.abs(templates[:, None] - templates[None, :]).max(axis=2)
        is_match = distances < tolerance * window.std()
        num_matches.append(int(np.triu(is_match, k=1).sum()))
    short, long = num_matches
    return math.log(short / long) if long else math.nan


def perm_entropy(
    window: Float64[np.ndarray, " time"],
    *,
    order: int = 3,
    delay: int = 1,
    normalize: bool = False,
) -> float:
    """Shannon entropy of the ordinal patterns: which of `order` samples is least, next, ...

    Of equal samples the earlier counts as the lesser. A constant window has one pattern: 0.

    Args:
        window: Samples in any unit.
        order: Samples of a pattern, 2 to 7.
        delay: Distance of a pattern's samples, in samples, at least 1.
        normalize: Divide by log2(order!), the largest possible value.

    Returns:
        Bits, or a fraction of 1 if normalized; NaN if the window is shorter than a pattern.

    Source:
        Bandt & Pompe 2002, Phys. Rev. Lett. 88, 174102.
    """
    num_patterns = len(window) - (order - 1) * delay
    if num_patterns < 1:
        return math.nan
    embedded = np.stack(
        [window[i * delay : i * delay + num_patterns] for i in range(order)], axis=1
    )
    _, counts = np.unique(np.argsort(embedded, axis=1, kind="stable"), axis=0, return_counts=True)
    shares = counts / num_patterns
    bits = float(np.sum(shares * np.log2(1.0 / shares)))
    return bits / math.log2(math.factorial(order)) if normalize else bits


def higuchi_fd(window: Float64[np.ndarray, " time"], *, kmax: int = 10) -> float:
    """Fractal dimension: how fast the curve's length falls as it is walked in longer strides.

    Args:
        window: Samples in any unit.
        kmax: Longest stride, in samples, at least 2.

    Returns:
        Slope of log length against log 1/stride: 1 for a smooth curve, 2 for noise. NaN if the
        window has fewer than 2 kmax samples, or repeats itself exactly after some stride.

    Source:
        Higuchi 1988, Physica D 31, 277: eq. 1 to 3.
    """
    if len(window) < 2 * kmax:
        return math.nan
    lengths = []
    for stride in range(1, kmax + 1):
        parts = []
        for start in range(stride):
            steps = np.abs(np.diff(window[start::stride]))
            parts.append(steps.sum() * (len(window) - 1) / (len(steps) * stride) / stride)
        lengths.append(np.mean(parts))
    if min(lengths) == 0.0:
        return math.nan
    strides = np.arange(1, kmax + 1)
    return float(np.polyfit(np.log(1.0 / strides), np.log(lengths), 1)[0])


def dfa_scales(num_samples: int) -> list[int]:
    """Lengths of segments: 4 to a tenth of the window, each 1.2 times the last, rounded down."""
    num_steps = math.floor(math.log(max(num_samples, 40) / 40) / math.log(1.2))
    scales = {math.floor(4.0 * 1.2**power) for power in range(num_steps + 1)}
    return sorted(scales) if num_samples >= 40 else []


def dfa(window: Float64[np.ndarray, " time"]) -> float:
    """Exponent of the growth of the summed signal's spread about lines with the lines' length.

    Segments are as long as `dfa_scales` says, from the window's first sample on; a remainder is
    left out. A length at which the summed signal consists of straight lines is left out.

    Args:
        window: Samples in any unit.

    Returns:
        0.5 for white noise, 1.5 for a random walk. NaN for a constant window and for one with
        fewer than two lengths, which is below 58 samples.

    Source:
        Peng et al. 1994, Phys. Rev. E 49, 1685; the lengths are those of nolds and antropy.
    """
    if np.ptp(window) == 0.0:
        return math.nan
    walk = np.cumsum(window - window.mean())
    points = []
    for length in dfa_scales(len(window)):
        segments = walk[: len(walk) // length * length].reshape(-1, length)
        place = np.arange(length) - (length - 1) / 2
        slopes = segments @ place / (place @ place)
        residuals = segments - segments.mean(axis=1, keepdims=True) - slopes[:, None] * place
        spread = math.sqrt(np.mean(residuals**2))
        if spread > 0.0:
            points.append((math.log(length), math.log(spread)))
    if len(points) < 2:
        return math.nan
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])
