"""`ema_update_` against its reference, its invariants, the compiler, and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

from smoothdistill.ops import ema_update_

from . import ema_update_checks as checks
from .guarded import same_bits

finite = st.floats(-(2.0**100), 2.0**100, width=32)
# The fixture only chooses the instruction set: it needs no reset between examples.
by_hypothesis = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("size", checks.SIZES)
@pytest.mark.parametrize("dtypes", checks.DTYPES, ids=str)
def test_parity(size: int, dtypes: tuple[torch.dtype, torch.dtype], device: torch.device) -> None:
    for decay in (0.0, 0.3, 0.5, 0.999, 1.0):
        checks.check_parity(ema_update_, (size,), dtypes=dtypes, decay=decay, device=device)


@pytest.mark.parametrize("dtypes", checks.DTYPES, ids=str)
def test_parity_over_many_tensors(
    dtypes: tuple[torch.dtype, torch.dtype], device: torch.device
) -> None:
    checks.check_parity(ema_update_, (*checks.SIZES[:-1], *range(40)), dtypes=dtypes, device=device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_students_are_widened_exactly(
    dtype: torch.dtype, device: torch.device
) -> None:
    student = torch.arange(2**16).to(torch.int16).view(dtype)  # every value there is
    teacher = torch.full((2**16,), 5.0, device=device)
    ema_update_([teacher], [student.to(device)], decay=0.0)
    numbers = ~student.isnan()
    assert same_bits(teacher.cpu()[numbers], student.float()[numbers])
    assert bool(teacher.cpu()[~numbers].isnan().all())


def test_every_promise(device: torch.device) -> None:
    checks.check_everything(ema_update_, device)


@by_hypothesis
@given(t=finite, s=finite, decay=st.floats(0.0, 1.0))
def test_between_its_ends_and_fixed_where_equal(
    device: torch.device, t: float, s: float, decay: float
) -> None:
    teacher = [torch.tensor([t, t], device=device)]
    student = [torch.tensor([s, t], device=device)]
    ema_update_(teacher, student, decay=decay)
    assert teacher[0][1] == t, "a fixed point moved"
    # Half an eps of each end for the rounding of weight, difference, product and sum.
    slack = 2 * torch.finfo(torch.float32).eps * (abs(t) + abs(s)) + 1e-45
    assert min(t, s) - slack <= teacher[0][0].item() <= max(t, s) + slack


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="torch rounds twice here"
)
@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 0.999, 0.9999])
def test_bit_equal_to_torch_lerp(avx_level: str, decay: float) -> None:
    generator = torch.Generator().manual_seed(7)
    for size in checks.SIZES[:-1]:
        teacher, student = torch.randn(2, size, generator=generator).unbind()
        expected = torch.lerp(teacher, student, 1.0 - decay)
        listed = [teacher.clone()]
        torch._foreach_lerp_(listed, [student], 1.0 - decay)
        ema_update_([teacher], [student], decay=decay)
        assert same_bits(teacher, expected)
        assert same_bits(teacher, listed[0])


def test_threads_do_not_change_a_bit() -> None:
    teacher, student = torch.randn(2, 300_000, generator=torch.Generator().manual_seed(8))
    twice = teacher.clone()
    parts = [100_000, 200_000]
    ema_update_(list(teacher.split(parts)), list(student.split(parts)), decay=0.9)
    try:
        torch.set_num_threads(2)
        ema_update_(list(twice.split(parts)), list(student.split(parts)), decay=0.9)
    finally:
        torch.set_num_threads(1)
    assert same_bits(teacher, twice)


def test_version_counters_tell_of_the_write(device: torch.device) -> None:
    teacher, student = torch.zeros(3, device=device), torch.ones(3, device=device)
    weight = torch.ones(3, device=device, requires_grad=True)
    product = (weight * teacher).sum()  # saves the teacher for its backward
    versions = teacher._version, student._version
    ema_update_([teacher], [student], decay=0.5)
    assert teacher._version > versions[0]
    assert student._version == versions[1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_parameters_are_written_without_a_graph(device: torch.device) -> None:
    teacher = torch.nn.Parameter(torch.zeros(3, device=device))
    student = torch.nn.Parameter(torch.ones(3, device=device))
    ema_update_([teacher], [student], decay=0.5)
    assert teacher.is_leaf
    assert teacher.tolist() == [0.5] * 3


def test_tuples_and_nothing_at_all(device: torch.device) -> None:
    teacher = (torch.zeros(2, device=device),)
    ema_update_(teacher, (torch.ones(2, device=device),), decay=0.5)  # type: ignore[arg-type]
    assert teacher[0].tolist() == [0.5, 0.5]
    ema_update_([], [], decay=0.5)


@pytest.mark.parametrize("dtypes", checks.DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(), (0,), (1,), (3, 0, 17)], ids=str)
def test_opcheck(sizes: tuple[int, ...], dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    teacher = [torch.randn(size, dtype=dtypes[0]) for size in sizes]
    student = [torch.randn(size).to(dtypes[1]) for size in sizes]
    torch.library.opcheck(torch.ops.smoothdistill.ema_update_.default, (teacher, student, 0.9))


def _compiled_equals_eager(backend: str) -> None:
    def update(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
        ema_update_(teacher, student, decay=0.75)
        return teacher[0] * 2.0  # reads what was written

    generator = torch.Generator().manual_seed(9)
    eager = [torch.randn(size, generator=generator) for size in (17, 3)]
    compiled = [t.clone() for t in eager]
    student = [torch.randn(size, generator=generator).requires_grad_() for size in (17, 3)]
    expected = update(eager, student)
    result = torch.compile(update, fullgraph=True, backend=backend)(compiled, student)
    assert same_bits(result, expected)
    for a, b in zip(compiled, eager, strict=True):
        assert same_bits(a, b)
        assert not a.requires_grad


def test_compiles_into_one_graph() -> None:
    _compiled_equals_eager("aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_compiles_with_inductor() -> None:
    _compiled_equals_eager("inductor")


def _fake(size: int = 3) -> Tensor:
    with FakeTensorMode():
        return torch.zeros(size)


ZEROS = torch.zeros(3)
BAD_CALLS: dict[str, tuple[Any, Any, float, type[Exception], str]] = {
    "decay above 1": (
        [ZEROS],
        [ZEROS],
        1.5,
        ValueError,
        r"`decay` must be in \[0, 1\], but is 1.5",
    ),
    "decay below 0": (
        [ZEROS],
        [ZEROS],
        -0.1,
        ValueError,
        r"`decay` must be in \[0, 1\], but is -0.1",
    ),
    "decay NaN": ([ZEROS], [ZEROS], float("nan"), ValueError, r"`decay` must be in .* but is nan"),
    "fewer students": (
        [ZEROS],
        [],
        0.5,
        ValueError,
        r"`student` must hold as many tensors as `teacher` \(1\), but holds 0",
    ),
    "more students": (
        [],
        [ZEROS],
        0.5,
        ValueError,
        r"`student` must hold as many tensors as `teacher` \(0\), but holds 1",
    ),
    "a tensor": (
        ZEROS,
        [ZEROS],
        0.5,
        TypeError,
        r"`teacher` must be a list or tuple of tensors, but is Tensor",
    ),
    "a tensor as student": (
        [ZEROS],
        ZEROS,
        0.5,
        TypeError,
        r"`student` must be a list or tuple of tensors, but is Tensor",
    ),
    "a generator": (iter([ZEROS]), [ZEROS], 0.5, TypeError, r"`teacher` must be a list or tuple"),
    "no tensor": (
        [None],
        [ZEROS],
        0.5,
        TypeError,
        r"`ema_update_` must be given tensors, but is given NoneType",
    ),
    "no student tensor": (
        [ZEROS],
        [None],
        0.5,
        TypeError,
        r"`student\[0\]` must be a torch.Tensor .* but is NoneType",
    ),
    "an array": (
        [ZEROS],
        [ZEROS.numpy()],
        0.5,
        TypeError,
        r"`student\[0\]` must be a torch.Tensor .* but is numpy.ndarray",
    ),
    "shape": (
        [torch.zeros(2, 3)],
        [torch.zeros(3, 2)],
        0.5,
        ValueError,
        r"`student\[0\]` must have the shape \[2, 3\], but has \[3, 2\]",
    ),
    "number of dimensions": (
        [torch.zeros(1, 3)],
        [ZEROS],
        0.5,
        ValueError,
        r"must have the shape \[1, 3\], but has \[3\]",
    ),
    "dtype": (
        [ZEROS],
        [ZEROS.double()],
        0.5,
        TypeError,
        r"`student\[0\]` must be float32, but is float64",
    ),
    "float16 for float64": (
        [ZEROS.double()],
        [ZEROS.half()],
        0.5,
        TypeError,
        r"`student\[0\]` must be float64, but is float16",
    ),
    "bfloat16 for float64": (
        [ZEROS.double()],
        [ZEROS.bfloat16()],
        0.5,
        TypeError,
        r"must be float64, but is bfloat16",
    ),
    "low-precision teacher": (
        [ZEROS.bfloat16()],
        [ZEROS.bfloat16()],
        0.5,
        TypeError,
        r"must belong to a float32 or float64 teacher, but both are bfloat16",
    ),
    "complex": (
        [ZEROS.cfloat()],
        [ZEROS.cfloat()],
        0.5,
        TypeError,
        r"must belong to a float32 or float64 teacher, but both are complex64",
    ),
    "integers of two sizes": (
        [ZEROS.int()],
        [ZEROS.long()],
        0.5,
        TypeError,
        r"must be int32, but is int64",
    ),
    "strided teacher": (
        [torch.zeros(6)[::2]],
        [ZEROS],
        0.5,
        ValueError,
        r"`teacher\[0\]` must be contiguous, but is a strided view",
    ),
    "strided student": (
        [ZEROS],
        [torch.zeros(6)[::2]],
        0.5,
        ValueError,
        r"`student\[0\]` must be contiguous, .* call .contiguous\(\) first",
    ),
    "expanded student": (
        [ZEROS],
        [torch.zeros(1).expand(3)],
        0.5,
        ValueError,
        r"`student\[0\]` must be contiguous",
    ),
    "memory format": (
        [torch.zeros(2, 3, 4, 5)],
        [torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)],
        0.5,
        ValueError,
        r"`student\[0\]` must have the memory format of its counterpart",
    ),
    "transposed": (
        [torch.zeros(3, 3)],
        [torch.zeros(3, 3).t()],
        0.5,
        ValueError,
        r"must have the memory format",
    ),
    "meta teacher": (
        [ZEROS.to("meta")],
        [ZEROS],
        0.5,
        TypeError,
        r"must be given tensors with memory, but is given a meta tensor",
    ),
    "meta student": (
        [ZEROS],
        [ZEROS.to("meta")],
        0.5,
        TypeError,
        r"`student\[0\]` must be a dense tensor with memory, but is a meta",
    ),
    "sparse teacher": (
        [ZEROS.to_sparse()],
        [ZEROS],
        0.5,
        TypeError,
        r"`teacher\[0\]` must be a dense tensor with memory",
    ),
    "sparse student": (
        [ZEROS],
        [ZEROS.to_sparse()],
        0.5,
        TypeError,
        r"`student\[0\]` must be a dense tensor with memory",
    ),
    "fake teacher": (
        [_fake()],
        [ZEROS],
        0.5,
        TypeError,
        r"`teacher\[0\]` must be a tensor with memory, but is a fake tensor",
    ),
    "fake student": (
        [ZEROS],
        [_fake()],
        0.5,
        TypeError,
        r"`student\[0\]` must be a tensor with memory, but is a fake tensor",
    ),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_named_in_one_sentence(name: str) -> None:
    teacher, student, decay, error, sentence = BAD_CALLS[name]
    with pytest.raises(error, match=sentence) as caught:
        ema_update_(teacher, student, decay=decay)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(("instead.", "first."))


@pytest.mark.usefixtures("native")
def test_nothing_is_written_before_all_is_checked() -> None:
    teacher = [torch.zeros(3), torch.zeros(3)]
    with pytest.raises(ValueError, match=r"`student\[1\]` must have the shape"):
        ema_update_(teacher, [torch.ones(3), torch.ones(4)], decay=0.5)
    assert teacher[0].tolist() == [0.0] * 3


def test_a_decay_on_the_cpu_is_a_number(device: torch.device) -> None:
    student = [torch.randn(7, device=device)]
    teacher, expected = [torch.ones(7, device=device)], [torch.ones(7, device=device)]
    ema_update_(expected, student, decay=0.25)
    ema_update_(teacher, student, decay=torch.tensor(0.25))
    assert same_bits(teacher[0], expected[0])
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\], but is 1.5 instead"):
        ema_update_(teacher, student, decay=torch.tensor(1.5))
    with pytest.raises(ValueError, match="`decay` must hold one element, but holds 2 instead"):
        ema_update_(teacher, student, decay=torch.zeros(2))


def test_a_compiled_call_takes_a_float_decay() -> None:
    average = torch.compile(ema_update_, backend="aot_eager", fullgraph=True)
    with pytest.raises(Exception, match="`decay` must be a float in a compiled call"):
        average([torch.zeros(3)], [torch.ones(3)], decay=torch.tensor(0.5))
