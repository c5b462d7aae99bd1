"""The tiny run of `tiny_run.py` as fixtures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from smoothdistill.models import MODELS

SCRIPT = Path(__file__).with_name("tiny_run.py")


def _load():
    spec = importlib.util.spec_from_file_location("tiny_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_script():
    """Path of the script that trains in a process of its own."""
    return SCRIPT


@pytest.fixture(scope="session")
def tiny_module():
    return _load()


@pytest.fixture
def tiny(tiny_module, monkeypatch):
    """`TinyNet` (registered as "tiny-net"), `make_windows` and `make_trainer`."""
    monkeypatch.setitem(MODELS, "tiny-net", tiny_module.TinyNet)
    return tiny_module


@pytest.fixture(scope="session")
def finished_run(tiny_module, tmp_path_factory):
    """One run without any interruption, to compare with; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny-net", tiny_module.TinyNet)
        folder = tmp_path_factory.mktemp("finished") / "run"
        trainer = tiny_module.make_trainer(folder, save_every_steps=3)
        yield trainer.fit(tiny_module.make_windows(), num_folds=3)
