"""`FeatureExtractor` as a scikit-learn transformer, and all that it takes as input."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numba import config
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.utils.estimator_checks import parametrize_with_checks

from smoothdistill.features import FeatureExtractor, FeatureTable
from smoothdistill.windows import IGNORE_INDEX, Recording, Segmenter, Windows, cut_windows

from .engine_checks import CHANNELS, compute, make_windows, same_bits

OPTIONS = {"window_samples": 30, "step_samples": 20, "sample_rate_hz": 50.0}
STATISTICAL = ("statistical", "temporal", "cross_channel", "q10")


@pytest.fixture
def signal() -> np.ndarray:
    return 9.81 + np.random.default_rng(0).standard_normal((400, 3))


def make_recording(seed: int = 0, *, length: int = 200, **options) -> Recording:
    rng = np.random.default_rng(seed)
    options = {
        "targets": {"activity": np.repeat([0, 1], [length // 2, length - length // 2])},
        "subject": f"s{seed}",
        "sample_rate_hz": 50.0,
        **options,
    }
    return Recording(rng.standard_normal((length, 3)), **options)


# --- scikit-learn --------------------------------------------------------------------------------


@parametrize_with_checks([FeatureExtractor("basic"), FeatureExtractor(["mean", "order"], ddof=1)])
def test_scikit_learn_is_content(estimator, check) -> None:
    """Without a window length: each row of X is a window of one channel.

    With one, X is a recording, whose rows are samples: there are fewer rows in the result than in
    X, which is what some of these checks deny.
    """
    check(estimator)


def test_clone_and_pickle(signal: np.ndarray) -> None:
    extractor = FeatureExtractor(
        STATISTICAL, **OPTIONS, nan_policy="omit", channel_names=["a", "b", "c"]
    )
    expected = extractor.fit_transform(signal)
    copy = clone(extractor)
    assert copy.get_params() == extractor.get_params()
    assert not hasattr(copy, "plan_")
    assert same_bits(copy.fit_transform(signal), expected)
    restored = pickle.loads(pickle.dumps(extractor))
    assert same_bits(restored.transform(signal), expected)
    assert restored.get_feature_names_out().tolist() == extractor.get_feature_names_out().tolist()


def test_a_clone_with_a_segmenter(signal: np.ndarray) -> None:
    extractor = FeatureExtractor("mean", segmenter=Segmenter(window_samples=30, partial="pad"))
    assert same_bits(clone(extractor).fit_transform(signal), extractor.fit_transform(signal))


def test_parameters_are_left_as_they_are(signal: np.ndarray) -> None:
    features, names = ["mean", "std"], ["a", "b", "c"]
    extractor = FeatureExtractor(features, **OPTIONS, channel_names=names)
    extractor.fit_transform(signal)
    assert extractor.features is features
    assert extractor.channel_names is names
    assert (features, names) == (["mean", "std"], ["a", "b", "c"])


def test_names_of_the_columns(signal: np.ndarray) -> None:
    extractor = FeatureExtractor(["mean", "sma"], **OPTIONS)
    with pytest.raises(NotFittedError):
        extractor.get_feature_names_out()
    names = extractor.fit(signal).get_feature_names_out()
    assert names.tolist() == ["x__mean", "y__mean", "z__mean", "xyz__sma"]
    assert names.dtype == object
    assert extractor.transform(signal).shape == (19, 4)


def test_what_is_not_fitted_does_not_transform(signal: np.ndarray) -> None:
    with pytest.raises(NotFittedError):
        FeatureExtractor("basic", **OPTIONS).transform(signal)
    with pytest.raises(NotFittedError):
        FeatureExtractor("basic", **OPTIONS).stream()


def test_fitting_learns_nothing_from_the_values(signal: np.ndarray) -> None:
    extractor = FeatureExtractor(STATISTICAL, **OPTIONS).fit(np.zeros((100, 3)))
    fresh = FeatureExtractor(STATISTICAL, **OPTIONS)
    assert same_bits(extractor.transform(signal), fresh.fit_transform(signal))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_frames_of_arrays(signal: np.ndarray, dtype: str) -> None:
    pandas = pytest.importorskip("pandas")
    extractor = FeatureExtractor("basic", **OPTIONS, dtype=dtype)
    values = extractor.fit_transform(signal)
    frame = extractor.set_output(transform="pandas").transform(signal)
    assert isinstance(frame, pandas.DataFrame)
    assert frame.columns.tolist() == extractor.get_feature_names_out().tolist()
    assert frame.index.equals(pandas.RangeIndex(19))
    assert same_bits(frame.to_numpy(), values)
    assert set(frame.dtypes) == {np.dtype(dtype)}
    assert isinstance(extractor.set_output(transform="default").transform(signal), np.ndarray)


def test_frames_of_frames(signal: np.ndarray) -> None:
    """The index of the samples is none of the windows, be there fewer of them or as many."""
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2026-01-01", periods=len(signal), freq="20ms")
    samples = pandas.DataFrame(signal, columns=["acc_x", "acc_y", "acc_z"], index=index)
    for step in (20, 1):
        options = {**OPTIONS, "step_samples": step, "window_samples": 1 if step == 1 else 30}
        extractor = FeatureExtractor(["mean", "sma"], **options).set_output(transform="pandas")
        frame = extractor.fit_transform(samples)
        assert frame.columns.tolist() == ["acc_x__mean", "acc_y__mean", "acc_z__mean", "acc__sma"]
        assert frame.index.equals(pandas.RangeIndex(len(frame)))
        plain = FeatureExtractor(["mean", "sma"], **options).fit_transform(signal)
        assert same_bits(frame.to_numpy(), plain)


def test_polars_frames(signal: np.ndarray) -> None:
    polars = pytest.importorskip("polars")
    samples = polars.DataFrame(signal, schema=["acc_x", "acc_y", "acc_z"])
    extractor = FeatureExtractor("basic", **OPTIONS).fit(samples)
    assert extractor.channel_names_ == ("acc_x", "acc_y", "acc_z")
    values = extractor.transform(samples)
    assert same_bits(values, FeatureExtractor("basic", **OPTIONS).fit_transform(signal))
    frame = extractor.set_output(transform="polars").transform(samples)
    assert isinstance(frame, polars.DataFrame)
    assert frame.columns == list(extractor.get_feature_names_out())


def test_columns_of_a_frame_keep_their_order(signal: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    samples = pandas.DataFrame(signal, columns=["a", "b", "c"])
    extractor = FeatureExtractor("mean", **OPTIONS).fit(samples)
    with pytest.raises(ValueError, match="feature names should match"):
        extractor.transform(samples[["b", "a", "c"]])


def test_a_pipeline_tells_still_from_moving() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 120)
    windows = 9.81 + rng.standard_normal((120, 3, 40)) * np.where(labels, 2.0, 0.1)[:, None, None]
    pipeline = make_pipeline(
        FeatureExtractor("statistical", sample_rate_hz=50.0),
        HistGradientBoostingClassifier(max_iter=10, random_state=0),
    )
    pipeline.fit(windows[:80], labels[:80])
    assert pipeline.score(windows[80:], labels[80:]) == 1.0
    named = pipeline[:-1].get_feature_names_out()
    assert len(named) == pipeline[-1].n_features_in_ == 3 * 17 + 4
    restored = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(restored.predict(windows), pipeline.predict(windows))


def test_parameters_can_be_searched() -> None:
    rng = np.random.default_rng(2)
    labels = np.tile([0, 1], 30)
    windows = rng.standard_normal((60, 1, 30)) + 0.3 * labels[:, None, None] * (np.arange(30) % 2)
    search = GridSearchCV(
        make_pipeline(FeatureExtractor(), HistGradientBoostingClassifier(max_iter=5)),
        {"featureextractor__features": ["mean", ["mean", "autocorr_lag1"]]},
        cv=2,
    )
    search.fit(windows, labels)
    assert len(search.cv_results_["params"]) == 2


def test_a_union_of_window_lengths(signal: np.ndarray) -> None:
    union = make_union(
        FeatureExtractor("mean", window_samples=20), FeatureExtractor("max", window_samples=20)
    )
    assert isinstance(union, FeatureUnion)
    values = union.fit_transform(signal)
    assert same_bits(
        values[:, :3], FeatureExtractor("mean", window_samples=20).fit_transform(signal)
    )


# --- What is computed ----------------------------------------------------------------------------


def test_the_example_of_the_docstring() -> None:
    signal = np.random.default_rng(0).standard_normal((1000, 3))
    extractor = FeatureExtractor("basic", window_samples=100, step_samples=50)
    assert extractor.fit_transform(signal).shape == (19, 28)


@pytest.mark.parametrize(
    "features",
    [
        "basic",
        "order",
        "moments",
        "kurtosis",
        "q10",
        "corr",
        "x__mean",
        "mag__std",
        ["z__q10", "corr_y_z", "xyz__enmo"],
        ["mean", "basic", "ar1"],
        ("sma", "x__ar3"),
        np.array(["mean", "mad"]),
    ],
)
def test_what_is_asked_for_is_what_the_whole_set_has(signal: np.ndarray, features) -> None:
    options = {**OPTIONS, "magnitude": True}
    whole = FeatureExtractor(["moments", "order", *STATISTICAL], **options).fit(signal)
    table = dict(zip(whole.get_feature_names_out(), whole.transform(signal).T, strict=True))
    part = FeatureExtractor(features, **options).fit(signal)
    names, values = part.get_feature_names_out(), part.transform(signal)
    assert values.shape == (19, len(names))
    assert set(names) <= set(table)
    for name, column in zip(names, values.T, strict=True):
        assert same_bits(column, table[name]), name


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1])
def test_threads_give_the_same_bits(signal: np.ndarray, n_jobs: int) -> None:
    expected = FeatureExtractor(STATISTICAL, **OPTIONS).fit_transform(signal)
    got = FeatureExtractor(STATISTICAL, **OPTIONS, n_jobs=n_jobs).fit_transform(signal)
    assert same_bits(got, expected)
    with_nan = signal.copy()
    with_nan[77, 1] = np.nan
    options = {**OPTIONS, "nan_policy": "omit"}
    expected = FeatureExtractor(STATISTICAL, **options).fit_transform(with_nan)
    got = FeatureExtractor(STATISTICAL, **options, n_jobs=n_jobs).fit_transform(with_nan)
    assert same_bits(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "convert",
    [
        lambda signal: signal,
        lambda signal: signal.astype(np.float32),
        lambda signal: signal.astype(np.float16),
        lambda signal: (100 * signal).astype(np.int16),
        lambda signal: (100 * signal).astype(np.int64),
        lambda signal: signal > 9.81,
        lambda signal: signal.astype(">f8"),
        lambda signal: signal.tolist(),
        lambda signal: np.asfortranarray(signal),
        lambda signal: signal[::2],
        lambda signal: signal.astype(np.float32)[:, ::-1],
    ],
)
def test_kinds_of_arrays(signal: np.ndarray, convert, dtype: str) -> None:
    samples = convert(signal)
    values = FeatureExtractor("basic", **OPTIONS, dtype=dtype).fit_transform(samples)
    assert values.dtype == dtype
    plain = np.ascontiguousarray(samples, np.float64)
    expected = FeatureExtractor("basic", **OPTIONS, dtype=dtype).fit_transform(plain)
    assert same_bits(values, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_read_only_arrays_are_not_written_to(signal: np.ndarray, dtype: type) -> None:
    samples = signal.astype(dtype)
    before = samples.copy()
    expected = FeatureExtractor(STATISTICAL, **OPTIONS, nan_policy="omit").fit_transform(samples)
    assert same_bits(samples, before)
    samples.setflags(write=False)
    got = FeatureExtractor(STATISTICAL, **OPTIONS, nan_policy="omit").fit_transform(samples)
    assert same_bits(got, expected)
    assert same_bits(samples, before)


def test_a_memory_mapped_recording(signal: np.ndarray, tmp_path) -> None:
    np.save(tmp_path / "signal.npy", signal)
    mapped = np.load(tmp_path / "signal.npy", mmap_mode="r")
    got = FeatureExtractor("basic", **OPTIONS).fit_transform(mapped)
    assert same_bits(got, FeatureExtractor("basic", **OPTIONS).fit_transform(signal))


def test_windows_as_an_array() -> None:
    windows, _ = make_windows(20, 6, 30)
    extractor = FeatureExtractor(STATISTICAL, sample_rate_hz=50.0, channel_names=CHANNELS[6])
    values = extractor.fit_transform(windows)
    expected = compute(STATISTICAL, windows, magnitude=False)
    assert extractor.get_feature_names_out().tolist() == list(expected)
    for name, column in zip(expected, values.T, strict=True):
        assert same_bits(column, expected[name]), name


def test_rows_as_windows_of_one_channel() -> None:
    windows, _ = make_windows(20, 1, 30)
    extractor = FeatureExtractor(["mean", "ar1"])
    assert same_bits(extractor.fit_transform(windows[:, 0]), extractor.fit_transform(windows))
    assert extractor.get_feature_names_out().tolist() == ["x__mean", "x__ar1"]


@pytest.mark.parametrize(
    ("num_channels", "names"),
    [(1, ["x"]), (2, ["c0", "c1"]), (3, ["x", "y", "z"]), (4, ["c0", "c1", "c2", "c3"])],
)
def test_channels_without_a_name(num_channels: int, names: list[str]) -> None:
    extractor = FeatureExtractor("mean", **OPTIONS).fit(np.zeros((50, num_channels)))
    assert extractor.channel_names_ == tuple(names)


def test_lengths_in_seconds(signal: np.ndarray) -> None:
    in_seconds = FeatureExtractor(
        "basic", window_seconds=0.6, step_seconds=0.4, sample_rate_hz=50.0
    )
    in_samples = FeatureExtractor("basic", **OPTIONS)
    assert same_bits(in_seconds.fit_transform(signal), in_samples.fit_transform(signal))


def test_windows_lie_end_to_end_without_a_step(signal: np.ndarray) -> None:
    table = FeatureExtractor("mean", window_samples=30).extract(signal)
    assert table.starts.tolist() == list(range(0, 371, 30))


@pytest.mark.parametrize(
    ("option", "name", "factor"),
    [
        ({"slope_per": "sample"}, "slope", 1 / 50),
        ({"ddof": 1}, "var", 30 / 29),
        ({"ddof": 3}, "var", 30 / 27),
    ],
)
def test_options_that_change_a_unit(signal: np.ndarray, option, name: str, factor: float) -> None:
    usual = FeatureExtractor(name, **OPTIONS).fit_transform(signal)
    other = FeatureExtractor(name, **OPTIONS, **option).fit_transform(signal)
    assert other == pytest.approx(factor * usual, rel=1e-14)


def test_acceleration_in_g(signal: np.ndarray) -> None:
    in_metres = FeatureExtractor("enmo", **OPTIONS).fit_transform(signal)
    in_g = FeatureExtractor("enmo", **OPTIONS, acceleration_unit="g").fit_transform(
        signal / 9.80665
    )
    assert in_g * 9.80665 == pytest.approx(in_metres, rel=1e-12)


def test_what_is_undefined_is_nan_or_zero() -> None:
    still = np.full((60, 2), 9.81)
    names = ["skew", "kurtosis", "autocorr_lag1", "ar1", "hjorth_mobility", "corr"]
    assert np.isnan(FeatureExtractor(names, **OPTIONS).fit_transform(still)).all()
    zeros = FeatureExtractor(names, **OPTIONS, undefined="zero").fit_transform(still)
    assert not zeros.any()
    still[40] = np.nan
    values = FeatureExtractor(names, **OPTIONS, undefined="zero").fit_transform(still)
    assert np.isnan(values).all(1).tolist() == [False, True]


def test_omitted_samples(signal: np.ndarray) -> None:
    signal[35:40, 0] = np.nan
    values = FeatureExtractor(["mean", "corr_y_z"], **OPTIONS, nan_policy="omit").fit_transform(
        signal
    )
    assert values[0, 0] == pytest.approx(signal[:30, 0].mean())
    assert values[1, 0] == pytest.approx(np.nanmean(signal[20:50, 0]))
    assert not np.isnan(values).any()


# --- Recordings, labels, groups, times -----------------------------------------------------------


def test_a_list_of_recordings(signal: np.ndarray) -> None:
    parts = [signal[:100], signal[100:117], signal[117:].astype(np.float32)]
    extractor = FeatureExtractor("basic", **OPTIONS).fit(parts)
    table = extractor.extract(parts)
    assert table.recordings.tolist() == [0] * 4 + [2] * 13  # the second is shorter than a window
    assert table.starts.tolist() == [*range(0, 61, 20), *range(0, 241, 20)]
    expected = np.concatenate([extractor.transform(parts[0]), extractor.transform(parts[2])])
    assert same_bits(table.values, expected)
    assert same_bits(extractor.transform(parts), expected)
    assert table.groups is None
    assert table.targets == {}


def test_recordings_bring_their_labels() -> None:
    recordings = [
        make_recording(0, channel_names=("acc_x", "acc_y", "acc_z")),
        make_recording(1, channel_names=("acc_x", "acc_y", "acc_z")),
    ]
    extractor = FeatureExtractor("basic", **OPTIONS)
    table = extractor.extract(recordings)
    assert table.names[0] == "acc_x__mean"
    assert table.groups.tolist() == ["s0"] * 9 + ["s1"] * 9
    assert table.targets["activity"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1] * 2
    values = np.concatenate([extractor.transform(recording.signal) for recording in recordings])
    assert same_bits(table.values, values)
    alone = FeatureExtractor("basic", **OPTIONS).extract(recordings[1])
    assert same_bits(alone.values, table.values[9:])
    assert alone.groups.tolist() == ["s1"] * 9


def test_a_recording_with_times_and_a_gap() -> None:
    times = np.arange(200) / 50
    times[90:] += 10
    recording = make_recording(0, timestamps_seconds=times)
    table = FeatureExtractor("mean", **OPTIONS).extract(recording)
    assert table.starts.tolist() == [0, 20, 40, 60, 90, 110, 130, 150, 170]
    signal = recording.signal
    by_hand = FeatureExtractor("mean", **OPTIONS).extract(signal, timestamps_seconds=times)
    assert by_hand.starts.tolist() == table.starts.tolist()


def test_windows_bring_their_labels() -> None:
    recordings = [make_recording(0), make_recording(1)]
    windows = cut_windows(
        recordings,
        window_samples=30,
        step_samples=20,
        class_names={"activity": ("still", "moving")},
        label="majority",
    )
    assert isinstance(windows, Windows)
    table = FeatureExtractor("basic").extract(windows)
    assert len(table) == len(windows)
    assert table.groups.tolist() == windows.subjects.tolist()
    assert table.targets["activity"].tolist() == windows.targets["activity"].tolist()
    assert same_bits(table.values, FeatureExtractor("basic").fit_transform(windows.signals))


def test_labels_beside_an_array(signal: np.ndarray) -> None:
    activity = np.repeat([0, 1, IGNORE_INDEX, 2], 100)
    subjects = np.repeat(["anna", "ben"], [190, 210])
    table = FeatureExtractor("mean", **OPTIONS).extract(
        signal, targets={"activity": activity}, groups=subjects
    )
    assert table.starts.tolist() == [*range(0, 161, 20), *range(190, 371, 20)]
    assert table.groups.tolist() == ["anna"] * 9 + ["ben"] * 10
    centre = activity[table.starts + 15]
    is_clear = [len(set(activity[start : start + 30])) == 1 for start in table.starts]
    assert np.array_equal(table.targets["activity"][is_clear], centre[is_clear])


def test_labels_beside_windows() -> None:
    windows = make_windows(6, 3, 20)[0]
    table = FeatureExtractor("mean").extract(
        windows, targets={"activity": np.arange(6)}, groups=np.array([3, 3, 4, 4, 5, 5])
    )
    assert table.targets["activity"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table.groups.tolist() == [3, 3, 4, 4, 5, 5]
    assert table.starts.tolist() == [0] * 6


def test_a_segmenter_decides_on_the_windows(signal: np.ndarray) -> None:
    activity = np.repeat([0, 1], 200)
    segmenter = Segmenter(window_samples=30, step_samples=20, origin=7, label="pure")
    table = FeatureExtractor("basic", segmenter=segmenter).extract(
        signal, targets={"activity": activity}
    )
    segments = segmenter.segment(signal, targets={"activity": activity})
    assert table.starts.tolist() == segments.starts.tolist()
    expected = FeatureExtractor("basic").fit_transform(segments.windows(signal))
    assert same_bits(table.values, expected)


@pytest.mark.parametrize("step", [30, 20, 11])
def test_padded_windows_have_features_of_what_there_is(signal: np.ndarray, step: int) -> None:
    signal = signal[:219]
    segmenter = Segmenter(window_samples=30, step_samples=step, partial="pad")
    extractor = FeatureExtractor(["mean", "median", "corr", "sma"], segmenter=segmenter).fit(signal)
    table = extractor.extract(signal)
    segments = segmenter.segment(signal)
    assert len(table) == len(segments)
    assert segments.lengths.min() < 30
    alone = FeatureExtractor(["mean", "median", "corr", "sma"])
    for row, start, length in zip(table.values, segments.starts, segments.lengths, strict=True):
        expected = alone.fit_transform(signal[None, start : start + length].swapaxes(1, 2))
        assert same_bits(row[None], expected)


def test_windows_with_too_little_in_them_are_dropped(signal: np.ndarray) -> None:
    signal[100:130] = np.nan
    segmenter = Segmenter(window_samples=30, step_samples=10, min_valid=0.9)
    values = FeatureExtractor("mean", segmenter=segmenter, nan_policy="omit").fit_transform(signal)
    assert not np.isnan(values).any()
    assert len(values) < 38
    signal[:] = np.nan
    assert FeatureExtractor("mean", segmenter=segmenter).fit_transform(signal).shape == (0, 3)


@pytest.mark.parametrize(
    ("window_samples", "bands"),
    [(2, ["57_64", "49_64"]), (3, ["41_48", "33_48", "25_48"])],
)
def test_frequencies_of_uci561(window_samples: int, bands: list[str]) -> None:
    """The only one of 2 samples is half of the rate, of 3 samples a third of it.

    In windows of 128 samples these are bins 64 and 42.7.
    """
    samples = np.random.default_rng(0).standard_normal((30, 6))
    extractor = FeatureExtractor("uci561", window_samples=window_samples, sample_rate_hz=50.0)
    table = extractor.extract(samples)
    columns = dict(zip(table.names, table.values.T, strict=True))
    for name in ("fBodyAcc_x", "fBodyGyroJerkMag"):
        assert columns[f"{name}__meanFreq"] == pytest.approx(50 / window_samples, rel=1e-12)
        assert (columns[f"{name}__maxInds"] == 1).all()
    found = [name for name in columns if name.startswith("fBodyAcc_x__bandsEnergy")]
    assert [name[24:] for name in found if columns[name].any()] == bands


def test_the_table(signal: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    table = FeatureExtractor("basic", **OPTIONS).extract(
        signal, targets={"activity": np.zeros(400, int)}, groups=np.full(400, "anna")
    )
    assert isinstance(table, FeatureTable)
    assert repr(table) == "<FeatureTable: 19 windows x 28 features>"
    frame = table.to_pandas()
    assert frame.columns[:4].tolist() == ["recording", "start", "group", "activity"]
    assert frame.columns[4:].tolist() == list(table.names)
    assert frame["start"].tolist() == table.starts.tolist()
    bare = table.to_pandas(labels=False)
    assert isinstance(bare, pandas.DataFrame)
    assert bare.columns.tolist() == list(table.names)
    assert np.shares_memory(bare.to_numpy(), table.values)


@pytest.mark.skipif(config.DISABLE_JIT, reason="a minute of plain Python")
def test_many_windows_at_once() -> None:
    """More than a few blocks, with a last one that is not full."""
    signal = np.random.default_rng(3).standard_normal((20_011, 3)).astype(np.float32)
    extractor = FeatureExtractor(
        "statistical", window_samples=100, step_samples=60, sample_rate_hz=50
    )
    values = extractor.fit_transform(signal)
    starts = extractor.extract(signal).starts
    assert len(values) == len(starts) == 332
    windows = np.stack([signal[start : start + 100].T for start in starts])
    assert same_bits(
        values, FeatureExtractor("statistical", sample_rate_hz=50).fit_transform(windows)
    )


# --- Streams -------------------------------------------------------------------------------------


def test_a_stream_gives_the_rows_of_the_batch(signal: np.ndarray) -> None:
    """Gaps inside pieces and between them, wherever the pieces end."""
    times = np.arange(400) / 50
    times[90:] += 2
    times[210:] += 2
    extractor = FeatureExtractor("basic", **OPTIONS).fit(signal)
    whole = extractor.extract(signal, timestamps_seconds=times)
    for cuts in ([90, 210], [210], [50, 90, 150], [89, 91, 300], range(1, 400)):
        stream, rows, starts = extractor.stream(), [], []
        for places in np.split(np.arange(400), cuts):
            rows.append(stream.push(signal[places], timestamps_seconds=times[places]))
            starts += stream.starts.tolist()
        assert starts == whole.starts.tolist()
        assert same_bits(np.concatenate(rows), whole.values)


def test_a_stream_that_is_reset_has_a_new_clock(signal: np.ndarray) -> None:
    extractor = FeatureExtractor("mean", **OPTIONS).fit(signal)
    times = np.arange(100) / 50
    stream = extractor.stream()
    for first in (0, 100):
        rows = stream.push(signal[first : first + 100], timestamps_seconds=times)
        assert same_bits(rows, extractor.transform(signal[first : first + 100]))
        assert stream.starts.tolist() == [first, first + 20, first + 40, first + 60]
        stream.reset()
    assert len(stream.push(signal[200:300])) == 4  # or none


def test_a_list_with_uci561_alone_is_that_set() -> None:
    signal = np.random.default_rng(0).standard_normal((300, 6))
    tables = [
        FeatureExtractor(asked, window_samples=128, sample_rate_hz=50.0).fit_transform(signal)
        for asked in ("uci561", ["uci561"], ("uci561",))
    ]
    assert tables[0].shape == (2, 561)
    for table in tables[1:]:
        np.testing.assert_array_equal(table, tables[0])
    with pytest.raises(ValueError, match="but has 'uci561' instead"):
        FeatureExtractor(["uci561", "basic"], window_samples=128, sample_rate_hz=50.0).fit(signal)
