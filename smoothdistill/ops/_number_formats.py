"""Which number formats the processor multiplies."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

__all__ = ["has_bfloat16", "require_number_format"]

_VARIABLE = "SMOOTHDISTILL_BFLOAT16"


@lru_cache(maxsize=1)
def _processor_has_bfloat16() -> bool:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if getattr(torch.cpu, name, lambda: False)():
            return True
    with suppress(OSError):  # what Linux says of an ARM processor
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("Features"):
                return "bf16" in line.split()
    return False


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor or GPU multiplies bfloat16 numbers.

    ``SMOOTHDISTILL_BFLOAT16=emulated`` says yes for any processor: for tests, since PyTorch then
    computes the same in float32 registers, and slower than in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if os.environ.get(_VARIABLE) == "emulated":
        return True
    return device.type != "cpu" or _processor_has_bfloat16()


def require_number_format(precision: str, device: torch.device) -> None:
    """Refuse "bfloat16" where the device has no instructions for it.

    Raises:
        ValueError: If it is refused.
    """
    if precision == "bfloat16" and not has_bfloat16(device):
        raise ValueError(
            "`precision` must be 'float32' on a device without bfloat16 instructions (on CPUs"
            " AVX512_BF16, AMX or ARM bf16), but is 'bfloat16' instead."
        )
