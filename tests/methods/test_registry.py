from __future__ import annotations

import pytest
import torch
from torch import nn

from smoothdistill.methods import METHODS, Method, build_method, register_method
from smoothdistill.windows import IGNORE_INDEX

TASKS = ("activity", "placement")
CLASSES = {"activity": 5, "placement": 3}


def _logits(seed, *, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    return {
        task: torch.randn(8, classes, generator=generator, requires_grad=requires_grad)
        for task, classes in CLASSES.items()
    }


def _targets():
    generator = torch.Generator().manual_seed(9)
    return {
        task: torch.randint(classes, (8,), generator=generator) for task, classes in CLASSES.items()
    }


@pytest.fixture(params=sorted(METHODS))
def method(request):
    return build_method(request.param, tasks=TASKS)


def test_names_are_those_of_the_registry(method):
    assert METHODS[method.name] is type(method)
    assert method.tasks == TASKS


def test_loss_has_parts_in_the_order_of_the_tasks(method):
    student, teacher, targets = _logits(0, requires_grad=True), _logits(1), _targets()
    given = teacher if method.needs_teacher_logits else None
    backwards = {task: student[task] for task in reversed(TASKS)}
    out = method.loss(backwards, given, targets)
    assert out.total.ndim == 0
    for part in (out.cross_entropy, out.distillation, out.num_correct, out.num_valid):
        assert part.shape == (2,)
        assert not part.requires_grad
    for number, task in enumerate(TASKS):
        smoothing = method.options.label_smoothing
        expected = nn.functional.cross_entropy(
            student[task], targets[task], label_smoothing=smoothing
        )
        torch.testing.assert_close(out.cross_entropy[number], expected.detach())
    out.total.backward()
    assert all(logits.grad is not None and logits.grad.any() for logits in student.values())
    assert all(logits.grad is None for logits in teacher.values())


def test_unlabelled_windows_count_for_nothing(method):
    student, teacher, targets = _logits(0), _logits(1), _targets()
    targets["placement"][:] = IGNORE_INDEX
    out = method.loss(student, teacher if method.needs_teacher_logits else None, targets)
    assert out.num_valid.tolist() == [8, 0]
    assert float(out.cross_entropy[1]) == float(out.distillation[1]) == 0.0
    assert torch.isfinite(out.total)


def test_inputs_are_left_alone(method):
    student, teacher, targets = _logits(0), _logits(1), _targets()
    before = [{task: t.clone() for task, t in d.items()} for d in (student, teacher, targets)]
    method.loss(student, teacher if method.needs_teacher_logits else None, targets)
    for now, old in zip((student, teacher, targets), before, strict=True):
        assert all(torch.equal(now[task], old[task]) for task in TASKS)


def test_teacher_starts_as_an_equal_copy(method):
    model = nn.Linear(3, 4)
    teacher = method.build_teacher(model, num_epochs=4, steps_per_epoch=3)
    assert torch.equal(teacher.model.weight, model.weight)
    assert teacher.model.weight is not model.weight
    assert not teacher.model.weight.requires_grad


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_refuses_an_unknown_option(name):
    with pytest.raises(
        ValueError, match=r"`method\.depth` must be one of the known keys \(.*label_smoothing"
    ):
        build_method(name, tasks=TASKS, depth=3)


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"decay": 1.5}, ValueError, r"`method\.decay` must be at most 1, but is 1\.5 instead"),
        ({"decay": "x"}, TypeError, r"`method\.decay` must be a number, but is 'x' instead"),
        ({"decay": float("nan")}, ValueError, r"`method\.decay` must be .*, but is nan instead"),
        ({"half_life_steps": 0.0}, ValueError, r"`method\.half_life_steps` must be above 0"),
        ({"warmup_steps": -1}, ValueError, r"`method\.warmup_steps` must be at least 0"),
        ({"buffers": "swap"}, ValueError, r"`method\.buffers` must be 'copy', 'ema' or 'skip'"),
        (
            {"task_weights": {"activity": 1.0, "placement": -1.0}},
            ValueError,
            r"`method\.task_weights` must be at least 0 for every task",
        ),
        (
            {"task_weights": {"activity": 1.0}},
            ValueError,
            r"`method\.task_weights` must have one value for each of the tasks activity, placement",
        ),
    ],
)
def test_every_method_names_the_wrong_option(name, options, kind, sentence):
    if not options.keys() <= METHODS[name].Options.model_fields.keys():
        pytest.skip("not an option of this method")
    with pytest.raises(kind, match=sentence):
        build_method(name, tasks=TASKS, **options)


def test_unknown_method():
    with pytest.raises(
        ValueError, match=r"`method\.name` must be one of .*smooth-distill.*'magic'"
    ):
        build_method("magic", tasks=TASKS)


@pytest.mark.parametrize("tasks", [(), ("a", "a")])
def test_tasks_must_be_distinct(tasks):
    with pytest.raises(ValueError, match="`tasks` must be one or more names without repetition"):
        build_method("multitask", tasks=tasks)


def test_a_missing_task_is_named():
    method = build_method("multitask", tasks=TASKS)
    with pytest.raises(
        ValueError, match="`student_logits` must have the tasks activity, placement"
    ):
        method.loss({"activity": torch.zeros(1, 5)}, None, _targets())


def test_register_refuses_what_is_no_method():
    with pytest.raises(TypeError, match="`method` must be a subclass of Method"):
        register_method(int)


def test_register_refuses_a_taken_name():
    class Impostor(Method):
        name = "multitask"

    with pytest.raises(ValueError, match="must be a name that no other method has"):
        register_method(Impostor)
    assert METHODS["multitask"].__name__ == "Multitask"


def test_smooth_distill_is_the_published_equation():
    method = build_method("smooth-distill", tasks=TASKS)
    student, teacher, targets = _logits(0), _logits(1), _targets()
    out = method.loss(student, teacher, targets)
    total = 0.0
    for task in TASKS:
        divergence = nn.functional.kl_div(
            nn.functional.log_softmax(student[task] / 3.0, dim=1),
            nn.functional.softmax(teacher[task] / 3.0, dim=1),
            reduction="batchmean",
        )
        ce = nn.functional.cross_entropy(student[task], targets[task])
        total += 0.5 * (ce + 0.5 * 9.0 * divergence)
    torch.testing.assert_close(out.total, total)


def test_smooth_distill_options_by_task():
    options = {
        "distill_weight": {"activity": 0.0, "placement": 1.0},
        "temperature": {"activity": 1.0, "placement": 2.0},
        "task_weights": {"activity": 1.0, "placement": 0.0},
    }
    method = build_method("smooth-distill", tasks=TASKS, **options)
    student, targets = _logits(0), _targets()
    out = method.loss(student, _logits(1), targets)
    expected = nn.functional.cross_entropy(student["activity"], targets["activity"])
    torch.testing.assert_close(out.total, expected)


@pytest.mark.parametrize("name", ["distill_weight", "temperature"])
def test_smooth_distill_refuses_a_negative_number(name):
    for value in (-1.0, {"activity": 1.0, "placement": -1.0}):
        with pytest.raises(ValueError, match=rf"`method\.{name}` must be .* 0 for every task"):
            build_method("smooth-distill", tasks=TASKS, **{name: value})


@pytest.mark.parametrize(
    ("name", "options", "needs"),
    [
        ("multitask", {}, False),
        ("smooth-distill", {}, True),
        ("smooth-distill", {"distill_weight": 0.0}, False),
        ("smooth-distill", {"distill_weight": {"activity": 0.0, "placement": 0.1}}, True),
    ],
)
def test_teacher_logits_are_asked_for_only_where_used(name, options, needs):
    assert build_method(name, tasks=TASKS, **options).needs_teacher_logits is needs


def test_half_life_takes_the_place_of_decay():
    method = build_method("multitask", tasks=TASKS, half_life_steps=1.0)
    assert method.build_teacher(nn.Linear(1, 1)).decay == pytest.approx(0.5)
