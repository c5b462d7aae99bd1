"""Planted faults: the checks that the real ops pass must catch every one of these wrong kernels.

A kernel here is the right formula in plain PyTorch with one named fault. Without a fault it passes
the same checks, so that a catch is due to the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from . import adam_ema_checks, conv_pool_checks, ema_update_checks, multitask_kd_loss_checks

VECTOR = 16  # elements of the widest vector


def _move(teacher: Tensor, value: Tensor, decay: float, fault: str = "") -> None:
    """The EMA of one tensor."""
    weight = decay if fault == "decay on the wrong side" else 1.0 - decay
    if decay == 0.0 and fault != "decay 0 is multiplied out":
        teacher.copy_(value)
    elif decay == 0.0:
        teacher.copy_(0.0 * teacher + value)
    elif decay == 1.0 and fault == "decay 1 is multiplied out":
        teacher.copy_(teacher + 0.0 * value)
    elif decay != 1.0:
        if fault == "two products instead of a lerp":
            teacher.copy_(decay * teacher + weight * value)
        elif fault == "float32 arithmetic for float64":
            teacher.copy_(torch.lerp(teacher.float(), value.float(), weight))
        else:
            teacher.lerp_(value.to(teacher.dtype), weight)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.view(-1)


def faulty_ema_update_(
    teacher: Sequence[Tensor], student: Sequence[Tensor], *, decay: float, fault: str = ""
) -> None:
    """`ema_update_` with one fault."""
    pairs = list(zip(teacher, student, strict=True))
    if fault == "last tensor forgotten":
        pairs = pairs[:-1]
    for target, source in pairs:
        if not target.is_floating_point():
            if fault == "integers skipped":
                continue
            if fault == "integers frozen at decay 1" and decay == 1.0:
                continue
            target.copy_(source)
            continue
        if not target.is_contiguous():
            if fault == "memory order ignored":
                source = source.contiguous().as_strided(target.shape, target.stride())
            _move(target, source, decay)
            continue
        flat, values = _flat(target), _flat(source)
        length = flat.numel()
        if fault == "tail dropped":
            length -= length % VECTOR
        if fault == "tail overruns" and length % VECTOR and length > VECTOR:
            storage = flat.as_strided((length + 1,), (1,), flat.storage_offset())
            storage[length] = storage[length - 1]
        if fault == "first element skipped":
            _move(flat[1:], values[1:], decay)
            continue
        _move(flat[:length], values[:length], decay, fault)
        if fault == "student written":
            source.copy_(target)


EMA_FAULTS = (
    "decay on the wrong side",
    "decay 0 is multiplied out",
    "decay 1 is multiplied out",
    "two products instead of a lerp",
    "float32 arithmetic for float64",
    "last tensor forgotten",
    "integers skipped",
    "integers frozen at decay 1",
    "memory order ignored",
    "tail dropped",
    "tail overruns",
    "first element skipped",
    "student written",
)


def faulty_adam_ema_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    teacher: Sequence[Tensor] | None,
    *,
    lr: float,
    step: int | list[Tensor],
    decay: float = 0.999,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    clip_factor: float = 1.0,
    fault: str = "",
) -> None:
    """`adam_ema_` with one fault."""
    skips = found_inf is not None and bool(found_inf != 0)
    if fault == "NaN in found_inf is not seen":
        skips = found_inf is not None and bool(found_inf > 0)
    if skips and fault == "a skipped step still counts" and isinstance(step, list):
        for count in step:
            count += 1
    if skips and fault == "a skipped step moves the teacher" and teacher is not None:
        for target, param in zip(teacher, params, strict=True):
            _move(target, param, decay)
    if skips and fault != "found_inf ignored":
        return
    first, second = betas
    if fault == "betas swapped":
        first, second = second, first
    for i, (stored, grad, exp_avg, exp_avg_sq) in enumerate(
        zip(params, grads, exp_avgs, exp_avg_sqs, strict=True)
    ):
        before = stored.clone()
        is_half = stored.dtype is not exp_avg.dtype
        param = stored.to(exp_avg.dtype)  # the same tensor, unless weights are half as wide
        if grad is not None:
            count = float(step if isinstance(step, int) else step[i] + 1)
            if isinstance(step, list) and fault != "steps not counted":
                step[i] += 1
            gradient = grad.to(exp_avg.dtype)
            gradient = gradient * (1.0 if fault == "clip factor ignored" else clip_factor)
            if grad_scale is not None and fault != "grad_scale ignored":
                multiplies = fault == "grad_scale multiplies"
                gradient = gradient * grad_scale if multiplies else gradient / grad_scale
            if fault == "gradient unscaled in place":
                grad.copy_(gradient)
            if decoupled != (fault == "decoupled mixed up"):
                param.mul_(1.0 - lr * weight_decay)
            elif fault != "penalty forgotten":
                gradient = gradient + weight_decay * param
            exp_avg.lerp_(gradient, 1.0 - first)
            exp_avg_sq.mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
            corrections = [1.0 - first**count, 1.0 - second**count]
            if fault == "no bias correction":
                corrections = [1.0, 1.0]
            elif fault == "bias correction of the step before":
                corrections = [1.0 - b ** max(count - 1, 1) for b in (first, second)]
            elif fault == "bias correction without its root":
                corrections[1] = corrections[1] ** 2
            if fault == "eps under the root":
                denominator = (exp_avg_sq / corrections[1] + eps).sqrt()
            elif fault == "eps before the correction":
                denominator = (exp_avg_sq.sqrt() + eps) / corrections[1] ** 0.5
            else:
                denominator = exp_avg_sq.sqrt() / corrections[1] ** 0.5 + eps
            update = lr / corrections[0] * exp_avg / denominator
            if fault == "tail dropped":
                update.view(-1)[param.numel() - param.numel() % VECTOR :] = 0.0
            param.sub_(update)
            if fault == "half weights cut off" and is_half:
                cut = param.view(torch.int32) & (-8192 if stored.dtype is torch.float16 else -65536)
                param = cut.view(torch.float32)
            if is_half:
                stored.copy_(param)
            if is_half and fault != "EMA of weights before they are rounded":
                param = stored
        elif fault == "no EMA without a gradient":
            continue
        if teacher is not None:
            source = before if fault == "EMA of the old weights" else param
            _move(teacher[i], source, decay, fault)


ADAM_FAULTS = (
    "decay on the wrong side",
    "NaN in found_inf is not seen",
    "a skipped step still counts",
    "a skipped step moves the teacher",
    "found_inf ignored",
    "betas swapped",
    "steps not counted",
    "clip factor ignored",
    "grad_scale ignored",
    "grad_scale multiplies",
    "gradient unscaled in place",
    "decoupled mixed up",
    "penalty forgotten",
    "no bias correction",
    "bias correction of the step before",
    "bias correction without its root",
    "eps under the root",
    "eps before the correction",
    "tail dropped",
    "no EMA without a gradient",
    "EMA of the old weights",
    "half weights cut off",
    "EMA of weights before they are rounded",
)


def faulty_multitask_kd_loss(
    student_logits: Sequence[Tensor],
    teacher_logits: Sequence[Tensor] | None,
    targets: Sequence[Tensor],
    *,
    task_weights: Sequence[float] | None = None,
    distill_weight: Sequence[float] | None = None,
    temperature: Sequence[float] | None = None,
    label_smoothing: Sequence[float] | None = None,
    class_weights: Sequence[Tensor | None] | None = None,
    ignore_index: int = -100,
    fault: str = "",
) -> tuple[Tensor, ...]:
    """`multitask_kd_loss` with one fault."""
    tasks = range(len(student_logits))
    parts = []
    for task in tasks:
        # Swapped among heads of one width, where no shape gives it away.
        other = (
            next(
                t for t in reversed(tasks) if student_logits[t].shape == student_logits[task].shape
            )
            if fault == "heads swapped"
            else task
        )
        parts.append(
            _faulty_task(
                student_logits[task],
                None if teacher_logits is None else teacher_logits[other],
                targets[task],
                (temperature or [3.0] * len(tasks))[0 if fault == "one temperature" else task],
                (label_smoothing or [0.0] * len(tasks))[task],
                None if class_weights is None else class_weights[task],
                ignore_index,
                fault,
            )
        )
    cross_entropies, distillations, corrects, valids = zip(*parts, strict=True)
    weights = task_weights or [1.0] * len(tasks)
    shares = distill_weight or [0.5] * len(tasks)
    if fault == "task weights ignored":
        weights = [1.0] * len(tasks)
    if fault == "distill weight on the cross-entropy":
        terms = [s * c + d for s, c, d in zip(shares, cross_entropies, distillations, strict=True)]
    elif fault == "task weight misses the distillation":
        terms = [
            c + s / w * d
            for w, s, c, d in zip(weights, shares, cross_entropies, distillations, strict=True)
        ]
    else:
        terms = [c + s * d for s, c, d in zip(shares, cross_entropies, distillations, strict=True)]
    total = torch.stack([w * term for w, term in zip(weights, terms, strict=True)]).sum()
    if fault == "backward ignores its input" and total.requires_grad:
        total.register_hook(torch.ones_like)
    listed = [torch.stack(values) for values in (cross_entropies, distillations, corrects, valids)]
    attached = fault == "parts keep a graph"
    return total, *(values if attached else values.detach() for values in listed)


def _faulty_task(
    student: Tensor,
    teacher: Tensor | None,
    target: Tensor,
    temperature: float,
    smoothing: float,
    weight: Tensor | None,
    ignore_index: int,
    fault: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    valid = target != ignore_index
    if fault == "tail rows dropped":
        valid = valid & (torch.arange(len(valid)) < max(len(valid) // VECTOR * VECTOR, 1))
    rows, labels = student[valid], target[valid]
    nothing = 0.0 * student.nan_to_num(0.0).sum()
    if fault == "nothing labelled gives NaN" and len(rows) == 0:
        nothing = nothing * torch.nan
    cross_entropy = distillation = nothing
    if len(rows):
        used = 0.0 if fault == "label smoothing forgotten" else smoothing
        if fault == "class weights ignored":
            weight = None
        cross_entropy = functional.cross_entropy(rows, labels, weight, label_smoothing=used)
        if weight is not None and fault == "class weights not normalised":
            cross_entropy = cross_entropy * weight[labels].sum() / len(rows)
        if fault == "mean over ignored rows too":
            cross_entropy = cross_entropy * len(rows) / len(student)
    if teacher is not None and len(rows):
        everyone = fault == "ignore_index only on the cross-entropy"
        logits, guide = (student, teacher) if everyone else (rows, teacher[valid])
        if fault != "teacher gradient leaks":
            guide = guide.detach()
        scaled = logits if fault == "temperature on the teacher only" else logits / temperature
        own = scaled.log_softmax(1)
        given = (guide / temperature).log_softmax(1)
        if fault == "divergence swapped":
            own, given = given, own
        shares = given.exp()
        terms = torch.where(shares == 0.0, 0.0, shares * (given - own))
        if fault == "entropy forgotten":
            terms = torch.where(shares == 0.0, 0.0, -shares * own)
        if fault == "ruled-out classes give NaN":
            terms = shares * (given - own)
        distillation = terms.sum() / len(logits)
        if fault == "mean over classes too":
            distillation = terms.mean()
        if fault == "T in place of T squared":
            distillation = distillation * temperature
        elif fault != "T squared missing":
            distillation = distillation * temperature**2
    logits = student.detach()
    right = logits.argmax(1) == target
    if fault != "a NaN row counts as correct":
        right &= ~logits.isnan().any(1)
    if fault == "highest index wins a tie":
        best = logits.shape[1] - 1 - logits.flip(1).argmax(1)
        right = (best == target) & ~logits.isnan().any(1)
    num_correct = right.sum()
    if fault == "correct counts ignored rows":
        num_correct = num_correct + (~valid).sum()
    counted = torch.ones_like(valid) if fault == "valid counts all rows" else valid
    return cross_entropy, distillation, num_correct, counted.sum()


LOSS_FAULTS = (
    "heads swapped",
    "one temperature",
    "task weights ignored",
    "distill weight on the cross-entropy",
    "task weight misses the distillation",
    "backward ignores its input",
    "parts keep a graph",
    "tail rows dropped",
    "nothing labelled gives NaN",
    "label smoothing forgotten",
    "class weights ignored",
    "class weights not normalised",
    "mean over ignored rows too",
    "ignore_index only on the cross-entropy",
    "teacher gradient leaks",
    "temperature on the teacher only",
    "divergence swapped",
    "entropy forgotten",
    "ruled-out classes give NaN",
    "mean over classes too",
    "T in place of T squared",
    "T squared missing",
    "a NaN row counts as correct",
    "highest index wins a tie",
    "correct counts ignored rows",
    "valid counts all rows",
)


def faulty_conv_pool(signals: Tensor, weight: Tensor, bias: Tensor, *, fault: str = "") -> Tensor:
    """`conv_pool` with one fault."""
    if fault == "signals written":
        signals.detach()[-1, -1, -1] += 1.0
    x, w, b = _faulty_operands(signals, weight, bias, fault)
    filtered = functional.conv1d(x, w, b)
    if fault == "weight gradient misses the last row":
        last = functional.conv1d(x[-1:], w.detach(), b)
        filtered = torch.cat([filtered[:-1], last])
    if fault == "pairs begin a sample late":
        filtered = functional.pad(filtered[..., 1:], (0, 1), value=-torch.inf)
    if fault == "last output not dropped" and filtered.shape[-1] % 2:
        filtered = functional.pad(filtered, (0, 1), value=-torch.inf)
    first, second = filtered[..., : filtered.shape[-1] // 2 * 2].unflatten(-1, (-1, 2)).unbind(-1)
    is_second = (second > first) | second.isnan()
    if fault == "second wins a tie":
        is_second = (second >= first) | second.isnan()
    elif fault == "NaN lost in the second":
        is_second = second > first
    elif fault == "NaN lost in the first":
        is_second = ~(first >= second)
    largest = torch.where(is_second, second, first)
    if fault == "a tie is shared":
        largest = torch.maximum(first, second)
    elif fault == "mean in place of maximum":
        largest = (first + second) / 2.0
    if fault == "bias forgotten in the output":
        largest = largest - bias.detach()[:, None]
    closed = largest < 0 if fault == "a zero passes the gradient" else largest <= 0
    if fault == "NaN lost in the ReLU":
        closed = ~(largest > 0)
    pooled = torch.where(closed, 0.0, largest)
    if fault == "ReLU forgotten":
        pooled = largest
    elif fault == "ReLU open to the gradient":
        pooled = largest + (pooled - largest).detach()
    elif fault == "bias gradient counts closed outputs":
        pooled = pooled + torch.where(closed, bias[:, None] - bias[:, None].detach(), 0.0)
    if fault == "tail of the batch dropped":
        whole = max(len(pooled) // VECTOR * VECTOR, 1)
        pooled = torch.cat([pooled[:whole], torch.zeros_like(pooled[whole:])])
    elif fault == "output stays float32":
        pooled = pooled.float()
    if pooled.requires_grad:
        if fault == "backward ignores its input":
            pooled.register_hook(torch.ones_like)
        elif fault == "gradient written":
            pooled.register_hook(lambda grad: grad.mul_(2.0))
    return pooled


def _faulty_operands(
    signals: Tensor, weight: Tensor, bias: Tensor, fault: str
) -> tuple[Tensor, Tensor, Tensor]:
    if fault == "filter turned":
        weight = weight.flip(2)
    elif fault == "signal channels turned":
        weight = weight.flip(1)
    elif fault == "last tap forgotten":
        weight = torch.cat([weight[..., :-1], 0.0 * weight[..., -1:]], dim=2)
    elif fault == "last signal channel forgotten":
        weight = torch.cat([weight[:, :-1], 0.0 * weight[:, -1:]], dim=1)
    elif fault == "bias forgotten":
        bias = 0.0 * bias
    elif fault == "bias of another filter":
        bias = bias.roll(1)
    elif fault == "products in bfloat16":
        weight = weight + (weight.bfloat16() - weight).detach()
    elif fault == "infinity clipped":
        signals = signals.nan_to_num(torch.nan, 1e30, -1e30)
    elif fault == "first signal row for all":
        signals = signals[:1].expand_as(signals)
    elif fault == "signals without a gradient":
        signals = signals.detach() + 0.0 * signals.nan_to_num(0.0, 0.0, 0.0)
    return signals, weight, bias


CONV_FAULTS = (
    "signals written",
    "pairs begin a sample late",
    "last output not dropped",
    "second wins a tie",
    "NaN lost in the second",
    "NaN lost in the first",
    "a tie is shared",
    "mean in place of maximum",
    "bias forgotten in the output",
    "a zero passes the gradient",
    "NaN lost in the ReLU",
    "ReLU forgotten",
    "ReLU open to the gradient",
    "bias gradient counts closed outputs",
    "tail of the batch dropped",
    "output stays float32",
    "backward ignores its input",
    "gradient written",
    "filter turned",
    "signal channels turned",
    "last tap forgotten",
    "last signal channel forgotten",
    "bias forgotten",
    "bias of another filter",
    "products in bfloat16",
    "infinity clipped",
    "first signal row for all",
    "weight gradient misses the last row",
    "signals without a gradient",
)

OPS: dict[str, tuple[Callable[..., Any], Callable[..., None], tuple[str, ...]]] = {
    "conv_pool": (faulty_conv_pool, conv_pool_checks.check_everything, CONV_FAULTS),
    "ema_update_": (faulty_ema_update_, ema_update_checks.check_everything, EMA_FAULTS),
    "adam_ema_": (faulty_adam_ema_, adam_ema_checks.check_everything, ADAM_FAULTS),
    "multitask_kd_loss": (
        faulty_multitask_kd_loss,
        multitask_kd_loss_checks.check_everything,
        LOSS_FAULTS,
    ),
}
MUTANTS = [(name, fault) for name, (_, _, faults) in OPS.items() for fault in faults]


@pytest.mark.parametrize("name", OPS)
def test_without_a_fault_the_checks_pass(name: str) -> None:
    op, check, _ = OPS[name]
    check(op)


@pytest.mark.parametrize(("name", "fault"), MUTANTS)
def test_every_planted_fault_is_caught(name: str, fault: str) -> None:
    op, check, _ = OPS[name]
    with pytest.raises(AssertionError):
        check(partial(op, fault=fault))


def test_there_are_enough_mutants() -> None:
    assert len(MUTANTS) >= 20
