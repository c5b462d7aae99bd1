"""Which kernels a call runs on: the compiled module of its device, or the plain reference.

Environment variables, read once at import: ``SMOOTHDISTILL_SIMD`` (`sse2`, `avx2`, `avx512`)
lowers the instruction set; ``SMOOTHDISTILL_BACKEND`` says what runs where: ``auto``, the default,
CPU kernels on the CPU and plain PyTorch on GPUs; ``cuda`` CUDA kernels on GPUs too, which have been
compiled and not yet run on one; ``reference`` plain PyTorch everywhere.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from pathlib import Path
from types import ModuleType

import torch

__all__ = [
    "OP_NAMES",
    "backends",
    "cpu_kernels",
    "cpu_module",
    "cuda_module",
    "device_error",
    "kernels_for",
]

OP_NAMES = ("adam_ema_", "conv_pool", "ema_update_", "multitask_kd_loss")
_BACKEND_VARIABLE = "SMOOTHDISTILL_BACKEND"
_CHOICES = ("auto", "reference", "cuda")
_SIMD_VARIABLE = "SMOOTHDISTILL_SIMD"


def _require_torch() -> None:
    """Refuse a torch whose tensors do not show their memory to the kernels.

    Raises:
        ImportError: If it is too old for that.
    """
    if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        raise ImportError(
            f"`torch` must be version 2.10 or newer, but is {torch.__version__} instead; "
            '`pip install --upgrade "torch>=2.10"` brings it.'
        )


def _import_kernels(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"smoothdistill.{name}")
    except ModuleNotFoundError:  # built without it: the reference takes over
        return None


def _borrow_torch_threads(module: ModuleType) -> None:
    """Hand torch's thread pool to the kernels (see csrc/parallel.h); serial where it is absent."""
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


def _load_cuda() -> ModuleType:
    """The CUDA kernels, or a sentence about what is missing."""
    if not torch.cuda.is_available():
        raise ValueError(
            f"`{_BACKEND_VARIABLE}` must be 'auto' or 'reference' where torch sees no GPU,"
            " but is 'cuda' instead."
        )
    module = _import_kernels("_cuda")
    if module is None:
        raise ValueError(
            f"`{_BACKEND_VARIABLE}` must be 'auto' or 'reference' where smoothdistill was built"
            " without nvcc, but is 'cuda' instead."
        )
    return module


def _backend_choice() -> str:
    choice = os.environ.get(_BACKEND_VARIABLE) or "auto"
    if choice not in _CHOICES:
        raise ValueError(
            f"`{_BACKEND_VARIABLE}` must be 'auto', 'reference' or 'cuda',"
            f" but is {choice!r} instead."
        )
    return choice


_require_torch()
_choice = _backend_choice()
cpu_module = _load_cpu()
cuda_module = _load_cuda() if _choice == "cuda" else None
_modules: dict[str, ModuleType | None] = (
    {} if _choice == "reference" else {"cpu": cpu_module, "cuda": cuda_module}
)


def kernels_for(tensor: torch.Tensor, op_name: str) -> ModuleType | None:
    """The compiled module that holds `op_name` for the tensor's device; None: use the reference."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"`{op_name}` must be given tensors, but is given {type(tensor).__name__} instead."
        )
    if tensor.is_cpu:  # a third of the price of reading the device
        return _modules.get("cpu")
    device_type = tensor.device.type
    if device_type == "meta":
        raise TypeError(
            f"`{op_name}` must be given tensors with memory, but is given a meta tensor instead."
        )
    module = _modules.get(device_type)
    return module if module is not None and hasattr(module, op_name) else None


def cpu_kernels() -> ModuleType | None:
    """The compiled module for tensors on the CPU; None: plain PyTorch is to do the work."""
    return _modules.get("cpu")


def device_error() -> str | None:
    """What CUDA reports where it does not work; None where it does, or was not built in."""
    module = _import_kernels("_cuda")
    return None if module is None else module.device_error()


def backends() -> dict[str, list[str]]:
    """The implementations of each op that calls reach here, fastest first.

    "cuda" and "cpu" are the kernels for tensors on those devices; "reference" is plain PyTorch,
    which takes what no kernel listed before it does (under ``SMOOTHDISTILL_BACKEND=auto`` all
    tensors on GPUs).
    """
    return {
        name: [
            device
            for device in ("cuda", "cpu")
            if (module := _modules.get(device)) is not None and hasattr(module, name)
        ]
        + ["reference"]
        for name in OP_NAMES
    }
