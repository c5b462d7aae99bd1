"""ResNetLSTMaN: its layers against plain loops, its size against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from smoothdistill.models import ResNetLSTMaN
from smoothdistill.models.cost import network_cost

CHANNELS, SAMPLES, CLASSES = 6, 128, 12


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ResNetLSTMaN({"activity": CLASSES}, CHANNELS, SAMPLES, width=0.125).double()


def test_shapes_of_the_stages_are_those_of_the_paper():
    network = ResNetLSTMaN({"activity": CLASSES}, CHANNELS, SAMPLES)
    shapes = [tuple(stage.shape[1:]) for stage in network.stages(torch.randn(2, CHANNELS, SAMPLES))]
    assert shapes == [(128, 128), (256, 128), (256, 128), (128,), (128,), (384,)]


def test_size_is_that_of_its_layers():
    filters, units = (128, 256, 256), 128
    kernels, narrow = (8, 5, 3), CHANNELS
    parameters = macs = 0
    for wide in filters:
        weights = sum(
            first * wide * kernel
            for first, kernel in zip((narrow, wide, wide), kernels, strict=True)
        )
        weights += narrow * wide if narrow != wide else 0
        parameters += weights + 4 * 2 * wide  # three batch norms, and that of the shortcut
        macs += weights * SAMPLES
        narrow = wide
    gates = 3 * 4 * units * (SAMPLES + units)  # of the first layer
    parameters += gates + 3 * 2 * 4 * units
    macs += CHANNELS * gates
    only_step = 3 * 3 * units * units
    parameters += only_step + 3 * 3 * units
    macs += only_step
    for inputs in (CHANNELS * SAMPLES, units):
        parameters += inputs * units + units
        macs += inputs * units + units * units  # the lookup of the value
    parameters += (256 + units) * CLASSES + CLASSES
    macs += (256 + units) * CLASSES
    network = ResNetLSTMaN({"activity": CLASSES}, CHANNELS, SAMPLES)
    assert network_cost(network, CHANNELS, SAMPLES) == (parameters, macs)
    assert parameters == 2_675_340


def test_attention_is_that_of_each_window_alone(model):
    layer = model.attentions[0]
    signals = torch.randn(3, CHANNELS, SAMPLES, dtype=torch.float64)
    found = layer(signals)
    for number, window in enumerate(signals):
        query, key, value = (
            lstm(window[None])[0] for lstm in (layer.query, layer.key, layer.value)
        )
        expected = torch.zeros_like(value)
        for place in range(len(value)):
            scores = query[place] * key
            shares = torch.exp(scores - scores.max())
            expected[place] = (shares / shares.sum() * value).sum()
        direct = layer.direct.weight @ window.reshape(-1) + layer.direct.bias
        torch.testing.assert_close(found[number], expected + direct.clamp(min=0))


def test_lstms_step_over_channels(model):
    """A step's input is the whole series of one channel; the last channel is the last step."""
    lstm = model.attentions[0].query
    signals = torch.randn(2, CHANNELS, SAMPLES, dtype=torch.float64)
    hidden = cell = torch.zeros(2, lstm.hidden_size, dtype=torch.float64)
    for channel in range(CHANNELS):
        gates = (
            signals[:, channel] @ lstm.weight_ih_l0.T
            + lstm.bias_ih_l0
            + hidden @ lstm.weight_hh_l0.T
            + lstm.bias_hh_l0
        )
        let_in, keep, new, let_out = gates.chunk(4, dim=1)
        cell = keep.sigmoid() * cell + let_in.sigmoid() * new.tanh()
        hidden = let_out.sigmoid() * cell.tanh()
    torch.testing.assert_close(lstm(signals), hidden)


def test_second_layer_takes_the_first_step_of_an_lstm(model):
    step = model.attentions[1].query
    units = step.out_features // 3
    lstm = torch.nn.LSTM(units, units, batch_first=True).double()
    with torch.no_grad():
        for gate, place in ((0, 0), (2, 1), (3, 2)):  # torch has input, forget, cell, output
            theirs, ours = slice(gate * units, (gate + 1) * units), slice(place * units, None)
            lstm.weight_ih_l0[theirs] = step.weight[ours][:units]
            lstm.bias_ih_l0[theirs] = step.bias[ours][:units]
        lstm.bias_hh_l0.zero_()
    values = torch.randn(3, 1, units, dtype=torch.float64)
    torch.testing.assert_close(step(values), lstm(values)[0][:, -1])


def test_block_is_three_convolutions_and_a_shortcut(model):
    model.eval()
    block = model.blocks[0]
    for norm in (*block.norms, block.shortcut_norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    signal = torch.randn(1, CHANNELS, SAMPLES, dtype=torch.float64)

    def normalized(norm, values):
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return (values - norm.running_mean[:, None]) * scale[:, None] + norm.bias[:, None]

    values = signal[0]
    for number, (convolution, norm) in enumerate(zip(block.convolutions, block.norms, strict=True)):
        values = values.clamp(min=0) if number else values
        padded = np.pad(values.detach().numpy(), ((0, 0), ((8, 5, 3)[number] - 1, 8)))
        out = torch.zeros(len(convolution.weight), SAMPLES, dtype=torch.float64)
        kernel = (8, 5, 3)[number]
        first = kernel - 1 - (kernel - 1) // 2  # so that the kernel's middle is at the sample
        for time in range(SAMPLES):
            piece = torch.from_numpy(padded[:, first + time : first + time + kernel])
            out[:, time] = (convolution.weight * piece).sum((1, 2))
        values = normalized(norm, out)
    shortcut = normalized(block.shortcut_norm, block.widen.weight[:, :, 0] @ signal[0])
    torch.testing.assert_close(block(signal)[0], (values + shortcut).clamp(min=0))


def test_a_window_does_not_see_its_neighbours_in_evaluation(model):
    model.eval()
    signals = torch.randn(5, CHANNELS, SAMPLES, dtype=torch.float64)
    together = model(signals)["activity"]
    for number in range(5):
        torch.testing.assert_close(
            model(signals[number : number + 1])["activity"][0], together[number]
        )


@pytest.mark.parametrize("width", [0, -1.0, math.inf, math.nan])
def test_a_width_without_sense_is_one_sentence(width):
    with pytest.raises(
        ValueError, match=r"`width` must be above 0 and finite, but is .* instead\."
    ):
        ResNetLSTMaN({"activity": 2}, width=width)


def test_a_width_that_is_no_number_is_one_sentence():
    with pytest.raises(TypeError, match=r"`width` must be a number, but is str instead\."):
        ResNetLSTMaN({"activity": 2}, width="0.5")
