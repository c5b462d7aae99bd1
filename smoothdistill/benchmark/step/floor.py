"""Two floors under a step: its products alone, and those with the optimizer's memory traffic.

Each product takes its fastest library form, even where two products would then want one tensor in
two layouts; so the sum is what PyTorch's libraries cannot go below, and no step made of them is as
fast. Kernels of one's own may be: a pool leaves half of the gradient of its convolution at zero,
which no library form makes use of.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from smoothdistill.benchmark.step.products import products_of_step
from smoothdistill.benchmark.timing import time_in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smoothdistill.benchmark.step.case import StepCase

__all__ = ["BYTES_PER_PARAMETER", "Choice", "Floor", "build_floor"]

BYTES_PER_PARAMETER = 36
"""Read parameter, gradient, two moments and average (20 bytes); write all but the gradient (16)."""


@dataclass(frozen=True)
class Choice:
    """The form that won for one product.

    Attributes:
        product: Layer and direction.
        form: Its fastest form.
        count: How often the product occurs in a step.
        seconds: Median time of it once.
        flops: Multiplications and additions of it once.
    """

    product: str
    form: str
    count: int
    seconds: float
    flops: int


@dataclass(frozen=True, eq=False)
class Floor:
    """Prepared calls.

    Attributes:
        products: All products of a step, each in its fastest form, with operands of its own.
        products_and_traffic: The same, and then one pass in place over a buffer of half as many
            bytes as Adam with a moving average reads and writes; it reads and writes each once.
        choices: The forms.
    """

    products: Callable[[], None]
    products_and_traffic: Callable[[], None]
    choices: tuple[Choice, ...]


def build_floor(
    case: StepCase,
    num_parameters: int,
    *,
    num_rounds: int,
    dtype: torch.dtype = torch.float32,
) -> Floor:
    """Time every form of every product, and take the fastest of each.

    Args:
        case: The step.
        num_parameters: Parameters of the student.
        num_rounds: Rounds of each comparison, at least 1.
        dtype: Number format of the operands; weights, moments and average are float32.
    """
    products = products_of_step(case)
    chosen: dict[str, Choice] = {}
    calls = []
    with torch.no_grad(), _operands_in(dtype):
        for product in products:
            if product.name not in chosen:
                forms = {name: make() for name, make in product.forms.items()}
                timings = time_in_turns(forms, num_rounds=num_rounds, round_seconds=1e-3)
                form = min(timings, key=lambda name: timings[name].median)
                count = sum(other.name == product.name for other in products)
                seconds = timings[form].median
                chosen[product.name] = Choice(product.name, form, count, seconds, product.flops)
            calls.append(product.forms[chosen[product.name].form]())
    buffer = torch.zeros(num_parameters * BYTES_PER_PARAMETER // 2 // 4, dtype=torch.float32)

    @torch.no_grad()
    def run_products() -> None:
        for call in calls:
            call()

    def run_both() -> None:
        run_products()
        # A copy into a second buffer would move half as much again: a line that is written and
        # was not read is fetched all the same (5.6 ms against 2.9 ms for MTL-net's 65 MB).
        buffer.add_(1.0)

    return Floor(run_products, run_both, tuple(chosen.values()))


@contextmanager
def _operands_in(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
