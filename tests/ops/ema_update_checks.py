"""What any `ema_update_` must do. The tests hold the op to it, and the mutants must fail it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from smoothdistill import reference

from .guarded import Guards, assert_within, same_bits

EmaOp = Callable[..., Any]
CPU = torch.device("cpu")

# One off the vector width of each instruction set, and one over the parallel grain.
SIZES = (0, 1, 15, 16, 17, 63, 64, 65, 131072 + 1)
DTYPES = (
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
)
INFINITE = (1.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e38, 1e-45)


def check_parity(
    op: EmaOp,
    sizes: tuple[int, ...],
    *,
    dtypes: tuple[torch.dtype, torch.dtype] = DTYPES[0],
    decay: float = 0.9,
    device: torch.device = CPU,
) -> None:
    """The float64 reference, guard bytes, and an unchanged student.

    Bound: t + w * (s - t) rounds w, the difference, the product and the sum, half an eps each;
    the first three scale |w (s - t)| <= |t| + |s|, the last the result, which is no larger. So
    2 * eps * (|t| + |s|); twice that in float64, where the oracle rounds as well.
    """
    guards, generator = Guards(), torch.Generator().manual_seed(len(sizes))
    teacher, student, expected, bounds = [], [], [], []
    for size in sizes:
        values = torch.randn(2, size, generator=generator, dtype=torch.float64)
        teacher.append(guards.place(values[0].to(device, dtypes[0])))
        student.append(guards.place(values[1].to(device, dtypes[1])))
        oracle = teacher[-1].double()
        bounds.append(4.0 * torch.finfo(dtypes[0]).eps * (oracle.abs() + student[-1].abs()))
        reference.ema_update_([oracle], [student[-1].double()], decay=decay)
        expected.append(oracle)
    guards.freeze(student)
    op(teacher, student, decay=decay)
    guards.check()
    for actual, oracle, bound in zip(teacher, expected, bounds, strict=True):
        assert_within(actual, oracle, bound / 2 if dtypes[0] is torch.float32 else bound)


def check_ends(op: EmaOp, device: torch.device = CPU) -> None:
    """Decay 1 writes nothing and decay 0 copies, whatever the values."""
    for dtype in (torch.float32, torch.float64):
        values = torch.tensor(INFINITE, dtype=dtype, device=device).repeat(5)
        for decay in (0.0, 1.0):
            teacher, student = values.flip(0).clone(), values.clone()
            before = teacher.clone()
            op([teacher], [student], decay=decay)
            assert same_bits(teacher, student if decay == 0.0 else before), f"decay {decay}"
            assert same_bits(student, values), "the student changed"


def check_fixed_point(op: EmaOp, device: torch.device = CPU) -> None:
    """Where student and teacher are equal the teacher keeps its bits."""
    for dtype in (torch.float32, torch.float64):
        generator = torch.Generator().manual_seed(3)
        values = torch.randn(67, generator=generator, dtype=dtype).to(device) * 1e3
        for decay in (0.0, 0.1, 0.5, 0.999, 1.0):
            teacher = values.clone()
            op([teacher], [values.clone()], decay=decay)
            assert same_bits(teacher, values), f"a fixed point moved at decay {decay}"


def check_integers(op: EmaOp, device: torch.device = CPU) -> None:
    """Integers and booleans are copied, at every decay, beside an average of floats."""
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.bool):
        for decay in (0.5, 1.0):
            teacher = [torch.ones(3, device=device), torch.zeros(5, dtype=dtype, device=device)]
            student = [torch.zeros(3, device=device), torch.ones(5, dtype=dtype, device=device)]
            op(teacher, student, decay=decay)
            assert same_bits(teacher[1], student[1]), f"{dtype} was not copied"
            assert bool((teacher[0] == decay).all())


def check_channels_last(op: EmaOp, device: torch.device = CPU) -> None:
    """A dense tensor in another order of dimensions is averaged element by element."""
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(2, 4, 3, 5, 2, generator=generator, dtype=torch.float64).to(device)
    teacher, student = (v.to(memory_format=torch.channels_last) for v in values)
    expected = torch.lerp(values[0], values[1], 0.25)
    op([teacher], [student], decay=0.75)
    eps = torch.finfo(torch.float64).eps
    assert_within(teacher, expected, 4 * eps * values.abs().sum(0))


def check_everything(op: EmaOp, device: torch.device = CPU) -> None:
    """All of the above, over the small sizes."""
    for dtypes in DTYPES:
        for decay in (0.25, 0.999):
            check_parity(op, SIZES[:-1], dtypes=dtypes, decay=decay, device=device)
    check_ends(op, device)
    check_fixed_point(op, device)
    check_integers(op, device)
    check_channels_last(op, device)
