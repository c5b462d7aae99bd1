"""`MTLNet.features` by our kernels, as one operation of autograd, against its layers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smoothdistill.models import MTLNet, mtl_net, mtl_net_gradient
from smoothdistill.models.mtl_net_columns import weights_of
from smoothdistill.ops import _backend
from smoothdistill.ops.linear import NATIVE_BFLOAT16, bfloat16_products

CORE = _backend.cpu_kernels()

pytestmark = pytest.mark.skipif(CORE is None, reason="needs the compiled kernels")

Gradients = list[Tensor | None]


def make_model(channels: int = 3, samples: int = 40, layout: str = "axes") -> MTLNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MTLNet({"activity": 6, "placement": 3}, channels, samples, layout)  # type: ignore[arg-type]


def make_signals(batch: int, channels: int = 3, samples: int = 40, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * batch + seed)
    return torch.randn(batch, channels, samples, generator=generator)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch size of every call of the kernels."""
    seen: list[int] = []

    def features(model: MTLNet, signals: Tensor) -> Tensor:
        seen.append(len(signals))
        return mtl_net_gradient.features_in_columns(model, signals)

    monkeypatch.setattr(mtl_net, "features_in_columns", features)
    return seen


def total_of(features: Tensor) -> Tensor:
    """A loss whose gradient is another for each feature, and not 0 where the feature is."""
    return (features.sin() * torch.linspace(-1.0, 1.0, features.shape[1])).sum()


def trunk_of(model: MTLNet) -> list[Tensor]:
    return [tensor for pair in weights_of(model).values() for tensor in pair]


def gradients(model: MTLNet, signals: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total_of(model.features(signals)), trunk_of(model)))


def gradients_by_layers(model: MTLNet, signals: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total_of(model.stages(signals)[-1]), trunk_of(model)))


def distances(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Of each tensor, as a share of its size."""
    return [
        float((ours.double() - truth).norm() / truth.norm())
        for ours, truth in zip(found, exact, strict=True)
    ]


# Sums of at most some thousand terms over four layers, whose roundings are of either sign: 1e-5 of
# a tensor's size is well above them, and below what a ReLU does that turns where a sum is nearly
# zero: up to some hundredths in a small batch. Three of four batches may meet such a sum.
ROUNDING, TURNED = 1e-5, 0.1
NUM_BATCHES = 4


def assert_exact_but_for_rounding(
    model: MTLNet, channels: int, samples: int, batch: int, calls: list[int]
) -> None:
    double = copy.deepcopy(model).double()
    errors = []
    for seed in range(NUM_BATCHES):
        signals = make_signals(batch, channels, samples, seed)
        exact = gradients_by_layers(double, signals.double())
        features = model.features(signals)
        torch.testing.assert_close(
            features.double(), double.stages(signals.double())[-1], rtol=0.0, atol=2e-6
        )
        errors.append(max(distances(gradients(model, signals), exact)))
    assert min(errors) < ROUNDING
    assert max(errors) < TURNED
    assert calls == [batch] * 2 * NUM_BATCHES


@pytest.mark.parametrize("batch", [8, 15, 16, 17, 64, 65, 130])
@pytest.mark.parametrize(("layout", "channels"), [("axes", 3), ("published", 3), ("published", 6)])
def test_gradients_are_those_of_the_layers(
    layout: str, channels: int, batch: int, calls: list[int]
) -> None:
    model = make_model(channels, layout=layout)
    assert_exact_but_for_rounding(model, channels, 40, batch, calls)


@pytest.mark.parametrize("level", CORE.simd_levels() if CORE is not None else [])
@pytest.mark.parametrize("size", [(1, 28), (2, 29), (4, 100), (9, 64)])
def test_gradients_of_every_size(size: tuple[int, int], level: str, calls: list[int]) -> None:
    assert CORE is not None
    before = CORE.simd_level()
    CORE.set_simd_level(level)
    try:
        for layout in ("axes", "published"):
            calls.clear()
            assert_exact_but_for_rounding(make_model(*size, layout=layout), *size, 33, calls)
    finally:
        CORE.set_simd_level(before)


def test_other_widths(calls: list[int]) -> None:
    model = make_model(samples=100)
    model.conv2 = nn.Conv1d(32, 50, 5)
    model.linear1 = nn.Linear(50 * 21, 1000)
    model.linear2 = nn.Linear(1000, 100)
    assert_exact_but_for_rounding(model, 3, 100, 16, calls)


def test_heads_and_trunk_get_their_gradients(calls: list[int]) -> None:
    model, double = make_model(), make_model().double()
    signals = make_signals(16)
    targets = torch.arange(16) % 6
    for network in (model, double):
        logits = network(signals.to(network.conv1.weight.dtype))
        nn.functional.cross_entropy(logits["activity"], targets).backward()  # type: ignore[no-untyped-call]
        assert network.heads[1].weight.grad is None
    exact = dict(double.named_parameters())
    for name, parameter in model.named_parameters():
        if "heads.1" not in name:
            assert parameter.grad is not None
            assert distances([parameter.grad], [exact[name].grad])[0] < ROUNDING, name  # type: ignore[list-item]
    assert calls == [16]


@pytest.mark.parametrize("batch", [64, 200])
def test_threads_do_not_change_a_bit(batch: int, calls: list[int]) -> None:
    model, signals = make_model(), make_signals(batch)
    found = []
    for num_threads in (1, 2):
        try:
            torch.set_num_threads(num_threads)
            found.append(gradients(model, signals))
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert len(calls) == 2


# --- what autograd lets one do ------------------------------------------------------------------


def test_twice_through_a_kept_graph(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    first = model.features(signals)
    model.features(make_signals(16, seed=1)).sum().backward()  # another pass in between
    model.zero_grad()
    total_of(first).backward(retain_graph=True)
    once = [tensor.grad.clone() for tensor in trunk_of(model)]  # type: ignore[union-attr]
    total_of(first).backward(retain_graph=True)
    for tensor, before in zip(trunk_of(model), once, strict=True):
        assert torch.equal(tensor.grad, 2.0 * before)  # type: ignore[arg-type]
    first.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        first.sum().backward()
    assert len(calls) == 2


def test_a_weight_that_changed_in_between_is_refused(calls: list[int]) -> None:
    model = make_model()
    total = total_of(model.features(make_signals(16)))
    with torch.no_grad():
        model.linear1.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
    assert calls == [16]


def test_a_derivative_of_the_gradient(calls: list[int]) -> None:
    """A penalty on the gradient, whose own derivative the layers give."""
    found = []
    for network in (make_model(), make_model().double()):
        weights = trunk_of(network)
        signals = make_signals(16).to(weights[0].dtype)
        first = torch.autograd.grad(total_of(network.features(signals)), weights, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in first)
        found.append(list(torch.autograd.grad(penalty, weights)))  # type: ignore[arg-type]
    assert max(distances(*found)) < 10 * ROUNDING
    assert calls == [16]


def test_many_gradients_at_once(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    features, weights = model.features(signals), trunk_of(model)
    many = torch.randn(3, *features.shape, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad(features, weights, many, is_grads_batched=True, retain_graph=True)
    for number, one in enumerate(many):
        alone = torch.autograd.grad(features, weights, one, retain_graph=True)
        assert max(distances([each[number] for each in found], list(alone))) < ROUNDING
    assert calls == [16]


def test_weights_of_another_are_those_that_are_moved(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    other = {
        name: (0.5 * tensor).detach().requires_grad_() for name, tensor in model.named_parameters()
    }
    logits = torch.func.functional_call(model, other, (signals,))
    found = torch.autograd.grad(logits["activity"].square().sum(), other["conv1.weight"])
    assert calls == [16]
    halves = copy.deepcopy(model).double()
    halves.load_state_dict(other)
    logits = halves(signals.double())
    exact = torch.autograd.grad(logits["activity"].square().sum(), halves.conv1.weight)
    assert distances(list(found), list(exact))[0] < ROUNDING
    assert all(tensor.grad is None for tensor in model.parameters())


def test_activations_may_be_computed_again_or_packed(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    exact = gradients_by_layers(model, signals)
    features: Any = checkpoint(model.features, signals, use_reentrant=False)
    found = list(torch.autograd.grad(total_of(features), trunk_of(model)))
    assert max(distances(found, exact)) < ROUNDING
    assert calls == [16, 16]
    packed: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tensor)
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = model.features(signals)
    found = list(torch.autograd.grad(total_of(features), trunk_of(model)))
    assert max(distances(found, exact)) < ROUNDING
    assert packed


def test_a_hook_of_a_weight_is_called(calls: list[int]) -> None:
    model, seen = make_model(), []
    model.conv2.weight.register_hook(lambda gradient: seen.append(gradient.shape))
    total_of(model.features(make_signals(16))).backward()
    assert seen == [model.conv2.weight.shape]
    assert calls == [16]


def test_a_bad_window_is_seen_in_the_gradient(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    signals[3, 1, 20] = float("nan")
    found = gradients(model, signals)
    assert not all(bool(gradient.isfinite().all()) for gradient in found)
    assert calls == [16]


# --- where the layers stay ----------------------------------------------------------------------


def test_signals_that_want_a_gradient_get_it(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16).requires_grad_()
    total_of(model.features(signals)).backward()
    assert signals.grad is not None
    assert signals.grad.any()
    assert not calls


def test_some_weights_frozen_or_all(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    model.conv1.weight.requires_grad_(False)
    total_of(model.features(signals)).backward()
    assert model.conv1.weight.grad is None
    assert model.conv2.weight.grad is not None
    assert not calls
    model = make_model()
    for tensor in trunk_of(model):
        tensor.requires_grad_(False)
    features = model.features(signals)
    assert not features.requires_grad
    assert calls == [16]
    model(signals)["activity"].sum().backward()  # type: ignore[no-untyped-call]
    assert model.heads[0].weight.grad is not None


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_few_windows_go_through_the_layers(batch: int, calls: list[int]) -> None:
    model, signals = make_model(), make_signals(batch)
    assert torch.equal(model.features(signals), model.stages(signals)[-1])
    assert not calls


@pytest.mark.parametrize(("products", "num_calls"), [("blas", 0), ("auto", 1), ("native", 1)])
def test_another_library_may_be_wanted(
    products: str, num_calls: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOOTHDISTILL_PRODUCTS", products)
    total_of(make_model().features(make_signals(16))).backward()
    assert len(calls) == num_calls


def test_a_hooked_layer_is_called(calls: list[int]) -> None:
    model, seen = make_model(), []
    model.linear1.register_full_backward_hook(lambda *args: seen.append(1))
    total_of(model.features(make_signals(16))).backward()
    assert seen == [1]
    assert not calls


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_a_graph_nothing_is_kept(mode: Any, calls: list[int]) -> None:
    model, signals = make_model(6, layout="published"), make_signals(16, 6)
    with mode():
        features, logits = model.features(signals), model(signals)
        expected = model.stages(signals)[-1]
    assert not features.requires_grad
    torch.testing.assert_close(features, expected, rtol=0.0, atol=2e-6)
    assert logits["activity"].shape == (16, 6)
    assert calls == [16, 16]


def test_the_programs_own_defaults_do_not_matter(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)

    def both() -> list[Tensor]:
        found = torch.autograd.grad(model.features(signals).sum(), trunk_of(model))
        with torch.no_grad():
            return [*found, model(signals)["activity"]]

    exact = both()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = both()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, exact, strict=True))
    assert calls == [16, 16]


@pytest.mark.skipif(bfloat16_products()[0] != NATIVE_BFLOAT16, reason="needs AVX512_BF16")
def test_under_autocast_products_are_of_rounded_numbers(calls: list[int]) -> None:
    """Weight, input and output of four layers round by at most a unit of 2**-8."""
    model, signals = make_model(), make_signals(64)
    exact, expected = gradients_by_layers(model, signals), model.stages(signals)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        features, logits = model.features(signals), model(signals)["activity"]
    assert features.dtype is torch.float32
    assert logits.dtype is torch.bfloat16
    assert 1e-4 < distances([features.detach()], [expected.detach()])[0] < 12 * 2.0**-8
    found = list(torch.autograd.grad(total_of(features), trunk_of(model)))
    assert max(distances(found, exact)) < 24 * 2.0**-8  # there and back
    assert min(distances(found, exact)) > 1e-4
    assert calls == [64, 64]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_to_what_the_kernels_have_not(
    dtype: torch.dtype, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype is torch.bfloat16:
        monkeypatch.setattr(mtl_net_gradient, "bfloat16_products", lambda: ["bfloat16"])
    with torch.autocast("cpu", dtype):
        assert make_model().features(make_signals(16)).dtype is dtype
    assert not calls
