"""The engine for small steps: parity with the reference, and numbers that nothing else touches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from smoothdistill.features.kernels import dense_chunk
from smoothdistill.features.kernels.cross_channel import TRIAD
from smoothdistill.features.kernels.dense import dense_call, dense_engine, dense_is_faster
from smoothdistill.features.kernels.dense_doubling import double_moments, list_sizes, plan_rows
from smoothdistill.features.kernels.dense_order import slide
from smoothdistill.features.kernels.dense_results import count_mean_crossings
from smoothdistill.features.kernels.lanes import LANES
from smoothdistill.features.kernels.moments import MOMENTS
from smoothdistill.features.kernels.order import ORDER
from smoothdistill.features.plan import find_triads

from .engine_checks import CHANNELS, RATE_HZ, WIDTHS, assert_columns, expected, same_bits
from .error_bounds import PERCENTILES
from .test_vectorised import assembly, counts, has_wide_registers
from .test_without_jit import run_tests

GRAVITY = 9.80665
QUANTILES = tuple(f"q{percentile}" for percentile in PERCENTILES)


class Request:
    """Tables of columns for an engine, and the columns' names.

    Args:
        channel_names: Channels of the recording.
        features: Names of features; all of them unless said otherwise.
    """

    def __init__(self, channel_names: Sequence[str], features: Iterable[str] | None = None) -> None:
        self.names: list[str] = []
        self.is_asked = (lambda name: True) if features is None else set(features).__contains__
        triads = find_triads(channel_names)
        signals = [*channel_names, *(triad.norm_name for triad in triads)]
        self.num_channels, self.num_norms = len(channel_names), len(triads)
        self.triads = np.array([triad.axes for triad in triads], np.int64).reshape(-1, 3)
        self.moments = np.array([self._columns(signal, MOMENTS) for signal in signals])
        self.order = np.array([self._columns(signal, (*ORDER, *QUANTILES)) for signal in signals])
        pairs = [(a, b) for b in range(self.num_channels) for a in range(b)]
        self.pairs = np.array(pairs, np.int64).reshape(-1, 2)
        self.pair_columns = np.array(
            [self._column(f"corr_{channel_names[a]}_{channel_names[b]}", "corr") for a, b in pairs],
            np.int64,
        )
        self.triad_columns = np.array(
            [self._columns(triad.label, TRIAD) for triad in triads], np.int64
        ).reshape(-1, len(TRIAD))

    def _columns(self, owner: str, features: Sequence[str]) -> list[int]:
        return [self._column(f"{owner}__{feature}", feature) for feature in features]

    def _column(self, name: str, feature: str) -> int:
        if not self.is_asked(feature):
            return -1
        self.names.append(name)
        return len(self.names) - 1

    def arguments(
        self,
        window_samples: int,
        *,
        slope_rate_hz: float = RATE_HZ,
        ddof: int = 0,
        gravity: float = GRAVITY,
        undefined: float = np.nan,
    ) -> tuple[Any, ...]:
        """What stands between the offsets and the results."""
        quantiles = np.array(PERCENTILES) / 100
        return (
            *(window_samples, self.num_channels, True, self.triads, self.num_norms),
            *(slope_rate_hz, ddof, gravity, undefined, quantiles),
            *(self.moments, self.order, self.pairs, self.pair_columns, self.triad_columns),
        )

    def room(self, num_windows: int, dtype: Any = np.float64) -> np.ndarray:
        """Columns as the caller lays them out, filled with what no feature is."""
        return np.full((len(self.names) + 1, num_windows + 16), -12345.0, dtype)[:-1, :num_windows]


def compute(
    recording: np.ndarray,
    starts: np.ndarray,
    window_samples: int,
    *,
    features: Iterable[str] | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Columns of the windows that begin at these samples, by name."""
    request = Request(CHANNELS[recording.shape[1]], features)
    out = request.room(len(starts), dtype)
    offsets = np.asarray(starts, np.int64) * recording.shape[1]
    dense_engine(recording.reshape(-1), offsets, *request.arguments(window_samples, **options), out)
    assert not (out == -12345.0).any()
    return dict(zip(request.names, out, strict=True))


def check(
    recording: np.ndarray, starts: np.ndarray, window_samples: int, **options: Any
) -> dict[str, np.ndarray]:
    """All columns against the reference; returns them."""
    channel_names = CHANNELS[recording.shape[1]]
    got = compute(recording, starts, window_samples, **options)
    windows = np.stack([recording[start : start + window_samples].T for start in starts])
    values: dict[str, np.ndarray] = {}
    bounds: dict[str, np.ndarray] = {}
    without_rate = {key: options[key] for key in options if key in ("undefined", "gravity")}
    of_ratios = {key: options[key] for key in options if key == "undefined"}
    of_moments = {key: options[key] for key in options if key not in ("gravity", "dtype")}
    with np.errstate(invalid="ignore"):
        for family, chosen in (
            ("moments", of_moments),
            ("order", {}),
            ("cross_channel", without_rate),
            ("temporal", of_ratios),
        ):
            found, limits = expected(family, windows, channel_names, **chosen)
            names = found.keys() & got.keys()
            values |= {name: found[name] for name in names}
            bounds |= {name: limits[name] for name in names}
    # The bounds are those of sums of deviations from one mean. Here a mean is rounded once more in
    # each of the log2(W) merges, and once for a single sample behind them.
    merges = 1 + 2 * np.ceil(np.log2(window_samples))
    bounds = {name: merges * bound for name, bound in bounds.items()}
    for name in got:
        if name.endswith("__roll"):  # half a turn to either side is the same
            turns = np.round((values[name] - got[name]) / (2 * np.pi))
            values[name] = values[name] - 2 * np.pi * turns
    assert_columns(got, values, bounds, about=f"W = {window_samples}")
    return got


def make_recording(num_samples: int, num_channels: int = 3, *, seed: int = 0) -> np.ndarray:
    """Float32 values [time, channels] that change their kind every few dozen samples."""
    rng = np.random.default_rng([seed, num_samples, num_channels])
    time = np.arange(num_samples)
    pieces = np.empty((num_samples, num_channels))
    for channel in range(num_channels):
        noise = rng.standard_normal(num_samples)
        kinds = [
            noise,
            9.81 + 0.002 * noise,
            9.81 + 3 * np.sin(0.2 * time) + 0.3 * noise,
            np.round(2 * noise),
            np.full(num_samples, -9.81),
            np.where(rng.random(num_samples) < 0.02, 1e4, noise),
            np.where(time % 90 < 45, -9.81, 9.81) + 0.01 * noise,
            0.1 * time,
            np.where(time % 2, 1.0, -1.0),
        ]
        start = 0
        while start < num_samples:
            stop = start + int(rng.integers(5, 120))
            pieces[start:stop, channel] = kinds[rng.integers(len(kinds))][start:stop]
            start = stop
    return pieces.astype(np.float32)


def still_recording(num_samples: int, *, seed: int = 0) -> np.ndarray:
    """A sensor at rest, 9.81 +- 0.002 m/s^2, in float32, of one channel."""
    noise = np.random.default_rng(seed).standard_normal((num_samples, 1))
    return (9.81 + 0.002 * noise).astype(np.float32)


def differing(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    return [name for name in first if not same_bits(first[name], second[name])]


# --- Parity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window_samples", [width for width in WIDTHS if width < 300])
def test_every_window_length(window_samples: int) -> None:
    for step_samples in (1, 2, 3, 7):
        recording = make_recording(window_samples + 66 * step_samples)
        starts = np.arange(0, 66 * step_samples, step_samples)
        check(recording, starts, window_samples)
    check(recording.astype(np.float64), starts, window_samples)


@pytest.mark.parametrize("num_windows", [1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 1100])
def test_every_number_of_windows(num_windows: int) -> None:
    for step_samples in (1, 5):
        recording = make_recording(29 + (num_windows - 1) * step_samples)
        check(recording, np.arange(num_windows) * step_samples, 29)


@pytest.mark.parametrize("num_channels", CHANNELS)
def test_every_number_of_channels(num_channels: int) -> None:
    recording = make_recording(140, num_channels)
    for step_samples in (1, 4):
        check(recording, np.arange(0, 90, step_samples), 50)
        check(recording.astype(np.float64), np.arange(0, 90, step_samples), 50)


@pytest.mark.parametrize("step_samples", [16, 20, 50, 64])
def test_large_steps(step_samples: int) -> None:
    check(make_recording(50 + 40 * step_samples), np.arange(40) * step_samples, 50)


def test_options() -> None:
    recording = make_recording(100)
    starts = np.arange(80)
    check(recording, starts, 12, ddof=1, slope_rate_hz=1.0, gravity=1.0)
    for window_samples in (1, 2, 9):
        check(recording, starts, window_samples, undefined=0.0)


@pytest.mark.parametrize("undefined", [np.nan, 0.0])
def test_a_variance_of_too_few_samples_is_undefined(undefined: float) -> None:
    recording = make_recording(60)
    recording[30, 1] = np.nan
    for window_samples, ddof in ((1, 2), (3, 3), (3, 5)):
        options = {"features": ("var", "std"), "ddof": ddof, "undefined": undefined}
        got = compute(recording, np.arange(50), window_samples, **options)
        for name, column in got.items():
            expected = np.full(50, undefined)
            if name[0] in "ym":  # the norm's, too
                expected[31 - window_samples : 31] = np.nan
            assert same_bits(column, expected), name


def test_no_windows() -> None:
    got = compute(make_recording(20), np.arange(0), 5)
    assert all(len(column) == 0 for column in got.values())


def test_float32_results_are_float64_results_rounded() -> None:
    recording, starts = make_recording(400), np.arange(350)
    wide = compute(recording, starts, 50)
    narrow = compute(recording, starts, 50, dtype=np.float32)
    assert not differing({name: wide[name].astype(np.float32) for name in wide}, narrow)


# --- A window's numbers are made of its own samples ----------------------------------------------


def test_gaps_end_a_run() -> None:
    """Runs of many, of few and of single windows, with other samples or none between them."""
    recording = make_recording(900)
    runs = [np.arange(3, 200), np.array([310]), np.arange(311, 340), [350], [352], range(500, 560)]
    starts = np.concatenate([np.array(run) for run in runs])
    together = check(recording, starts, 64)
    for run in runs:
        alone = compute(recording, np.array(run), 64)
        place = np.searchsorted(starts, run)
        assert not differing({name: column[place] for name, column in together.items()}, alone)


def test_windows_in_any_order() -> None:
    recording = make_recording(120)
    starts = np.random.default_rng(0).permutation(100)
    ordered = compute(recording, np.arange(100), 20)
    shuffled = compute(recording, starts, 20)
    assert not differing({name: column[starts] for name, column in ordered.items()}, shuffled)


def test_windows_out_of_step_with_the_channels() -> None:
    """Two recordings one behind the other in memory, at a distance that no sample has."""
    first, second = make_recording(60), make_recording(80, seed=1)
    flat = np.concatenate([first.reshape(-1), np.zeros(2, np.float32), second.reshape(-1)])
    offsets = np.concatenate([[0], first.size + 2 + 3 * np.arange(60)])
    request = Request(CHANNELS[3])
    out = request.room(61)
    dense_engine(flat, offsets, *request.arguments(20), out)
    got = dict(zip(request.names, out, strict=True))
    alone = compute(second, np.arange(60), 20)
    assert not differing({name: column[1:] for name, column in got.items()}, alone)


@pytest.mark.parametrize("window_samples", [9, 32, 100])
def test_bits_do_not_depend_on_chunk_step_or_place(
    window_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_recording(1700)
    starts = np.arange(1500)
    whole = compute(recording, starts, window_samples)
    every_third = compute(recording, starts[1::3], window_samples)
    assert not differing({name: column[1::3] for name, column in whole.items()}, every_third)
    monkeypatch.setattr(dense_chunk, "CHUNK_SAMPLES", 80)
    monkeypatch.setattr(dense_chunk, "MIN_CHUNK_WINDOWS", 16)
    assert not differing(whole, compute(recording, starts, window_samples))
    every_seventh = compute(recording, starts[::7], window_samples)
    assert not differing({name: column[::7] for name, column in whole.items()}, every_seventh)
    for start in (0, 1, 77, 1499):
        piece = recording[start : start + window_samples].copy()
        alone = compute(piece, np.array([0]), window_samples)
        assert not differing({name: column[[start]] for name, column in whole.items()}, alone)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("window_samples", "step_samples"), [(16, 1), (25, 1), (25, 3)])
def test_a_gap_in_the_data_touches_its_windows_only(
    value: float, window_samples: int, step_samples: int
) -> None:
    clean = make_recording(400)
    spoilt = clean.copy()
    spoilt[150, 1] = spoilt[152, 1] = value
    starts = np.arange(0, 370, step_samples)
    holds = (starts <= 152) & (starts + window_samples > 150)
    holds &= ~((starts > 150) & (starts + window_samples <= 152))
    before = compute(clean, starts, window_samples)
    after = check(spoilt, starts, window_samples)
    for name, column in after.items():
        is_of_y = name.startswith(("y__", "xyz_mag__", "xyz__")) or name in (
            "corr_x_y",
            "corr_y_z",
        )
        is_of_y |= not name.startswith(("x__", "y__", "z__", "corr_"))
        touched = holds if is_of_y else np.zeros_like(holds)
        assert np.isnan(column[touched]).all(), name
        assert same_bits(column[~touched], before[name][~touched]), name


def test_a_glitch_leaves_nothing_behind() -> None:
    clean = still_recording(800)
    glitched = clean.copy()
    glitched[100] = 1e4
    starts = np.arange(101, 500)
    expected_columns = compute(clean, starts, 256)
    assert not differing(expected_columns, compute(glitched, starts, 256))
    after = compute(glitched, np.arange(500), 256)
    assert not differing(expected_columns, {name: column[101:] for name, column in after.items()})


@pytest.mark.parametrize("window_samples", [1, 2, 3, 7, 64, 100, 255])
@pytest.mark.parametrize("value", [9.81, -1e-3, 1e6, 0.0])
def test_a_constant_signal_has_no_variance(window_samples: int, value: float) -> None:
    for dtype in (np.float32, np.float64):
        recording = np.full((window_samples + 50, 1), value, dtype)
        got = compute(recording, np.arange(50), window_samples, undefined=0.0)
        for feature in ("std", "var", "ptp", "mcr", "zcr", "slope", "iqr", "mad", "skew"):
            assert (got[f"x__{feature}"] == 0).all(), feature
        assert (got["x__mean"] == recording[0, 0]).all()
        assert (got["x__kurtosis"] == 0).all()
        assert (got["x__autocorr_lag1"] == 0).all()


@pytest.mark.parametrize("window_samples", [100, 255, 256])
def test_promised_accuracy_on_a_still_sensor(window_samples: int) -> None:
    """Against rational numbers: variance to 1e-12, skewness and kurtosis to 1e-10."""
    recording = still_recording(window_samples + 400)
    got = compute(recording, np.arange(400), window_samples)
    for start in (0, 123, 399):
        samples = [Fraction(float(value)) for value in recording[start : start + window_samples, 0]]
        mean = sum(samples) / window_samples
        second, third, fourth = (
            sum((sample - mean) ** power for sample in samples) / window_samples
            for power in (2, 3, 4)
        )
        skew = np.copysign(np.sqrt(float(third**2 / second**3)), float(third))
        assert abs(got["x__var"][start] / float(second) - 1) <= 1e-12
        assert abs(got["x__skew"][start] - skew) <= 1e-10
        assert abs(got["x__kurtosis"][start] - float(fourth / second**2 - 3)) <= 1e-10


# --- Order statistics ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window_samples", [1, 2, 5, 6, 64, 101])
@pytest.mark.parametrize("kind", ["ties", "up", "down", "two values", "zeros of both signs"])
def test_sliding_through_anything(kind: str, window_samples: int, dtype: Any) -> None:
    rng = np.random.default_rng(window_samples)
    num_samples = window_samples + 300
    samples = {
        "ties": rng.integers(-2, 3, num_samples) / 3,
        "up": np.arange(num_samples) ** 2.0,
        "down": -(np.arange(num_samples) ** 2.0),
        "two values": np.where(rng.random(num_samples) < 0.5, -100.0, 100.0),
        "zeros of both signs": np.where(rng.random(num_samples) < 0.5, -0.0, 0.0),
    }[kind].astype(dtype)
    features = ("median", "iqr", "mad", *QUANTILES)
    got = compute(samples[:, None], np.arange(300), window_samples, features=features)
    windows = np.lib.stride_tricks.sliding_window_view(samples, window_samples)[:300]
    windows = windows.astype(np.float64)
    median = np.median(windows, axis=1)
    mad = np.median(np.abs(windows - median[:, None]), axis=1)
    # Sums and differences of two float32 are exact; of float64, both sides round up to four times.
    limit = 8 * np.finfo(np.float64).eps * np.abs(windows).max() * (dtype == np.float64)
    assert (np.abs(got["x__median"] - median) <= limit).all()
    assert (np.abs(got["x__mad"] - mad) <= limit).all()
    for percentile in PERCENTILES:
        wanted = np.quantile(windows, percentile / 100, axis=1)
        np.testing.assert_allclose(got[f"x__q{percentile}"], wanted, rtol=1e-14, atol=1e-14)
    assert not np.signbit(got["x__median"][got["x__median"] == 0]).any()


@given(
    st.lists(st.sampled_from([-1.5, -0.0, 0.0, 1e-30, 1.0, 1e30]), min_size=30, max_size=60),
    st.integers(1, 9),
    st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_sorted_windows_of_any_values(
    values: list[float], window_samples: int, step_samples: int
) -> None:
    samples = np.array(values)
    starts = np.arange(0, len(samples) - window_samples + 1, step_samples)
    got = compute(samples[:, None], starts, window_samples, features=("median", "mad"))
    windows = np.stack([samples[start : start + window_samples] for start in starts])
    median = np.median(windows, axis=1)
    mad = np.median(np.abs(windows - median[:, None]), axis=1)
    limit = 8 * np.finfo(np.float64).eps * np.abs(windows).max(axis=1)
    assert (np.abs(got["x__median"] - median) <= limit).all()
    assert (np.abs(got["x__mad"] - mad) <= limit).all()


# --- Invariants ----------------------------------------------------------------------------------

LENGTHS = st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 60))


@given(LENGTHS, st.integers(-8, 8), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_power_of_two_scales_every_bit(
    lengths: tuple[int, int, int], power: int, seed: int
) -> None:
    window_samples, step_samples, num_windows = lengths
    starts = np.arange(num_windows) * step_samples
    recording = make_recording(window_samples + int(starts[-1]), 1, seed=seed)
    first = compute(recording, starts, window_samples)
    second = compute(recording * np.float32(2.0**power), starts, window_samples)
    squared = ("x__var", "x__energy", "x__abs_energy")
    unscaled = ("skew", "kurtosis", "zcr", "mcr", "zcr_count", "mcr_count", "autocorr_lag1")
    for name, column in first.items():
        factor = 2.0 ** (power * (2 if name in squared else 1))
        factor = 1.0 if name.removeprefix("x__") in unscaled else factor
        assert same_bits(column * factor, second[name]), name


@given(LENGTHS, st.integers(-1000, 1000), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_shift_moves_places_and_nothing_else(
    lengths: tuple[int, int, int], shift: int, seed: int
) -> None:
    """Of quarters, which neither shift nor sum rounds."""
    window_samples, step_samples, num_windows = lengths
    starts = np.arange(num_windows) * step_samples
    rng = np.random.default_rng(seed)
    shape = (window_samples + int(starts[-1]), 1)
    recording = rng.integers(-20, 20, shape).astype(np.float32) / 4
    first = compute(recording, starts, window_samples, undefined=0.0)
    second = compute(recording + np.float32(shift), starts, window_samples, undefined=0.0)
    for feature in ("mean", "min", "max", "median", *QUANTILES):
        difference = second[f"x__{feature}"] - first[f"x__{feature}"]
        np.testing.assert_allclose(difference, shift, rtol=0, atol=1e-10)
    for feature in ("std", "var", "ptp", "iqr", "mad", "mean_ad", "slope"):
        np.testing.assert_allclose(
            second[f"x__{feature}"], first[f"x__{feature}"], rtol=1e-9, atol=1e-9
        )


@given(st.integers(1, 30), st.integers(30, 90), st.integers(30, 90), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_what_is_joined_behind_changes_nothing(
    window_samples: int, head: int, tail: int, seed: int
) -> None:
    recording = make_recording(head + tail, 1, seed=seed)
    starts = np.arange(head + tail - window_samples + 1)
    both = compute(recording, starts, window_samples)
    first = compute(recording[:head].copy(), starts[: head - window_samples + 1], window_samples)
    second = compute(recording[head:].copy(), starts[: tail - window_samples + 1], window_samples)
    assert not differing({name: column[: len(first[name])] for name, column in both.items()}, first)
    assert not differing({name: column[head:] for name, column in both.items()}, second)


# --- What is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize("feature", [*MOMENTS, *ORDER, "q25", "corr", *TRIAD])
def test_a_feature_alone_is_what_it_is_among_all(feature: str) -> None:
    recording, starts = make_recording(180), np.arange(0, 140, 2)
    among_all = compute(recording, starts, 37)
    alone = compute(recording, starts, 37, features=(feature,))
    assert alone
    assert not differing(alone, {name: among_all[name] for name in alone})


def test_one_engine_for_many_recordings_and_threads() -> None:
    """Its memory is kept and must not matter: longer and shorter, float64, threads."""
    request = Request(CHANNELS[3])
    window_samples, num_channels, _, *others = request.arguments(30)
    engine = dense_call(window_samples, num_channels, *others)

    def run(recording: np.ndarray, num_windows: int, step_samples: int) -> list[str]:
        starts = np.arange(num_windows) * step_samples
        out = request.room(num_windows)
        engine(recording.reshape(-1), starts * 3, out)
        fresh = compute(recording, starts, window_samples)
        return differing(fresh, dict(zip(request.names, out, strict=True)))

    jobs = [
        (make_recording(400), 300, 1),
        (make_recording(50), 3, 1),
        (make_recording(400).astype(np.float64), 70, 5),
        (make_recording(800), 700, 1),
        (np.full((60, 3), np.nan, np.float32), 20, 1),
        (make_recording(300), 200, 1),
    ]
    assert [run(*job) for job in jobs] == [[]] * len(jobs)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda job: run(*job), jobs * 3)) == [[]] * (3 * len(jobs))


def test_slices_of_the_results_are_filled_by_threads() -> None:
    recording, starts = make_recording(500), np.arange(400)
    request = Request(CHANNELS[3])
    out = request.room(400)
    for piece in (slice(0, 144), slice(144, 400)):
        dense_engine(
            recording.reshape(-1), starts[piece] * 3, *request.arguments(64), out[:, piece]
        )
    whole = compute(recording, starts, 64)
    assert not differing(whole, dict(zip(request.names, out, strict=True)))


def test_the_rule_follows_window_and_step() -> None:
    assert dense_is_faster(256, 1)
    assert not dense_is_faster(100, 60)
    for window_samples in (16, 64, 100, 256, 1024):
        chosen = [dense_is_faster(window_samples, step) for step in range(1, window_samples + 1)]
        assert chosen == sorted(chosen, reverse=True)
    assert not dense_is_faster(1, 1)


# --- As plain Python, with bounds, and on vectors ------------------------------------------------


def test_small_sizes_in_any_mode() -> None:
    """What there is time for in plain Python: all kernels, both kinds of steps, a NaN."""
    recording = make_recording(60)
    recording[30, 2] = np.nan
    for window_samples, step_samples in ((1, 1), (6, 1), (9, 2)):
        check(recording, np.arange(0, 36, step_samples), window_samples)
    if not config.BOUNDSCHECK:  # which would have to be compiled once more
        check(make_recording(40, 2).astype(np.float64), np.arange(20), 13)


@pytest.mark.skipif(config.DISABLE_JIT or bool(config.BOUNDSCHECK), reason="this is that run")
@pytest.mark.parametrize(
    "variable",
    ["NUMBA_DISABLE_JIT", pytest.param("NUMBA_BOUNDSCHECK", marks=pytest.mark.slow)],
)
def test_the_same_as_plain_python_and_within_bounds(variable: str, tmp_path: Path) -> None:
    output = run_tests(variable, tmp_path, "test_dense.py::test_small_sizes_in_any_mode")
    assert " passed" in output


@pytest.mark.skipif(
    config.DISABLE_JIT or bool(config.BOUNDSCHECK), reason="not the code that users run"
)
def test_kernels_are_vectors() -> None:
    dtype = np.float32
    sizes = list_sizes(11, may_overlap=False)
    signal, planes = np.zeros(400, dtype), np.zeros((1, 6 * 400))
    columns = np.zeros(4000)
    numbers = np.arange(64)
    ranks, places = np.zeros(3), np.arange(3) * 100
    buffer = np.zeros(50 * LANES, dtype)
    for function, arguments, fewest in (
        (double_moments, (signal, sizes, *plan_rows(sizes, 1, 16), 400, 4, 1, 1, planes), 40),
        (count_mean_crossings, (signal, numbers[:5], np.zeros(64), 64, signal, np.zeros(64)), 8),
        (
            slide,
            (
                *(signal, numbers[:16], 2, 1, 5, ranks, places, numbers * LANES, buffer),
                *(np.zeros(1024, dtype), np.zeros(1024, dtype), np.zeros(3 * 1024), 0, columns),
            ),
            20,
        ),
    ):
        text = assembly(function, *arguments)
        packed, scalar = counts(text)
        assert has_wide_registers(text)
        assert packed >= fewest
        assert scalar <= packed / 4 + 2
