"""What holds for every signal: shifted, scaled, reversed, among others, in another order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from smoothdistill.features import FeatureExtractor

from .engine_checks import RATE_HZ, assert_within, compute, differing, same_bits
from .error_bounds import U, moment_bounds, order_bounds, temporal_bounds

ALL = ("moments", "order", "temporal", "cross_channel", "q10", "autocorr_lag1", "autocorr_lag3")
ONE_CHANNEL = ("moments", "order", "temporal", "autocorr_lag1", "autocorr_lag2", "q25", "q75")
quick = settings(max_examples=30)

# Multiples of 2^-10 below 2^10: shifts and small sums of them are exact.
grid = st.integers(-(2**20), 2**20).map(lambda number: number / 1024)
shapes = st.tuples(st.integers(1, 20), st.just(1), st.integers(1, 40))


def some_windows(elements: st.SearchStrategy[float] = grid, *, shape: object = shapes):
    return arrays.arrays(np.float64, shape, elements=elements)  # type: ignore[arg-type]


def bounds_of(windows: np.ndarray) -> dict[str, np.ndarray]:
    samples = windows[:, 0]
    limits = moment_bounds(samples, slope_rate_hz=RATE_HZ) | order_bounds(samples)
    return limits | temporal_bounds(samples, lags=(1, 2))


def bare(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.partition("__")[2]: column for name, column in columns.items()}


@quick
@given(some_windows(), grid)
def test_a_shift_moves_the_places_and_nothing_else(windows: np.ndarray, shift: float) -> None:
    """The bounds of both sides hold: each is within them of the truth, which is one for both."""
    before, after = bare(compute(ONE_CHANNEL, windows)), bare(compute(ONE_CHANNEL, windows + shift))
    limits, shifted = bounds_of(windows), bounds_of(windows + shift)
    moved = {"mean", "min", "max", "median", "q25", "q75"}
    about_zero = {"rms", "energy", "abs_energy", "zcr", "zcr_count"}
    for name in set(before) - about_zero:
        expected = before[name] + (shift if name in moved else 0.0)
        limit = limits[name] + shifted[name] + 2 * U * (np.abs(expected) + abs(shift))
        assert_within(after[name], expected, limit, about=name)


@quick
@given(some_windows(), st.integers(-40, 40))
def test_a_scale_of_two_is_exact(windows: np.ndarray, exponent: int) -> None:
    """No rounding knows the unit: all numbers scale as their units say, to the last bit."""
    factor = 2.0**exponent
    before = bare(compute(ONE_CHANNEL, windows))
    after = bare(compute(ONE_CHANNEL, windows * factor))
    squared = {"var", "energy", "abs_energy"}
    linear = {"mean", "std", "min", "max", "ptp", "mean_ad", "rms", "slope", "median", "iqr", "mad"}
    linear |= {"q25", "q75", "mean_abs_diff", "wave_length"}
    for name, column in before.items():
        power = factor**2 if name in squared else factor if name in linear else 1.0
        assert same_bits(after[name], column * power), name


@quick
@given(some_windows())
def test_turned_upside_down(windows: np.ndarray) -> None:
    before, after = bare(compute(ONE_CHANNEL, windows)), bare(compute(ONE_CHANNEL, -windows))
    exact_even = {"std", "var", "ptp", "mean_ad", "rms", "energy", "abs_energy", "kurtosis"}
    exact_even |= {"autocorr_lag1", "mean_abs_diff", "wave_length", "n_turning", "ar1", "ar4"}
    for name in exact_even:
        assert same_bits(after[name], before[name]), name
    for name in ("mean", "skew", "slope"):
        assert np.array_equal(after[name], -before[name], equal_nan=True), name
    assert np.array_equal(after["min"], -before["max"])
    limits = bounds_of(windows)
    for name, mirrored in (("median", "median"), ("q25", "q75"), ("iqr", "iqr"), ("mad", "mad")):
        sign = 1 if name in ("iqr", "mad") else -1
        assert_within(after[name], sign * before[mirrored], 2 * limits[name], about=name)


@quick
@given(some_windows())
def test_turned_back_to_front(windows: np.ndarray) -> None:
    """Order statistics keep their bits; Burg's method looks both ways and finds the same."""
    before, after = (
        bare(compute(ONE_CHANNEL, windows)),
        bare(compute(ONE_CHANNEL, windows[..., ::-1])),
    )
    limits = bounds_of(windows)
    backwards = bounds_of(windows[..., ::-1].copy())
    exact = {"min", "max", "ptp", "median", "iqr", "mad", "q25", "q75", "zcr", "zcr_count"}
    for name, column in before.items():
        expected = -column if name == "slope" else column
        if name in exact:
            assert same_bits(after[name], expected), name
        else:
            assert_within(after[name], expected, limits[name] + backwards[name], about=name)


@quick
@given(some_windows())
def test_bounds_that_hold_for_every_signal(windows: np.ndarray) -> None:
    got = bare(compute(ONE_CHANNEL, windows))
    width, slack = windows.shape[2], 1 + 1e-12
    least, greatest = windows.min((1, 2)), windows.max((1, 2))
    assert np.array_equal(got["min"], least)
    assert np.array_equal(got["max"], greatest)
    for low, high in (("min", "q25"), ("q25", "median"), ("median", "q75"), ("q75", "max")):
        assert (got[low] <= got[high] + 4 * U * np.abs(got[high])).all()
    assert (got["mean"] >= least - 4 * U * np.abs(least)).all()
    assert (got["mean"] <= greatest + 4 * U * np.abs(greatest)).all()
    assert (got["mean_ad"] <= got["std"] * slack).all()
    assert (got["std"] <= got["ptp"] / 2 * slack).all()
    assert (got["mad"] <= got["ptp"] / 2 * slack).all()
    assert (got["iqr"] <= got["ptp"] * slack).all()
    assert (np.abs(got["mean"]) <= got["rms"] * slack).all()
    assert ((got["hist_entropy"] >= 0) & (got["hist_entropy"] <= np.log2(10) * slack)).all()
    assert (got["n_turning"] <= max(width - 2, 0)).all()
    assert (got["mcr_count"] <= width - 1).all()
    is_defined = ~np.isnan(got["skew"])
    assert (np.isnan(got["skew"]) == (least == greatest)).all()
    lifted = got["kurtosis"][is_defined] + 3
    assert (lifted >= (got["skew"][is_defined] ** 2 + 1) / slack - 1e-9).all()
    assert (lifted <= width * slack).all()
    for name in ("autocorr_lag1", "autocorr_lag2", "ar4"):
        known = got[name][~np.isnan(got[name])]
        assert (np.abs(known) <= slack).all(), name


recordings = st.tuples(
    st.integers(1, 40), st.sampled_from([1, 2, 3, 4]), st.integers(1, 30), st.integers(0, 2**32 - 1)
)
CHANNEL_NAMES = ("x", "y", "z", "w")


def random_windows(shape: tuple[int, int, int, int]) -> np.ndarray:
    num_windows, num_channels, window_samples, seed = shape
    rng = np.random.default_rng(seed)
    windows = rng.standard_normal((num_windows, num_channels, window_samples))
    windows[rng.random(num_windows) < 0.1] = 9.81  # constant
    windows[rng.random(windows.shape) < 0.001] = np.nan
    return windows


@quick
@given(recordings)
def test_a_window_knows_nothing_of_its_neighbours(shape: tuple[int, int, int, int]) -> None:
    """Its numbers are those that it has alone, bit for bit: in a batch, a stream, on any thread."""
    windows = random_windows(shape)
    names = CHANNEL_NAMES[: windows.shape[1]]
    together = compute(ALL, windows, channel_names=names)
    for number, window in enumerate(windows):
        alone = compute(ALL, window[None], channel_names=names)
        assert not differing(alone, {name: c[number : number + 1] for name, c in together.items()})


@quick
@given(recordings, st.randoms(use_true_random=False))
def test_windows_in_another_order_have_the_same_numbers(shape, random) -> None:
    windows = random_windows(shape)
    names = CHANNEL_NAMES[: windows.shape[1]]
    numbers = np.array(random.sample(range(len(windows)), len(windows)))
    before = compute(ALL, windows, channel_names=names)
    after = compute(ALL, windows[numbers], channel_names=names)
    assert not differing(after, {name: column[numbers] for name, column in before.items()})


@quick
@given(recordings)
def test_a_channel_knows_nothing_of_the_others(shape: tuple[int, int, int, int]) -> None:
    windows = random_windows(shape)
    names = CHANNEL_NAMES[: windows.shape[1]]
    together = compute(ALL, windows, channel_names=names)
    for number, name in enumerate(names):
        alone = compute(ALL, windows[:, [number]], channel_names=[name])
        assert not differing(alone, {column: together[column] for column in alone})


@quick
@given(
    st.integers(1, 3), st.integers(2, 25), st.data(), st.integers(0, 200), st.integers(0, 2**32 - 1)
)
def test_joined_recordings(num_channels: int, width: int, data, extra: int, seed: int) -> None:
    """Two recordings in a list, and the windows of each one by itself: the same bits.

    With a step of at least half a window: for smaller steps other kernels may share the work of
    neighbours.
    """
    step = data.draw(st.integers((width + 1) // 2, 2 * width))
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((width + extra // k, num_channels)) for k in (1, 2)]
    extractor = FeatureExtractor(
        ALL, window_samples=width, step_samples=step, sample_rate_hz=RATE_HZ
    ).fit(parts[0])
    table = extractor.extract(parts)
    row = 0
    for number, part in enumerate(parts):
        for start in range(0, len(part) - width + 1, step):
            assert (table.recordings[row], table.starts[row]) == (number, start)
            alone = extractor.transform(part[start : start + width])
            assert same_bits(alone, table.values[row : row + 1])
            row += 1
    assert row == len(table)
