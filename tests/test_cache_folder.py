"""Where the cache lies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smoothdistill.cache_folder import cache_folder


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMOOTHDISTILL_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SMOOTHDISTILL_CACHE")
    for platform, variable in (("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv(variable, str(tmp_path / platform))
        assert cache_folder() == tmp_path / platform / "smoothdistill"
        monkeypatch.delenv(variable)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / "AppData" / "Local" / "smoothdistill"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "smoothdistill"


def test_a_user_without_a_home_has_a_folder_for_the_run(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    for name in ("SMOOTHDISTILL_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", fail)
    folder = cache_folder()
    assert folder == cache_folder()
    folder.mkdir(parents=True)
