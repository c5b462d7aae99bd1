"""SMLDist: its stages in turn, its head, both forms of its logits, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from smoothdistill.methods import NetworkBuilder, build_method
from smoothdistill.methods.smldist import published_logits_loss
from smoothdistill.models import HARMLP, MobileNetV31D
from smoothdistill.training import TrainStep
from smoothdistill.windows import IGNORE_INDEX

CLASSES = {"activity": 5, "placement": 3}
EPOCHS = 10


def mobile(table, **options):
    given = {"width": 0.125, "head": "simh-associative"} | options
    return lambda classes: MobileNetV31D(classes, 3, 64, table=table, **given)


def make_step(*, student=None, teacher=None, **options):
    torch.manual_seed(0)
    teacher = teacher or mobile("teacher")
    method = build_method("smldist", tasks=tuple(CLASSES), **options)
    method.take_teacher(teacher(CLASSES))
    made = method.build_student(NetworkBuilder(student or mobile("student"), teacher), CLASSES)
    return TrainStep(made, method, lr=1e-3)


def make_batch(size=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(size, 3, 64, generator=generator)
    targets = {
        task: torch.randint(classes, (size,), generator=generator)
        for task, classes in CLASSES.items()
    }
    targets["activity"][::5] = IGNORE_INDEX
    return signals, targets


def weights(step):
    return {name: value.detach().clone() for name, value in step.model.named_parameters()}


def moved(step, before):
    return {
        name
        for name, value in step.model.named_parameters()
        if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, *[None] * 7]),
        ({"stage_share": 0.6}, [0, 0, 1, 1, 2, 2, *[None] * 4]),
        ({"stage_share": 0.1}, [0, 1, 2, *[None] * 7]),
        ({"anchors": "published", "stage_share": 0.4}, [0, 0, 1, 1, *[None] * 6]),
        ({"stage_share": 0.0}, [None] * 10),
    ],
)
def test_anchors_take_turns(options, expected):
    step = make_step(**options)
    found, rates = [], []
    for epoch in range(EPOCHS):
        step.begin_epoch(epoch, EPOCHS)
        found.append(step.method.anchor)
        rates.append(step.optimizer.param_groups[0]["lr"])
    assert found == expected
    np.testing.assert_allclose(rates, [1e-3 if one is None else 1e-4 for one in expected])


def test_a_stage_trains_nothing_behind_its_anchor():
    step = make_step(student=mobile("student", width=0.0625, num_features=64), stage_share=0.5)
    places = {0: 4, 1: 7, 2: 9}  # bottlenecks up to the anchor, in the student's table
    for epoch, anchor in ((0, 0), (2, 1), (4, 2)):
        step.begin_epoch(epoch, EPOCHS)
        assert step.method.anchor == anchor
        before = weights(step)
        step(*make_batch())
        changed = moved(step, before)
        for number in range(10):
            prefix = f"network.bottlenecks.{number}."
            assert any(name.startswith(prefix) for name in changed) == (number < places[anchor])
        assert not any(name.startswith(("network.last", "network.heads")) for name in changed)
        adaptors = {name.split(".")[1] for name in changed if name.startswith("adaptors")}
        assert adaptors == {str(anchor)}


@pytest.mark.parametrize("frequency", [False, True])
def test_distance_of_an_anchor_by_hand(frequency):
    step = make_step(frequency=frequency)
    step.begin_epoch(1, EPOCHS)
    signals, targets = make_batch()
    own = step.method.network(step.model).stages(signals)[1].detach()
    taught = step.method.teacher.stages(signals)[1]
    if frequency:
        own, taught = (
            torch.fft.rfft(one).abs() / math.sqrt(one.shape[-1]) for one in (own, taught)
        )
    step = make_step(frequency=frequency)  # batch norm has seen the batch
    step.begin_epoch(1, EPOCHS)
    out = step(signals, targets)
    torch.testing.assert_close(out.total, (own - taught).square().mean())
    assert float(out.others["transfer"]) == float(out.total)


def test_the_head_begins_as_the_teachers_and_the_optimizer_anew():
    step = make_step()
    for epoch in range(3):
        assert not step.begin_epoch(epoch, EPOCHS)
        step(*make_batch())
    assert step.begin_epoch(3, EPOCHS)
    assert not step.optimizer.state
    heads = step.method.network(step.model).heads
    for own, theirs in zip(heads, step.method.teacher.heads, strict=True):
        given = theirs.state_dict()
        assert all(torch.equal(value, given[name]) for name, value in own.state_dict().items())
    assert not step.begin_epoch(4, EPOCHS)


@pytest.mark.parametrize("freeze", [False, True])
def test_heads_stay_as_they_were_where_they_are_frozen(freeze):
    step = make_step(freeze_memory=freeze)
    step.begin_epoch(3, EPOCHS)
    before = weights(step)
    for _ in range(2):
        step(*make_batch())
    changed = moved(step, before)
    assert any(name.startswith("network.heads") for name in changed) is not freeze
    assert any(name.startswith("network.last") for name in changed)


def test_mended_logits_by_hand():
    step = make_step(stage_share=0.0, distill_weight=0.7, temperature=2.0)
    step.begin_epoch(0, EPOCHS)
    signals, targets = make_batch()
    network, teacher = step.method.network(step.model), step.method.teacher
    features = network.stages(signals)[-1]
    said = teacher(signals)
    expected, num_wrong = 0.0, 0
    for number, task in enumerate(CLASSES):
        head = network.heads[number]
        labelled = targets[task] != IGNORE_INDEX
        y = targets[task][labelled]
        soft = torch.softmax(said[task][labelled] / 2.0, 1)
        is_wrong = said[task][labelled].argmax(1) != y
        num_wrong += int(is_wrong.sum())
        for logits in (head(features), head.memory_logits(features)):
            logits = logits[labelled]
            log = torch.log_softmax(logits / 2.0, 1)
            divergence = (torch.xlogy(soft, soft) - soft * log).sum(1)
            divergence = divergence.masked_fill(is_wrong, 0.0).mean()
            cross_entropy = functional.cross_entropy(logits, y)
            expected += 0.5 * (cross_entropy + 0.7 * 4.0 * divergence)
    assert 0 < num_wrong < 14, "the rule has nothing to choose between"
    out = step.method.batch_loss(step.model, step.model, signals, targets)
    torch.testing.assert_close(out.total, expected)


def test_published_logits_by_hand():
    torch.manual_seed(0)
    student, teacher = torch.softmax(torch.randn(6, 5), 1), torch.randn(6, 5)
    target = torch.tensor([0, 4, IGNORE_INDEX, 2, 1, 3])
    labels = taught = 0.0
    for m, z, y in zip(student.double(), teacher.double(), target, strict=True):
        if y == IGNORE_INDEX:
            continue
        s = torch.softmax(torch.softmax(m / m.norm(), 0), 0)
        t = torch.softmax(z / z.norm(), 0)
        if t.argmax() != y:
            t = 1.5 * functional.one_hot(y, 5).double()
        labels += float(-s[y].log()) / 5
        taught += float(-(torch.softmax(t, 0) * s.log()).sum()) / 5
    found = published_logits_loss(student, teacher, target, hardness=1.5)
    assert [float(one) for one in found] == pytest.approx([labels, taught], rel=1e-5)


def test_published_cross_entropy_has_little_room():
    """With 8 classes, from certainty of the true one to certainty of another: 0.177 nats."""
    target = torch.zeros(1, dtype=torch.int64)
    best, worst = torch.eye(8)[:1], torch.eye(8)[1:2]
    losses = [published_logits_loss(one, best, target, hardness=1.0)[0] for one in (best, worst)]
    certain, other = (math.exp(one) / (math.e + 7) for one in (1.0, 0.0))
    room = math.log(math.exp(certain) + 7 * math.exp(other)) - certain
    room = math.log(math.exp(certain) + 7 * math.exp(other)) - other - room
    assert room == pytest.approx(0.177, abs=1e-3)
    assert float(losses[1] - losses[0]) == pytest.approx(room, rel=1e-5)


def test_a_student_without_memory_heads_learns_too():
    plain = {"head": "linear"}
    step = make_step(student=mobile("student", **plain), teacher=mobile("teacher", **plain))
    for epoch in range(EPOCHS):
        step.begin_epoch(epoch, EPOCHS)
        out = step(*make_batch())
        assert torch.isfinite(out.total)


@pytest.mark.parametrize("form", ["mended", "published"])
def test_both_forms_learn_a_batch(form):
    step = make_step(stage_share=0.0, logits=form)
    step.begin_epoch(0, EPOCHS)
    first = step(*make_batch())
    for _ in range(40):
        last = step(*make_batch())
    assert float(last.cross_entropy.sum()) < 0.8 * float(first.cross_entropy.sum())


def test_what_does_not_fit_is_one_sentence():
    linear = mobile("student", head="linear")
    with pytest.raises(TypeError, match=r"`model` must have SIMH heads .* a MobileNetV31D with"):
        make_step(student=linear, memory=True)
    with pytest.raises(TypeError, match=r"`teacher\.model` must have SIMH heads"):
        make_step(teacher=mobile("teacher", head="linear"), memory=True)
    with pytest.raises(ValueError, match=r"`model` must have heads of the teacher's width .*'act"):
        make_step(student=mobile("student", width=0.0625))
    narrow = mobile("student", width=0.0625, num_features=64)
    with pytest.raises(ValueError, match=r"`method\.adaptors` must be true .* anchor 0 is \[16, 4"):
        make_step(student=narrow, adaptors=False)
    step = make_step()
    with pytest.raises(ValueError, match=r"`train\.epochs` must be above 3, those for the stages"):
        step.begin_epoch(0, 3)


@pytest.mark.parametrize("form", ["mended", "published"])
def test_a_task_that_the_teacher_lacks_is_learned_from_labels_alone(form):
    step = make_step(
        teacher=lambda _: mobile("teacher")({"activity": 5}),
        student=mobile("student"), stage_share=0.0, logits=form,
    )  # fmt: skip
    step.begin_epoch(0, EPOCHS)
    with torch.no_grad():  # sure of what it says, and right here and there
        for parameter in step.method.teacher.heads[0].output.parameters():
            parameter.mul_(100.0)
    out = step(*make_batch(64))
    assert float(out.distillation[0]) > 1e-3
    assert float(out.distillation[1]) == pytest.approx(0.0, abs=1e-6)


def test_heads_that_are_handed_over_at_once_are_the_averages_too():
    step = make_step(stage_share=0.0)
    assert step.begin_epoch(0, EPOCHS)
    for own, averaged in zip(
        step.model.network.heads, step.teacher.model.network.heads, strict=True
    ):
        given = own.state_dict()
        assert all(torch.equal(value, given[name]) for name, value in averaged.state_dict().items())


def test_a_student_of_another_kind_learns_too():
    step = make_step(student=lambda classes: HARMLP(classes, 3, 64, width=0.1))
    for epoch in range(EPOCHS):
        step.begin_epoch(epoch, EPOCHS)
        assert torch.isfinite(step(*make_batch()).total)
