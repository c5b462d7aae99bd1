"""`adam_ema_` against its reference, its invariants, the compiler, and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

from smoothdistill.ops import adam_ema_, ema_update_

from . import adam_ema_checks as checks
from .adam_ema_checks import OPTIONS, Options, random_state
from .guarded import assert_within, same_bits

DTYPES = (torch.float32, torch.float64)
HALF = (torch.bfloat16, torch.float16)
by_hypothesis = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_parity(name: str, dtype: torch.dtype, device: torch.device) -> None:
    checks.check_options(adam_ema_, OPTIONS[name], dtype=dtype, device=device)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", checks.SIZES)
def test_parity_of_one_size(size: int, dtype: torch.dtype, device: torch.device) -> None:
    state = random_state((size,), dtype=dtype, device=device)
    checks.check_step(adam_ema_, state, OPTIONS["AdamW"], device=device)


@pytest.mark.parametrize("stored", HALF, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_parity_with_half_weights(name: str, stored: torch.dtype, device: torch.device) -> None:
    options = OPTIONS[name]
    checks.check_options(adam_ema_, options, dtype=torch.float32, stored=stored, device=device)


@pytest.mark.parametrize("stored", HALF, ids=str)
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 131072 + 1])  # around a CPU's block
def test_parity_with_half_weights_of_one_size(
    size: int, stored: torch.dtype, device: torch.device
) -> None:
    state = random_state((size,), stored=stored, device=device)
    checks.check_step(adam_ema_, state, OPTIONS["AdamW"], device=device)


@pytest.mark.parametrize("stored", HALF, ids=str)
def test_every_half_number_is_read_and_rounded(stored: torch.dtype, device: torch.device) -> None:
    checks.check_half(adam_ema_, stored, device)


def test_parity_over_many_tensors(device: torch.device) -> None:
    state = random_state(range(60), device=device, without_grad=(0, 7, 59))
    checks.check_step(adam_ema_, state, OPTIONS["Adam"], device=device)


def test_every_promise_about_skipping_and_the_ends(device: torch.device) -> None:
    checks.check_skipped(adam_ema_, device)
    checks.check_teacher_at_the_ends(adam_ema_, device)


@by_hypothesis
@given(
    seed=st.integers(0, 2**20),
    sizes=st.lists(st.integers(0, 70), min_size=1, max_size=4),
    lr=st.floats(0.0, 1.0),
    beta1=st.floats(0.0, 0.999),
    beta2=st.floats(0.0, 0.9999),
    weight_decay=st.floats(0.0, 1.0),
    decoupled=st.booleans(),
    decay=st.floats(0.0, 1.0),
    num_updates=st.integers(1, 10_000),
)
def test_parity_for_any_numbers(
    device: torch.device,
    seed: int,
    sizes: list[int],
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    decoupled: bool,
    decay: float,
    num_updates: int,
) -> None:
    options = Options(
        lr=lr,
        betas=(beta1, beta2),
        weight_decay=weight_decay,
        decoupled=decoupled,
        decay=decay,
    )
    state = random_state(sizes, num_updates=num_updates, seed=seed, device=device)
    checks.check_step(adam_ema_, state, options, device=device)


@by_hypothesis
@given(scale=st.integers(-20, 20), clip=st.integers(-8, 0))
def test_powers_of_two_in_the_scale_change_no_bit(
    device: torch.device, scale: int, clip: int
) -> None:
    plain = random_state((67,), device=device)
    scaled = plain.mapped(torch.clone)
    gradient = scaled.grads[0]
    assert gradient is not None
    gradient.mul_(2.0 ** (scale - clip))
    keywords = OPTIONS["Adam"].keywords(torch.float32, device)
    adam_ema_(*plain.lists(), step=7, **keywords)
    keywords |= {"grad_scale": torch.tensor(2.0**scale, device=device), "clip_factor": 2.0**clip}
    adam_ema_(*scaled.lists(), step=7, **keywords)
    for a, b in zip(plain.tensors(), scaled.tensors(), strict=True):
        assert same_bits(a, b)


def test_teacher_is_the_ema_of_the_new_weights(device: torch.device) -> None:
    state = random_state((300,), device=device)
    assert state.teacher is not None
    separate = [state.teacher[0].clone()]
    before = state.teacher[0].double().abs() + state.params[0].double().abs()
    adam_ema_(*state.lists(), step=3, lr=0.1, decay=0.9)
    ema_update_(separate, state.params, decay=0.9)
    # The two compilations of the same lerp may contract it differently: 2 eps of its terms each.
    bound = 4 * torch.finfo(torch.float32).eps * (before + 0.1)
    assert_within(state.teacher[0], separate[0], bound)


def test_zero_gradients_and_moments_move_nothing(device: torch.device) -> None:
    state = random_state((17,), device=device, num_updates=0)
    gradient = state.grads[0]
    assert gradient is not None
    gradient.zero_()
    before = state.params[0].clone()
    adam_ema_(*state.lists(), step=state.steps, lr=0.1)
    assert same_bits(state.params[0], before)
    assert int(state.steps[0]) == 1


def test_clip_factor_may_be_a_tensor(device: torch.device) -> None:
    a = random_state((17,), device=device)
    b = a.mapped(torch.clone)
    adam_ema_(*a.lists(), step=2, lr=0.1, clip_factor=0.5)
    adam_ema_(*b.lists(), step=2, lr=0.1, clip_factor=torch.tensor(0.5, device=device))
    assert same_bits(a.params[0], b.params[0])


def test_infinite_gradient_reaches_its_own_element_only(device: torch.device) -> None:
    clean = random_state((67,), device=device)
    dirty = clean.mapped(torch.clone)
    gradient = dirty.grads[0]
    assert gradient is not None
    gradient[5], gradient[40] = float("nan"), float("inf")
    for state in (clean, dirty):
        adam_ema_(*state.lists(), step=7, lr=0.1)
    kept = torch.ones(67, dtype=torch.bool, device=device)
    kept[[5, 40]] = False
    assert bool(dirty.params[0][~kept].isnan().all())
    assert same_bits(dirty.params[0][kept], clean.params[0][kept])


def test_channels_last_weights_with_their_gradients(device: torch.device) -> None:
    plain = random_state(((4, 3, 5, 2),), device=device)
    last = plain.mapped(lambda t: t.clone(memory_format=torch.channels_last))
    for state in (plain, last):
        adam_ema_(*state.lists(), step=7, **OPTIONS["Adam"].keywords(torch.float32, device))
    start = random_state(((4, 3, 5, 2),), device=device).mapped(lambda t: t.double())
    for a, b in zip(plain.tensors(), last.tensors(), strict=True):
        # The tail of a vector loop may be contracted differently from its body: one rounding.
        bound = 4 * torch.finfo(torch.float32).eps * (a.double().abs() + start.params[0].abs() + 1)
        assert_within(b, a, bound if a.dim() else torch.zeros(()))


def test_threads_do_not_change_a_bit() -> None:
    one = random_state((100_000, 200_000))
    two = one.mapped(torch.clone)
    adam_ema_(*one.lists(), step=7, lr=0.1)
    try:
        torch.set_num_threads(2)
        adam_ema_(*two.lists(), step=7, lr=0.1)
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one.tensors(), two.tensors(), strict=True):
        assert same_bits(a, b)


def test_version_counters_tell_of_the_write(device: torch.device) -> None:
    state = random_state((3,), device=device)
    assert state.teacher is not None
    gradient = state.grads[0]
    assert gradient is not None
    written = [*state.params, *state.teacher]  # what a graph may hold
    before, gradient_version = [t._version for t in written], gradient._version
    adam_ema_(*state.lists(), step=7, lr=0.1)
    assert all(t._version > version for t, version in zip(written, before, strict=True))
    assert gradient._version == gradient_version


def test_nothing_at_all(device: torch.device) -> None:
    adam_ema_([], [], [], [], [], lr=0.1, step=[])
    adam_ema_([], [], [], [], None, lr=0.1, step=1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(), (0,), (1,), (3, 0, 17)], ids=str)
@pytest.mark.parametrize("has_teacher", [True, False])
def test_opcheck(sizes: tuple[int, ...], dtype: torch.dtype, has_teacher: bool) -> None:
    state = random_state(sizes, dtype=dtype, without_grad=(2,), has_teacher=has_teacher)
    *lists, teacher = state.lists()
    numbers = (0.1, 0.9, 0.99, 1e-8, 0.1, False, 0.9)
    scale = torch.tensor(2.0)
    torch.library.opcheck(
        torch.ops.smoothdistill.adam_ema_.default,
        (*lists, teacher or [], state.steps, *numbers, scale, torch.zeros(()), torch.tensor(0.5)),
    )


def _compiled_equals_eager(backend: str) -> None:
    def update(state: tuple[Any, ...], steps: list[Tensor]) -> Tensor:
        adam_ema_(*state, step=steps, lr=0.1, weight_decay=0.1, clip_factor=0.5)
        return state[0][0] + state[4][0]  # reads what was written

    eager = random_state((17, 3), without_grad=(1,))
    compiled = eager.mapped(torch.clone)
    expected = update(eager.lists(), eager.steps)
    function = torch.compile(update, fullgraph=True, backend=backend)
    assert same_bits(function(compiled.lists(), compiled.steps), expected)
    for a, b in zip(compiled.tensors(), eager.tensors(), strict=True):
        assert same_bits(a, b)


def test_compiles_into_one_graph() -> None:
    _compiled_equals_eager("aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_compiles_with_inductor() -> None:
    _compiled_equals_eager("inductor")


def test_compiles_with_a_number_as_step_and_no_teacher() -> None:
    eager = random_state((17,), has_teacher=False)
    compiled = eager.mapped(torch.clone)

    def update(params: Any, grads: Any, exp_avgs: Any, exp_avg_sqs: Any) -> None:
        adam_ema_(params, grads, exp_avgs, exp_avg_sqs, None, step=7, lr=0.1)

    update(*eager.lists()[:4])
    torch.compile(update, fullgraph=True, backend="aot_eager")(*compiled.lists()[:4])
    assert same_bits(compiled.params[0], eager.params[0])


def _fake() -> Tensor:
    with FakeTensorMode():
        return torch.zeros(3)


ZEROS = torch.zeros(3)
NAMES = ("params", "grads", "exp_avgs", "exp_avg_sqs", "teacher")
BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "decay": ({"decay": 1.1}, ValueError, r"`decay` must be in \[0, 1\], but is 1.1"),
    "decay NaN": ({"decay": float("nan")}, ValueError, r"`decay` must be in .* but is nan"),
    "lr": ({"lr": -1.0}, ValueError, r"`lr` must be finite and at least 0, but is -1.0"),
    "lr NaN": ({"lr": float("nan")}, ValueError, r"`lr` must be finite .* but is nan"),
    "eps": ({"eps": -1.0}, ValueError, r"`eps` must be finite and at least 0, but is -1.0"),
    "penalty": ({"weight_decay": float("inf")}, ValueError, r"`weight_decay` must be finite"),
    "first beta": ({"betas": (-0.1, 0.9)}, ValueError, r"`betas\[0\]` must be in \[0, 1\), but is"),
    "second beta": ({"betas": (0.9, 1.0)}, ValueError, r"`betas\[1\]` must be in .* but is 1.0"),
    "step 0": ({"step": 0}, ValueError, r"`step` must be at least 1, but is 0"),
    "step NaN": ({"step": float("nan")}, ValueError, r"`step` must be at least 1, but is nan"),
    "too few steps": ({"step": []}, ValueError, r"`step` must hold as many .* \(1\), but holds 0"),
    "integer step": ({"step": [torch.tensor(1)]}, TypeError, r"`step\[0\]` must be one float32"),
    "long step": ({"step": [torch.ones(2)]}, TypeError, r"one float32 .* but is float32 \[2\]"),
    "found_inf": ({"found_inf": torch.zeros(2)}, ValueError, r"`found_inf` must hold one element"),
    "scale type": (
        {"grad_scale": torch.ones(1, dtype=torch.int64)},
        TypeError,
        r"`grad_scale` must be float32 or float64, but is int64",
    ),
    "scale place": (
        {"grad_scale": torch.ones((), device="meta")},
        TypeError,
        r"`grad_scale` must be a dense tensor with memory, but is a meta",
    ),
    "clip size": ({"clip_factor": ZEROS}, ValueError, r"`clip_factor` must hold one .* holds 3"),
    "clip type": ({"clip_factor": "1"}, TypeError, r"`clip_factor` must be a torch.Tensor .* str"),
    "no parameters": ({"params": []}, ValueError, r"`grads` must .* `params` \(0\), but holds 1"),
    "parameters alone": ({"params": ZEROS}, TypeError, r"`params` must be a list or tuple"),
    "None as parameter": ({"params": [None]}, TypeError, r"must be given tensors, .* NoneType"),
    "float16": (
        {"params": [ZEROS.half()]},
        TypeError,
        r"`grads\[0\]` must be float16, but is float32",
    ),
    "half moments": (
        {name: [ZEROS.bfloat16()] for name in NAMES},
        TypeError,
        r"`exp_avgs\[0\]` must be float32 beside bfloat16 parameters, but is bfloat16 instead",
    ),
    "float8": (
        {"params": [ZEROS.to(torch.float8_e5m2)]},
        TypeError,
        r"`params\[0\]` must be float32, float64, bfloat16 or float16, but is",
    ),
    "integers": ({"params": [ZEROS.int()]}, TypeError, r"`params\[0\]` must be .* but is int32"),
    "meta": ({"params": [ZEROS.to("meta")]}, TypeError, r"with memory, but is given a meta tensor"),
    **{
        f"{name} {fault}": ({name: value}, error, sentence.format(name))
        for name in NAMES
        for fault, value, error, sentence in (
            ("fake", [_fake()], TypeError, r"`{}\[0\]` must be .* but is a fake tensor"),
            ("sparse", [ZEROS.to_sparse()], TypeError, r"`{}\[0\]` must be a dense tensor"),
            ("strided", [torch.zeros(6)[::2]], ValueError, r"`{}\[0\]` must be contiguous"),
        )
    },
    **{
        f"{name} {fault}": ({name: value}, error, sentence.format(name))
        for name in NAMES[1:]
        for fault, value, error, sentence in (
            ("missing", [], ValueError, r"`{}` must hold as many tensors as `params` \(1\)"),
            (
                "no list",
                ZEROS,
                TypeError,
                r"`{}` must be a list or tuple of tensors, but is Tensor",
            ),
            ("dtype", [ZEROS.double()], TypeError, r"`{}\[0\]` must be float32, but is float64"),
            ("shape", [torch.zeros(4)], ValueError, r"`{}\[0\]` must have the shape \[3\]"),
            (
                "device",
                [ZEROS.to("meta")],
                TypeError,
                r"`{}\[0\]` must be a dense .* but is a meta",
            ),
        )
    },
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_named_in_one_sentence(name: str) -> None:
    changes, error, sentence = BAD_CALLS[name]
    call: dict[str, Any] = {n: [torch.zeros(3)] for n in NAMES}
    with pytest.raises(error, match=sentence) as caught:
        adam_ema_(**{**call, "lr": 0.1, "step": 1, **changes})
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(("instead.", "first."))


@pytest.mark.usefixtures("native")
def test_mixed_types_in_a_list_are_refused() -> None:
    mixed: list[Tensor] = [ZEROS.clone(), ZEROS.double()]
    with pytest.raises(TypeError, match=r"`params\[1\]` must be float32, but is float64"):
        adam_ema_(mixed, list(mixed), mixed, mixed, None, lr=0.1, step=1)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", ["grads", "exp_avgs", "exp_avg_sqs", "teacher"])
def test_nothing_is_written_before_all_is_checked(name: str) -> None:
    state = random_state((17, 3))
    before = state.mapped(torch.clone)
    lists = dict(zip(NAMES, state.lists(), strict=True))
    lists[name] = [lists[name][0], torch.zeros(4)]
    with pytest.raises(ValueError, match=rf"`{name}\[1\]` must have the shape \[3\]"):
        adam_ema_(**lists, step=state.steps, lr=0.1)
    for now, then in zip(state.tensors(), before.tensors(), strict=True):
        assert same_bits(now, then)


def test_a_rate_and_a_decay_on_the_cpu_are_numbers(device: torch.device) -> None:
    one, other = (random_state((5, 70), device=device) for _ in range(2))
    adam_ema_(*one.lists(), step=one.steps, lr=0.125, decay=0.75)
    adam_ema_(*other.lists(), step=other.steps, lr=torch.tensor(0.125), decay=torch.tensor([0.75]))
    assert all(same_bits(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))
    with pytest.raises(ValueError, match=r"`lr` must be finite .* but is -1\.0 instead"):
        adam_ema_(*one.lists(), step=one.steps, lr=torch.tensor(-1.0))
    with pytest.raises(ValueError, match="`lr` must hold one element, but holds 0 instead"):
        adam_ema_(*one.lists(), step=one.steps, lr=torch.zeros(0))
