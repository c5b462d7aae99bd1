"""Where what can be made again is kept: parsed recordings, and what was measured of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Folder of the cache: `SMOOTHDISTILL_CACHE`, or the platform's own place for caches.

    For a user without a home, as in some containers, it is a private one of this run.
    """
    chosen = os.environ.get("SMOOTHDISTILL_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    return base / "smoothdistill"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        from multiprocessing.util import get_temp_dir

        return Path(get_temp_dir())
