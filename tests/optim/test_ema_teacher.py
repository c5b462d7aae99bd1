"""`EMATeacher`: its decay, its buffers, its precision, the swap, and its state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoothdistill.optim import EMATeacher


def _model(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(72, 2))


def _signals(seed: int = 1) -> Tensor:
    return torch.randn(6, 3, 20, generator=torch.Generator().manual_seed(seed))


def _moved(model: nn.Module, seed: int = 2) -> None:
    """Give every parameter another value, and the batch norm a batch."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in model.parameters():
            param.add_(torch.randn(param.shape, generator=generator).to(param.dtype))
        model.train()(_signals(seed).to(next(model.parameters()).dtype))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def test_starts_as_a_frozen_copy_in_evaluation_mode() -> None:
    model = _model().train()
    teacher = EMATeacher(model)
    assert teacher.decay == 0.999
    assert teacher.num_updates == 0
    assert model.training
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, teacher.model.state_dict()[name])
        assert tensor.data_ptr() != teacher.model.state_dict()[name].data_ptr()


def test_is_isolated_from_the_student() -> None:
    model = _model()
    teacher = EMATeacher(model)
    before = _tensors(teacher.model)
    _moved(model)
    assert all(torch.equal(t, before[name]) for name, t in teacher.model.state_dict().items())
    student = _tensors(model)
    teacher.update()
    assert all(torch.equal(t, student[name]) for name, t in model.state_dict().items())


def test_update_is_the_moving_average() -> None:
    model = _model()
    teacher = EMATeacher(model, decay=0.75)
    expected = {name: p.detach().double() for name, p in teacher.model.named_parameters()}
    for seed in range(3):
        _moved(model, seed)
        teacher.update()
        for name, param in model.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * param.detach().double()
    assert teacher.num_updates == 3
    for name, param in teacher.model.named_parameters():
        # Three updates of four half-eps roundings, of values below 8.
        bound = 3 * 4 * torch.finfo(torch.float32).eps / 2 * 8
        assert (param.double() - expected[name]).abs().max() <= bound


def test_half_life() -> None:
    teacher = EMATeacher(_model(), half_life_steps=20)
    assert teacher.decay**20 == pytest.approx(0.5, rel=1e-12)


def test_warm_up_follows_its_formula_and_ends() -> None:
    teacher = EMATeacher(_model(), decay=0.9, warmup_steps=5)
    decays = []
    for _ in range(7):
        decays.append(teacher.current_decay())
        teacher.update()
    assert decays == [min(0.9, (1 + n) / (10 + n)) for n in range(5)] + [0.9, 0.9]
    low = EMATeacher(_model(), decay=0.05, warmup_steps=5)
    assert low.current_decay() == 0.05, "warm-up only lowers the decay"


def test_decay_at_its_ends() -> None:
    for decay in (0.0, 1.0):
        model = _model()
        teacher = EMATeacher(model, decay=decay)
        before = _tensors(teacher.model)
        _moved(model)
        teacher.update()
        for name, param in teacher.model.named_parameters():
            source = model.get_parameter(name) if decay == 0.0 else before[name]
            assert torch.equal(param, source)


@pytest.mark.parametrize("policy", ["copy", "ema", "skip"])
def test_buffers_follow_their_policy(policy: Any) -> None:
    model = _model()
    teacher = EMATeacher(model, decay=0.75, buffers=policy)
    before = {name: b.clone() for name, b in teacher.model.named_buffers()}
    _moved(model)
    teacher.update()
    student = dict(model.named_buffers())
    for name, buffer in teacher.model.named_buffers():
        if policy == "skip":
            assert torch.equal(buffer, before[name])
        elif policy == "copy" or not buffer.is_floating_point():
            assert torch.equal(buffer, student[name])
        else:
            assert torch.equal(buffer, torch.lerp(before[name], student[name], 0.25))
            assert not torch.equal(buffer, student[name])
    counter = teacher.model.get_buffer("1.num_batches_tracked")
    assert counter.dtype is torch.int64
    assert int(counter) == (0 if policy == "skip" else 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_student_has_a_float32_shadow(dtype: torch.dtype) -> None:
    model = _model().to(dtype)
    teacher = EMATeacher(model, decay=0.999)
    start = {name: p.clone() for name, p in teacher.model.named_parameters()}
    with torch.no_grad():
        for param in model.parameters():
            param.mul_(1.03125)  # in half precision, 0.001 of this step would round to nothing
    for _ in range(3):
        teacher.update()
    for name, param in teacher.model.named_parameters():
        assert param.dtype is torch.float32
        target = model.get_parameter(name).detach().double()
        exact = target + 0.999**3 * (start[name].double() - target)
        bound = 3 * 2 * torch.finfo(torch.float32).eps * 2 * target.abs() + 1e-12
        assert ((param.double() - exact).abs() <= bound).all()
    assert teacher.model(_signals()).dtype is torch.float32
    with pytest.raises(TypeError, match=r"`shadow_dtype` must be the student's dtype"):
        teacher.swapped().__enter__()


def test_shadow_of_a_given_type() -> None:
    teacher = EMATeacher(_model().double(), shadow_dtype=torch.float64)
    assert {p.dtype for p in teacher.model.parameters()} == {torch.float64}
    teacher.update()


def test_swap_and_back() -> None:
    model = _model()
    teacher = EMATeacher(model, decay=0.5)
    _moved(model)
    teacher.update()
    student, shadow = _tensors(model), _tensors(teacher.model)
    addresses = [p.data_ptr() for p in model.parameters()]
    with teacher.swapped() as swapped:
        assert swapped is model
        assert all(torch.equal(t, shadow[name]) for name, t in model.state_dict().items())
        assert all(torch.equal(t, student[name]) for name, t in teacher.model.state_dict().items())
        model.eval()
        inside = model(_signals())
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert all(torch.equal(t, student[name]) for name, t in model.state_dict().items())
    assert all(torch.equal(t, shadow[name]) for name, t in teacher.model.state_dict().items())
    assert torch.equal(inside, teacher.model(_signals()))


def test_swap_ends_after_an_exception() -> None:
    model = _model()
    teacher = EMATeacher(model)
    _moved(model)
    student = _tensors(model)
    with pytest.raises(ZeroDivisionError), teacher.swapped():
        _ = 1 / 0
    assert all(torch.equal(t, student[name]) for name, t in model.state_dict().items())


def test_a_compiled_student_sees_the_swap() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    teacher = EMATeacher(model)
    _moved_linear(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    signals = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        outside = compiled(signals)
        with teacher.swapped():
            inside = compiled(signals)
        again = compiled(signals)
        assert torch.equal(inside, teacher.model(signals))
    assert torch.equal(outside, again)
    assert not torch.equal(outside, inside)


def _moved_linear(model: nn.Module) -> None:
    with torch.no_grad():
        for param in model.parameters():
            param.add_(1.0)


def test_state_round_trip() -> None:
    model = _model()
    teacher = EMATeacher(model, decay=0.5, warmup_steps=10)
    for seed in range(3):
        _moved(model, seed)
        teacher.update()
    state = copy.deepcopy(teacher.state_dict())
    assert all(isinstance(t, Tensor) for t in state.values())
    other = EMATeacher(_model(seed=9), decay=0.5, warmup_steps=10)
    student = _tensors(other.student)
    other.load_state_dict(state)
    assert other.num_updates == 3
    assert other.current_decay() == teacher.current_decay()
    for name, tensor in other.model.state_dict().items():
        assert torch.equal(tensor, teacher.model.state_dict()[name])
    assert all(torch.equal(t, student[name]) for name, t in other.student.state_dict().items())
    other.model.get_parameter("3.weight").add_(1.0)
    assert torch.equal(state["model.3.weight"], teacher.model.get_parameter("3.weight"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model.3.weight": None}, "differs in 3.weight instead"),
        ({"model.4.weight": torch.zeros(1)}, "differs in 4.weight instead"),
        ({"num_updates": None}, "differs in num_updates instead"),
    ],
)
def test_a_state_of_another_model_is_refused(change: dict[str, Any], sentence: str) -> None:
    teacher = EMATeacher(_model())
    before = _tensors(teacher.model)
    state = {n: t for n, t in {**teacher.state_dict(), **change}.items() if t is not None}
    with pytest.raises(KeyError, match=sentence):
        teacher.load_state_dict(state)
    assert all(torch.equal(t, before[name]) for name, t in teacher.model.state_dict().items())


def test_a_state_of_another_shape_is_refused_before_anything_is_written() -> None:
    teacher = EMATeacher(_model())
    state = {name: t + 1 for name, t in teacher.state_dict().items()}
    state["model.3.weight"] = torch.zeros(3, 3)
    before = _tensors(teacher.model)
    with pytest.raises(
        ValueError, match=r"`state\['model.3.weight'\]` must have the shape \[2, 72"
    ):
        teacher.load_state_dict(state)
    assert teacher.num_updates == 0
    assert all(torch.equal(t, before[name]) for name, t in teacher.model.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"decay": 1.5}, r"`decay` must be in \[0, 1\], but is 1.5 instead"),
        ({"decay": float("nan")}, r"`decay` must be in \[0, 1\], but is nan instead"),
        ({"half_life_steps": 0.0}, r"`half_life_steps` must be above 0, but is 0.0 instead"),
        ({"half_life_steps": float("nan")}, r"`half_life_steps` must be above 0, but is nan"),
        (
            {"decay": 0.9, "half_life_steps": 10},
            r"`half_life_steps` must be None where `decay` is given, but is 10 instead",
        ),
        ({"warmup_steps": -1}, r"`warmup_steps` must be at least 0, but is -1 instead"),
        ({"buffers": "average"}, r"`buffers` must be one of copy, ema, skip, but is 'average'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EMATeacher(_model(), **arguments)


def test_shared_weights_are_averaged_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight

    model = Tied()
    teacher = EMATeacher(model, decay=0.5)
    start = model.first.weight.detach().clone()
    with torch.no_grad():
        model.first.weight.add_(1.0)
    teacher.update()
    assert teacher.model.second.weight is teacher.model.first.weight  # type: ignore[union-attr]
    moved = teacher.model.first.weight - start  # type: ignore[operator, union-attr]
    # Two additions of values below 2, half an eps each.
    assert (moved - 0.5).abs().max() <= 2 * torch.finfo(torch.float32).eps


def test_parameters_moved_to_other_memory_are_followed() -> None:
    model = _model()
    teacher = EMATeacher(model, decay=0.0)
    with torch.no_grad():
        for param in model.parameters():
            param.data = param.data + 1.0
    teacher.update()
    for name, param in teacher.model.named_parameters():
        assert torch.equal(param, model.get_parameter(name))


@pytest.mark.parametrize("policy", ["ema", "copy"])
def test_buffers_that_were_moved_are_followed(policy: str) -> None:
    """`Module.to` keeps parameters, and replaces buffers."""
    model = _model()
    teacher = EMATeacher(model, decay=0.5, buffers=policy)
    model.double()
    teacher.model.double()
    teacher.restart()
    before = teacher.model[1].running_mean.clone()
    _moved(model)
    teacher.update()
    mean = model[1].running_mean
    expected = mean if policy == "copy" else (before + mean) / 2.0
    torch.testing.assert_close(teacher.model[1].running_mean, expected)
    assert teacher.model[1].num_batches_tracked == 1
    assert teacher.model[1].running_mean.dtype is torch.float64
