"""Benchmark of `ema_update_` against a cached `torch._foreach_lerp_`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothdistill.benchmark.tensors import MTL_NET_SHAPES, SIXTEEN_MILLION, make_tensors, size_of
from smoothdistill.benchmark.workload import Case, Provider, Workload

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CASES", "DECAY", "PROVIDERS"]

DECAY = 0.999
_BYTES_PER_ELEMENT = 12  # read teacher and student, write teacher

CASES = tuple(
    Case(name, shapes, _BYTES_PER_ELEMENT * size_of(shapes))
    for name, shapes in (
        ("12 tensors of 16", ((16,),) * 12),
        ("MTL-net, 1.8 M", MTL_NET_SHAPES),
        ("16 M", SIXTEEN_MILLION),
    )
)


def _tensors(case: Case) -> tuple[list[Tensor], list[Tensor]]:
    return make_tensors(case.shapes, seed=0), make_tensors(case.shapes, seed=1)


def _fused(case: Case) -> Workload:
    from smoothdistill.ops import ema_update_

    teacher, student = _tensors(case)
    return Workload(lambda: ema_update_(teacher, student, decay=DECAY), lambda: teacher)


def _foreach_lerp(case: Case) -> Workload:
    import torch

    teacher, student = _tensors(case)
    weight = 1.0 - DECAY
    return Workload(lambda: torch._foreach_lerp_(teacher, student, weight), lambda: teacher)


def _reference(case: Case) -> Workload:
    from smoothdistill import reference

    teacher, student = _tensors(case)
    return Workload(lambda: reference.ema_update_(teacher, student, decay=DECAY), lambda: teacher)


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("ema_update_", "fused", _fused),
        Provider("_foreach_lerp_", "baseline", _foreach_lerp),
        Provider("reference", "reference", _reference),
    )
}
