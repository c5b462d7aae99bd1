"""Tests of the table of data sets: every entry is complete, and importing it costs nothing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from smoothdistill import datasets
from smoothdistill.datasets.registry import find_dataset

NAMES = [
    "synthetic",
    "wisdm",
    "wisdm-v1.1",
    "hapt",
    "mhealth",
    "uci-har",
    "sleep-postures",
    "sp-sw-har",
]


def test_the_public_names() -> None:
    assert sorted(datasets.DATASETS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_description_is_complete(name: str) -> None:
    dataset = datasets.DATASETS[name]
    assert dataset.name == name
    assert tuple(dataset.class_names) == dataset.tasks
    assert all(len(set(names)) == len(names) > 1 for names in dataset.class_names.values())
    assert len(dataset.units) == len(dataset.channel_names) > 0
    assert dataset.sample_rate_hz > 0
    assert 0 < dataset.step_samples <= dataset.window_samples
    for text in (dataset.title, dataset.licence, dataset.citation, dataset.source):
        assert text
    assert dataset.needs_root == (name != "synthetic")
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "num_classes"),
    [
        ("wisdm", {"activity": 18, "placement": 2}),
        ("wisdm-v1.1", {"activity": 6}),
        ("hapt", {"activity": 12}),
        ("mhealth", {"activity": 13, "placement": 3}),
        ("uci-har", {"activity": 6}),
        ("sleep-postures", {"posture": 12, "placement": 3}),
        ("sp-sw-har", {"activity": 5, "placement": 2}),
    ],
)
def test_number_of_classes(name: str, num_classes: dict[str, int]) -> None:
    class_names = datasets.DATASETS[name].class_names
    assert {task: len(names) for task, names in class_names.items()} == num_classes


def test_a_new_data_set_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from smoothdistill.datasets import registry

    monkeypatch.setattr(registry, "DATASETS", dict(datasets.DATASETS))
    new = dataclasses.replace(datasets.DATASETS["hapt"], name="mine")
    assert datasets.register_dataset(new) is registry.DATASETS["mine"]
    with pytest.raises(ValueError, match=r"`dataset.name` must be new, but is 'mine' \(registered"):
        datasets.register_dataset(new)
    empty = dataclasses.replace(new, name="empty", find_sources=None)
    with pytest.raises(ValueError, match=r"`dataset` must have `find_sources` and `read_source`"):
        datasets.register_dataset(empty)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`name` must be one of \[.*\], but is 'pamap' instead"):
        find_dataset("pamap")
    with pytest.raises(TypeError, match="`name` must be a string, but is int instead"):
        find_dataset(3)


def test_importing_loads_neither_pyarrow_nor_numba() -> None:
    probe = (
        "import sys, smoothdistill.datasets; "
        "print([m for m in ('pyarrow', 'numba', 'pandas', 'torch') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
