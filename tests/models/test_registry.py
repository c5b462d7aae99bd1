"""What every registered model must do; a new entry is tested on arrival."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from smoothdistill.models import MODELS, build_model, register_model

TASKS = {"activity": 6, "where.it is": 3, "posture": 2}


@pytest.fixture(params=sorted(MODELS))
def name(request):
    return request.param


@pytest.mark.parametrize(("in_channels", "window_samples"), [(3, 100), (6, 128), (1, 90)])
def test_maps_windows_to_logits_of_every_task(name, in_channels, window_samples):
    model = build_model(
        name, num_classes=TASKS, in_channels=in_channels, window_samples=window_samples
    )
    outputs = model(torch.randn(4, in_channels, window_samples))
    assert list(outputs) == list(TASKS)
    for task, logits in outputs.items():
        assert logits.shape == (4, TASKS[task])
        assert logits.dtype == torch.float32


def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    model = build_model(name, num_classes=TASKS)
    sum(logits.square().sum() for logits in model(torch.randn(8, 3, 100)).values()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_gradient_equals_a_difference_quotient(name):
    torch.manual_seed(0)
    model = build_model(name, num_classes={"activity": 2}).double().eval()
    signals = torch.randn(2, 3, 100, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(signals)

    def value(at):
        return model(at)["activity"].square().sum()

    (gradient,) = torch.autograd.grad(value(signals), signals)
    step = 1e-7
    with torch.no_grad():
        quotient = (value(signals + step * direction) - value(signals - step * direction)) / (
            2 * step
        )
    # Central difference: eps / step = 2e-9 of rounding, step^2 of curvature; a ReLU kink would
    # be within 1e-7 of a value by chance only, and the seed is fixed.
    torch.testing.assert_close((gradient * direction).sum(), quotient, rtol=1e-6, atol=1e-8)


def test_same_seed_same_weights_and_state_round_trip(name):
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(build_model(name, num_classes=TASKS))
    signals = torch.randn(2, 3, 100)
    for task, logits in models[0].eval()(signals).items():
        assert torch.equal(logits, models[1].eval()(signals)[task])
    torch.manual_seed(6)
    third = build_model(name, num_classes=TASKS)
    third.load_state_dict(models[0].state_dict())
    assert torch.equal(third.eval()(signals)["activity"], models[0](signals)["activity"])


def test_stages_end_with_what_the_heads_read(name):
    torch.manual_seed(1)
    model = build_model(name, num_classes=TASKS, in_channels=6, window_samples=128).eval()
    signals = torch.randn(5, 6, 128)
    with torch.no_grad():
        *stages, features = model.stages(signals)
        logits = model.classify(features)
    assert stages
    assert features.shape == (5, model.num_features)
    assert all(len(stage) == 5 and stage.ndim in (2, 3) for stage in stages)
    for task, values in model(signals).items():
        torch.testing.assert_close(logits[task], values)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_classes": {}}, "`num_classes` must hold at least 1 task, but is empty instead."),
        ({"num_classes": {"a": 0}}, "`num_classes['a']` must be at least 1, but is 0 instead."),
        ({"in_channels": 0}, "`in_channels` must be at least 1, but is 0 instead."),
        ({"window_samples": 0}, "`window_samples` must be at least "),
    ],
)
def test_sizes_without_sense_are_one_sentence(name, arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        build_model(name, **{"num_classes": TASKS} | arguments)


def test_signals_of_another_shape_or_kind_are_one_sentence(name):
    model = build_model(name, num_classes=TASKS, in_channels=6, window_samples=128)
    sentence = "`signals` must have the shape [batch, 6, 128] (channels, time), but has the shape "
    for shape in ((2, 3, 128), (2, 6, 100), (6, 128)):
        with pytest.raises(ValueError, match=re.escape(f"{sentence}{list(shape)} instead.")):
            model(torch.zeros(shape))
    with pytest.raises(TypeError, match="`signals` must be a floating-point tensor"):
        model(torch.zeros(2, 6, 128, dtype=torch.int64))


def test_signals_are_left_as_they_were(name):
    signals = torch.randn(2, 3, 100)
    before = signals.clone()
    build_model(name, num_classes=TASKS)(signals)
    assert torch.equal(signals, before)


def test_unknown_model_is_one_sentence():
    with pytest.raises(
        ValueError, match=r"`name` must be one of .*'mtl-net'.*, but is 'lstm' instead\."
    ):
        build_model("lstm", num_classes=TASKS)


def test_unknown_option_is_one_sentence(name):
    sentence = f"`options` of model '{name}' must be among ["
    with pytest.raises(ValueError, match=re.escape(sentence) + r".*\], but has 'widht' instead\."):
        build_model(name, num_classes=TASKS, widht=2)


def test_options_reach_the_model():
    model = build_model("mtl-net", num_classes=TASKS, layout="published")
    assert model.layout == "published"


def test_a_name_is_given_once(monkeypatch):
    monkeypatch.setattr("smoothdistill.models.registry.MODELS", dict(MODELS))
    from smoothdistill.models import registry

    @register_model("mine")
    class Mine(nn.Module):
        pass

    assert registry.MODELS["mine"] is Mine
    with pytest.raises(ValueError, match=r"`name` must be one that no model has, but is 'mine' \("):
        register_model("mine")
