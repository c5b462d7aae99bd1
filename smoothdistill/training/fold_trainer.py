"""One fold from its first step to its test, or from where an earlier process has left it."""

from __future__ import annotations

import time
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.errors import NonFiniteError
from smoothdistill.methods import build_method
from smoothdistill.training.augmentation import Augmentation
from smoothdistill.training.batches import Batch
from smoothdistill.training.checkpoint import save_checkpoint
from smoothdistill.training.fold_state import BestSoFar, FoldState
from smoothdistill.training.history import EpochMeter, Validation, mean_over_tasks
from smoothdistill.training.inference import predict_by_turns
from smoothdistill.training.metrics import accuracy, macro_f1
from smoothdistill.training.model_checkpoint import ModelCheckpoint, ModelDescription
from smoothdistill.training.seeding import (
    derive_seed,
    random_state,
    seeded_torch,
    set_random_state,
    shuffled,
)
from smoothdistill.training.standardization import Standardization
from smoothdistill.training.taught_logits import TaughtLogits
from smoothdistill.training.train_step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

    from smoothdistill.splits import Fold
    from smoothdistill.training.batches import DeviceWindows
    from smoothdistill.training.config import RunConfig
    from smoothdistill.training.interrupt import StopRequest
    from smoothdistill.training.progress import Progress
    from smoothdistill.training.roles import Role
    from smoothdistill.training.teacher_run import TeacherRun
    from smoothdistill.training.turns import Turns
    from smoothdistill.windows import Windows

__all__ = ["FoldTrainer", "steps_per_epoch"]

_LOG_EVERY_STEPS = 50  # the device is read, and the bar moved, this often
_MAX_SAVE_SHARE = 0.02  # of the time, for saves at ends of epochs; see `_save_if_due`


def steps_per_epoch(fold: Fold, batch_size: int) -> int:
    """Number of batches of one epoch; the last one may be smaller."""
    return -(-len(fold.train) // batch_size)


class FoldTrainer:
    """Trains, validates and tests one fold.

    Args:
        config: The run's configuration.
        windows: All windows.
        data: The same on the device.
        fold: Numbers of the windows to train, validate and test on.
        folder: Where `last.safetensors` and `best.safetensors` of the fold go; must exist.
        identity: What the run is; a saved state of another run is refused.
        stop: Asked after every step whether to save and leave.
        progress: Told of steps and epochs.
        place: How many folds have been begun, this one included.
        on_save: Called after each save of the state.
        teacher: Where the teacher comes from, for methods with one that was trained before.
    """

    def __init__(
        self,
        config: RunConfig,
        windows: Windows,
        data: DeviceWindows,
        fold: Fold,
        folder: Path,
        *,
        identity: dict[str, Any],
        stop: StopRequest,
        progress: Progress,
        place: int,
        on_save: Callable[[FoldState], None],
        teacher: TeacherRun | None = None,
    ) -> None:
        self._config, self._windows, self._data, self._fold = config, windows, data, fold
        self._folder, self._identity, self._stop = folder, identity, stop
        self._progress, self._place, self._on_save = progress, place, on_save
        self._last = folder / "last.safetensors"
        self._steps = steps_per_epoch(fold, config.train.batch_size)
        self._teacher = teacher
        self._seconds_of_saves = 0.0
        self._taught: TaughtLogits | None = None
        self._gathered: tuple[int, np.ndarray, Batch]  # number of its first batch, and windows

    def run(self) -> Turns[FoldState]:
        """Train up to the test; a fold that an earlier process has finished is only read.

        Raises:
            CheckpointError: If the saved state is damaged or of another run.
            NonFiniteError: If too many losses in a row were not finite; the batch is saved as
                `nonfinite.safetensors`.
            KeyboardInterrupt, SystemExit: After a signal, once the state is saved.
        """
        seed = derive_seed(self._config.train.seed, "torch", self._fold.index)
        with seeded_torch(seed, self._data.device):
            return (yield from self._run())

    def _run(self) -> Turns[FoldState]:
        state = FoldState()
        saved = FoldState.load(self._last, self._identity) if self._last.is_file() else None
        if saved is not None:
            state = saved[0]
            self._progress.skip(
                self._config.train.epochs * self._steps
                if state.is_finished
                else state.epoch * self._steps + state.step
            )
            if state.is_finished:
                return state
        step = self._build_step()
        if saved is None:
            state.best = BestSoFar(step.method.selectable)
        else:
            step.load_state_dict(saved[1])
            set_random_state(saved[2], self._data.device)
        self._started = time.perf_counter()
        while state.epoch < self._config.train.epochs:
            yield from self.train_epoch(step, state)
            yield from self._finish_epoch(step, state)
        yield from self._test(step, state)
        return state

    def _build_step(self) -> TrainStep:
        config, windows = self._config, self._windows
        method = build_method(config.method.name, tasks=windows.tasks, **config.method.options)
        description = ModelDescription.of(config, windows, self._fold, BestSoFar())
        if self._teacher is not None:
            device, standardization = self._data.device, self._standardization
            teacher = self._teacher.network(self._fold.index, standardization, device)
            method.take_teacher(teacher)
            if method.learns_from_logits and self._augmentation is None:
                self._taught = TaughtLogits(
                    teacher,
                    self._data,
                    self._fold.train,
                    standardization,
                    precision=config.train.precision,
                )
        student = method.build_student(description.builder, windows.num_classes)
        return TrainStep(
            student.to(self._data.device),
            method,
            lr=config.train.lr,
            weight_decay=config.train.weight_decay,
            decoupled=config.train.decoupled,
            precision=config.train.precision,
            max_consecutive_skips=config.train.max_consecutive_skips,
            check_gradients=config.train.check_gradients,
            check_every_steps=_LOG_EVERY_STEPS,
            path=config.train.path,
            num_epochs=config.train.epochs,
            steps_per_epoch=self._steps,
        )

    @cached_property
    def _standardization(self) -> Standardization:
        if not self._config.train.standardize:
            return Standardization.identity(self._windows.num_channels).to(self._data.device)
        return Standardization.fit(self._windows, self._fold.train).to(self._data.device)

    def train_epoch(self, step: TrainStep, state: FoldState) -> Turns[None]:
        """Train for an epoch, from where `state` stands in it, without validation."""
        config = self._config.train
        if step.begin_epoch(state.epoch, config.epochs, is_resumed=state.step > 0):
            state.best = BestSoFar(step.method.selectable)
        begun = time.perf_counter() - state.seconds
        meter = self._meter(step, state)
        if self._taught is not None and not self._taught.compute(self._stop.requested):
            self._save_and_leave(step, state)
        num_unreported = 0
        for _ in self._steps_of_epoch(step, state):
            num_unreported += 1
            is_due = config.save_every_steps and step.num_steps % config.save_every_steps == 0
            is_last = state.step == self._steps
            if num_unreported == _LOG_EVERY_STEPS or is_last or is_due or self._stop.requested():
                yield  # others may work while the device does what it was given
                meter.add(step.log.read())
                self._check_finite(step, state)
                self._progress.advance(self._place, state.epoch, num_unreported, meter.last_total)
                num_unreported = 0
                state.sums, state.seconds = meter.sums, time.perf_counter() - begun
                if self._stop.requested():
                    self._save_and_leave(step, state)
                # A save at the end of the epoch would be followed at once by that of its result.
                if is_due and not is_last:
                    self._save(step, state)
        state.sums, state.seconds = meter.sums, time.perf_counter() - begun

    def _steps_of_epoch(self, step: TrainStep, state: FoldState) -> Iterator[None]:
        """Train by the batches of an epoch, one for each item that is taken."""
        config = self._config.train
        order = shuffled(self._fold.train, config.seed, self._fold.index, state.epoch)
        gatherings = self._data.gatherings(
            order,
            config.batch_size,
            self._standardization,
            first=state.step,
            vary=self._variation(state.epoch),
        )
        for signals, targets in gatherings:
            first = state.step * config.batch_size
            numbers = order[first : first + len(signals)]
            taught = None if self._taught is None else self._taught.of_batch(numbers)
            windows = Batch(signals, targets, taught)
            self._gathered = state.step, numbers, windows
            try:
                for _ in step.over(windows, config.batch_size):
                    state.step += 1
                    yield
            except NonFiniteError as error:
                raise self._keep_batch(error, state, state.step) from error
            except torch.OutOfMemoryError as error:
                raise MemoryError(
                    "`train.batch_size` must fit the memory of the GPU, but a step of "
                    f"{config.batch_size} windows does not instead; lower it, or end what else "
                    f"uses the GPU ({str(error).splitlines()[0]})"
                ) from error

    def _check_finite(self, step: TrainStep, state: FoldState) -> None:
        try:
            step.check_finite()
        except NonFiniteError as error:
            raise self._keep_batch(error, state, state.step - 1) from error

    def _variation(self, epoch: int) -> Callable[[Tensor, int], Tensor] | None:
        """What varies the windows of an epoch."""
        augmentation = self._augmentation
        if augmentation is None:
            return None
        return lambda signals, place: augmentation.apply_(signals, epoch, place)

    @cached_property
    def _augmentation(self) -> Augmentation | None:
        config, fold = self._config, self._fold
        if not config.augment.is_on:
            return None
        fitted = Standardization.fit(self._windows, fold.train).to(self._data.device)
        return Augmentation(
            config.augment, fitted.deviation, seed=config.train.seed, fold=fold.index
        )

    def _meter(self, step: TrainStep, state: FoldState) -> EpochMeter:
        return EpochMeter(len(self._windows.tasks), step.method.other_parts, state.sums)

    def _finish_epoch(self, step: TrainStep, state: FoldState) -> Turns[None]:
        """Validate, note the epoch in the history, keep the best weights, and save."""
        begun = time.perf_counter()
        validation: dict[Role, Validation] = {}
        for one, model in _models(step).items():
            scores = yield from self._validate(model)
            if scores is None:
                self._save_and_leave(step, state)
            else:
                validation[one] = scores
        means = {one: mean_over_tasks(scores.macro_f1) for one, scores in validation.items()}
        first_of_teacher = step.method.first_teacher_epoch(self._config.train.epochs)
        for one, model in _models(step).items():
            if one == "teacher" and state.epoch < first_of_teacher:
                continue
            state.best.offer(one, state.epoch, means[one], model.state_dict())
        train_means = self._meter(step, state).means()
        seconds = state.seconds + time.perf_counter() - begun
        state.history.add(seconds, train_means, validation)
        self._progress.epoch_done(
            self._place,
            state.epoch,
            seconds=seconds,
            loss=train_means[0],
            student=means["student"],
            teacher=means["teacher"],
        )
        state.epoch, state.step, state.sums, state.seconds = state.epoch + 1, 0, None, 0.0
        self._save_if_due(step, state)
        if self._stop.requested():
            self._save_and_leave(step, state)

    def _validate(self, model: nn.Module) -> Turns[Validation | None]:
        """Scores by task; None where a signal has come in between."""
        chosen = self._fold.validation
        predicted = yield from predict_by_turns(
            model, self._data, chosen, self._standardization, should_stop=self._stop.requested
        )
        if predicted is None:
            return None
        pairs = {
            task: (labels[chosen], predicted[task].predictions)
            for task, labels in self._windows.targets.items()
        }
        return Validation(
            {task: macro_f1(*pair) for task, pair in pairs.items()},
            {task: accuracy(*pair) for task, pair in pairs.items()},
        )

    def _test(self, step: TrainStep, state: FoldState) -> Turns[None]:
        """Predict the test windows with the best weights, and write them to their own file."""
        best = state.best
        ModelCheckpoint(
            ModelDescription.of(self._config, self._windows, self._fold, best),
            best.weights,
            self._standardization.to(torch.device("cpu")),
            self._config.to_table(),
        ).save(self._folder / "best.safetensors")
        state.test = {}
        for role, trained in _models(step).items():
            if role not in best.weights:
                continue
            model = deepcopy(trained)
            model.load_state_dict(best.weights[role])
            predicted = yield from predict_by_turns(
                model, self._data, self._fold.test, self._standardization
            )
            assert predicted is not None
            state.test[role] = predicted
        state.num_skipped = step.num_skipped
        best.weights = {}  # they are in best.safetensors now
        self._save(step, state)

    def _save(self, step: TrainStep, state: FoldState) -> None:
        begun = time.perf_counter()
        state.save(self._last, step.state_dict(), random_state(self._data.device), self._identity)
        self._on_save(state)
        self._seconds_of_saves += time.perf_counter() - begun

    def _save_if_due(self, step: TrainStep, state: FoldState) -> None:
        """Save at the end of an epoch, unless saving has taken too much of the time already.

        A save of MTL-net writes 43 MB, which may take longer than an epoch of a small data set.
        So ends of epochs are passed over until saves make up less than 2 % of the time; what a
        crash can cost is then 50 times the duration of a save. A signal is always answered by a
        save, and where `save_every_steps` is given every epoch's end is saved too.
        """
        elapsed = time.perf_counter() - self._started
        is_asked_for = self._config.train.save_every_steps > 0
        if is_asked_for or self._seconds_of_saves <= _MAX_SAVE_SHARE * elapsed:
            self._save(step, state)

    def _save_and_leave(self, step: TrainStep, state: FoldState) -> None:
        self._save(step, state)
        self._stop.leave(
            f"The run was saved in fold {self._fold.index}, epoch {state.epoch}, step {state.step}."
        )

    def _keep_batch(self, error: NonFiniteError, state: FoldState, number: int) -> NonFiniteError:
        """Write a batch of the newest gathering beside the checkpoints, and say so."""
        path = self._folder / "nonfinite.safetensors"
        size = self._config.train.batch_size
        first, numbers, windows = self._gathered
        begin, end = ((number - first + one) * size for one in (0, 1))
        batch = windows.part(begin, end)
        tensors = {f"targets.{task}": labels for task, labels in batch.targets.items()}
        tensors |= {"signals": batch.signals, "windows": torch.from_numpy(numbers[begin:end])}
        place = {"fold": self._fold.index, "epoch": state.epoch, "step": number}
        save_checkpoint(path, tensors, {"kind": "batch", **place})
        return NonFiniteError(f"{error} The newest batch was saved as {str(path)!r}.")


def _models(step: TrainStep) -> dict[Role, nn.Module]:
    return step.method.predictors(step.model, step.teacher.model)
