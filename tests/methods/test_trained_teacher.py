"""Methods with a teacher of another kind: what each of them computes, and what it refuses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from smoothdistill.methods import METHODS, NetworkBuilder, build_method
from smoothdistill.methods.attention_transfer import attention
from smoothdistill.methods.dkd import decoupled_divergence
from smoothdistill.methods.rkd import angles, distances
from smoothdistill.methods.stages import Adaptor, pair_stages, stage_shapes
from smoothdistill.models import HARMLP, MobileNetV31D, MTLNet, ResNetLSTMaN
from smoothdistill.training import TrainStep
from smoothdistill.windows import IGNORE_INDEX

CLASSES = {"activity": 5, "placement": 3}
TRAINED = sorted(name for name in METHODS if METHODS[name].teacher_model == "trained")


def build(num_classes):
    return HARMLP(num_classes, 3, 30, width=0.1, dropout=0.0)


def build_teacher(num_classes):
    return ResNetLSTMaN(num_classes, 3, 30, width=0.0625)


def make_step(name, *, teacher=build_teacher, student=build, **options):
    torch.manual_seed(0)
    method = build_method(name, tasks=tuple(CLASSES), **options)
    if method.teacher_model == "trained":
        method.take_teacher(teacher(CLASSES))
    made = method.build_student(NetworkBuilder(student, teacher), CLASSES)
    return TrainStep(made, method)


def make_batch(size=16):
    generator = torch.Generator().manual_seed(1)
    signals = torch.randn(size, 3, 30, generator=generator)
    targets = {
        task: torch.randint(classes, (size,), generator=generator)
        for task, classes in CLASSES.items()
    }
    targets["activity"][::5] = IGNORE_INDEX
    return signals, targets


def cross_entropy(logits, targets):
    losses = [functional.cross_entropy(logits[task], targets[task]) for task in CLASSES]
    return sum(losses) / len(losses)


def kl(teacher, student, target, temperature=1.0):
    """Mean over labelled windows, by PyTorch's own."""
    labelled = target != IGNORE_INDEX
    return functional.kl_div(
        functional.log_softmax(student[labelled] / temperature, 1),
        functional.log_softmax(teacher[labelled] / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )


@pytest.mark.parametrize("name", TRAINED)
def test_the_teacher_never_changes(name):
    step = make_step(name)
    teacher = step.method.teacher
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    for _ in range(3):
        step(*make_batch())
    assert not teacher.training
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any("teacher" in key for key in step.model.state_dict())


@pytest.mark.parametrize("name", TRAINED)
def test_logits_that_are_known_take_the_teachers_place(name):
    one, two = make_step(name), make_step(name)
    signals, targets = make_batch()
    with torch.no_grad():
        said = one.method.teacher(signals)
    if not one.method.learns_from_logits:
        with pytest.raises(ValueError, match=rf"`taught` must be None for the method {name}, but"):
            one(signals, targets, taught=said)
        return
    with_known = one(signals, targets, taught=said)
    two_out = two(signals, targets)
    assert torch.equal(with_known.total, two_out.total)
    assert all(map(torch.equal, one.model.parameters(), two.model.parameters()))
    known = {"activity": said["activity"]}  # the other task is learned from labels alone
    assert torch.isfinite(one(signals, targets, taught=known).total)


def test_a_method_without_a_trained_teacher_takes_no_logits():
    step = make_step("multitask")
    with pytest.raises(ValueError, match="`taught` must be None for the method multitask, but is"):
        step(*make_batch(), taught={})


@pytest.mark.parametrize("name", TRAINED)
def test_a_teacher_that_was_not_handed_over_is_one_sentence(name):
    method = build_method(name, tasks=tuple(CLASSES))
    with pytest.raises(ValueError, match=r"`take_teacher` must be called before the method"):
        _ = method.teacher


@pytest.mark.parametrize("name", TRAINED)
def test_a_teacher_without_a_common_task_is_one_sentence(name):
    method = build_method(name, tasks=tuple(CLASSES))
    sentence = r"`teacher` must share a task with its student \(activity, placement\), but has pose"
    with pytest.raises(ValueError, match=sentence):
        method.take_teacher(build_teacher({"pose": 4}))


@pytest.mark.parametrize("name", [*TRAINED, "hmkd"])
def test_networks_without_stages_are_one_sentence(name):
    class Whole(nn.Module):
        tasks = tuple(CLASSES)

    method = build_method(name, tasks=tuple(CLASSES))
    if not hasattr(method, "transfer") and name != "hmkd":
        pytest.skip("looks at logits only")
    builder = NetworkBuilder(build, lambda _: Whole())
    if method.teacher_model == "trained":
        method.take_teacher(Whole())
    with pytest.raises(TypeError, match=r"`teacher\.model` must have `stages` and `classify`"):
        method.build_student(builder, CLASSES)


class WithoutStages(HARMLP):
    """Features, and nothing before them."""

    def stages(self, signals):
        return super().stages(signals)[-1:]


@pytest.mark.parametrize("name", ["fitnets", "attention-transfer", "smldist", "hmkd"])
def test_networks_without_a_stage_before_their_features_are_one_sentence(name):
    def bare(classes):
        return WithoutStages(classes, 3, 30, width=0.1)

    with pytest.raises(TypeError, match=r"must have a stage before (its|their) features for the"):
        make_step(name, teacher=bare)
    make_step("rkd", teacher=bare)(*make_batch())


def test_methods_with_their_own_average_take_no_other_teacher():
    method = build_method("smooth-distill", tasks=("activity",))
    with pytest.raises(ValueError, match="`network` must be given to a method with a trained"):
        method.take_teacher(build_teacher(CLASSES))


def test_a_teacher_of_another_kind_must_be_named():
    method = build_method("hmkd", tasks=tuple(CLASSES))
    with pytest.raises(ValueError, match=r"`teacher\.model` must be given for a method with"):
        method.build_student(NetworkBuilder(build), CLASSES)


def test_kd_by_hand():
    step = make_step("kd", distill_weight=3.0, temperature=2.0)
    signals, targets = make_batch()
    student, teacher = step.model(signals), step.method.teacher(signals)
    divergence = sum(4.0 * kl(teacher[t], student[t], targets[t], 2.0) for t in CLASSES) / 2
    expected = 0.25 * cross_entropy(student, targets) + 0.75 * divergence
    torch.testing.assert_close(step(signals, targets).total, expected.detach())


def test_a_task_that_the_teacher_lacks_is_learned_from_labels_alone():
    step = make_step("kd", teacher=lambda _: build_teacher({"activity": 5}))
    out = step(*make_batch())
    assert float(out.distillation[0]) > 0.0
    assert float(out.distillation[1]) == pytest.approx(0.0, abs=1e-6)


def test_dkd_by_hand():
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 6), 3.0 * torch.randn(7, 6)
    target = torch.tensor([0, 5, 2, IGNORE_INDEX, 3, 3, 1])
    total = 0.0
    for s, t, y in zip(student.double(), teacher.double(), target, strict=True):
        if y == IGNORE_INDEX:
            continue
        p, q = torch.softmax(t / 4.0, 0), torch.softmax(s / 4.0, 0)
        first = p[y] * (p[y] / q[y]).log() + (1 - p[y]) * ((1 - p[y]) / (1 - q[y])).log()
        rest = torch.arange(6) != y
        p, q = p[rest] / p[rest].sum(), q[rest] / q[rest].sum()
        total += 16.0 * float(1.0 * first + 8.0 * (p * (p / q).log()).sum())
    found = decoupled_divergence(
        student, teacher, target, target_weight=1.0, others_weight=8.0, temperature=4.0
    )
    assert float(found) == pytest.approx(total / 6, rel=1e-5)


def test_halves_of_dkd_make_up_the_whole_divergence():
    """KL = KL of (true, others) + the teacher's share of the others times KL among them."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 6, dtype=torch.float64), torch.randn(1, 6).double()
    share = 1.0 - float(torch.softmax(teacher, 1)[0, 2])
    found = decoupled_divergence(
        student.float(), teacher.float(), torch.tensor([2]),
        target_weight=1.0, others_weight=share, temperature=1.0,
    )  # fmt: skip
    torch.testing.assert_close(
        found.double(), kl(teacher, student, torch.tensor([2])), rtol=1e-5, atol=0
    )


def test_dkd_of_a_single_class_and_of_certain_teachers_is_finite():
    options = {"target_weight": 1.0, "others_weight": 8.0, "temperature": 4.0}
    for logits in (torch.randn(4, 1), 1e4 * torch.randn(4, 3)):
        student = torch.randn_like(logits).requires_grad_()
        out = decoupled_divergence(student, logits, torch.zeros(4, dtype=torch.int64), **options)
        out.backward()
        assert torch.isfinite(out)
        assert torch.isfinite(student.grad).all()


def test_weights_of_dkd_rise_over_the_first_epochs():
    step = make_step("dkd", warmup=0.5)
    totals = []
    for epoch in range(4):
        step.begin_epoch(epoch, 4)
        method, model = step.method, step.model
        out = method.batch_loss(model, model, *make_batch())
        labels = float(out.cross_entropy.mean())
        totals.append((float(out.total.detach()) - labels) / float(out.distillation.mean()))
    np.testing.assert_allclose(totals, [0.5, 1.0, 1.0, 1.0], rtol=1e-4)


def test_fitnets_by_hand():
    step = make_step("fitnets", transfer_weight=7.0)
    signals, targets = make_batch()
    network = step.method.network(step.model)
    own, taught = network.stages(signals), step.method.teacher.stages(signals)
    (pair,) = step.model.pairs
    assert pair == (1, 1)  # the middle of three layers, and of three residual blocks
    layer = step.model.adaptors[0].layer
    error = (layer(own[1]) - taught[1].mean(-1)).square().mean()
    expected = cross_entropy(network(signals), targets) + 7.0 * error
    torch.testing.assert_close(step(signals, targets).total, expected.detach())


def test_attention_by_hand():
    torch.manual_seed(0)
    stage = torch.randn(2, 5, 12)
    found = attention(stage, 4)
    for window, places in zip(stage, found, strict=True):
        squares = (window**2).mean(0).reshape(4, 3).mean(1)
        torch.testing.assert_close(places, squares / squares.norm())
    torch.testing.assert_close(attention(2.5 * stage, 4), found)
    assert attention(torch.randn(3, 500), 30).shape == (3, 30)


def test_attention_transfer_by_hand():
    step = make_step("attention-transfer", student=lambda c: MTLNet(c, 3, 30), transfer_weight=3.0)
    signals, targets = make_batch()
    network = step.method.network(step.model)
    own, taught = network.stages(signals), step.method.teacher.stages(signals)
    distance = 0.0
    for mine, other in ((0, 0), (1, 2)):
        places = min(own[mine].shape[-1], taught[other].shape[-1])
        difference = attention(own[mine], places) - attention(taught[other], places)
        distance += (difference**2).mean()
    expected = cross_entropy(network(signals), targets) + 3.0 * distance
    torch.testing.assert_close(step(signals, targets).total, expected.detach())


def test_distances_and_angles_by_hand():
    torch.manual_seed(0)
    features = torch.randn(5, 4, dtype=torch.float64)
    lengths = torch.tensor([[float((a - b).norm()) for b in features] for a in features]).double()
    expected = lengths / (lengths.sum() / 20)
    torch.testing.assert_close(distances(features), expected)
    found = angles(features)
    for j, i, k in itertools.product(range(5), repeat=3):
        if j in (i, k):
            assert float(found[j, i, k]) == 0.0
            continue
        cosine = functional.cosine_similarity(
            features[i] - features[j], features[k] - features[j], 0
        )
        assert float(found[j, i, k]) == pytest.approx(float(cosine))


def test_rkd_is_zero_for_features_that_are_moved_turned_and_scaled():
    step = make_step("rkd")
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8))[0]
    features = torch.randn(6, 8)
    moved = 3.0 * features @ turn + 2.0
    assert float(step.method.transfer(step.model, [features], [moved])) < 1e-9
    assert float(step.method.transfer(step.model, [features], [torch.randn(6, 8)])) > 1.0
    assert float(step.method.transfer(step.model, [features[:1]], [moved[:1]])) == 0.0


def test_rkd_is_exact_under_bfloat16():
    """Features of mean 1 and deviation 0.1: products in bfloat16 would leave little of them."""
    step = make_step("rkd")
    torch.manual_seed(0)
    mine, other = (1.0 + 0.1 * torch.randn(64, 32) for _ in range(2))
    expected = step.method.transfer(step.model, [mine], [other])
    with torch.autocast("cpu", torch.bfloat16):
        found = step.method.transfer(step.model, [mine], [other])
    torch.testing.assert_close(found, expected)


def test_rkd_of_equal_windows_has_finite_gradients():
    features = torch.ones(4, 3, requires_grad=True)
    (distances(features).sum() + angles(features).sum()).backward()
    assert torch.isfinite(features.grad).all()


def test_mean_teacher_by_hand():
    step = make_step("mean-teacher", noise=0.0, distill_weight=8.0, warmup=0.5)
    for _ in range(3):
        step(*make_batch())
    step.begin_epoch(0, 4)  # a quarter, of a half: the weight is at exp(-5 / 4)
    signals, targets = make_batch()
    student, teacher = step.model(signals), step.teacher.model(signals)
    difference = 0.0
    for task in CLASSES:
        labelled = targets[task] != IGNORE_INDEX
        squared = (torch.softmax(student[task], 1) - torch.softmax(teacher[task], 1)) ** 2
        difference += 0.5 * squared[labelled].mean()
    expected = cross_entropy(student, targets) + 8.0 * math.exp(-1.25) * difference
    out = step(signals, targets)
    torch.testing.assert_close(out.total, expected.detach())
    assert float(out.distillation.sum()) > 0.0


def test_noise_of_mean_teacher_is_its_own_on_both_sides():
    step = make_step("mean-teacher", noise=0.5)
    seen = []
    for network in (step.model, step.teacher.model):
        network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    signals, targets = make_batch()
    step(signals, targets)
    assert not torch.equal(seen[0], seen[1])
    for one in seen:
        assert float((one - signals).std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "mutual_weight": 0.7}])
def test_hmkd_by_hand(options):
    step = make_step("hmkd", **options)
    with torch.no_grad():
        step.model.student_ensemble.scores.normal_()
    temperature, weight = options.get("temperature", 1.0), options.get("mutual_weight", 0.1)
    signals, targets = make_batch()
    both = step.model
    logits, ensembles = [], []
    for network, ensemble in (
        (both.student, both.student_ensemble),
        (both.teacher, both.teacher_ensemble),
    ):
        stages = network.stages(signals)[:-1]
        logits.append(network.classify(network.stages(signals)[-1]))
        found = {}
        for number, task in enumerate(CLASSES):
            shares = torch.softmax(ensemble.scores[number], 0)
            found[task] = sum(
                share * layer(stage.mean(-1) if stage.ndim == 3 else stage)
                for share, layer, stage in zip(
                    shares, ensemble.projections[number], stages, strict=True
                )
            )
        ensembles.append(found)
    expected = 0.0
    for own, other in (logits, logits[::-1], ensembles, ensembles[::-1]):
        divergence = sum(
            kl(other[task].detach(), own[task], targets[task], temperature) for task in CLASSES
        )
        expected += cross_entropy(own, targets) + weight * temperature**2 * divergence / 2
    out = step.method.batch_loss(both, both, signals, targets)
    torch.testing.assert_close(out.total, expected)
    rest = float(sum(out.others.values()))
    own = float(cross_entropy(logits[0], targets).detach())
    assert float(out.total.detach()) - rest == pytest.approx(
        own + weight * float(out.distillation.mean()), rel=1e-4
    )
    # The same gradient: each side through its own losses only.
    names, parameters = zip(*both.named_parameters(), strict=True)
    found = torch.autograd.grad(out.total, parameters, retain_graph=True)
    for name, a, b in zip(names, found, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"divergence": "dkd"},
        {"ensemble_divergence": "mse"},
        {"ensemble_weight": 0.0},
        {"warmup": 0.5},
    ],
)
def test_forms_of_hmkd_differ_and_train(options):
    plain, step = make_step("hmkd"), make_step("hmkd", **options)
    for one in (plain, step):
        one.begin_epoch(0, 8)
    signals, targets = make_batch()
    assert float(plain(signals, targets).total) != float(step(signals, targets).total)
    first = step(signals, targets)
    for _ in range(30):
        last = step(signals, targets)
    assert float(last.cross_entropy.sum()) < float(first.cross_entropy.sum())
    assert float(last.others["teacher_total"]) < float(first.others["teacher_total"])


def test_sides_of_hmkd_without_mutual_weight_learn_alone():
    # The ensembles' own cross-entropy would reach the layers, too.
    step = make_step("hmkd", mutual_weight=0.0, ensemble_weight=0.0)
    alone = TrainStep(copy_of(step.model.student), "multitask", path="general")
    for _ in range(3):
        step(*make_batch())
        alone(*make_batch())
    for a, b in zip(step.model.student.parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def copy_of(network):
    made = build(CLASSES)
    made.load_state_dict(network.state_dict())
    return made


def test_mutual_learning_takes_the_teachers_kind_where_it_is_given():
    step = make_step("deep-mutual-learning")
    assert isinstance(step.model.first, HARMLP)
    assert isinstance(step.model.second, ResNetLSTMaN)
    step(*make_batch())


def test_stages_are_paired_by_how_far_along_they_are():
    resnet = stage_shapes(ResNetLSTMaN(CLASSES, 3, 30, width=0.0625))
    mobile = stage_shapes(MobileNetV31D(CLASSES, 3, 30, width=0.125))
    mlp, mtl = stage_shapes(build(CLASSES)), stage_shapes(MTLNet(CLASSES, 3, 30))
    assert pair_stages(mlp, resnet) == [(0, 0), (1, 1), (2, 2)]
    assert pair_stages(mtl, resnet) == [(0, 0), (1, 2)]
    assert pair_stages(resnet, mtl) == [(0, 0), (2, 1)]
    assert pair_stages(mobile, mobile) == [(0, 0), (1, 1), (2, 2)]


def test_looking_at_shapes_changes_nothing():
    network = ResNetLSTMaN(CLASSES, 3, 30, width=0.0625).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    stage_shapes(network)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("student", "teacher", "shape"),
    [((4, 10), (6, 10), (6, 10)), ((4, 10), (6, 25), (6, 25)), ((4, 10), (6,), (6,)),
     ((4,), (6, 10), (6,)), ((4,), (6,), (6,))],
)  # fmt: skip
def test_adaptors_make_shapes_equal(student, teacher, shape):
    adapted, target = Adaptor(student, teacher)(torch.randn(3, *student), torch.randn(3, *teacher))
    assert adapted.shape == target.shape == (3, *shape)
