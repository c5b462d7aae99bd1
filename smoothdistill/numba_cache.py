"""Where Numba keeps what it compiles: in a folder of its own choice, else in one of this run alone.

Whatever holds kernels imports this module first: Numba looks for a folder where it meets
``cache=True``, and refuses the kernel if neither the module's folder nor the user's can be written.
"""

from __future__ import annotations

from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import no_type_check

from numba import config, njit

__all__ = ["kernel_folder", "outlives_run"]

_is_plain_python = bool(getattr(config, "DISABLE_JIT", False))


@no_type_check  # Numba is to see this file, not the test hook's
def _kernel():
    """What Numba is asked about; never compiled."""


def kernel_folder() -> Path | None:
    """Folder in which Numba would keep a kernel of this module, or None if it would keep none."""
    try:
        kernel = njit(cache=True)(_kernel)
    except RuntimeError:  # it has found no folder
        return None
    path = None if _is_plain_python else kernel.stats.cache_path
    return None if path is None else Path(path)


outlives_run = kernel_folder() is not None
"""Whether the next run finds the kernels that this one compiles."""

if not (outlives_run or _is_plain_python):
    # Random in name and closed to others (0700), for Numba runs the code that it finds there.
    # multiprocessing's, because it is removed at the end and shared with processes that we start.
    config.CACHE_DIR = get_temp_dir()  # type: ignore[attr-defined]  # made at run time, as all there
