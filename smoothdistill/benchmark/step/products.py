"""The matrix products and convolutions of a step, each in the forms that PyTorch's libraries have.

A form is made with operands of its own, already in the layout that it likes best, so it times the
product and what its library must do for it, and nothing that a neighbour would have to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from smoothdistill.benchmark.step.case import NUM_CLASSES

if TYPE_CHECKING:
    from torch import Tensor

    from smoothdistill.benchmark.step.case import StepCase

__all__ = ["Product", "products_of_step"]

Call = Callable[[], object]
_KERNEL = 9
_LINEARS = {
    "linear 1": (1216, 1024),
    "linear 2": (1024, 512),
    "heads": (512, sum(NUM_CLASSES.values())),  # all heads at once
}


@dataclass(frozen=True, eq=False)
class Product:
    """One product of a step.

    Attributes:
        name: Layer and direction; those of student and teacher have equal ones.
        flops: Multiplications and additions.
        forms: By name, a function that makes operands and returns the call.
    """

    name: str
    flops: int
    forms: dict[str, Callable[[], Call]]


def products_of_step(case: StepCase) -> list[Product]:
    """Every product of a step, in the order of the step: the teacher's, then the student's.

    Without biases, pools, activations, loss and optimizer. The gradient of the signals is not
    needed, so the first convolution has one product less.
    """
    batch = case.batch
    in_channels = 1 if case.layout == "published" else 3
    convolutions = {
        "conv 1": _Convolution(batch, in_channels, 100, 32),
        "conv 2": _Convolution(batch, 32, 46, 64),
    }
    forward = [
        Product(f"{name}, forward", conv.flops, conv.forward_forms())
        for name, conv in convolutions.items()
    ]
    forward += [
        Product(f"{name}, forward", 2 * batch * i * o, _matrix_forms(batch, i, o))
        for name, (i, o) in _LINEARS.items()
    ]
    backward = []
    for name, (i, o) in reversed(_LINEARS.items()):
        flops = 2 * batch * i * o
        backward += [
            Product(f"{name}, to inputs", flops, _matrix_forms(batch, o, i)),
            Product(f"{name}, to weights", flops, _matrix_forms(o, batch, i)),
        ]
    conv = convolutions["conv 2"]
    backward.append(Product("conv 2, to inputs", conv.flops, conv.to_inputs_forms()))
    backward += [
        Product(f"{name}, to weights", conv.flops, conv.to_weights_forms())
        for name, conv in reversed(convolutions.items())
    ]
    return [*forward, *forward, *backward]


def _matrix_forms(rows: int, inner: int, columns: int) -> dict[str, Callable[[], Call]]:
    """``A [rows, inner] @ B [inner, columns]``, each of A, B and the answer C stored either way."""
    return {
        f"mm {a}, {b} -> {c}": (lambda a=a, b=b, c=c: _mm(rows, inner, columns, a, b, c))
        for a, b, c in product(("A", "Aᵀ"), ("B", "Bᵀ"), ("C", "Cᵀ"))
    } | {
        "oneDNN linear A, Bᵀ -> C": lambda: _onednn(rows, inner, columns),
        "oneDNN linear Bᵀ, A -> Cᵀ": lambda: _onednn(columns, inner, rows),
    }


def _stored(rows: int, columns: int, *, is_transposed: bool) -> Tensor:
    return torch.randn(columns, rows).t() if is_transposed else torch.randn(rows, columns)


def _mm(rows: int, inner: int, columns: int, a: str, b: str, c: str) -> Call:
    left = _stored(rows, inner, is_transposed=a == "Aᵀ")
    right = _stored(inner, columns, is_transposed=b == "Bᵀ")
    if c == "C":
        out = torch.empty(rows, columns)
    else:
        left, right, out = right.t(), left.t(), torch.empty(columns, rows)
    return lambda: torch.mm(left, right, out=out)


def _onednn(rows: int, inner: int, columns: int) -> Call:
    inputs, weight = torch.randn(rows, inner), torch.randn(columns, inner)
    linear = torch.ops.mkldnn._linear_pointwise.default
    return lambda: linear(inputs, weight, None, "none", [], "")


@dataclass(frozen=True)
class _Convolution:
    batch: int
    in_channels: int
    time: int
    out_channels: int

    @property
    def out_time(self) -> int:
        return self.time - _KERNEL + 1

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.in_channels * self.out_channels * self.out_time * _KERNEL

    def forward_forms(self) -> dict[str, Callable[[], Call]]:
        return {
            "conv1d": lambda: self._conv(is_2d=False, format=torch.contiguous_format),
            "conv2d": lambda: self._conv(is_2d=True, format=torch.contiguous_format),
            "conv2d, channels last": lambda: self._conv(is_2d=True, format=torch.channels_last),
            "im2col + mm": self._im2col_columns,
            "im2col + mm, channels last": self._im2col_rows,
        }

    def to_inputs_forms(self) -> dict[str, Callable[[], Call]]:
        mask = [True, False, False]
        return {**self._backward_forms(mask), "mm + fold": self._fold}

    def to_weights_forms(self) -> dict[str, Callable[[], Call]]:
        mask = [False, True, False]
        return {**self._backward_forms(mask), "im2col + mm": self._im2col_to_weights}

    def _tensors(self, *, is_2d: bool, format: torch.memory_format) -> Iterator[Tensor]:
        """Signals, weight, output."""
        row = (1,) if is_2d else ()
        for channels, width, count in (
            (self.in_channels, self.time, self.batch),
            (self.in_channels, _KERNEL, self.out_channels),
            (self.out_channels, self.out_time, self.batch),
        ):
            yield torch.randn(count, channels, *row, width).contiguous(memory_format=format)

    def _conv(self, *, is_2d: bool, format: torch.memory_format) -> Call:
        signals, weight, _ = self._tensors(is_2d=is_2d, format=format)
        if is_2d:
            return lambda: functional.conv2d(signals, weight)
        return lambda: functional.conv1d(signals, weight)

    def _backward_forms(self, mask: list[bool]) -> dict[str, Callable[[], Call]]:
        def make(*, is_2d: bool, format: torch.memory_format) -> Call:
            signals, weight, out = self._tensors(is_2d=is_2d, format=format)
            zeros, ones = ([0, 0], [1, 1]) if is_2d else ([0], [1])
            backward = torch.ops.aten.convolution_backward.default
            return lambda: backward(
                out, signals, weight, None, ones, zeros, ones, False, zeros, 1, mask
            )

        contiguous, last = torch.contiguous_format, torch.channels_last
        return {
            "conv1d backward": lambda: make(is_2d=False, format=contiguous),
            "conv2d backward": lambda: make(is_2d=True, format=contiguous),
            "conv2d backward, channels last": lambda: make(is_2d=True, format=last),
        }

    def _im2col_columns(self) -> Call:
        signals, weight, _ = self._tensors(is_2d=False, format=torch.contiguous_format)
        places = self.batch * self.out_time
        windows = signals.unfold(2, _KERNEL, 1).permute(1, 3, 0, 2)  # [in, kernel, batch, time]
        columns, out = torch.empty(windows.shape), torch.empty(self.out_channels, places)
        matrix, flat = weight.flatten(1), columns.view(-1, places)

        def call() -> None:
            columns.copy_(windows)
            torch.mm(matrix, flat, out=out)

        return call

    def _im2col_rows(self) -> Call:
        signals, weight, _ = self._tensors(is_2d=False, format=torch.contiguous_format)
        last = signals.transpose(1, 2).contiguous()  # [batch, time, in]
        windows = last.unfold(1, _KERNEL, 1).transpose(2, 3)  # [batch, time, kernel, in]
        rows = torch.empty(windows.shape)
        places = self.batch * self.out_time
        matrix = weight.transpose(1, 2).reshape(self.out_channels, -1)
        flat, out = rows.view(places, -1), torch.empty(places, self.out_channels)

        def call() -> None:
            rows.copy_(windows)
            torch.mm(flat, matrix.t(), out=out)

        return call

    def _im2col_to_weights(self) -> Call:
        signals, _, _ = self._tensors(is_2d=False, format=torch.contiguous_format)
        places = self.batch * self.out_time
        last = signals.transpose(1, 2).contiguous()
        windows = last.unfold(1, _KERNEL, 1).transpose(2, 3)
        rows, grad = torch.empty(windows.shape), torch.randn(places, self.out_channels)
        flat = rows.view(places, -1)
        out = torch.empty(self.out_channels, flat.shape[1])

        def call() -> None:
            rows.copy_(windows)
            torch.mm(grad.t(), flat, out=out)

        return call

    def _fold(self) -> Call:
        _, weight, grad = self._tensors(is_2d=False, format=torch.contiguous_format)
        matrix = weight.flatten(1).t()  # [in * kernel, out]
        return lambda: functional.fold(torch.matmul(matrix, grad), (1, self.time), (1, _KERNEL))
