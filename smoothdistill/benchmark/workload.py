"""What is timed: cases, providers of the same answer, and one prepared call of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Case", "Kind", "Provider", "Workload", "check_equal_answers"]

Kind = Literal["fused", "baseline", "reference"]
"""Ours, the strongest that PyTorch offers, or the plain twin that both are checked against."""

NUM_CALLS_BEFORE_COMPARISON = 3


@dataclass(frozen=True)
class Case:
    """One size of a benchmark.

    Attributes:
        name: Short, for tables.
        shapes: Shapes of the tensors, whose meaning the benchmark knows.
        bytes_moved: Memory that one call cannot avoid reading and writing, in bytes; 0 where
            memory is not what bounds it.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    bytes_moved: int = 0


@dataclass(frozen=True, eq=False)
class Workload:
    """A prepared call.

    Attributes:
        call: Does the work once; this alone is timed.
        answer: What the calls so far have led to.
    """

    call: Callable[[], object]
    answer: Callable[[], Sequence[Tensor]]


@dataclass(frozen=True, eq=False)
class Provider:
    """One way to do the work.

    Attributes:
        name: For tables.
        kind: Ours, a baseline, or the reference.
        make: Prepares the call for a case; every provider starts from the same numbers.
    """

    name: str
    kind: Kind
    make: Callable[[Case], Workload]


def check_equal_answers(
    workloads: dict[str, Workload], *, expected: str, relative: float = 1e-4, absolute: float = 1e-6
) -> dict[str, float]:
    """Call every workload three times and compare what they led to.

    Args:
        workloads: Fresh workloads of one case, by provider.
        expected: The provider that the others are compared with.
        relative: Allowed difference, as a share of the expected value. float32 sums of some
            thousand terms in different orders differ by about 1e-5.
        absolute: Allowed difference near zero.

    Returns:
        The largest difference from the expected answer, by provider.

    Raises:
        AssertionError: If an answer differs; a faster wrong answer is worth nothing.
    """
    import torch

    for workload in workloads.values():
        for _ in range(NUM_CALLS_BEFORE_COMPARISON):
            workload.call()
    wanted = [tensor.detach().clone() for tensor in workloads[expected].answer()]
    differences = dict.fromkeys(workloads, 0.0)
    for name, workload in workloads.items():
        for index, (found, want) in enumerate(zip(workload.answer(), wanted, strict=True)):
            try:
                torch.testing.assert_close(found.detach(), want, rtol=relative, atol=absolute)
            except AssertionError as error:
                raise AssertionError(f"{name}, answer {index}: {error}") from error
            difference = float((found.detach() - want).abs().max())
            differences[name] = max(differences[name], difference)
    return differences
