"""`smoothdistill features`: files in, one table out, whole or not at all."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from smoothdistill import datasets, workers
from smoothdistill.cli import app
from smoothdistill.errors import DataError
from smoothdistill.features import FeatureExtractor
from smoothdistill.features import files as files_module
from smoothdistill.features.files import Reporter, extract_files
from smoothdistill.features.recording_files import RecordingFormat
from smoothdistill.windows import Segmenter

REPOSITORY = Path(__file__).resolve().parents[1]
needs_compiled_kernels = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="takes minutes as plain Python"
)
CUT = ("--features", "basic", "--window-samples", "50", "--step-samples", "20")
MAIN = "from smoothdistill.cli import main; main()"
runner = CliRunner()


def _run(*arguments):
    return runner.invoke(app, ["features", *(str(argument) for argument in arguments)])


def _start(*arguments, cwd, code=MAIN, **options):
    """A real process, as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    # Hears Ctrl-C even if the tests run in the background of a shell, which has it ignored.
    return subprocess.Popen(
        [sys.executable, "-c", code, "features", *arguments],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        cwd=cwd, env=environment, text=True, **options,
    )  # fmt: skip


def _finish(process, seconds=120):
    """What a process printed; one that hangs is ended."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def _signal(num_samples=230, num_channels=3, seed=0):
    noise = np.random.default_rng(seed).normal(size=(num_samples, num_channels))
    return noise.astype(np.float32)


def _write(path, signal, **columns):
    names = ("x", "y", "z")[: signal.shape[1]]
    table = pa.table(dict(zip(names, signal.T, strict=True)) | columns)
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pa.parquet.write_table(table, path)
    return path


def _read(path):
    return pa.csv.read_csv(path) if path.suffix == ".csv" else pa.parquet.read_table(path)


def _values(table, extractor):
    """The features of a table, as the extractor would give them back."""
    return np.stack([table.column(name) for name in extractor.get_feature_names_out()], axis=1)


def _extractor(signal, features="basic", **options):
    found = FeatureExtractor(features, window_samples=50, step_samples=20, **options)
    return found.fit(signal)


def _is_one_sentence(result, code, *words):
    assert result.exit_code == code, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert result.stdout == ""


# --- the numbers are those of the extractor ------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("kind", [".parquet", ".csv"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_table_holds_what_the_extractor_finds(tmp_path, suffix, kind, dtype):
    signal = _signal()
    path, out = _write(tmp_path / f"walk{kind}", signal), tmp_path / f"out{suffix}"
    result = _run(path, "-o", out, *CUT, "--dtype", dtype)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"10 windows x 28 features of 1 recording in 1 file: {out}\n"
    assert result.stderr == ""
    extractor = _extractor(signal, dtype=dtype)
    table, expected = _read(out), extractor.extract(signal)
    assert table.column_names == ["file", "recording", "start", *expected.names]
    # A CSV holds the shortest digits that give the number back.
    np.testing.assert_array_equal(_values(table, extractor).astype(dtype), expected.values)
    assert table["start"].to_pylist() == expected.starts.tolist()
    assert set(table["file"].to_pylist()) == {path.as_posix()}
    if suffix == ".parquet":
        assert table.schema.field("x__mean").type == pa.from_numpy_dtype(np.dtype(dtype))


@pytest.fixture
def folder(tmp_path):
    """Three recordings in a folder, the second too short for a window, and something else."""
    folder = tmp_path / "walks"
    folder.mkdir()
    for number, (num_samples, suffix) in enumerate([(230, ".csv"), (49, ".csv"), (150, ".pq")]):
        _write(folder / f"{number}{suffix}", _signal(num_samples, seed=number))
    (folder / "notes.md").write_text("not a recording")
    return folder


@pytest.mark.parametrize("how", ["folder", "files", "pattern"])
def test_recordings_follow_one_another(folder, how):
    paths = {
        "folder": [folder],
        "files": sorted(folder.glob("[0-9]*")),
        "pattern": [folder / "?.*"],
    }
    out = folder / "out.parquet"
    result = _run(*paths[how], "-o", out, *CUT, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "out": str(out),
        "num_files": 3,
        "num_recordings": 3,
        "num_too_short": 1,
        "num_windows": 16,
        "num_features": 28,
    }
    table = _read(out)
    assert table["recording"].to_pylist() == [0] * 10 + [2] * 6
    assert [Path(name).name for name in table["file"].to_pylist()] == ["0.csv"] * 10 + ["2.pq"] * 6
    first, last = _signal(230, seed=0), _signal(150, seed=2)
    extractor = _extractor(first)
    expected = [extractor.extract(signal).values for signal in (first, last)]
    np.testing.assert_array_equal(_values(table, extractor), np.concatenate(expected))


def test_the_table_of_last_time_is_no_recording(folder):
    out = folder / "out.csv"
    first = _run(folder, "-o", out, *CUT)
    before = out.read_bytes()
    second = _run(folder, "-o", out, *CUT)
    assert first.stdout == second.stdout
    assert first.stdout.startswith(
        "16 windows x 28 features of 3 recordings in 3 files, 1 too short"
    )
    assert out.read_bytes() == before
    _is_one_sentence(_run(out, "-o", out, *CUT), 2, "`out` must be none of the recordings")


def test_lengths_in_seconds_a_unit_and_other_names(tmp_path):
    signal = _signal()
    path = tmp_path / "walk.csv"
    lines = [";".join(map(str, row)) for row in signal.tolist()]
    path.write_text("\n".join(["acc x;acc y;acc z", *lines]) + "\n")
    out = tmp_path / "out.parquet"
    result = _run(
        path, "-o", out, "--features", "mean,enmo,slope", "--sample-rate-hz", "50",
        "--window-seconds", "1", "--step-seconds", "0.4", "--delimiter", ";",
        "--channels", "acc x, acc y,acc z", "--channel-names", "acc_x,acc_y,acc_z",
        "--acceleration-unit", "g", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == result.stderr == ""
    extractor = _extractor(
        signal,
        ["mean", "enmo", "slope"],
        sample_rate_hz=50.0,
        channel_names=("acc_x", "acc_y", "acc_z"),
        acceleration_unit="g",
    )
    np.testing.assert_array_equal(_values(_read(out), extractor), extractor.extract(signal).values)


# --- who, and what ------------------------------------------------------------------------------


def test_subjects_sessions_and_labels(tmp_path):
    signal = _signal(300)
    subject = np.repeat(["b", "a", "b"], 100)  # b's rows are two recordings
    label = np.where(np.arange(300) < 130, "walk", "")
    columns = {"subject": subject, "session": np.repeat([7, 7, 7], 100), "what": label}
    path, out = _write(tmp_path / "walk.csv", signal, **columns), tmp_path / "out.parquet"
    result = _run(path, "-o", out, *CUT, "--labels", "what")
    assert result.exit_code == 0, result.stderr
    table = _read(out)
    assert table.column_names[:6] == ["file", "recording", "subject", "session", "what", "start"]
    assert table["subject"].to_pylist() == ["b"] * 3 + ["a"] * 3 + ["b"] * 3
    assert set(table["session"].to_pylist()) == {"7"}
    assert table["recording"].to_pylist() == [0] * 3 + [1] * 3 + [2] * 3
    # Of b's first samples 100 are labelled, of a's 30: a window has the label that most of it has.
    assert table["what"].to_pylist() == ["walk"] * 4 + [None] * 5
    extractor = _extractor(signal)
    expected = [extractor.extract(signal[start : start + 100]).values for start in (0, 100, 200)]
    np.testing.assert_array_equal(_values(table, extractor), np.concatenate(expected))


def test_a_pure_window_crosses_no_change_of_label(tmp_path):
    signal = _signal(200)
    label = np.repeat([10, 9], 100)
    path, out = _write(tmp_path / "walk.pq", signal, label=label), tmp_path / "out.csv"
    assert _run(path, "-o", out, *CUT, "--labels", "label", "--label-rule", "pure").exit_code == 0
    table = _read(out)
    assert table["start"].to_pylist() == [0, 20, 40, 100, 120, 140]
    assert table["label"].to_pylist() == [10] * 3 + [9] * 3


def test_the_name_of_a_file_may_say_who_wore_it(tmp_path):
    for name in ("s1_wrist", "s2_ankle"):
        _write(tmp_path / f"{name}.csv", _signal())
    out = tmp_path / "out.parquet"
    pattern = "(?P<subject>s[0-9]+)_(?P<placement>[a-z]+)"
    result = _run(tmp_path, "-o", out, *CUT, "--name-pattern", pattern, "--labels", "placement")
    assert result.exit_code == 0, result.stderr
    table = _read(out)
    assert table.column_names[:5] == ["file", "recording", "subject", "placement", "start"]
    assert table["subject"].to_pylist() == ["s1"] * 10 + ["s2"] * 10
    assert table["placement"].to_pylist() == ["wrist"] * 10 + ["ankle"] * 10


def test_no_window_crosses_a_gap(tmp_path):
    signal = _signal(200)
    times = np.arange(200) / 50 + 3.0 * (np.arange(200) >= 100)
    path = _write(tmp_path / "walk.csv", signal, t=times)
    out = tmp_path / "out.parquet"
    timed = ("--time", "t", "--sample-rate-hz", "50")
    assert _run(path, "-o", out, *CUT, *timed).exit_code == 0
    assert _read(out)["start"].to_pylist() == [0, 20, 40, 100, 120, 140]
    wrong = _run(path, "-o", out, *CUT, "--time", "t", "--sample-rate-hz", "100")
    _is_one_sentence(
        wrong, 3, "within 20 % of the 50 Hz that the times of walk.csv show, but is 100"
    )
    times[60] = 0.0
    back = _run(_write(path, signal, t=times), "-o", out, *CUT, *timed)
    _is_one_sentence(back, 3, "must not run backwards", "at sample 60 instead, in ", "walk.csv.")


# --- missing samples ----------------------------------------------------------------------------


def _with_holes(path, word):
    """A recording with holes in x, at 70, and in y, at the end; `word` stands for them in a CSV."""
    signal = _signal(230)
    signal[70, 0] = signal[-1, 1] = np.nan
    if path.suffix == ".csv":
        rows = [[word if np.isnan(v) else repr(v) for v in row] for row in signal.tolist()]
        path.write_text("x,y,z\n" + "".join(",".join(row) + "\n" for row in rows))
    else:
        columns = {n: pa.array(v, from_pandas=word == "") for n, v in zip("xyz", signal.T)}  # noqa: B905
        pa.parquet.write_table(pa.table(columns), path)
    return signal


@pytest.mark.parametrize("policy", ["propagate", "omit"])
@pytest.mark.parametrize("word", ["", "nan", " NA", "Null"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_samples_are_nan(tmp_path, suffix, word, policy):
    path, out = tmp_path / f"walk{suffix}", tmp_path / "out.parquet"
    signal = _with_holes(path, word)
    assert _run(path, "-o", out, *CUT, "--nan-policy", policy).exit_code == 0
    extractor = _extractor(signal, nan_policy=policy)
    values = _values(_read(out), extractor)
    np.testing.assert_array_equal(values, extractor.extract(signal).values)
    assert np.isnan(values).any() == (policy == "propagate")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_samples_may_be_refused(tmp_path, suffix):
    path = tmp_path / f"walk{suffix}"
    _with_holes(path, "nan")
    result = _run(path, "-o", tmp_path / "out.csv", *CUT, "--nan-policy", "raise")
    row = 72 if suffix == ".csv" else 71  # a CSV has a header
    _is_one_sentence(result, 3, f"`walk{suffix}:{row}:1` (x) must be a finite number, but is")


@pytest.mark.parametrize("word", ["abc", "inf", "1e99", "0x1p3"])
def test_other_words_are_not_missing(tmp_path, word):
    path = tmp_path / "walk.csv"
    _with_holes(path, word)
    result = _run(path, "-o", tmp_path / "out.csv", *CUT)
    _is_one_sentence(result, 3, "`walk.csv:72:1` (x) must be ", repr(word)[:4])


def test_parquet_that_is_no_number(tmp_path):
    signal = _signal(100).astype(np.float64)
    signal[7, 2] = np.inf
    out = tmp_path / "out.csv"
    result = _run(_write(tmp_path / "a.pq", signal), "-o", out, *CUT)
    _is_one_sentence(result, 3, "`a.pq:8:3` (z) must be a finite number or missing, but is inf")
    text = pa.table({"x": ["1", "2"], "y": [1, 2], "z": [1, None]})
    pa.parquet.write_table(text, tmp_path / "b.pq")
    result = _run(tmp_path / "b.pq", "-o", out, *CUT)
    _is_one_sentence(result, 3, "`b.pq` (x) must be a column of real numbers, but is of string")


def test_a_blank_line_in_a_file_of_one_column_is_a_missing_sample(tmp_path):
    signal = _signal(230, 1)
    signal[70] = np.nan
    path, out = tmp_path / "walk.csv", tmp_path / "out.parquet"
    words = ["" if np.isnan(value) else repr(value) for value in signal[:, 0].tolist()]
    path.write_text("\n".join(["x", *words]) + "\n\n")
    assert _run(path, "-o", out, *CUT, "--channels", "x").exit_code == 0
    extractor = _extractor(signal, channel_names=("x",))
    expected = extractor.extract(signal)
    assert np.isnan(expected.values).any()
    np.testing.assert_array_equal(_values(_read(out), extractor), expected.values)


def test_labels_beside_missing_samples(tmp_path):
    path = tmp_path / "walk.parquet"
    signal = _with_holes(path, "")
    table = _read(path).append_column("label", pa.array(["sit"] * len(signal)))
    pa.parquet.write_table(table, path)
    out = tmp_path / "out.parquet"
    assert _run(path, "-o", out, *CUT, "--labels", "label").exit_code == 0
    assert set(_read(out)["label"].to_pylist()) == {"sit"}


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*CUT], 2, ["`FILE` or `--set data.name=...` must be given", "neither is"]),
        (["a.csv", *CUT, "--set", "data.name=synthetic"], 2, ["not both, but both are instead"]),
        (["none.csv", *CUT], 3, ["`paths` must name at least 1 file, but is ['none.csv']"]),
        (["a.csv", "none.csv", *CUT], 3, ["`paths` must name", "none.csv"]),
        (["a.csv"], 2, ["`window_samples` or `window_seconds` must be given"]),
        (["a.csv", *CUT, "-o", "out.xlsx"], 2, ["`out` must end with .parquet or .csv, but is"]),
        (["a.csv", *CUT, "-o", "no/out.csv"], 2, ["`out` must be a file in a folder that exists"]),
        (["a.csv", "--window-samples", "0"], 2, ["`window_samples` must be at least 1, but is 0"]),
        (["a.csv", *CUT, "--step-samples", "0"], 2, ["`step_samples` must be at least 1"]),
        (["a.csv", *CUT, "--window-seconds", "1"], 2, ["`window_seconds` must be left out where"]),
        (["a.csv", "--window-seconds", "1"], 2, ["`sample_rate_hz` must be given where"]),
        (["a.csv", *CUT, "--features", "maen"], 2, ["has 'maen' instead. Did you mean 'mean'"]),
        (["a.csv", *CUT, "--features", "har"], 2, ["`sample_rate_hz` must be given for"]),
        (["a.csv", *CUT, "--nan-policy", "drop"], 2, ["`nan_policy` must be one of 'propagate'"]),
        (["a.csv", *CUT, "--dtype", "int8"], 2, ["`dtype` must be one of 'float64', 'float32'"]),
        (["a.csv", *CUT, "--label-rule", "first"], 2, ["`label` must be one of"]),
        (["a.csv", *CUT, "--acceleration-unit", "G"], 2, ["`acceleration_unit` must be one of"]),
        (["a.csv", *CUT, "--backend", "spark"], 2, ["`backend` must be one of 'threads', 'proc"]),
        (["a.csv", *CUT, "--jobs", "0"], 2, ["`n_jobs` must be at least 1, or -1 for", "is 0"]),
        (["a.csv", *CUT, "--delimiter", ";;"], 2, ["`delimiter` must be 1 character, but is ';;'"]),
        (["a.csv", *CUT, "--time", "t"], 2, ["`sample_rate_hz` must be given where `time` is"]),
        (["a.csv", *CUT, "--time-unit", "h"], 2, ["`time_unit` must be one of ['s', 'ms'"]),
        (
            ["a.csv", *CUT, "--channels", "x,x"],
            2,
            ["`channels` must be names of different columns"],
        ),
        (["a.csv", *CUT, "--channels", ""], 2, ["`channels` must be names of different columns"]),
        (["a.csv", *CUT, "--channels", "x,w"], 3, ["`a.csv` must have the column 'w', but has"]),
        (["a.csv", *CUT, "--channel-names", "x,y"], 3, ["must have one name for each of the 3"]),
        (["a.csv", *CUT, "--channel-names", "a b,c,d"], 3, ["of letters, digits", "has 'a b'"]),
        (["a.csv", *CUT, "--subject", "who"], 3, ["`a.csv` must have the column 'who'"]),
        (["a.csv", *CUT, "--labels", "l,l"], 2, ["`labels` must be names of different columns"]),
        (["a.csv", *CUT, "--labels", "start"], 2, ["`labels` must have other names than the col"]),
        (["a.csv", *CUT, "--name-pattern", "("], 2, ["`name_pattern` must be a regular expr"]),
        (["a.csv", *CUT, "--name-pattern", "a"], 2, ["`name_pattern` must have a named group"]),
        (
            ["a.csv", *CUT, "--name-pattern", "(?P<s>b)"],
            3,
            ["must have names that match '(?P<s>b)'"],
        ),
        (["a.csv", "b.csv", *CUT], 3, ["`b.csv` must have the column 'z', but has ['x', 'y']"]),
        (["a.csv", "bad.csv", *CUT], 3, ["`bad.csv:3:2` (y) must be a finite number", "'oops'"]),
        (["short.csv", *CUT], 3, ["`window_samples` must be at most 9 (the longest stretch"]),
        (["wide.csv", *CUT], 3, ["`wide.csv` must be UTF-8 text, but begins with a UTF-16"]),
        (["empty.csv", *CUT], 3, ["`empty.csv` must hold at least 1 row, but is empty instead"]),
        (["twice.csv", *CUT], 3, ["`twice.csv:1` must be a header of different names", "'x'"]),
        (["text.pq", *CUT], 3, ["`text.pq` must be a Parquet file, but is not"]),
        (["folder.pq", *CUT, "--dtype", "float32"], 3, ["`paths` must name at least 1 file"]),
        (["--set", "train.epochs=1"], 2, ["`--set` must change a key of data here, but is"]),
        (["--set", "data.name=none"], 2, ["`name` must be one of"]),
        (["--set", "data.name=wisdm"], 3, ["`root` must be the folder of 'wisdm'"]),
        (["--set", "data.name=uci-har"], 3, ["must be a data set of recordings, but is 'uci-har'"]),
    ],
)
def test_errors_are_one_sentence_and_write_nothing(arguments, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write(Path("a.csv"), _signal(100), start=np.arange(100))
    _write(Path("b.csv"), _signal(100, 2))
    _write(Path("short.csv"), _signal(9))
    Path("bad.csv").write_text("x,y,z\n1,2,3\n4,oops,6\n")
    Path("wide.csv").write_text("x,y,z\n1,2,3\n", encoding="utf-16")
    Path("empty.csv").write_text("")
    Path("twice.csv").write_text("x,x,z\n1,2,3\n")
    Path("text.pq").write_text("not Parquet")
    Path("folder.pq").mkdir()
    before = sorted(Path().iterdir())
    _is_one_sentence(_run(*arguments), code, *words)
    assert sorted(Path().iterdir()) == before


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    path = _write(tmp_path / "a.csv", _signal(100))
    monkeypatch.setattr(Path, "open", refuse)
    _is_one_sentence(
        _run(path, *CUT, "-o", tmp_path / "out.csv"),
        3, "`a.csv` must be a readable file, but is Permission denied instead.",
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_must_be_installed_and_configured(tmp_path, monkeypatch, backend):
    package, variable, _ = workers.CLUSTERS[backend]
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    path = _write(tmp_path / "a.csv", _signal(100))
    result = _run(path, *CUT, "--backend", backend)
    _is_one_sentence(result, 2, f"is '{backend}' without the package {package} (pip install")
    monkeypatch.setattr(workers, "find_spec", lambda name: True)
    monkeypatch.setattr(workers, "_is_connected", lambda backend: False)
    monkeypatch.delenv(variable, raising=False)
    result = _run(path, *CUT, "--backend", backend)
    _is_one_sentence(result, 2, f"is '{backend}' without {variable} (the address of a")


def test_pyarrow_is_asked_for(tmp_path, monkeypatch):
    path = _write(tmp_path / "a.csv", _signal(100))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = _run(path, *CUT, "-o", tmp_path / "out.csv")
    _is_one_sentence(result, 2, "`pyarrow` must be installed", "pip install 'smoothdistill[data]'")


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_error_leaves_the_old_table_as_it_was(tmp_path, suffix):
    good = _write(tmp_path / "good.csv", _signal())
    bad = tmp_path / "later.csv"
    bad.write_text("x,y,z\n" + "1,2,3\n" * 60 + "4,oops,6\n")
    out = tmp_path / f"out{suffix}"
    out.write_text("what was there")
    _is_one_sentence(_run(good, bad, "-o", out, *CUT), 3, "`later.csv:62:2`")
    assert out.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.csv", "later.csv", out.name]


def test_a_full_disk_is_the_machines_fault(tmp_path, monkeypatch):
    def refuse(self, piece):
        raise OSError(28, "No space left on device", "out.csv.partial")

    monkeypatch.setattr("smoothdistill.features.table_files.TableWriter.write", refuse)
    path = _write(tmp_path / "a.csv", _signal(100))
    result = _run(path, *CUT, "-o", tmp_path / "out.csv", "--jobs", "2")
    _is_one_sentence(result, 1, "No space left on device")
    assert list(tmp_path.iterdir()) == [path]


def test_an_extractor_for_files_needs_a_window(tmp_path):
    path = _write(tmp_path / "a.csv", _signal(100))
    with pytest.raises(ValueError, match="must be given for recordings, but both are None"):
        extract_files(FeatureExtractor("basic"), path, tmp_path / "out.csv")


def test_a_format_has_channels():
    with pytest.raises(ValueError, match="`channels` must name at least 1 column, but is empty"):
        RecordingFormat(channels=())


def test_a_subject_has_a_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y,z,subject\n" + "1,2,3,ann\n" * 5 + "1,2,3,\n")
    result = _run(path, *CUT, "-o", tmp_path / "out.csv")
    _is_one_sentence(result, 3, "`a.csv:7:4` (subject) must be at least 1 character, but is ''")


# --- many files ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 12 recordings of unlike lengths, and their table by one thread."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(12):
        name = f"{number:02d}.{'csv' if number % 2 else 'parquet'}"
        signal = _signal(100 + 150 * (number % 5), seed=number)
        _write(folder / name, signal, subject=np.repeat(f"s{number}", len(signal)))
    out = tmp_path_factory.mktemp("table") / "out.csv"
    assert _run(folder, "-o", out, *CUT).exit_code == 0
    return folder, out.read_bytes()


@pytest.mark.parametrize(
    ("backend", "jobs"), [("threads", 2), ("threads", -1), ("threads", 30), ("processes", 2)]
)
def test_workers_write_the_same_table(many, tmp_path, backend, jobs):
    folder, expected = many
    out = tmp_path / "out.csv"
    result = _run(folder, "-o", out, *CUT, "--backend", backend, "--jobs", jobs)
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes() == expected


def test_dask_writes_the_same_table(many, tmp_path):
    distributed = pytest.importorskip("distributed")
    folder, expected = many
    out = tmp_path / "out.csv"
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        result = _run(folder, "-o", out, *CUT, "--backend", "dask")
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes() == expected


def test_an_error_in_a_process_names_the_file(tmp_path):
    for number in range(4):
        _write(tmp_path / f"{number}.csv", _signal(100))
    (tmp_path / "2.csv").write_text("x,y,z\n1,2,3\n4,oops,6\n")
    result = _run(tmp_path, *CUT, "-o", tmp_path / "out.csv", "--backend", "processes", "--jobs", 2)
    _is_one_sentence(result, 3, "`2.csv:3:2` (y) must be a finite number")


def test_results_come_in_the_order_of_the_work():
    def task(item):
        time.sleep(0.05 if item % 7 == 0 else 0.0)
        return item

    assert list(workers.results(task, list(range(60)), 3, "threads")) == list(range(60))


def test_processes_leave_ctrl_c_to_their_parent():
    handler = signal.getsignal(signal.SIGINT)
    found = list(workers.results(signal.getsignal, [signal.SIGINT] * 3, 2, "processes"))
    assert found == [signal.SIG_IGN] * 3
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_slow_file_is_not_overtaken_by_all_others():
    begun, gate = [], threading.Event()

    def task(item):
        begun.append(item)
        if item == 0:
            gate.wait(10)
        return item

    found = workers.results(task, list(range(100)), 2, "threads")
    waiter = threading.Thread(target=lambda: (time.sleep(0.3), gate.set()))
    waiter.start()
    assert next(found) == 0
    waiter.join()
    assert len(begun) <= 2 * workers.MOST_IN_FLIGHT + 1
    assert list(found) == list(range(1, 100))


@pytest.mark.parametrize(("n_jobs", "match"), [(0, "at least 1, or -1"), (-2, "but is -2")])
def test_the_number_of_jobs_is_checked(n_jobs, match):
    with pytest.raises(ValueError, match=match):
        workers.count_workers(n_jobs, "threads")
    with pytest.raises(TypeError, match="`n_jobs` must be an integer, but is str instead"):
        workers.count_workers("2", "threads")


MEMORY = """
import resource, sys
from smoothdistill.features import FeatureExtractor
from smoothdistill.features.files import Reporter, extract_files

peaks = []

def note(num_windows):
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

extract_files(
    FeatureExtractor("basic", window_samples=50, step_samples=1), sys.argv[2], "out.parquet",
    n_jobs=2, reporter=Reporter(advanced=note),
)
print(len(peaks), peaks[-1] - peaks[60])
"""


@needs_compiled_kernels
def test_memory_does_not_grow_with_the_number_of_recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    first = _write(folder / "000.parquet", _signal(3000))
    for number in range(1, 200):
        os.link(first, folder / f"{number:03d}.parquet")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = _start(str(folder), cwd=tmp_path, code=MEMORY, **pipes)
    out, errors = _finish(done)
    assert done.returncode == 0, errors
    (tmp_path / "out.parquet").unlink()
    num_files, growth = map(int, out.split())
    assert num_files == 200
    # 140 files are 140 * 2951 windows * 28 features * 8 bytes = 92 MB; kB are the unit on Linux.
    assert growth < 30_000


# --- stopped ------------------------------------------------------------------------------------


@needs_compiled_kernels
@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_a_stopped_command_leaves_nothing(tmp_path, number, jobs):
    folder = tmp_path / "recordings"
    folder.mkdir()
    first = _write(folder / "0.csv", _signal(20_000))
    for copy in range(1, 500):
        os.link(first, folder / f"{copy}.csv")
    process = _start(
        "recordings", *CUT, "--step-samples", "1", "-o", "out.parquet", "--jobs", jobs,
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (tmp_path / "out.parquet.partial").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    out, errors = _finish(process)
    assert process.returncode == 128 + number
    assert out == ""
    assert errors == "Stopped; nothing was written.\n"
    assert list(tmp_path.iterdir()) == [folder]


def test_ctrl_c_ends_with_130(tmp_path, monkeypatch):
    def interrupt(self, work):
        raise KeyboardInterrupt

    monkeypatch.setattr(files_module._Task, "__call__", interrupt)
    path = _write(tmp_path / "a.csv", _signal(100))
    handler = signal.getsignal(signal.SIGTERM)
    result = _run(path, *CUT, "-o", tmp_path / "out.csv")
    _is_one_sentence(result, 130, "Stopped; nothing was written.")
    assert list(tmp_path.iterdir()) == [path]
    assert signal.getsignal(signal.SIGTERM) is handler


# --- what is shown ------------------------------------------------------------------------------

SHOWN = """
import sys
import smoothdistill.commands.features
from smoothdistill.cli import app

smoothdistill.commands.features.LOADING_SECONDS = 0.0
app(sys.argv[1:], standalone_mode=False)
print("and now without", file=sys.stderr)
app([*sys.argv[1:], "--quiet"], standalone_mode=False)
"""


def test_a_terminal_shows_a_bar_unless_quiet(tmp_path):
    for number in range(3):
        _write(tmp_path / f"{number}.csv", _signal())
    ours, theirs = pty.openpty()
    process = _start(
        ".", *CUT, "-o", "out.csv",
        cwd=tmp_path, code=SHOWN, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the other end is closed
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    out, _ = _finish(process)
    assert process.returncode == 0
    assert out == "30 windows x 28 features of 3 recordings in 3 files: out.csv\n"
    bar, _, quiet = shown.decode().partition("and now without")
    for words in ("compiling kernels (once)", "3/3", "30 windows"):
        assert words in bar
    assert quiet.strip() == ""


def test_the_reporter_hears_of_every_step(tmp_path):
    for number in range(3):
        _write(tmp_path / f"{number}.csv", _signal())
    heard = []
    reporter = Reporter(
        preparing=lambda: heard.append("preparing"),
        starting=lambda num_items: heard.append(num_items),
        advanced=lambda num_windows: heard.append(num_windows),
    )
    extractor = FeatureExtractor("basic", window_samples=50, step_samples=20)
    summary = extract_files(extractor, tmp_path, tmp_path / "out.csv", reporter=reporter)
    assert heard == ["preparing", 3, 10, 10, 10]
    assert summary.num_windows == 30
    assert not hasattr(extractor, "plan_"), "the caller's extractor is left alone"


def test_the_command_explains_itself():
    shown = " ".join(_run("--help").stdout.replace("│", " ").split())
    for words in (
        "a row per window, any number of files", "--nan-policy", "threads, processes, dask or ray",
        "(?P<subject>s[0-9]+)", "--window-seconds", "too short for a window are left out",
    ):  # fmt: skip
        assert words in shown


def test_the_command_loads_nothing_before_it_runs(tmp_path):
    code = (
        "import sys; from smoothdistill.cli import app;"
        "app(['features', '--help'], standalone_mode=False);"
        "heavy = {'torch', 'numba', 'sklearn', 'joblib', 'pyarrow', 'scipy', 'numpy'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = _start(cwd=tmp_path, code=code, **pipes)
    _, errors = _finish(process)
    assert process.returncode == 0, errors


# --- data sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_data_set_has_its_own_windows_and_labels(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    name = ("--set", "data.name=synthetic", "--set", "data.num_subjects=2")
    result = _run("-o", out, "--features", "basic", *name)
    assert result.exit_code == 0, result.stderr
    windows = datasets.load("synthetic", num_subjects=2)
    recordings = datasets.load_recordings("synthetic", num_subjects=2)
    extractor = FeatureExtractor("basic", channel_names=windows.channel_names).fit(windows)
    table = _read(out)
    expected = f"{len(windows):,} windows x 28 features of {len(recordings)} recordings: {out}\n"
    assert result.stdout == expected
    np.testing.assert_array_equal(_values(table, extractor), extractor.extract(windows).values)
    np.testing.assert_array_equal(table["subject"], windows.subjects)
    np.testing.assert_array_equal(table["start"], windows.starts)
    for task, names in windows.class_names.items():
        assert table[task].to_pylist() == [names[label] for label in windows.targets[task]]


@pytest.mark.parametrize(
    ("options", "window", "step"),
    [
        ([], 100, 60),
        (["--step-samples", "30"], 100, 30),
        (["--window-samples", "80"], 80, 80),
        (["--window-seconds", "2", "--step-seconds", "1"], 100, 50),
        (["--set", "data.window_samples=90"], 90, 90),
        (["--set", "data.window_samples=90", "--set", "data.step_samples=45"], 90, 45),
    ],
)
def test_lengths_of_a_data_set_can_be_changed(tmp_path, monkeypatch, options, window, step):
    found = {}

    def note(extractor, recordings, out, **others):
        found["segmenter"] = extractor.segmenter
        raise DataError("`enough` is enough.")

    monkeypatch.setattr(files_module, "extract_recordings", note)
    name = ("--set", "data.name=synthetic", "--set", "data.num_subjects=1")
    _is_one_sentence(_run("-o", tmp_path / "o.csv", *name, *options), 3, "enough")
    segmenter = found["segmenter"]
    assert isinstance(segmenter, Segmenter)
    assert (segmenter.width_samples, segmenter.hop_samples) == (window, step)
    assert segmenter.label == datasets.DATASETS["synthetic"].label
    assert segmenter.sample_rate_hz == 50.0


@pytest.mark.parametrize(
    ("units", "options", "expected"),
    [
        (("m/s²",), [], "m/s^2"),
        (("g", "rad/s"), [], "g"),
        (("g",), ["--acceleration-unit", "m/s^2"], "m/s^2"),
    ],
)
def test_a_data_set_knows_its_unit(tmp_path, monkeypatch, units, options, expected):
    found = []

    def note(extractor, recordings, out, **others):
        found.append(extractor.acceleration_unit)
        raise DataError("`enough` is enough.")

    monkeypatch.setattr(files_module, "extract_recordings", note)
    described = replace(datasets.DATASETS["synthetic"], units=units)
    monkeypatch.setitem(datasets.DATASETS, "synthetic", described)
    name = ("--set", "data.name=synthetic", "--set", "data.num_subjects=1")
    _is_one_sentence(_run("-o", tmp_path / "o.csv", *name, *options), 3, "enough")
    assert found == [expected]


def test_the_module_of_the_command_is_what_the_command_line_shows():
    command = import_module("smoothdistill.commands.features").features
    assert "features" in runner.invoke(app, ["--help"]).stdout
    assert command.__doc__
