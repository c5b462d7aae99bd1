"""A training step as a CUDA graph: captured once for each size of batch, then replayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GraphedSteps"]

Out = TypeVar("Out", bound=tuple[object, ...])


class Capture(Protocol):
    """Makes graphs; another one than CUDA's serves the tests."""

    def aside(self) -> AbstractContextManager[object]:
        """Within it work goes to where graphs are captured, in order with the work outside."""

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        """Make a graph of what a function launches; returns its replay."""


_EAGER_STEPS = 3
"""Steps of a size before its capture: memory and state come to be, kernels are loaded, and a size
that comes once takes no graph."""


class GraphedSteps(Generic[Out]):
    """Runs a step eagerly at first, then by a graph that was captured of it.

    A step that cannot be captured (a method that reads the device, an operation that may not be
    captured) is run eagerly from then on, after one warning.

    Args:
        step: Trains by one batch, on the device alone: what it decides in Python is decided for
            all replays.
        prepare: Called before each replay, to write what Python decides anew to the device.
        capture: Makes a graph of a function and returns its replay; by default a CUDA graph.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Mapping[str, Tensor]], Out],
        prepare: Callable[[], None],
        capture: Capture | None = None,
    ) -> None:
        self._step, self._prepare = step, prepare
        self._capture: Capture = _CudaCapture() if capture is None else capture
        self._graphs: dict[object, _Graph[Out]] = {}
        self._num_eager: dict[object, int] = {}
        self._is_possible = True

    def clear(self) -> None:
        """Forget the graphs, where a step is another one from now on."""
        self._graphs.clear()

    def __call__(self, signals: Tensor, targets: Mapping[str, Tensor]) -> Out:
        """Train by one batch; what is returned stays as it is in later steps."""
        size = (tuple(signals.shape), signals.dtype, tuple(targets))
        graph = self._graphs.get(size)
        if graph is None:
            graph = self._graph_of(size, signals, targets)
            if graph is None:
                with self._capture.aside():
                    return self._step(signals, targets)
        graph.load(signals, targets)
        self._prepare()
        graph.replay()
        return graph.results()

    def _graph_of(
        self, size: object, signals: Tensor, targets: Mapping[str, Tensor]
    ) -> _Graph[Out] | None:
        """A new graph, which has trained by nothing yet; None where the step is to be eager."""
        if not self._is_possible:
            return None
        done = self._num_eager.get(size, 0)
        if done < _EAGER_STEPS:
            self._num_eager[size] = done + 1
            return None
        self._prepare()
        try:
            graph = _Graph(self._step, self._capture, signals, targets)
        except RuntimeError as error:
            self._is_possible = False
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"The training step cannot be captured in a CUDA graph ({reason}); it is run "
                "operation by operation instead.",
                stacklevel=4,
            )
            return None
        self._graphs[size] = graph
        return graph


class _Graph(Generic[Out]):
    """A captured step, where it reads its batch, and where it leaves what it returns."""

    def __init__(
        self,
        step: Callable[[Tensor, Mapping[str, Tensor]], Out],
        capture: Capture,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> None:
        self._signals = torch.empty_like(signals)
        self._targets = {task: torch.empty_like(labels) for task, labels in targets.items()}
        self.load(signals, targets)
        self._out: Out | None = None

        def run() -> None:
            self._out = step(self._signals, self._targets)

        self.replay = capture(run)

    def load(self, signals: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Lay a batch where the step reads it."""
        self._signals.copy_(signals)
        for task, labels in targets.items():
            self._targets[task].copy_(labels)

    def results(self) -> Out:
        """Copies of what the newest replay has returned, which the next one overwrites."""
        assert self._out is not None
        named: Any = type(self._out)  # a NamedTuple, which takes its parts one by one
        copies: Out = named(*map(_copied, self._out))
        return copies


def _copied(part: object) -> object:
    if isinstance(part, torch.Tensor):
        return part.clone()
    if isinstance(part, Mapping):
        return {name: _copied(value) for name, value in part.items()}
    return part


class _CudaCapture:
    """Captures on a stream of its own, on which the steps before a capture run, too.

    Autograd adds gradients up on the stream on which a weight was used first.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            run()
        return graph.replay
