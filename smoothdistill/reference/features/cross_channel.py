"""What channels have to do with each other, in plain NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = ["correlation", "triad_features"]


def correlation(
    first: Float64[np.ndarray, "windows time"],
    second: Float64[np.ndarray, "windows time"],
    *,
    undefined: float = np.nan,
) -> Float64[np.ndarray, " windows"]:
    """Pearson's correlation of two channels in each window.

    Args:
        first: Samples of one channel.
        second: Samples of the other one.
        undefined: What stands where a channel does not vary.

    Returns:
        Correlations in [-1, 1]; NaN where a window holds a NaN or an infinity.

    Source:
        Definition.
    """
    a = first - (first[:, :1] + (first - first[:, :1]).mean(1, keepdims=True))
    b = second - (second[:, :1] + (second - second[:, :1]).mean(1, keepdims=True))
    lengths = np.sqrt((a**2).sum(1)) * np.sqrt((b**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(lengths > 0, (a * b).sum(1) / lengths, undefined)
    return np.where(np.isfinite(first + second).all(1), found, np.nan)


def triad_features(
    triad: Float64[np.ndarray, "windows 3 time"], *, gravity: float
) -> dict[str, Float64[np.ndarray, " windows"]]:
    """Every feature of three axes at right angles, by name.

    Args:
        triad: Accelerations along x, y and z, in any unit *u*.
        gravity: What 1 g is in *u*.

    Returns:
        One value per window and feature; angles in radians.

    Source:
        sma: Anguita et al., ESANN 2013; enmo and mad_mag: van Hees et al., PLoS ONE 8(4), 2013, and
        Vaha-Ypya et al., Clin. Physiol. Funct. Imaging 35, 2015; angles: definition.
    """
    norm = np.sqrt((triad**2).sum(1))
    x, y, z = triad.mean(2).T
    found = {
        "sma": np.abs(triad).sum(1).mean(1),
        "enmo": np.maximum(norm - gravity, 0).mean(1),
        "mad_mag": np.abs(norm - norm.mean(1, keepdims=True)).mean(1),
        "pitch": np.arctan2(-x, np.hypot(y, z)),
        "roll": np.arctan2(y, z),
        "angle_x": np.arctan2(np.hypot(y, z), x),
        "angle_y": np.arctan2(np.hypot(x, z), y),
        "angle_z": np.arctan2(np.hypot(x, y), z),
    }
    is_whole = np.isfinite(triad).all((1, 2))
    return {name: np.where(is_whole, values, np.nan) for name, values in found.items()}
