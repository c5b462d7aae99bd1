"""Train small multitask networks on wearable-sensor data, each its own smoothed teacher.

Names are imported on first use, so that ``import smoothdistill`` costs nothing by itself.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from smoothdistill import datasets as datasets
    from smoothdistill import evaluation as evaluation
    from smoothdistill import features as features
    from smoothdistill import methods as methods
    from smoothdistill import models as models
    from smoothdistill import ops as ops
    from smoothdistill import optim as optim
    from smoothdistill import reference as reference
    from smoothdistill import splits as splits
    from smoothdistill import training as training
    from smoothdistill import windows as windows
    from smoothdistill.errors import CheckpointError as CheckpointError
    from smoothdistill.errors import DataError as DataError
    from smoothdistill.errors import ExportError as ExportError
    from smoothdistill.errors import NonFiniteError as NonFiniteError
    from smoothdistill.errors import SmoothDistillError as SmoothDistillError
    from smoothdistill.errors import SplitLeakError as SplitLeakError
    from smoothdistill.models import HARMLP as HARMLP
    from smoothdistill.models import MobileNetV31D as MobileNetV31D
    from smoothdistill.models import MTLNet as MTLNet
    from smoothdistill.models import ResNetLSTMaN as ResNetLSTMaN
    from smoothdistill.models import SIMHHead as SIMHHead
    from smoothdistill.optim import AdamEMA as AdamEMA
    from smoothdistill.optim import EMATeacher as EMATeacher
    from smoothdistill.optim import MultitaskKDLoss as MultitaskKDLoss
    from smoothdistill.training import Run as Run
    from smoothdistill.training import Trainer as Trainer
    from smoothdistill.training import TrainStep as TrainStep
    from smoothdistill.windows import Recording as Recording
    from smoothdistill.windows import Segmenter as Segmenter
    from smoothdistill.windows import Segments as Segments
    from smoothdistill.windows import Windows as Windows
    from smoothdistill.windows import cut_windows as cut_windows

_SUBMODULES = (
    "datasets",
    "evaluation",
    "export",
    "features",
    "methods",
    "models",
    "ops",
    "optim",
    "reference",
    "splits",
    "training",
    "windows",
)
_HOME = {
    "AdamEMA": "optim",
    "CheckpointError": "errors",
    "DataError": "errors",
    "EMATeacher": "optim",
    "ExportError": "errors",
    "HARMLP": "models",
    "MTLNet": "models",
    "MobileNetV31D": "models",
    "MultitaskKDLoss": "optim",
    "NonFiniteError": "errors",
    "Recording": "windows",
    "ResNetLSTMaN": "models",
    "Run": "training",
    "SIMHHead": "models",
    "Segmenter": "windows",
    "Segments": "windows",
    "SmoothDistillError": "errors",
    "SplitLeakError": "errors",
    "TrainStep": "training",
    "Trainer": "training",
    "Windows": "windows",
    "cut_windows": "windows",
}

__all__ = [
    "__version__",
    *_SUBMODULES,
    *_HOME,
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return _import(name)
    if name in _HOME:
        value = getattr(_import(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'smoothdistill' has no attribute {name!r}")


def _import(name: str) -> ModuleType:
    try:
        return import_module(f"smoothdistill.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from smoothdistill.errors import MISSING_TORCH

        raise ImportError(MISSING_TORCH) from error


def __dir__() -> list[str]:
    return sorted(__all__)
