"""Tests of the cache: keyed by content, rebuilt when damaged, harmless where it cannot write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.datasets import cache as cache_module
from smoothdistill.datasets import loading
from smoothdistill.windows import Recording

Write = Callable[[str], Path]


def assert_same(left: list[Recording], right: list[Recording]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one.signal, other.signal)
        assert list(one.targets) == list(other.targets)
        for task, labels in one.targets.items():
            np.testing.assert_array_equal(labels, other.targets[task])
            assert labels.strides == other.targets[task].strides
        assert (one.timestamps_seconds is None) == (other.timestamps_seconds is None)
        if one.timestamps_seconds is not None:
            np.testing.assert_array_equal(one.timestamps_seconds, other.timestamps_seconds)
        assert (one.subject, one.session, one.sample_rate_hz, one.channel_names) == (
            *(other.subject, other.session, other.sample_rate_hz, other.channel_names),
        )


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sources that were parsed, not taken from the cache."""
    names: list[str] = []
    original = loading._with_known_options

    def counted(dataset, function, options, *arguments):  # type: ignore[no-untyped-def]
        names.extend(argument.name for argument in arguments)
        return original(dataset, function, options, *arguments)

    monkeypatch.setattr(loading, "_with_known_options", counted)
    return names


@pytest.mark.parametrize("name", ["wisdm", "wisdm-v1.1", "hapt", "mhealth", "sp-sw-har"])
def test_what_is_read_back_is_what_was_parsed(
    name: str, write_dataset: Write, reads: list[str]
) -> None:
    root = write_dataset(name)
    parsed = datasets.load_recordings(name, root=root)
    num_sources = len(reads)
    assert num_sources > 0
    assert_same(datasets.load_recordings(name, root=root), parsed)
    assert len(reads) == num_sources


def test_one_changed_file_is_parsed_anew(write_dataset: Write, reads: list[str]) -> None:
    root = write_dataset("mhealth")
    datasets.load_recordings("mhealth", root=root)
    path = root / "mHealth_subject2.log"
    path.write_bytes(path.read_bytes().replace(b"\t0\n", b"\t1\n"))
    reads.clear()
    datasets.load_recordings("mhealth", root=root)
    assert reads == ["mHealth_subject2.log"]


def test_options_and_version_are_part_of_the_key(
    write_dataset: Write, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from smoothdistill.datasets import registry

    root = write_dataset("wisdm")
    datasets.load_recordings("wisdm", root=root)
    reads.clear()
    datasets.load_recordings("wisdm", root=root, resample=False)
    assert len(reads) == 4
    reads.clear()
    newer = dataclasses.replace(datasets.DATASETS["wisdm"], version=99)
    monkeypatch.setitem(registry.DATASETS, "wisdm", newer)
    datasets.load_recordings("wisdm", root=root)
    assert len(reads) == 4


def test_a_copy_of_the_data_elsewhere_is_found(
    write_dataset: Write, reads: list[str], tmp_path: Path
) -> None:
    root = write_dataset("mhealth")
    datasets.load_recordings("mhealth", root=root)
    reads.clear()
    moved = tmp_path / "elsewhere" / root.name
    moved.parent.mkdir()
    root.rename(moved)
    datasets.load_recordings("mhealth", root=moved)
    assert reads == []


def test_a_damaged_entry_is_rebuilt_never_trusted(
    write_dataset: Write, reads: list[str], cache_folder: Path
) -> None:
    root = write_dataset("mhealth")
    parsed = datasets.load_recordings("mhealth", root=root)
    (entry, *_) = sorted(cache_folder.rglob("*.safetensors"))
    good = entry.read_bytes()
    generator = np.random.default_rng(0)
    damaged = [b"", good[:7], good[: len(good) // 2], good + b"x", b"\xff" * len(good)]
    for place in generator.integers(0, len(good), 40):
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(generator.integers(8))
        damaged.append(bytes(flipped))
    for content in damaged:
        entry.write_bytes(content)
        reads.clear()
        assert_same(datasets.load_recordings("mhealth", root=root), parsed)
        # a flip in unused blanks of the header does no harm; any other is found and mended
        assert len(reads) == 1 or entry.read_bytes() == content
        assert len(entry.read_bytes()) == len(good)


def test_nothing_else_is_left_behind(write_dataset: Write, cache_folder: Path) -> None:
    datasets.load_recordings("mhealth", root=write_dataset("mhealth"))
    names = [path.suffix for path in cache_folder.rglob("*") if path.is_file()]
    assert names == [".safetensors"] * 3


def test_a_folder_that_cannot_be_written_does_no_harm(
    write_dataset: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocker = tmp_path / "a file"
    blocker.write_bytes(b"")
    monkeypatch.setenv("SMOOTHDISTILL_CACHE", str(blocker / "cache"))
    assert len(datasets.load_recordings("mhealth", root=write_dataset("mhealth"))) == 9


def test_a_write_that_fails_leaves_no_file(
    write_dataset: Write, monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "fsync", full)
    assert len(datasets.load_recordings("mhealth", root=write_dataset("mhealth"))) == 9
    assert [path for path in cache_folder.rglob("*") if path.is_file()] == []
