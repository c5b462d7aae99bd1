"""Tensors between guard bytes, and a memory of what must not change."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import torch

GUARD_BYTES = 64
CANARY = 0xA5
# AddressSanitizer's functions, where tests/sanitizers.sh has loaded it: a canary tells of writes
# only, a poisoned byte of reads too.
POISON, UNPOISON = (
    getattr(ctypes.CDLL(None), f"__asan_{deed}_memory_region", None)
    for deed in ("poison", "unpoison")
)


class Guards:
    """Places tensors inside larger buffers, off the vector alignment, and watches the borders."""

    def __init__(self) -> None:
        self._buffers: list[tuple[torch.Tensor, int, int]] = []
        self._frozen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy that starts three elements after a 64-byte boundary, between guard bytes."""
        size = tensor.element_size()
        begin = GUARD_BYTES + 3 * size
        end = begin + tensor.numel() * size
        buffer = torch.full((end + GUARD_BYTES,), CANARY, dtype=torch.uint8, device=tensor.device)
        # A buffer of whole elements, so that it can be seen as the tensor's type.
        buffer = buffer[: buffer.numel() // size * size]
        inside = buffer[begin:end].view(tensor.dtype).view(tensor.shape)
        inside.copy_(tensor)
        self._buffers.append((buffer, begin, end))
        self._mark_guards(POISON)
        return inside

    def freeze(self, tensors: Iterable[torch.Tensor | None]) -> None:
        """Remember the bits of tensors that must keep them."""
        self._frozen += [(t, t.detach().clone()) for t in tensors if t is not None]

    def check(self) -> None:
        """Fail where a guard byte or a frozen tensor has changed."""
        self._mark_guards(UNPOISON)
        for buffer, begin, end in self._buffers:
            border = torch.cat([buffer[:begin], buffer[end:]])
            assert bool((border == CANARY).all()), "memory beside a tensor was written"
        for tensor, before in self._frozen:
            assert same_bits(tensor, before), "an input changed"
        self._mark_guards(POISON)

    def _mark_guards(self, mark: Any) -> None:
        for buffer, begin, end in self._buffers:
            if mark is not None and buffer.is_cpu:
                first = buffer.data_ptr()
                mark(ctypes.c_void_p(first), ctypes.c_size_t(begin))
                mark(ctypes.c_void_p(first + end), ctypes.c_size_t(len(buffer) - end))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same bytes (NaN equals NaN, -0 differs from +0)."""
    as_bytes = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*as_bytes)


def assert_within(actual: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor) -> None:
    """Fail unless |actual - expected| <= bound in every element; NaN matches NaN only."""
    actual, expected = actual.detach().double(), expected.detach().double()
    assert actual.shape == expected.shape
    excess = (actual - expected).abs() - bound.double()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    wrong = ~((excess <= 0) | same)
    assert not bool(wrong.any()), (
        f"{int(wrong.sum())} of {wrong.numel()} elements are off, first at"
        f" {wrong.nonzero()[0].tolist()}: {actual[wrong][0].item()!r}"
        f" instead of {expected[wrong][0].item()!r}"
    )
