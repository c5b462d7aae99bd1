"""Benchmark of the products of MTL-net's linear layers, against each order of PyTorch's operands.

The rivals get every tensor in the layout they like best, made before the clock starts, and of the
orders of operands that the library offers only the fastest is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothdistill.benchmark.timing import time_in_turns
from smoothdistill.benchmark.workload import Case, Provider, Workload

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.ops.linear import LinearProducts

__all__ = ["CASES", "PROVIDERS", "LinearCase", "LinearInputs", "draw_inputs"]

_LAYERS = {"linear1": (1024, 1216), "linear2": (512, 1024)}  # (out, in) at windows of 100 samples
_BATCHES = (16, 64, 256)
_PRODUCTS = ("forward", "backward_input", "backward_weight", "backward_weight + Adam + EMA")
_LEARNING_RATE = 1e-3
_DECAY = 0.999


@dataclass(frozen=True)
class LinearCase(Case):
    """One product of one layer; `shapes` are those of a batch in rows and of the weight.

    Attributes:
        product: One of the products of `ops.linear.LinearProducts`.
    """

    product: str = "forward"


CASES = tuple(
    LinearCase(f"{layer}, batch {batch}, {product}", ((batch, size), (out, size)), product=product)
    for layer, (out, size) in _LAYERS.items()
    for batch in _BATCHES
    for product in _PRODUCTS
)


@dataclass(frozen=True)
class LinearInputs:
    """A batch in rows [batch, features], weight and bias, and what Adam and EMA keep."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    dy: Tensor
    gate: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor
    teacher: Tensor


def draw_inputs(case: Case) -> LinearInputs:
    """Whole numbers so small that each sum is exact in any order: all answers must be equal."""
    import torch

    generator = torch.Generator().manual_seed(0)
    (batch, size), (out, _) = case.shapes

    def draw(*shape: int) -> Tensor:
        return torch.randint(-8, 9, shape, generator=generator).float()

    x, weight, bias, dy = draw(batch, size), draw(out, size), draw(out), draw(batch, out)
    moments = torch.zeros_like(weight), torch.zeros_like(weight)
    return LinearInputs(
        x, weight, bias, dy, draw(batch, size).relu(), *moments, torch.zeros(()), weight.clone()
    )


def _adam_ema(inputs: LinearInputs, gradient: Tensor) -> None:
    from smoothdistill.ops import adam_ema_

    adam_ema_(
        [inputs.weight], [gradient], [inputs.exp_avg], [inputs.exp_avg_sq], [inputs.teacher],
        lr=_LEARNING_RATE, step=[inputs.step], decay=_DECAY,
    )  # fmt: skip


class _InColumns:
    """A batch in columns, as the package keeps it, and the calls of a library's products."""

    def __init__(self, products: LinearProducts, inputs: LinearInputs) -> None:
        import torch

        from smoothdistill.ops.columns import plan_columns, to_columns_

        self.products, self.inputs = products, inputs
        layout = plan_columns(len(inputs.x))

        def columns(rows: Tensor) -> Tensor:
            made = torch.empty(layout.blocks, rows.shape[1], layout.columns)
            to_columns_(rows, made)
            return made

        self.x, self.dy, self.gate = map(columns, (inputs.x, inputs.dy, inputs.gate))
        self.y, self.dx = torch.empty_like(self.dy), torch.empty_like(self.x)
        self.dw, self.db = torch.empty_like(inputs.weight), torch.empty_like(inputs.bias)

    def workload(self, product: str) -> Workload:
        inputs = self.inputs
        if product == "forward":
            return Workload(self.forward, lambda: [self.rows(self.y, inputs.dy)])
        if product == "backward_input":
            return Workload(self.backward_input, lambda: [self.rows(self.dx, inputs.x)])
        if product == "backward_weight":
            return Workload(self.backward_weight, lambda: [self.dw, self.db])
        return Workload(self.update, lambda: [inputs.weight, inputs.teacher, self.db])

    @staticmethod
    def rows(columns: Tensor, like: Tensor) -> Tensor:
        import torch

        from smoothdistill.ops.columns import from_columns_

        made = torch.empty_like(like)
        from_columns_(columns, made)
        return made

    def forward(self) -> None:
        self.products.forward(self.x, self.inputs.weight, self.inputs.bias, True, self.y)

    def backward_input(self) -> None:
        self.products.backward_input(self.dy, self.inputs.weight, self.gate, False, self.dx)

    def backward_weight(self) -> None:
        self.products.backward_weight(self.dy, self.x, self.dw, self.db)

    def update(self) -> None:
        inputs = self.inputs
        if not self.products.updates:
            self.backward_weight()
            _adam_ema(inputs, self.dw)
            return
        from smoothdistill.ops.linear import AdamNumbers

        self.products.update_(
            self.dy,
            self.x,
            inputs.weight,
            {"exp_avg": inputs.exp_avg, "exp_avg_sq": inputs.exp_avg_sq, "step": inputs.step},
            inputs.teacher,
            AdamNumbers(_LEARNING_RATE, 0.9, 0.999, 1e-8, 0.0, False, _DECAY),
            self.db,
        )


def _of_package(name: str, case: Case) -> Workload:
    from smoothdistill.ops.linear import make_products

    assert isinstance(case, LinearCase)
    return _InColumns(make_products(name), draw_inputs(case)).workload(case.product)


def _fastest(candidates: Mapping[str, Workload]) -> Workload:
    """The workload whose call takes least; it must not matter that it was called before."""
    timings = time_in_turns(
        {order: workload.call for order, workload in candidates.items()},
        num_rounds=5,
        round_seconds=0.002,
    )
    return candidates[min(timings, key=lambda order: timings[order].median)]


def _with_update(
    inputs: LinearInputs, gradients: Callable[[], None], dw: Tensor, db: Tensor
) -> Workload:
    def call() -> None:
        gradients()
        _adam_ema(inputs, dw)

    return Workload(call, lambda: [inputs.weight, inputs.teacher, db])


def _blas(case: Case) -> Workload:
    """`torch.mm` into memory that is there, over rows and over columns of the whole batch."""
    import torch

    assert isinstance(case, LinearCase)
    inputs = draw_inputs(case)
    x, weight, bias, dy = inputs.x, inputs.weight, inputs.bias, inputs.dy
    x_turned, dy_turned = x.t().contiguous(), dy.t().contiguous()
    closed = ~(inputs.gate > 0)
    closed_turned = closed.t().contiguous()
    y, dx, dw, db = map(torch.empty_like, (dy, x, weight, bias))
    y_turned, dx_turned = torch.empty_like(dy_turned), torch.empty_like(x_turned)
    dw_turned = torch.empty_like(weight.t().contiguous())

    def forward_rows() -> None:
        torch.addmm(bias, x, weight.t(), out=y).relu_()

    def forward_columns() -> None:
        torch.addmm(bias[:, None], weight, x_turned, out=y_turned).relu_()

    def input_rows() -> None:
        torch.mm(dy, weight, out=dx).masked_fill_(closed, 0.0)

    def input_columns() -> None:
        torch.mm(weight.t(), dy_turned, out=dx_turned).masked_fill_(closed_turned, 0.0)

    def weight_rows() -> None:
        torch.mm(dy.t(), x, out=dw)
        torch.sum(dy, dim=0, out=db)

    def weight_columns() -> None:
        torch.mm(dy_turned, x_turned.t(), out=dw)
        torch.sum(dy_turned, dim=1, out=db)

    def weight_other_way() -> None:
        torch.mm(x.t(), dy, out=dw_turned)
        torch.sum(dy, dim=0, out=db)

    def answer(*tensors: Tensor) -> Callable[[], Sequence[Tensor]]:
        return lambda: tensors

    if case.product == "forward":
        orders = {
            "rows": Workload(forward_rows, answer(y)),
            "columns": Workload(forward_columns, answer(y_turned.t())),
        }
    elif case.product == "backward_input":
        orders = {
            "rows": Workload(input_rows, answer(dx)),
            "columns": Workload(input_columns, answer(dx_turned.t())),
        }
    else:
        orders = {
            "rows": Workload(weight_rows, answer(dw, db)),
            "columns": Workload(weight_columns, answer(dw, db)),
        }
        if case.product == "backward_weight":  # Adam would need the result turned back
            orders["weight turned"] = Workload(weight_other_way, answer(dw_turned.t(), db))
    fastest = _fastest(orders)
    if case.product in _PRODUCTS[:3]:
        return fastest
    return _with_update(inputs, fastest.call, dw, db)  # type: ignore[arg-type]


def _onednn(case: Case) -> Workload:
    """The inner product of oneDNN, of rows or of columns, or `torch.mm` where that is faster."""
    import torch

    assert isinstance(case, LinearCase)
    inputs = draw_inputs(case)
    x, weight, bias, dy = inputs.x, inputs.weight, inputs.bias, inputs.dy
    x_turned, dy_turned = x.t().contiguous(), dy.t().contiguous()
    closed = ~(inputs.gate > 0)
    dw, db = torch.empty_like(weight), torch.empty_like(bias)
    latest: list[Tensor] = []

    def multiply(rows: Tensor, matrix: Tensor, offset: Tensor | None, then: str) -> Tensor:
        """``rows @ matrix.t() + offset``."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, matrix, offset, then, [], "")
        return product

    def forward() -> None:
        latest[:] = [multiply(x, weight, bias, "relu")]

    def backward_input() -> None:
        latest[:] = [multiply(dy, weight.t(), None, "none").masked_fill_(closed, 0.0)]

    def backward_weight() -> None:
        dw.copy_(multiply(dy_turned, x_turned, None, "none"))
        torch.sum(dy, dim=0, out=db)

    def backward_weight_by_mm() -> None:
        torch.mm(dy.t(), x, out=dw)
        torch.sum(dy, dim=0, out=db)

    if case.product == "forward":
        return Workload(forward, lambda: list(latest))
    if case.product == "backward_input":
        return Workload(backward_input, lambda: list(latest))
    fastest = _fastest(
        {
            "oneDNN": Workload(backward_weight, lambda: [dw, db]),
            "mm": Workload(backward_weight_by_mm, lambda: [dw, db]),
        }
    )
    if case.product == "backward_weight":
        return fastest
    return _with_update(inputs, fastest.call, dw, db)  # type: ignore[arg-type]


def _reference(case: Case) -> Workload:
    from smoothdistill import reference

    assert isinstance(case, LinearCase)
    inputs = draw_inputs(case)
    # One block that is as wide as the batch.
    x, dy, gate = (t.t().contiguous()[None] for t in (inputs.x, inputs.dy, inputs.gate))
    latest: list[Tensor] = []

    def call() -> None:
        if case.product == "forward":
            latest[:] = [reference.linear(x, inputs.weight, inputs.bias, True)[0].t()]
        elif case.product == "backward_input":
            latest[:] = [reference.linear_backward_input(dy, inputs.weight, gate, None)[0].t()]
        elif case.product == "backward_weight":
            latest[:] = reference.linear_backward_weight(dy, x)
        else:
            db = reference.linear_adam_ema_(
                dy, x, inputs.weight, inputs.exp_avg, inputs.exp_avg_sq, inputs.teacher,
                inputs.step, lr=_LEARNING_RATE, decay=_DECAY, betas=(0.9, 0.999), eps=1e-8,
                weight_decay=0.0, decoupled=False,
            )  # fmt: skip
            latest[:] = [inputs.weight, inputs.teacher, db]

    return Workload(call, lambda: list(latest))


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("native", "fused", lambda case: _of_package("native", case)),
        Provider("blas", "baseline", _blas),
        Provider("onednn", "baseline", _onednn),
        Provider("reference", "reference", _reference),
    )
}
