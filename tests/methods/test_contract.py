"""What every method of the registry keeps to, and what each of the new ones computes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from smoothdistill.methods import METHODS, LossParts, Method, NetworkBuilder, build_method
from smoothdistill.methods.cross_task import contrast
from smoothdistill.methods.loss_parts import task_losses
from smoothdistill.methods.swa import average_from
from smoothdistill.models import MTLNet, ResNetLSTMaN
from smoothdistill.training import TrainStep
from smoothdistill.windows import IGNORE_INDEX

NUM_EPOCHS, STEPS_PER_EPOCH = 4, 3
TASKS = {
    "two": {"activity": 5, "placement": 3},
    "one": {"activity": 5},
    "three": {"activity": 5, "placement": 3, "where.it is": 2},
}


def build(num_classes: Mapping[str, int]) -> nn.Module:
    return MTLNet(num_classes, 3, 30)


def build_teacher(num_classes: Mapping[str, int]) -> nn.Module:
    return ResNetLSTMaN(num_classes, 3, 30, width=0.0625)


def make_step(name: str, num_classes: Mapping[str, int], **options: Any) -> TrainStep:
    method = build_method(name, tasks=tuple(num_classes), **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if method.teacher_model == "trained":
            method.take_teacher(build_teacher(num_classes))
        student = method.build_student(NetworkBuilder(build, build_teacher), num_classes)
    return TrainStep(student, method, num_epochs=NUM_EPOCHS, steps_per_epoch=STEPS_PER_EPOCH)


def make_batch(
    seed: int, num_classes: Mapping[str, int], size: int = 16
) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(size, 3, 30, generator=generator)
    targets = {
        task: torch.randint(classes, (size,), generator=generator)
        for task, classes in num_classes.items()
    }
    targets["activity"][::5] = IGNORE_INDEX
    return signals, targets


def train(step: TrainStep, num_classes: Mapping[str, int], first: int, last: int) -> list[Any]:
    outs = []
    for epoch in range(first, last):
        step.begin_epoch(epoch, NUM_EPOCHS)
        for number in range(STEPS_PER_EPOCH):
            outs.append(step(*make_batch(10 * epoch + number, num_classes)))
    return outs


@pytest.fixture(params=sorted(METHODS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("tasks", list(TASKS))
def test_loss_parts_have_their_names_and_shapes(name: str, tasks: str) -> None:
    num_classes = TASKS[tasks]
    step = make_step(name, num_classes)
    out = step(*make_batch(0, num_classes))
    assert out.total.ndim == 0
    assert not out.total.requires_grad
    for part in (out.cross_entropy, out.distillation, out.num_correct, out.num_valid):
        assert part.shape == (len(num_classes),)
        assert not part.requires_grad
    assert out.num_valid.tolist() == [12, *[16] * (len(num_classes) - 1)]
    others = out.others if isinstance(out, LossParts) else {}
    assert tuple(others) == step.method.other_parts
    assert all(value.ndim == 0 and not value.requires_grad for value in others.values())
    assert np.isfinite([float(out.total), *map(float, others.values())]).all()


class _Reads(TorchDispatchMode):
    """Notes what on a GPU would wait for it, and so could not be captured in a graph."""

    waits = ("_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func.overloadpacket.__name__
        is_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in self.waits or is_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_a_loss_reads_nothing_of_the_device(name: str) -> None:
    num_classes = TASKS["two"]
    step = make_step(name, num_classes)
    for epoch in range(NUM_EPOCHS):
        step.begin_epoch(epoch, NUM_EPOCHS)
        step(*make_batch(epoch, num_classes))  # what a method keeps comes to be
        signals, targets = make_batch(10 + epoch, num_classes)
        with _Reads() as reads:
            step.method.batch_loss(step.model, step.teacher.model, signals, targets)
        assert not reads.found, epoch


@pytest.mark.parametrize("tasks", list(TASKS))
def test_what_predicts_is_a_network_for_all_tasks(name: str, tasks: str) -> None:
    num_classes = TASKS[tasks]
    step = make_step(name, num_classes)
    signals, _ = make_batch(0, num_classes)
    predictors = step.method.predictors(step.model, step.teacher.model)
    assert list(predictors) == ["student", "teacher"]
    assert predictors["student"] is step.method.network(step.model)
    for role, network in predictors.items():
        with torch.no_grad():
            logits = network.eval()(signals)
        fresh = step.method.build_predictor(NetworkBuilder(build, build_teacher), num_classes, role)
        fresh.load_state_dict(network.state_dict())
        assert {task: tuple(values.shape) for task, values in logits.items()} == {
            task: (16, classes) for task, classes in num_classes.items()
        }
    assert set(step.method.selectable) <= {"student", "teacher"}
    assert step.method.selectable


def test_training_moves_the_network_and_its_average(name: str) -> None:
    step = make_step(name, TASKS["two"])
    before = copy.deepcopy(step.method.network(step.model)).state_dict()
    first = {key: value.detach().clone() for key, value in step.model.named_parameters()}
    outs = train(step, TASKS["two"], 0, NUM_EPOCHS)
    after = step.method.network(step.model).state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before)
    still = [key for key, value in step.model.named_parameters() if torch.equal(value, first[key])]
    assert not [key for key in still if dict(step.model.named_parameters())[key].requires_grad]
    averaged = step.method.network(step.teacher.model).state_dict()
    assert any(not torch.equal(before[key], averaged[key]) for key in before)
    assert all(torch.isfinite(out.total) for out in outs)
    assert step.num_skipped == 0


def test_a_loss_that_does_not_change_by_epoch_is_the_same_in_each(name: str) -> None:
    """A captured step goes on with what Python decided when it was captured."""
    losses, batch = [], make_batch(0, TASKS["two"])
    for epoch in range(NUM_EPOCHS):
        step = make_step(name, TASKS["two"])
        begins_anew = step.begin_epoch(epoch, NUM_EPOCHS)
        assert step.method.changes_by_epoch or not begins_anew
        torch.manual_seed(1)
        losses.append(step(*batch).total)
    if not step.method.changes_by_epoch:
        assert all(torch.equal(loss, losses[0]) for loss in losses)


def test_it_goes_on_from_its_state_to_the_same_bits(name: str) -> None:
    whole = make_step(name, TASKS["two"])
    train(whole, TASKS["two"], 0, NUM_EPOCHS // 2)
    saved = {key: value.clone() for key, value in whole.state_dict().items()}
    random = torch.random.get_rng_state()
    train(whole, TASKS["two"], NUM_EPOCHS // 2, NUM_EPOCHS)
    again = make_step(name, TASKS["two"])
    again.load_state_dict(saved)
    torch.random.set_rng_state(random)
    train(again, TASKS["two"], NUM_EPOCHS // 2, NUM_EPOCHS)
    expected = whole.state_dict()
    for key, value in again.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_a_step_that_is_not_finite_changes_nothing(name: str) -> None:
    step = make_step(name, TASKS["two"])
    train(step, TASKS["two"], 0, 1)
    before = {key: value.clone() for key, value in step.state_dict().items()}
    signals, targets = make_batch(5, TASKS["two"])
    signals[3, 1, 7] = float("nan")
    step(signals, targets)
    assert step.num_skipped == 1
    after = step.state_dict()
    counts = {"counters"} | ({"teacher.num_updates"} if name == "swa" else set())
    assert counts <= set(before)
    assert all(torch.equal(before[key], after[key]) for key in before if key not in counts)


def test_a_task_without_labels_in_the_batch(name: str) -> None:
    step = make_step(name, TASKS["two"])
    signals, targets = make_batch(5, TASKS["two"])
    targets["placement"][:] = IGNORE_INDEX
    out = step(signals, targets)
    assert torch.isfinite(out.total)
    assert out.num_valid.tolist() == [12, 0]
    assert float(out.cross_entropy[1]) == 0.0
    # Nothing is learned of it: neither its head, nor what weighs it against the others, has moved.
    fresh = make_step(name, TASKS["two"]).model.state_dict()
    for key, value in step.model.state_dict().items():
        if "placement" in key:
            torch.testing.assert_close(value, fresh[key], rtol=0, atol=1e-7)


def test_task_weights_go_by_name(name: str) -> None:
    if "task_weights" not in METHODS[name].Options.model_fields:
        pytest.skip("not an option of this method")
    given = {"activity": 0.9, "placement": 0.1}
    totals = []
    for weights in (given, dict(reversed(given.items()))):
        torch.manual_seed(7)  # of dropout
        step = make_step(name, TASKS["two"], task_weights=weights)
        totals.append(float(step(*make_batch(5, TASKS["two"])).total))
    assert totals[0] == totals[1]


def test_a_batch_without_labels_is_no_fault(name: str) -> None:
    step = make_step(name, TASKS["two"])
    signals, targets = make_batch(5, TASKS["two"])
    for labels in targets.values():
        labels[:] = IGNORE_INDEX
    assert torch.isfinite(step(signals, targets).total)
    assert step.num_skipped == 0


def test_a_network_of_another_method_is_refused() -> None:
    step = TrainStep(build(TASKS["two"]), "cross-task")
    with pytest.raises(TypeError, match="must be what `build_student` of the method cross-task"):
        step(*make_batch(0, TASKS["two"]))


def test_a_network_in_one_piece_is_refused() -> None:
    class Whole(nn.Module):
        tasks = ("activity",)

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(90, 5)

        def forward(self, signals: Tensor) -> dict[str, Tensor]:
            return {"activity": self.layer(signals.flatten(1))}

    step = TrainStep(Whole(), "sd-dropout")
    with pytest.raises(TypeError, match="`model` must have `features`, `classify` and `num_feat"):
        step(*make_batch(0, TASKS["one"]))


# --- What each one computes ----------------------------------------------------------------------


def _logits(method: Method, student: nn.Module, signals: Tensor) -> dict[str, Tensor]:
    logits: dict[str, Tensor] = method.network(student)(signals)
    return logits


def test_single_task_shares_nothing() -> None:
    """Each network ends where it would have ended alone."""
    step = make_step("single-task", TASKS["two"])
    alone = copy.deepcopy(step.model.networks[1])
    train(step, TASKS["two"], 0, 2)
    only = TrainStep(alone, "multitask", tasks=["placement"])
    for epoch in range(2):
        for number in range(STEPS_PER_EPOCH):
            signals, targets = make_batch(10 * epoch + number, TASKS["two"])
            only(signals, {"placement": targets["placement"]})
    # The one by autograd, the other through fused kernels: where a gradient is next to zero, Adam
    # magnifies its rounding. What is shared would be off by steps of 1e-3 everywhere.
    for a, b in zip(step.model.networks[1].parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=1e-4)
        assert float((a - b).detach().abs().mean()) < 1e-7


def test_ema_only_is_multitask_but_for_who_is_chosen() -> None:
    steps = [make_step(name, TASKS["two"]) for name in ("multitask", "ema-only")]
    for step in steps:
        train(step, TASKS["two"], 0, 2)
    first, second = (step.state_dict() for step in steps)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert [step.method.selectable for step in steps] == [("student",), ("teacher",)]


def test_label_smoothing_is_pytorchs() -> None:
    step = make_step("label-smoothing", TASKS["two"])
    signals, targets = make_batch(0, TASKS["two"])
    logits = _logits(step.method, step.model, signals)
    expected = sum(
        0.5 * functional.cross_entropy(logits[task], targets[task], label_smoothing=0.1)
        for task in TASKS["two"]
    )
    torch.testing.assert_close(step(signals, targets).total, expected.detach())


def test_task_losses_are_pytorchs_over_the_labelled_windows() -> None:
    signals, targets = make_batch(0, TASKS["two"])
    logits = build(TASKS["two"])(signals)
    found = task_losses(logits, targets, 0.2)
    for loss, task in zip(found.losses, TASKS["two"], strict=True):
        expected = functional.cross_entropy(logits[task], targets[task], label_smoothing=0.2)
        torch.testing.assert_close(loss, expected)


def test_contrast_by_hand() -> None:
    first, second = torch.randn(5, 7), torch.randn(5, 7)
    total = 0.0
    for i in range(5):
        cosines = torch.stack(
            [functional.cosine_similarity(first[i], second[j], dim=0) for j in range(5)]
        )
        total += float(torch.logsumexp(cosines / 0.7, 0) - cosines[i] / 0.7)
    assert float(contrast(first, second, 0.7)) == pytest.approx(total / 5, rel=1e-5)


def test_cross_task_as_published() -> None:
    step = make_step("cross-task", TASKS["two"])
    signals, targets = make_batch(0, TASKS["two"])
    network = step.method.network(step.model)
    features = network.features(signals)
    logits = network.classify(features)
    expected = sum(functional.cross_entropy(logits[task], targets[task]) for task in TASKS["two"])
    expected = expected + 0.5 * contrast(features, features, 0.7) + 0.01 * 2.0
    torch.testing.assert_close(step(signals, targets).total, expected.detach())
    # Nothing reads the cross-stitch: it only shrinks.
    train(step, TASKS["two"], 0, 2)
    assert bool((step.model.stitch.abs() <= torch.eye(2)).all())


def test_the_live_stitch_mixes_and_learns() -> None:
    step = make_step("cross-task-stitch", TASKS["two"])
    before = step.model.stitch.detach().clone()
    torch.testing.assert_close(before.sum(1), torch.ones(2))
    signals, targets = make_batch(0, TASKS["two"])
    out = step.method.batch_loss(step.model, step.teacher.model, signals, targets)
    out.total.backward()
    assert bool((step.model.stitch.grad != 0.0).all())
    first, second = step.model.features(signals)
    assert not torch.equal(first, second)


def test_sd_dropout_by_hand() -> None:
    step = make_step("sd-dropout", TASKS["two"])
    signals, targets = make_batch(0, TASKS["two"])
    network = step.model
    features = network.features(signals)
    logits = network.classify(features)
    state = torch.random.get_rng_state()
    views = [network.classify(functional.dropout(features, 0.5)) for _ in range(2)]
    expected = 0.0
    for task in TASKS["two"]:
        labelled = targets[task] != IGNORE_INDEX
        a, b = (
            functional.log_softmax(view[task][labelled].double() / 2.0, 1).detach()
            for view in views
        )
        both = functional.kl_div(b, a, log_target=True, reduction="batchmean") + functional.kl_div(
            a, b, log_target=True, reduction="batchmean"
        )
        cross_entropy = functional.cross_entropy(logits[task], targets[task])
        expected += 0.5 * (float(cross_entropy.detach()) + 4.0 * float(both))
    torch.random.set_rng_state(state)
    assert float(step(signals, targets).total) == pytest.approx(expected, rel=1e-5)


def test_the_average_of_swa_is_the_mean_over_ends_of_epochs() -> None:
    decay, total, ends = average_from(6, 3), None, []
    values = np.random.default_rng(0).standard_normal(18)
    for number, value in enumerate(values):
        share = decay(number)
        total = value if total is None else share * total + (1.0 - share) * value
        if number < 6:
            assert total == value
        elif (number + 1) % 3 == 0:
            ends.append(value)
            assert total == pytest.approx(np.mean(ends))
    step = make_step("swa", TASKS["two"], start=0.5)
    saved = []
    for epoch in range(NUM_EPOCHS):
        train(step, TASKS["two"], epoch, epoch + 1)
        saved.append(step.model.conv1.weight.detach().clone())
    torch.testing.assert_close(step.teacher.model.conv1.weight, (saved[2] + saved[3]) / 2.0)
    with pytest.raises(ValueError, match="`num_epochs` must be given for the method swa"):
        TrainStep(build(TASKS["two"]), "swa")


@pytest.mark.parametrize("number", [0, STEPS_PER_EPOCH - 1, 2 * STEPS_PER_EPOCH + 1])
def test_the_average_of_swa_knows_the_ends_after_a_skipped_step(number: int) -> None:
    step = make_step("swa", TASKS["two"], start=0.5)
    saved = []
    for epoch in range(NUM_EPOCHS):
        step.begin_epoch(epoch, NUM_EPOCHS)
        for place in range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH):
            signals, targets = make_batch(place, TASKS["two"])
            step(signals * float("nan") if place == number else signals, targets)
        saved.append(step.model.conv1.weight.detach().clone())
    assert step.num_skipped == 1
    torch.testing.assert_close(step.teacher.model.conv1.weight, (saved[2] + saved[3]) / 2.0)


def test_both_networks_of_mutual_learning_learn_from_each_other() -> None:
    step = make_step("deep-mutual-learning", TASKS["two"])
    signals, targets = make_batch(0, TASKS["two"])
    pair = [network(signals) for network in (step.model.first, step.model.second)]
    expected = 0.0
    for own, other in (pair, pair[::-1]):
        for task in TASKS["two"]:
            labelled = targets[task] != IGNORE_INDEX
            divergence = functional.kl_div(
                functional.log_softmax(own[task][labelled], 1),
                functional.softmax(other[task][labelled], 1),
                reduction="batchmean",
            )
            cross_entropy = functional.cross_entropy(own[task], targets[task])
            expected += 0.5 * float((cross_entropy + divergence).detach())
    out = step.method.batch_loss(step.model, step.teacher.model, signals, targets)
    assert float(out.total.detach()) == pytest.approx(expected, rel=1e-5)
    out.total.backward()
    assert all(p.grad is not None for p in step.model.parameters())


def test_a_generation_is_taught_by_the_one_before() -> None:
    step = make_step("born-again", TASKS["two"])
    first = train(step, TASKS["two"], 0, 2)
    assert all(float(out.distillation.sum()) == 0.0 for out in first)
    handed_down = copy.deepcopy(step.model.network).state_dict()
    assert step.begin_epoch(2, NUM_EPOCHS)
    previous = step.model.previous.state_dict()
    assert all(torch.equal(previous[key], handed_down[key]) for key in previous)
    assert not torch.equal(step.model.network.conv1.weight, previous["conv1.weight"])
    assert torch.equal(step.teacher.model.network.conv1.weight, step.model.network.conv1.weight)
    assert not step.optimizer.state
    out = step(*make_batch(0, TASKS["two"]))
    assert float(out.distillation.sum()) > 0.0
    after = step.model.previous.state_dict()
    assert all(torch.equal(after[key], handed_down[key]) for key in after)
    assert not step.begin_epoch(3, NUM_EPOCHS)
    assert step.model.training
    assert step.model.network.training
    assert not step.model.previous.training  # of networks with dropout or batch norm
    with pytest.raises(ValueError, match=r"`train\.epochs` must be at least 2 for the generations"):
        step.begin_epoch(0, 1)


def test_uncertainties_settle_where_their_gradient_vanishes() -> None:
    step = make_step("uncertainty-weighting", TASKS["two"])
    signals, targets = make_batch(0, TASKS["two"])
    out = step.method.batch_loss(step.model, step.teacher.model, signals, targets)
    out.total.backward()
    losses = out.cross_entropy.detach()
    expected = 0.5 * (0.5 - losses)  # of w * (exp(-s) * CE + s / 2) at s = 0
    torch.testing.assert_close(step.model.log_variances.grad, expected)
    targets["placement"][:] = IGNORE_INDEX  # nothing is known of it, and nothing learned
    step.model.log_variances.grad = None
    step.method.batch_loss(step.model, step.teacher.model, signals, targets).total.backward()
    assert step.model.log_variances.grad[0] == expected[0]
    assert step.model.log_variances.grad[1] == 0.0


def test_gradnorm_pulls_the_tasks_that_lag() -> None:
    step = make_step("gradnorm", TASKS["two"], asymmetry=0.0)
    signals, targets = make_batch(0, TASKS["two"])
    out = step.method.batch_loss(step.model, step.teacher.model, signals, targets)
    out.total.backward()
    features = step.model.network.features(signals)
    logits = step.model.network.classify(features)
    lengths = [
        float(
            torch.autograd.grad(
                functional.cross_entropy(logits[task], targets[task]), features, retain_graph=True
            )[0].norm()
        )
        for task in TASKS["two"]
    ]
    # With equal rates the task with the longer gradient loses weight, the other gains.
    longer = int(np.argmax(lengths))
    assert float(step.model.factors.grad[longer]) == pytest.approx(lengths[longer], rel=1e-4)
    assert float(step.model.factors.grad[1 - longer]) == pytest.approx(
        -lengths[1 - longer], rel=1e-4
    )
    with torch.no_grad():
        step.model.factors[:] = torch.tensor([2.5, -0.1])
    out = step.method.batch_loss(step.model, step.teacher.model, signals, targets)
    assert 0.0 < float(out.others["placement_factor"]) < 0.01
    step.optimizer.zero_grad()
    out.total.backward()
    assert float(step.model.factors.grad[1]) != 0.0  # and finds its way back
    with torch.no_grad():
        step.model.factors[:] = 1.0
    outs = train(step, TASKS["two"], 0, 3)
    factors = torch.stack(list(outs[-1].others.values()))
    assert float(factors.sum()) == pytest.approx(2.0, rel=1e-5)
    assert float(factors[longer]) < 1.0
    targets["placement"][:] = IGNORE_INDEX  # then there is nothing to balance
    step.optimizer.zero_grad()
    step.method.batch_loss(step.model, step.teacher.model, signals, targets).total.backward()
    assert step.model.factors.grad.tolist() == [0.0, 0.0]


def test_both_published_sums_of_smooth_distill() -> None:
    weights = {"activity": 0.8, "placement": 0.2}
    logits = {task: torch.randn(6, n) for task, n in TASKS["two"].items()}
    taught = {task: torch.randn(6, n) for task, n in TASKS["two"].items()}
    targets = {task: torch.zeros(6, dtype=torch.int64) for task in TASKS["two"]}
    for form in ("weighted", "plain"):
        method = build_method(
            "smooth-distill", tasks=tuple(weights), task_weights=weights, distill_sum=form
        )
        out = method.loss(logits, taught, targets)
        share = torch.tensor(list(weights.values()))
        factor = share if form == "weighted" else torch.ones(2)
        expected = (share * out.cross_entropy).sum() + 0.5 * (factor * out.distillation).sum()
        torch.testing.assert_close(out.total, expected)
    with pytest.raises(ValueError, match=r"`method\.task_weights` must be above 0 for every task"):
        build_method(
            "smooth-distill",
            tasks=("a", "b"),
            task_weights={"a": 1.0, "b": 0.0},
            distill_sum="plain",
        )
