"""When the fused step is not taken, what it refuses, and what it leaves alone."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoothdistill.methods import Method, Multitask
from smoothdistill.models import MTLNet
from smoothdistill.ops._backend import cpu_kernels
from smoothdistill.ops.linear import available_products
from smoothdistill.training import TrainStep

from .fused_runs import Setup, changed, copy_of, near, train, twins

pytestmark = pytest.mark.skipif(cpu_kernels() is None, reason="needs the compiled kernels")

SMALL = Setup(samples=28)


# --- weights that are replaced or moved ---------------------------------------------------------


def _replace(model: MTLNet) -> None:
    model.conv1.weight = nn.Parameter(model.conv1.weight.detach().clone())


def _assign(model: MTLNet) -> None:
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)


@pytest.mark.parametrize("path", ["fused", "auto", "general"])
@pytest.mark.parametrize("replace", [_replace, _assign])
def test_replaced_weights_are_refused(path: str, replace: Callable[[MTLNet], None]) -> None:
    step = SMALL.step(path)
    step(*SMALL.one_batch(16))
    replace(step.model)
    sentence = (
        r"`model` must keep the parameters that it had when the step was built, but has another "
        r"'conv1.weight' instead; build a new TrainStep\."
    )
    with pytest.raises(ValueError, match=sentence):
        step(*SMALL.one_batch(16))


def test_moved_weights_are_found() -> None:
    """`.data` puts the weight elsewhere and tells nobody."""
    one, other = twins(SMALL)
    for seed in range(3):
        for model in (one.model, one.teacher.model):
            for parameter in model.parameters():
                parameter.data = parameter.data.clone()
        for parameter in one.model.parameters():
            state = one.optimizer.state_of(parameter)
            state["exp_avg"] = state["exp_avg"].clone()
        batch = SMALL.one_batch(16, seed)
        assert float(one(*batch).total) == float(other(*batch).total)
    assert one.is_fused
    assert not changed(one, copy_of(other))


@pytest.mark.parametrize("products", [*available_products(), "bfloat16"])
def test_changed_weights_are_read_anew(products: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOOTHDISTILL_BFLOAT16", "emulated")
    options = {"precision": "bfloat16"} if products == "bfloat16" else {"products": products}
    one, other = twins(SMALL, **options)
    batch = SMALL.one_batch(16)
    one(batch[0] * math.nan, batch[1])  # skipped: whatever was remembered has not been stepped
    with torch.no_grad():
        for model in (one.model, other.model, one.teacher.model, other.teacher.model):
            model.linear2.weight.mul_(2.0)
            model.linear1.weight.add_(0.01)
    assert float(one(*batch).total) == float(other(*batch).total)
    assert not changed(one, copy_of(other)) - {"counters"}


def test_weights_of_another_type_are_refused_or_left_to_autograd() -> None:
    signals, targets = SMALL.one_batch(16)
    step = SMALL.step("fused")
    step(signals, targets)
    step.model.double()
    with pytest.raises(ValueError, match="must be 'auto' or 'general' where the weights are not f"):
        step(signals, targets)
    step = SMALL.step("auto")
    step(signals, targets)
    step.model.double()
    assert not step.is_fused
    before = copy_of(step)
    with pytest.raises((RuntimeError, TypeError)):  # the teacher is float32 still
        step(signals.double(), targets)
    assert not changed(step, before)
    double = SMALL.step("auto", torch.float64)
    assert not double.is_fused
    double(signals.double(), targets)


def test_signals_of_another_type_are_refused() -> None:
    step = SMALL.step("fused")
    signals, targets = SMALL.one_batch(16)
    with pytest.raises(ValueError, match="where the signals are not float32 on the CPU, but is 'f"):
        step(signals.double(), targets)
    with pytest.raises(ValueError, match=r"`signals` must have the shape \[batch, 3, 28\]"):
        step(signals[:, :2], targets)
    with pytest.raises(ValueError, match=r"`targets\[0\]`|`student_logits\[0\]` must"):
        step(signals, {task: labels[:3] for task, labels in targets.items()})


def test_copies_of_the_model_go_their_own_way() -> None:
    one, other = twins(SMALL)
    for seed in range(4):
        batch = SMALL.one_batch(16, seed)
        assert float(one(*batch).total) == float(other(*batch).total)
        copied = copy.deepcopy(one.model)
        pickled = pickle.loads(pickle.dumps(one.model))
        for model in (copied, pickled):
            with torch.no_grad():
                for found, right in zip(
                    model(batch[0]).values(), one.model(batch[0]).values(), strict=True
                ):
                    assert torch.equal(found, right)
                model.conv1.weight.zero_()
    assert not changed(one, copy_of(other))
    resumed = TrainStep(copied, SMALL.method, path="fused")
    resumed.load_state_dict(copy_of(one))
    batch = SMALL.one_batch(16, 9)
    assert float(resumed(*batch).total) == float(one(*batch).total)
    assert not changed(resumed, copy_of(one))


# --- what autograd alone can do -----------------------------------------------------------------


def _watch(model: MTLNet, calls: list[str]) -> dict[str, Callable[[TrainStep], Any]]:
    """Everything that PyTorch lets one hook into a training step."""

    def note(*args: Any) -> None:
        calls.append("called")

    layer = model.linear2
    return {
        "forward": lambda step: layer.register_forward_hook(note),
        "forward pre": lambda step: layer.register_forward_pre_hook(note),
        "full backward": lambda step: layer.register_full_backward_hook(note),
        "full backward pre": lambda step: layer.register_full_backward_pre_hook(note),
        "head": lambda step: model.heads[1].register_forward_hook(note),
        "convolution": lambda step: model.conv1.register_forward_hook(note),
        "model": lambda step: model.register_forward_hook(note),
        "model pre": lambda step: model.register_forward_pre_hook(note),
        "teacher": lambda step: step.teacher.model.register_forward_hook(note),
        "teacher's layer": lambda step: step.teacher.model.linear1.register_forward_hook(note),
        "weight": lambda step: layer.weight.register_hook(note),
        "weight, after": lambda step: layer.weight.register_post_accumulate_grad_hook(note),
        "optimizer pre": lambda step: step.optimizer.register_step_pre_hook(note),
        "optimizer post": lambda step: step.optimizer.register_step_post_hook(note),
        "all modules": lambda step: nn.modules.module.register_module_forward_hook(note),
        "own forward": lambda step: setattr(layer, "forward", _noted(layer.forward, note)),
    }


def _noted(forward: Callable[..., Tensor], note: Callable[[], None]) -> Callable[..., Tensor]:
    def call(*args: Any) -> Tensor:
        note()
        return forward(*args)

    return call


@pytest.mark.parametrize("name", _watch(SMALL.model(), []))
def test_a_hook_is_called(name: str) -> None:
    plain = SMALL.step("general")
    for path in ("fused", "auto"):
        calls: list[str] = []
        step = SMALL.step(path)
        assert step.is_fused
        handle = _watch(step.model, calls)[name](step)
        try:
            assert not step.is_fused
            if path == "fused":
                with pytest.raises(ValueError, match="`path` must be 'auto' or 'general' where"):
                    step(*SMALL.one_batch(16))
                assert not calls
                continue
            step(*SMALL.one_batch(16))
            assert calls
        finally:
            if handle is not None:
                handle.remove()
        plain(*SMALL.one_batch(16))
        near(step, plain, 1e-3)  # a hooked teacher goes through its layers, another through kernels
        if handle is not None:
            assert step.is_fused


def test_a_frozen_weight_stays() -> None:
    step = SMALL.step("auto")
    step(*SMALL.one_batch(16))
    frozen = step.model.conv1.weight.requires_grad_(False)
    before, moved = frozen.clone(), step.model.conv2.weight.clone()
    step(*SMALL.one_batch(16))
    assert not step.is_fused
    assert torch.equal(frozen, before)
    assert not torch.equal(step.model.conv2.weight, moved)
    assert float(step.optimizer.state_of(frozen)["step"]) == 1.0
    frozen.requires_grad_(True)
    step(*SMALL.one_batch(16))
    assert step.is_fused
    assert float(step.optimizer.state_of(frozen)["step"]) == 2.0
    assert not torch.equal(frozen, before)


def test_a_weight_that_the_optimizer_has_not_is_not_stepped() -> None:
    model = SMALL.model()
    model.conv1.weight.requires_grad_(False)
    step = TrainStep(model, SMALL.method)
    model.conv1.weight.requires_grad_(True)
    before = model.conv1.weight.clone()
    assert not step.is_fused
    step(*SMALL.one_batch(16))
    assert torch.equal(model.conv1.weight, before)


def _tie(model: MTLNet) -> None:
    model.heads[1].weight = model.heads[0].weight


def _add(model: MTLNet) -> None:
    model.another = nn.Linear(3, 3)


def _scale(model: MTLNet) -> None:
    nn.utils.parametrizations.weight_norm(model.linear2)


def _pad(model: MTLNet) -> None:
    model.conv1 = nn.Conv1d(3, 32, 9, padding=4)
    model.linear1 = nn.Linear(64 * 3, 1024)


def _subclass(model: MTLNet) -> None:
    class Another(nn.Linear):
        pass

    layer = Another(1024, 512)
    layer.load_state_dict(model.linear2.state_dict())
    model.linear2 = layer


@pytest.mark.parametrize("change", [_tie, _add, _scale, _pad, _subclass])
@pytest.mark.parametrize("check_gradients", [False, True])
def test_another_model_goes_the_general_way(
    change: Callable[[MTLNet], None], check_gradients: bool
) -> None:
    setup = Setup(classes={"a": 4, "b": 4}, samples=28)
    steps = []
    for path in ("auto", "general"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = setup.model()
            change(model)
        steps.append(TrainStep(model, path=path, check_gradients=check_gradients))
        train(steps[-1], setup.batches(2))
    assert not steps[0].is_fused
    near(*steps, 0.0)
    with pytest.raises(ValueError, match="`path` must be 'auto' or 'general' where"):
        TrainStep(model, path="fused")


def test_a_scheduler_hears_of_the_step() -> None:
    step = SMALL.step("fused", lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(step.optimizer, step_size=1, gamma=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            step(*SMALL.one_batch(16))
            scheduler.step()
    assert step.optimizer.param_groups[0]["lr"] == pytest.approx(2.5e-3)
    other = SMALL.step("fused", lr=1e-2)
    for lr in (1e-2, 5e-3):
        other.optimizer.param_groups[0]["lr"] = lr
        other(*SMALL.one_batch(16))
    assert not changed(step, copy_of(other)) - {"optimizer.groups"}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(SMALL.model()), "the model is a Sequential, not an MTLNet"),
        (lambda: SMALL.model().double(), "the weights are not float32 on the CPU"),
    ],
)
def test_fused_is_refused_where_it_cannot_be(make: Callable[[], nn.Module], reason: str) -> None:
    sentence = rf"`path` must be 'auto' or 'general' where {reason}.*, but is 'fused' instead\."
    with pytest.raises(ValueError, match=sentence):
        TrainStep(make(), tasks=tuple(SMALL.classes), path="fused")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"path": "fast"}, r"`path` must be one of auto, fused, general, but is 'fast' instead\."),
        ({"products": "mkl"}, r"`products` must be one of .*blas.*, but is 'mkl' instead\."),
        ({"products": "bfloat16"}, r"`products` must be one of .*, but is 'bfloat16' instead\."),
    ],
)
def test_unknown_names_are_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainStep(SMALL.model(), **options)  # type: ignore[arg-type]


def test_without_kernels_the_general_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from smoothdistill.models import mtl_net_columns
    from smoothdistill.training import fused_step

    for module in (fused_step, mtl_net_columns):
        monkeypatch.setattr(module, "cpu_kernels", lambda: None)
    step = SMALL.step("auto")
    assert not step.is_fused
    step(*SMALL.one_batch(16))
    with pytest.raises(ValueError, match="where the kernels were not built or are switched off, b"):
        SMALL.step("fused")


def test_a_gradient_of_any_layout_will_do() -> None:
    """Autograd gives sums and means an expanded number for a gradient."""

    class Sum(Multitask):
        def loss(self, student_logits: Any, teacher_logits: Any, targets: Any) -> Any:
            out = super().loss(student_logits, teacher_logits, targets)
            return out._replace(total=sum(logits.mean() for logits in student_logits.values()))

        def loss_and_gradients(self, *given: Any) -> Any:
            return Method.loss_and_gradients(self, *given)

    model = SMALL.model()
    steps = [TrainStep(copy.deepcopy(model), Sum(model.tasks), path=p) for p in ("auto", "general")]
    for step in steps:
        step(*SMALL.one_batch(16))
    assert steps[0].is_fused
    near(*steps, 1e-6)
