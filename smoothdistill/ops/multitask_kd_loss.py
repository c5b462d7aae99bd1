"""`multitask_kd_loss`: cross-entropy and distillation of all tasks, with gradient, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from smoothdistill import reference
from smoothdistill.ops._backend import kernels_for
from smoothdistill.ops._loss_numbers import known_numbers, loss_numbers, split_numbers
from smoothdistill.ops._registration import register_op

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    _Number = float | Tensor | Sequence[float | Tensor]

__all__ = ["MultitaskKDOutput", "multitask_kd_loss", "multitask_kd_loss_and_gradients"]

_LOW_PRECISION = (torch.float16, torch.bfloat16)


class MultitaskKDOutput(NamedTuple):
    """The loss and its parts, all on the device of the logits; only `total` has a gradient."""

    total: Tensor
    """Scalar: sum over tasks of task_weight * (cross_entropy + distill_weight * distillation)."""
    cross_entropy: Tensor
    """[tasks], in nats."""
    distillation: Tensor
    """[tasks], T**2 * KL in nats, before `distill_weight`."""
    num_correct: Tensor
    """[tasks] int64: rows whose largest student logit is the target's."""
    num_valid: Tensor
    """[tasks] int64: rows whose target is not `ignore_index`."""


def multitask_kd_loss(
    student_logits: Sequence[Float[Tensor, "batch _classes"]],
    teacher_logits: Sequence[Float[Tensor, "batch _classes"]] | None,
    targets: Sequence[Int64[Tensor, " batch"]],
    *,
    task_weights: float | Sequence[float] = 1.0,
    distill_weight: _Number = 0.5,
    temperature: _Number = 3.0,
    label_smoothing: float | Sequence[float] = 0.0,
    class_weights: Sequence[Float[Tensor, " _classes"] | None] | None = None,
    ignore_index: int = -100,
) -> MultitaskKDOutput:
    """Sum over tasks of ``task_weight * (CE + distill_weight * T**2 * KL(teacher || student))``.

    The formula, reductions and the treatment of ignored rows stand in
    `smoothdistill.reference.multitask_kd_loss`. The gradient is made in the same pass; the
    logits are left intact, and nothing waits for the device. A second derivative is refused.

    Args:
        student_logits: One tensor a task, float32 or float64 (half precisions are widened).
        teacher_logits: The same shapes and dtype; no gradient flows into them. None: no
            distillation.
        targets: One tensor a task of class indices in [0, classes), or `ignore_index`. The CUDA
            kernels do not wait to refuse another: total and that task's cross-entropy become NaN.
        task_weights: Weight of each task, at least 0.
        distill_weight: Weight of each task's distillation against its cross-entropy, at least 0.
            One float32 element on the logits' device, for all tasks or in the place of a task's
            number, is read there and not checked, for CUDA graphs.
        temperature: By which both logits are divided in the distillation, above 0; or elements,
            like `distill_weight`.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1].
        class_weights: For each task a finite weight of at least 0 of every class, or None.
        ignore_index: Rows with this target take part in neither loss.

    Returns:
        The total and its parts.

    Raises:
        TypeError: If a tensor is of another dtype, or has no memory (fake, meta, sparse).
        ValueError: If shapes, devices or lists do not match, the batch is empty, a target or a
            number lies outside its range.

    Source:
        Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015, section 2;
        the published code of Smooth-Distill (arXiv 2507.00061) for the sum over tasks.
    """
    is_compiling = torch.compiler.is_compiling()
    arguments = _arguments(
        student_logits, teacher_logits, targets, class_weights,
        (task_weights, distill_weight, temperature, label_smoothing), ignore_index,
        remembers=not is_compiling,
    )  # fmt: skip
    students = arguments[0]
    if is_compiling:
        outputs = torch.ops.smoothdistill.multitask_kd_loss(*arguments)
        return MultitaskKDOutput(outputs[0], *(part.detach() for part in outputs[1:5]))
    if torch.is_grad_enabled() and any(logits.requires_grad for logits in students):
        parts: list[Tensor] = []
        try:
            total = _apply_directly(arguments, parts, *students)
        except RuntimeError:  # under torch.func, which Function.apply refuses in better words
            total = cast(Any, _WithGradient.apply)(arguments, parts, *students)
        return MultitaskKDOutput(total, *parts)
    return MultitaskKDOutput(*_run(*arguments)[:5])


def multitask_kd_loss_and_gradients(
    student_logits: Sequence[Float[Tensor, "batch _classes"]],
    teacher_logits: Sequence[Float[Tensor, "batch _classes"]] | None,
    targets: Sequence[Int64[Tensor, " batch"]],
    *,
    task_weights: float | Sequence[float] = 1.0,
    distill_weight: _Number = 0.5,
    temperature: _Number = 3.0,
    label_smoothing: float | Sequence[float] = 0.0,
    class_weights: Sequence[Float[Tensor, " _classes"] | None] | None = None,
    ignore_index: int = -100,
) -> tuple[MultitaskKDOutput, list[Tensor]]:
    """`multitask_kd_loss` and its gradient with respect to each task's logits, without autograd.

    For training steps that do their own backward pass. The arguments and errors are those of
    `multitask_kd_loss`; nothing that is returned is joined to a graph.
    """
    arguments = _arguments(
        student_logits, teacher_logits, targets, class_weights,
        (task_weights, distill_weight, temperature, label_smoothing), ignore_index,
        remembers=True,
    )  # fmt: skip
    *outputs, gradients = _run(*arguments)
    return MultitaskKDOutput(*outputs), gradients


def _arguments(
    student_logits: Sequence[Tensor],
    teacher_logits: Sequence[Tensor] | None,
    targets: Sequence[Tensor],
    class_weights: Sequence[Tensor | None] | None,
    given: tuple[_Number, ...],
    ignore_index: int,
    *,
    remembers: bool,
) -> tuple[Any, ...]:
    """What `_run` takes: lists of contiguous tensors, and one number a task of each kind."""
    num_tasks = len(student_logits)
    numbers = known_numbers(num_tasks, given) if remembers else loss_numbers(num_tasks, *given)
    _check_length("teacher_logits", teacher_logits, num_tasks)
    _check_length("targets", targets, num_tasks)
    _check_length("class_weights", class_weights, num_tasks)
    students = _prepared("student_logits", student_logits)
    teachers = [] if teacher_logits is None else _prepared("teacher_logits", teacher_logits)
    labels = [t if t.is_contiguous() else t.contiguous() for t in targets]
    return (
        students, teachers, labels, list(class_weights or [None] * num_tasks), *numbers,
        ignore_index,
    )  # fmt: skip


def _prepared(name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Dense contiguous logits of full precision; nearly always the tensors themselves."""
    for logits in tensors:
        if not (
            logits.dtype is torch.float32
            and logits.numel()
            and logits.layout is torch.strided
            and logits.is_contiguous()
        ):
            return [_prepared_one(f"{name}[{index}]", each) for index, each in enumerate(tensors)]
    return list(tensors)


def _prepared_one(name: str, logits: Tensor) -> Tensor:
    if logits.layout is not torch.strided:
        raise TypeError(f"`{name}` must be a dense tensor, but is {logits.layout} instead.")
    if logits.shape[:1] == (0,):
        raise ValueError(f"`{name}` must hold at least 1 row, but holds 0 instead.")
    if logits.dtype in _LOW_PRECISION:
        logits = logits.float()
    return logits if logits.is_contiguous() else logits.contiguous()


def _check_length(name: str, tensors: Sequence[Tensor | None] | None, num_tasks: int) -> None:
    if tensors is not None and len(tensors) != num_tasks:
        raise ValueError(
            f"`{name}` must hold as many tensors as `student_logits` ({num_tasks}),"
            f" but holds {len(tensors)} instead."
        )


def _run(
    students: list[Tensor],
    teachers: list[Tensor],
    targets: list[Tensor],
    class_weights: list[Tensor | None],
    task_weights: list[float],
    distill_weight: list[float],
    temperature: list[float],
    label_smoothing: list[float],
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """The five outputs, and the gradient of the total with respect to each task's logits."""
    first = students[0]
    kernels = kernels_for(first, "multitask_kd_loss")
    if kernels is None:

        def loss(*leaves: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            outputs = reference.multitask_kd_loss(
                leaves,
                teachers or None,
                targets,
                task_weights=task_weights,
                distill_weight=distill_weight,
                temperature=temperature,
                label_smoothing=label_smoothing,
                class_weights=class_weights,
                ignore_index=ignore_index,
            )
            return outputs[0], outputs

        # Not torch.autograd.grad: below the registered op, autograd records nothing.
        differentiate = torch.func.grad(loss, argnums=tuple(range(len(students))), has_aux=True)
        gradients, outputs = differentiate(*(logits.detach() for logits in students))
        return *outputs, list(gradients)
    num_tasks = len(students)
    scalar, vector, counts = _templates(first.dtype, first.device, num_tasks)
    total = torch.empty_like(scalar)
    cross_entropy, distillation = torch.empty_like(vector), torch.empty_like(vector)
    num_correct, num_valid = torch.empty_like(counts), torch.empty_like(counts)
    gradients = [torch.empty_like(logits) for logits in students]
    of_cuda: tuple[Any, ...] = ()
    if hasattr(kernels, "loss_workspace_bytes"):
        num_bytes = kernels.loss_workspace_bytes(num_tasks)
        distill_weight, distill_weight_at = split_numbers(distill_weight)
        temperature, temperature_at = split_numbers(temperature)
        of_cuda = (
            first.new_empty(num_bytes, dtype=torch.uint8), distill_weight_at, temperature_at
        )  # fmt: skip
    kernels.multitask_kd_loss(
        students, teachers or None, targets, class_weights,
        task_weights, distill_weight, temperature, label_smoothing, ignore_index,
        total, cross_entropy, distillation, num_correct, num_valid, gradients, *of_cuda,
    )  # fmt: skip
    return total, cross_entropy, distillation, num_correct, num_valid, gradients


_TEMPLATES: dict[tuple[torch.dtype, torch.device, int], tuple[Tensor, Tensor, Tensor]] = {}


def _templates(
    dtype: torch.dtype, device: torch.device, num_tasks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of the outputs: `empty_like` of one takes two thirds of the time of `new_empty`."""
    key = dtype, device, num_tasks
    if key not in _TEMPLATES:
        found = (
            torch.empty((), dtype=dtype, device=device),
            torch.empty(num_tasks, dtype=dtype, device=device),
            torch.empty(num_tasks, dtype=torch.int64, device=device),
        )
        if type(found[0]) is not torch.Tensor:  # a fake one, of no use to others
            return found
        _TEMPLATES[key] = found
    return _TEMPLATES[key]


def _refuse_create_graph() -> None:
    if torch.is_grad_enabled():
        raise NotImplementedError(
            "`create_graph` must be False for multitask_kd_loss, but is True instead: its"
            " gradient is made in the forward pass and has no derivative of its own."
        )


def _keeps_graph() -> bool:
    """Whether the backward pass under way may be followed by another (`retain_graph`)."""
    found = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if found is None else bool(found())


def _scaled(gradients: Sequence[Tensor], grad_total: Tensor) -> list[Tensor]:
    _refuse_create_graph()
    # Reading the factor is free on the CPU; elsewhere it would be a sync.
    if grad_total.is_cpu and grad_total.item() == 1.0:
        # Who asked may change them: where they may be asked for again, they are copied.
        return [gradient.clone() for gradient in gradients] if _keeps_graph() else list(gradients)
    return [gradient * grad_total for gradient in gradients]


class _WithGradient(torch.autograd.Function):
    """Joins the total to the graph of its logits; cheaper than going through the dispatcher.

    The other outputs leave through the list `parts`: as outputs each would cost 2 us more.
    """

    @staticmethod
    def forward(
        ctx: Any, arguments: tuple[Any, ...], parts: list[Tensor], *_students: Tensor
    ) -> Tensor:
        total, *others, gradients = _run(*arguments)
        parts.extend(others)
        # An attribute: they are neither inputs nor outputs, and saving them would cost 3 us.
        ctx.gradients = gradients
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *_scaled(ctx.gradients, grad_total))


# What Function.apply calls after it has looked for torch.func transforms, which takes 8 us.
_apply_directly: Any = super(torch.autograd.Function, _WithGradient).apply


def _fake(students: list[Tensor], *_: Any) -> tuple[Any, ...]:
    first, num_tasks = students[0], len(students)
    return (
        first.new_empty(()),
        first.new_empty(num_tasks),
        first.new_empty(num_tasks),
        first.new_empty(num_tasks, dtype=torch.int64),
        first.new_empty(num_tasks, dtype=torch.int64),
        [torch.empty_like(logits) for logits in students],
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    ctx.save_for_backward(*output[5])
    ctx.set_materialize_grads(False)
    # A list that holds only tensors takes a list of gradients, everything else a single None.
    ctx.no_gradients = tuple(
        [None] * len(given)
        if isinstance(given, list) and all(isinstance(item, torch.Tensor) for item in given)
        else None
        for given in inputs[1:]
    )


def _backward(ctx: Any, grad_total: Tensor | None, *_: Any) -> tuple[Any, ...]:
    gradients = ctx.saved_tensors
    if grad_total is None:
        return [None] * len(gradients), *ctx.no_gradients
    _refuse_create_graph()
    return [gradient * grad_total for gradient in gradients], *ctx.no_gradients


register_op(
    "multitask_kd_loss(Tensor[] student_logits, Tensor[] teacher_logits, Tensor[] targets,"
    " Tensor?[] class_weights, float[] task_weights, float[] distill_weight, float[] temperature,"
    " float[] label_smoothing, int ignore_index)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor[])",
    _run,
    _fake,
)
torch.library.register_autograd(
    "smoothdistill::multitask_kd_loss", _backward, setup_context=_setup_context
)
