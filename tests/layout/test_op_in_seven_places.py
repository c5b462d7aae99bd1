"""An op is one stem in seven places: a reader who knows one of its files knows all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# What each place calls the op of stem {}. Files that serve several ops begin with an underscore
# (Python) or have no counterpart below csrc/cpu/ (headers).
PLACES = (
    "csrc/{}.h",
    "csrc/cpu/{}.cpp",
    "csrc/cuda/{}.cu",
    "smoothdistill/ops/{}.py",
    "smoothdistill/reference/{}.py",
    "tests/ops/test_{}.py",
    "bench/ops/bench_{}.py",
)
CUDA_PLACE = "csrc/cuda/{}.cu"

# Ops without a CUDA twin, and why.
CPU_ONLY = {"linear": "on a GPU its products are cuBLAS's"}


def _stems() -> list[str]:
    """Stems of all kernels, on the CPU or on CUDA."""
    return sorted(
        {path.stem for path in (REPOSITORY / "csrc" / "cpu").glob("*.cpp")}
        | {path.stem for path in (REPOSITORY / "csrc" / "cuda").glob("*.cu")}
    )


def test_there_are_ops() -> None:
    assert {"adam_ema", "ema_update", "multitask_kd_loss"} <= set(_stems())


@pytest.mark.parametrize("stem", _stems())
def test_an_op_has_all_its_places(stem: str) -> None:
    places = [place for place in PLACES if not (place == CUDA_PLACE and stem in CPU_ONLY)]
    missing = [place.format(stem) for place in places if not _exists(place, stem)]
    assert not missing, f"op {stem} has no {', '.join(missing)}"


@pytest.mark.parametrize("stem", CPU_ONLY)
def test_an_op_without_a_cuda_twin_has_none(stem: str) -> None:
    """A stale line of the table would excuse a twin that somebody has lost."""
    assert _exists("csrc/cpu/{}.cpp", stem)
    assert not _exists(CUDA_PLACE, stem)


@pytest.mark.parametrize("place", [place for place in PLACES if "bench_" in place])
def test_a_bench_names_an_op(place: str) -> None:
    folder, pattern = (REPOSITORY / place).parent, Path(place).name
    stems = {path.stem.removeprefix("bench_") for path in folder.glob(pattern.format("*"))}
    assert stems <= set(_stems()), f"no op has the stem {stems - set(_stems())}"


def _exists(place: str, stem: str) -> bool:
    return (REPOSITORY / place.format(stem)).is_file()
