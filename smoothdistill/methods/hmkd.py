"""HMKD: teacher and student of different kinds, trained at once, teach each other at two levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from smoothdistill.methods.base import require_student
from smoothdistill.methods.dkd import decoupled_divergence
from smoothdistill.methods.loss_parts import LossParts, labelled_mean, task_losses
from smoothdistill.methods.multitask import Multitask, MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.methods.stages import StagedNetwork, stage_shapes, staged_network
from smoothdistill.ops import multitask_kd_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder
    from smoothdistill.ops import MultitaskKDOutput

__all__ = ["HMKD", "HMKDOptions", "StageEnsemble", "TeacherAndStudent"]


class HMKDOptions(MultitaskOptions):
    """Options of `HMKD`."""

    mutual_weight: float = Field(default=0.1, ge=0.0)
    """Weight of what a side learns from the other, against its cross-entropy, at least 0 (r)."""

    temperature: float = Field(default=1.0, gt=0.0)
    """Temperature of the divergences, above 0."""

    ensemble_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the cross-entropy of each side's ensemble, at least 0. Ours: at 0 nothing but the
    other side's ensemble tells one what to say, and two that say nothing agree."""

    divergence: Literal["kl", "dkd"] = "kl"
    """What is taught of predictions: their divergence, or its two halves with DKD's weights."""

    ensemble_divergence: Literal["kl", "mse"] = "kl"
    """What is taught of ensembles: their divergence, or the squared difference of their logits."""

    warmup: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the epochs over which `mutual_weight` rises to its value, in [0, 1]."""


class StageEnsemble(nn.Module):
    """Logits of every task from all stages of a network but the last: a weighted sum.

    Args:
        shapes: Shapes of the stages, without the batch.
        num_classes: Number of classes of each task.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], num_classes: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_classes)
        self.scores = nn.Parameter(torch.zeros(len(num_classes), len(shapes)))
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Linear(shape[0], classes) for shape in shapes)
            for classes in num_classes.values()
        )

    def forward(self, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Logits [batch, classes] of every task.

        Args:
            stages: Maps [batch, channels, time], of which the mean over time counts, or vectors.
        """
        means = [stage.mean(-1) if stage.ndim == 3 else stage for stage in stages]
        logits = {}
        for task, scores, projections in zip(
            self.tasks, self.scores, self.projections, strict=True
        ):
            assert isinstance(projections, nn.ModuleList)
            each = [layer(mean) for layer, mean in zip(projections, means, strict=True)]
            logits[task] = torch.einsum("s,sbc->bc", torch.softmax(scores, 0), torch.stack(each))
        return logits


class TeacherAndStudent(nn.Module):
    """Both networks, and the ensemble of the stages of each.

    Args:
        student: The network that is used in the end.
        teacher: The other one.
        num_classes: Number of classes of each task.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, num_classes: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self.student_ensemble, self.teacher_ensemble = (
            StageEnsemble(_inner_shapes(network, name), num_classes)
            for network, name in ((student, "model"), (teacher, "teacher.model"))
        )

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        """Logits of the student."""
        logits: dict[str, Tensor] = self.student(signals)
        return logits


def _inner_shapes(network: nn.Module, name: str) -> list[tuple[int, ...]]:
    shapes = stage_shapes(staged_network(network, name, HMKD.name))[:-1]
    if not shapes:
        raise TypeError(
            f"`{name}` must have a stage before its features for the method {HMKD.name}, "
            f"but {type(network).__name__} has none instead."
        )
    return shapes


@register_method
class HMKD(Multitask):
    """Heterogeneous mutual distillation between a teacher and a student that are trained at once.

    With predictions z, ensembles E = sum_i softmax(a)_i g_i(mean over time of stage i), learned a
    and linear g, p = softmax(. / T), r = `mutual_weight`, e = `ensemble_weight`, and no gradient
    through what is learned from, the teacher's loss is ::

        sum_t w_t * (CE(z) + r T ** 2 KL(p of the student's z || p of z)
                     + e CE(E) + r T ** 2 KL(p of the student's E || p of E))

    and the student's is the same with both changed over. The student is the model that is used;
    what is shown as "teacher" is the teacher, not an average. The parts of the loss are the
    student's; those of the teacher stand beside them by name.

    Source:
        HMKD (IEEE TNNLS 36(9):16589, 2025). Reconstruction: published are mutual learning at
        intermediate and output layers, and a weighted ensemble of each side's intermediate
        features; the form of the losses is the usual one of its authors' group, and e is ours.
    """

    name: ClassVar[str] = "hmkd"
    changes_by_epoch: ClassVar[bool] = True
    Options: ClassVar[type[LossOptions]] = HMKDOptions
    options: HMKDOptions
    teacher_model: ClassVar[Literal["none", "optional", "beside", "trained"]] = "beside"

    @property
    def other_parts(self) -> tuple[str, ...]:
        """Parts of the teacher's loss, and of both ensembles', summed over tasks by weight."""
        return ("teacher_total", "ensemble_total", "teacher_ensemble_total")

    def build_student(
        self, build: NetworkBuilder, num_classes: Mapping[str, int]
    ) -> TeacherAndStudent:
        """Both networks and their ensembles."""
        return TeacherAndStudent(build(num_classes), build.build_teacher(num_classes), num_classes)

    def network(self, student: nn.Module) -> nn.Module:
        """The student's network."""
        return require_student(self, student, TeacherAndStudent).student

    def predictors(
        self, student: nn.Module, averaged: nn.Module
    ) -> dict[Literal["student", "teacher"], nn.Module]:
        """Both networks as they are; no average is used."""
        del averaged
        both = require_student(self, student, TeacherAndStudent)
        return {"student": both.student, "teacher": both.teacher}

    def build_predictor(
        self,
        build: NetworkBuilder,
        num_classes: Mapping[str, int],
        role: Literal["student", "teacher"],
    ) -> nn.Module:
        """A network of that side."""
        return build(num_classes) if role == "student" else build.build_teacher(num_classes)

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class; the total is that of both networks and both ensembles."""
        del teacher
        both = require_student(self, student, TeacherAndStudent)
        logits, ensembles = [], []
        for network, ensemble in (
            (both.student, both.student_ensemble),
            (both.teacher, both.teacher_ensemble),
        ):
            assert isinstance(network, StagedNetwork)
            *stages, features = network.stages(signals)
            logits.append(self.in_order(network.classify(features)))
            ensembles.append(self.in_order(ensemble(stages)))
        options = self.options
        rise = 1.0 if options.warmup == 0.0 else min(1.0, self.progress / options.warmup)
        mutual = rise * options.mutual_weight
        predicted = [
            self._side(own, other, targets, 1.0, mutual, options.divergence)
            for own, other in (logits, logits[::-1])
        ]
        inner = [
            self._side(
                own, other, targets, options.ensemble_weight, mutual, options.ensemble_divergence
            )
            for own, other in (ensembles, ensembles[::-1])
        ]
        own, of_teacher = predicted
        others = {
            "teacher_total": of_teacher.total,
            "ensemble_total": inner[0].total,
            "teacher_ensemble_total": inner[1].total,
        }
        total = own.total + of_teacher.total + inner[0].total + inner[1].total
        return LossParts(
            total,
            own.cross_entropy,
            own.distillation,
            own.num_correct,
            own.num_valid,
            {name: value.detach() for name, value in others.items()},
        )

    def _side(
        self,
        own: Mapping[str, Tensor],
        other: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        label_weight: float,
        mutual_weight: float,
        form: Literal["kl", "dkd", "mse"],
    ) -> MultitaskKDOutput | LossParts:
        """Cross-entropy, and what is learned from the other side, without gradient through it."""
        taught = {task: values.detach() for task, values in other.items()}
        weights = self.task_weights()
        if form == "kl" and label_weight > 0.0:
            return multitask_kd_loss(
                list(own.values()),
                list(taught.values()),
                [targets[task] for task in self.tasks],
                task_weights=tuple(label_weight * weights[task] for task in self.tasks),
                distill_weight=mutual_weight / label_weight,
                temperature=self.options.temperature,
                label_smoothing=self.options.label_smoothing,
            )
        found = task_losses(own, targets, self.options.label_smoothing)
        distances = [self._distance(own[t], taught[t], targets[t], form) for t in self.tasks]
        total = label_weight * self.weigh(found.losses) + mutual_weight * self.weigh(distances)
        return found.parts(total, distillation=distances)

    def _distance(
        self, own: Tensor, taught: Tensor, target: Tensor, form: Literal["kl", "dkd", "mse"]
    ) -> Tensor:
        temperature = self.options.temperature
        if form == "mse":
            return labelled_mean((own - taught).square().mean(1), target)
        if form == "dkd":
            return decoupled_divergence(
                own, taught, target, target_weight=1.0, others_weight=8.0, temperature=temperature
            )
        logs = [functional.log_softmax(logits / temperature, 1) for logits in (taught, own)]
        divergences = (logs[0].exp() * (logs[0] - logs[1])).sum(1)
        return temperature**2 * labelled_mean(divergences, target)
