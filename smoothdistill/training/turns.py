"""Trainings that take turns, so that one keeps the device busy while another waits for it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Turns", "gains_by_turns", "in_one_go", "side_by_side"]

Result = TypeVar("Result")

Turns = Generator[None, None, Result]
"""A training that stops before each wait for the device, and returns its result at the end."""


def in_one_go(training: Turns[Result]) -> Result:
    """Train without letting others have a turn."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            result: Result = end.value
            return result


def gains_by_turns(device: torch.device) -> bool:
    """Whether models train faster side by side; a CPU is kept busy by one."""
    return device.type == "cuda"


def side_by_side(
    trainings: Iterable[Turns[Result]], device: torch.device, most: int | None = None
) -> Turns[list[Result]]:
    """Train several models by turns, each with a stream and random generators of its own.

    So what a training computes does not depend on who trains beside it. One that fails does not
    keep the others from their end.

    Args:
        trainings: The trainings; nothing else may use the device in their turns.
        device: Where they train; where there is nothing to gain, it is one after the other.
        most: Trainings at a time, at least 1; None: all.

    Returns:
        Their results, in the same order.

    Raises:
        BaseException: What the first of those that failed has raised, once all have ended.
    """
    pending, lanes = iter(trainings), list[_Lane[Result]]()
    under_way: list[_Lane[Result]] = []
    if not gains_by_turns(device):
        most = 1
    try:
        while True:
            room = None if most is None else most - len(under_way)
            begun = [_Lane(training, device) for training in islice(pending, room)]
            lanes += begun
            under_way += begun
            if not under_way:
                break
            for lane in under_way:
                lane.take_turn()
                yield
            under_way = [lane for lane in under_way if not lane.is_done]
    finally:
        for lane in under_way:
            lane.training.close()
    for lane in lanes:
        if lane.error is not None:
            raise lane.error
    return [lane.result for lane in lanes]


class _Lane(Generic[Result]):
    """A training with its stream, and the states of PyTorch's generators in its turns."""

    result: Result

    def __init__(self, training: Turns[Result], device: torch.device) -> None:
        self.training = training
        self.is_done = False
        self.error: BaseException | None = None
        self._is_on_gpu = device.type == "cuda"
        self._cpu_state = torch.get_rng_state()
        if self._is_on_gpu:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))
            # A graph keeps to the state that it was captured with: each lane has its own object.
            self._generator = _generator_of(device)
            self._state = self._generator.clone_state()

    def take_turn(self) -> None:
        """Train up to the next wait, or to the end."""
        with self._switched_to():
            try:
                next(self.training)
            except StopIteration as end:
                self.result, self.is_done = end.value, True
            except BaseException as error:  # the others have their turns first
                self.error, self.is_done = error, True

    @contextmanager
    def _switched_to(self) -> Iterator[None]:
        outside = torch.get_rng_state()
        torch.set_rng_state(self._cpu_state)
        try:
            with self._on_gpu() if self._is_on_gpu else nullcontext():
                yield
        finally:
            self._cpu_state = torch.get_rng_state()
            torch.set_rng_state(outside)

    @contextmanager
    def _on_gpu(self) -> Iterator[None]:
        outside = self._generator.graphsafe_get_state()
        self._generator.graphsafe_set_state(self._state)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            self._generator.graphsafe_set_state(outside)


def _generator_of(device: torch.device) -> torch.Generator:
    number: int | None = device.index
    return torch.cuda.default_generators[torch.cuda.current_device() if number is None else number]
