"""What `FeatureExtractor` refuses, and that it says in one sentence what was wrong with what."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from scipy import sparse

from smoothdistill.errors import DataError
from smoothdistill.features import FeatureExtractor
from smoothdistill.features.files import extract_files
from smoothdistill.windows import Recording, Segmenter, cut_windows

CUT = {"window_samples": 30, "step_samples": 20}
SIGNAL = 9.81 + np.random.default_rng(0).standard_normal((200, 3))
WINDOWS = np.random.default_rng(1).standard_normal((6, 3, 30))
# The grammar of all messages: `name` must <rule>, but <what it is> instead. And maybe a hint.
SENTENCE = re.compile(r"`[^`]+`.* must .*,? but .* instead[.;]", re.DOTALL)


def refuse(
    error: type[Exception], match: str, X=SIGNAL, *, extract: dict | None = None, **options
) -> str:
    """Fitting or extracting fails, with a message that keeps to the grammar."""
    options = {"features": "mean", **CUT, **options}
    with pytest.raises(error, match=match) as caught:
        FeatureExtractor(**options).extract(X, **(extract or {}))
    message = str(caught.value)
    assert SENTENCE.search(message), message
    assert "\n" not in message
    return message


# --- The signal ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "window", "known"),
    [
        ((200,), 30, r"\[time, channels\] or \[windows, channels, time\]"),
        ((4, 200, 3, 1), 30, r"\[time, channels\] or \[windows, channels, time\]"),
        ((200,), None, r"\[windows, time\] or \[windows, channels, time\]"),
        ((2, 2, 2, 2), None, r"\[windows, time\] or \[windows, channels, time\]"),
        ((2, 0, 30), None, r"\[windows, time\] or \[windows, channels, time\]"),
    ],
)
def test_a_wrong_shape(shape: tuple[int, ...], window: int | None, known: str) -> None:
    refuse(
        DataError,
        rf"`X` must have the shape {known} with at least 1 of each, but has the shape "
        rf"{re.escape(str(list(shape)))} instead\.",
        np.zeros(shape),
        window_samples=window,
        step_samples=None,
    )


@pytest.mark.parametrize("shape", [(0, 3), (200, 0), (0, 3, 30)])
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    """Here scikit-learn's own words come first, which its users know."""
    with pytest.raises(ValueError, match=r"Found array with 0 (sample|feature)"):
        FeatureExtractor("mean", **CUT).fit(np.zeros(shape))


def test_one_channel_without_its_axis_is_told_how_to_get_it() -> None:
    refuse(DataError, r"Reshape your data: X\[:, None\] is one channel\.", SIGNAL[:, 0])
    message = r"Reshape your data: X\[None\] is one channel\."
    refuse(DataError, message, SIGNAL[:, 0], window_samples=None, step_samples=None)


@pytest.mark.parametrize("num_samples", [200, 1_000_000])  # pairs of so many never end
def test_axes_the_wrong_way_round_are_named(num_samples: int) -> None:
    refuse(
        DataError,
        r"must have the axes \[time, channels\] and no more channels than samples, but has the "
        rf"shape \[3, {num_samples}\] instead; transpose it\.",
        np.zeros((3, num_samples), np.float32),
        features="basic",
    )


def test_windows_of_more_channels_than_samples_are_doubted() -> None:
    swapped = WINDOWS.transpose(0, 2, 1)
    with pytest.warns(UserWarning, match=r"windows of 30 channels and 3 samples; its axes are"):
        FeatureExtractor("mean").fit_transform(swapped)


def test_a_window_that_is_longer_than_the_recording() -> None:
    refuse(
        DataError,
        r"`window_samples` must be at most 200 .*, but is 201 instead\.",
        window_samples=201,
        step_samples=None,
    )
    refuse(
        DataError,
        r"`window_samples` must be at most 200 .*, but is 300 \(3\.0 s\) instead\.",
        window_samples=None,
        step_samples=None,
        window_seconds=3.0,
        sample_rate_hz=100.0,
    )


@pytest.mark.parametrize("step", [0, -1])
def test_a_step_below_one(step: int) -> None:
    refuse(
        ValueError,
        rf"`step_samples` must be at least 1, but is {step} instead\.",
        step_samples=step,
    )


def test_a_window_of_nothing() -> None:
    refuse(ValueError, r"`window_samples` must be at least 1, but is 0 instead\.", window_samples=0)


@pytest.mark.parametrize("name", ["window_samples", "step_samples"])
@pytest.mark.parametrize("value", [1.5, "30", True])
def test_a_length_that_is_no_integer(name: str, value: object) -> None:
    kind = type(value).__name__
    refuse(TypeError, rf"`{name}` must be an integer, but is {kind} instead\.", **{name: value})


@pytest.mark.parametrize(
    "X", [np.zeros((50, 3), complex), np.full((50, 3), "a"), [["a", "b"]] * 50]
)
def test_what_are_no_real_numbers(X) -> None:
    with pytest.raises((TypeError, ValueError), match=r"(?i)complex|could not convert|string"):
        FeatureExtractor("mean", **CUT).fit(X)


def test_a_sparse_recording() -> None:
    with pytest.raises(TypeError, match="Sparse data was passed"):
        FeatureExtractor("mean", **CUT).fit(sparse.csr_matrix(SIGNAL))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nan_where_none_may_be_is_named_with_its_place(bad: float, dtype: type) -> None:
    signal = SIGNAL.astype(dtype)
    signal[123, 1] = bad
    signal[150, 0] = np.nan
    name = dtype.__name__
    refuse(
        DataError,
        rf"`X` must be finite {name} numbers, but is {bad} at \[123, 1\] instead\.",
        signal,
        nan_policy="raise",
    )
    refuse(
        DataError,
        rf"`X\[1\]` must be finite {name} numbers, but is {bad} at \[123, 1\] instead\.",
        [SIGNAL, signal],
        nan_policy="raise",
    )
    windows = WINDOWS.astype(dtype)
    windows[2, 1, 7] = bad
    refuse(DataError, r"is .* at \[2, 1, 7\] instead", windows, nan_policy="raise")


def test_a_nan_that_only_transform_sees() -> None:
    extractor = FeatureExtractor("mean", **CUT, nan_policy="raise").fit(SIGNAL)
    signal = SIGNAL.copy()
    signal[5, 2] = np.nan
    with pytest.raises(DataError, match=r"`X` must be finite .* at \[5, 2\] instead"):
        extractor.transform(signal)


@pytest.mark.parametrize("second", [SIGNAL[:, :2], np.zeros((200, 4))])
def test_recordings_with_other_channels(second: np.ndarray) -> None:
    number = second.shape[1]
    refuse(
        DataError,
        rf"`X\[1\]` must have 3 channels, .* but has {number} instead\.",
        [SIGNAL, second],
    )
    extractor = FeatureExtractor("mean", **CUT).fit(SIGNAL)
    with pytest.raises(ValueError, match=rf"{number} features|must have 3 channels, .* {number}"):
        extractor.transform(second)
    with pytest.raises(DataError, match=rf"`X` must have 3 channels, .* but has {number} instead"):
        extractor.transform(second[None].swapaxes(1, 2))


@pytest.mark.parametrize("kind", ["recordings", "frames", "windows"])
def test_channels_in_another_order(kind: str) -> None:
    """Their features would stand under each other's names."""
    named = _named(kind)
    first, second = named("x", "y", "z"), named("z", "y", "x")
    message = (
        r"must have the channels \('x', 'y', 'z'\) in this order, as what came first, but has "
        r"\('z', 'y', 'x'\) instead\."
    )
    cut = {} if kind == "windows" else CUT
    extractor = FeatureExtractor("mean", **cut).fit(first)
    if kind != "windows":
        refuse(DataError, rf"`X\[1\]` {message}", [first, second])
        refuse(DataError, rf"`X\[1\]` {message}", [first, second], channel_names=("a", "b", "c"))
        with pytest.raises(DataError, match=rf"`X\[1\]` {message}"):
            extractor.transform([first, second])
    if kind != "frames":  # of a single one scikit-learn says it
        with pytest.raises(DataError, match=rf"`X` {message}"):
            extractor.transform(second)
        assert np.isfinite(extractor.transform(named())).all()  # without names
    renamed = FeatureExtractor("mean", **cut, channel_names=("a", "b", "c")).fit(first)
    assert renamed.transform(first).shape == extractor.transform(first).shape


def _named(kind: str):
    """What makes recordings, frames or windows with these names of their channels."""
    if kind == "frames":
        pandas = pytest.importorskip("pandas")
        return lambda *names: pandas.DataFrame(SIGNAL, columns=names)
    recording = partial(Recording, SIGNAL, {"a": np.zeros(200, int)}, "s1", 50.0)
    if kind == "recordings":
        return lambda *names: recording(channel_names=names)
    return lambda *names: cut_windows(
        [recording(channel_names=names)], window_samples=30, class_names={"a": ("still",)}
    )


def test_a_recording_without_a_window_length() -> None:
    recording = Recording(SIGNAL, {"a": np.zeros(200, int)}, "s1", 50.0)
    message = "`window_samples` or `window_seconds` must be given for recordings, but both are None"
    refuse(ValueError, message, recording, window_samples=None, step_samples=None)


def test_a_step_without_a_window_length() -> None:
    with pytest.raises(ValueError, match="`window_samples` or `window_seconds` must be given"):
        FeatureExtractor("mean", step_samples=20).fit(SIGNAL)


# --- Times, labels, groups -----------------------------------------------------------------------


def test_time_that_runs_backwards() -> None:
    times = np.arange(200) / 50
    times[[120, 121]] = times[[121, 120]]
    refuse(
        DataError,
        r"`timestamps_seconds` must .*backwards.*, but .*12[01]",
        extract={"timestamps_seconds": times},
        sample_rate_hz=50.0,
    )


def test_times_without_a_rate() -> None:
    refuse(
        ValueError,
        "`sample_rate_hz` or `max_gap_seconds` must be given where `timestamps_seconds` are",
        extract={"timestamps_seconds": np.arange(200) / 50},
    )


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.arange(199.0), r"`timestamps_seconds` must have one value for each of the 200 samples"),
        (np.zeros((200, 2)), r"`timestamps_seconds` must have the shape \[time\]"),
    ],
)
def test_times_that_do_not_fit(times: np.ndarray, message: str) -> None:
    refuse(DataError, message, extract={"timestamps_seconds": times}, sample_rate_hz=50.0)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([0] * 200, TypeError, "`targets` must be a mapping of task to labels, but is list"),
        ({"a": np.zeros(199, int)}, DataError, r"`targets\['a'\]` must have one value for each of"),
        ({"a": np.zeros(200)}, TypeError, r"`targets\['a'\]` must be an array of integers"),
        ({1: np.zeros(200, int)}, TypeError, "`targets` must have names of at least 1 character"),
        ({"a": np.full(200, -3)}, DataError, r"`targets\['a'\]` must be at least 0 or -100"),
    ],
)
def test_labels_that_do_not_fit(targets, error: type[Exception], message: str) -> None:
    refuse(error, message, extract={"targets": targets})


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (["a"] * 199, DataError, "`groups` must have one value for each of the 200 samples"),
        (np.zeros(200), TypeError, "`groups` must be an array of strings or integers"),
    ],
)
def test_groups_that_do_not_fit(groups, error: type[Exception], message: str) -> None:
    refuse(error, message, extract={"groups": groups})


def test_groups_of_windows_that_do_not_fit() -> None:
    message = "`groups` must have one value for each of the 6 windows, but has 5 instead"
    refuse(DataError, message, WINDOWS, extract={"groups": ["a"] * 5})


@pytest.mark.parametrize(
    "extract",
    [
        {"groups": ["a"] * 200},
        {"targets": {"a": np.zeros(200, int)}},
        {"timestamps_seconds": np.arange(200) / 50},
    ],
)
def test_labels_beside_what_has_its_own(extract: dict) -> None:
    message = "must be left out where `X` has its own or is a list, but are given instead"
    recording = Recording(SIGNAL, {"a": np.zeros(200, int)}, "s1", 50.0)
    refuse(DataError, message, recording, extract=extract, sample_rate_hz=50.0)
    refuse(DataError, message, [SIGNAL, SIGNAL], extract=extract, sample_rate_hz=50.0)


def test_times_of_windows() -> None:
    """They would be passed over: whoever gives them believes that windows then cross no gap."""
    refuse(
        DataError,
        "`timestamps_seconds` must",
        WINDOWS,
        extract={"timestamps_seconds": np.arange(6.0)},
    )


def test_recordings_with_other_tasks() -> None:
    """Their labels do not fit into one table."""
    recordings = [
        Recording(SIGNAL, {task: np.zeros(200, int)}, task, 50.0) for task in ("walks", "sits")
    ]
    refuse(DataError, r"`X\[1\]`.* must .*tasks.*", recordings)


def test_recordings_and_arrays_in_one_list() -> None:
    """Of one the subject is known and of the other it is not."""
    recording = Recording(SIGNAL, {"a": np.zeros(200, int)}, "s1", 50.0)
    for mixed in ([recording, SIGNAL], [SIGNAL, recording]):
        refuse((DataError, TypeError), r"`X\[1\]`", mixed)  # type: ignore[arg-type]


def test_recordings_at_another_rate() -> None:
    """Frequencies and slopes would be those of another recording."""
    recording = Recording(SIGNAL, {"a": np.zeros(200, int)}, "s1", 50.0)
    refuse(
        DataError,
        r"`sample_rate_hz` must .*50.*, but is 100.* instead",
        recording,
        features="slope",
        sample_rate_hz=100.0,
    )


# --- The options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "column"), [("slope", "x__slope"), ("spectral", "x__power"), ("har", "x__slope")]
)
def test_a_missing_sample_rate(features: str, column: str) -> None:
    message = rf"`sample_rate_hz` must be given for '{column}', but is None instead\."
    refuse(ValueError, message, features=features)
    if features == "slope":
        assert FeatureExtractor("slope", **CUT, slope_per="sample").fit(SIGNAL)


def test_seconds_without_a_sample_rate() -> None:
    refuse(
        ValueError,
        r"`sample_rate_hz` must be given where `window_seconds` is, but is None instead\.",
        window_samples=None,
        step_samples=None,
        window_seconds=2.0,
    )


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (0, ValueError, "`sample_rate_hz` must be above 0 and finite, but is 0 instead"),
        (-50.0, ValueError, "`sample_rate_hz` must be above 0 and finite, but is -50.0 instead"),
        (np.inf, ValueError, "`sample_rate_hz` must be above 0 and finite, but is inf instead"),
        (np.nan, ValueError, "`sample_rate_hz` must be above 0 and finite, but is nan instead"),
        ("50", TypeError, "`sample_rate_hz` must be a number, but is str instead"),
    ],
)
def test_a_sample_rate_that_is_none(rate: object, error: type[Exception], message: str) -> None:
    refuse(error, message, sample_rate_hz=rate)
    refuse(error, message, sample_rate_hz=rate, features="har")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nan_policy", "ignore"),
        ("undefined", "none"),
        ("slope_per", "minute"),
        ("acceleration_unit", "m/s2"),
        ("taper", "hamming"),
        ("centroid_weight", "amplitude"),
        ("dtype", "float16"),
        ("dtype", np.float64),
        ("nan_policy", None),
    ],
)
def test_a_choice_that_there_is_not(name: str, value: object) -> None:
    message = rf"`{name}` must be one of '.*', but is {re.escape(repr(value))} instead\."
    refuse(ValueError, message, **{name: value})


@pytest.mark.parametrize(
    ("ddof", "error", "message"),
    [
        (-1, ValueError, "`ddof` must be at least 0, but is -1 instead"),
        (0.5, TypeError, "`ddof` must be an integer, but is float instead"),
    ],
)
def test_degrees_of_freedom(ddof: object, error: type[Exception], message: str) -> None:
    refuse(error, message, ddof=ddof)


@pytest.mark.parametrize("features", [5, None, ["mean", 3]])
def test_features_that_are_no_names(features: object) -> None:
    refuse(TypeError, "`features` must be .*, but ", features=features)


def test_features_that_there_are_not() -> None:
    refuse(ValueError, "but has 'maen' instead. Did you mean 'mean'", features="maen")


@pytest.mark.parametrize(
    "name",
    ["acc x", "acc__x", "", "acc,x", "acc[x]", 'acc"x', "acc:x", "acc/x", "größe", "acc\nx", "{x}"],
)
def test_a_channel_name_with_unsafe_characters(name: str) -> None:
    """Models and file formats choke on them: LightGBM on JSON's, parsers of columns on `__`."""
    refuse(
        DataError,
        r"`channel_names` must be of letters, digits, '_', '\.' and '-', without '__', but has "
        + re.escape(repr(name)),
        channel_names=["x", name, "z"],
    )
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(SIGNAL, columns=["x", name, "z"])
    with pytest.raises(DataError, match="`channel_names` must be of letters"):
        FeatureExtractor("mean", **CUT).fit(frame)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["x", "y"], DataError, "must have one name for each of the 3 channels, but has 2 instead"),
        (["x", "y", "x"], DataError, "`channel_names` must differ, but has 'x' twice instead"),
        ("xyz", TypeError, "`channel_names` must be a sequence of strings, but is 'xyz' instead"),
        (
            [1, 2, 3],
            TypeError,
            r"`channel_names` must be a sequence of strings, but is \[1, 2, 3\]",
        ),
        (5, TypeError, "`channel_names` must be a sequence of strings, but is 5 instead"),
    ],
)
def test_channel_names(names: object, error: type[Exception], message: str) -> None:
    refuse(error, message, channel_names=names)


def test_a_segmenter_and_lengths() -> None:
    message = "`segmenter` must be None where window or step are given, but is Segmenter"
    refuse(ValueError, message, segmenter=Segmenter(window_samples=30))


def test_a_segmenter_that_is_none() -> None:
    refuse(
        TypeError,
        "`segmenter` must be a Segmenter, but is int instead",
        segmenter=30,
        window_samples=None,
        step_samples=None,
    )


@pytest.mark.parametrize(
    ("bands", "error", "message"),
    [
        ([(3, 3)], ValueError, "must ask for a band whose lower edge is below the upper one"),
        ([(8, 3)], ValueError, "must ask for a band whose lower edge is below the upper one"),
        ([(1,)], (TypeError, ValueError), "`bands_hz` must be .*, but "),
        ([("a", "b")], (TypeError, ValueError), "`bands_hz` must be .*, but "),
        ([(-1, 3)], ValueError, "`bands_hz` must be .*, but "),
        ([(0, np.inf)], ValueError, "`bands_hz` must be .*, but "),
        (5, (TypeError, ValueError), "`bands_hz` must be .*, but "),
    ],
)
def test_bands(bands: object, error, message: str) -> None:
    refuse(error, message, bands_hz=bands, features="spectral", sample_rate_hz=50.0)


@pytest.mark.parametrize("n_jobs", [0, "two", 1.5])
def test_a_number_of_threads(n_jobs: object) -> None:
    refuse((TypeError, ValueError), "`n_jobs` must be .*, but ", n_jobs=n_jobs)  # type: ignore[arg-type]


def test_a_stream_of_what_takes_the_whole_recording() -> None:
    padded = FeatureExtractor("mean", segmenter=Segmenter(window_samples=30, partial="pad"))
    for extractor in (padded, FeatureExtractor("mean")):
        with pytest.raises(
            ValueError, match="`segmenter` must have a window length and partial='drop'"
        ):
            extractor.fit(SIGNAL).stream()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_time_in_a_stream_that_is_none(bad: float) -> None:
    stream = _stream()
    times = np.arange(200) / 50
    times[7] = bad
    message = rf"`timestamps_seconds` must be finite .*, but is {bad} at \[7\] instead\."
    with pytest.raises(DataError, match=message):
        stream.push(SIGNAL, timestamps_seconds=times)
    assert stream.num_samples == 0
    times[7] = 7 / 50
    assert len(stream.push(SIGNAL, timestamps_seconds=times)) == 9


def test_times_of_some_pieces_of_a_stream() -> None:
    """A gap before or behind a piece without times would go unseen."""
    times = np.arange(200) / 50
    stream = _stream()
    stream.push(SIGNAL[:100], timestamps_seconds=times[:100])
    with pytest.raises(DataError, match=r"`timestamps_seconds` must be given, .*, but are None"):
        stream.push(SIGNAL[100:])
    assert len(stream.push(SIGNAL[100:], timestamps_seconds=times[100:])) == 5
    stream.reset()
    stream.push(SIGNAL[:100])
    with pytest.raises(
        DataError, match=r"`timestamps_seconds` must be left out, .*, but are given"
    ):
        stream.push(SIGNAL[100:], timestamps_seconds=times[100:])
    assert len(stream.push(SIGNAL[100:])) == 5


def test_columns_of_a_stream_in_another_order() -> None:
    named = _named("frames")
    extractor = FeatureExtractor("mean", **CUT).fit(named("x", "y", "z"))
    stream = extractor.stream()
    message = r"`samples` must have the channels \('x', .*, but has \('z', 'y', 'x'\) instead\."
    with pytest.raises(DataError, match=message):
        stream.push(named("z", "y", "x"))
    assert stream.num_samples == 0
    rows = stream.push(named("x", "y", "z"))
    assert np.array_equal(rows, extractor.transform(named("x", "y", "z")))
    assert np.array_equal(rows, extractor.stream().push(SIGNAL))
    renamed = FeatureExtractor("mean", **CUT, channel_names=("a", "b", "c"))
    assert np.array_equal(rows, renamed.fit(SIGNAL).stream().push(named("z", "y", "x")))


def _stream():
    return FeatureExtractor("mean", **CUT, sample_rate_hz=50.0).fit(SIGNAL).stream()


def test_uci561_of_one_sample() -> None:
    """It has no frequency above 0."""
    refuse(
        DataError,
        r"`window_samples` must be at least 2 for 'uci561', but is 1 instead\.",
        np.zeros((50, 6)),
        features="uci561",
        sample_rate_hz=50.0,
        window_samples=1,
        step_samples=None,
    )


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_valid": 0.95}, r"`min_valid` must leave a window in .* 1 recordings, but is 0\.95"),
        ({"min_valid": 1.0, "origin": 170}, "`min_valid` must leave a window in"),
        ({"min_valid": 1.0, "origin": 171, "partial": "pad"}, "`min_valid` must leave a window in"),
        ({"origin": 180}, r"`window_samples` must be at most 20 \(.* behind an origin of 180\)"),
        ({"origin": 950}, r"`origin` must be at most 199 \(.* 200 samples\), but is 950 instead"),
        ({"window_samples": 201}, r"`window_samples` must be at most 200 \(.*\), but is 201 inst"),
    ],
)
def test_files_without_a_window(tmp_path, options: dict, message: str) -> None:
    """What is at fault is named: a length, where the windows begin, or what they must hold."""
    pytest.importorskip("pyarrow")
    signal = SIGNAL.copy()
    signal[::10, 0] = np.nan
    np.savetxt(tmp_path / "a.csv", signal, delimiter=",", header="x,y,z", comments="")
    extractor = FeatureExtractor("mean", segmenter=Segmenter(**{"window_samples": 30, **options}))
    with pytest.raises(DataError, match=message) as caught:
        extract_files(extractor, tmp_path / "a.csv", tmp_path / "out.csv")
    assert SENTENCE.search(str(caught.value))
    assert not (tmp_path / "out.csv").exists()


def test_what_fails_leaves_the_extractor_as_it_was() -> None:
    extractor = FeatureExtractor("mean", **CUT).fit(SIGNAL)
    expected = extractor.transform(SIGNAL)
    with pytest.raises(DataError):
        extractor.transform(SIGNAL[:10])
    assert np.array_equal(extractor.transform(SIGNAL), expected)
