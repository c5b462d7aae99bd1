"""The CUDA kernels: how tensors are cut and checked, and what they compute on a GPU or a CPU."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdistill import reference
from smoothdistill.ops import _backend, adam_ema_, conv_pool, ema_update_, multitask_kd_loss

from . import adam_ema_checks, conv_pool_checks, ema_update_checks, multitask_kd_loss_checks
from .guarded import assert_within, same_bits
from .multitask_kd_loss_checks import IGNORED

CHUNK = 4096  # elements of a block's work, as in csrc/cuda/multi_tensor.h
NUM_BIG = 2 * 96 + 1  # tensors for three tables of an EMA, four of an Adam step
NUM_HEADS = 2 * 24 + 1  # tasks for three tables of a loss

ON_CPU = os.environ.get("SMOOTHDISTILL_CUDA_ON_CPU")
"""The same kernels for a CPU, as tests/cuda_on_cpu/run builds them."""

Chunks = list[list[tuple[int, int, int]]]


@pytest.fixture(scope="module")
def cuda_module() -> Any:
    """`smoothdistill._cuda`, which must import without a driver."""
    try:
        return importlib.import_module("smoothdistill._cuda")
    except ModuleNotFoundError:
        pytest.skip("smoothdistill was built without nvcc")


@pytest.fixture(scope="module")
def cuda_module_on_cpu() -> Any:
    """What tests/cuda_on_cpu/run built, beside the installed module.

    pybind11 keeps modules by their full names: under `smoothdistill._cuda` a process that had
    imported the installed one would get that again.
    """
    assert ON_CPU is not None
    spec = importlib.util.spec_from_file_location("cuda_on_cpu._cuda", ON_CPU)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=pytest.mark.skipif(not ON_CPU, reason="tests/cuda_on_cpu/run")),
        pytest.param("cuda", marks=pytest.mark.cuda),
    ]
)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device on which the ops run the CUDA kernels, whatever the environment chose."""
    if request.param == "cpu":
        monkeypatch.setitem(_backend._modules, "cpu", request.getfixturevalue("cuda_module_on_cpu"))
        yield torch.device("cpu")
        return
    monkeypatch.setitem(_backend._modules, "cuda", request.getfixturevalue("cuda_module"))
    yield torch.device("cuda", torch.cuda.current_device())
    torch.cuda.synchronize()


# ---- Without a GPU -------------------------------------------------------------------------------


def test_import_needs_no_driver_and_no_torch(cuda_module: Any) -> None:
    program = (
        "import sys, importlib.util as util\n"
        f"spec = util.spec_from_file_location('smoothdistill._cuda', {cuda_module.__file__!r})\n"
        "module = util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print('torch' in sys.modules, module.chunk_tables([3]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False [[(0, 0, 3)]]"


def test_the_runtime_says_whether_it_works(cuda_module: Any) -> None:
    error = cuda_module.device_error()
    assert error is None if torch.cuda.is_available() else "CUDA" in error or "device" in error


@settings(max_examples=100)
@given(
    lengths=st.lists(
        st.one_of(
            st.integers(0, 3),
            st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 7]),
            st.integers(0, 20 * CHUNK),
        ),
        max_size=250,
    )
)
def test_chunks_cover_every_element_once(cuda_module: Any, lengths: list[int]) -> None:
    launches: Chunks = cuda_module.chunk_tables(lengths)
    chunks = [chunk for launch in launches for chunk in launch]
    assert all(launches), "a launch without work"
    assert all(0 < end - begin <= CHUNK for _, begin, end in chunks)
    assert all(begin % CHUNK == 0 for _, begin, _ in chunks), "a chunk off the alignment"
    # In order and without a gap: each chunk goes on where the one before it ended.
    at = {number: 0 for number, length in enumerate(lengths) if length}
    for number, begin, end in chunks:
        assert begin == at[number]
        at[number] = end
    assert list(at.values()) == [length for length in lengths if length]
    assert [number for number, _, _ in chunks] == sorted(number for number, _, _ in chunks)


def test_tensors_beyond_a_table_take_another_launch(cuda_module: Any) -> None:
    launches: Chunks = cuda_module.chunk_tables([1] * NUM_BIG)
    tensors = [len({number for number, _, _ in launch}) for launch in launches]
    assert tensors == [96, 96, 1]
    assert len(cuda_module.chunk_tables([1] * 96)) == 1
    # Empty tensors take no place in a table.
    assert len(cuda_module.chunk_tables([0] * 500 + [1] * 96)) == 1
    assert cuda_module.chunk_tables([0, 0]) == cuda_module.chunk_tables([]) == []


def test_lengths_are_64_bit(cuda_module: Any) -> None:
    length = 2**32 + 9
    (launch,) = cuda_module.chunk_tables([5, length, 7])
    assert len(launch) == 1 + length // CHUNK + 1 + 1
    assert launch[0] == (0, 0, 5)
    assert launch[-2:] == [(1, 2**32, length), (2, 0, 7)]
    assert launch[2**20 - 1] == (1, 2**32 - 2 * CHUNK, 2**32 - CHUNK)


def test_the_workspace_grows_with_the_tasks(cuda_module: Any) -> None:
    one = cuda_module.loss_workspace_bytes(1)
    assert one % 8 == 0
    assert cuda_module.loss_workspace_bytes(7) == 7 * one > 0


def _loss_arguments(**changed: Any) -> list[Any]:
    arguments = {
        "student_logits": [torch.zeros(2, 3)],
        "teacher_logits": None,
        "targets": [torch.zeros(2, dtype=torch.int64)],
        "class_weights": [None],
        "task_weights": [1.0],
        "distill_weight": [0.5],
        "temperature": [3.0],
        "label_smoothing": [0.0],
        "ignore_index": -100,
        "total": torch.zeros(()),
        "cross_entropy": torch.zeros(1),
        "distillation": torch.zeros(1),
        "num_correct": torch.zeros(1, dtype=torch.int64),
        "num_valid": torch.zeros(1, dtype=torch.int64),
        "gradients": [torch.zeros(2, 3)],
        "workspace": torch.zeros(8, dtype=torch.uint8),
        "distill_weight_at": None,
        "temperature_at": None,
    }
    assert changed.keys() <= arguments.keys()
    return list({**arguments, **changed}.values())


def _adam_arguments(*lists: Any, step: Any = 1, lr: Any = 1e-3, decay: Any = 0.9) -> list[Any]:
    return [*lists, step, lr, 0.9, 0.999, 1e-8, 0.0, False, decay, None, None, 1.0, None]


def _conv_arguments(device: str | torch.device = "cpu", **changed: Any) -> dict[str, Any]:
    shapes = {"signals": (2, 3, 21), "weight": (5, 3, 9), "bias": (5,), "pooled": (2, 5, 6)}
    assert changed.keys() <= shapes.keys()
    return {name: torch.zeros(shape, device=device) for name, shape in shapes.items()} | changed


T = torch.zeros(3)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda m: m.ema_update_([T], [T], 0.5),
            ValueError,
            "`teacher[0]` must be on cuda, but is on cpu instead.",
        ),
        (
            lambda m: m.ema_update_([T], [T, T], 0.5),
            ValueError,
            "`student` must hold as many tensors as `teacher` (1), but holds 2 instead.",
        ),
        (
            lambda m: m.ema_update_(T, [T], 0.5),
            TypeError,
            "`teacher` must be a list or tuple of tensors, but is Tensor instead.",
        ),
        (
            lambda m: m.adam_ema_(*_adam_arguments([T], [T], [T], [T], None)),
            ValueError,
            "`params[0]` must be on cuda, but is on cpu instead.",
        ),
        (
            lambda m: m.adam_ema_(*_adam_arguments([T], [T], [T], [], None)),
            ValueError,
            "`exp_avg_sqs` must hold as many tensors as `params` (1), but holds 0 instead.",
        ),
        (
            lambda m: m.adam_ema_(*_adam_arguments([T], [T], [T], [T], None, step=[])),
            ValueError,
            "`step` must hold as many tensors as `params` (1), but holds 0 instead.",
        ),
        (
            lambda m: m.multitask_kd_loss(*_loss_arguments()),
            ValueError,
            "`student_logits[0]` must be on cuda, but is on cpu instead.",
        ),
        (
            lambda m: m.multitask_kd_loss(*_loss_arguments(student_logits=[])),
            ValueError,
            "`student_logits` must hold at least 1 task, but holds 0 instead.",
        ),
        (
            lambda m: m.multitask_kd_loss(*_loss_arguments(targets=[])),
            ValueError,
            "`targets` must hold as many tensors as `student_logits` (1), but holds 0 instead.",
        ),
        (
            lambda m: m.multitask_kd_loss(*_loss_arguments(temperature=[1.0, 2.0])),
            ValueError,
            "`temperature` must hold one number a task (1), but holds 2 instead.",
        ),
        (
            lambda m: m.conv_pool(*_conv_arguments().values(), None),
            ValueError,
            "`signals` must be on cuda, but is on cpu instead.",
        ),
        (
            lambda m: m.conv_pool(1.0, T, T, T, None),
            TypeError,
            "`signals` must be a torch.Tensor (torch >= 2.10), but is float instead.",
        ),
        (
            lambda m: m.conv_pool_backward(T, T, torch.zeros(1, 1, 2), T, None, T, T),
            ValueError,
            "`signals` must be on cuda, but is on cpu instead.",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    cuda_module: Any, call: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        call(cuda_module)


def test_nothing_is_launched_for_nothing(cuda_module: Any) -> None:
    cuda_module.ema_update_([], [], 0.5)
    cuda_module.adam_ema_(*_adam_arguments([], [], [], [], None))


def test_the_kernels_are_opt_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "_import_kernels", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError,
        match=r"`SMOOTHDISTILL_BACKEND` must be 'auto' or 'reference' where torch sees no GPU,"
        r" but is 'cuda' instead\.",
    ):
        _backend._load_cuda()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(
        ValueError,
        match=r"`SMOOTHDISTILL_BACKEND` must be 'auto' or 'reference' where smoothdistill was"
        r" built without nvcc, but is 'cuda' instead\.",
    ):
        _backend._load_cuda()
    if _backend._backend_choice() != "cuda":
        assert _backend.cuda_module is None
        assert not any("cuda" in names for names in _backend.backends().values())


# ---- With a GPU, or with its kernels on a CPU ----------------------------------------------------


def _kernels(gpu: torch.device) -> Any:
    return _backend._modules[gpu.type]


def _require_real(gpu: torch.device) -> None:
    if gpu.type == "cpu":
        pytest.skip("needs the memory, streams or pace of a GPU")


def test_a_gpu_tensor_reaches_the_cuda_kernels(gpu: torch.device) -> None:
    for name in _backend.OP_NAMES:
        assert _backend.kernels_for(torch.zeros(1, device=gpu), name) is _kernels(gpu)


def test_every_promise_of_the_average(gpu: torch.device) -> None:
    ema_update_checks.check_everything(ema_update_, gpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averages_of_aligned_and_unaligned_tensors_over_several_tables(
    gpu: torch.device, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    sizes = [*range(NUM_BIG - 3), CHUNK, 3 * CHUNK + 1, 10 * CHUNK + 5]
    for offset in (0, 1, 4):  # elements after an allocation's start, which is aligned
        drawn = [
            torch.randn(2, n + offset, generator=generator, dtype=dtype).to(gpu) for n in sizes
        ]
        teacher, student = ([pair[i].clone()[offset:] for pair in drawn] for i in (0, 1))
        expected = [
            torch.lerp(t.double(), s.double(), 0.1) for t, s in zip(teacher, student, strict=True)
        ]
        bounds = [t.abs() + s.abs() for t, s in zip(teacher, student, strict=True)]
        ema_update_(teacher, student, decay=0.9)
        for actual, oracle, bound in zip(teacher, expected, bounds, strict=True):
            # Bound: see ema_update_checks.check_parity.
            assert_within(actual, oracle, 4 * torch.finfo(dtype).eps * bound)


def test_every_promise_of_the_step(gpu: torch.device) -> None:
    adam_ema_checks.check_everything(adam_ema_, gpu)


def _with_counters_on(device: torch.device, state: adam_ema_checks.State) -> adam_ema_checks.State:
    state.steps = [step.to(device) for step in state.steps]
    return state


def test_steps_over_several_tables_count_on_the_device(gpu: torch.device) -> None:
    sizes = (*range(NUM_BIG), 3 * CHUNK + 1)
    state = adam_ema_checks.random_state(sizes, device=gpu, without_grad=(0, 7, 60))
    _with_counters_on(gpu, state)
    adam_ema_checks.check_step(
        adam_ema_, state, adam_ema_checks.OPTIONS["scaled and clipped"], device=gpu
    )


@pytest.mark.parametrize("found", [1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_with_found_inf_changes_nothing(
    gpu: torch.device, found: float, dtype: torch.dtype
) -> None:
    state = adam_ema_checks.random_state((17, CHUNK + 1), device=gpu, dtype=dtype)
    _with_counters_on(gpu, state)
    before = state.mapped(torch.clone)
    flag = torch.tensor(found, device=gpu)
    adam_ema_(*state.lists(), step=state.steps, lr=0.1, found_inf=flag)
    for now, then in zip(state.tensors(), before.tensors(), strict=True):
        assert same_bits(now, then)
    flag.zero_()
    adam_ema_(*state.lists(), step=state.steps, lr=0.1, found_inf=flag)
    for now, then in zip(state.tensors(), before.tensors(), strict=True):
        assert not same_bits(now, then)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rate_and_decay_may_lie_on_the_device(gpu: torch.device, dtype: torch.dtype) -> None:
    state = adam_ema_checks.random_state((17, CHUNK + 1), device=gpu)
    _with_counters_on(gpu, state)
    start = state.mapped(torch.clone)
    lr, decay = torch.tensor([0.125, 0.75], dtype=dtype, device=gpu).unbind()
    for _ in range(2):  # the second time they are other numbers, in the same place
        _kernels(gpu).adam_ema_(
            *_adam_arguments(*state.lists(), step=state.steps, lr=lr, decay=decay)
        )
        _kernels(gpu).adam_ema_(
            *_adam_arguments(*start.lists(), step=start.steps, lr=lr.item(), decay=decay.item())
        )
        for now, expected in zip(state.tensors(), start.tensors(), strict=True):
            assert same_bits(now, expected)
        lr += 0.25
        decay -= 0.5


@pytest.mark.parametrize("sizes", [(17,), (CHUNK + 1, 3), (5,) * NUM_BIG, (17, 0, 3)])
def test_a_ticket_counts_steps_up_in_the_launch_that_makes_them(
    gpu: torch.device, sizes: tuple[int, ...]
) -> None:
    state = adam_ema_checks.random_state(sizes, device=gpu, without_grad=(len(sizes) - 1,))
    first, second = (_with_counters_on(gpu, state.mapped(torch.clone)) for _ in range(2))
    ticket = torch.zeros(1, dtype=torch.int32, device=gpu)
    for found in (0.0, 1.0, 0.0):
        flag = torch.tensor(found, device=gpu)
        for one, own in ((first, None), (second, ticket)):
            adam_ema_(*one.lists(), step=one.steps, lr=0.01, found_inf=flag, ticket=own)
        assert int(ticket) == 0
        for now, expected in zip(second.tensors(), first.tensors(), strict=True):
            assert same_bits(now, expected)
    counts = [int(step) for step in second.steps]
    assert counts == [8] * (len(sizes) - 1) + [6]


def test_a_ticket_is_one_integer(gpu: torch.device) -> None:
    state = _with_counters_on(gpu, adam_ema_checks.random_state((3,), device=gpu))
    for ticket in (torch.zeros(2, dtype=torch.int32, device=gpu), torch.zeros(1, device=gpu)):
        with pytest.raises(TypeError, match="`ticket` must be one int32 element, but is"):
            adam_ema_(*state.lists(), step=state.steps, lr=0.01, ticket=ticket)


@pytest.mark.parametrize("decay", [0.0, 0.25, 1.0])
def test_the_decay_of_an_average_may_lie_on_the_device(gpu: torch.device, decay: float) -> None:
    teacher = [torch.randn(n, device=gpu) for n in (5, CHUNK + 3)]
    teacher += [torch.ones(3, dtype=torch.int64, device=gpu)]
    student = [t + 2 for t in teacher]
    student[0][1] = float("inf")
    expected = [t.clone() for t in teacher]
    _kernels(gpu).ema_update_(expected, student, decay)
    _kernels(gpu).ema_update_(teacher, student, torch.tensor(decay, device=gpu))
    for now, then in zip(teacher, expected, strict=True):
        assert same_bits(now, then)


def test_numbers_on_the_device_are_single_floats(gpu: torch.device) -> None:
    kernels, tensors = _kernels(gpu), ([torch.zeros(3, device=gpu)], [torch.ones(3, device=gpu)])
    with pytest.raises(ValueError, match="`decay` must hold one element, but holds 2 instead"):
        kernels.ema_update_(*tensors, torch.zeros(2, device=gpu))
    with pytest.raises(TypeError, match="`decay` must be float32 or float64, but is int64 inst"):
        kernels.ema_update_(*tensors, torch.zeros((), dtype=torch.int64, device=gpu))


def test_counters_on_the_cpu_cannot_wait_for_the_device(gpu: torch.device) -> None:
    _require_real(gpu)
    state = adam_ema_checks.random_state((3,), device=gpu)
    arguments = _adam_arguments(*state.lists(), step=state.steps)
    arguments[-3] = torch.zeros((), device=gpu)
    sentence = r"`step\[0\]` must be on the device of `found_inf`, but is on cpu instead\."
    with pytest.raises(ValueError, match=sentence):
        _kernels(gpu).adam_ema_(*arguments)


def test_every_promise_of_the_loss(gpu: torch.device) -> None:
    multitask_kd_loss_checks.check_everything(multitask_kd_loss, gpu)


def _loss_by_kernels(gpu: torch.device, case: Any, *on_device: Any) -> list[Any]:
    inputs = case.inputs()
    first, num_tasks = inputs.student[0], len(inputs.student)
    outputs = [torch.empty((), device=gpu)]
    outputs += [torch.empty(num_tasks, device=gpu) for _ in range(2)]
    outputs += [torch.empty(num_tasks, dtype=torch.int64, device=gpu) for _ in range(2)]
    gradients = [torch.empty_like(student) for student in inputs.student]
    kernels = _kernels(gpu)
    workspace = first.new_empty(kernels.loss_workspace_bytes(num_tasks), dtype=torch.uint8)
    kernels.multitask_kd_loss(
        inputs.student, inputs.teacher, inputs.targets, [None] * num_tasks,
        list(case.task_weights), list(case.distill_weight), list(case.temperature),
        list(case.label_smoothing), IGNORED, *outputs, gradients, workspace, *on_device,
    )  # fmt: skip
    return [*outputs, *gradients]


@pytest.mark.parametrize("rows", [17, 3000])  # in one launch, and in three
def test_weight_and_temperature_of_a_loss_may_lie_on_the_device(
    gpu: torch.device, rows: int
) -> None:
    case = multitask_kd_loss_checks.Case(rows=rows, device=gpu)
    wrong = replace(case, distill_weight=(9.0, 1.5), temperature=(2.5, 7.0))
    weights = [torch.tensor(0.75, device=gpu), None]
    temperatures = [None, torch.tensor([1.5], device=gpu)]
    for factor in (1.0, 2.0):  # read anew in each launch
        weights[0].mul_(factor)
        temperatures[1].mul_(factor)
        right = replace(case, distill_weight=(0.75 * factor, 1.5), temperature=(2.5, 1.5 * factor))
        found = _loss_by_kernels(gpu, wrong, weights, temperatures)
        expected = _loss_by_kernels(gpu, right, None, None)
        assert all(map(same_bits, found, expected))


def test_what_a_loss_reads_on_the_device_is_one_float(gpu: torch.device) -> None:
    case = multitask_kd_loss_checks.Case(device=gpu)
    for weights, sentence in (
        ([torch.zeros(2, device=gpu), None], r"`distill_weight\[0\]` must hold one element"),
        ([None, torch.zeros((), dtype=torch.float64, device=gpu)],
         r"`distill_weight\[1\]` must be float32, but is float64 instead\."),
        ([None], "`distill_weight` must hold as many tensors as `student_logits`"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=sentence):
            _loss_by_kernels(gpu, case, weights, None)


@pytest.mark.cuda
def test_the_op_takes_numbers_from_the_device() -> None:
    _require_real(torch.device("cuda"))
    inputs = multitask_kd_loss_checks.Case(device=torch.device("cuda")).inputs()
    weight, temperature = torch.tensor(0.7, device="cuda"), torch.tensor(2.0, device="cuda")
    tensors = inputs.student, inputs.teacher, inputs.targets
    found = multitask_kd_loss(*tensors, distill_weight=weight, temperature=[temperature, 3.0])
    expected = multitask_kd_loss(*tensors, distill_weight=weight.item(), temperature=[2.0, 3.0])
    assert all(map(same_bits, found, expected))


@pytest.mark.parametrize("rows", multitask_kd_loss_checks.ROWS)
@pytest.mark.parametrize("num_classes", multitask_kd_loss_checks.CLASSES)
def test_loss_over_shapes(gpu: torch.device, rows: int, num_classes: int) -> None:
    case = multitask_kd_loss_checks.Case(classes=(num_classes, 3), rows=rows, device=gpu)
    multitask_kd_loss_checks.check_case(multitask_kd_loss, case)


def test_loss_of_many_tasks_and_of_many_rows(gpu: torch.device) -> None:
    many = multitask_kd_loss_checks.Case(
        classes=tuple(2 + i % 40 for i in range(NUM_HEADS)), rows=9, device=gpu
    )
    multitask_kd_loss_checks.check_case(multitask_kd_loss, many)
    # More rows than the blocks of a head hold at once (1024 of 8).
    tall = multitask_kd_loss_checks.Case(
        classes=(6, 3), rows=3 * 8192 + 5, dtype=torch.float64, device=gpu
    )
    multitask_kd_loss_checks.check_case(multitask_kd_loss, tall)


def test_the_loss_is_the_same_each_time(gpu: torch.device) -> None:
    rows = 20_000 if gpu.type == "cuda" else 1_000
    case = multitask_kd_loss_checks.Case(classes=(12, 3), rows=rows, device=gpu)
    inputs = case.inputs()
    arguments = inputs.student, inputs.teacher, inputs.targets
    first = multitask_kd_loss(*arguments, **case.numbers())
    for _ in range(5):
        again = multitask_kd_loss(*arguments, **case.numbers())
        assert all(same_bits(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("wrong", [3, -1, 2**40])
def test_a_target_out_of_range_makes_its_task_nan(gpu: torch.device, wrong: int) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = [torch.randn(9, 3, generator=generator).to(gpu).requires_grad_() for _ in range(2)]
    targets = [torch.zeros(9, dtype=torch.int64, device=gpu) for _ in range(2)]
    targets[0][4] = wrong
    output = multitask_kd_loss(logits, None, targets)
    output.total.backward()
    assert bool(output.total.isnan())
    assert output.cross_entropy.isnan().tolist() == [True, False]
    assert output.num_valid.tolist() == [8, 9]
    assert logits[0].grad is not None
    assert logits[1].grad is not None
    assert logits[0].grad.isnan().any(1).tolist() == [row == 4 for row in range(9)]
    assert bool(logits[1].grad.isfinite().all())


def test_a_short_workspace_is_refused(gpu: torch.device) -> None:
    moved = {name: [torch.zeros(2, 3, device=gpu)] for name in ("student_logits", "gradients")}
    arguments = _loss_arguments(**moved, workspace=torch.zeros(8, dtype=torch.uint8, device=gpu))
    with pytest.raises(ValueError, match=r"`workspace` must hold at least \d+ bytes, but holds 8"):
        _kernels(gpu).multitask_kd_loss(*arguments)


def test_every_promise_of_the_convolution(gpu: torch.device) -> None:
    batches = (17, 64) if gpu.type == "cuda" else ()  # of which the next test has some
    conv_pool_checks.check_everything(conv_pool, gpu, batches=batches)


@pytest.mark.parametrize("values", ["normal", "integers"])
@pytest.mark.parametrize("batch", conv_pool_checks.BATCHES)
def test_convolution_over_shapes(gpu: torch.device, batch: int, values: str) -> None:
    if batch > 17:
        _require_real(gpu)
    for case in conv_pool_checks.shapes_of(batch):
        conv_pool_checks.check_case(conv_pool, replace(case, values=values, device=gpu))


def test_convolution_of_more_taps_than_a_tile(gpu: torch.device) -> None:
    for shape in ((3, 70, 24, 9, 9), (2, 2, 1200, 9, 1100), (3000, 3, 12, 8, 9)):
        for values in ("normal", "integers"):
            case = conv_pool_checks.Case(*shape, values=values, device=gpu)
            conv_pool_checks.check_case(conv_pool, case)


def test_the_convolution_is_the_same_each_time(gpu: torch.device) -> None:
    shape = (1000, 32, 46, 64, 9) if gpu.type == "cuda" else (50, 8, 46, 16, 9)
    inputs = conv_pool_checks.Case(*shape, device=gpu).inputs()
    leaves = [t.requires_grad_() for t in inputs.leaves()]

    def call() -> list[torch.Tensor]:
        pooled = conv_pool(*leaves)
        return [pooled.detach(), *torch.autograd.grad(pooled, leaves, inputs.grad)]

    first = call()
    for _ in range(5):
        assert all(same_bits(a, b) for a, b in zip(first, call(), strict=True))


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        (
            "signals",
            (2, 3),
            "`signals` must have the shape [batch, in_channels, time], but has [2, 3]",
        ),
        ("weight", (5, 2, 9), "`weight` must have the shape [5, 3, 9], but has [5, 2, 9]"),
        (
            "weight",
            (5, 3, 21),
            "`weight` must hold at least 1 sample and fewer than `signals` (21)",
        ),
        ("weight", (5, 3, 0), "`weight` must hold at least 1 sample and fewer than `signals` (21)"),
        ("bias", (4,), "`bias` must have the shape [5], but has [4]"),
        ("pooled", (2, 5, 7), "`pooled` must have the shape [2, 5, 6], but has [2, 5, 7]"),
    ],
)
def test_a_wrong_shape_of_the_convolution_is_named(
    gpu: torch.device, name: str, shape: tuple[int, ...], sentence: str
) -> None:
    arguments = _conv_arguments(gpu, **{name: torch.zeros(shape, device=gpu)})
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}.* instead\\.$"):
        _kernels(gpu).conv_pool(*arguments.values(), None)


def test_a_wrong_type_of_the_convolution_is_named(gpu: torch.device) -> None:
    arguments = _conv_arguments(gpu)
    arguments["weight"] = arguments["weight"].double()
    with pytest.raises(TypeError, match="`weight` must be float32, but is float64 instead"):
        _kernels(gpu).conv_pool(*arguments.values(), None)
    choice = torch.zeros(2, 5, 6, device=gpu)
    with pytest.raises(TypeError, match="`choice` must be uint8, but is float32 instead"):
        _kernels(gpu).conv_pool(*_conv_arguments(gpu).values(), choice)


def test_tensors_of_one_call_share_a_device(gpu: torch.device) -> None:
    _require_real(gpu)
    here, there = torch.zeros(3, device=gpu), torch.zeros(3)
    with pytest.raises(ValueError, match=r"`student\[0\]` must be on cuda:\d+, but is on cpu"):
        ema_update_([here], [there], decay=0.5)


def test_the_current_stream_is_used(gpu: torch.device) -> None:
    _require_real(gpu)
    teacher, student = torch.zeros(2, 2**20, device=gpu).unbind()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # the fill comes late: another stream would read zeros
        student.fill_(1.0)
        ema_update_([teacher], [student], decay=0.5)
    stream.synchronize()
    assert bool((teacher == 0.5).all())


def test_a_step_can_be_captured(gpu: torch.device) -> None:
    """Loss, update and average in one CUDA graph: replays go on as separate calls would."""
    _require_real(gpu)
    if os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING"):
        pytest.skip("PyTorch captures nothing without its own allocator")
    case = multitask_kd_loss_checks.Case(classes=(6, 3), rows=33, device=gpu)
    inputs = case.inputs()
    state = adam_ema_checks.random_state(((33, 6), (33, 3)), device=gpu, num_updates=0)
    _with_counters_on(gpu, state)
    state.params = inputs.student
    assert state.teacher is not None
    copy = [t.clone() for t in state.teacher]
    flag = torch.zeros((), device=gpu)

    def step() -> torch.Tensor:
        students = [logits.requires_grad_() for logits in state.params]
        loss = multitask_kd_loss(students, inputs.teacher, inputs.targets, **case.numbers()).total
        grads = torch.autograd.grad(loss, students)
        with torch.no_grad():
            lists = [logits.detach() for logits in students], list(grads), *state.lists()[2:]
            adam_ema_(*lists, step=state.steps, lr=0.05, found_inf=flag)
            ema_update_(copy, [logits.detach() for logits in students], decay=0.9)
        return loss.detach()

    everything = [*state.tensors(), *copy]
    start = [t.detach().clone() for t in everything]

    def restart() -> None:
        with torch.no_grad():
            for tensor, value in zip(everything, start, strict=True):
                tensor.copy_(value)

    expected = [step().clone() for _ in range(4)]
    end = [t.detach().clone() for t in everything]

    restart()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # loads the kernels outside of the capture
    torch.cuda.current_stream().wait_stream(side)
    restart()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    restart()
    for value in expected:
        graph.replay()
        assert same_bits(loss, value)
    for tensor, value in zip(everything, end, strict=True):
        assert same_bits(tensor, value)


def test_the_loss_agrees_with_its_reference(gpu: torch.device) -> None:
    """A plain comparison in float64, for a reader who trusts no bounds."""
    case = multitask_kd_loss_checks.Case(
        rows=100,
        label_smoothing=(0.1, 0.0),
        has_class_weights=True,
        dtype=torch.float64,
        device=gpu,
    )
    inputs = case.inputs()
    keywords = {**case.numbers(), "class_weights": inputs.class_weights, "ignore_index": -100}
    arguments = inputs.student, inputs.teacher, inputs.targets
    for actual, expected in zip(
        multitask_kd_loss(*arguments, **keywords),
        reference.multitask_kd_loss(*arguments, **keywords),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
