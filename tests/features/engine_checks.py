"""What the tests of the features share: signals of all kinds, and parity with the references."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from smoothdistill.features.compute import (
    Kernels,
    empty_columns,
    of_recording,
    of_windows,
)
from smoothdistill.features.definitions import FEATURES
from smoothdistill.features.plan import find_triads, make_plan
from smoothdistill.features.settings import Settings
from smoothdistill.reference.features.cross_channel import correlation, triad_features
from smoothdistill.reference.features.moments import moments
from smoothdistill.reference.features.order import order
from smoothdistill.reference.features.temporal import temporal

from .error_bounds import (
    LAGS,
    PERCENTILES,
    correlation_bound,
    moment_bounds,
    order_bounds,
    rounding,
    temporal_bounds,
    triad_bounds,
)

# Off and on powers of two, of 8 (sorted in registers) and of 16 (transposed at once), and the
# usual ones of the field.
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 97, 100, 128, 129, 250, 256, 257, 1000)
BATCHES = (0, 1, 15, 16, 17, 100)  # about a block of 16 windows
CHANNELS = {
    1: ("x",),
    2: ("c0", "c1"),
    3: ("x", "y", "z"),
    6: ("acc_x", "acc_y", "acc_z", "gyr_x", "gyr_y", "gyr_z"),
    # axes neither in order nor side by side
    7: ("gyr_z", "acc_y", "pressure", "gyr_x", "acc_x", "acc_z", "gyr_y"),
}
KINDS = ("noise", "still", "gait", "counts", "constant", "glitch", "flip", "ramp", "square")
# Of these kinds, every feature is well conditioned in windows of more than a few samples.
USUAL_KINDS = ("noise", "still", "gait")
RATE_HZ = 50.0
UNWRITTEN = -12345.678  # no feature of the signals below has this value


def make_windows(
    num_windows: int, num_channels: int, window_samples: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Windows [windows, channels, time] of float32 values, and the kind of each channel of each."""
    rng = np.random.default_rng([seed, num_windows, num_channels, window_samples])
    shape = (num_windows, num_channels, window_samples)
    time = np.arange(window_samples)
    phase = rng.uniform(0, 2 * np.pi, (*shape[:2], 1))
    noise = rng.standard_normal(shape)
    glitch = noise.copy()
    if glitch.size:
        glitch[:, :, window_samples // 3] = 1e4
    of_kind = {
        "noise": noise,
        "still": 9.81 + 0.002 * noise,
        "gait": 9.81 + 3 * np.sin(2 * np.pi * 1.8 / RATE_HZ * time + phase) + 0.3 * noise,
        "counts": np.round(2 * noise),
        "constant": np.full(shape, -9.81),
        "glitch": glitch,
        "flip": np.where(time < window_samples // 2, -9.81, 9.81) + 0.01 * noise,
        "ramp": 0.1 * time + 0 * noise,
        "square": np.where(time % 2, 1.0, -1.0) + 0 * noise,
    }
    numbers = (np.arange(num_windows)[:, None] + 2 * np.arange(num_channels)) % len(KINDS)
    windows = np.choose(numbers[:, :, None], [of_kind[kind] for kind in KINDS])
    return windows.astype(np.float32), np.array(KINDS)[numbers]


def names_of_family(family: str) -> list[str]:
    """Every feature of a family, with numbers where a name has any."""
    names = [
        feature.name for feature in FEATURES if feature.family == family and "{" not in feature.name
    ]
    if family == "order":
        names += [f"q{percentile}" for percentile in PERCENTILES]
    if family == "temporal":
        names += [f"autocorr_lag{lag}" for lag in LAGS]
    return names


def compute(
    features: str | Sequence[str],
    windows: np.ndarray,
    *,
    channel_names: Sequence[str] | None = None,
    is_interleaved: bool = False,
    dtype: Any = np.float64,
    magnitude: bool = True,
    nan_policy: Any = "propagate",
    num_threads: int = 1,
    bands: Sequence[tuple[float, float]] = (),
    **settings: Any,
) -> dict[str, np.ndarray]:
    """The columns of windows [windows, channels, time], as they are or out of a recording.

    In the recording the windows lie end to end and are read in another order than they lie.
    """
    assert windows.dtype.kind == "f"
    num_windows, num_channels, window_samples = windows.shape
    plan = make_plan(
        features, channel_names or CHANNELS[num_channels], magnitude=magnitude, bands=bands
    )
    block = of_windows(np.ascontiguousarray(windows))
    if is_interleaved:
        lying = np.random.default_rng(num_windows).permutation(num_windows)
        starts = np.empty(num_windows, np.int64)
        starts[lying] = np.arange(num_windows) * window_samples
        recording = windows[lying].swapaxes(1, 2).reshape(-1, num_channels)
        block = of_recording(np.ascontiguousarray(recording), starts, window_samples)
    out = empty_columns(len(plan.columns), num_windows, np.dtype(dtype))
    out.fill(UNWRITTEN)
    kernels = Kernels(
        plan,
        window_samples,
        is_interleaved=is_interleaved,
        step_samples=0,
        settings=Settings(**{"sample_rate_hz": RATE_HZ, "slope_rate_hz": RATE_HZ, **settings}),
    )
    kernels.fill(block, out, nan_policy=nan_policy, num_threads=num_threads)
    unwritten = [name for name, column in zip(plan.names, out, strict=True) if UNWRITTEN in column]
    assert not unwritten, unwritten
    return {name: out[place].copy() for place, name in enumerate(plan.names)}


def norm_of(triad: np.ndarray) -> np.ndarray:
    """Norms of [windows, 3, time] as the kernels store them: in the dtype of the samples."""
    x, y, z = triad.astype(np.float64).swapaxes(0, 1)
    return np.sqrt((x * x + y * y + z * z).astype(triad.dtype))


def signals_of(
    windows: np.ndarray, channel_names: Sequence[str], *, magnitude: bool = True
) -> dict[str, np.ndarray]:
    """Samples [windows, time] of each channel and of each norm, as float64."""
    signals = {
        name: windows[:, number].astype(np.float64) for number, name in enumerate(channel_names)
    }
    for triad in find_triads(channel_names) if magnitude else ():
        signals[triad.norm_name] = norm_of(windows[:, triad.axes]).astype(np.float64)
    return signals


def expected(
    family: str, windows: np.ndarray, channel_names: Sequence[str], **options: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns of the reference and the bounds of their errors, by the name of the column."""
    values: dict[str, np.ndarray] = {}
    bounds: dict[str, np.ndarray] = {}
    if family == "cross_channel":
        _cross_channel(windows, channel_names, values, bounds, **options)
        return values, bounds
    twin = {"moments": moments, "order": order, "temporal": temporal}[family]
    limit = {"moments": moment_bounds, "order": order_bounds, "temporal": temporal_bounds}[family]
    if family == "order":
        options = {"percentiles": PERCENTILES}
    elif family == "temporal":
        options = {"lags": LAGS, **options}
    else:
        options = {"slope_rate_hz": RATE_HZ, **options}
    for signal, samples in signals_of(windows, channel_names).items():
        if not len(samples):  # the reference goes window by window
            for name in twin(np.ones((1, samples.shape[1])), **options):
                values[f"{signal}__{name}"] = bounds[f"{signal}__{name}"] = np.empty(0)
            continue
        limits = limit(samples, **{k: v for k, v in options.items() if k != "undefined"})
        for name, column in twin(samples, **options).items():
            values[f"{signal}__{name}"] = column
            bounds[f"{signal}__{name}"] = limits[name]
    if family == "moments":  # lag 1 is of the family "temporal", though this kernel computes it
        for signal in signals_of(windows, channel_names):
            del values[f"{signal}__autocorr_lag1"], bounds[f"{signal}__autocorr_lag1"]
    return values, bounds


def _cross_channel(
    windows: np.ndarray,
    channel_names: Sequence[str],
    values: dict[str, np.ndarray],
    bounds: dict[str, np.ndarray],
    *,
    gravity: float = 9.80665,
    undefined: float = np.nan,
) -> None:
    samples = windows.astype(np.float64)
    for first, a in enumerate(channel_names):
        for second, b in enumerate(channel_names[first + 1 :], first + 1):
            pair = samples[:, first], samples[:, second]
            values[f"corr_{a}_{b}"] = correlation(*pair, undefined=undefined)
            bounds[f"corr_{a}_{b}"] = correlation_bound(*pair)
    for triad in find_triads(channel_names):
        limits = triad_bounds(windows[:, triad.axes])
        for name, column in triad_features(samples[:, triad.axes], gravity=gravity).items():
            values[f"{triad.label}__{name}"] = column
            bounds[f"{triad.label}__{name}"] = limits[name]


def assert_columns(
    got: dict[str, np.ndarray],
    values: dict[str, np.ndarray],
    bounds: dict[str, np.ndarray],
    *,
    about: str = "",
) -> None:
    """The same columns, each value within its bound and the rounding to the dtype it came in."""
    assert set(got) == set(values), about
    for name, column in got.items():
        limit = bounds[name] + rounding(column.dtype) * np.abs(values[name])
        assert_within(column, values[name], limit, about=f"{name} {about}")


def assert_within(got: np.ndarray, value: np.ndarray, bound: np.ndarray, *, about: str) -> None:
    """Equal within the bounds; NaN is equal to NaN, and anything to what has no bound."""
    with np.errstate(invalid="ignore"):  # infinity less itself
        error = np.abs(got - value)
    is_right = (error <= bound) | (bound == np.inf) | (np.isnan(got) & np.isnan(value))
    wrong = np.flatnonzero(~is_right)
    assert not wrong.size, (
        f"{about}: window {wrong[0]} is {got[wrong[0]]!r}, not {value[wrong[0]]!r}; off by "
        f"{error[wrong[0]]:.3g}, allowed {bound[wrong[0]]:.3g} ({wrong.size} of {got.size} are off)"
    )


def same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal to the last bit, NaN included (of which there is one kind here)."""
    return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=True)


def differing(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    """Names of the columns that are not the same to the last bit."""
    assert set(first) == set(second)
    return [name for name in first if not same_bits(first[name], second[name])]


def columns_of(names: Iterable[str], *owners: str) -> set[str]:
    """Those columns that are computed of a channel, norm or triad, or of a pair with it."""
    found = set()
    for name in names:
        owner = name.partition("__")[0]
        pair = re.sub(r"^corr_", "", name) if name.startswith("corr_") else ""
        if owner in owners or any(re.search(rf"(^|_){re.escape(o)}(_|$)", pair) for o in owners):
            found.add(name)
    return found


# --- Parity, for every family alike --------------------------------------------------------------


def check_parity(
    family: str, num_windows: int, num_channels: int, window_samples: int, **options: Any
) -> None:
    """Kernel against reference: of either dtype, from either layout, into either dtype."""
    channel_names = CHANNELS[num_channels]
    singles, kinds = make_windows(num_windows, num_channels, window_samples)
    for dtype in (np.float64, np.float32):
        windows = singles.astype(dtype)
        values, bounds = expected(family, windows, channel_names, **options)
        for is_interleaved in (False, True):
            for out_dtype in (np.float64, np.float32):
                got = compute(
                    names_of_family(family),
                    windows,
                    is_interleaved=is_interleaved,
                    dtype=out_dtype,
                    **options,
                )
                about = f"{dtype.__name__} to {out_dtype.__name__}, "
                about += f"{'recording' if is_interleaved else 'windows'}, W = {window_samples}"
                assert_columns(got, values, bounds, about=about)
                assert all(column.dtype == out_dtype for column in got.values())
    _check_bounds_bite(bounds, kinds, channel_names, window_samples)


def _check_bounds_bite(
    bounds: dict[str, np.ndarray],
    kinds: np.ndarray,
    channel_names: Sequence[str],
    window_samples: int,
) -> None:
    """A bound that lets everything pass would make the test one of nothing."""
    for number, channel in enumerate(channel_names):
        if window_samples < 15:  # a few samples may be near to any special case
            continue
        is_usual = np.isin(kinds[:, number], USUAL_KINDS)
        for name, bound in bounds.items():
            if not name.startswith(f"{channel}__"):
                continue
            # Samples of a still sensor are few different ones in float32, and hit edges of bins.
            is_doubtful = (kinds[:, number] == "still") & name.endswith("hist_entropy")
            loosest = 1e-8 * window_samples  # Burg's; the others stay far below
            assert (bound[is_usual & ~is_doubtful] < loosest).all(), name
