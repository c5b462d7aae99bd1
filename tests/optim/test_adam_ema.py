"""`AdamEMA` against `torch.optim.Adam(fused=True)` followed by `_foreach_lerp_`."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoothdistill.ops import _backend
from smoothdistill.optim import AdamEMA, EMATeacher

EPS = torch.finfo(torch.float32).eps
DECAY = 0.9


def _net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))


def _batches(count: int, seed: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        signals = torch.randn(8, 5, generator=generator)
        yield signals, torch.randint(0, 3, (8,), generator=generator)


def _backward(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    return loss


def _pair(seed: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
    model = _net(seed)
    return model, copy.deepcopy(model)


def _copy_gradients(source: nn.Module, target: nn.Module) -> None:
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        b.grad = None if a.grad is None else a.grad.clone()


def _bound(num_steps: int, lr: float) -> float:
    """How far two float32 optimizers part in `num_steps` steps over the same gradients.

    A step rounds the weight (below 4) twice at half an eps and moves it by at most 4 lr, itself
    off by 12 eps (see adam_ema_checks); there are two optimizers, and errors of weights add up.
    The moments forget theirs.
    """
    return 2 * num_steps * EPS * (4.0 + 12.0 * 4.0 * lr)


def _assert_close(a: nn.Module, b: nn.Module, bound: float) -> None:
    for (name, one), two in zip(a.named_parameters(), b.parameters(), strict=True):
        assert float((one - two).detach().abs().max()) <= bound, name
        assert float(one.detach().abs().max()) < 4.0, "the bound assumes weights below 4"


@pytest.mark.parametrize(
    ("decoupled", "weight_decay"), [(False, 0.0), (False, 0.01), (True, 0.0), (True, 0.1)]
)
def test_parity_over_200_steps(decoupled: bool, weight_decay: float) -> None:
    theirs, ours = _pair()
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    baseline = kind(theirs.parameters(), lr=0.01, weight_decay=weight_decay, fused=True)
    shadow = copy.deepcopy(theirs).requires_grad_(False)
    teacher = EMATeacher(ours, decay=DECAY)
    optimizer = AdamEMA(
        ours.parameters(), lr=0.01, weight_decay=weight_decay, decoupled=decoupled, teacher=teacher
    )
    theirs_list = [p.detach() for p in theirs.parameters()]
    for batch in _batches(200):
        _backward(theirs, batch)
        _copy_gradients(theirs, ours)
        baseline.step()
        torch._foreach_lerp_(list(shadow.parameters()), theirs_list, 1.0 - DECAY)
        optimizer.step()
    bound = _bound(200, 0.01)
    _assert_close(ours, theirs, bound)
    _assert_close(teacher.model, shadow, bound)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine, other = optimizer.state[a], baseline.state[b]
        assert int(mine["step"]) == int(other["step"]) == 200
        for name in ("exp_avg", "exp_avg_sq"):
            # A moment is a sum of terms that decay: ten times the error of one update.
            scale = float(other[name].abs().max()) + weight_decay * 4.0
            assert float((mine[name] - other[name]).abs().max()) <= 2 * 10 * 8 * EPS * scale
    assert teacher.num_updates == 200


def test_training_gives_the_same_losses() -> None:
    theirs, ours = _pair()
    baseline = torch.optim.Adam(theirs.parameters(), lr=0.003, fused=True)
    optimizer = AdamEMA(ours.parameters(), lr=0.003, teacher=EMATeacher(ours))
    for batch in _batches(60):
        losses = [float(_backward(model, batch).detach()) for model in (theirs, ours)]
        # Gradients of a network this small and smooth pass weight errors on about tenfold.
        assert losses[0] == pytest.approx(losses[1], abs=10 * _bound(60, 0.003))
        baseline.step()
        optimizer.step()


def test_reference_and_kernels_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _pair()
    teachers = [EMATeacher(model, decay=DECAY, buffers="ema") for model in (one, other)]
    optimizers = [
        AdamEMA(teacher.student.parameters(), lr=0.01, weight_decay=0.01, teacher=teacher)
        for teacher in teachers
    ]
    modules = dict(_backend._modules)
    for batch in _batches(30):
        for model in (one, other):
            model.train()(batch[0])  # the same batch for both batch norms
        _backward(one, batch)
        _copy_gradients(one, other)
        optimizers[0].step()
        monkeypatch.setattr(_backend, "_modules", {})
        optimizers[1].step()
        monkeypatch.setattr(_backend, "_modules", modules)
    _assert_close(other, one, _bound(30, 0.01))
    _assert_close(teachers[1].model, teachers[0].model, _bound(30, 0.01))


def test_groups_have_their_own_numbers() -> None:
    theirs, ours = _pair()

    def groups(model: nn.Sequential) -> list[dict[str, Any]]:
        return [
            {"params": model[0].parameters(), "lr": 0.01, "weight_decay": 0.1},
            {"params": model[1].parameters(), "betas": (0.5, 0.9)},
            {"params": model[3].parameters(), "eps": 1e-3},
        ]

    baseline = torch.optim.Adam(groups(theirs), lr=0.003, fused=True)
    teacher = EMATeacher(ours, decay=DECAY)
    optimizer = AdamEMA(groups(ours), lr=0.003, teacher=teacher)
    for batch in _batches(20):
        _backward(theirs, batch)
        _copy_gradients(theirs, ours)
        baseline.step()
        optimizer.step()
    _assert_close(ours, theirs, _bound(20, 0.01))
    assert teacher.num_updates == 20, "one update a step, not one a group"


def test_a_group_added_later_takes_part() -> None:
    model = _net()
    teacher = EMATeacher(model)
    optimizer = AdamEMA(model[0].parameters(), teacher=teacher)
    optimizer.add_param_group({"params": model[3].parameters(), "lr": 0.1})
    before = model[3].weight.detach().clone()
    _backward(model, next(_batches(1)))
    optimizer.step()
    assert not torch.equal(model[3].weight, before)


def test_buffers_follow_the_step() -> None:
    model = _net()
    teacher = EMATeacher(model, decay=0.5)
    before = {name: buffer.clone() for name, buffer in teacher.model.named_buffers()}
    optimizer = AdamEMA(model.parameters(), teacher=teacher)
    _backward(model.train(), next(_batches(1)))
    optimizer.step()
    for name in ("1.running_mean", "1.running_var"):
        expected = torch.lerp(before[name], model.get_buffer(name), 0.5)
        torch.testing.assert_close(teacher.model.get_buffer(name), expected)
        assert not torch.equal(expected, before[name])
    assert int(teacher.model.get_buffer("1.num_batches_tracked")) == 1


def test_warm_up_of_the_teacher_is_used() -> None:
    model = _net()
    teacher = EMATeacher(model, decay=0.99, warmup_steps=3)
    optimizer = AdamEMA(model.parameters(), lr=0.1, teacher=teacher)
    for n, batch in enumerate(_batches(5)):
        decay = min(0.99, (1 + n) / (10 + n)) if n < 3 else 0.99
        before = teacher.model[0].weight.clone()
        _backward(model, batch)
        optimizer.step()
        expected = torch.lerp(before, model[0].weight.detach(), 1.0 - decay)
        # Two compilations of one lerp: 2 eps each of values below 4.
        assert float((teacher.model[0].weight - expected).abs().max()) <= 4 * EPS * 4


def test_without_gradients_only_the_teacher_moves() -> None:
    model = _net()
    teacher = EMATeacher(model, decay=0.5)
    optimizer = AdamEMA(model.parameters(), teacher=teacher)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    student, shadow = model[0].weight.detach().clone(), teacher.model[0].weight.clone()
    model.zero_grad(set_to_none=True)
    optimizer.step()
    assert torch.equal(model[0].weight, student)
    assert torch.equal(teacher.model[0].weight, torch.lerp(shadow, student, 0.5))


def test_a_frozen_layer_stays() -> None:
    theirs, ours = _pair()
    for model in (theirs, ours):
        model[0].requires_grad_(False)
    baseline = torch.optim.Adam(theirs.parameters(), lr=0.01, weight_decay=0.1, fused=True)
    optimizer = AdamEMA(ours.parameters(), lr=0.01, weight_decay=0.1, teacher=EMATeacher(ours))
    before = ours[0].weight.detach().clone()
    for batch in _batches(5):
        _backward(theirs, batch)
        _copy_gradients(theirs, ours)
        baseline.step()
        optimizer.step()
    assert torch.equal(ours[0].weight, before)
    _assert_close(ours, theirs, _bound(5, 0.01))


def test_parameters_moved_to_other_memory_are_followed() -> None:
    theirs, ours = _pair()
    baseline = torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    teacher = EMATeacher(ours, decay=0.0)
    optimizer = AdamEMA(ours.parameters(), lr=0.01, teacher=teacher)
    for batch in _batches(5):
        _backward(theirs, batch)
        _copy_gradients(theirs, ours)
        for param in ours.parameters():
            param.data = param.data.clone()
        baseline.step()
        optimizer.step()
    _assert_close(ours, theirs, _bound(5, 0.01))
    for a, b in zip(teacher.model.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_skipped_step_moves_nothing() -> None:
    model = _net()
    teacher = EMATeacher(model, decay=0.5, warmup_steps=5)
    optimizer = AdamEMA(model.parameters(), lr=0.1, teacher=teacher)
    _backward(model, next(_batches(1)))
    optimizer.step()
    model(torch.randn(8, 5, generator=torch.Generator().manual_seed(5)))  # the batch norm moves
    before = copy.deepcopy((model.state_dict(), teacher.state_dict(), optimizer.state_dict()))
    optimizer.step(found_inf=torch.ones(1))
    after = model.state_dict(), teacher.state_dict(), optimizer.state_dict()["state"]
    for old, new in zip(before[:2], after[:2], strict=True):
        assert all(torch.equal(new[name], tensor) for name, tensor in old.items())
    for index, state in before[2]["state"].items():
        assert all(torch.equal(after[2][index][name], t) for name, t in state.items())
    assert teacher.num_updates == 1
    optimizer.step(found_inf=torch.zeros(1))
    assert teacher.num_updates == 2


def test_scaled_and_clipped_gradients() -> None:
    plain, scaled = _pair()
    optimizers = [AdamEMA(model.parameters(), lr=0.01) for model in (plain, scaled)]
    for batch in _batches(3):
        _backward(plain, batch)
        _copy_gradients(plain, scaled)
        for param in scaled.parameters():
            assert param.grad is not None
            param.grad.mul_(2.0**12)
        optimizers[0].step(clip_factor=0.25)
        optimizers[1].step(grad_scale=torch.tensor(2.0**12), clip_factor=torch.tensor(0.25))
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(a, b), "powers of two round nothing"


def test_a_grad_scaler_drives_it() -> None:
    # No batch norm: the gradient of a bias before it is rounding noise, which Adam would amplify.
    theirs = nn.Sequential(_net()[0], nn.Tanh(), _net()[3])
    ours = copy.deepcopy(theirs)
    baseline = torch.optim.Adam(theirs.parameters(), lr=0.01)
    teacher = EMATeacher(ours)
    optimizer = AdamEMA(ours.parameters(), lr=0.01, teacher=teacher)
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0) for _ in range(2)]
    for number, batch in enumerate(_batches(6)):
        for model, used, scaler in ((theirs, baseline, scalers[0]), (ours, optimizer, scalers[1])):
            model.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            scaler.scale(loss * (torch.inf if number == 3 else 1.0)).backward()
            scaler.step(used)
            scaler.update()
    assert scalers[0].get_scale() == scalers[1].get_scale() == 512.0
    assert teacher.num_updates == 5, "the step with an infinite loss is skipped"
    _assert_close(ours, theirs, 10 * _bound(6, 0.01))


def test_a_closure_is_evaluated_with_gradients() -> None:
    model = _net()
    optimizer = AdamEMA(model.parameters())
    batch = next(_batches(1))
    with torch.no_grad():
        loss = optimizer.step(lambda: _backward(model, batch))
    assert float(loss.detach()) > 0.0
    assert AdamEMA(_net().parameters()).step() is None


def test_a_scheduler_sets_its_learning_rate() -> None:
    theirs, ours = _pair()
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(theirs.parameters(), lr=0.02, fused=True),
        AdamEMA(ours.parameters(), lr=0.02),
    ]
    schedulers = [torch.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.5) for o in optimizers]
    for batch in _batches(8):
        _backward(theirs, batch)
        _copy_gradients(theirs, ours)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
    assert optimizers[1].param_groups[0]["lr"] == pytest.approx(0.02 * 0.5**4)
    _assert_close(ours, theirs, _bound(8, 0.02))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("ours_first", [False, True])
def test_state_is_exchanged_with_torch(ours_first: bool, decoupled: bool) -> None:
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam

    def theirs(model: nn.Module) -> torch.optim.Optimizer:
        return kind(model.parameters(), lr=0.01, weight_decay=0.1, fused=True)

    def ours(model: nn.Module) -> torch.optim.Optimizer:
        return AdamEMA(model.parameters(), lr=0.01, weight_decay=0.1, decoupled=decoupled)

    first, second = (ours, theirs) if ours_first else (theirs, ours)
    stayed, moved = _pair()
    before = first(stayed)
    for batch in _batches(5):
        _backward(stayed, batch)
        before.step()
    moved.load_state_dict(stayed.state_dict())
    after = second(moved)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for batch in _batches(5, seed=2):
        _backward(stayed, batch)
        _copy_gradients(stayed, moved)
        before.step()
        after.step()
    _assert_close(moved, stayed, _bound(5, 0.01))


def test_own_state_continues_bit_for_bit() -> None:
    whole, resumed = _pair()
    teacher = EMATeacher(whole)
    optimizer = AdamEMA(whole.parameters(), lr=0.01, decoupled=True, teacher=teacher)
    for batch in _batches(3):
        _backward(whole, batch)
        optimizer.step()
    states = copy.deepcopy((whole.state_dict(), teacher.state_dict(), optimizer.state_dict()))
    resumed.load_state_dict(states[0])
    other_teacher = EMATeacher(resumed)
    other_teacher.load_state_dict(states[1])
    other = AdamEMA(resumed.parameters(), lr=0.5, teacher=other_teacher)
    other.load_state_dict(states[2])
    for batch in _batches(3, seed=2):
        for model, used in ((whole, optimizer), (resumed, other)):
            _backward(model, batch)
            used.step()
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(teacher.model.parameters(), other_teacher.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_float64_parameters() -> None:
    model = _net().double()
    optimizer = AdamEMA(model.parameters(), teacher=EMATeacher(model))
    signals, target = next(_batches(1))
    _backward(model, (signals.double(), target))
    optimizer.step()
    assert optimizer.state[model[0].weight]["exp_avg"].dtype is torch.float64


def test_channels_last_convolution() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = nn.Conv2d(3, 8, 3)
    ours = copy.deepcopy(theirs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    baseline = torch.optim.Adam(theirs.parameters(), lr=0.01)
    teacher = EMATeacher(ours, decay=DECAY)
    optimizer = AdamEMA(ours.parameters(), lr=0.01, teacher=teacher)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    for _ in range(3):
        baseline.zero_grad()
        optimizer.zero_grad()
        theirs(images).square().mean().backward()
        ours(images).square().mean().backward()
        assert ours.weight.grad is not None
        ours.weight.grad.copy_(theirs.weight.grad)
        ours.bias.grad.copy_(theirs.bias.grad)  # type: ignore[union-attr]
        baseline.step()
        optimizer.step()
    assert ours.weight.is_contiguous(memory_format=torch.channels_last)
    _assert_close(ours, theirs, _bound(3, 0.01))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"lr": -1.0}, r"`lr` must be at least 0, but is -1.0 instead"),
        ({"lr": float("nan")}, r"`lr` must be at least 0, but is nan instead"),
        ({"eps": -1.0}, r"`eps` must be at least 0, but is -1.0 instead"),
        ({"weight_decay": -0.1}, r"`weight_decay` must be at least 0, but is -0.1 instead"),
        ({"betas": (1.0, 0.9)}, r"`betas\[0\]` must be in \[0, 1\), but is 1.0 instead"),
        ({"betas": (0.9, -0.1)}, r"`betas\[1\]` must be in \[0, 1\), but is -0.1 instead"),
    ],
)
def test_bad_numbers_are_named(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AdamEMA(_net().parameters(), **arguments)


def test_a_parameter_of_another_model_is_refused() -> None:
    model = _net()
    teacher = EMATeacher(model)
    sentence = r"`params\[0\]` must be a parameter of the teacher's student, but is another tensor"
    with pytest.raises(ValueError, match=sentence):
        AdamEMA(_net().parameters(), teacher=teacher)
    optimizer = AdamEMA(model.parameters(), teacher=teacher)
    with pytest.raises(ValueError, match=sentence):
        optimizer.add_param_group({"params": _net().parameters()})
    assert len(optimizer.param_groups) == 1, "a refused group leaves no trace"


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(4, 3, sparse=True)
    optimizer = AdamEMA(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match=r"`grads\[0\]` must be a dense tensor"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_have_moments_and_teacher_in_full(dtype: torch.dtype) -> None:
    """Each step is the one of Adam in float32, rounded once; a saved state loses nothing."""
    model = _net().to(dtype)
    teacher = EMATeacher(model, decay=0.5)
    optimizer = AdamEMA(model.parameters(), lr=0.01, teacher=teacher)
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        if number == 3:  # into another one
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = AdamEMA(model.parameters(), lr=0.01, teacher=teacher)
            optimizer.load_state_dict(saved)
        wide = [torch.nn.Parameter(p.detach().float()) for p in model.parameters()]
        adam = torch.optim.Adam(wide, lr=0.01)
        averages = [t.clone() for t in teacher.model.parameters()]
        for param, other in zip(model.parameters(), wide, strict=True):
            param.grad = torch.randn(param.shape, generator=generator).to(dtype)
            other.grad = param.grad.float()
            adam.state[other] = {
                name: value.clone() for name, value in optimizer.state_of(param).items()
            }
        optimizer.step()
        adam.step()
        for param, other, average, before in zip(
            model.parameters(), wide, teacher.model.parameters(), averages, strict=True
        ):
            for name in ("exp_avg", "exp_avg_sq"):
                assert optimizer.state[param][name].dtype is torch.float32
                torch.testing.assert_close(optimizer.state[param][name], adam.state[other][name])
            # Where the float32 steps differ in their last bit, the rounding may go another way.
            near = torch.finfo(dtype).eps * other.abs() + 1e-7
            assert ((param.float() - other).abs() <= 0.51 * near + 1e-7).all()
            assert average.dtype is torch.float32
            torch.testing.assert_close(average, 0.5 * before + 0.5 * param.float())


def _trained(capturable: bool, buffers: str, *, load_into: bool | None = None) -> list[Tensor]:
    """Weights, averages and moments after twelve steps, of which three are skipped."""
    model = _net()
    teacher = EMATeacher(model, warmup_steps=8, buffers=buffers)
    optimizer = AdamEMA(model.parameters(), lr=0.01, teacher=teacher, capturable=capturable)
    for number, batch in enumerate(_batches(12)):
        _backward(model, batch)
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
        optimizer.step(found_inf=torch.tensor(float(number in (0, 5, 6))))
        if load_into is not None and number == 7:
            saved = copy.deepcopy((teacher.state_dict(), optimizer.state_dict()))
            teacher = EMATeacher(model, warmup_steps=8, buffers=buffers)
            optimizer = AdamEMA(model.parameters(), teacher=teacher, capturable=load_into)
            teacher.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
            assert optimizer.param_groups[0]["capturable"] is load_into
    assert teacher.num_updates == 9
    moments = [entry[name] for entry in optimizer.state.values() for name in sorted(entry)]
    return [*model.state_dict().values(), *teacher.state_dict().values(), *moments]


@pytest.mark.parametrize("buffers", ["ema", "copy", "skip"])
def test_a_capturable_one_takes_the_same_steps(buffers: str) -> None:
    expected = _trained(False, buffers)
    for found in (
        _trained(True, buffers),
        _trained(True, buffers, load_into=False),
        _trained(False, buffers, load_into=True),
    ):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_capturable_one_needs_a_decay_that_the_device_can_follow() -> None:
    model = _net()
    teacher = EMATeacher(model, schedule=lambda number: 0.9)
    with pytest.raises(ValueError, match="`schedule` must be None where updates are counted on"):
        AdamEMA(model.parameters(), teacher=teacher, capturable=True)


@pytest.mark.cuda
def test_a_capturable_one_never_waits_for_the_gpu(
    without_waits: Callable[[], AbstractContextManager[None]],
) -> None:
    if _backend.cuda_module is None:
        pytest.skip("needs the CUDA kernels")
    model = _net().cuda()
    teacher = EMATeacher(model, warmup_steps=8)
    optimizer = AdamEMA(model.parameters(), lr=0.01, teacher=teacher, capturable=True)
    signals, labels = next(_batches(1))
    batch = signals.cuda(), labels.cuda()
    found_inf = torch.zeros((), device="cuda")
    _backward(model, batch)
    optimizer.step(found_inf=found_inf)
    with without_waits():
        for _ in range(3):
            _backward(model, batch)
            optimizer.step(found_inf=found_inf)
    assert teacher.num_updates == 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_steps_alike(copied: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = AdamEMA(model.parameters(), lr=0.1, teacher=EMATeacher(model, decay=0.9))
    signals = torch.randn(5, 4)

    def train(model: nn.Module, optimizer: AdamEMA) -> None:
        optimizer.zero_grad()
        model(signals).square().sum().backward()
        optimizer.step()

    train(model, optimizer)
    other_model, other = copied((model, optimizer))
    assert other.teacher.student is other_model
    for _ in range(2):
        train(model, optimizer)
        train(other_model, other)
    assert torch.equal(other_model.weight, model.weight)
    assert torch.equal(other.teacher.model.weight, optimizer.teacher.model.weight)
    assert other.param_groups[0]["params"][0] is other_model.weight


@pytest.mark.parametrize("name", ["maximize", "amsgrad"])
def test_the_state_of_another_adam_is_refused(name: str) -> None:
    model = nn.Linear(4, 3)
    theirs = torch.optim.Adam(model.parameters(), lr=0.1, **{name: True})
    model(torch.ones(1, 4)).sum().backward()
    theirs.step()
    ours = AdamEMA(model.parameters(), lr=0.2)
    with pytest.raises(ValueError, match=f"`state_dict` must be that of an Adam without {name}, b"):
        ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["lr"] == 0.2
    assert not ours.state
