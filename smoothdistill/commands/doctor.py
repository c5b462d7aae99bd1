"""``smoothdistill doctor``: what this installation has, uses and lacks, and why."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smoothdistill.commands.options import JsonOption
from smoothdistill.commands.output import package_version, print_json, print_table

__all__ = ["describe_machine", "doctor"]

_PACKAGES = ("torch", "numpy", "numba", "scikit-learn", "safetensors", "pydantic", "typer", "rich")
_EXTRAS = {
    "data": ("pyarrow", "CSV and Parquet files"),
    "plot": ("matplotlib", "figures of the report"),
    "export": ("onnxruntime", "ONNX files"),
}


def doctor(as_json: JsonOption = False) -> None:
    """Say what this installation has, uses and lacks: versions, kernels, GPU, caches, extras."""
    facts = _facts()
    if as_json:
        print_json(facts)
        return
    rows = [
        ("smoothdistill", facts["smoothdistill"]),
        ("python", facts["machine"]["python"]),
        *facts["packages"].items(),
        ("processor", facts["machine"]["processor"]),
        ("kernels", facts["kernels"]),
        *((f"op {name}", ", ".join(found)) for name, found in facts["backends"].items()),
        ("products", facts["products"]),
        ("bfloat16", facts["bfloat16"]),
        ("threads", facts["threads"]),
        ("GPU", facts["cuda"]["meaning"]),
        *((f"cache: {name}", path) for name, path in facts["caches"].items()),
        *((f"extra [{name}]", text) for name, text in facts["extras"].items()),
    ]
    print_table(("", ""), [(name, str(value)) for name, value in rows], num_names=2)


def describe_machine() -> dict[str, Any]:
    """Processor, instruction set and versions, without names of hosts, users or folders."""
    import torch

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "simd_level": _simd()["level"],
    }


def _facts() -> dict[str, Any]:
    import torch

    from smoothdistill.cache_folder import cache_folder
    from smoothdistill.ops import backends
    from smoothdistill.ops.linear import available_products

    simd = _simd()
    kernels = (
        "not built: every op runs on the plain PyTorch reference"
        if simd["level"] == "none"
        else f"compiled, {simd['level']} (this processor offers {', '.join(simd['levels'])})"
    )
    if os.environ.get("SMOOTHDISTILL_BACKEND") == "reference":
        kernels = "switched off by SMOOTHDISTILL_BACKEND=reference"
    return {
        "smoothdistill": package_version(),
        "machine": describe_machine(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "kernels": kernels,
        "simd": simd,
        "backends": backends(),
        "products": ", ".join(available_products()),
        "bfloat16": _bfloat16(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "cuda": _cuda(),
        "caches": {
            "parsed recordings": f"{cache_folder()}{_size(cache_folder())}",
            "Numba kernels": _kernel_cache(),
        },
        "extras": {
            extra: f"{package} {_version(package)} ({purpose})"
            if find_spec(package)
            else f'{package} is missing ({purpose}); pip install "smoothdistill[{extra}]" adds it'
            for extra, (package, purpose) in _EXTRAS.items()
        },
    }


def _bfloat16() -> str:
    """Whether the processor multiplies bfloat16, and who does."""
    import torch

    from smoothdistill.ops._number_formats import has_bfloat16
    from smoothdistill.ops.linear import bfloat16_products

    if not has_bfloat16(torch.device("cpu")):
        return "no: `precision` is float32"
    return "our kernels" if bfloat16_products()[0].startswith("native") else "PyTorch"


def _simd() -> dict[str, Any]:
    from smoothdistill.ops._backend import cpu_module

    if cpu_module is None:
        return {"level": "none", "levels": []}
    return {"level": cpu_module.simd_level(), "levels": list(cpu_module.simd_levels())}


def _cuda() -> dict[str, Any]:
    """Whether a GPU and our kernels are used, and if not, which condition fails."""
    import torch

    from smoothdistill.ops import _backend

    has_kernels = find_spec("smoothdistill._cuda") is not None
    facts: dict[str, Any] = {
        "built_into_torch": torch.version.cuda,
        "is_available": torch.cuda.is_available(),
        "has_kernels": has_kernels,
        "devices": [],
    }
    if torch.version.cuda is None:
        facts["meaning"] = "not used: this PyTorch was built without CUDA"
    elif not facts["is_available"]:
        facts["meaning"] = (
            f"not used: PyTorch was built for CUDA {torch.version.cuda}, but finds no GPU, or a "
            f"driver that is too old for it{_driver_error()}"
        )
    else:
        facts["devices"] = [
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        ]
        kernels = "our ops run as plain PyTorch on it: "
        if _backend.cuda_module is not None:
            kernels = "with our kernels"
        elif has_kernels:
            kernels += "SMOOTHDISTILL_BACKEND=cuda switches our kernels on"
        else:
            kernels += "this package was built without nvcc"
        facts["meaning"] = f"{', '.join(facts['devices'])} ({kernels})"
    return facts


def _driver_error() -> str:
    """What CUDA itself says, if the module that can ask it is there."""
    from smoothdistill.ops import _backend

    error = _backend.device_error()
    return "" if error is None else f" (CUDA says: {error})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _kernel_cache() -> str:
    """Where Numba keeps what it has compiled, and whether the next run finds it there."""
    from smoothdistill.numba_cache import kernel_folder, outlives_run

    folder = kernel_folder()
    if folder is None:
        return "none: nothing is compiled"
    if not outlives_run:
        return "for this run only: no folder can be written; NUMBA_CACHE_DIR may name one"
    return "beside the package's modules" if folder.name == "__pycache__" else str(folder.parent)


def _size(folder: Path) -> str:
    if not folder.is_dir():
        return " (empty)"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f" ({size / 1e6:.1f} MB)"


def _processor() -> str:
    """Name of the processor; Linux alone does not tell Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
