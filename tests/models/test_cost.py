"""Counting parameters and multiply-adds."""

from __future__ import annotations

import pytest
import torch

from smoothdistill.models import MODELS, MTLNet, build_model
from smoothdistill.models.cost import network_cost


def test_mtl_net_is_counted_by_hand():
    cost = network_cost(MTLNet({"activity": 18, "placement": 2}), 3, 100)
    assert cost.num_parameters == 1_800_084 + 2 * 32 * 9  # two further input channels
    convolutions = 3 * 32 * 9 * 92 + 32 * 64 * 9 * 38
    assert cost.num_macs == convolutions + 1216 * 1024 + 1024 * 512 + 512 * 20


@pytest.mark.parametrize("name", sorted(MODELS))
def test_counting_leaves_the_model_as_it_was(name):
    model = build_model(name, num_classes={"activity": 4})
    for is_training in (True, False):
        model.train(is_training)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        assert network_cost(model, 3, 100).num_macs > 0
        assert model.training is is_training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_numbers_are_not_counted():
    model = MTLNet({"activity": 18})
    whole = network_cost(model, 3, 100).num_parameters
    model.conv1.requires_grad_(False)
    assert network_cost(model, 3, 100).num_parameters == whole - 3 * 32 * 9 - 32
