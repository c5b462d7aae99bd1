"""An exported model: one ONNX file that says what it reads and tells apart, run by ONNX Runtime."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smoothdistill.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from jaxtyping import Float32

__all__ = ["ExportDescription", "OnnxModel", "Precision", "first_line", "quiet", "require_module"]

_EXPORTING = threading.Lock()  # torch.export has no re-entry; warnings are one for all threads

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class ExportDescription:
    """What stands in an exported file beside its weights.

    Attributes:
        class_names: Names of the classes, by task.
        channel_names: Names of the channels; may be empty.
        num_channels: Number of channels.
        window_samples: Length of a window, in samples.
        sample_rate_hz: Samples per second.
        model: Name of the network.
        method: Name of the method that it was trained with.
        role: Which of student and teacher it is.
        precision: "float32" or "int8".
        is_compressed: Whether SIMH heads kept their memory branch only.
    """

    class_names: dict[str, list[str]]
    channel_names: list[str]
    num_channels: int
    window_samples: int
    sample_rate_hz: float
    model: str
    method: str
    role: Literal["student", "teacher"]
    precision: Precision
    is_compressed: bool


class OnnxModel:
    """An exported file, run by ONNX Runtime on the CPU.

    Args:
        path: The file.
        num_threads: Threads of one call, at least 1.

    Attributes:
        metadata: What was written beside the weights; empty in the files of others.

    Raises:
        FileNotFoundError: If there is no such file.
        ExportError: If it is no model that can be run.
        ImportError: If onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, *, num_threads: int = 1) -> None:
        onnxruntime = require_module("onnxruntime")
        if not Path(path).is_file():
            raise FileNotFoundError(f"`path` must be a file, but {str(path)!r} is not instead.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = num_threads, 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of classes of its own
            raise ExportError(
                f"`path` must be a model that ONNX Runtime can run, but {str(path)!r} is not "
                f"({first_line(error)}) instead."
            ) from error
        written = self._session.get_modelmeta().custom_metadata_map.get("smoothdistill", "{}")
        self._path = Path(path)
        self.metadata: dict[str, Any] = json.loads(written)

    @property
    def description(self) -> ExportDescription:
        """What the file reads and tells apart.

        Raises:
            ExportError: If it was not exported from a checkpoint.
        """
        try:
            return ExportDescription(**self.metadata)
        except TypeError as error:
            raise ExportError(
                "`path` must be a file that `smoothdistill export` has written, but "
                f"{str(self._path)!r} does not say what it reads instead."
            ) from error

    def __call__(
        self, signals: Float32[np.ndarray, "batch channels time"]
    ) -> dict[str, Float32[np.ndarray, "batch classes"]]:
        """Logits of every task for signals in their own unit."""
        outputs = self._session.run(None, {"signals": signals})
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, outputs, strict=True))


def require_module(package: str) -> Any:
    """A package of the extra "export".

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"`{package}` must be installed for ONNX files, but is not instead; "
            'pip install "smoothdistill[export]" adds it.'
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what an error says: other libraries say many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Alone in the process, and without what exporter and quantizer say of their own workings.

    What other threads say is still heard.
    """
    thread = threading.get_ident()

    def is_of_another(record: logging.LogRecord) -> bool:
        return record.thread != thread

    with ExitStack() as stack:
        stack.enter_context(_EXPORTING)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if not logging.root.handlers:  # or the quantizer's `logging.warning` adds one that stays
            last = logging.lastResort or logging.NullHandler()
            logging.root.addHandler(last)
            stack.callback(logging.root.removeHandler, last)
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
            for handler in getattr(logger, "handlers", ()):
                handler.addFilter(is_of_another)
                stack.callback(handler.removeFilter, is_of_another)
        yield
