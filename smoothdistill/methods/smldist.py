"""SMLDist: a student learns its teacher's stages one after the other, then its head and logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from smoothdistill.methods.base import require_student
from smoothdistill.methods.loss_parts import LossParts, labelled_mean, task_losses, with_others
from smoothdistill.methods.multitask import MultitaskOptions
from smoothdistill.methods.options import LossOptions
from smoothdistill.methods.registry import register_method
from smoothdistill.methods.stage_transfer import StageTransfer, StudentWithAdaptors
from smoothdistill.methods.stages import Adaptor, StagedNetwork, staged_network
from smoothdistill.models import SIMHHead
from smoothdistill.ops import multitask_kd_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smoothdistill.methods.networks import NetworkBuilder

__all__ = ["SMLDist", "SMLDistOptions", "published_logits_loss"]


class SMLDistOptions(MultitaskOptions):
    """Options of `SMLDist`."""

    stage_share: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Share of the epochs for the stages, in equal parts for each anchor and at least one for
    each, in [0, 1); 0 leaves them out."""

    stage_lr_factor: float = Field(default=0.1, gt=0.0)
    """Learning rate of the stages, as a factor of `train.lr`, above 0."""

    anchors: Literal["all", "published"] = "all"
    """Which anchors are learned; as published all but the last."""

    frequency: bool = False
    """Whether maps are compared by the magnitudes of their spectra instead of by their samples."""

    adaptors: bool = True
    """Whether anchors of different shapes may be compared through a layer that is learned."""

    memory: bool | None = None
    """Whether the student's SIMH heads begin as the teacher's; by default where both have such."""

    freeze_memory: bool = False
    """Whether heads that began as the teacher's stay so."""

    logits: Literal["mended", "published"] = "mended"
    """Form of the logits distillation; see `SMLDist`."""

    distill_weight: float = Field(default=1.0, ge=0.0)
    """Weight of what is learned from the teacher's logits, at least 0 (rho)."""

    temperature: float = Field(default=4.0, gt=0.0)
    """Temperature of the mended form, above 0; the published form has none."""

    hardness: float = Field(default=1.0, gt=0.0)
    """As published: what stands for the true class where the teacher is wrong, above 0 (h)."""


@register_method
class SMLDist(StageTransfer):
    """Stage by stage, then the memory head, then logits by a rule that corrects the teacher.

    Stages: for each anchor in turn the mean squared error of the student's map from the teacher's;
    nothing behind the anchor is trained. Memory: the student's heads take over the teacher's
    weights. Logits, with the teacher's z' and the student's z::

        mended:     CE(y, softmax(z)) + distill_weight * T ** 2 * KL(softmax(z' / T)
                                                                     || softmax(z / T))
                    of the mixture and of the memory branch of SIMH heads, both; without the
                    divergence where z' is wrong
        published:  s = softmax(softmax(m / |m|)),  t = softmax(softmax(z' / |z'|), or h onehot(y))
                    CE(y, s) + distill_weight * CE(t, s)        m: the mixture, as probabilities

    Both are a rule that is conditional on the teacher: as published certainty of the true class
    takes the place of what is wrong, but a softmax of a softmax leaves the loss little room, and
    the mixture is trained where the memory branch is used. With a temperature certainty would ask
    for logits T times as far apart as labels do, so in the mended form the label speaks alone.

    Source:
        SMLDist (arXiv 2107.07331), released code; "all" anchors, adaptors, `frequency` and the
        mended form are ours. There each stage has as many epochs as the logits; here all of it
        shares the epochs of the run.
    """

    name: ClassVar[str] = "smldist"
    changes_by_epoch: ClassVar[bool] = True
    Options: ClassVar[type[LossOptions]] = SMLDistOptions
    options: SMLDistOptions
    _num_anchors = 0

    @property
    def transfer_weight(self) -> float:
        """1: stages are learned alone."""
        return 1.0

    @property
    def lr_factor(self) -> float:
        """`stage_lr_factor` while stages are learned."""
        return 1.0 if self.anchor is None else self.options.stage_lr_factor

    @property
    def anchor(self) -> int | None:
        """Number, from 0, of the anchor that is learned now; None once they all are."""
        if self.num_epochs is None or self.epoch >= self._num_stage_epochs(self.num_epochs):
            return None
        return self.epoch * self._num_anchors // self._num_stage_epochs(self.num_epochs)

    def _num_stage_epochs(self, num_epochs: int) -> int:
        share = self.options.stage_share
        has_stages = share > 0.0 and self._num_anchors > 0
        return max(self._num_anchors, round(share * num_epochs)) if has_stages else 0

    def choose(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """All anchors, or all but the last."""
        chosen = pairs if self.options.anchors == "all" else pairs[:-1]
        self._num_anchors = len(chosen)
        return chosen

    def adaptors(
        self, shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    ) -> Sequence[nn.Module]:
        """An identity where the shapes agree."""
        for number, (own, theirs) in enumerate(shapes):
            if own != theirs and not self.options.adaptors:
                raise ValueError(
                    f"`method.adaptors` must be true where anchors differ, but is false, and "
                    f"anchor {number} is {list(own)} here and {list(theirs)} in the teacher "
                    "instead."
                )
        return [_Same() if own == theirs else Adaptor(own, theirs) for own, theirs in shapes]

    def build_student(
        self, build: NetworkBuilder, num_classes: Mapping[str, int]
    ) -> StudentWithAdaptors:
        """The network, and adaptors where anchors differ.

        Raises:
            TypeError: If `memory` is asked for, and a head is no `SIMHHead`.
            ValueError: If anchors differ, and no adaptor is allowed, or the teacher's heads do not
                fit.
        """
        student = super().build_student(build, num_classes)
        if self._begins_as_teacher(student.network):
            for network, name in ((student.network, "model"), (self.teacher, "teacher.model")):
                if not _has_memory(network):
                    raise TypeError(
                        f"`{name}` must have SIMH heads (`head` 'simh' or 'simh-associative') "
                        f"where `method.memory` is true, but is a {type(network).__name__} with "
                        "other heads instead."
                    )
            self._hand_over(student.network, is_trial=True)
        return student

    def require_epochs(self, num_epochs: int) -> None:
        """At least one for each anchor, and one more for the logits."""
        num_stage_epochs = self._num_stage_epochs(num_epochs)
        if num_stage_epochs >= num_epochs:
            raise ValueError(
                f"`train.epochs` must be above {num_stage_epochs}, those for the stages of the "
                f"method smldist, but is {num_epochs} instead."
            )

    def begin_epoch(self, student: nn.Module, epoch: int, num_epochs: int) -> bool:
        """Hand the heads over where the stages end; from there on the student can be chosen.

        Raises:
            ValueError: If no epoch is left for the logits.
        """
        student = require_student(self, student, StudentWithAdaptors)
        self.require_epochs(num_epochs)
        if epoch != self._num_stage_epochs(num_epochs):
            return False
        if self._begins_as_teacher(student.network):
            self._hand_over(student.network)
        return True

    def _begins_as_teacher(self, network: nn.Module) -> bool:
        """Whether the heads of the student's network do."""
        if self.options.memory is None:
            return _has_memory(network) and _has_memory(self.teacher)
        return self.options.memory

    @torch.no_grad()
    def _hand_over(self, network: nn.Module, *, is_trial: bool = False) -> None:
        theirs = dict(zip(getattr(self.teacher, "tasks", ()), _heads(self.teacher), strict=True))
        for task, head in zip(self.tasks, _heads(network), strict=True):
            if task not in theirs:
                continue
            given, own = theirs[task].state_dict(), head.state_dict()
            shapes = {name: value.shape for name, value in given.items()}
            if shapes != {name: value.shape for name, value in own.items()}:
                raise ValueError(
                    "`model` must have heads of the teacher's width and kind where "
                    f"`method.memory` is true, but the head of {task!r} differs instead."
                )
            if not is_trial:
                head.load_state_dict(given)

    def transfer(
        self, student: StudentWithAdaptors, own: Sequence[Tensor], taught: Sequence[Tensor]
    ) -> Tensor:
        """Mean squared error at the anchor that is learned now."""
        assert self.anchor is not None
        mine, other = student.pairs[self.anchor]
        pair = student.adaptors[self.anchor](own[mine], taught[other])
        if self.options.frequency and pair[0].ndim == 3:
            pair = tuple(torch.fft.rfft(one.float(), norm="ortho").abs() for one in pair)
        return functional.mse_loss(*pair)

    def batch_loss(
        self,
        student: nn.Module,
        teacher: nn.Module,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> LossParts:
        """See the class; the distance at an anchor is shown as ``transfer``."""
        del teacher
        student = require_student(self, student, StudentWithAdaptors)
        network = staged_network(student.network, "model", self.name)
        own, taught = network.stages(signals), self.teacher_stages(signals)
        if self.anchor is not None:
            distance = self.transfer(student, own, taught)
            with torch.no_grad():
                out = self.loss(self.in_order(network.classify(own[-1])), None, targets)
            return with_others(out, distance, transfer=distance)
        if self.options.freeze_memory and self._begins_as_teacher(student.network):
            for head in _heads(student.network):  # here, since what is resumed is not handed over
                head.requires_grad_(False)
        with torch.no_grad():
            said = staged_network(self.teacher, "teacher.model", self.name).classify(taught[-1])
        logits = self.in_order(network.classify(own[-1]))
        nothing = torch.zeros((), device=signals.device)
        if self.options.logits == "published":
            return self._published(network, logits, said, targets, nothing)
        branches = [logits]
        if _has_memory(student.network):
            heads = zip(getattr(network, "tasks", self.tasks), _heads(student.network), strict=True)
            remembered = {task: head.memory_logits(own[-1]) for task, head in heads}
            branches.append(self.in_order(remembered))
        weights = self.task_weights()
        outs = [
            multitask_kd_loss(
                list(branch.values()),
                list(self._where_right(branch, said, targets).values()),
                [targets[task] for task in self.tasks],
                task_weights=tuple(weights[task] for task in self.tasks),
                distill_weight=self.options.distill_weight,
                temperature=self.options.temperature,
                label_smoothing=self.options.label_smoothing,
            )
            for branch in branches
        ]
        total = torch.stack([out.total for out in outs]).sum()
        return with_others(outs[-1], total, transfer=nothing)

    def _where_right(
        self,
        student: Mapping[str, Tensor],
        said: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """The teacher's logits; the student's own, of which nothing is learned, where it errs."""
        taught = self.taught(student, said)
        return {
            task: torch.where(
                (taught[task].argmax(1) == targets[task])[:, None], taught[task], own.detach()
            )
            for task, own in student.items()
        }

    def _published(
        self,
        network: StagedNetwork,
        logits: Mapping[str, Tensor],
        taught: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        nothing: Tensor,
    ) -> LossParts:
        assert isinstance(network, nn.Module)
        found = task_losses(logits, targets)
        parts = []
        for task in self.tasks:
            said = torch.softmax(logits[task], 1) if _has_memory(network) else logits[task]
            of_labels, of_teacher = published_logits_loss(
                said,
                taught.get(task, said.detach()),
                targets[task],
                hardness=self.options.hardness,
            )
            parts.append((of_labels, of_teacher if task in taught else 0.0 * of_teacher))
        labels, distances = [one for one, _ in parts], [one for _, one in parts]
        total = self.weigh(labels) + self.options.distill_weight * self.weigh(distances)
        out = found.parts(total, distillation=distances)
        return with_others(out, total, transfer=nothing)


def _heads(network: nn.Module) -> list[Any]:
    return list(getattr(network, "heads", []))


def _has_memory(network: nn.Module) -> bool:
    heads = _heads(network)
    return bool(heads) and all(isinstance(head, SIMHHead) for head in heads)


def published_logits_loss(
    student: Tensor, teacher: Tensor, target: Tensor, *, hardness: float
) -> tuple[Tensor, Tensor]:
    """Both terms of the published logits distillation, means over the labelled windows.

    Args:
        student: What the student gives in training [batch, classes].
        teacher: Logits of the teacher [batch, classes].
        target: Class numbers [batch]; `IGNORE_INDEX` where there is no label.
        hardness: What stands for the true class where the teacher is wrong.
    """
    true = functional.one_hot(target.clamp(min=0), student.shape[1]).to(student.dtype)
    soft = torch.softmax(functional.normalize(teacher, dim=1), 1)
    is_wrong = soft.argmax(1) != target
    soft = torch.where(is_wrong[:, None], hardness * true, soft)
    log = torch.log_softmax(torch.softmax(functional.normalize(student, dim=1), 1), 1)
    labels = labelled_mean(-(true * log).sum(1), target)
    return labels, labelled_mean(-(torch.softmax(soft, 1) * log).sum(1), target)


class _Same(nn.Module):
    """Stages of equal shapes, as they are."""

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return student, teacher
