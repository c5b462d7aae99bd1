"""Trainings that take turns, so that one keeps the device busy while another waits for it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Turns", "in_one_go", "side_by_side"]

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


def side_by_side(trainings: Iterable[Turns[Result]], device: torch.device) -> Turns[list[Result]]:
    """Train several models by turns, each with a stream and random generators of its own.

    So what a training computes does not depend on who trains beside it. One that fails does not
    keep the others from their end.

    Args:
        trainings: The trainings; nothing else may use the device in their turns.
        device: Where they train.

    Returns:
        Their results, in the same order.

    Raises:
        BaseException: What the first of those that failed has raised, once all have ended.
    """
    lanes = [_Lane(training, device) for training in trainings]
    try:
        while waiting := [lane for lane in lanes if not lane.is_done]:
            for lane in waiting:
                lane.take_turn()
                yield
    finally:
        for lane in lanes:
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
        self._device = device
        self._cpu_state = torch.get_rng_state()
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))
            # A graph keeps to the state that it was captured with: each lane has its own object.
            self._generator = _generator_of(device).clone_state()

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
            if self._device.type == "cuda":
                with self._on_gpu():
                    yield
            else:
                yield
        finally:
            self._cpu_state = torch.get_rng_state()
            torch.set_rng_state(outside)

    @contextmanager
    def _on_gpu(self) -> Iterator[None]:
        generator = _generator_of(self._device)
        outside = generator.graphsafe_get_state()
        generator.graphsafe_set_state(self._generator)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            generator.graphsafe_set_state(outside)


def _generator_of(device: torch.device) -> torch.Generator:
    number: int | None = device.index
    return torch.cuda.default_generators[torch.cuda.current_device() if number is None else number]
