"""HAR-MLP: its size, its dropout, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from smoothdistill.models import HARMLP
from smoothdistill.models.cost import network_cost


def test_size_is_that_of_its_layers():
    cost = network_cost(HARMLP({"activity": 12}, 6, 128), 6, 128)
    assert cost.num_macs == 768 * 500 + 2 * 500 * 500 + 500 * 12
    assert cost.num_parameters == cost.num_macs + 3 * 500 + 12


def test_dropout_is_of_training_only():
    torch.manual_seed(0)
    model = HARMLP({"activity": 3}, dropout=0.5)
    signals = torch.randn(64, 3, 100)
    *layers, features = model.stages(signals)
    share = (features == 0).float().mean() - (layers[-1] == 0).float().mean() / 2
    assert abs(share - 0.5) < 0.02  # 32,000 draws: a deviation of 0.003
    assert not torch.equal(model(signals)["activity"], model(signals)["activity"])
    model.eval()
    *layers, features = model.stages(signals)
    assert torch.equal(features, layers[-1])
    assert torch.equal(model(signals)["activity"], model(signals)["activity"])


def test_layers_are_linear_then_relu():
    torch.manual_seed(0)
    model = HARMLP({"activity": 3}, 2, 10, width=0.02).double().eval()
    signals = torch.randn(4, 2, 10, dtype=torch.float64)
    values = signals.reshape(4, 20)
    for layer in model.layers:
        values = (values @ layer.weight.T + layer.bias).clamp(min=0)
    expected = values @ model.heads[0].weight.T + model.heads[0].bias
    torch.testing.assert_close(model(signals)["activity"], expected)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_out_of_range_is_one_sentence(dropout):
    with pytest.raises(
        ValueError, match=r"`dropout` must be at least 0 and below 1, but is .* instead\."
    ):
        HARMLP({"activity": 2}, dropout=dropout)


def test_dropout_that_is_no_number_is_one_sentence():
    with pytest.raises(TypeError, match=r"`dropout` must be a number, but is str instead\."):
        HARMLP({"activity": 2}, dropout="half")
