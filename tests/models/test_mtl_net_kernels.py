"""`MTLNet.forward` without gradient, whose kernels must answer as its layers do."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from smoothdistill.models import MTLNet, mtl_net, mtl_net_columns
from smoothdistill.models.mtl_net_columns import can_run_in_columns
from smoothdistill.ops import _backend

TASKS = {"activity": 6, "placement": 3, "": 1}
LAYOUTS = ("axes", "published")
CORE = _backend.cpu_kernels()
EPS = torch.finfo(torch.float32).eps

pytestmark = pytest.mark.skipif(CORE is None, reason="needs the compiled kernels")


def make_model(channels: int = 3, samples: int = 100, layout: str = "axes", **tasks: int) -> MTLNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MTLNet(tasks or TASKS, channels, samples, layout)  # type: ignore[arg-type]


def make_signals(batch: int, channels: int = 3, samples: int = 100) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, channels, samples, generator=generator)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch size of every call of the kernels."""
    seen: list[int] = []

    def logits(model: MTLNet, signals: Tensor) -> list[Tensor]:
        seen.append(len(signals))
        return mtl_net_columns.logits_in_columns(model, signals)

    monkeypatch.setattr(mtl_net, "logits_in_columns", logits)
    return seen


def by_layers(model: MTLNet, signals: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.classify(model.stages(signals)[-1])


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Sums of 1,216, 1,024 and 512 terms in another order: some roundings of the largest logit."""
    assert list(found) == list(expected)
    for task, logits in found.items():
        right = expected[task]
        assert logits.shape == right.shape
        assert logits.dtype == right.dtype
        assert not logits.requires_grad
        torch.testing.assert_close(
            logits, right, rtol=0.0, atol=32 * EPS * max(1.0, float(right.detach().abs().amax()))
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [1, 2, 7, 8, 15, 16, 17, 63, 64, 65, 200])
def test_kernels_answer_as_the_layers(batch: int, layout: str, calls: list[int]) -> None:
    model, signals = make_model(layout=layout), make_signals(batch)
    expected = by_layers(model, signals)
    assert not calls
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = model(signals)
        assert_close(found, expected)
    assert calls == ([] if batch in (2, 7) else [batch, batch])


@pytest.mark.parametrize("level", CORE.simd_levels() if CORE is not None else [])
@pytest.mark.parametrize("size", [(1, 28), (2, 29), (3, 31), (4, 40), (9, 64), (3, 257)])
def test_kernels_of_every_size(size: tuple[int, int], level: str) -> None:
    assert CORE is not None
    before = CORE.simd_level()
    CORE.set_simd_level(level)
    try:
        for layout in LAYOUTS:
            model = make_model(*size, layout=layout, a=18, b=1, c=131)
            for batch in (1, 9, 33):
                signals = make_signals(batch, *size)
                with torch.no_grad():
                    assert_close(model(signals), by_layers(model, signals))
    finally:
        CORE.set_simd_level(before)


def test_a_window_has_the_same_logits_in_any_company() -> None:
    """To the bit, from one batch of several windows to another; alone, but for rounding."""
    model, signals = make_model(), make_signals(200)
    with torch.no_grad():
        whole = model(signals)["activity"]
        for batch in (8, 16, 17, 64, 65, 130):
            assert torch.equal(model(signals[:batch])["activity"], whole[:batch])
            assert torch.equal(model(signals[-batch:])["activity"], whole[-batch:])
        for number in (0, 63, 64, 199):
            alone = model(signals[number : number + 1])["activity"]
            torch.testing.assert_close(alone[0], whole[number], rtol=0.0, atol=32 * EPS)


@pytest.mark.parametrize("batch", [1, 64, 200])
def test_threads_do_not_change_a_bit(batch: int) -> None:
    model, signals = make_model(), make_signals(batch)
    found = []
    for num_threads in (1, 2):
        try:
            torch.set_num_threads(num_threads)
            with torch.no_grad():
                found.append(model(signals))
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(found[0][task], found[1][task]) for task in TASKS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_window_spoils_its_own_logits(value: float) -> None:
    for batch in (1, 16, 65):
        model, signals = make_model(), make_signals(batch)
        signals[batch // 2, 1, 50] = value
        expected = by_layers(model, signals)
        with torch.no_grad():
            found = model(signals)
        for task in TASKS:
            assert torch.equal(found[task].isfinite(), expected[task].isfinite())
            rows = found[task].isfinite().all(dim=1)
            assert rows.tolist() == [number != batch // 2 for number in range(batch)]


def test_logits_are_new_each_time(calls: list[int]) -> None:
    model = make_model()
    with torch.no_grad():
        first = model(make_signals(16))
        before = {task: logits.clone() for task, logits in first.items()}
        model(make_signals(17))
        model(make_signals(16) + 1.0)
    assert all(torch.equal(first[task], before[task]) for task in TASKS)
    assert calls == [16, 17, 16]


def test_changed_weights_are_read_anew() -> None:
    model, signals = make_model(), make_signals(16)
    with torch.no_grad():
        model(signals)
        for parameter in model.parameters():
            parameter.data = parameter.data.clone() * 1.1
        model.conv2.weight = nn.Parameter(model.conv2.weight * 0.5)
        model.heads[0] = nn.Linear(512, 6)
        assert_close(model(signals), by_layers(model, signals))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: torch.stack([x, x], dim=3)[..., 0],
        lambda x: x[::2],
        lambda x: x[:1].expand(16, -1, -1),
        lambda x: nn.Parameter(x),
        lambda x: x.clone().requires_grad_(),
        lambda x: torch._neg_view(x),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_signals_in_any_memory(view: Callable[[Tensor], Tensor], layout: str) -> None:
    model, signals = make_model(layout=layout), view(make_signals(32))
    with torch.no_grad():
        found = model(signals)
    assert_close(found, by_layers(model, signals.detach().clone().resolve_neg()))


@pytest.mark.parametrize("batch", [0, 1, 16])
def test_signals_that_do_not_fit_are_refused_alike(batch: int) -> None:
    model = make_model()
    bad = (
        make_signals(batch, 2),
        make_signals(batch, 3, 99),
        make_signals(batch)[..., 0],
        torch.tensor(1.0),
        make_signals(batch).int(),
    )
    for signals in bad:
        messages = []
        for mode in (torch.no_grad, torch.enable_grad):
            with mode(), pytest.raises((TypeError, ValueError)) as caught:
                model(signals)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        assert messages[0].startswith("`signals` must")
    with torch.no_grad():
        assert model(make_signals(0))["activity"].shape == (0, 6)


# --- who else may be looking --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend: str) -> None:
    model, signals = make_model(), make_signals(16)
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch.no_grad():
        assert_close(compiled(signals), by_layers(model, signals))
    outputs = compiled(signals)
    sum(logits.sum() for logits in outputs.values()).backward()
    assert model.conv1.weight.grad is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced() -> None:
    model, signals = make_model(), make_signals(16)
    with torch.no_grad():
        traced = torch.jit.trace(model, signals, strict=False)
        other = make_signals(16) + 1.0
        assert_close(traced(other), by_layers(model, other))


def test_exported() -> None:
    model, signals = make_model(), make_signals(16)
    with torch.no_grad():
        program = torch.export.export(model, (signals,))
        names = {node.name for node in program.graph.nodes}
        assert any("conv1d" in name for name in names)
        other = make_signals(16) + 1.0
        assert_close(program.module()(other), by_layers(model, other))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, in forward mode
def test_in_forward_mode(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    with torch.no_grad():
        _, tangent = torch.func.jvp(lambda x: model(x)["activity"], (signals,), (signals,))
        with forward_ad.dual_level():
            dual = model(forward_ad.make_dual(signals, signals))["activity"]
            _, other = forward_ad.unpack_dual(dual)
    assert bool(tangent.any())
    assert other is not None
    torch.testing.assert_close(other, tangent)
    assert not calls
    with torch.no_grad():
        model(signals)
    assert calls == [16]


def test_under_torch_func(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    params = {name: p.detach() for name, p in model.named_parameters()}
    expected = by_layers(model, signals)

    def logits(weights: dict[str, Tensor], x: Tensor) -> Any:
        return torch.func.functional_call(model, weights, (x,))

    with torch.no_grad():
        assert_close(logits(params, signals), expected)
        assert calls == [16]  # functional_call alone is an ordinary call
        halves = {name: 0.5 * p for name, p in params.items()}
        other = copy.deepcopy(model)
        other.load_state_dict(halves)
        assert_close(logits(halves, signals), by_layers(other, signals))
        assert_close(model(signals), expected)
        calls.clear()

        # Every call below is of plain layers. vmap multiplies in one product what they do in
        # several.
        mapped = torch.vmap(lambda x: model(x[None]))(signals)
        assert_close({task: z[:, 0] for task, z in mapped.items()}, expected)
        both = {name: torch.stack([params[name], halves[name]]) for name in params}
        stacked = torch.vmap(logits, in_dims=(0, None))(both, signals)
        assert_close({task: z[0] for task, z in stacked.items()}, expected)

    def total(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return sum(z.square().sum() for z in logits(weights, x).values())  # type: ignore[return-value]

    plain = torch.autograd.grad(
        sum(z.square().sum() for z in model(signals).values()), list(model.parameters())
    )
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            found = torch.func.grad(total)(params, signals)
        for gradient, right in zip(found.values(), plain, strict=True):
            torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-4)
    assert not calls


def test_under_autocast(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert model(signals)["activity"].dtype is torch.bfloat16
    assert not calls
    with torch.autocast("cpu", enabled=False), torch.no_grad():
        assert_close(model(signals), by_layers(model, signals))
    assert calls == [16]


def test_under_a_dispatch_mode(calls: list[int]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model, signals = make_model(), make_signals(16)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = model(signals)
    # Of the linear layers alone: two for each product of every window.
    assert counter.get_total_flops() > 2 * 16 * (1216 * 1024 + 1024 * 512)
    assert not calls
    assert_close(found, by_layers(model, signals))


def test_with_fake_tensors(calls: list[int]) -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode(), torch.no_grad():
        model = MTLNet(TASKS)
        assert model(torch.zeros(16, 3, 100))["activity"].shape == (16, 6)
    meta = make_model().to("meta")
    with torch.no_grad():
        assert meta(torch.zeros(16, 3, 100, device="meta"))["activity"].shape == (16, 6)
    assert not calls


@pytest.mark.parametrize("name", ["conv1", "linear2", "heads.1"])
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_a_hook_is_called(name: str, kind: str, calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    seen: list[int] = []
    layer = model.get_submodule(name)
    handle = getattr(layer, f"register_{kind}_hook")(lambda *args: seen.append(1))
    with torch.no_grad():
        model(signals)
    assert seen == ([1] if kind.startswith("forward") else [])
    assert not calls
    handle.remove()
    with torch.no_grad():
        model(signals)
    assert calls == [16]


def test_a_hook_of_the_model_or_of_all_modules_is_called(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    seen: list[str] = []
    handle = model.register_forward_hook(lambda *args: seen.append("model"))
    with torch.no_grad():
        model(signals)
    assert (seen, calls) == (["model"], [16])
    handle.remove()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, *args: seen.append(type(module).__name__)
    )
    with torch.no_grad():
        model(signals)
    handle.remove()
    assert seen[1:] == ["Conv1d", "Conv1d", *["Linear"] * 5, "MTLNet"]


def test_other_types_go_through_the_layers(calls: list[int]) -> None:
    signals = make_signals(16)
    with torch.no_grad():
        for dtype in (torch.float64, torch.bfloat16):
            model = make_model().to(dtype)
            assert model(signals.to(dtype))["activity"].dtype is dtype
        with pytest.raises(RuntimeError):  # PyTorch's own word on mixed types
            make_model().double()(signals)

        class Marked(torch.Tensor):
            pass

        found = make_model()(signals.as_subclass(Marked))
        assert isinstance(found["activity"], Marked)

        class Child(MTLNet):
            def features(self, signals: Tensor) -> Tensor:
                return 2.0 * super().features(signals)

        child = Child(TASKS)
        plain = {
            task: head(2.0 * MTLNet.features(child, signals))
            for task, head in zip(child.tasks, child.heads, strict=True)
        }
        assert_close(child(signals), plain)
    assert not calls


def _marked_weight(model: MTLNet) -> None:
    class Marked(torch.Tensor):
        pass

    model.linear1.weight = nn.Parameter(model.linear1.weight.detach().as_subclass(Marked))


def _other_stride(model: MTLNet) -> None:
    model.linear1.weight.data = model.linear1.weight.data.t().contiguous().t()


def _own_forward(model: MTLNet) -> None:
    forward = model.linear1.forward
    model.linear1.forward = lambda x: 2.0 * forward(x)  # type: ignore[method-assign]


def _padded(model: MTLNet) -> None:
    model.conv1 = nn.Conv1d(3, 32, 9, padding=4)
    model.linear1 = nn.Linear(64 * 21, 1024)


def _dilated(model: MTLNet) -> None:
    model.conv1 = nn.Conv1d(3, 32, 9, dilation=2)
    model.linear1 = nn.Linear(64 * 17, 1024)


def _grouped(model: MTLNet) -> None:
    model.conv2 = nn.Conv1d(32, 64, 9, groups=4)


def _without_bias(model: MTLNet) -> None:
    model.linear2 = nn.Linear(1024, 512, bias=False)


def _normed(model: MTLNet) -> None:
    nn.utils.parametrizations.weight_norm(model.conv2)


def _dropped(model: MTLNet) -> None:
    model.linear2 = nn.Sequential(model.linear2, nn.Tanh())  # type: ignore[assignment]


@pytest.mark.parametrize(
    "change",
    [
        _marked_weight, _other_stride, _own_forward, _padded, _dilated, _grouped, _without_bias,
        _normed, _dropped,
    ],
)  # fmt: skip
def test_changed_layers_are_themselves(change: Callable[[MTLNet], None], calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    change(model)
    assert not can_run_in_columns(model)
    with torch.no_grad():
        found = model(signals)
    expected = by_layers(model, signals)
    assert all(torch.equal(found[task], expected[task]) for task in TASKS)
    assert not calls


def test_other_widths_are_computed_by_the_kernels(calls: list[int]) -> None:
    model, signals = make_model(), make_signals(16)
    model.linear2 = nn.Linear(1024, 100)
    model.heads = nn.ModuleList(nn.Linear(100, size) for size in TASKS.values())
    model.conv2 = nn.Conv1d(32, 50, 5)
    model.linear1 = nn.Linear(50 * 21, 1024)
    with torch.no_grad():
        assert_close(model(signals), by_layers(model, signals))
    assert calls == [16]


# --- several threads, and none of the kernels ---------------------------------------------------


def test_threads_may_call_one_model() -> None:
    model = make_model()
    batches = [make_signals(batch) for batch in (1, 16, 33, 64, 100, 8)]
    with torch.no_grad():
        expected = [model(signals) for signals in batches]
    faults: list[str] = []
    start = threading.Barrier(4)

    def work(offset: int) -> None:
        start.wait()
        with torch.no_grad():
            for turn in range(12):
                number = (turn + offset) % len(batches)
                found = model(batches[number])
                if not all(torch.equal(found[t], expected[number][t]) for t in TASKS):
                    faults.append(f"batch {number}")

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_the_reference_backend_goes_through_the_layers() -> None:
    code = (
        "import torch\n"
        "from smoothdistill.models import MTLNet\n"
        "from smoothdistill.models import mtl_net\n"
        "from smoothdistill.ops.linear import available_products\n"
        "from smoothdistill.training import TrainStep\n"
        "mtl_net.logits_in_columns = None\n"
        "model = MTLNet({'a': 3})\n"
        "with torch.no_grad():\n"
        "    model(torch.zeros(16, 3, 100))\n"
        "print(TrainStep(model).is_fused, 'native' in available_products())\n"
    )
    environment = {"SMOOTHDISTILL_BACKEND": "reference", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert found.stdout.split() == ["False", "False"]
