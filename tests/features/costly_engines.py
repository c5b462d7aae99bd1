"""What the tests of the costly features share: signals, and a call of an engine as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

# About the lengths of vectors, of tiles and of transforms; plain Python takes a second for each.
WIDTHS = (1, 2, 3, 5, 9, 10, 16, 17, 31, 32, 33, 58, 64, 100, 101, 128, 250)
if numba.config.DISABLE_JIT:
    WIDTHS = (1, 2, 3, 5, 10, 33, 64)

KINDS = ("noise", "walk", "gait", "still", "counts", "spike", "drift", "square")


def make_series(kind: str, num_windows: int, window_samples: int, *, seed: int = 0) -> np.ndarray:
    """Windows [windows, time] of one kind, as float32 has them but in float64."""
    rng = np.random.default_rng([seed, KINDS.index(kind), window_samples])
    noise = rng.standard_normal((num_windows, window_samples))
    time = np.arange(window_samples)
    spike = np.where(time == window_samples // 3, 10.0, 0.0)
    phase = rng.uniform(0.0, 6.0, (num_windows, 1))
    series = {
        "noise": noise,
        "walk": np.cumsum(noise, axis=1),
        "gait": 9.81 + 3.0 * np.sin(0.23 * time + phase) + np.sin(0.69 * time) + 0.3 * noise,
        "still": 9.81 + 0.002 * noise,
        "counts": np.round(2.0 * noise) + 0.5 * (time == 0),  # coarse, but not constant
        "spike": 0.1 * noise + spike,
        "drift": np.cumsum(np.cumsum(noise, axis=1), axis=1) + noise,
        "square": np.where(np.sin(0.4 * time + phase) > 0.0, 1.0, -1.0) + 0.01 * noise,
    }[kind]
    return series.astype(np.float32).astype(np.float64)


def make_windows(window_samples: int, *, num_windows: int = 3, seed: int = 0) -> np.ndarray:
    """Windows [windows, channels, time], one channel of each kind."""
    return np.stack(
        [make_series(kind, num_windows, window_samples, seed=seed) for kind in KINDS], axis=1
    )


def run(
    engine: Any,
    slots: Sequence[str],
    windows: np.ndarray,
    *,
    params: Sequence[float] = (),
    triads: Sequence[Sequence[int]] = (),
    undefined: float = np.nan,
    is_interleaved: bool = False,
    dtype: Any = np.float64,
    only: Sequence[tuple[int, str]] | None = None,
) -> dict[str, np.ndarray]:
    """Features [windows, signals] by slot; what `only` (signal, slot) leaves out is -777."""
    num_windows, num_channels, window_samples = windows.shape
    num_signals = num_channels + len(triads)
    ordered = windows.transpose(0, 2, 1) if is_interleaved else windows
    columns = np.full((num_signals, len(slots)), -1, np.int64)
    asked = only if only is not None else [(s, name) for name in slots for s in range(num_signals)]
    for column, (signal, name) in enumerate(asked):
        columns[signal, list(slots).index(name)] = column
    out = np.full((len(asked), num_windows), -777.0, dtype)
    engine(
        np.ascontiguousarray(ordered).reshape(-1),
        np.arange(num_windows) * (num_channels * window_samples),
        window_samples,
        num_channels,
        is_interleaved,
        np.array(triads, np.int64).reshape(-1, 3),
        (columns >= 0).any(axis=0).astype(np.uint8),
        np.array(params, np.float64),
        undefined,
        columns,
        out,
    )
    result = {name: np.full((num_windows, num_signals), -777.0, dtype) for name in slots}
    for column, (signal, name) in enumerate(asked):
        result[name][:, signal] = out[column]
    return result


def assert_same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """Equal in every bit, NaN equal to NaN."""
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
