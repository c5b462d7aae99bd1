"""A guard: the compiled kernels work on vectors, and not on one window after another."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest
from llvmlite import binding
from numba import config, njit

from smoothdistill.features.kernels import moments, order, temporal
from smoothdistill.features.kernels.lanes import LANES, load

pytestmark = pytest.mark.skipif(
    config.DISABLE_JIT or bool(config.BOUNDSCHECK), reason="not the code that users run"
)

ARCHITECTURE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
# Arithmetic on floats: packed and scalar, the suffix says which.
PACKED = {
    "x86_64": r"\bv?(?:add|sub|mul|div|min|max|sqrt|cmp\w*|fn?m(?:add|sub)\d+)p[sd]\b",
    "aarch64": r"\bf(?:add|sub|mul|div|mla|mls|min|max|minnm|maxnm|sqrt|cm\w+)\s+v\d+\.[248][sd]",
}
SCALAR = {
    "x86_64": r"\bv?(?:add|sub|mul|div|min|max|sqrt|cmp\w*|fn?m(?:add|sub)\d+)s[sd]\b",
    "aarch64": r"\bf(?:add|sub|mul|div|n?madd|n?msub|min|max|minnm|maxnm|sqrt|cmp)\s+[sd]\d+",
}


def assembly(function, *arguments) -> str:
    """What a kernel is compiled to for these arguments, on this machine."""
    # Compiled afresh: what comes from a cache has no assembly to show.
    compiled = njit(error_model="numpy", nogil=True)(function.py_func)
    compiled(*arguments)
    (text,) = compiled.inspect_asm().values()
    return text


def counts(text: str) -> tuple[int, int]:
    """Number of packed and of scalar instructions of arithmetic."""
    if ARCHITECTURE not in PACKED:
        pytest.skip(f"instructions of {ARCHITECTURE} are not known here")
    return (
        len(re.findall(PACKED[ARCHITECTURE], text)),
        len(re.findall(SCALAR[ARCHITECTURE], text)),
    )


def loops(text: str) -> list[str]:
    """Stretches from a label to a jump back to it: bodies of loops, inner and outer ones."""
    lines = text.splitlines()
    labels = {
        match[1]: number
        for number, line in enumerate(lines)
        if (match := re.match(r"(\.?L\w+):", line))
    }
    found = []
    for number, line in enumerate(lines):
        jump = re.match(r"\s+(?:j\w+|b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+(\.?L\w+)", line)
        if jump and labels.get(jump[1], number) < number:
            found.append("\n".join(lines[labels[jump[1]] : number]))
    return found


def has_wide_registers(text: str) -> bool:
    """Registers as wide as the processor has."""
    if ARCHITECTURE == "aarch64":
        return bool(re.search(r"\bv\d+\.[248][sd]", text))
    features = binding.get_host_cpu_features()
    widest = "[yz]" if features.get("avx") else "x"
    return bool(re.search(rf"%{widest}mm\d", text))


def has_fused_operations(text: str) -> bool:
    if ARCHITECTURE == "aarch64":
        return bool(re.search(r"\bfmla\s+v", text))
    if not binding.get_host_cpu_features().get("fma"):
        return True
    return bool(re.search(r"vfmadd\d+p[sd]", text))


@pytest.fixture(scope="module", params=[np.float32, np.float64])
def moments_assembly(request: pytest.FixtureRequest) -> str:
    width, dtype = 20, request.param
    tile = np.random.default_rng(0).standard_normal(width * LANES).astype(dtype)
    num_slots = len(moments.MOMENTS)
    return assembly(
        *(moments.moments, tile, 0, width, 0, LANES, 1.0, 0, np.nan),
        *(np.arange(width, dtype=float), np.arange(num_slots), np.empty(3 * LANES)),
        np.empty((num_slots + 1, 40))[:num_slots, :16],
    )


@pytest.fixture(scope="module", params=[np.float32, np.float64])
def sorting_assembly(request: pytest.FixtureRequest) -> str:
    values = np.random.default_rng(0).standard_normal(64 * LANES).astype(request.param)
    return assembly(order.sort_lanes, values, 64)


def test_moments_are_vectors(moments_assembly: str) -> None:
    packed, scalar = counts(moments_assembly)
    assert has_wide_registers(moments_assembly)
    assert has_fused_operations(moments_assembly)
    # 1 / W and the like are scalars, computed once; a vector split into lanes would be 16 of each.
    assert packed > 100
    assert scalar < packed / 4


def test_no_loop_of_the_moments_has_scalars(moments_assembly: str) -> None:
    """Of a loop over time: it holds vectors of floats and no single ones."""
    bodies = [body for body in loops(moments_assembly) if counts(body)[0]]
    assert len(bodies) >= 3  # the sums, the centred sums, the absolute deviations
    for body in bodies:
        assert counts(body)[1] == 0, body


def test_sorting_is_vectors(sorting_assembly: str) -> None:
    """A comparison of two vectors is one minimum and one maximum."""
    packed, scalar = counts(sorting_assembly)
    assert has_wide_registers(sorting_assembly)
    assert packed >= 2 * 19
    assert scalar == 0
    if ARCHITECTURE == "x86_64":
        extremes = re.findall(r"\bv?(?:min|max)p[sd]\b", sorting_assembly)
        others = re.findall(r"\bv?(?:cmp\w*|blend\w*)p[sd]\b", sorting_assembly)
        assert len(extremes) > 4 * len(others)


def test_the_recursion_of_burg_is_vectors() -> None:
    width = 20
    scratch = np.random.default_rng(0).standard_normal((2, width * LANES))

    @njit(error_model="numpy", nogil=True)
    def burg(forward, backward, columns, out):
        some = load(forward, 0)
        temporal._burg(forward, backward, width, 0, LANES, some > 0.0, some, columns, out)

    burg(*scratch, np.arange(4), np.empty((5, 40))[:4, :16])
    (text,) = burg.inspect_asm().values()
    packed, scalar = counts(text)
    assert has_wide_registers(text)
    assert packed > 20
    assert scalar < packed / 4


def test_the_guard_sees_what_it_is_to_see() -> None:
    """The same sum, lane by lane, is found out."""

    @njit(error_model="numpy")
    def one_by_one(values, out):
        for lane in range(16):
            total = 0.0
            for time in range(values.size // 16):
                total = total + values[time * 16 + lane]
            out[lane] = total

    one_by_one(np.ones(160), np.empty(16))
    (text,) = one_by_one.inspect_asm().values()
    packed, scalar = counts(text)
    assert scalar > packed / 4
    assert any(counts(body)[1] for body in loops(text))
