"""Layers over maps with channels innermost give what the layers themselves give."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune

from smoothdistill.models import MobileNetV31D, ResNetLSTMaN
from smoothdistill.models.channels_last import arrange, convolve, normalize, pad

LAYERS = {
    "1 x 1": lambda: nn.Conv1d(6, 10, 1),
    "1 x 1, stride 2": lambda: nn.Conv1d(6, 10, 1, stride=2, bias=False),
    "1 x 1, padded": lambda: nn.Conv1d(6, 10, 1, padding=1),
    "5": lambda: nn.Conv1d(6, 10, 5, padding=2),
    "8, dilated": lambda: nn.Conv1d(6, 4, 8, dilation=2, bias=False),
    "depthwise": lambda: nn.Conv1d(6, 6, 3, stride=2, padding=1, groups=6, bias=False),
    "groups": lambda: nn.Conv1d(6, 4, 3, groups=2),
    "same": lambda: nn.Conv1d(6, 4, 3, padding="same"),
    "circular": lambda: nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular"),
}


def maps_of(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("shape", [(3, 6, 40), (1, 6, 17), (2, 6, 16)])
@pytest.mark.parametrize("name", LAYERS)
def test_convolution_and_its_gradients(name, shape):
    torch.manual_seed(1)
    layer, maps = LAYERS[name]().double(), maps_of(*shape)
    expected, found = layer(maps), convolve(layer, arrange(maps))
    torch.testing.assert_close(found, expected)
    wanted = [maps, *layer.parameters()]
    direction = torch.randn_like(expected)
    gradients = torch.autograd.grad(found, wanted, direction)
    for one, other in zip(gradients, torch.autograd.grad(expected, wanted, direction), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("is_training", [True, False])
def test_batch_norm_and_what_it_remembers(is_training):
    norms = [nn.BatchNorm1d(6).double().train(is_training) for _ in range(2)]
    maps = maps_of(4, 6, 9)
    found = normalize(norms[1], arrange(maps))
    torch.testing.assert_close(found, norms[0](maps))
    for one, other in zip(norms[0].buffers(), norms[1].buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_padding_keeps_the_order_in_memory():
    maps = arrange(maps_of(2, 6, 9))
    padded = pad(maps, 3, 4)
    torch.testing.assert_close(padded, nn.functional.pad(maps, (3, 4)))
    assert padded.transpose(1, 2).is_contiguous()


def test_order_in_memory_is_kept_through_layers():
    maps = arrange(maps_of(2, 6, 9))
    assert maps.transpose(1, 2).is_contiguous()
    for name in ("1 x 1", "5", "depthwise"):
        out = convolve(LAYERS[name]().double(), maps)
        out = nn.functional.hardswish(normalize(nn.BatchNorm1d(out.shape[1]).double(), out))
        assert out.transpose(1, 2).is_contiguous(), name


@pytest.mark.parametrize("batch", [0, 1])
def test_few_windows(batch):
    maps = arrange(torch.zeros(batch, 6, 9))
    layer, norm = nn.Conv1d(6, 4, 3), nn.BatchNorm1d(4).eval()
    assert normalize(norm, convolve(layer, maps)).shape == (batch, 4, 7)


@pytest.mark.parametrize("is_arranged", [True, False])
def test_a_single_value_is_normalized_by_what_is_remembered(is_arranged):
    norm = nn.BatchNorm1d(6)
    norm.running_mean.normal_()
    maps = torch.randn(1, 6, 1)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    found = normalize(norm, arrange(maps) if is_arranged else maps)
    torch.testing.assert_close(found, norm.eval()(maps))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize(
    "build",
    [
        lambda: ResNetLSTMaN({"activity": 5}, 3, 64, width=0.125),
        lambda: MobileNetV31D({"activity": 5}, 3, 64, width=0.125),
        lambda: MobileNetV31D({"activity": 5}, 3, 64, table="student", width=0.125),
    ],
)
def test_networks_are_the_same_with_the_layers_themselves(build, monkeypatch):
    torch.manual_seed(0)
    model = build().double()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    signals = torch.randn(4, 3, 64, dtype=torch.float64)
    found = model(signals)["activity"]
    gradients = torch.autograd.grad(found.square().sum(), list(model.parameters()))
    remembered = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    monkeypatch.setattr("smoothdistill.models.channels_last._lies_so", lambda maps: False)
    expected = model(signals)["activity"]
    torch.testing.assert_close(found, expected)
    plain = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    for one, other in zip(gradients, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, remembered[name])


class Twice(nn.Conv1d):
    """A convolution of another kind."""

    def forward(self, maps):
        return 2 * super().forward(maps)


def test_a_layer_that_is_more_than_its_weights_is_called():
    maps = arrange(maps_of(3, 6, 16))
    layer = nn.Conv1d(6, 4, 3).double()
    plain = convolve(layer, maps)
    other = Twice(6, 4, 3).double()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(convolve(other, maps), 2 * plain)
    handle = layer.register_forward_hook(lambda module, given, out: 3 * out)
    torch.testing.assert_close(convolve(layer, maps), 3 * plain)
    handle.remove()
    handle = register_module_forward_hook(lambda module, given, out: 5 * out)
    torch.testing.assert_close(convolve(layer, maps), 5 * plain)
    handle.remove()
    layer.forward = lambda maps: 7 * plain
    torch.testing.assert_close(convolve(layer, maps), 7 * plain)
    del layer.forward
    torch.testing.assert_close(convolve(layer, maps), plain)


@pytest.mark.parametrize("model", [ResNetLSTMaN, MobileNetV31D])
def test_a_pruned_network_is_trained(model):
    torch.manual_seed(0)
    sizes = {"table": "student"} if model is MobileNetV31D else {}
    network = model({"a": 4}, in_channels=3, window_samples=64, width=0.1, **sizes)
    layers = [layer for layer in network.modules() if type(layer) is nn.Conv1d]
    for layer in layers:
        prune.l1_unstructured(layer, "weight", 0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.randn(8, 3, 64))["a"].square().sum().backward()
        optimizer.step()
    for layer in layers:
        assert (layer.weight_orig.grad != 0).any()
        assert layer.weight_orig.grad[layer.weight_mask == 0].abs().max() == 0
