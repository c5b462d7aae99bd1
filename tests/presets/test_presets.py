"""Presets: files by name, each a grid that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoothdistill import presets
from smoothdistill.evaluation import CompareConfig
from smoothdistill.methods import METHODS
from smoothdistill.training import RunConfig


def test_every_file_has_a_name_and_a_path():
    assert "quick" in presets.names()
    for name in presets.names():
        assert presets.path(name).name == f"{name}.toml"
        assert presets.path(name).is_file()


def test_an_unknown_preset_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"`preset` must be one of .*quick.*, but is 'slow' inst"):
        presets.path("slow")


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_a_grid(name):
    assert CompareConfig.from_file(presets.path(name)).variants()


def test_quick_has_every_method_on_the_synthetic_set():
    config = CompareConfig.from_file("quick")
    assert [variant.label for variant in config.variants()] == list(METHODS)
    for variant in config.variants():
        assert variant.config.data.name == "synthetic"
        assert (variant.config.train.epochs, variant.config.split.num_folds) == (3, 2)


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quick").write_text('[compare]\nmethods = ["multitask"]\n')
    assert len(CompareConfig.from_file("quick").variants()) == 1


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_a_configuration_too(name):
    """Of what all its variants share: `smoothdistill train --config best` trains that."""
    config = RunConfig.from_file(name, ["train.epochs=1"])
    shared = CompareConfig.from_file(name)
    assert config.train.epochs == 1
    assert config.data.name == shared.data["name"]
    assert config.augment.model_dump().items() >= shared.augment.items()


def test_a_grid_with_a_teacher_is_a_run_of_either_kind():
    assert RunConfig.from_file("quick").teacher is None
    taught = RunConfig.from_file("quick", ["method.name=kd"])
    assert taught.teacher.model.name == "resnet-lstman"
