"""The spectral engine on windows of many lengths, against the strongest forms in NumPy and SciPy.

    pytest bench/features/bench_spectral.py -o python_files='bench_*.py' --benchmark-enable
    python bench/features/bench_spectral.py

1,000,000 x 3 float32 samples at 50 Hz, a window every 60, one thread, nine values per window and
channel: dominant frequency and its power, entropy, centroid, power, and four bands. The second
command prints nanoseconds per window and channel (median of rounds by turns), how many times ours
the others take, and the floor. `bench_rivals.py` compares whole libraries.

The floor counts additions, multiplications and multiply-adds as one each: 2.5 W log2 W for the
transform of a real window, 4 W to centre it, 10 for each of W / 2 bins for power, sums, maximum and
bands, and 22 for its share of the entropy (a logarithm is 8 multiply-adds, and 8 instructions that
take numbers apart). They are divided by the multiply-adds per nanosecond that this processor
does when it has nothing else to do, measured in the same run. Loading and transposing a window
(`tiles.load_tile`) is no arithmetic, and comes on top: what ours takes with no column asked for.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba import njit

sys.path.insert(0, str(Path(__file__).parent))

from rivals import numpy_forms
from rivals.measure import one_thread
from rivals.truth import BANDS_HZ, truth
from rivals.workload import SAMPLE_RATE_HZ, Case, moving_signal

from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.features.kernels.lanes import LANES, fma, load, store
from smoothdistill.features.kernels.spectral import SPECTRAL, spectral_engine

NUM_SAMPLES = 1_000_000
FEW_SAMPLES = 20_000
STEP = 60
WIDTHS = (64, 80, 100, 128, 256, 50, 70, 97, 500, 509)
NAMES = numpy_forms.SPECTRAL
CHUNK = 512


def ours(case: Case, dtype, *, names=NAMES):
    """The call, and what it gives by name, [windows, channels]."""
    num_channels = case.num_channels
    slots = [*SPECTRAL, *(name for name in NAMES if name.startswith("band_")), *BANDS_HZ]
    columns = np.full((num_channels, len(slots)), -1, np.int64)
    for place, name in enumerate(names):
        columns[:, slots.index(name)] = num_channels * place + np.arange(num_channels)
    out = np.empty((num_channels * len(names) + 1, case.num_windows + 16), dtype)
    out = out[:-1, : case.num_windows]
    signal = np.ascontiguousarray(case.signal, dtype).reshape(-1)
    offsets = np.arange(case.num_windows) * (case.step_samples * num_channels)
    shape = (case.window_samples, num_channels, True, np.empty((0, 3), np.int64))
    options = (SAMPLE_RATE_HZ, np.ones(case.window_samples), False, np.empty(0))
    bands = np.array(BANDS_HZ, np.float64)

    def call():
        spectral_engine(signal, offsets, *shape, *options, bands, np.nan, columns, out)
        rows = out.reshape(len(names), num_channels, case.num_windows)
        return {name: rows[place].T for place, name in enumerate(names)}

    return call


def scipy_fft(case: Case, dtype):
    return numpy_forms.fft_call(case, dtype, CHUNK)


def matrix_products(case: Case, dtype):
    call = numpy_forms.dft_call(case, dtype, CHUNK)
    return lambda: {name: values.T for name, values in call().items()}


PROVIDERS = {"ours": ours, "scipy.fft": scipy_fft, "matrix products": matrix_products}
DTYPES = {"float32": np.float32, "float64": np.float64}
# Against extended precision, of a moving sensor; the rivals' entropies are sums of both signs.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def relative_error(case: Case, answer) -> float:
    """Largest over all windows and values, relative to the truth (a band: to all power)."""
    expected = truth(case, NAMES)
    errors = [
        np.abs(answer[name] - values) / (expected["power"] if "band" in name else np.abs(values))
        for name, values in expected.items()
    ]
    return float(np.max(errors))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window_samples", WIDTHS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_spectral(benchmark, provider, window_samples, dtype):
    few = Case(moving_signal(FEW_SAMPLES), window_samples, STEP)
    error = relative_error(few, PROVIDERS[provider](few, DTYPES[dtype])())
    assert error <= TOLERANCE[dtype], f"off by {error:.1e}: not timed"
    case = few
    if benchmark.enabled:
        case = Case(moving_signal(NUM_SAMPLES), window_samples, STEP)
    benchmark.group = f"window of {window_samples}, {dtype}"
    benchmark.extra_info.update(windows=case.num_windows, relative_error=error)
    with one_thread():
        benchmark(PROVIDERS[provider](case, DTYPES[dtype]))


@njit(error_model="numpy")
def _multiply_add(values, count):
    a, b, c, d = load(values, 0), load(values, 16), load(values, 32), load(values, 48)
    e, f, g, h = load(values, 64), load(values, 80), load(values, 96), load(values, 112)
    x = load(values, 128)
    for _ in range(count):
        a, b, c, d = fma(a, x, x), fma(b, x, x), fma(c, x, x), fma(d, x, x)
        e, f, g, h = fma(e, x, x), fma(f, x, x), fma(g, x, x), fma(h, x, x)
    store(values, 0, a + b + c + d + e + f + g + h)


def multiply_adds_per_nanosecond(dtype) -> float:
    values = np.zeros(9 * LANES, dtype)
    _multiply_add(values, 1)
    fastest = np.inf
    for _ in range(20):
        start = time.perf_counter()
        _multiply_add(values, 100_000)
        fastest = min(fastest, time.perf_counter() - start)
    return 8 * LANES * 100_000 / fastest / 1e9


def operations(window_samples: int) -> float:
    """Of the floor; see the top of this file."""
    return window_samples * (2.5 * np.log2(window_samples) + 4 + (10 + 22) / 2)


def measure(window_samples: int, dtype: str, *, num_rounds: int) -> str:
    """A line of the table."""
    case = Case(moving_signal(NUM_SAMPLES), window_samples, STEP)
    few = case.first(300)
    calls = {name: make(case, DTYPES[dtype]) for name, make in PROVIDERS.items()}
    calls["loading"] = ours(case, DTYPES[dtype], names=())
    error = relative_error(few, ours(few, DTYPES[dtype])())
    times = time_in_turns(calls, num_rounds=num_rounds)
    scale = 1e9 / (case.num_windows * case.num_channels)
    words = [f"W = {window_samples:4}, {dtype}: ours {times['ours'].median * scale:6.1f} ns"]
    words.append(f"of which loading {times['loading'].median * scale:5.1f}")
    words.append(f"floor {operations(window_samples) / multiply_adds_per_nanosecond(dtype):5.1f}")
    for name in ("scipy.fft", "matrix products"):
        ratio = compare(times["ours"], times[name])
        words.append(f"{name} {ratio.median:4.1f} times ({ratio.low:.1f} to {ratio.high:.1f})")
    words.append(f"error {error:.0e}")
    return ", ".join(words)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ratios(dtype, capsys):
    with one_thread():
        lines = [measure(window_samples, dtype, num_rounds=5) for window_samples in WIDTHS]
    with capsys.disabled():
        print("", *lines, sep="\n")


if __name__ == "__main__":
    with one_thread():
        for dtype in DTYPES:
            for window_samples in WIDTHS:
                print(measure(window_samples, dtype, num_rounds=15), flush=True)
