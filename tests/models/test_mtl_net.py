from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from smoothdistill.models import MTLNet

TASKS = {"activity": 6, "placement": 3}
LAYOUTS = ("axes", "published")


class ConvolutionOverRows(nn.Module):
    """The published form: a two-dimensional network over [batch, 1, channels, time].

    Its pools have a kernel of 1 row but a stride of 2 over rows, which is the defect.
    """

    def __init__(self, num_classes, num_rows, window_samples):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 32, (1, 9)),
            nn.ReLU(),
            nn.MaxPool2d((1, 2), stride=2),
            nn.Conv2d(32, 64, (1, 9)),
            nn.ReLU(),
            nn.MaxPool2d((1, 2), stride=2),
            nn.Flatten(),
        )
        width = self.trunk(torch.zeros(1, 1, num_rows, window_samples)).shape[1]
        self.dense = nn.Sequential(
            nn.Linear(width, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU()
        )
        self.heads = nn.ModuleList(nn.Linear(512, classes) for classes in num_classes.values())

    def forward(self, rows):
        shared = self.dense(self.trunk(rows))
        return [head(shared) for head in self.heads]


def published_pair(num_channels, window_samples):
    torch.manual_seed(0)
    ours = MTLNet(TASKS, num_channels, window_samples, layout="published")
    theirs = ConvolutionOverRows(TASKS, num_channels, window_samples)
    layers = [theirs.trunk[0], theirs.trunk[3], theirs.dense[0], theirs.dense[2], *theirs.heads]
    mine = [ours.conv1, ours.conv2, ours.linear1, ours.linear2, *ours.heads]
    with torch.no_grad():
        for target, source in zip(layers, mine, strict=True):
            target.weight.copy_(source.weight.reshape(target.weight.shape))
            target.bias.copy_(source.bias)
    return ours, theirs


@pytest.mark.parametrize(
    ("num_channels", "window_samples"), [(3, 100), (1, 100), (3, 90), (4, 28), (6, 128), (9, 50)]
)
def test_published_layout_equals_the_two_dimensional_form(num_channels, window_samples):
    ours, theirs = published_pair(num_channels, window_samples)
    # As the released code feeds it: windows [N, time, channels], reshaped (not transposed).
    windows = torch.randn(5, window_samples, num_channels) * 9.81
    rows = windows.reshape(5, 1, num_channels, window_samples)
    signals = windows.transpose(1, 2).contiguous().requires_grad_()
    outputs = ours(signals)
    for task, expected in zip(TASKS, theirs(rows), strict=True):
        # float32 sums of 1216 terms in another order: some 1e-7 of values near 1.
        torch.testing.assert_close(outputs[task], expected, rtol=1e-6, atol=1e-6)


def test_published_layout_reads_the_first_34_of_100_samples():
    ours, _ = published_pair(3, 100)
    signals = torch.randn(2, 3, 100, requires_grad=True)
    sum(logits.sum() for logits in ours(signals).values()).backward()
    live = signals.grad.abs().sum(dim=(0, 1)) > 0
    assert live[:33].all()
    assert not live[34:].any()
    assert signals.grad[:, 0, 33].abs().sum() > 0, "sample 33 reaches the heads by its x axis only"
    assert signals.grad[:, 1:, 33].abs().sum() == 0


def test_axes_layout_reads_every_sample_of_every_axis():
    torch.manual_seed(0)
    signals = torch.randn(16, 3, 100, requires_grad=True)
    sum(logits.sum() for logits in MTLNet(TASKS)(signals).values()).backward()
    assert (signals.grad.abs().sum(dim=0) > 0).all()


@pytest.mark.parametrize(
    ("classes", "expected"), [((13, 3), 1_798_032), ((18, 2), 1_800_084), ((12, 3), 1_797_519)]
)
def test_parameter_counts_are_the_published_ones(classes, expected):
    num_classes = dict(zip(("activity", "placement"), classes, strict=True))
    published = MTLNet(num_classes, layout="published")
    assert sum(parameter.numel() for parameter in published.parameters()) == expected
    # Two more input channels of 32 filters of 9.
    axes = MTLNet(num_classes)
    assert sum(parameter.numel() for parameter in axes.parameters()) == expected + 2 * 32 * 9


def test_pool_before_relu_equals_relu_before_pool():
    torch.manual_seed(0)
    model = MTLNet(TASKS)
    signals = torch.randn(4, 3, 100)
    pool, relu = nn.functional.max_pool1d, nn.functional.relu
    hidden = pool(relu(model.conv2(pool(relu(model.conv1(signals)), 2))), 2).flatten(1)
    expected = relu(model.linear2(relu(model.linear1(hidden))))
    assert torch.equal(model.features(signals), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window_samples", [28, 29, 31, 100, 128, 257])
@pytest.mark.parametrize("num_channels", [1, 3, 6])
def test_width_follows_window_and_channels(layout, window_samples, num_channels):
    model = MTLNet(TASKS, num_channels, window_samples, layout=layout)
    outputs = model(torch.randn(2, num_channels, window_samples))
    assert {task: tuple(logits.shape) for task, logits in outputs.items()} == {
        "activity": (2, 6),
        "placement": (2, 3),
    }


def test_features_are_512_wide_and_feed_the_heads():
    model = MTLNet(TASKS)
    signals = torch.randn(2, 3, 100)
    features = model.features(signals)
    assert features.shape == (2, 512)
    assert (features >= 0).all()
    assert torch.equal(model.heads[1](features), model(signals)["placement"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_batch_gives_empty_logits(layout):
    outputs = MTLNet(TASKS, 6, layout=layout)(torch.zeros(0, 6, 100))
    assert outputs["activity"].shape == (0, 6)


def test_the_first_linear_layer_is_1216_wide_at_100_samples():
    assert MTLNet(TASKS).linear1.in_features == 1216


def test_tasks_keep_their_order_and_may_have_any_name():
    tasks = {"where.it is": 2, "keys": 3, "": 4, "forward": 5}
    model = MTLNet(tasks)
    assert list(model(torch.randn(1, 3, 100))) == list(tasks) == list(model.tasks)
    twin = MTLNet(tasks)
    twin.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (
            {"num_classes": [6, 3]},
            TypeError,
            "`num_classes` must be a mapping of task to number of classes, but is list instead.",
        ),
        (
            {"num_classes": {}},
            ValueError,
            "`num_classes` must hold at least 1 task, but is empty instead.",
        ),
        (
            {"num_classes": {"activity": 0}},
            ValueError,
            "`num_classes['activity']` must be at least 1, but is 0 instead.",
        ),
        (
            {"num_classes": {"activity": 2.0}},
            TypeError,
            "`num_classes['activity']` must be an integer, but is float instead.",
        ),
        ({"in_channels": 0}, ValueError, "`in_channels` must be at least 1, but is 0 instead."),
        (
            {"window_samples": 27},
            ValueError,
            "`window_samples` must be at least 28, but is 27 instead.",
        ),
        (
            {"layout": "rows"},
            ValueError,
            "`layout` must be one of 'axes', 'published', but is 'rows' instead.",
        ),
    ],
)
def test_constructor_refuses(arguments, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        MTLNet(**{"num_classes": TASKS, **arguments})


@pytest.mark.parametrize("shape", [(3, 100), (2, 100, 3), (2, 3, 99), (2, 4, 100), (2, 1, 3, 100)])
def test_forward_refuses_other_shapes(shape):
    sentence = (
        "`signals` must have the shape [batch, 3, 100] (channels, time), but has the shape "
        f"{list(shape)} instead."
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        MTLNet(TASKS)(torch.zeros(shape))


def test_forward_refuses_integers():
    with pytest.raises(TypeError, match="`signals` must be a floating-point tensor, but is torch"):
        MTLNet(TASKS)(torch.zeros(2, 3, 100, dtype=torch.int64))
