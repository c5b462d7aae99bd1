"""A training step of `MTLNet` on a CPU without autograd: fused layers, nothing allocated anew."""

from __future__ import annotations

import math
import statistics
from operator import is_
from typing import TYPE_CHECKING

import torch

from smoothdistill.errors import CheckpointError
from smoothdistill.models import MTLNet
from smoothdistill.models.hooks import is_hooked
from smoothdistill.models.mtl_net_columns import (
    MTLNetColumns,
    TrunkColumns,
    can_run_in_columns,
    empty,
    layers_of,
    linear_of,
    weights_of,
)
from smoothdistill.ops import adam_ema_
from smoothdistill.ops._backend import cpu_kernels
from smoothdistill.ops.columns import plan_columns, to_columns_
from smoothdistill.ops.linear import (
    PRODUCTS,
    AdamNumbers,
    LinearProducts,
    bfloat16_products,
    make_products,
)
from smoothdistill.ops.product_choice import choose_products
from smoothdistill.training.part_clock import PartClock
from smoothdistill.training.skipped_steps import overflowed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from smoothdistill.methods import Method
    from smoothdistill.ops import MultitaskKDOutput
    from smoothdistill.optim import AdamEMA, EMATeacher

__all__ = ["FusedStep", "saved_products", "why_not_fused"]

_MOST_PLANS = 4  # sizes of batch that are kept ready: the usual one, the last of an epoch, ...
_MANY_WEIGHTS = 1 << 16  # a layer whose Adam step is joined to its gradient


def why_not_fused(model: nn.Module, optimizer: AdamEMA, teacher: EMATeacher) -> str | None:
    """What keeps a model from the fused step, or None."""
    if cpu_kernels() is None:
        return "the kernels were not built or are switched off"
    if not isinstance(model, MTLNet) or type(model) is not MTLNet:
        return f"the model is a {type(model).__name__}, not an MTLNet"
    averaged = teacher.model
    assert isinstance(averaged, MTLNet)
    if not (can_run_in_columns(model) and can_run_in_columns(averaged)):
        return "the weights are not float32 on the CPU, or a layer is hooked or replaced"
    if is_hooked(model) or is_hooked(averaged):
        return "the model is hooked"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return "the optimizer is hooked"
    if len(optimizer.param_groups) != 1:
        return "the optimizer has more than one group"
    stepped = optimizer.param_groups[0]["params"]
    # Not `model.parameters()`, which takes longer than the checks, and passes over shared weights.
    weights = [layer._parameters[key] for layer in layers_of(model) for key in ("weight", "bias")]
    if len(stepped) != len(weights) or not all(map(is_, stepped, weights)):
        return "the optimizer steps other weights than those of the layers, each once"
    for weight in stepped:
        if not weight.requires_grad:
            return "a weight is frozen"
        if weight._backward_hooks or weight._post_accumulate_grad_hooks:
            return "a weight is hooked"
    return None


class FusedStep:
    """Forward of teacher and student, loss, backward and update of an `MTLNet`.

    Activations and gradients of a batch size are allocated once and used again in every step of
    that size; weights, moments and averages are looked up anew in every step, so that they may be
    moved or replaced in between. `.grad` of the weights is left alone.

    Args:
        model: The student.
        method: Gives the loss.
        optimizer: Its numbers and moments are used, its step counts are kept up.
        teacher: The averaged copy.
        precision: "float32", or "bfloat16": products of numbers rounded to bfloat16, everything
            else in float32.
        products: A name of `ops.linear.PRODUCTS`; None: the fastest for the first batch.
        check_gradients: Whether gradients are looked at as well as the loss.
    """

    def __init__(
        self,
        model: MTLNet,
        method: Method,
        optimizer: AdamEMA,
        teacher: EMATeacher,
        *,
        precision: str = "float32",
        products: str | None = None,
        check_gradients: bool = False,
    ) -> None:
        self.model, self.method, self.optimizer, self.teacher = model, method, optimizer, teacher
        self._check_gradients = check_gradients
        self._precision = precision
        self.products = products if precision == "float32" else bfloat16_products()[0]
        self._plans: dict[int, _Plan] = {}

    def __call__(
        self, signals: Tensor, targets: Mapping[str, Tensor]
    ) -> tuple[MultitaskKDOutput, bool]:
        """Train by one batch; the loss by parts, and whether the step was skipped."""
        self.model.check_signals(signals)
        plan, out = self.loss(signals, targets)
        skip = not math.isfinite(out.total)
        if not skip and self._check_gradients:
            gradients = self.gradients(plan)
            skip = bool(overflowed(gradients))
            if not skip:
                self.apply(gradients)
        elif not skip:
            self.update(plan)
        return out, skip

    def plan_for(self, batch: int) -> _Plan:
        """Memory and products for a batch size."""
        plan = self._plans.pop(batch, None)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.pop(next(iter(self._plans)))
            if self.products is None:
                layers = [_size(self.model.linear1), _size(self.model.linear2)]
                self.products = choose_products(layers, plan_columns(batch))
            with torch.inference_mode(False):  # memory that may be used outside of it, too
                plan = _Plan(self.model, batch, self.products)
        self._plans[batch] = plan  # the newest last
        return plan

    def use(self, products: str) -> None:
        """Let a library of `ops.linear.PRODUCTS` multiply from now on."""
        if self._precision == "float32":
            self.products = products
            self._plans.clear()

    def loss(
        self,
        signals: Tensor,
        targets: Mapping[str, Tensor],
        note: Callable[[str], None] = lambda part: None,
    ) -> tuple[_Plan, MultitaskKDOutput]:
        """Both forward passes and the loss; nothing of model, optimizer or teacher changes.

        Args:
            signals: Windows [batch, channels, time], float32 on the CPU.
            targets: Class numbers [batch] of each task.
            note: Told of the end of each part of the step; see `TrainStep.time_parts`.

        Returns:
            The plan, whose `logit_gradients` are filled, and the loss by parts.
        """
        model, plan = self.model, self.plan_for(len(signals))
        plan.student.trunk.load(model, signals)
        note("rest")
        teacher_logits = None
        if self.method.needs_teacher_logits:
            averaged = self.teacher.model
            assert isinstance(averaged, MTLNet)
            logits = plan.teacher.forward(averaged, plan.products)
            teacher_logits = dict(zip(model.tasks, logits, strict=True))
            note("teacher forward")
        logits = plan.student.forward(model, plan.products, note=note)
        out, gradients = self.method.loss_and_gradients(
            dict(zip(model.tasks, logits, strict=True)), teacher_logits, targets
        )
        plan.logit_gradients = [gradients.get(task) for task in model.tasks]
        note("loss")
        return plan, out

    def update(self, plan: _Plan, note: Callable[[str], None] = lambda part: None) -> None:
        """Backward pass, and the step of student and teacher, layer by layer from the heads on."""
        plan.backward(self.model, self._numbers(), self, note)
        self._follow_up()

    def time_parts(
        self, signals: Tensor, targets: Mapping[str, Tensor], num_rounds: int
    ) -> dict[str, float]:
        """Median seconds of each part over so many steps, which train the model."""
        rounds: list[dict[str, float]] = []
        for _ in range(num_rounds):
            clock = PartClock()
            plan, _ = self.loss(signals, targets, clock.note)
            self.update(plan, clock.note)
            clock.note("rest")
            rounds.append(clock.seconds)
        return {part: statistics.median(each[part] for each in rounds) for part in rounds[0]}

    def gradients(self, plan: _Plan) -> list[Tensor | None]:
        """The gradient of every weight, in the order of the optimizer's; nothing moves.

        It is None in the heads of tasks that the loss does not use.
        """
        plan.backward(self.model, None, self, lambda part: None)
        return [plan.gradient_of(p) for p in self.optimizer.param_groups[0]["params"]]

    def apply(self, gradients: list[Tensor | None]) -> None:
        """The step of student and teacher with given gradients."""
        self.adam(self.optimizer.param_groups[0]["params"], gradients, self._numbers())
        self._follow_up()

    def _follow_up(self) -> None:
        """What else an optimizer's step does: buffers and counts, and the word to schedulers."""
        self.teacher.follow_up()
        self.optimizer._opt_called = True  # type: ignore[attr-defined]

    def adam(
        self, params: list[Tensor], gradients: list[Tensor | None], numbers: AdamNumbers
    ) -> None:
        """`adam_ema_` of some of the weights."""
        states = [self.optimizer.state_of(param) for param in params]
        adam_ema_(
            params, list(gradients),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [self.teacher.teacher_of[param] for param in params],
            step=[state["step"] for state in states],
            lr=numbers.lr, betas=(numbers.beta1, numbers.beta2), eps=numbers.eps,
            weight_decay=numbers.weight_decay, decoupled=numbers.decoupled, decay=numbers.decay,
        )  # fmt: skip

    def _numbers(self) -> AdamNumbers:
        (group,) = self.optimizer.param_groups
        beta1, beta2 = group["betas"]
        return AdamNumbers(
            float(group["lr"]), beta1, beta2, group["eps"], group["weight_decay"],
            group["decoupled"], self.teacher.current_decay(),
        )  # fmt: skip


class _Plan:
    """Everything that a step of one batch size writes to, but weights and moments."""

    def __init__(self, model: MTLNet, batch: int, products: str) -> None:
        layout = plan_columns(batch)
        self.products: LinearProducts = make_products(products)
        trunk = TrunkColumns.make(model, layout, keeps_choice=True)
        self.student = MTLNetColumns(model, batch, trunk)
        # The teacher's activations are done with before the backward pass begins: they lie in the
        # same memory as the gradients, which spares the caches.
        second = TrunkColumns.make(model, layout, signals=trunk.signals)
        self.teacher = MTLNetColumns(model, batch, second)
        self.logit_gradients: list[Tensor | None] = []
        self._gradients = {
            name: torch.empty_like(parameter) for name, parameter in model.named_parameters()
        }
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._workspace = empty(trunk.num_workspace_floats(weights_of(model)))

    def gradient_of(self, parameter: Tensor) -> Tensor | None:
        """Where `backward` has written the gradient of a weight."""
        name = self._names[id(parameter)]
        _, _, number = name.rpartition(".")[0].partition("heads.")
        if number and self.logit_gradients[int(number)] is None:
            return None
        return self._gradients[name]

    @torch.no_grad()
    def backward(
        self,
        model: MTLNet,
        numbers: AdamNumbers | None,
        step: FusedStep,
        note: Callable[[str], None],
    ) -> None:
        """Gradients of all weights; with `numbers` the weights move as soon as theirs is known."""
        products, trunk, d = self.products, self.student.trunk, self.teacher.trunk
        weights: list[Tensor] = []
        gradients: list[Tensor | None] = []
        trunk_weights = weights_of(model)

        def into(name: str, pair: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
            """Where the gradients of a layer go, which a later Adam step takes together."""
            weights.extend(pair or trunk_weights[name])
            found = self._gradients[f"{name}.weight"], self._gradients[f"{name}.bias"]
            gradients.extend(found)
            return found

        def update(name: str, dy: Tensor, y: Tensor) -> bool:
            """Adam's step of a large layer, joined to its gradient."""
            weight, bias = trunk_weights[name]
            if numbers is None or not products.updates or weight.numel() < _MANY_WEIGHTS:
                return False
            state, averaged = step.optimizer.state_of(weight), step.teacher.teacher_of[weight]
            db = self._gradients[f"{name}.bias"]
            products.update_(dy, y, weight, state, averaged, numbers, db)
            weights.append(bias)
            gradients.append(db)
            return True

        used = [n for n, gradient in enumerate(self.logit_gradients) if gradient is not None]
        if not used:
            d.linear2.zero_()
        for number, gradient in enumerate(self.logit_gradients):
            head = linear_of(model.heads[number])
            pair = head.weight, head.bias
            if gradient is None:  # not stepped, but averaged
                weights.extend(pair)
                gradients.extend((None, None))
                continue
            columns = self.teacher.heads[number]
            to_columns_(gradient.to(torch.float32).contiguous(), columns)
            gate = trunk.linear2 if number == used[-1] else None
            products.backward_input(columns, head.weight, gate, number != used[0], d.linear2)
            products.backward_weight(columns, trunk.linear2, *into(f"heads.{number}", pair))
        note("backward, heads")
        trunk.backward(d, trunk_weights, products, self._workspace, into, update=update, note=note)
        if numbers is not None:
            step.adam(weights, gradients, numbers)
            note("Adam and EMA of the other weights")


def saved_products(tensors: Mapping[str, Tensor]) -> str | None:
    """Who multiplied the matrices of a saved run, where it says so."""
    number = tensors.get("products")
    if number is None:
        return None
    if number.shape != () or number.dtype != torch.int64 or not 0 <= number < len(PRODUCTS):
        raise CheckpointError(
            f"`products` must be an int64 number below {len(PRODUCTS)}, but is not instead."
        )
    return list(PRODUCTS)[int(number)]


def _size(layer: nn.Linear) -> tuple[int, int]:
    return layer.out_features, layer.in_features
