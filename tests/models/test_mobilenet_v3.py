"""MobileNetV3-1D: sizes as published, equal shapes at the anchors, compression."""

from __future__ import annotations

import pytest
import torch

from smoothdistill.models import MobileNetV31D, SIMHHead, build_model
from smoothdistill.models.cost import network_cost

TASKS = {"activity": 8, "placement": 7}


def _num_before_heads(model):
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("heads"))


@pytest.mark.parametrize(
    ("table", "parameters"), [("teacher", 77_404_000), ("student", 52_313_120)]
)
def test_size_is_that_of_the_released_tables(table, parameters):
    with torch.device("meta"):
        model = MobileNetV31D({"activity": 8}, 63, 250, table=table)
    assert _num_before_heads(model) == parameters


def test_size_is_that_of_its_layers():
    """Multiply-adds of the student's rows, worked out from the table."""
    rows = (
        "64/64/3/2", "128/352/5/2", "256/384/5/2", "256/480/9/1", "512/960/3/1", "512/800/5/2",
        "1024/1920/5/1", "1024/2688/3/1", "2048/2688/5/2", "2048/3840/9/1",
    )  # fmt: skip
    squeezed = (0, 2, 3, 6, 7, 8, 9)
    samples, narrow = 64, 64
    macs = 3 * 63 * 64 * samples
    for number, row in enumerate(rows):
        filters, expansion, kernel, stride = map(int, row.split("/"))
        macs += narrow * expansion * samples
        samples = -(-samples // stride)
        macs += kernel * expansion * samples + expansion * filters * samples
        macs += 2 * expansion * (expansion // 4) if number in squeezed else 0
        narrow = filters
    macs += narrow * 512 * samples + 512 * 8
    model = MobileNetV31D({"activity": 8}, 63, 128, table="student")
    assert network_cost(model, 63, 128).num_macs == macs


@pytest.mark.parametrize("in_channels", [3, 6, 63])
@pytest.mark.parametrize("window_samples", [1, 90, 128, 250])
def test_anchors_of_teacher_and_student_have_equal_shapes(in_channels, window_samples):
    shapes = []
    for table in ("teacher", "student"):
        model = MobileNetV31D(TASKS, in_channels, window_samples, table=table, width=0.125).eval()
        stages = model.stages(torch.randn(2, in_channels, window_samples))
        shapes.append([tuple(stage.shape) for stage in stages])
    assert shapes[0] == shapes[1]
    assert [shape[1] for shape in shapes[0]] == [32, 128, 256, 64]


def test_width_scales_the_work():
    narrow, wide = (
        network_cost(MobileNetV31D(TASKS, 6, 128, width=width), 6, 128) for width in (0.125, 0.25)
    )
    assert 3.0 < wide.num_parameters / narrow.num_parameters < 4.2
    assert 3.0 < wide.num_macs / narrow.num_macs < 4.2


def test_shortcuts_and_squeezes_are_where_the_table_has_them():
    model = MobileNetV31D(TASKS, 3, 100, width=0.125)
    shortcuts = [place for place, one in enumerate(model.bottlenecks, 1) if one.has_shortcut]
    squeezes = [place for place, one in enumerate(model.bottlenecks, 1) if one.squeeze is not None]
    anchors = [place for place, one in enumerate(model.bottlenecks, 1) if one.is_anchor]
    assert shortcuts == [3, 5, 6, 8, 9, 10, 12, 14, 15]
    assert squeezes == [1, 4, 5, 6, 11, 12, 13, 14, 15]
    assert anchors == [6, 11, 14]


@pytest.mark.parametrize("head", ["simh", "simh-associative"])
def test_compressed_network_predicts_the_same_and_is_smaller(head):
    torch.manual_seed(0)
    model = MobileNetV31D(TASKS, 6, 128, width=0.125, head=head).double().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compressed = model.compress()
    signals = torch.randn(4, 6, 128, dtype=torch.float64)
    for task, logits in model(signals).items():
        torch.testing.assert_close(compressed(signals)[task], logits)
    assert _size(compressed) < _size(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    # What a checkpoint of it says of its kind builds a network that takes its weights.
    again = build_model(
        "mobilenet-v3-1d", num_classes=TASKS, in_channels=6, window_samples=128, width=0.125,
        head=head, is_compressed=True,
    ).double().eval()  # fmt: skip
    again.load_state_dict(compressed.state_dict())
    assert torch.equal(again(signals)["activity"], compressed(signals)["activity"])


def _size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_heads_are_of_the_kind_asked_for():
    heads = MobileNetV31D(TASKS, width=0.125, head="simh-associative").heads
    assert [type(head) for head in heads] == [SIMHHead, SIMHHead]
    assert heads[0].association == "associative"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"table": "tutor"},
            r"`table` must be one of 'teacher', 'student', but is 'tutor' instead",
        ),
        ({"head": "hopfield"}, r"`head` must be one of 'linear', .*, but is 'hopfield' instead"),
        ({"is_compressed": True}, r"`head` must be 'simh' or .*, but is 'linear' instead"),
        ({"width": 0.0}, r"`width` must be above 0 and finite, but is 0\.0 instead"),
    ],
)
def test_options_without_sense_are_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        MobileNetV31D(TASKS, **options)


def test_linear_heads_are_not_compressed():
    with pytest.raises(TypeError, match=r"`head` must be 'simh' .*, but is 'linear' instead\."):
        MobileNetV31D(TASKS, width=0.125).compress()
