"""The package's exceptions. The command line turns each into one sentence and an exit code."""

from __future__ import annotations

__all__ = [
    "MISSING_TORCH",
    "CheckpointError",
    "DataError",
    "ExportError",
    "NonFiniteError",
    "SmoothDistillError",
    "SplitLeakError",
]

MISSING_TORCH = (
    "`torch` must be installed in version 2.10 or newer, but is missing instead; "
    '`pip install "torch>=2.10"` adds it.'
)
"""What `import torch` failed for; Python's own words leave out version and remedy."""


class SmoothDistillError(Exception):
    """Base of every error that this package defines."""

    exit_code = 2


class DataError(SmoothDistillError, ValueError):
    """A recording, a file or an array of windows does not hold what it must (exit code 3)."""

    exit_code = 3


class SplitLeakError(DataError):
    """A split puts a subject, or samples of one recording, on both of its sides (exit code 3)."""


class CheckpointError(SmoothDistillError, ValueError):
    """A checkpoint or run folder is cut, damaged or of another run (exit code 4)."""

    exit_code = 4


class ExportError(SmoothDistillError):
    """A model cannot be exported, or its file says something else than it does (exit code 4)."""

    exit_code = 4


class NonFiniteError(SmoothDistillError, ArithmeticError):
    """Training met NaN or infinite losses and stopped (exit code 5)."""

    exit_code = 5
