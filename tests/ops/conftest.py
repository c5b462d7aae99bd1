"""Every implementation of the ops in turn: each instruction set, the fallback, and the GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from smoothdistill.ops import _backend

CORE = _backend.cpu_module
LEVELS = CORE.simd_levels() if CORE is not None else []


@pytest.fixture(params=[*LEVELS, "reference", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[torch.device]:
    """The device of each implementation, which is in force while the test runs."""
    if request.param == "cuda":
        yield torch.device("cuda")
        return
    if request.param == "reference":
        monkeypatch.setattr(_backend, "_modules", {})
        yield torch.device("cpu")
        return
    assert CORE is not None
    before = CORE.simd_level()
    CORE.set_simd_level(request.param)
    yield torch.device("cpu")
    CORE.set_simd_level(before)


@pytest.fixture
def native(request: pytest.FixtureRequest) -> None:
    """Skip where the compiled kernels are absent; for what only they promise."""
    if CORE is None or not _backend.backends()["ema_update_"][:-1]:
        pytest.skip("needs the compiled kernels")


@pytest.fixture(params=[level for level in LEVELS if level.startswith("avx")])
def avx_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set with fused multiply-add."""
    assert CORE is not None
    before = CORE.simd_level()
    CORE.set_simd_level(request.param)
    yield request.param
    CORE.set_simd_level(before)
