"""The products of linear layers over a batch in columns, by each library that offers them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from smoothdistill import reference
from smoothdistill.ops import _backend, adam_ema_
from smoothdistill.ops.columns import from_columns_, plan_columns, to_columns_
from smoothdistill.ops.linear import (
    AdamNumbers,
    LinearProducts,
    available_products,
    bfloat16_products,
    make_products,
)

from .guarded import Guards, assert_within, same_bits

CORE = _backend.cpu_kernels()
LEVELS = CORE.simd_levels() if CORE is not None else []
NAN, INFINITY = float("nan"), float("inf")

# One off the lanes of each instruction set, the rows of a tile, a panel, and a strip of features;
# and the layers of MTL-net.
IN_FEATURES = (1, 2, 15, 16, 17, 63, 64, 65, 100, 512, 1216, 1300, 2600)
OUT_FEATURES = (1, 2, 3, 5, 6, 7, 12, 13, 18, 47, 48, 49, 100, 130)
BLOCKS = (1, 2, 3, 4)
COLUMNS = (16, 32, 48, 64)

UNIT = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
"""Largest relative error of rounding a number to the format."""


@dataclass(frozen=True)
class Provider:
    """The products under test, and how exactly they multiply."""

    products: LinearProducts
    unit: float
    is_native: bool


def _made(name: str) -> LinearProducts:
    """Products by name; those that leave layers of few outputs to others do these, too."""
    products = make_products(name)
    if hasattr(products, "fewest_outputs"):
        products.fewest_outputs = 0
    return products


@pytest.fixture(
    params=[*LEVELS, *(n for n in available_products() if n != "native"), *bfloat16_products()]
)
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Each library, and the native one at each instruction set."""
    if request.param not in LEVELS:
        unit = UNIT["bfloat16" if request.param in bfloat16_products() else "float32"]
        yield Provider(_made(request.param), unit, is_native=False)
        return
    assert CORE is not None
    before = CORE.simd_level()
    CORE.set_simd_level(request.param)
    yield Provider(make_products("native"), UNIT["float32"], is_native=True)
    CORE.set_simd_level(before)


@pytest.fixture(params=[*LEVELS, *(n for n in bfloat16_products() if n.startswith("native"))])
def native(request: pytest.FixtureRequest) -> Iterator[LinearProducts]:
    """The native products at each instruction set, for what only they promise."""
    if request.param not in LEVELS:
        yield _made(request.param)
        return
    assert CORE is not None
    before = CORE.simd_level()
    CORE.set_simd_level(request.param)
    yield make_products("native")
    CORE.set_simd_level(before)


@dataclass
class Inputs:
    """The tensors of a layer. The gate is a ReLU's output: half of it is 0."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    dy: Tensor
    gate: Tensor
    before: Tensor


def draw(
    in_features: int, out_features: int, blocks: int, columns: int, *, integers: bool = False
) -> Inputs:
    """Normal numbers, or whole ones so small that each sum is exact in any order."""
    generator = torch.Generator().manual_seed(100 * in_features + out_features)

    def some(*shape: int) -> Tensor:
        if integers:
            return torch.randint(-2, 3, shape, generator=generator).float()
        return torch.randn(shape, generator=generator)

    return Inputs(
        some(blocks, in_features, columns),
        some(out_features, in_features),
        some(out_features),
        some(blocks, out_features, columns),
        some(blocks, in_features, columns).relu(),
        some(blocks, in_features, columns),
    )


def cases(in_features: int) -> Iterator[tuple[int, int, int, int]]:
    """Every number of outputs; blocks and columns take turns, so that all pairs of sizes meet."""
    number = IN_FEATURES.index(in_features)
    for turn, out_features in enumerate(OUT_FEATURES):
        blocks = BLOCKS[(number + turn // 4) % 4]
        yield in_features, out_features, blocks, COLUMNS[(number + turn) % 4]


def exact(unit: float, num_terms: int, *sums_of_sizes: Tensor) -> Tensor:
    """How far a sum may be off: each of its terms and additions rounds once.

    In bfloat16 both factors round before (2 units of their product), and the sum, which is made
    in float32, rounds once more.
    """
    sizes = sum(s.double() for s in sums_of_sizes)
    assert isinstance(sizes, Tensor)
    bound = 1.01 * (num_terms + 2) * UNIT["float32"] * sizes
    return bound if unit == UNIT["float32"] else bound + 3.1 * unit * sizes


# --- parity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("integers", [False, True], ids=["normal", "integers"])
@pytest.mark.parametrize("in_features", IN_FEATURES)
def test_parity(in_features: int, integers: bool, provider: Provider) -> None:
    products, unit = provider.products, provider.unit
    for case in cases(in_features):
        inputs = draw(*case, integers=integers)
        exactly = integers and unit == UNIT["float32"]
        check_forward(products, inputs, unit, exactly)
        check_backward_input(products, inputs, unit, exactly)
        check_backward_weight(products, inputs, unit, exactly)


def check_forward(products: LinearProducts, inputs: Inputs, unit: float, exactly: bool) -> None:
    x, weight, bias = inputs.x.double(), inputs.weight.double(), inputs.bias.double()
    sizes = reference.linear(x.abs(), weight.abs(), bias.abs(), False)
    bound = 0.0 * sizes if exactly else exact(unit, weight.shape[1] + 1, sizes)
    for relu in (False, True):
        y = torch.full_like(inputs.dy, NAN)
        products.forward(inputs.x, inputs.weight, inputs.bias, relu, y)
        assert_within(y, reference.linear(x, weight, bias, relu), bound)


def check_backward_input(
    products: LinearProducts, inputs: Inputs, unit: float, exactly: bool
) -> None:
    dy, weight, before = inputs.dy.double(), inputs.weight.double(), inputs.before.double()
    sizes = reference.linear_backward_input(dy.abs(), weight.abs(), None, before.abs())
    bound = 0.0 * sizes if exactly else exact(unit, weight.shape[0] + 1, sizes)
    for gate in (None, inputs.gate):
        for accumulates in (False, True):
            dx = inputs.before.clone() if accumulates else torch.full_like(inputs.before, NAN)
            products.backward_input(inputs.dy, inputs.weight, gate, accumulates, dx)
            expected = reference.linear_backward_input(
                dy, weight, gate, before if accumulates else None
            )
            assert_within(dx, expected, bound)


def check_backward_weight(
    products: LinearProducts, inputs: Inputs, unit: float, exactly: bool
) -> None:
    dy, x = inputs.dy.double(), inputs.x.double()
    sizes = reference.linear_backward_weight(dy.abs(), x.abs())
    expected = reference.linear_backward_weight(dy, x)
    num_windows = dy.shape[0] * dy.shape[2]
    dw, db = torch.full_like(inputs.weight, NAN), torch.full_like(inputs.bias, NAN)
    products.backward_weight(inputs.dy, inputs.x, dw, db)
    units = (unit, UNIT["float32"])  # the bias' gradient is a sum of float32 numbers everywhere
    for found, right, size, each in zip((dw, db), expected, sizes, units, strict=True):
        assert_within(found, right, 0.0 * size if exactly else exact(each, num_windows, size))


@pytest.mark.parametrize("in_features", IN_FEATURES)
def test_parity_of_one_window(in_features: int, provider: Provider) -> None:
    for out_features in OUT_FEATURES:
        inputs = draw(in_features, out_features, 1, 1)
        check_forward(provider.products, inputs, provider.unit, exactly=False)


def test_the_reference_is_what_autograd_finds() -> None:
    inputs = draw(17, 6, 2, 16)
    layer = torch.nn.Linear(17, 6, dtype=torch.float64)
    weight, bias = inputs.weight.double(), inputs.bias.double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    below = inputs.before.double().requires_grad_()
    x = below.relu()
    y = layer(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(reference.linear(x, weight, bias, True), y.relu())
    dy = inputs.dy.double()
    y.backward(dy)
    dx = reference.linear_backward_input(dy, weight, x, None)
    dw, db = reference.linear_backward_weight(dy, x)
    for found, right in ((dx, below.grad), (dw, layer.weight.grad), (db, layer.bias.grad)):
        torch.testing.assert_close(found, right)


# --- Adam and EMA while the gradient is at hand -------------------------------------------------

NUMBERS = {
    "adam": AdamNumbers(1e-3, 0.9, 0.999, 1e-8, 0.0, False, 0.99),
    "penalty": AdamNumbers(1e-2, 0.8, 0.99, 1e-6, 0.1, False, 0.9),
    "adamw": AdamNumbers(1e-2, 0.8, 0.99, 1e-6, 0.1, True, 0.5),
    "no teacher": AdamNumbers(1e-3, 0.9, 0.999, 1e-8, 0.0, False, 1.0),
    "copy": AdamNumbers(1e-3, 0.0, 0.0, 1e-8, 0.0, False, 0.0),
}


def _state(weight: Tensor, num_steps: int) -> tuple[dict[str, Tensor], Tensor]:
    """Moments of a run of some steps, and a teacher."""
    generator = torch.Generator().manual_seed(weight.shape[1])
    exp_avg = torch.randn(weight.shape, generator=generator) * bool(num_steps)
    return (
        {
            "step": torch.tensor(float(num_steps)),
            "exp_avg": exp_avg,
            "exp_avg_sq": 2.0 * exp_avg**2 + bool(num_steps),
        },
        weight + 0.1 * torch.randn(weight.shape, generator=generator),
    )


@pytest.mark.parametrize("in_features", IN_FEATURES)
def test_an_update_is_a_gradient_and_a_step(in_features: int, native: LinearProducts) -> None:
    for turn, case in enumerate(cases(in_features)):
        inputs = draw(*case)
        numbers = list(NUMBERS.values())[turn % len(NUMBERS)]
        state, teacher = _state(inputs.weight, turn % 3 * 7)
        db = torch.full_like(inputs.bias, NAN)
        weight, twin, other = inputs.weight.clone(), copy.deepcopy(state), teacher.clone()
        native.update_(inputs.dy, inputs.x, weight, state, teacher, numbers, db)
        dw, gradient = torch.empty_like(weight), torch.empty_like(db)
        native.backward_weight(inputs.dy, inputs.x, dw, gradient)
        step_by_op(inputs.weight, dw, twin, other, numbers)
        assert same_bits(db, gradient)
        assert same_bits(weight, inputs.weight)
        assert same_bits(teacher, other)
        for key, value in state.items():
            assert same_bits(value, twin[key]), key


def step_by_op(
    weight: Tensor, dw: Tensor, state: dict[str, Tensor], teacher: Tensor, numbers: AdamNumbers
) -> None:
    adam_ema_(
        [weight], [dw], [state["exp_avg"]], [state["exp_avg_sq"]], [teacher],
        lr=numbers.lr, step=[state["step"]], decay=numbers.decay,
        betas=(numbers.beta1, numbers.beta2), eps=numbers.eps,
        weight_decay=numbers.weight_decay, decoupled=numbers.decoupled,
    )  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_an_update_against_the_reference(name: str, native: LinearProducts) -> None:
    numbers = NUMBERS[name]
    for case in ((65, 13, 2, 48), (1300, 7, 1, 16)):
        inputs = draw(*case, integers=True)  # an exact gradient: what is left is Adam's rounding
        state, teacher = _state(inputs.weight, 4)
        exact_state = {key: value.double() for key, value in state.items()}
        exact_weight, exact_teacher = inputs.weight.double(), teacher.double()
        old = inputs.weight.double()
        exact_db = reference.linear_adam_ema_(
            inputs.dy.double(), inputs.x.double(), exact_weight, exact_state["exp_avg"],
            exact_state["exp_avg_sq"], exact_teacher, exact_state["step"], lr=numbers.lr,
            decay=numbers.decay, betas=(numbers.beta1, numbers.beta2), eps=numbers.eps,
            weight_decay=numbers.weight_decay, decoupled=numbers.decoupled,
        )  # fmt: skip
        db = torch.empty_like(inputs.bias)
        largest = inputs.dy.shape[0] * inputs.dy.shape[2] * 4.0
        native.update_(inputs.dy, inputs.x, inputs.weight, state, teacher, numbers, db)
        assert torch.equal(db.double(), exact_db)
        assert float(state["step"]) == 5.0
        # Each moment: a handful of roundings of sums of numbers up to the gradient's size.
        for key, size in (("exp_avg", largest), ("exp_avg_sq", largest**2)):
            bound = torch.full_like(exact_weight, 8 * UNIT["float32"] * size)
            assert_within(state[key], exact_state[key], bound)
        # The weight: two roundings of its own, and some twenty of what is subtracted; its first
        # moment may have cancelled, so the size that rounds is not that of the difference.
        moved = numbers.lr * (largest / (exact_state["exp_avg_sq"].sqrt() + numbers.eps))
        bound = UNIT["float32"] * (4 * old.abs() + 20 * moved + 2 * numbers.lr)
        assert_within(inputs.weight, exact_weight, bound)
        assert_within(teacher, exact_teacher, bound + 4 * UNIT["float32"] * teacher.abs().double())


def test_an_update_is_noticed_by_autograd(native: LinearProducts) -> None:
    inputs = draw(16, 5, 1, 16)
    state, teacher = _state(inputs.weight, 0)
    weight = inputs.weight.requires_grad_()
    product = weight * weight
    versions = weight._version, teacher._version
    native.update_(
        inputs.dy, inputs.x, weight, state, teacher, NUMBERS["adam"], torch.empty_like(inputs.bias)
    )
    assert (weight._version, teacher._version) > versions
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


# --- invariants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("where", ["x", "weight", "bias", "dy", "before"])
def test_what_is_not_finite_stays_where_it_belongs(
    where: str, value: float, provider: Provider
) -> None:
    products = provider.products
    for case in ((17, 6, 2, 16), (65, 49, 1, 48), (1300, 3, 1, 64)):
        inputs = draw(*case)
        tensor = getattr(inputs, where)
        tensor.view(-1)[tensor.numel() // 2] = value
        y, dx = torch.empty_like(inputs.dy), inputs.before.clone()
        dw, db = torch.empty_like(inputs.weight), torch.empty_like(inputs.bias)
        products.forward(inputs.x, inputs.weight, inputs.bias, True, y)
        products.backward_input(inputs.dy, inputs.weight, inputs.gate, True, dx)
        products.backward_weight(inputs.dy, inputs.x, dw, db)
        expected = (
            reference.linear(inputs.x, inputs.weight, inputs.bias, True),
            reference.linear_backward_input(inputs.dy, inputs.weight, inputs.gate, inputs.before),
            *reference.linear_backward_weight(inputs.dy, inputs.x),
        )
        for found, right in zip((y, dx, dw, db), expected, strict=True):
            assert torch.equal(found.isnan(), right.isnan())
            assert torch.equal(found.isposinf(), right.isposinf())
            assert torch.equal(found.isneginf(), right.isneginf())


def test_a_closed_gate_lets_nothing_through(provider: Provider) -> None:
    inputs = draw(17, 6, 2, 16)
    inputs.dy[:] = INFINITY
    gate = torch.tensor([0.0, -0.0, -1.0, NAN]).repeat(2 * 17 * 4).view_as(inputs.gate)
    for accumulates in (False, True):
        dx = inputs.before.clone()
        provider.products.backward_input(inputs.dy, inputs.weight, gate, accumulates, dx)
        assert torch.equal(dx, torch.zeros_like(dx))


def test_nothing_to_sum_changes_nothing(provider: Provider) -> None:
    inputs = draw(65, 13, 2, 32)
    inputs.dy.zero_()
    dx = inputs.before.clone()
    provider.products.backward_input(inputs.dy, inputs.weight, None, True, dx)
    assert torch.equal(dx, inputs.before)
    dw, db = torch.empty_like(inputs.weight), torch.empty_like(inputs.bias)
    provider.products.backward_weight(inputs.dy, inputs.x, dw, db)
    assert not bool(dw.any())
    assert not bool(db.any())


def test_blocks_do_not_mix(native: LinearProducts) -> None:
    """A block alone gives the bits that it gives beside others."""
    inputs = draw(100, 49, 3, 48)
    y, dx = torch.empty_like(inputs.dy), torch.empty_like(inputs.x)
    native.forward(inputs.x, inputs.weight, inputs.bias, True, y)
    native.backward_input(inputs.dy, inputs.weight, inputs.gate, False, dx)
    for block in range(3):
        one = slice(block, block + 1)
        alone, below = torch.empty_like(y[one]), torch.empty_like(dx[one])
        native.forward(inputs.x[one], inputs.weight, inputs.bias, True, alone)
        native.backward_input(inputs.dy[one], inputs.weight, inputs.gate[one], False, below)
        assert same_bits(alone, y[one])
        assert same_bits(below, dx[one])


@pytest.mark.parametrize("case", [(1216, 1024, 1, 64), (1024, 512, 4, 64), (512, 18, 1, 16)])
def test_threads_do_not_change_a_bit(
    case: tuple[int, int, int, int], native: LinearProducts
) -> None:
    results = []
    for num_threads in (1, 2):
        inputs = draw(*case)
        state, teacher = _state(inputs.weight, 3)
        y, dx = torch.empty_like(inputs.dy), torch.empty_like(inputs.x)
        dw, db = torch.empty_like(inputs.weight), torch.empty_like(inputs.bias)
        updated = torch.empty_like(db)
        try:
            torch.set_num_threads(num_threads)
            native.forward(inputs.x, inputs.weight, inputs.bias, True, y)
            native.backward_input(inputs.dy, inputs.weight, inputs.gate, False, dx)
            native.backward_weight(inputs.dy, inputs.x, dw, db)
            native.update_(
                inputs.dy, inputs.x, inputs.weight, state, teacher, NUMBERS["adamw"], updated
            )
        finally:
            torch.set_num_threads(1)
        results.append([y, dx, dw, db, inputs.weight, teacher, updated, *state.values()])
    for one, two in zip(*results, strict=True):
        assert same_bits(one, two)


@pytest.mark.parametrize("case", [(1, 1, 1, 16), (17, 13, 2, 48), (65, 7, 1, 32), (1300, 3, 1, 16)])
def test_results_are_written_and_nothing_else(
    case: tuple[int, int, int, int], native: LinearProducts
) -> None:
    """Also from memory that begins off every vector's alignment."""
    plain, guards = draw(*case), Guards()
    placed = Inputs(**{name: guards.place(tensor) for name, tensor in vars(plain).items()})
    guards.freeze(vars(placed).values())
    results = []
    for inputs, place in ((plain, torch.clone), (placed, guards.place)):
        y, dx = place(torch.full_like(inputs.dy, NAN)), place(inputs.before)
        dw, db = (place(torch.full_like(t, NAN)) for t in (inputs.weight, inputs.bias))
        updated = place(torch.full_like(inputs.bias, NAN))
        native.forward(inputs.x, inputs.weight, inputs.bias, True, y)
        native.backward_input(inputs.dy, inputs.weight, inputs.gate, True, dx)
        native.backward_weight(inputs.dy, inputs.x, dw, db)
        state, teacher = _state(plain.weight, 3)
        state = {key: place(value) for key, value in state.items()}
        weight, teacher = place(inputs.weight), place(teacher)
        native.update_(inputs.dy, inputs.x, weight, state, teacher, NUMBERS["adamw"], updated)
        results.append([y, dx, dw, db, updated, weight, teacher, *state.values()])
    guards.check()
    for one, other in zip(*results, strict=True):
        assert same_bits(one, other)


@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 200, 256, 1000])
def test_a_batch_goes_into_columns_and_comes_back(batch: int) -> None:
    if CORE is None:
        pytest.skip("needs the compiled kernels")
    layout = plan_columns(batch)
    assert layout.columns % 16 == 0
    assert layout.columns <= 64
    assert batch <= layout.blocks * layout.columns < batch + 16 * layout.blocks
    rows = torch.arange(batch * 6.0).view(batch, 2, 3) + 1.0
    columns = torch.full((layout.blocks, 2, 3, layout.columns), NAN)
    to_columns_(rows, columns)
    flat = columns.permute(0, 3, 1, 2).reshape(-1, 2, 3)
    assert torch.equal(flat[:batch], rows)
    assert not bool(flat[batch:].any())
    back = torch.full_like(rows, NAN)
    from_columns_(columns, back)
    assert torch.equal(back, rows)


# --- bfloat16's own -----------------------------------------------------------------------------


def test_a_rounded_weight_is_remembered_until_it_changes() -> None:
    products, inputs = make_products("bfloat16"), draw(17, 6, 1, 16)
    weight = inputs.weight
    results = []
    for change in (None, lambda: weight.mul_(2.0), lambda: setattr(weight, "data", -weight.data)):
        if change is not None:
            change()
        y = torch.empty_like(inputs.dy)
        products.forward(inputs.x, weight, torch.zeros_like(inputs.bias), False, y)
        fresh = torch.empty_like(y)
        make_products("bfloat16").forward(
            inputs.x, weight, torch.zeros_like(inputs.bias), False, fresh
        )
        assert same_bits(y, fresh)
        results.append(y)
    assert torch.equal(results[1], 2.0 * results[0])
    assert torch.equal(results[2], -results[1])
