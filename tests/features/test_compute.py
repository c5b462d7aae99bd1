"""Windows in memory to columns: NaN, layouts, threads, and what is compiled."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numba import config

from smoothdistill.features.compute import Kernels, empty_columns, of_recording, of_windows
from smoothdistill.features.plan import find_triads, make_plan
from smoothdistill.features.settings import Settings

from .engine_checks import CHANNELS, RATE_HZ, compute, differing, make_windows, same_bits

ALL = ("moments", "order", "temporal", "cross_channel", "q10", "autocorr_lag1", "autocorr_lag3")
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")


def inputs_of(name: str, channel_names: tuple[str, ...]) -> set[str]:
    """Channels that a column is computed of, from its name alone."""
    groups = {triad.label: triad.axes for triad in find_triads(channel_names)}
    groups |= {triad.norm_name: triad.axes for triad in find_triads(channel_names)}
    groups |= {channel: (number,) for number, channel in enumerate(channel_names)}
    for a, first in enumerate(channel_names):
        for b, second in enumerate(channel_names):
            groups[f"corr_{first}_{second}"] = (a, b)
    return {channel_names[number] for number in groups[name.partition("__")[0]]}


# --- NaN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("num_channels", CHANNELS)
@pytest.mark.parametrize("undefined", [np.nan, 0.0])
def test_exactly_the_windows_and_channels_with_a_nan_are_nan(
    num_channels: int, undefined: float, bad: float
) -> None:
    """Of that channel the norm, pairs and triads too; everything else keeps its bits."""
    names = CHANNELS[num_channels]
    windows = np.random.default_rng(0).standard_normal((50, num_channels, 21))
    clean = compute(ALL, windows, undefined=undefined)
    assert all(np.isfinite(column).all() for column in clean.values())
    spoilt = {(3, 0): [0], (15, num_channels - 1): [20], (16, num_channels // 2): [5, 6, 7]}
    spoilt |= {(40, number): list(range(21)) for number in range(num_channels)}
    for (window, channel), times in spoilt.items():
        windows[window, channel, times] = bad
    got = compute(ALL, windows, undefined=undefined)
    for name, column in got.items():
        has_nan = np.zeros(50, bool)
        for window, channel in spoilt:
            has_nan[window] |= names[channel] in inputs_of(name, names)
        assert np.isnan(column).tolist() == has_nan.tolist(), name
        assert same_bits(column[~has_nan], clean[name][~has_nan]), name


@pytest.mark.parametrize("window_samples", [1, 2, 5, 16, 100])
@pytest.mark.parametrize("place", [0, -1])
def test_a_nan_at_the_border_of_a_window(window_samples: int, place: int) -> None:
    windows = np.random.default_rng(1).standard_normal((33, 1, window_samples)) + 5
    clean = compute(ALL, windows, is_interleaved=True, undefined=0.0)
    windows[17, 0, place] = np.nan
    got = compute(ALL, windows, is_interleaved=True, undefined=0.0)
    for name, column in got.items():
        assert np.flatnonzero(np.isnan(column)).tolist() == [17], name
        assert same_bits(np.delete(column, 17), np.delete(clean[name], 17)), name


@pytest.mark.parametrize(
    ("num_channels", "is_interleaved"), [(1, True), (3, True), (3, False), (6, True)]
)
def test_omitting_is_computing_what_is_left(num_channels: int, is_interleaved: bool) -> None:
    """One channel leaves out its own NaN; a pair or a triad, the times at which any is NaN."""
    names = CHANNELS[num_channels]
    rng = np.random.default_rng(2)
    windows = rng.standard_normal((18, num_channels, 30))
    windows[rng.random(windows.shape) < 0.1] = np.nan
    windows[::4] = rng.standard_normal((5, num_channels, 30))  # whole
    windows[5] = np.nan  # with nothing left
    windows[6, 0, 1:] = np.nan  # with one sample left
    got = compute(ALL, windows, is_interleaved=is_interleaved, nan_policy="omit")
    propagated = compute(ALL, windows, is_interleaved=is_interleaved)
    alone: dict[tuple[str, ...], list[dict[str, np.ndarray]]] = {}
    for name, column in got.items():
        channels = tuple(sorted(inputs_of(name, names), key=names.index))
        numbers = [names.index(channel) for channel in channels]
        is_kept = ~np.isnan(windows[:, numbers]).any(1)
        if channels not in alone:
            alone[channels] = [
                compute(ALL, window[None, numbers][:, :, kept], channel_names=channels)
                if kept.any()
                else {}
                for window, kept in zip(windows, is_kept, strict=True)
            ]
        for window, kept in enumerate(is_kept):
            expected = alone[channels][window].get(name, np.array([np.nan]))
            assert same_bits(column[window : window + 1], expected), (name, window)
            if kept.all():
                assert same_bits(column[window : window + 1], propagated[name][window : window + 1])


def test_omitting_changes_nothing_where_nothing_is_missing() -> None:
    windows = make_windows(40, 6, 30)[0]
    assert not differing(compute(ALL, windows, nan_policy="omit"), compute(ALL, windows))


def test_omitting_takes_the_memory_of_a_few_windows() -> None:
    """However many hold a NaN."""
    recording = np.random.default_rng(3).standard_normal((40_000, 3))
    recording[::20, 0] = np.nan
    plan = make_plan("mean", CHANNELS[3])
    kernels = Kernels(plan, 64, is_interleaved=True, step_samples=1, settings=Settings())
    peaks = []
    for num_windows in (15_000, 39_000):
        block = of_recording(recording, np.arange(num_windows), 64)
        out = empty_columns(len(plan.columns), num_windows, np.dtype(float))
        tracemalloc.start()
        kernels.fill(block, out, nan_policy="omit")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_window = (peaks[1] - peaks[0]) / 24_000
    assert per_window < 64  # bytes: a few numbers, where the samples are 1,536


def test_an_infinity_is_not_omitted() -> None:
    """It is no missing sample: something has gone wrong, and that must be seen."""
    windows = np.random.default_rng(3).standard_normal((3, 1, 20))
    windows[1, 0, [4, 5]] = np.nan, np.inf
    got = compute(ALL, windows, nan_policy="omit")
    assert all(np.isnan(column).tolist() == [False, True, False] for column in got.values())


# --- Layouts, threads, memory --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_channels", CHANNELS)
def test_recordings_and_windows_give_the_same_bits(num_channels: int, dtype: type) -> None:
    windows = make_windows(50, num_channels, 37)[0].astype(dtype)
    planar, interleaved = (
        compute(ALL, windows, is_interleaved=is_interleaved) for is_interleaved in (False, True)
    )
    assert not differing(planar, interleaved)


@pytest.mark.parametrize("num_windows", [1, 16, 17, 40, 100])
@pytest.mark.parametrize("num_threads", [2, 3, 7, 200])
def test_threads_change_no_bit(num_windows: int, num_threads: int) -> None:
    windows = make_windows(num_windows, 3, 25)[0]
    one = compute(ALL, windows)
    assert not differing(one, compute(ALL, windows, num_threads=num_threads))
    windows[num_windows // 2, 1, 3] = np.nan
    one = compute(ALL, windows, nan_policy="omit")
    many = compute(ALL, windows, nan_policy="omit", num_threads=num_threads)
    assert not differing(one, many)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_results_are_float64_results_rounded(dtype: type) -> None:
    """Nothing is summed up in float32, whatever comes in and goes out."""
    windows = make_windows(40, 3, 33)[0].astype(dtype)
    wide = compute(ALL, windows)
    narrow = compute(ALL, windows, dtype=np.float32)
    rounded = {name: column.astype(np.float32) for name, column in wide.items()}
    assert not differing(narrow, rounded)


def test_float32_samples_give_what_float64_samples_of_that_value_give() -> None:
    """But for norms, which are stored in the dtype of the samples."""
    windows = make_windows(40, 2, 33)[0]
    assert not differing(compute(ALL, windows), compute(ALL, windows.astype(np.float64)))


def test_overlapping_windows() -> None:
    recording = np.random.default_rng(4).standard_normal((200, 3))
    plan = make_plan(ALL, CHANNELS[3])
    settings = Settings(sample_rate_hz=RATE_HZ, slope_rate_hz=RATE_HZ)
    starts = np.arange(0, 171, 7)
    cut = np.stack([recording[start : start + 30].T for start in starts])
    found = []
    for block in (of_recording(recording, starts, 30), of_windows(cut)):
        out = empty_columns(len(plan.columns), len(starts), np.dtype(float))
        kernels = Kernels(
            plan, 30, is_interleaved=block.is_interleaved, step_samples=0, settings=settings
        )
        kernels.fill(block, out)
        found.append(out)
    assert same_bits(*found)


def test_kernels_can_be_called_again() -> None:
    """As a stream does: on other memory, with another number of windows, without a trace."""
    plan = make_plan(ALL, CHANNELS[3])
    settings = Settings(sample_rate_hz=RATE_HZ, slope_rate_hz=RATE_HZ)
    kernels = Kernels(plan, 20, is_interleaved=False, step_samples=0, settings=settings)
    for number in (40, 3, 17):
        windows = make_windows(number, 3, 20, seed=number)[0]
        out = empty_columns(len(plan.columns), number, np.dtype(float))
        kernels.fill(of_windows(windows), out)
        fresh = compute(ALL, windows, magnitude=False)
        assert not differing(dict(zip(plan.names, out, strict=True)), fresh)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_read_only_memory_is_read_and_not_written(dtype: type) -> None:
    windows = make_windows(20, 3, 30)[0].astype(dtype)
    before = windows.copy()
    expected = compute(ALL, windows)
    windows.setflags(write=False)
    plan = make_plan(ALL, CHANNELS[3], magnitude=True)
    out = empty_columns(len(plan.columns), 20, np.dtype(float))
    settings = Settings(sample_rate_hz=RATE_HZ, slope_rate_hz=RATE_HZ)
    kernels = Kernels(plan, 30, is_interleaved=False, step_samples=0, settings=settings)
    kernels.fill(of_windows(windows), out)
    assert not differing(dict(zip(plan.names, out, strict=True)), expected)
    assert same_bits(windows, before)
    assert not windows.flags.writeable


def test_a_block_shares_the_memory_it_is_of() -> None:
    recording = np.zeros((50, 3))
    recording.setflags(write=False)
    assert np.shares_memory(of_recording(recording, np.array([0]), 10).flat, recording)
    windows = np.zeros((5, 3, 10))
    assert np.shares_memory(of_windows(windows).flat, windows)


@compiled_only
def test_columns_are_of_one_layout() -> None:
    """Numba compiles anew, for seconds, where a slice happens to be contiguous."""
    from smoothdistill.features.kernels.statistics import statistics_engine
    from smoothdistill.features.kernels.temporal import temporal_engine

    windows = make_windows(33, 3, 20)[0]
    compute(ALL, windows)
    before = [len(engine.signatures) for engine in (statistics_engine, temporal_engine)]
    for number in (1, 16, 33):
        read_only = windows[:number]
        read_only.setflags(write=False)
        for names in (ALL, "x__mean", "x__ar1", "corr_x_y", ["x__mean", "x__q10", "z__ar2"]):
            for threads in (1, 2):
                compute(names, read_only, num_threads=threads)
                compute(names, read_only, num_threads=threads, is_interleaved=True)
    after = [len(engine.signatures) for engine in (statistics_engine, temporal_engine)]
    assert after == before


def test_nothing_is_computed_of_no_windows() -> None:
    plan = make_plan(ALL, CHANNELS[3])
    kernels = Kernels(plan, 20, is_interleaved=False, step_samples=0, settings=Settings())
    out = empty_columns(len(plan.columns), 0, np.dtype(float))
    kernels.fill(of_windows(np.empty((0, 3, 20))), out, nan_policy="omit", num_threads=4)
    assert out.shape == (len(plan.columns), 0)
