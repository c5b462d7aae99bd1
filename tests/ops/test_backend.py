"""Which kernels a call reaches, and how that is chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from smoothdistill import ops
from smoothdistill.ops import _backend


def test_every_op_is_listed_and_can_fall_back() -> None:
    backends = ops.backends()
    assert set(backends) == set(_backend.OP_NAMES)
    assert set(_backend.OP_NAMES) <= set(ops.__all__)
    assert all(names[-1] == "reference" for names in backends.values())


def test_the_list_is_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "_modules", {})
    assert ops.backends() == {name: ["reference"] for name in _backend.OP_NAMES}
    assert _backend.kernels_for(torch.zeros(1), "ema_update_") is None


@pytest.mark.usefixtures("native")
def test_a_cpu_tensor_reaches_the_native_kernels() -> None:
    assert all("cpu" in names for names in ops.backends().values())
    for name in _backend.OP_NAMES:
        assert _backend.kernels_for(torch.zeros(1), name) is _backend.cpu_module


def test_a_meta_tensor_reaches_nothing() -> None:
    with pytest.raises(TypeError, match=r"`ema_update_` must be given tensors with memory"):
        _backend.kernels_for(torch.zeros(1, device="meta"), "ema_update_")


@pytest.mark.usefixtures("native")
def test_an_unknown_instruction_set_is_named() -> None:
    core = _backend.cpu_module
    assert core is not None
    before = core.simd_level()
    with pytest.raises(
        ValueError, match=r"`SMOOTHDISTILL_SIMD` must be one of .* but is 'mmx' instead\."
    ):
        core.set_simd_level("mmx")
    assert core.simd_level() == before


@pytest.mark.usefixtures("native")
def test_an_instruction_set_that_the_processor_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = _backend.cpu_module
    assert core is not None
    before, levels = core.simd_level(), core.simd_levels()
    lacking = [level for level in ("sse2", "avx2", "avx512") if level not in levels]
    if not lacking:
        pytest.skip("this processor has them all; tests/simd_levels.sh emulates lesser ones")
    for level in lacking:
        monkeypatch.setenv("SMOOTHDISTILL_SIMD", level)
        with pytest.raises(
            ValueError,
            match=rf"^`SMOOTHDISTILL_SIMD` must be one of {', '.join(levels)} on this processor,"
            rf" but is '{level}' instead\.$",
        ):
            _backend._load_cpu()
        assert core.simd_level() == before


@pytest.mark.usefixtures("native")
def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    core = _backend.cpu_module
    assert core is not None
    before, levels = core.simd_level(), core.simd_levels()
    if "SMOOTHDISTILL_SIMD" not in os.environ:
        assert before == levels[-1], "the highest is the default"
    try:
        for level in levels:
            monkeypatch.setenv("SMOOTHDISTILL_SIMD", level)
            assert _backend._load_cpu() is core
            assert core.simd_level() == level
        monkeypatch.setenv("SMOOTHDISTILL_SIMD", "gpu")
        with pytest.raises(ValueError, match=r"`SMOOTHDISTILL_SIMD` must be one of"):
            _backend._load_cpu()
    finally:
        core.set_simd_level(before)


def test_the_environment_chooses_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMOOTHDISTILL_BACKEND", raising=False)
    assert _backend._backend_choice() == "auto"
    for choice in ("auto", "reference", "cuda"):
        monkeypatch.setenv("SMOOTHDISTILL_BACKEND", choice)
        assert _backend._backend_choice() == choice
    monkeypatch.setenv("SMOOTHDISTILL_BACKEND", "gpu")
    with pytest.raises(
        ValueError,
        match=r"`SMOOTHDISTILL_BACKEND` must be 'auto', 'reference' or 'cuda',"
        r" but is 'gpu' instead\.",
    ):
        _backend._backend_choice()


def test_without_compiled_kernels_the_reference_takes_over() -> None:
    assert _backend._import_kernels("_no_such_module") is None


_OUT_OF_MEMORY = """
import resource
import torch
from smoothdistill.ops._backend import cpu_module

torch.set_num_threads({threads})
torch.randn(1 << 20).sum()
signals, weight = torch.randn(128, 1, 4000), torch.randn(512, 1, 9)
inputs = 512 * ((4000 - 8) // 2)
layers = [torch.zeros(1, inputs)], [torch.zeros(1)], [torch.ones(1, 1)], [torch.zeros(1)]
out = torch.full((128, 1), torch.nan)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, resource.RLIM_INFINITY))
try:
    cpu_module.conv_net_logits(signals, [weight], [torch.zeros(512)], *layers, [out])
    print("right" if (out == 0).all() else "wrong")  # an emulator may know no limit
except MemoryError:
    print("refused")
"""


@pytest.mark.usefixtures("native")
@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux only")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="it would end the process")
@pytest.mark.parametrize("threads", [1, 2])
def test_want_of_memory_in_a_thread_is_an_error(threads: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OUT_OF_MEMORY.format(threads=threads)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout in ("refused\n", "right\n"), done.stderr
