"""`multitask_kd_loss` against its reference, its invariants, the compiler, and bad input."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

from smoothdistill.ops import multitask_kd_loss

from . import multitask_kd_loss_checks as checks
from .guarded import assert_within, same_bits
from .multitask_kd_loss_checks import IGNORED, VARIANTS, Case

DTYPES = (torch.float32, torch.float64)
EPS = torch.finfo(torch.float64).eps
by_hypothesis = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_parity(name: str, dtype: torch.dtype, device: torch.device) -> None:
    checks.check_case(multitask_kd_loss, replace(VARIANTS[name], dtype=dtype, device=device))


@pytest.mark.parametrize("num_classes", checks.CLASSES)
@pytest.mark.parametrize(("rows", "temperature"), [*zip(checks.ROWS, (1, 2, 4, 8, 3), strict=True)])
def test_parity_over_shapes(
    num_classes: int, rows: int, temperature: float, device: torch.device
) -> None:
    case = Case(
        classes=(num_classes, 3),
        rows=rows,
        temperature=(temperature, 3.0),
        label_smoothing=(0.1, 0.0),
        has_class_weights=True,
        device=device,
    )
    checks.check_case(multitask_kd_loss, case)
    checks.check_case(multitask_kd_loss, replace(case, dtype=torch.float64))


def test_special_values_and_heads(device: torch.device) -> None:
    checks.check_special_values(multitask_kd_loss, device)
    checks.check_each_head_is_its_own(multitask_kd_loss, device)


@pytest.mark.parametrize("name", ["nothing labelled", "wide, unlabelled"])
def test_without_any_label_all_is_zero(name: str, device: torch.device) -> None:
    case = replace(VARIANTS[name], device=device)
    inputs = case.inputs()
    logits = [s.requires_grad_() for s in inputs.student]
    output = multitask_kd_loss(logits, inputs.teacher, inputs.targets, label_smoothing=0.1)
    output.total.backward()
    for part in output:
        assert not bool(part.any())
    assert all(s.grad is not None and not bool(s.grad.any()) for s in logits)


# --- invariants ---------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 20), st.sampled_from([1, 2, 3, 12, 64, 65]))


def _draw(seed: int, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3.0 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    target = torch.randint(0, shape[1], shape[:1], generator=generator)
    return student.to(device), teacher.to(device), target.to(device)


@by_hypothesis
@given(seed=st.integers(0, 2**20), shape=shapes, shift=st.floats(-100.0, 100.0))
def test_a_constant_added_to_all_logits_changes_nothing(
    device: torch.device, seed: int, shape: tuple[int, int], shift: float
) -> None:
    student, teacher, target = _draw(seed, shape, device)
    plain = multitask_kd_loss([student], [teacher], [target])
    moved = multitask_kd_loss([student + shift], [teacher - shift], [target])
    # A logit moves by half an eps of 100 + 20, twice in a difference; T^2 = 9, and a sum of K.
    bound = torch.tensor(2 * 9 * 120.0 * (4 + shape[1]) * EPS)
    assert_within(moved.cross_entropy, plain.cross_entropy, bound)
    assert_within(moved.distillation, plain.distillation, bound)


@by_hypothesis
@given(seed=st.integers(0, 2**20), shape=shapes, temperature=st.floats(0.1, 20.0))
def test_the_divergence_is_zero_for_equals_and_never_negative(
    device: torch.device, seed: int, shape: tuple[int, int], temperature: float
) -> None:
    student, teacher, target = _draw(seed, shape, device)
    output = multitask_kd_loss([student], [teacher], [target], temperature=temperature)
    # Terms are of the order of the logits over T, at most 20 / T; each is off by a few eps.
    slack = temperature**2 * (8 + shape[1]) * (1 + 20 / temperature) * EPS
    assert float(output.distillation) >= -slack
    assert float(output.cross_entropy) >= -slack
    same = multitask_kd_loss([student], [student.clone()], [target], temperature=temperature)
    assert abs(float(same.distillation)) <= slack


@by_hypothesis
@given(seed=st.integers(0, 2**20), shape=shapes)
def test_rows_may_come_in_any_order(
    device: torch.device, seed: int, shape: tuple[int, int]
) -> None:
    student, teacher, target = _draw(seed, shape, device)
    order = torch.randperm(shape[0], generator=torch.Generator().manual_seed(seed)).to(device)
    one, other = student.clone().requires_grad_(), student[order].requires_grad_()
    first = multitask_kd_loss([one], [teacher], [target])
    second = multitask_kd_loss([other], [teacher[order]], [target[order]])
    bound = torch.tensor((4.0 + shape[0]) * EPS) * (1.0 + float(first.total.detach()))
    assert_within(second.total, first.total, bound)
    assert second.num_correct.tolist() == first.num_correct.tolist()
    first.total.backward()
    second.total.backward()
    assert one.grad is not None
    assert other.grad is not None
    assert_within(other.grad, one.grad[order], torch.tensor(8.0 * EPS))


@by_hypothesis
@given(
    seed=st.integers(0, 2**20),
    shape=shapes,
    smoothing=st.sampled_from([0.0, 0.3]),
    weighted=st.booleans(),
)
def test_each_row_of_the_gradient_sums_to_zero(
    device: torch.device, seed: int, shape: tuple[int, int], smoothing: float, weighted: bool
) -> None:
    student, teacher, target = _draw(seed, shape, device)
    student.requires_grad_()
    weights = [torch.linspace(0.5, 2.0, shape[1], dtype=torch.float64, device=device)]
    output = multitask_kd_loss(
        [student],
        [teacher],
        [target],
        label_smoothing=smoothing,
        class_weights=weights if weighted else None,
    )
    output.total.backward()
    assert student.grad is not None
    # The row's terms have magnitudes that add up to less than 4 (1.6 + the T = 3 of the
    # distillation over two sums); each is off by a few eps, and so is their sum of K.
    bound = torch.tensor(4 * (8.0 + shape[1]) * 4.0 * EPS)
    assert_within(student.grad.sum(1), torch.zeros(shape[0]).to(device), bound)


@by_hypothesis
@given(seed=st.integers(0, 2**20), weight=st.floats(0.0, 10.0), share=st.floats(0.0, 10.0))
def test_the_total_is_the_weighted_sum_of_its_parts(
    device: torch.device, seed: int, weight: float, share: float
) -> None:
    student, teacher, target = _draw(seed, (17, 6), device)
    output = multitask_kd_loss(
        [student, teacher],
        [teacher, student],
        [target, target],
        task_weights=[weight, 0.5],
        distill_weight=[share, 0.25],
    )
    parts = output.cross_entropy, output.distillation
    factors = torch.tensor([[weight, 0.5], [weight * share, 0.125]], device=device)
    expected = sum((f * p).sum() for f, p in zip(factors.double(), parts, strict=True))
    # float32 factors here: their rounding, not the op's, is the bound.
    slack = 4 * torch.finfo(torch.float32).eps * (1 + abs(float(expected)))
    assert abs(float(output.total) - float(expected)) <= slack


# --- what is taken and what comes back ----------------------------------------------------------


def test_views_are_taken(device: torch.device) -> None:
    student, teacher, target = _draw(1, (17, 12), device)
    wide = torch.stack([student, student], dim=2)[:, :, 1].requires_grad_()
    across = teacher.t().contiguous().t()
    every_other = torch.stack([target, target], dim=1)[:, 0]
    assert not any(t.is_contiguous() for t in (wide, across, every_other))
    plain = student.clone().requires_grad_()
    wide.retain_grad()
    for logits, teachers, labels in ((wide, across, every_other), (plain, teacher, target)):
        multitask_kd_loss([logits], [teachers], [labels]).total.expand(3).sum().backward()
    assert plain.grad is not None
    assert wide.grad is not None
    assert same_bits(wide.grad, plain.grad)


def test_expanded_logits_are_taken(device: torch.device) -> None:
    row = torch.randn(1, 5, generator=torch.Generator().manual_seed(2)).to(device).requires_grad_()
    target = torch.zeros(4, dtype=torch.int64, device=device)
    multitask_kd_loss([row.expand(4, 5)], None, [target]).total.backward()
    copied = row.detach().repeat(4, 1).requires_grad_()
    multitask_kd_loss([copied], None, [target]).total.backward()
    assert row.grad is not None
    assert copied.grad is not None
    assert_within(row.grad[0], copied.grad.sum(0), torch.tensor(4e-7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precisions_are_widened(dtype: torch.dtype, device: torch.device) -> None:
    student, teacher, target = _draw(3, (17, 12), device)
    low = student.to(dtype).requires_grad_()
    high = low.detach().float().requires_grad_()
    outputs = [multitask_kd_loss([logits], [teacher.to(dtype)], [target]) for logits in (low, high)]
    assert outputs[0].total.dtype is torch.float32
    assert same_bits(outputs[0].total, outputs[1].total)
    for output in outputs:
        output.total.backward()
    assert low.grad is not None
    assert high.grad is not None
    assert same_bits(low.grad, high.grad.to(dtype))


def test_heads_that_need_no_gradient(device: torch.device) -> None:
    student, teacher, target = _draw(4, (17, 6), device)
    leaf = student.clone().requires_grad_()
    multitask_kd_loss([student, leaf], [teacher, teacher], [target, target]).total.backward()
    assert student.grad is None
    assert leaf.grad is not None
    with torch.no_grad():
        assert not multitask_kd_loss([leaf], [teacher], [target]).total.requires_grad
    assert not multitask_kd_loss([student], [teacher], [target]).total.requires_grad


def test_ignore_index_may_be_a_class(device: torch.device) -> None:
    student, teacher, target = _draw(5, (17, 4), device)
    kept = target != 2
    output = multitask_kd_loss([student], [teacher], [target], ignore_index=2)
    alone = multitask_kd_loss([student[kept]], [teacher[kept]], [target[kept]])
    assert int(output.num_valid) == int(kept.sum())
    assert_within(output.total, alone.total, torch.tensor(64 * EPS))


@pytest.mark.usefixtures("native")  # PyTorch promises less
def test_threads_do_not_change_a_bit() -> None:
    student, teacher, target = _draw(6, (3000, 100), torch.device("cpu"))
    results = []
    for num_threads in (1, 2):
        leaf = student.float().requires_grad_()
        try:
            torch.set_num_threads(num_threads)
            output = multitask_kd_loss([leaf], [teacher.float()], [target])
            output.total.backward()
        finally:
            torch.set_num_threads(1)
        assert leaf.grad is not None
        results.append((*output, leaf.grad))
    for one, two in zip(*results, strict=True):
        assert same_bits(one, two)


# --- gradients, registration, compiler ----------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("second", [2, 6, 12, 18])
@pytest.mark.parametrize("first", [2, 6, 12, 18])
def test_gradcheck(first: int, second: int, temperature: float) -> None:
    inputs = Case(
        classes=(first, second), rows=4, has_class_weights=True, dtype=torch.float64
    ).inputs()
    inputs.targets[0][1] = IGNORED

    def loss(*students: Tensor) -> Tensor:
        output = multitask_kd_loss(
            students,
            inputs.teacher,
            inputs.targets,
            task_weights=(0.7, 1.3),
            temperature=temperature,
            label_smoothing=(0.0, 0.2),
            class_weights=inputs.class_weights,
        )
        return output.total * 1.7  # lest a backward that ignores its input pass

    leaves = [s.requires_grad_() for s in inputs.student]
    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize("num_classes", [65, 100])
def test_gradcheck_of_wide_heads(num_classes: int) -> None:
    inputs = Case(classes=(num_classes,), rows=3, ignored="none", dtype=torch.float64).inputs()

    def loss(student: Tensor) -> Tensor:
        return 1.7 * multitask_kd_loss([student], inputs.teacher, inputs.targets).total

    assert torch.autograd.gradcheck(loss, [inputs.student[0].requires_grad_()])


def _op_arguments(case: Case) -> tuple[Any, ...]:
    inputs = case.inputs()
    return (
        [s.requires_grad_() for s in inputs.student],
        inputs.teacher or [],
        inputs.targets,
        inputs.class_weights,
        *case.numbers().values(),
        IGNORED,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["plain", "no teacher", "weighted and smoothed", "wide"])
def test_opcheck(name: str, dtype: torch.dtype) -> None:
    arguments = _op_arguments(replace(VARIANTS[name], dtype=dtype))
    torch.library.opcheck(torch.ops.smoothdistill.multitask_kd_loss.default, arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_opcheck_of_one_element(dtype: torch.dtype) -> None:
    arguments = _op_arguments(Case(classes=(1,), rows=1, ignored="none", dtype=dtype))
    torch.library.opcheck(torch.ops.smoothdistill.multitask_kd_loss.default, arguments)


def _compiled_equals_eager(backend: str) -> None:
    def loss(students: list[Tensor], teachers: list[Tensor], targets: list[Tensor]) -> Any:
        return multitask_kd_loss([2.0 * s for s in students], teachers, targets, temperature=2.0)

    inputs = VARIANTS["ignored rows"].inputs()
    assert inputs.teacher is not None
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend=backend)):
        leaves = [s.clone().requires_grad_() for s in inputs.student]
        output = function(leaves, inputs.teacher, inputs.targets)
        assert [part.requires_grad for part in output] == [True] + [False] * 4
        (1.5 * output.total).backward()
        results.append([*output, *(leaf.grad for leaf in leaves)])
    for eager, compiled in zip(*results, strict=True):
        assert same_bits(compiled, eager)


def test_compiles_into_one_graph() -> None:
    _compiled_equals_eager("aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_compiles_with_inductor() -> None:
    _compiled_equals_eager("inductor")


def test_a_second_derivative_is_refused(device: torch.device) -> None:
    student, teacher, target = _draw(7, (3, 4), device)
    student.requires_grad_()
    refusal = r"`create_graph` must be False for multitask_kd_loss, but is True instead"
    eager = multitask_kd_loss([student], [teacher], [target]).total
    with pytest.raises(NotImplementedError, match=refusal):
        torch.autograd.grad(eager, student, create_graph=True)
    numbers = [1.0], [0.5], [2.0], [0.0]
    registered = torch.ops.smoothdistill.multitask_kd_loss(
        [student], [teacher], [target], [None], *numbers, IGNORED
    )[0]
    with pytest.raises(NotImplementedError, match=refusal):
        torch.autograd.grad(registered, student, create_graph=True)


def test_a_second_derivative_is_refused_when_compiled() -> None:
    student, teacher, target = _draw(7, (3, 4), torch.device("cpu"))
    student.requires_grad_()

    def loss(logits: Tensor) -> Tensor:
        return multitask_kd_loss([logits], [teacher], [target]).total

    total = torch.compile(loss, fullgraph=True, backend="aot_eager")(student)
    gradient = torch.autograd.grad(total, student, create_graph=True)[0]
    with pytest.raises(RuntimeError, match=r"double backward|does not require|not have been used"):
        torch.autograd.grad(gradient.sum(), student)


# --- bad input ----------------------------------------------------------------------------------


def _fake(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    with FakeTensorMode():
        return torch.zeros(shape, dtype=dtype)


LOGITS, LABELS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
NAN = float("nan")
BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no task": ({"student_logits": []}, ValueError, r"`student_logits` must hold at least 1 task"),
    "empty batch": (
        {"student_logits": [torch.zeros(0, 3)], "targets": [LABELS[:0]]},
        ValueError,
        r"`student_logits\[0\]` must hold at least 1 row, but holds 0",
    ),
    "no class": (
        {"student_logits": [torch.zeros(4, 0)]},
        ValueError,
        r"`student_logits\[0\]` must have the shape \[batch, classes\] .* but has \[4, 0\]",
    ),
    "vector": ({"student_logits": [torch.zeros(4)]}, ValueError, r"\[batch, classes\] .* \[4\]"),
    "integers": (
        {"student_logits": [LOGITS.int()]},
        TypeError,
        r"`student_logits\[0\]` must be float32 or float64, but is int32",
    ),
    "too few targets": ({"targets": []}, ValueError, r"`targets` must hold as many .* \(1\)"),
    "too few teachers": ({"teacher_logits": []}, ValueError, r"`teacher_logits` must hold as many"),
    "too few class weights": ({"class_weights": []}, ValueError, r"`class_weights` must hold as"),
    "teacher shape": (
        {"teacher_logits": [torch.zeros(4, 2)]},
        ValueError,
        r"`teacher_logits\[0\]` must have the shape \[4, 3\], but has \[4, 2\]",
    ),
    "teacher type": (
        {"teacher_logits": [LOGITS.double()]},
        TypeError,
        r"`teacher_logits\[0\]` must be float32, but is float64",
    ),
    "float targets": (
        {"targets": [torch.zeros(4)]},
        TypeError,
        r"`targets\[0\]` must be int64 class indices, but is float32",
    ),
    "NaN targets": ({"targets": [torch.full((4,), NAN)]}, TypeError, r"int64 .* but is float32"),
    "int32 targets": ({"targets": [LABELS.int()]}, TypeError, r"int64 class .* but is int32"),
    "one-hot targets": (
        {"targets": [torch.zeros(4, 3, dtype=torch.int64)]},
        ValueError,
        r"`targets\[0\]` must have the shape \[4\], but has \[4, 3\]",
    ),
    "short targets": ({"targets": [LABELS[:3]]}, ValueError, r"shape \[4\], but has \[3\]"),
    "target too large": (
        {"targets": [torch.tensor([0, 1, 3, 0])]},
        ValueError,
        r"`targets\[0\]` must hold class indices in \[0, 3\) or -100, but holds 3 in row 2",
    ),
    "negative target": (
        {"targets": [torch.tensor([0, -1, 0, 0])]},
        ValueError,
        r"`targets\[0\]` must hold class indices in .* but holds -1 in row 1",
    ),
    "class weight shape": (
        {"class_weights": [torch.ones(2)]},
        ValueError,
        r"`class_weights\[0\]` must have the shape \[3\], but has \[2\]",
    ),
    "class weight type": (
        {"class_weights": [torch.ones(3, dtype=torch.float64)]},
        TypeError,
        r"`class_weights\[0\]` must be float32, but is float64",
    ),
    "negative class weight": (
        {"class_weights": [torch.tensor([1.0, -1.0, 1.0])]},
        ValueError,
        r"`class_weights\[0\]` must hold finite numbers of at least 0, but holds -1.* for class 1",
    ),
    "NaN class weight": (
        {"class_weights": [torch.tensor([1.0, NAN, 1.0])]},
        ValueError,
        r"`class_weights\[0\]` must hold finite numbers of at least 0, but holds nan for class 1",
    ),
    "temperature 0": (
        {"temperature": 0.0},
        ValueError,
        r"`temperature` must be .* above 0, .* 0.0",
    ),
    "temperature < 0": ({"temperature": -1.0}, ValueError, r"`temperature` must be .* is -1.0"),
    "temperature NaN": ({"temperature": [NAN]}, ValueError, r"`temperature` must be .* is nan"),
    "two temperatures": (
        {"temperature": [1.0, 2.0]},
        ValueError,
        r"`temperature` must hold one number a task \(1\), but holds 2",
    ),
    "temperature text": ({"temperature": "2"}, TypeError, r"`temperature` must be a number .* str"),
    "temperature tensor": (
        {"temperature": torch.tensor([2.0, 3.0])},
        ValueError,
        r"`temperature` must hold one element, but holds 2 instead\.",
    ),
    "temperature element": ({"temperature": torch.tensor(0.0)}, ValueError, "but is 0.0 instead"),
    "temperature by name": ({"temperature": {"a": 2.0}}, TypeError, r"`temperature` .* is dict"),
    "smoothing": ({"label_smoothing": 1.5}, ValueError, r"`label_smoothing` must be in \[0, 1\]"),
    "task weight": ({"task_weights": -1.0}, ValueError, r"`task_weights` must be finite .* -1.0"),
    "distill weight": ({"distill_weight": NAN}, ValueError, r"`distill_weight` must be .* is nan"),
    "meta": ({"student_logits": [LOGITS.to("meta")]}, TypeError, r"is given a meta tensor"),
    "meta teacher": (
        {"teacher_logits": [LOGITS.to("meta")]},
        TypeError,
        r"`teacher_logits\[0\]` must be a dense tensor with memory, but is a meta",
    ),
    "meta targets": (
        {"targets": [LABELS.to("meta")]},
        TypeError,
        r"`targets\[0\]` must be a dense",
    ),
    "sparse": (
        {"student_logits": [LOGITS.to_sparse()]},
        TypeError,
        r"`student_logits\[0\]` must be a dense tensor, but is torch.sparse_coo",
    ),
    "sparse teacher": (
        {"teacher_logits": [LOGITS.to_sparse()]},
        TypeError,
        r"`teacher_logits\[0\]` must be a dense tensor, but is torch.sparse_coo",
    ),
    "fake": (
        {"student_logits": [_fake(4, 3)]},
        TypeError,
        r"`student_logits\[0\]` must be a tensor with memory, but is a fake tensor",
    ),
    "fake teacher": (
        {"teacher_logits": [_fake(4, 3)]},
        TypeError,
        r"`teacher_logits\[0\]` must be a tensor with memory, but is a fake tensor",
    ),
    "fake targets": (
        {"targets": [_fake(4, dtype=torch.int64)]},
        TypeError,
        r"`targets\[0\]` must be a tensor with memory, but is a fake tensor",
    ),
}


def test_numbers_may_be_tensors_that_change() -> None:
    """On a CPU they are read at once, and never remembered."""
    weight, temperature = torch.tensor(0.7), torch.tensor([2.0])
    call = [torch.randn(4, 3)], [torch.randn(4, 3)], [LABELS]
    for factor in (1.0, 2.0):
        weight.mul_(factor)
        temperature.mul_(factor)
        for one in (weight, (weight,), [weight]):
            found = multitask_kd_loss(*call, distill_weight=one, temperature=temperature)
            expected = multitask_kd_loss(
                *call, distill_weight=weight.item(), temperature=temperature.item()
            )
            assert all(map(torch.equal, found, expected))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_named_in_one_sentence(name: str) -> None:
    changes, error, sentence = BAD_CALLS[name]
    call = {"student_logits": [LOGITS], "teacher_logits": [LOGITS], "targets": [LABELS]}
    with pytest.raises(error, match=sentence) as caught:
        multitask_kd_loss(**{**call, **changes})
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("instead.")


@pytest.mark.usefixtures("native")
def test_the_heads_share_one_type() -> None:
    with pytest.raises(TypeError, match=r"`student_logits\[1\]` must be float32, but is float64"):
        multitask_kd_loss([LOGITS, LOGITS.double()], None, [LABELS, LABELS])


def test_torch_func_is_refused_in_words():
    targets = [torch.tensor([0, 2])]

    def total(logits):
        return multitask_kd_loss([logits], None, targets).total

    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(total)(torch.zeros(2, 3))


def test_a_gradient_that_was_asked_for_is_the_askers_own() -> None:
    logits = torch.randn(5, 4, requires_grad=True)
    out = multitask_kd_loss([logits], None, [torch.tensor([0, 1, 2, 3, 0])])
    (first,) = torch.autograd.grad(out.total, logits, retain_graph=True)
    expected = first.clone()
    first.zero_()
    (second,) = torch.autograd.grad(out.total, logits)
    assert torch.equal(second, expected)


def test_fake_tensors_leave_nothing_behind() -> None:
    targets = [torch.tensor([0, 1, 2])] * 7  # a number of tasks that no other test has
    with FakeTensorMode(), contextlib.suppress(TypeError):
        multitask_kd_loss([torch.randn(3, 4)] * 7, None, [torch.zeros(3).long()] * 7)
    assert torch.isfinite(multitask_kd_loss([torch.randn(3, 4)] * 7, None, targets).total)
