"""The native products of numbers rounded to bfloat16, against exact sums of what PyTorch rounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from smoothdistill import reference
from smoothdistill.ops import _backend
from smoothdistill.ops.linear import LinearProducts, bfloat16_products, make_products
from smoothdistill.ops.product_choice import PRODUCTS_VARIABLE

from .guarded import Guards, assert_within, same_bits

CORE = _backend.cpu_kernels()
NATIVE = "native bfloat16"
NAN = float("nan")
UNIT = 2.0**-24

pytestmark = pytest.mark.skipif(
    NATIVE not in bfloat16_products(), reason="needs the kernels and a processor with AVX512_BF16"
)

# (in, out, blocks, columns): odd and even features and outputs, one off the lanes, the rows of a
# tile, a stretch and a strip; and the layers of MTL-net.
LAYERS = [
    (1, 1, 1, 16), (2, 3, 2, 32), (15, 5, 1, 48), (17, 6, 3, 64), (31, 7, 1, 16), (33, 13, 2, 48),
    (63, 41, 1, 64), (65, 40, 1, 32), (192, 79, 1, 64), (193, 81, 2, 16), (1280, 6, 1, 64),
    (1281, 9, 1, 32), (2601, 8, 1, 16), (1216, 1024, 1, 64), (512, 18, 4, 64),
]  # fmt: skip
# (in, time, out, kernel, blocks, columns)
CONVOLUTIONS = [
    (1, 2, 1, 1, 1, 16), (1, 10, 2, 9, 2, 16), (2, 11, 3, 2, 1, 32), (3, 100, 32, 9, 1, 64),
    (5, 23, 4, 8, 3, 48), (32, 46, 64, 9, 1, 64), (7, 16, 9, 16, 1, 32), (6, 20, 5, 17, 1, 64),
]  # fmt: skip


def native() -> LinearProducts:
    """The products, also of layers that have few outputs."""
    products = make_products(NATIVE)
    products.fewest_outputs = 0  # type: ignore[attr-defined]
    return products


def rounded(tensor: Tensor) -> Tensor:
    """As PyTorch rounds it, in float64."""
    return tensor.bfloat16().double()


def draw(*shapes: tuple[int, ...]) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(sum(shapes[0]))
    for shape in shapes:
        yield torch.randn(shape, generator=generator)


def bound_of(num_terms: int, sizes: Tensor) -> Tensor:
    """How far a float32 sum of exact products may be off; the sizes are those of its terms."""
    return 1.01 * (num_terms + 2) * UNIT * sizes


@pytest.mark.parametrize("layer", LAYERS)
def test_linear(layer: tuple[int, int, int, int]) -> None:
    size, out, blocks, columns = layer
    x, weight, bias, dy, gate, before = draw(
        (blocks, size, columns), (out, size), (out,), (blocks, out, columns),
        (blocks, size, columns), (blocks, size, columns),
    )  # fmt: skip
    products = native()
    xs, weights, dys = rounded(x), rounded(weight), rounded(dy)
    biases, earlier = bias.double(), before.double()
    y = torch.full_like(dy, NAN)
    for relu in (False, True):
        products.forward(x, weight, bias, relu, y)
        sizes = reference.linear(xs.abs(), weights.abs(), biases.abs(), False)
        right = reference.linear(xs, weights, biases, relu)
        assert_within(y, right, bound_of(size + 1, sizes))
    for accumulates in (False, True):
        dx = before.clone() if accumulates else torch.full_like(before, NAN)
        products.backward_input(dy, weight, gate, accumulates, dx)
        sizes = reference.linear_backward_input(dys.abs(), weights.abs(), None, earlier.abs())
        right = reference.linear_backward_input(
            dys, weights, gate, earlier if accumulates else None
        )
        assert_within(dx, right, bound_of(out + 1, sizes))
    dw, db = torch.full_like(weight, NAN), torch.full_like(bias, NAN)
    products.backward_weight(dy, x, dw, db)
    right, _ = reference.linear_backward_weight(dys, xs)
    sizes, _ = reference.linear_backward_weight(dys.abs(), xs.abs())
    assert_within(dw, right, bound_of(blocks * columns, sizes))
    _, right = reference.linear_backward_weight(dy.double(), x.double())  # of all that dy holds
    assert_within(db, right, bound_of(blocks * columns, dy.double().abs().sum((0, 2))))


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_conv_pool(shape: tuple[int, int, int, int, int, int]) -> None:
    size, time, out, kernel, blocks, columns = shape
    x, weight, bias = draw((blocks, size, time, columns), (out, size, kernel), (out,))
    pooled = (time - kernel + 1) // 2
    y = torch.full((blocks, out, pooled, columns), NAN)
    choice = torch.full_like(y, 9, dtype=torch.uint8)
    products = make_products(NATIVE)
    products.conv_pool(x, weight, bias, y, choice)
    alone = torch.full_like(y, NAN)
    products.conv_pool(x, weight, bias, alone, None)  # as the teacher's
    assert same_bits(alone, y)

    def in_windows(tensor: Tensor) -> Tensor:
        return tensor.movedim(-1, 1).flatten(0, 1)

    signals, weights = rounded(in_windows(x)), rounded(weight)
    sums = torch.nn.functional.conv1d(signals, weights, bias.double())[..., : 2 * pooled]
    sizes = torch.nn.functional.conv1d(signals.abs(), weights.abs(), bias.double().abs())
    sums, sizes = (t[..., : 2 * pooled].unflatten(-1, (pooled, 2)) for t in (sums, sizes))
    bound = bound_of(size * kernel + 1, sizes.amax(-1))
    assert_within(in_windows(y), sums.amax(-1).relu(), bound)
    assert torch.equal(choice == 2, y == 0)
    # Where the sums lie further apart than they may be off, the choice is certain.
    is_open = sums.amax(-1) > bound
    certain = is_open & ((sums[..., 1] - sums[..., 0]).abs() > 2 * bound)
    expected = (sums[..., 1] > sums[..., 0]).to(torch.uint8)
    assert torch.equal(in_windows(choice)[certain], expected[certain])
    assert int(certain.sum()) >= 0.9 * int(is_open.sum())


def test_few_outputs_stay_float32() -> None:
    x, weight, bias, dy = draw((2, 33, 16), (18, 33), (18,), (2, 18, 16))
    results = []
    for products in (make_products(NATIVE), make_products("native")):
        y, dx = torch.empty_like(dy), torch.empty_like(x)
        dw, db = torch.empty_like(weight), torch.empty_like(bias)
        products.forward(x, weight, bias, False, y)
        products.backward_input(dy, weight, None, False, dx)
        products.backward_weight(dy, x, dw, db)
        results.append((y, dx, dw, db))
    for one, other in zip(*results, strict=True):
        assert same_bits(one, other)


def test_half_way_is_rounded_to_even() -> None:
    """1 + 2^-8 lies half way to 1 + 2^-7, and 1 + 3 * 2^-8 half way to 1 + 2^-6."""
    x = torch.zeros(1, 2, 16)
    x[0, 0], x[0, 1] = 1 + 2.0**-8, 1 + 3 * 2.0**-8
    y = torch.empty(1, 2, 16)
    native().forward(x, torch.eye(2), torch.zeros(2), False, y)
    assert y[0, :, 0].tolist() == [1.0, 1 + 2.0**-6]


def test_results_are_written_and_nothing_else() -> None:
    """Also from memory that begins off every vector's alignment."""
    guards = Guards()
    plain = list(draw((2, 3, 21, 48), (7, 3, 4), (7,)))
    placed = [guards.place(tensor) for tensor in plain]
    guards.freeze(placed)
    results = []
    for tensors, place in ((plain, torch.clone), (placed, guards.place)):
        y = place(torch.full((2, 7, 9, 48), NAN))
        choice = place(torch.full((2, 7, 9, 48), 9, dtype=torch.uint8))
        make_products(NATIVE).conv_pool(*tensors, y, choice)
        results.append((y, choice))
    guards.check()
    assert same_bits(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_lower_instruction_set_and_the_variable_take_pytorchs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert CORE is not None
    before = CORE.simd_level()
    try:
        CORE.set_simd_level("avx2")
        assert bfloat16_products() == ["bfloat16"]
        with pytest.raises(ValueError, match="but is 'native bfloat16' instead"):
            make_products(NATIVE)
    finally:
        CORE.set_simd_level(before)
    assert set(bfloat16_products()) == {"bfloat16", NATIVE}
    monkeypatch.setenv(PRODUCTS_VARIABLE, "blas")
    assert bfloat16_products()[0] == "bfloat16"


X, W, B, Y = torch.ones(2, 17, 32), torch.ones(5, 17), torch.ones(5), torch.ones(2, 5, 32)
SIGNALS, KERNELS = torch.ones(1, 3, 20, 16), torch.ones(4, 3, 5)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "sentence"),
    [
        ("linear_forward", (X, W, B, True, Y, torch.empty(575, dtype=torch.int32)), ValueError,
         r"`memory` must hold at least 576 elements, but holds 575 instead"),
        ("linear_forward", (X, W, B, True, Y, torch.empty(576)), TypeError,
         r"`memory` must be int32, but is float32 instead"),
        ("linear_forward", (X[:1, :, :1].clone(), W, B, True, Y[:1, :, :1].clone(), None),
         ValueError, r"`columns` must be a multiple of 16, but is 1 instead"),
        ("linear_backward_input",
         (Y, W, None, False, X.clone(), torch.empty(191, dtype=torch.int32)), ValueError,
         r"`memory` must hold at least 192 elements, but holds 191 instead"),
        ("linear_backward_weight", (Y, X, torch.empty(9, dtype=torch.int32), W.clone(), B.clone()),
         ValueError, r"`panels` must hold at least 2208 elements, but holds 9 instead"),
        ("conv_pool_columns", (SIGNALS, KERNELS, B[:4].clone(), torch.ones(1, 4, 8, 16), None,
         torch.empty(679, dtype=torch.int32)), ValueError,
         r"`memory` must hold at least 680 elements, but holds 679 instead"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    name: str, arguments: tuple[object, ...], error: type[Exception], sentence: str
) -> None:
    before = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    with pytest.raises(error, match=sentence):
        getattr(CORE, f"{name}_bfloat16")(*arguments)
    for one, other in zip(before[:-1], arguments[:-1], strict=True):
        assert not isinstance(one, Tensor) or same_bits(one, other)
