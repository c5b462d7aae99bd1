"""Preprocessing: 1,000,000 x 3 samples of acceleration at 50 Hz, one thread.

    pytest bench/features/bench_preprocessing.py --benchmark-enable
    python bench/features/bench_preprocessing.py

The second prints, for every provider, nanoseconds per sample and axis (median of rounds by turns),
how many times ours that is, and the largest difference from what the strongest rival says in
float64. Divide what `pytest` prints by 3,000,000 for the same unit.

The floor of the fused chain, per sample of three axes: the recursions need 8 cycles (one
subtraction and one multiply-add of the states, which the next sample waits for; the four
sections overlap), the 26 vector instructions of median and filters 13 cycles of two
pipes, conversion and magnitudes some 15 more, and 60 bytes of memory. At 3 GHz and 10 GB/s these
are some 3.5 ns per sample and axis where everything overlaps; what takes more is the front end,
which delivers some 135 instructions at 4 a cycle.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import numpy as np
import pytest

from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.features.preprocessing import (
    butter_lowpass,
    jerk,
    magnitude,
    median3,
    split_gravity,
)
from smoothdistill.features.preprocessing_chain import Preprocessing
from smoothdistill.features.resampling import resample

NUM_SAMPLES = 1_000_000
FEW_SAMPLES = 20_000
RATE = 50.0
LOWPASS_HZ, GRAVITY_HZ = 20.0, 0.3
CHUNK = 50


def make_signal(num_samples, dtype=np.float32):
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((num_samples, 3))
    return (noise + np.array([0.0, 0.0, 9.81])).astype(dtype)


@lru_cache
def make_times(num_samples):
    generator = np.random.default_rng(1)
    jitter = generator.uniform(-0.2, 0.2, num_samples)
    return 1.6e9 + (np.arange(num_samples) + jitter) / RATE


# --- The rivals ----------------------------------------------------------------------------------


def sections(cutoff_hz):
    from scipy.signal import butter

    return butter(3, cutoff_hz, fs=RATE, output="sos")


def scipy_lowpass(signal, cutoff_hz=LOWPASS_HZ):
    from scipy.signal import sosfilt, sosfilt_zi

    sos = sections(cutoff_hz)
    start = sosfilt_zi(sos)[:, :, np.newaxis] * signal[0]
    return sosfilt(sos, signal, axis=0, zi=start.astype(signal.dtype))[0]


def scipy_lowpass_zero(signal, cutoff_hz=LOWPASS_HZ):
    from scipy.signal import sosfiltfilt

    return sosfiltfilt(sections(cutoff_hz), signal, axis=0)


def lfilter_lowpass(signal, cutoff_hz=LOWPASS_HZ):
    """Uses b and a of the whole filter: one recursion instead of two, and fewer digits."""
    from scipy.signal import butter, lfilter, lfilter_zi

    b, a = butter(3, cutoff_hz, fs=RATE)
    start = lfilter_zi(b, a)[:, np.newaxis] * signal[0]
    return lfilter(b, a, signal, axis=0, zi=start)[0]


def filtfilt_lowpass(signal):
    from scipy.signal import butter, filtfilt

    b, a = butter(3, LOWPASS_HZ, fs=RATE)
    return filtfilt(b, a, signal, axis=0)


def scipy_median(signal):
    from scipy.ndimage import median_filter

    return median_filter(signal, size=(3, 1), mode="nearest")


def numpy_median(signal):
    """Least and greatest of pairs: what a vector instruction each can do."""
    out = signal.copy()
    before, here, after = signal[:-2], signal[1:-1], signal[2:]
    low, high = np.minimum(before, here), np.maximum(before, here)
    np.maximum(low, np.minimum(high, after, out=high), out=out[1:-1])
    return out


def numpy_jerk(signal):
    return np.diff(signal, axis=0, prepend=signal[:1]) * np.float32(RATE)


def numpy_magnitude(signal):
    return np.sqrt(np.einsum("ij,ij->i", signal, signal))[:, np.newaxis]


def norm_magnitude(signal):
    return np.linalg.norm(signal, axis=1, keepdims=True)


def numpy_chain(signal, lowpass, median):
    """Median, low-pass, gravity, jerk and magnitudes, each in its turn."""
    low = lowpass(median(signal), LOWPASS_HZ)
    gravity = lowpass(low, GRAVITY_HZ)
    body = low - gravity
    change = np.diff(body, axis=0, prepend=body[:1]) * RATE
    parts = [body, gravity, change]
    return np.hstack(parts + [numpy_magnitude(part) for part in parts]).astype(signal.dtype)


def median_of_the_last(signal):
    from scipy.ndimage import median_filter

    return median_filter(signal, size=(3, 1), mode="nearest", origin=(1, 0))


def numpy_median_of_the_last(signal):
    return np.concatenate([signal[:1], numpy_median(signal)[:-1]])


def numpy_interp(signal, times):
    grid = np.arange(int((times[-1] - times[0]) * 40.0) + 1) / 40.0
    elapsed = times - times[0]
    columns = [np.interp(grid, elapsed, column) for column in signal.T]
    return np.stack(columns, axis=1).astype(signal.dtype)


def scipy_interp(signal, times):
    from scipy.interpolate import make_interp_spline

    grid = np.arange(int((times[-1] - times[0]) * 40.0) + 1) / 40.0
    return make_interp_spline(times - times[0], signal, k=1)(grid).astype(signal.dtype)


def push_ours(signal):
    stream = Preprocessing().stream(RATE, 3)
    parts = [stream.push(signal[n : n + CHUNK]) for n in range(0, len(signal), CHUNK)]
    return np.concatenate(parts)


def push_scipy(signal):
    """The same chain with its states carried by hand, as a notebook would have it."""
    from scipy.signal import sosfilt, sosfilt_zi

    low_sos, gravity_sos = sections(LOWPASS_HZ), sections(GRAVITY_HZ)
    low_state = sosfilt_zi(low_sos)[:, :, np.newaxis] * signal[0]
    gravity_state = sosfilt_zi(gravity_sos)[:, :, np.newaxis] * signal[0]
    last, before_body = np.repeat(signal[:1], 2, axis=0), None
    rows = []
    for first in range(0, len(signal), CHUNK):
        chunk = np.concatenate([last, signal[first : first + CHUNK]])
        last = chunk[-2:]
        smooth = numpy_median(chunk)[1:-1]
        low, low_state = sosfilt(low_sos, smooth, axis=0, zi=low_state)
        gravity, gravity_state = sosfilt(gravity_sos, low, axis=0, zi=gravity_state)
        body = low - gravity
        before_body = body[:1] if before_body is None else before_body
        change = np.diff(body, axis=0, prepend=before_body) * RATE
        before_body = body[-1:]
        parts = [body, gravity, change]
        rows.append(np.hstack(parts + [numpy_magnitude(part) for part in parts]))
    return np.concatenate(rows).astype(signal.dtype)


def split_ours(signal):
    parts = split_gravity(signal, sample_rate_hz=RATE)
    return parts.gravity.base  # both, without a copy


def split_by_scipy(signal):
    gravity = scipy_lowpass(signal.astype(np.float64), GRAVITY_HZ)
    return np.stack([signal - gravity, gravity]).astype(signal.dtype)


# --- The cases: ours, then the rivals, the strongest first ----------------------------------------

OPTIONS = {"cutoff_hz": LOWPASS_HZ, "sample_rate_hz": RATE}
CASES = {
    "chain, causal": {
        "ours": lambda x: Preprocessing().apply(x, sample_rate_hz=RATE).signal,
        "scipy + numpy median": lambda x: numpy_chain(x, scipy_lowpass, numpy_median_of_the_last),
        "lfilter + numpy median": lambda x: numpy_chain(
            x, lfilter_lowpass, numpy_median_of_the_last
        ),
        "scipy": lambda x: numpy_chain(x, scipy_lowpass, median_of_the_last),
    },
    "chain, zero-phase": {
        "ours": lambda x: Preprocessing(phase="zero").apply(x, sample_rate_hz=RATE).signal,
        "scipy + numpy median": lambda x: numpy_chain(x, scipy_lowpass_zero, numpy_median),
        "scipy": lambda x: numpy_chain(x, scipy_lowpass_zero, scipy_median),
    },
    f"chain, stream of {CHUNK}": {"ours": push_ours, "scipy": push_scipy},
    "butter_lowpass, causal": {
        "ours": lambda x: butter_lowpass(x, **OPTIONS),
        "sosfilt": scipy_lowpass,
        "lfilter": lfilter_lowpass,
    },
    "butter_lowpass, zero-phase": {
        "ours": lambda x: butter_lowpass(x, phase="zero", **OPTIONS),
        "sosfiltfilt": scipy_lowpass_zero,
        "filtfilt": filtfilt_lowpass,
    },
    "split_gravity": {
        "ours": split_ours,
        "sosfilt": split_by_scipy,
    },
    "median3": {"ours": median3, "numpy": numpy_median, "median_filter": scipy_median},
    "jerk": {"ours": lambda x: jerk(x, sample_rate_hz=RATE), "numpy": numpy_jerk},
    "magnitude": {"ours": magnitude, "einsum": numpy_magnitude, "linalg.norm": norm_magnitude},
    "resample": {
        "ours": lambda x: (
            resample(x, make_times(len(x)), sample_rate_hz=40.0, max_gap_seconds=1.0).signal
        ),
        "numpy.interp": lambda x: numpy_interp(x, make_times(len(x))),
        "scipy spline": lambda x: scipy_interp(x, make_times(len(x))),
    },
}


# SciPy filters float32 in float32, and the times are since 1970.
TOLERANCES = {"butter_lowpass, causal": 1e-4, "resample": 2e-4}


def checked_inputs(case, num_samples):
    """The signal and every provider's error, after that was compared with what is allowed."""
    make_times(num_samples)  # cached before the clock runs
    signal = make_signal(num_samples // 50 if "stream" in case else num_samples)
    exact = list(CASES[case].values())[1](signal.astype(np.float64))
    allowed = 64 * float(np.finfo(np.float32).eps) * np.abs(exact).max()
    errors = {}
    for name, provider in CASES[case].items():
        result = provider(signal)
        assert result.dtype == np.float32 or name != "ours"
        errors[name] = float(np.abs(result - exact).max())
        assert errors[name] <= TOLERANCES.get(case, allowed), (case, name, errors[name])
    return signal, errors


@pytest.mark.parametrize(
    ("case", "provider"), [(case, name) for case, names in CASES.items() for name in names]
)
def test_preprocessing(benchmark, case, provider):
    signal, _ = checked_inputs(case, NUM_SAMPLES if benchmark.enabled else FEW_SAMPLES)
    benchmark.group = case
    benchmark.extra_info["sample_axes"] = signal.size
    benchmark(CASES[case][provider], signal)


def measure(case, num_samples, *, num_rounds):
    """A row for each provider: nanoseconds per sample and axis, ratio to ours, largest error."""
    signal, errors = checked_inputs(case, num_samples)
    calls = {name: (lambda call=call: call(signal)) for name, call in CASES[case].items()}
    timings = time_in_turns(calls, num_rounds=num_rounds)
    for name, timing in timings.items():
        ratio = compare(timings["ours"], timing)
        print(
            f"{case:28s} {name:24s} {timing.median / signal.size * 1e9:8.2f} ns "
            f"{ratio.median:6.1f}x ({ratio.low:.1f} to {ratio.high:.1f})   {errors[name]:.1e}"
        )


@pytest.mark.parametrize("case", list(CASES))
def test_ratios(case):
    measure(case, FEW_SAMPLES, num_rounds=3)


def main(names):
    for case in names or CASES:
        measure(case, NUM_SAMPLES, num_rounds=9)


if __name__ == "__main__":
    main(sys.argv[1:])
