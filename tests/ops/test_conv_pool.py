"""`conv_pool` against its reference, its invariants, the compiler, and bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from smoothdistill import reference
from smoothdistill.ops import _backend, conv_pool

from . import conv_pool_checks as checks
from .conv_pool_checks import VARIANTS, Case
from .guarded import Guards, assert_within, same_bits

EPS = torch.finfo(torch.float32).eps
VALUES = ("normal", "integers")
by_hypothesis = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("name", VARIANTS)
def test_parity(name: str, values: str, device: torch.device) -> None:
    checks.check_case(conv_pool, replace(VARIANTS[name], values=values, device=device))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("batch", checks.BATCHES)
def test_parity_over_shapes(batch: int, values: str, device: torch.device) -> None:
    for case in checks.shapes_of(batch):
        checks.check_case(conv_pool, replace(case, values=values, device=device))


@pytest.mark.parametrize("time", [*range(10, 44), 99, 100, 199, 200])
def test_parity_over_lengths(time: int, device: torch.device) -> None:
    for batch in (1, 5, 16):
        checks.check_case(conv_pool, Case(batch, time=time, values="integers", device=device))


def test_parity_in_float64(device: torch.device) -> None:
    for values in VALUES:
        checks.check_case(conv_pool, Case(dtype=torch.float64, values=values, device=device))


@pytest.mark.parametrize(
    "check",
    [
        checks.check_ties_and_zeros,
        checks.check_special_values,
        checks.check_gradient_of_nan,
        checks.check_closed,
    ],
)
def test_special_values(check: Any, device: torch.device) -> None:
    check(conv_pool, device)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("batch", [1, 2, 17, 65])
def test_the_choice_is_exact_where_rounding_cannot_change_it(
    batch: int, values: str, device: torch.device
) -> None:
    num_certain = num_uncertain = 0
    for case in checks.shapes_of(batch):
        case = replace(case, values=values, device=device)
        inputs = case.inputs()
        _, expected = reference.conv_pool(*(t.double() for t in inputs.leaves()))
        pooled, choice = torch.ops.smoothdistill.conv_pool(*inputs.leaves())
        assert choice.dtype is torch.uint8
        assert choice.shape == pooled.shape
        certain = ~checks.is_uncertain(case, inputs)
        assert torch.equal(choice[certain], expected[certain])
        # Everywhere: an output is 0 exactly where no gradient passes.
        assert torch.equal(choice == 2, pooled == 0)
        num_certain += int(certain.sum())
        num_uncertain += int((~certain).sum())
    assert num_uncertain <= 0.01 * num_certain


def test_a_nan_is_chosen(device: torch.device) -> None:
    nan = float("nan")
    signals = torch.tensor([[[nan, 1.0, 1.0, nan, nan, nan, nan, -1.0, -1.0, nan]]]).to(device)
    weight, bias = torch.ones(1, 1, 1, device=device), torch.zeros(1, device=device)
    pooled, choice = torch.ops.smoothdistill.conv_pool(signals, weight, bias)
    assert bool(pooled.isnan().all())
    places = choice[0, 0].tolist()
    assert places[2] in (0, 1)  # both are NaN
    assert places[:2] + places[3:] == [0, 1, 0, 1]


# --- invariants ---------------------------------------------------------------------------------

shapes = st.builds(
    Case,
    batch=st.integers(1, 70),
    in_channels=st.integers(1, 5),
    time=st.integers(10, 30),
    out_channels=st.integers(1, 8),
    kernel=st.integers(1, 9),
)


@by_hypothesis
@given(case=shapes, scale=st.floats(2.0**-20, 2.0**20))
def test_without_a_bias_a_positive_factor_goes_through(
    device: torch.device, case: Case, scale: float
) -> None:
    inputs = replace(case, device=device).inputs()
    inputs.bias.zero_()
    plain = conv_pool(*inputs.leaves())
    scaled = conv_pool(scale * inputs.signals, inputs.weight, inputs.bias)
    # Both sums are off by the bound, and the scaled signals by an eps more.
    bound = 2.0 * scale * checks.forward_bound(case, inputs)
    assert_within(scaled, scale * plain.double(), bound)


@by_hypothesis
@given(case=shapes, seed=st.integers(0, 2**20))
def test_the_rows_of_a_batch_may_come_in_any_order(
    device: torch.device, case: Case, seed: int
) -> None:
    inputs = replace(case, device=device).inputs()
    order = torch.randperm(case.batch, generator=torch.Generator().manual_seed(seed)).to(device)
    results = []
    for rows in (torch.arange(case.batch, device=device), order):
        leaves = [inputs.signals[rows].clone(), inputs.weight.clone(), inputs.bias.clone()]
        pooled = conv_pool(*(leaf.requires_grad_() for leaf in leaves))
        pooled.backward(inputs.grad[rows])
        results.append([pooled.detach(), *(leaf.grad for leaf in leaves)])
    (first, *of_first), (second, *of_second) = results
    assert same_bits(second, first[order])
    assert same_bits(of_second[0], of_first[0][order])
    # The other two are sums over the batch, in another order.
    num_terms = case.batch * case.pooled + 2
    sizes = inputs.grad.abs().sum((0, 2)).double()
    assert_within(of_second[2], of_first[2], 2.0 * num_terms * EPS * sizes)
    largest = inputs.signals.abs().amax().double()
    bound = (2.0 * num_terms * EPS * sizes * largest)[:, None, None].expand_as(of_first[1])
    assert_within(of_second[1], of_first[1], bound)


@by_hypothesis
@given(case=shapes)
def test_a_batch_equals_its_windows_one_by_one(device: torch.device, case: Case) -> None:
    inputs = replace(case, device=device).inputs()
    whole = conv_pool(*inputs.leaves())
    single = [conv_pool(row[None], inputs.weight, inputs.bias) for row in inputs.signals]
    assert_within(whole, torch.cat(single), 2.0 * checks.forward_bound(case, inputs))


# --- what is taken and what comes back ----------------------------------------------------------


def _call(
    signals: Tensor, weight: Tensor, bias: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, and gradients of fresh leaves that keep the strides of what is given."""
    leaves = [t.detach().requires_grad_() for t in (signals, weight, bias)]
    pooled = conv_pool(*leaves)
    gradients = torch.autograd.grad(pooled, leaves, grad)
    return pooled.detach(), *gradients


def test_views_are_taken(device: torch.device) -> None:
    inputs = Case(17, 3, 21, 6, 4, device=device).inputs()
    plain = _call(*inputs.leaves(), inputs.grad)
    across = inputs.signals.transpose(1, 2).contiguous().transpose(1, 2)
    every_other = torch.stack([inputs.weight, inputs.weight], dim=3)[..., 0]
    spaced = torch.stack([inputs.bias, inputs.bias], dim=1)[:, 0]
    turned = inputs.grad.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    views = across, every_other, spaced, turned
    assert not any(t.is_contiguous() for t in views)
    for one, other in zip(_call(*views), plain, strict=True):
        assert same_bits(one, other)


def test_expanded_tensors_are_taken(device: torch.device) -> None:
    inputs = Case(4, 3, 21, 6, 4, device=device).inputs()
    one = inputs.signals[:1], inputs.weight, inputs.bias[:1]
    grad = torch.ones(1, 1, 1, device=device).expand_as(inputs.grad)  # what `sum` sends back
    expanded = _call(one[0].expand(4, -1, -1), one[1], one[2].expand(6), grad)
    copied = _call(one[0].repeat(4, 1, 1), one[1], one[2].repeat(6), grad.contiguous())
    for a, b in zip(expanded, copied, strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (1, 2), (0, 2), (0, 1)])
def test_only_what_needs_a_gradient_gets_one(needed: tuple[int, ...], device: torch.device) -> None:
    inputs = Case(17, device=device).inputs()
    _, *expected = _call(*inputs.leaves(), inputs.grad)
    leaves = [t.detach().requires_grad_(i in needed) for i, t in enumerate(inputs.leaves())]
    conv_pool(*leaves).backward(inputs.grad)
    for number, leaf in enumerate(leaves):
        if number in needed:
            assert leaf.grad is not None
            assert same_bits(leaf.grad, expected[number])
        else:
            assert leaf.grad is None


def test_without_gradients_the_answer_is_the_same(device: torch.device) -> None:
    for case in (Case(device=device), Case(65, device=device)):
        inputs = case.inputs()
        plain = conv_pool(*inputs.leaves())
        leaves = [t.clone().requires_grad_() for t in inputs.leaves()]
        with torch.no_grad():
            quiet = conv_pool(*leaves)
        assert not plain.requires_grad
        assert not quiet.requires_grad
        joined = conv_pool(*leaves)
        assert joined.requires_grad
        assert same_bits(quiet, plain)
        assert same_bits(joined.detach(), plain)


def test_the_graph_may_be_used_twice(device: torch.device) -> None:
    inputs = Case(17, device=device).inputs()
    leaves = [t.requires_grad_() for t in inputs.leaves()]
    pooled = conv_pool(*leaves)
    first = torch.autograd.grad(pooled, leaves, inputs.grad, retain_graph=True)
    second = torch.autograd.grad(pooled, leaves, inputs.grad)
    for one, other in zip(first, second, strict=True):
        assert same_bits(one, other)


def test_an_empty_batch_is_taken(device: torch.device) -> None:
    inputs = Case(2, 3, 21, 6, 4, device=device).inputs()
    leaves = [t.requires_grad_() for t in (inputs.signals[:0].clone(), *inputs.leaves()[1:])]
    pooled = conv_pool(*leaves)
    assert pooled.shape == (0, 6, 9)
    pooled.backward(inputs.grad[:0])
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad.shape == leaf.shape
        assert not bool(leaf.grad.any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precisions_go_through_the_reference(dtype: torch.dtype, device: torch.device) -> None:
    # Small whole numbers: PyTorch's own sums of half precision are in its hands.
    case = Case(4, 3, 21, 6, 4, values="integers", dtype=dtype, device=device)
    checks.check_case(conv_pool, case)


def test_a_changed_input_is_noticed(device: torch.device) -> None:
    inputs = Case(device=device).inputs()
    weight = inputs.weight.requires_grad_()
    pooled = conv_pool(inputs.signals, weight, inputs.bias)
    inputs.signals.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pooled.backward(inputs.grad)


def test_two_layers_follow_each_other(device: torch.device) -> None:
    """The trunk of MTL-net in float32, for a reader who trusts no bounds."""
    first = Case(17, 3, 100, 32, 9, device=device).inputs()
    second = Case(17, 32, 46, 64, 9, device=device).inputs()
    results = []
    for layer in (conv_pool, _plain):
        leaves = [t.clone().requires_grad_() for t in (*first.leaves(), *second.leaves()[1:])]
        middle = layer(*leaves[:3])
        output = layer(0.1 * middle, *leaves[3:])
        output.backward(0.01 * second.grad)
        results.append([output.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def _plain(signals: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.max_pool1d(functional.conv1d(signals, weight, bias), 2).relu()


@pytest.mark.usefixtures("native")  # PyTorch promises less
@pytest.mark.parametrize("case", [Case(300, 3, 100, 32, 9), Case(130, 32, 46, 64, 9), Case(1)])
def test_threads_do_not_change_a_bit(case: Case) -> None:
    inputs = case.inputs()
    results = []
    for num_threads in (1, 2):
        try:
            torch.set_num_threads(num_threads)
            results.append(_call(*inputs.leaves(), inputs.grad))
        finally:
            torch.set_num_threads(1)
    for one, two in zip(*results, strict=True):
        assert same_bits(one, two)


@pytest.mark.parametrize("batch", [1, 16, 17, 65])
def test_the_kernels_write_their_results_and_nothing_else(batch: int) -> None:
    if _backend.cpu_module is None:
        pytest.skip("needs the compiled kernels")
    case = Case(batch, 3, 22, 5, 4)
    inputs = case.inputs()
    expected, choice = torch.ops.smoothdistill.conv_pool(*inputs.leaves())
    gradients = torch.ops.smoothdistill.conv_pool_backward(
        inputs.grad, choice, inputs.signals, inputs.weight, True
    )
    guards = Guards()
    signals, weight, bias, grad = (guards.place(t) for t in (*inputs.leaves(), inputs.grad))
    guards.freeze([signals, weight, bias, grad])
    nan = torch.full_like(expected, float("nan"))
    outputs = [guards.place(nan), guards.place(torch.full_like(choice, 7)), guards.place(nan)]
    _backend.cpu_module.conv_pool(signals, weight, bias, outputs[0], outputs[1])
    _backend.cpu_module.conv_pool(signals, weight, bias, outputs[2], None)
    guards.check()
    for output, right in zip(outputs, (expected, choice, expected), strict=True):
        assert same_bits(output, right)
    guards.freeze([outputs[1]])
    for needs_signals in (True, False):
        results = [guards.place(torch.full_like(t, float("nan"))) for t in gradients]
        first = results[0] if needs_signals else None
        _backend.cpu_module.conv_pool_backward(
            grad, outputs[1], signals, weight, first, *results[1:]
        )
        guards.check()
        for result, right in zip(
            results[not needs_signals :], gradients[not needs_signals :], strict=True
        ):
            assert same_bits(result, right)


# --- gradients, registration, compiler ----------------------------------------------------------


@pytest.mark.parametrize(
    "case", [Case(2, 3, 12, 4, 3), Case(3, 1, 13, 2, 4), Case(1, 2, 2, 2, 1), Case(1, 1, 11, 2, 9)]
)
def test_gradcheck(case: Case) -> None:
    inputs = replace(case, dtype=torch.float64).inputs()
    leaves = [t.requires_grad_() for t in inputs.leaves()]
    # A factor, lest a backward that ignores its input pass.
    assert torch.autograd.gradcheck(lambda *given: 1.7 * conv_pool(*given), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", [Case(), Case(17, 2, 21, 3, 4), Case(1, 1, 2, 1, 1)])
def test_opcheck(case: Case, dtype: torch.dtype) -> None:
    inputs = replace(case, dtype=dtype).inputs()
    leaves = [t.requires_grad_() for t in inputs.leaves()]
    torch.library.opcheck(torch.ops.smoothdistill.conv_pool.default, leaves)
    with torch.no_grad():
        _, choice = torch.ops.smoothdistill.conv_pool(*leaves)
    for needs_signals in (True, False):
        arguments = (
            inputs.grad,
            choice,
            inputs.signals.detach(),
            inputs.weight.detach(),
            needs_signals,
        )
        torch.library.opcheck(torch.ops.smoothdistill.conv_pool_backward.default, arguments)


def _compiled_equals_eager(backend: str) -> None:
    def layers(signals: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return 0.5 * conv_pool(2.0 * signals, weight, bias)

    torch.compiler.reset()
    for case in (Case(17), Case(17, 1, 33, 8, 4)):
        inputs = case.inputs()
        results = []
        for function in (layers, torch.compile(layers, fullgraph=True, backend=backend)):
            leaves = [t.clone().requires_grad_() for t in inputs.leaves()]
            pooled = function(*leaves)
            pooled.backward(inputs.grad)
            with torch.no_grad():
                quiet = function(*leaves)
            results.append([pooled.detach(), quiet, *(leaf.grad for leaf in leaves)])
        for eager, compiled in zip(*results, strict=True):
            assert same_bits(compiled, eager)


def test_compiles_into_one_graph() -> None:
    _compiled_equals_eager("aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_compiles_with_inductor() -> None:
    _compiled_equals_eager("inductor")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_second_derivative_is_refused(dtype: torch.dtype, device: torch.device) -> None:
    inputs = Case(dtype=dtype, device=device).inputs()
    leaves = [t.requires_grad_() for t in inputs.leaves()]
    refusal = r"`create_graph` must be False for conv_pool, but is True instead"
    for output in (conv_pool(*leaves), torch.ops.smoothdistill.conv_pool(*leaves)[0]):
        with pytest.raises(NotImplementedError, match=refusal):
            torch.autograd.grad(output.sum(), leaves, create_graph=True)


# --- bad input ----------------------------------------------------------------------------------


def _fake(*shape: int) -> Tensor:
    with FakeTensorMode():
        return torch.zeros(shape)


SIGNALS, WEIGHT, BIAS = torch.zeros(2, 3, 20), torch.zeros(5, 3, 9), torch.zeros(5)
OF_SIGNALS = r"`signals` must have the shape \[batch, 3, time\] with at least 10 samples of time,"
OF_WEIGHT = r"`weight` must have the shape \[out_channels, in_channels, kernel\] without a 0,"
BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "list": ({"signals": [1.0]}, TypeError, r"must be .*tensor.*, but is (given )?list"),
    "integers": (
        {"signals": SIGNALS.int()},
        TypeError,
        r"`signals` must be a floating-point tensor, but is torch.int32",
    ),
    "weight type": (
        {"weight": WEIGHT.double()},
        TypeError,
        r"`weight` must be torch.float32 like `signals`, but is torch.float64",
    ),
    "bias type": (
        {"bias": BIAS.bfloat16()},
        TypeError,
        r"`bias` must be torch.float32 like `signals`, but is torch.bfloat16",
    ),
    "one window": (
        {"signals": SIGNALS[0]},
        ValueError,
        OF_SIGNALS + r" but has the shape \[3, 20\]",
    ),
    "other channels": (
        {"signals": SIGNALS[:, :2]},
        ValueError,
        OF_SIGNALS + r" but has the shape \[2, 2, 20\]",
    ),
    "too short": (
        {"signals": SIGNALS[..., :9]},
        ValueError,
        OF_SIGNALS + r" but has the shape \[2, 3, 9\]",
    ),
    "one filter": (
        {"weight": WEIGHT[0]},
        ValueError,
        OF_WEIGHT + r" but has the shape \[3, 9\]",
    ),
    "no filter": (
        {"weight": WEIGHT[:0]},
        ValueError,
        OF_WEIGHT + r" but has the shape \[0, 3, 9\]",
    ),
    "no tap": (
        {"weight": WEIGHT[..., :0]},
        ValueError,
        OF_WEIGHT + r" but has the shape \[5, 3, 0\]",
    ),
    "short bias": (
        {"bias": BIAS[:4]},
        ValueError,
        r"`bias` must have the shape \[5\], but has the shape \[4\]",
    ),
    "matrix bias": (
        {"bias": BIAS[None]},
        ValueError,
        r"`bias` must have the shape \[5\], but has the shape \[1, 5\]",
    ),
    "weight elsewhere": (
        {"weight": WEIGHT.to("meta")},
        ValueError,
        r"`weight` must be on cpu like `signals`, but is on meta",
    ),
    "bias elsewhere": (
        {"bias": BIAS.to("meta")},
        ValueError,
        r"`bias` must be on cpu like `signals`, but is on meta",
    ),
    "meta": (
        {
            name: t.to("meta")
            for name, t in (("signals", SIGNALS), ("weight", WEIGHT), ("bias", BIAS))
        },
        TypeError,
        r"`conv_pool` must be given tensors with memory, but is given a meta tensor",
    ),
    "fake": (
        {"signals": _fake(2, 3, 20)},
        TypeError,
        r"`signals` must be a tensor with memory, but is a fake tensor",
    ),
    "fake weight": (
        {"weight": _fake(5, 3, 9)},
        TypeError,
        r"`weight` must be a tensor with memory, but is a fake tensor",
    ),
    "sparse": ({"signals": SIGNALS.to_sparse()}, TypeError, r"`signals` must be a dense tensor"),
    "sparse weight": ({"weight": WEIGHT.to_sparse()}, TypeError, r"`weight` must be a dense"),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_named_in_one_sentence(name: str) -> None:
    changes, error, sentence = BAD_CALLS[name]
    call = {"signals": SIGNALS, "weight": WEIGHT, "bias": BIAS}
    with pytest.raises(error, match=sentence) as caught:
        conv_pool(**{**call, **changes})
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("instead.")


def test_torch_func_is_refused_in_words() -> None:
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(lambda bias: conv_pool(SIGNALS, WEIGHT, bias).sum())(BIAS)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_autocast_changes_nothing(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOOTHDISTILL_BACKEND", backend)
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        given = [torch.randn(*shape, requires_grad=True) for shape in ((2, 3, 20), (4, 3, 5), (4,))]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            pooled = conv_pool(*given)
            gradients = torch.autograd.grad(pooled.square().sum(), given)
        found.append((pooled.detach(), *gradients))
    for one, other in zip(*found, strict=True):
        assert one.dtype is torch.float32
        assert torch.equal(one, other)
