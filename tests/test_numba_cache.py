"""Numba's kernels where no folder can be written: compiled all the same, kept for one run."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from smoothdistill.numba_cache import kernel_folder, outlives_run

PACKAGE = Path(__file__).resolve().parents[1] / "smoothdistill"
PROBE = """
import json, os
from smoothdistill.windows import Segmenter
num_windows = len(Segmenter(window_samples=10).segment(100))
from smoothdistill.numba_cache import kernel_folder, outlives_run
from numba import config
folder = str(kernel_folder().parent)
kept = sum(name.endswith(".nbc") for _, _, names in os.walk(folder) for name in names)
mode = os.stat(folder).st_mode
print(json.dumps([num_windows, outlives_run, folder, kept, mode, config.CACHE_DIR]))
"""

needs_compiler = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")


def _run(folder: Path, **variables: str) -> tuple[int, bool, Path, int, int, str]:
    """Cut windows with a copy of the package beside which nothing can be written, nor at home."""
    parts = ("__init__.py", "errors.py", "numba_cache.py", "windows")
    for part in parts:
        copy = shutil.copytree if (PACKAGE / part).is_dir() else shutil.copy
        target = folder / "smoothdistill" / part
        target.parent.mkdir(exist_ok=True)
        copy(PACKAGE / part, target)
    for place in (folder / "smoothdistill", folder / "smoothdistill" / "windows"):
        shutil.rmtree(place / "__pycache__", ignore_errors=True)
        (place / "__pycache__").touch()  # a file: root, too, makes no folder of it
    (folder / "home").touch()
    own = {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment |= {"HOME": str(folder / "home"), "PYTHONPATH": str(folder)} | variables
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    num_windows, outlives, found, kept, mode, set_to = json.loads(done.stdout)
    return num_windows, outlives, Path(found), kept, mode, set_to


@needs_compiler
def test_where_nothing_can_be_written_a_private_folder_serves_one_run(tmp_path: Path) -> None:
    num_windows, outlives, folder, kept, mode, set_to = _run(tmp_path)
    assert num_windows == 10
    assert not outlives
    assert str(folder) == set_to
    assert kept > 0
    assert stat.S_IMODE(mode) == 0o700, "cache files hold code"
    assert not folder.exists()


@needs_compiler
def test_a_folder_that_is_named_is_kept(tmp_path: Path) -> None:
    named = str(tmp_path / "kernels")
    num_windows, outlives, folder, kept, _, set_to = _run(tmp_path, NUMBA_CACHE_DIR=named)
    assert (num_windows, outlives, set_to) == (10, True, named)
    assert str(folder) == named
    assert kept > 0
    assert folder.exists()


def test_the_doctor_says_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from smoothdistill import numba_cache
    from smoothdistill.commands import doctor

    assert outlives_run == (kernel_folder() is not None)
    for folder, stays, words in (
        (Path("package", "__pycache__"), True, "beside the package's modules"),
        (Path("kernels", "smoothdistill_1"), True, "kernels"),
        (Path("private", "smoothdistill_1"), False, "for this run only: no folder can be written"),
        (None, False, "none: nothing is compiled"),
    ):
        monkeypatch.setattr(numba_cache, "kernel_folder", lambda folder=folder: folder)
        monkeypatch.setattr(numba_cache, "outlives_run", stays)
        assert doctor._kernel_cache().startswith(words)
