"""What a run was computed with: versions, processor, threads and kernels; no names of people."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from smoothdistill import ops

__all__ = ["describe_environment"]


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Facts for `environment.json`: neither host, nor user, nor folder is among them.

    Args:
        device: Where the run computes.
    """
    try:
        own_version = version("smoothdistill")
    except PackageNotFoundError:  # imported from a checkout that was not installed
        own_version = "not installed"
    is_gpu = device.type == "cuda"
    return {
        "smoothdistill": own_version,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if is_gpu else "cpu",
        "cuda": torch.version.cuda if is_gpu else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
        "backends": ops.backends(),
    }
