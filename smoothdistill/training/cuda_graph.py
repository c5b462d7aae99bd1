"""A training step as a CUDA graph: captured once for each size of batch, then replayed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from smoothdistill.training.batches import Batch, BatchFeed

if TYPE_CHECKING:
    from torch import Tensor

    ByTask = Mapping[str, Tensor]

__all__ = ["CudaCapture", "GraphedSteps"]

Out = TypeVar("Out", bound=tuple[object, ...])
_Step = Callable[["Tensor", "ByTask", "ByTask | None"], Out]


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

    A step takes its batch from a place on the device, so that one launch is all that it costs. One
    that cannot be captured (a method that reads the device, an operation that may not be captured)
    is run eagerly from then on, after one warning.

    Args:
        step: Trains by one batch (its signals, targets and, if known, taught logits), on the device
            alone: what it decides in Python is decided for all replays.
        prepare: Called before each replay, to write what Python decides anew to the device.
        capture: Makes a graph of a function and returns its replay.
        write: Told on the device of each step that `train` does.
    """

    def __init__(
        self,
        step: _Step[Out],
        prepare: Callable[[], None],
        capture: Capture,
        write: Callable[[Out], None] = lambda out: None,
    ) -> None:
        self._step, self._prepare, self._write = step, prepare, write
        self._capture = capture
        self._fed: dict[object, _Fed[Out]] = {}
        self._loaded: _Fed[Out] | None = None
        self._is_possible = True

    def clear(self) -> None:
        """Forget the graphs, where a step is another one from now on.

        Its first steps are run eagerly again: state that comes to be within a capture, such as the
        moments of weights that were not trained before, would begin anew in each replay.
        """
        for fed in self._fed.values():
            fed.graphs.clear()
            fed.num_eager.clear()

    @property
    def num_graphs(self) -> int:
        """Graphs that were captured and are still of use."""
        return sum(len(fed.graphs) for fed in self._fed.values())

    def __call__(self, signals: Tensor, targets: ByTask, taught: ByTask | None = None) -> Out:
        """Train by one batch; what is returned stays as it is in later steps."""
        batch = Batch(signals, targets, taught)
        fed = self._feed("calls", batch)
        out, is_replayed = self._run(fed, len(signals), self._step)
        if not is_replayed:
            return out
        named: Any = type(out)  # a NamedTuple, which takes its parts one by one
        copies: Out = named(*map(_copied, out))
        return copies

    def load(self, windows: Batch) -> None:
        """Lay the windows of several batches where `train` takes them from."""
        self._loaded = self._feed("batches", windows)

    def train(self, size: int) -> None:
        """Train by the next windows of those that were loaded."""
        assert self._loaded is not None

        def step(signals: Tensor, targets: ByTask, taught: ByTask | None) -> Out:
            out = self._step(signals, targets, taught)
            self._write(out)
            return out

        self._run(self._loaded, size, step)

    def _feed(self, use: str, windows: Batch) -> _Fed[Out]:
        """Lay windows on the device, where those of their kind and use are taken from."""
        key = (use, windows.kind)
        fed = self._fed.get(key)
        if fed is None or fed.feed.capacity < len(windows.signals):
            fed = self._fed[key] = _Fed(BatchFeed(windows), {} if fed is None else fed.num_eager)
        fed.feed.load(windows)
        return fed

    def _run(self, fed: _Fed[Out], size: int, step: _Step[Out]) -> tuple[Out, bool]:
        """Train by the next windows; what the step gave, and whether a replay overwrites it."""
        graph = fed.graphs.get(size) or self._graph_of(fed, size, step)
        if graph is None:
            with self._capture.aside():
                return step(*fed.feed.take(size)), False
        self._prepare()
        graph.replay()
        assert graph.out is not None
        return graph.out, True

    def _graph_of(self, fed: _Fed[Out], size: int, step: _Step[Out]) -> _Graph[Out] | None:
        """A new graph, which has trained by nothing yet; None where the step is to be eager."""
        if not self._is_possible:
            return None
        done = fed.num_eager.get(size, 0)
        if done < _EAGER_STEPS:
            fed.num_eager[size] = done + 1
            return None
        self._prepare()
        try:
            graph = _Graph(lambda: step(*fed.feed.take(size)), self._capture)
        except RuntimeError as error:
            self._is_possible = False
            for other in self._fed.values():  # these draw on the random state of before
                other.graphs.clear()
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"The training step cannot be captured in a CUDA graph ({reason}); it is run "
                "operation by operation instead.",
                stacklevel=5,
            )
            return None
        fed.graphs[size] = graph
        return graph


class _Graph(Generic[Out]):
    """A captured step, and where it leaves what it returns."""

    def __init__(self, step: Callable[[], Out], capture: Capture) -> None:
        self.out: Out | None = None

        def run() -> None:
            self.out = step()

        self.replay = capture(run)


@dataclass
class _Fed(Generic[Out]):
    """A place for batches, and the graphs that take theirs from there, by size."""

    feed: BatchFeed
    num_eager: dict[int, int]
    graphs: dict[int, _Graph[Out]] = field(default_factory=dict)


def _copied(part: object) -> object:
    if isinstance(part, torch.Tensor):
        return part.clone()
    if isinstance(part, Mapping):
        return {name: _copied(value) for name, value in part.items()}
    return part


class CudaCapture:
    """Captures CUDA graphs, on a stream of its own; the steps before a capture run there, too.

    Autograd adds gradients up on the stream on which a weight was used first.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within it work goes to that stream, in order with the work outside."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        """The replay of a new graph of what a function launches."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), _no_collection():
            outside = torch.cuda.current_stream()
            _forget_workspaces()
            try:
                with torch.cuda.graph(graph, stream=self._stream):
                    run()
            except RuntimeError:
                torch.cuda.set_stream(outside)
                _renew_random_state()
                raise
            finally:  # of one that fails PyTorch leaves its stream the current one
                torch.cuda.set_stream(outside)
                _forget_workspaces()
        return graph.replay


def _renew_random_state() -> None:
    """Have the GPU's generator go on from where it is, in a state of its own.

    Older versions of PyTorch leave that of a failed capture as being captured: it draws no more.
    """
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(generator.clone_state())


def _forget_workspaces() -> None:
    """Have cuBLAS take a new workspace: a graph needs one of its own, for as long as it lives.

    Before a capture, or the graph would use that of the stream, which others use and free; after
    it, or others would use that of the graph. PyTorch's own compiler does so, too.
    """
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Free the graphs of steps that are done with now, and none while another is captured."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
