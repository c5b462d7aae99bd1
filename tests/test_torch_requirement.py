"""Without torch, or with one that is too old, one sentence says so and what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from smoothdistill.ops import _backend

MISSING = (
    "`torch` must be installed in version 2.10 or newer, but is missing instead; "
    '`pip install "torch>=2.10"` adds it.'
)


def _without_torch(code: str) -> subprocess.CompletedProcess[str]:
    blocked = f"import sys; sys.modules['torch'] = None\n{code}"
    return subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "code", ["import smoothdistill; smoothdistill.ops", "from smoothdistill import Trainer"]
)
def test_the_package_says_that_torch_is_missing(code: str) -> None:
    assert _without_torch(code).stderr.splitlines()[-1] == f"ImportError: {MISSING}"


def test_the_command_line_says_that_torch_is_missing() -> None:
    done = _without_torch("from smoothdistill.cli import app; app(['doctor'])")
    assert (done.returncode, done.stderr) == (2, f"{MISSING}\n")


def test_another_missing_module_keeps_its_name() -> None:
    done = _without_torch("sys.modules['numpy'] = None; from smoothdistill import Windows")
    assert "numpy" in done.stderr.splitlines()[-1]


def test_an_older_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    monkeypatch.delattr(torch.Tensor, "__dlpack_c_exchange_api__")
    with pytest.raises(ImportError, match=r"`torch` must be version 2\.10 or .*, but is 2\.9\.1"):
        _backend._require_torch()
