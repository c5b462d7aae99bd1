"""The matrix products of a linear layer over a batch in columns, by the library that is fastest.

Activations are [blocks, features, columns] (see `columns`), weights [out, in] as `nn.Linear` has
them. Three libraries offer the same three products: ``native``, the tiles of csrc/cpu/linear.cpp;
``blas``, PyTorch's own matrix product (MKL or OpenBLAS); ``onednn``, whose linear layer adds the
bias in the product. `product_choice` times them where nobody has chosen. Of numbers rounded to
bfloat16 there are two: the native tiles where the processor has AVX512_BF16, and PyTorch's.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from smoothdistill.ops._backend import cpu_kernels, cpu_module

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

__all__ = [
    "NATIVE_BFLOAT16",
    "PRODUCTS",
    "PRODUCTS_VARIABLE",
    "AdamNumbers",
    "LinearProducts",
    "available_products",
    "bfloat16_products",
    "make_products",
    "require_products",
]

NATIVE_BFLOAT16 = "native bfloat16"
PRODUCTS_VARIABLE = "SMOOTHDISTILL_PRODUCTS"


class AdamNumbers(NamedTuple):
    """The numbers of one Adam step; see `adam_ema_`."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    decay: float


class LinearProducts:
    """The native products; also what a library offers, whose classes override it."""

    name = "native"
    updates = True
    """Whether `update` exists: Adam on the rows of a gradient that is never written out."""

    def __init__(self) -> None:
        if cpu_kernels() is None:
            raise ValueError(
                f"`{PRODUCTS_VARIABLE}` must be 'blas' or 'onednn' where the kernels were not"
                f" built, but is {self.name!r} instead."
            )
        self._kernels: Any = cpu_module
        self._panels = torch.empty(0, dtype=torch.float32, device="cpu")

    def forward(
        self,
        x: Float[Tensor, "blocks in columns"],
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"],
        relu: bool,
        y: Float[Tensor, "blocks out columns"],
    ) -> None:
        """Write ``weight x + bias`` into y, after `relu` without what is negative."""
        self._kernels.linear_forward(x, weight, bias, relu, y, None)

    def backward_input(
        self,
        dy: Float[Tensor, "blocks out columns"],
        weight: Float[Tensor, "out in"],
        gate: Float[Tensor, "blocks in columns"] | None,
        accumulates: bool,
        dx: Float[Tensor, "blocks in columns"],
    ) -> None:
        """Write (or add) ``weight^T dy`` into dx; afterwards 0 where the gate is not above 0."""
        self._kernels.linear_backward_input(dy, weight, gate, accumulates, dx, None)

    def backward_weight(
        self,
        dy: Float[Tensor, "blocks out columns"],
        x: Float[Tensor, "blocks in columns"],
        dw: Float[Tensor, "out in"],
        db: Float[Tensor, " out"],
    ) -> None:
        """Write ``dy x^T`` and the sum of dy, over all windows, into dw and db."""
        self._kernels.linear_backward_weight(dy, x, self._panels_for(x), dw, db)

    def update_(
        self,
        dy: Float[Tensor, "blocks out columns"],
        x: Float[Tensor, "blocks in columns"],
        weight: Float[Tensor, "out in"],
        state: dict[str, Tensor],
        teacher: Float[Tensor, "out in"],
        numbers: AdamNumbers,
        db: Float[Tensor, " out"],
    ) -> None:
        """`backward_weight` and `adam_ema_` of the weight in one pass; db is written."""
        self._kernels.linear_adam_ema_(
            dy, x, self._panels_for(x), weight, state["exp_avg"], state["exp_avg_sq"], teacher,
            state["step"], *numbers, db,
        )  # fmt: skip
        torch.autograd.graph.increment_version([weight, teacher])

    def conv_pool(
        self,
        x: Float[Tensor, "blocks in time columns"],
        weight: Float[Tensor, "out in kernel"],
        bias: Float[Tensor, " out"],
        y: Float[Tensor, "blocks out pooled columns"],
        choice: UInt8[Tensor, "blocks out pooled columns"] | None,
    ) -> None:
        """Write convolution, bias, max-pool 2 and ReLU into y, and where y comes from."""
        assert cpu_module is not None
        cpu_module.conv_pool_columns(x, weight, bias, y, choice)

    def _panels_for(self, x: Tensor) -> Tensor:
        blocks, features, columns = x.shape
        needed = -(-features // 64) * 64 * blocks * columns
        if self._panels.numel() < needed:
            self._panels = self._panels.new_empty(needed)
        return self._panels[:needed]


class _Blas(LinearProducts):
    """`torch.mm`: MKL or OpenBLAS. Bias and ReLU are passes of their own."""

    name = "blas"
    updates = False

    def __init__(self) -> None:
        pass

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, relu: bool, y: Tensor) -> None:
        for block in range(x.shape[0]):
            torch.addmm(bias[:, None], weight, x[block], out=y[block])
        if relu:
            y.relu_()

    def backward_input(
        self, dy: Tensor, weight: Tensor, gate: Tensor | None, accumulates: bool, dx: Tensor
    ) -> None:
        for block in range(dy.shape[0]):
            if accumulates:
                dx[block].addmm_(weight.t(), dy[block])
            else:
                torch.mm(weight.t(), dy[block], out=dx[block])
        if gate is not None:
            dx.masked_fill_(~(gate > 0), 0.0)  # not a product: of infinity it would be NaN

    def backward_weight(self, dy: Tensor, x: Tensor, dw: Tensor, db: Tensor) -> None:
        torch.mm(dy[0], x[0].t(), out=dw)
        for block in range(1, dy.shape[0]):
            dw.addmm_(dy[block], x[block].t())
        torch.sum(dy, dim=(0, 2), out=db)


class _OneDnn(_Blas):
    """oneDNN's linear layer; what it has not, BLAS does."""

    name = "onednn"

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, relu: bool, y: Tensor) -> None:
        for block in range(x.shape[0]):
            rows = torch.ops.mkldnn._linear_pointwise(
                x[block].t().contiguous(), weight, bias, "none", [], ""
            )
            y[block].copy_(rows.t())
        if relu:
            y.relu_()  # oneDNN's own turns a NaN into 0, so that a bad step would look like a good


class _Bfloat16(_Blas):
    """Products of bfloat16 numbers with float32 sums; weights and results stay float32."""

    name = "bfloat16"

    def __init__(self) -> None:
        self._rounded: dict[int, tuple[weakref.ref[Tensor], tuple[int, int], Tensor]] = {}

    def _weight(self, weight: Tensor) -> Tensor:
        """The weight in bfloat16, which one step reads three times and rounds once."""
        state = (weight._version, weight.data_ptr())
        known = self._rounded.get(id(weight))
        if known is not None and known[0]() is weight and known[1] == state:
            return known[2]
        rounded = weight.detach().to(torch.bfloat16)
        self._rounded[id(weight)] = (weakref.ref(weight), state, rounded)
        return rounded

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, relu: bool, y: Tensor) -> None:
        for block in range(x.shape[0]):
            y[block].copy_(torch.mm(self._weight(weight), x[block].to(torch.bfloat16)))
        y.add_(bias[:, None])
        if relu:
            y.relu_()

    def backward_input(
        self, dy: Tensor, weight: Tensor, gate: Tensor | None, accumulates: bool, dx: Tensor
    ) -> None:
        for block in range(dy.shape[0]):
            found = torch.mm(self._weight(weight).t(), dy[block].to(torch.bfloat16))
            if accumulates:
                dx[block].add_(found)
            else:
                dx[block].copy_(found)
        if gate is not None:
            dx.masked_fill_(~(gate > 0), 0.0)  # not a product: of infinity it would be NaN

    def backward_weight(self, dy: Tensor, x: Tensor, dw: Tensor, db: Tensor) -> None:
        for block in range(dy.shape[0]):
            found = torch.mm(dy[block].to(torch.bfloat16), x[block].to(torch.bfloat16).t())
            if block:
                dw.add_(found)
            else:
                dw.copy_(found)
        torch.sum(dy, dim=(0, 2), out=db)


class _NativeBfloat16(LinearProducts):
    """The same by the native tiles, whose sums are not rounded to bfloat16 either.

    Layers of few outputs stay float32: heads, which take two hundredths of a step, and whose
    rounding put the gradients of the linear layers 1.3 to 1.7 times as far off. So does one window,
    which fills no tile.
    """

    name = NATIVE_BFLOAT16
    fewest_outputs = 64

    def __init__(self) -> None:
        super().__init__()
        self._memory = torch.empty(0, dtype=torch.int32, device="cpu")  # pairs of numbers

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, relu: bool, y: Tensor) -> None:
        if len(weight) < self.fewest_outputs or x.shape[-1] == 1:
            super().forward(x, weight, bias, relu, y)
            return
        memory = self._memory_for(x)
        self._kernels.linear_forward_bfloat16(x, weight, bias, relu, y, memory)

    def backward_input(
        self, dy: Tensor, weight: Tensor, gate: Tensor | None, accumulates: bool, dx: Tensor
    ) -> None:
        if len(weight) < self.fewest_outputs:
            super().backward_input(dy, weight, gate, accumulates, dx)
            return
        memory = self._memory_for(dy)
        self._kernels.linear_backward_input_bfloat16(dy, weight, gate, accumulates, dx, memory)

    def backward_weight(self, dy: Tensor, x: Tensor, dw: Tensor, db: Tensor) -> None:
        if len(dw) < self.fewest_outputs:
            super().backward_weight(dy, x, dw, db)
            return
        self._kernels.linear_backward_weight_bfloat16(
            dy, x, self._memory_for(x, dy, whole=64), dw, db
        )

    def update_(
        self, dy: Tensor, x: Tensor, weight: Tensor, state: dict[str, Tensor], teacher: Tensor,
        numbers: AdamNumbers, db: Tensor,
    ) -> None:  # fmt: skip
        if len(weight) < self.fewest_outputs:
            super().update_(dy, x, weight, state, teacher, numbers, db)
            return
        self._kernels.linear_adam_ema_bfloat16_(
            dy, x, self._memory_for(x, dy, whole=64), weight, state["exp_avg"],
            state["exp_avg_sq"], teacher, state["step"], *numbers, db,
        )  # fmt: skip
        torch.autograd.graph.increment_version([weight, teacher])

    def conv_pool(
        self, x: Tensor, weight: Tensor, bias: Tensor, y: Tensor, choice: Tensor | None
    ) -> None:
        assert cpu_module is not None
        memory = self._memory_for(x, weight)
        cpu_module.conv_pool_columns_bfloat16(x, weight, bias, y, choice, memory)

    def _memory_for(self, *tensors: Tensor, whole: int = 2) -> Tensor:
        """Memory for pairs of tensors [blocks, features, ...], whose features are padded."""
        needed = sum(t.numel() // t.shape[1] * (-(-t.shape[1] // whole) * whole) for t in tensors)
        if self._memory.numel() < needed // 2:
            self._memory = self._memory.new_empty(needed // 2)
        return self._memory


PRODUCTS: dict[str, type[LinearProducts]] = {
    products.name: products for products in (LinearProducts, _Blas, _OneDnn)
}
"""The libraries by name, for float32."""

_BFLOAT16_PRODUCTS: dict[str, type[LinearProducts]] = {
    products.name: products for products in (_NativeBfloat16, _Bfloat16)
}


def available_products() -> list[str]:
    """Names of those that this installation has."""
    names = ["blas"]
    if cpu_kernels() is not None:
        names.insert(0, "native")
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if has_onednn and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        names.append("onednn")
    return names


def bfloat16_products() -> list[str]:
    """Names of the products of numbers rounded to bfloat16 that this machine has, fastest first.

    A processor that has AMX multiplies by PyTorch, which uses it; ``SMOOTHDISTILL_PRODUCTS=blas``
    says the same for any other.
    """
    names = ["bfloat16"]
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    kernels = cpu_kernels()
    if kernels is not None and kernels.has_bfloat16_products():
        is_first = not has_amx and os.environ.get(PRODUCTS_VARIABLE) != "blas"
        names.insert(0 if is_first else 1, NATIVE_BFLOAT16)
    return names


def make_products(name: str) -> LinearProducts:
    """The products of a library of `PRODUCTS`, or one of `bfloat16_products`.

    Raises:
        ValueError: If the name is unknown or the library absent.
    """
    if name in bfloat16_products():  # which `precision` asks for, and nobody by these names
        return _BFLOAT16_PRODUCTS[name]()
    require_products("products", name)
    return PRODUCTS[name]()


def require_products(argument: str, name: str) -> None:
    """Refuse a name that is not one of `available_products`.

    Raises:
        ValueError: If it is another.
    """
    if name not in available_products():
        raise ValueError(
            f"`{argument}` must be one of {', '.join(available_products())}, but is {name!r}"
            " instead."
        )
