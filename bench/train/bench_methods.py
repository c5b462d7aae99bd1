"""A step of methods with a teacher of another kind, against a plain loop that does the same.

    OMP_NUM_THREADS=1 python bench/train/bench_methods.py [--rounds 15]

The plain loop has PyTorch's own layers, losses of `torch.nn.functional` and fused Adam; ours also
keeps the moving average, the parts of the loss and the counts of right answers, and looks whether
the loss is finite. Both start from the same weights and must find the same first loss. "our layers"
is the plain loop over our networks as they are, with channels innermost. "logits known" is our step
in a run whose windows do not vary: the trainer has asked the teacher once before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.methods import NetworkBuilder, build_method
from smoothdistill.models import build_model, channels_last
from smoothdistill.training import TrainStep
from smoothdistill.workers import torch_threads

TASKS = {"activity": 12}
CHANNELS, SAMPLES, BATCH = 6, 128, 64
OURS, PLAIN, OUR_LAYERS = "ours", "plain loop", "plain loop, our layers"
KNOWN = "ours, logits known"


Loss = Callable[[nn.Module, nn.Module | None, Tensor, Mapping[str, Tensor]], Tensor]
Distance = Callable[[nn.Module, Sequence[Tensor], Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Case:
    """A method, its networks, and its loss in plain PyTorch."""

    method: str
    student: tuple[str, Mapping[str, object]]
    teacher: tuple[str, Mapping[str, object]]
    loss: Loss
    options: Mapping[str, object] | None = None


def divergence(taught: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """T ** 2 KL, mean over the batch."""
    return temperature**2 * functional.kl_div(
        functional.log_softmax(logits / temperature, 1),
        functional.softmax(taught / temperature, 1),
        reduction="batchmean",
    )


def kd(
    student: nn.Module, teacher: nn.Module | None, signals: Tensor, targets: Mapping[str, Tensor]
) -> Tensor:
    """Hinton's, weights 0.1 and 0.9, temperature 4."""
    assert teacher is not None
    with torch.no_grad():
        taught = teacher(signals)["activity"]
    logits = student(signals)["activity"]
    cross_entropy = functional.cross_entropy(logits, targets["activity"])
    return 0.1 * cross_entropy + 0.9 * divergence(taught, logits, 4.0)


def hmkd(
    student: nn.Module, teacher: nn.Module | None, signals: Tensor, targets: Mapping[str, Tensor]
) -> Tensor:
    """Both sides of `HMKD` with its defaults; `student` holds both networks."""
    del teacher
    predictions, ensembles = [], []
    for network, ensemble in (
        (student.student, student.student_ensemble),
        (student.teacher, student.teacher_ensemble),
    ):
        *stages, features = network.stages(signals)
        predictions.append(network.classify(features)["activity"])
        ensembles.append(ensemble(stages)["activity"])
    total = torch.zeros(())
    for own, other in (predictions, predictions[::-1], ensembles, ensembles[::-1]):
        cross_entropy = functional.cross_entropy(own, targets["activity"])
        total = total + cross_entropy + 0.1 * divergence(other.detach(), own, 1.0)
    return total


def smldist(
    student: nn.Module, teacher: nn.Module | None, signals: Tensor, targets: Mapping[str, Tensor]
) -> Tensor:
    """Logits distillation of `SMLDist` in its mended form, linear heads."""
    assert teacher is not None
    target = targets["activity"]
    with torch.no_grad():
        taught = teacher(signals)["activity"]
    logits = student.network(signals)["activity"]
    taught = torch.where((taught.argmax(1) == target)[:, None], taught, logits.detach())
    return functional.cross_entropy(logits, target) + divergence(taught, logits, 4.0)


def dkd(
    student: nn.Module, teacher: nn.Module | None, signals: Tensor, targets: Mapping[str, Tensor]
) -> Tensor:
    """Both halves, weights 1 and 8, temperature 4; a large number takes the true class out."""
    assert teacher is not None
    target = targets["activity"]
    with torch.no_grad():
        taught = teacher(signals)["activity"] / 4.0
    logits = student(signals)["activity"]
    true = functional.one_hot(target, logits.shape[1])

    def pair(scaled: Tensor) -> Tensor:
        share = (functional.softmax(scaled, 1) * true).sum(1)
        return torch.stack([share, 1.0 - share], 1)

    halves = (
        functional.kl_div(pair(logits / 4.0).log(), pair(taught), reduction="batchmean"),
        functional.kl_div(
            functional.log_softmax(logits / 4.0 - 1000.0 * true, 1),
            functional.softmax(taught - 1000.0 * true, 1),
            reduction="batchmean",
        ),
    )
    return functional.cross_entropy(logits, target) + 16.0 * (halves[0] + 8.0 * halves[1])


def stage_loss(weight: float, distance: Distance) -> Loss:
    """Cross-entropy and a distance between what both networks have inside."""

    def loss(
        student: nn.Module,
        teacher: nn.Module | None,
        signals: Tensor,
        targets: Mapping[str, Tensor],
    ) -> Tensor:
        assert teacher is not None
        own = student.network.stages(signals)
        with torch.no_grad():
            taught = teacher.stages(signals)
        logits = student.network.classify(own[-1])["activity"]
        far = distance(student, own, taught)
        return functional.cross_entropy(logits, targets["activity"]) + weight * far

    return loss


def hint(student: nn.Module, own: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """The squared error of FitNets."""
    ((mine, other),) = student.pairs
    return functional.mse_loss(*student.adaptors[0](own[mine], taught[other]))


def attention(student: nn.Module, own: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """The squared difference of where both are active, summed over the pairs of stages."""
    total = torch.zeros(())
    for mine, other in student.pairs:
        places = min(own[mine].shape[-1], taught[other].shape[-1])
        maps = []
        for stage in (own[mine], taught[other]):
            active = stage.pow(2).mean(1) if stage.ndim == 3 else stage.pow(2)
            maps.append(functional.normalize(functional.adaptive_avg_pool1d(active, places)))
        total = total + (maps[0] - maps[1]).pow(2).mean()
    return total


def relations(student: nn.Module, own: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """RKD's Huber losses of distances and angles, weights 25 and 50."""
    del student
    found = []
    for features in (own[-1], taught[-1]):
        differences = features[None] - features[:, None]
        lengths = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
        directions = functional.normalize(differences, dim=2)
        found.append((lengths / lengths[lengths > 0].mean(), directions @ directions.mT))
    (far, turned), (far_taught, turned_taught) = found
    return 25.0 * functional.smooth_l1_loss(far, far_taught) + 50.0 * functional.smooth_l1_loss(
        turned, turned_taught
    )


MLP = ("har-mlp", {"dropout": 0.0})
RESNET = ("resnet-lstman", {"width": 0.25})
CASES = {
    "kd, har-mlp from resnet-lstman": Case("kd", MLP, RESNET, kd),
    "dkd, the same": Case("dkd", MLP, RESNET, dkd),
    "fitnets, the same": Case("fitnets", MLP, RESNET, stage_loss(100.0, hint)),
    "attention-transfer, the same": Case(
        "attention-transfer", MLP, RESNET, stage_loss(1000.0, attention)
    ),
    "rkd, the same": Case("rkd", MLP, RESNET, stage_loss(1.0, relations)),
    "hmkd, har-mlp beside resnet-lstman": Case("hmkd", MLP, RESNET, hmkd),
    "smldist (logits), mobilenet-v3-1d": Case(
        "smldist",
        ("mobilenet-v3-1d", {"table": "student", "width": 0.2}),
        ("mobilenet-v3-1d", {"table": "teacher", "width": 0.25}),
        smldist,
        {"stage_share": 0.0},
    ),
}


def make_network(kind: tuple[str, Mapping[str, object]]) -> nn.Module:
    """A network with fresh weights."""
    name, options = kind
    sizes = {"in_channels": CHANNELS, "window_samples": SAMPLES}
    return build_model(name, num_classes=TASKS, **sizes, **options)


@contextmanager
def plain_layers() -> Iterator[None]:
    """Within it our networks call PyTorch's layers as they are."""
    before = channels_last._lies_so
    channels_last._lies_so = lambda maps: False
    try:
        yield
    finally:
        channels_last._lies_so = before


def make_calls(case: Case) -> dict[str, Callable[[], float]]:
    """One step each by provider, from the same weights; they return the loss."""
    torch.manual_seed(0)
    teacher = make_network(case.teacher)
    method = build_method(case.method, tasks=tuple(TASKS), **(case.options or {}))
    if method.teacher_model == "trained":
        method.take_teacher(deepcopy(teacher))
    builder = NetworkBuilder(lambda _: make_network(case.student), lambda _: deepcopy(teacher))
    student = method.build_student(builder, TASKS)
    signals = torch.randn(BATCH, CHANNELS, SAMPLES)
    targets = {task: torch.randint(classes, (BATCH,)) for task, classes in TASKS.items()}
    copies = [deepcopy(student) for _ in range(2)]
    step = TrainStep(student, method)

    def ours() -> float:
        return float(step(signals, targets).total)

    def loop(student: nn.Module) -> Callable[[], float]:
        optimizer = torch.optim.Adam(student.parameters(), fused=True)
        frozen = deepcopy(teacher).eval()

        def call() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = case.loss(student, frozen, signals, targets)
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return call

    plain, with_our_layers = (loop(copy.train()) for copy in copies)

    def plain_call() -> float:
        with plain_layers():
            return plain()

    calls = {OURS: ours, PLAIN: plain_call, OUR_LAYERS: with_our_layers}
    if method.learns_from_logits:
        own = build_method(case.method, tasks=tuple(TASKS), **(case.options or {}))
        own.take_teacher(deepcopy(teacher))
        second = TrainStep(deepcopy(student), own)
        with torch.no_grad():
            said = teacher.eval()(signals)
        calls[KNOWN] = lambda: float(second(signals, targets, taught=said).total)
    return calls


@pytest.mark.parametrize("name", CASES)
def test_step(benchmark, name: str) -> None:
    """One step of ours; all three must begin with the same loss."""
    with torch_threads(1):
        calls = make_calls(CASES[name])
        losses = {provider: call() for provider, call in calls.items()}
        for provider, loss in losses.items():
            assert loss == pytest.approx(losses[OURS], rel=1e-4), provider
        benchmark(calls[OURS])


def main() -> None:
    """Print milliseconds, and how many times as long as ours the others take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with torch_threads(1):
        for name, case in CASES.items():
            calls = make_calls(case)
            losses = {provider: call() for provider, call in calls.items()}
            assert all(loss == pytest.approx(losses[OURS], rel=1e-4) for loss in losses.values()), (
                losses
            )
            timings = time_in_turns(calls, num_rounds=rounds, round_seconds=0.1)
            print(f"{name}: ours {timings[OURS].median * 1e3:.1f} ms")
            for provider in list(calls)[1:]:
                ratio = compare(timings[OURS], timings[provider])
                print(
                    f"  {provider}: {timings[provider].median * 1e3:.1f} ms, "
                    f"{ratio.median:.2f} times ours ({ratio.low:.2f} to {ratio.high:.2f})"
                )


if __name__ == "__main__":
    main()
