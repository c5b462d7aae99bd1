"""Which kernels a call runs on: the compiled module of its device, or the plain reference.

Environment variables, read once at import: ``SMOOTHDISTILL_SIMD`` (`sse2`, `avx2`, `avx512`)
lowers the instruction set; ``SMOOTHDISTILL_BACKEND=reference`` switches every op to plain PyTorch.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from pathlib import Path
from types import ModuleType

import torch

__all__ = ["OP_NAMES", "backends", "cpu_module", "cuda_module", "kernels_for"]

OP_NAMES = ("adam_ema_", "ema_update_", "multitask_kd_loss")
_BACKEND_VARIABLE = "SMOOTHDISTILL_BACKEND"
_SIMD_VARIABLE = "SMOOTHDISTILL_SIMD"


def _import_kernels(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"smoothdistill.{name}")
    except ModuleNotFoundError:  # built without it: the reference takes over
        return None


def _borrow_torch_threads(module: ModuleType) -> None:
    """Hand torch's own thread pool to the kernels (see csrc/parallel.h); serial where it is absent."""
    folder = Path(torch.__file__).parent / "lib"
    for library in sorted(folder.glob("*torch_cpu.*")):
        try:
            executor = ctypes.CDLL(str(library)).torch_parallel_for
        except (OSError, AttributeError):
            continue
        module.set_parallel_executor(ctypes.cast(executor, ctypes.c_void_p).value)
        return


def _load_cpu() -> ModuleType | None:
    module = _import_kernels("_core")
    if module is not None:
        _borrow_torch_threads(module)
        if level := os.environ.get(_SIMD_VARIABLE):
            module.set_simd_level(level)
    return module


def _load_cuda() -> ModuleType | None:
    return _import_kernels("_cuda") if torch.cuda.is_available() else None


def _forced_reference() -> bool:
    choice = os.environ.get(_BACKEND_VARIABLE, "auto")
    if choice not in {"auto", "reference"}:
        raise ValueError(
            f"`{_BACKEND_VARIABLE}` must be 'auto' or 'reference', but is {choice!r} instead."
        )
    return choice == "reference"


cpu_module = _load_cpu()
cuda_module = _load_cuda()
_modules: dict[str, ModuleType | None] = (
    {} if _forced_reference() else {"cpu": cpu_module, "cuda": cuda_module}
)


def kernels_for(tensor: torch.Tensor, op_name: str) -> ModuleType | None:
    """The compiled module that holds `op_name` for the tensor's device; None: use the reference."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"`{op_name}` must be given tensors, but is given {type(tensor).__name__} instead."
        )
    device_type = tensor.device.type
    if device_type == "meta":
        raise TypeError(
            f"`{op_name}` must be given tensors with memory, but is given a meta tensor instead."
        )
    module = _modules.get(device_type)
    return module if module is not None and hasattr(module, op_name) else None


def backends() -> dict[str, list[str]]:
    """The implementations of each op that this installation can run, fastest first."""
    return {
        name: [
            device
            for device in ("cuda", "cpu")
            if (module := _modules.get(device)) is not None and hasattr(module, name)
        ]
        + ["reference"]
        for name in OP_NAMES
    }
