"""A run from its folder's first file to its results: begun, or gone on with after an end."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch

from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.methods import METHODS, NetworkBuilder, build_method
from smoothdistill.models import build_model
from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.checkpoint import remove_leftovers
from smoothdistill.training.data_source import load_windows, make_split
from smoothdistill.training.environment import describe_environment
from smoothdistill.training.fold_trainer import FoldTrainer, steps_per_epoch
from smoothdistill.training.history import write_history
from smoothdistill.training.interrupt import StopRequest
from smoothdistill.training.progress import Progress
from smoothdistill.training.results import RunResults
from smoothdistill.training.run import Run
from smoothdistill.training.run_folder import (
    default_folder,
    describe_data,
    describe_splits,
    fold_folder,
    read_json,
    split_digest,
    write_json,
    write_results,
    write_text,
)
from smoothdistill.training.teacher_run import TeacherRun
from smoothdistill.training.turns import gains_by_turns, side_by_side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smoothdistill.methods import Method
    from smoothdistill.splits import Fold
    from smoothdistill.training.config import ModelConfig, RunConfig
    from smoothdistill.training.fold_state import FoldState
    from smoothdistill.training.turns import Turns
    from smoothdistill.windows import Windows

__all__ = ["Manner", "begin_run", "device_of", "resume_run", "windows_of_run"]


_DATA: WeakValueDictionary[tuple[str, torch.device], DeviceWindows] = WeakValueDictionary()


@dataclass(frozen=True)
class Manner:
    """How a run is executed, which does not change what it computes.

    Attributes:
        show: Whether to report on stderr; None: on a terminal.
        side_by_side: Whether the folds are trained by turns, on a GPU.
        title: What reports call it, where it is not what was asked for itself.
    """

    show: bool | None = None
    side_by_side: bool = False
    title: str = ""


def begin_run(
    config: RunConfig,
    windows: Windows,
    folder: Path | None,
    device: torch.device,
    manner: Manner,
    *,
    is_given: bool,
) -> Turns[Run]:
    """Make a run folder, and train into it.

    Args:
        config: What to train.
        windows: All windows.
        folder: The run folder; by default a new one in ``runs``.
        device: Where to train.
        manner: How to.
        is_given: Whether the windows were handed over, and cannot be loaded again by their name.
    """
    folds = make_split(config.split, windows)
    facts = _facts(config, windows)  # what cannot be built is found out before there is a folder
    folder = folder or default_folder(Path("runs"), f"{config.data.name}-{config.method.name}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "status.json", {"state": "running"})
    about = describe_data(windows, is_given=is_given)
    write_json(folder / "data.json", about)
    write_json(folder / "splits.json", describe_splits(windows, folds, config.split))
    # The last one: a folder with a configuration has the others too, and can be gone on with.
    write_text(folder / "config.toml", config.to_toml())
    return (yield from _execute(config, windows, folds, folder, device, about, facts, manner))


def resume_run(
    run: Run, data: Windows | None, manner: Manner, *, teacher: Path | None = None
) -> Turns[Run]:
    """What `Trainer.resume` does; see there.

    Args:
        run: The run, finished or not.
        data: Its windows; None: they are loaded.
        manner: How to train what is missing.
        teacher: Folder of the teacher's finished run, where the configuration names none.
    """
    config, folder = run.config, str(run.folder)
    about, splits = read_json(run.folder / "data.json"), read_json(run.folder / "splits.json")
    remove_leftovers(run.folder)
    if _is_finished(run):
        return run
    device = device_of(config.train.device)
    windows = windows_of_run(run, data)
    folds = make_split(config.split, windows)
    old_digests = [fold.get("digest") for fold in splits.get("folds", [])]
    if old_digests != [split_digest(fold) for fold in folds]:
        raise CheckpointError(
            "`splits.json` must describe the folds that the configuration gives, but "
            f"describes others in {folder!r} instead."
        )
    facts = _facts(config, windows)
    return (
        yield from _execute(
            config, windows, folds, run.folder, device, about, facts, manner, teacher
        )
    )


def windows_of_run(run: Run, given: Windows | None, name: str = "data") -> Windows:
    """The windows that a run was started with: those that are given, or loaded by their name.

    Args:
        run: The run.
        given: The same windows again; None: they are loaded.
        name: What a sentence calls them.

    Raises:
        ValueError: If they cannot be loaded by a name, and are not given.
        DataError: If they are others.
    """
    about = read_json(run.folder / "data.json")
    if given is None and about.get("source") == "given":
        raise ValueError(
            f"`{name}` must be the windows that the run was started with, since they were not "
            "loaded by a name, but is None instead."
        )
    windows = load_windows(run.config.data) if given is None else given
    fingerprint = windows.fingerprint()
    if fingerprint != about.get("fingerprint"):
        raise DataError(
            f"`{name}` must have the fingerprint {str(about.get('fingerprint'))[:16]} of the "
            f"run in {str(run.folder)!r}, but has {fingerprint[:16]} instead."
        )
    return windows


def _teacher_run(
    config: RunConfig,
    windows: Windows,
    folds: Sequence[Fold],
    folder: Path,
    about: Mapping[str, Any],
    manner: Manner,
    given: Path | None,
) -> Turns[TeacherRun | None]:
    """The finished run of the teacher, for methods with one that is trained before."""
    if config.teacher is None or METHODS[config.method.name].teacher_model != "trained":
        return None
    own = folder / "teacher"
    if config.teacher.run is not None or given is not None:
        run = Run(config.teacher.run or str(given))
    elif (own / "config.toml").is_file():
        run = Run(own)
        if run.config != config.of_teacher():
            raise CheckpointError(
                "`out` must hold no other run as its `teacher`, but "
                f"{str(own)!r} is of another configuration instead."
            )
        run = yield from resume_run(run, windows, replace(manner, title="teacher"))
    else:
        run = yield from begin_run(
            config.of_teacher(),
            windows,
            own,
            device_of(config.train.device),
            replace(manner, title="teacher"),
            is_given=about.get("source") == "given",
        )
    return TeacherRun(run, config.teacher.role, folds, str(about["fingerprint"]))


def _execute(
    config: RunConfig,
    windows: Windows,
    folds: Sequence[Fold],
    folder: Path,
    device: torch.device,
    about: Mapping[str, Any],
    facts: dict[str, Any],
    manner: Manner,
    teacher_folder: Path | None = None,
) -> Turns[Run]:
    """Run every fold that is not finished, after the teacher's, then write the results."""
    begun = time.perf_counter()
    write_json(folder / "environment.json", describe_environment(device))
    identity = {
        "config": hashlib.sha256(config.to_toml().encode()).hexdigest()[:16],
        "data": str(about["fingerprint"])[:16],
    }
    data = _on_device(windows, str(about["fingerprint"]), device)
    states: dict[int, FoldState] = {}
    epochs = config.train.epochs
    progress = Progress(
        num_steps=epochs * sum(steps_per_epoch(fold, config.train.batch_size) for fold in folds),
        num_folds=len(folds),
        num_epochs=epochs,
        show=sys.stderr.isatty() if manner.show is None else manner.show,
        title=manner.title,
    )

    num_rows_written: int | None = None

    def note(state: str, **more: Any) -> None:
        is_final = state != "running"
        write_json(folder / "status.json", {"state": state, **more}, survives_power_loss=is_final)

    def on_save(index: int, state: FoldState) -> None:
        nonlocal num_rows_written
        states[index] = state
        num_rows = sum(len(one.history.rows) for one in states.values())
        if num_rows != num_rows_written:
            _write_history(folder, config, windows, states)
            num_rows_written = num_rows
        note("running", fold=index, epoch=state.epoch, step=state.step)

    def train(place: int, fold: Fold) -> Turns[None]:
        path = fold_folder(folder, fold.index)
        path.mkdir(exist_ok=True)
        trainer = FoldTrainer(
            config,
            windows,
            data,
            fold,
            path,
            identity={
                **identity,
                "split": split_digest(fold)[:16],
                **({} if teacher is None else {"teacher": teacher.digest(fold.index)}),
            },
            stop=stop,
            progress=progress,
            place=place,
            on_save=partial(on_save, fold.index),
            teacher=teacher,
        )
        states[fold.index] = yield from trainer.run()

    try:
        teacher = yield from _teacher_run(
            config, windows, folds, folder, about, manner, teacher_folder
        )
        with StopRequest() as stop, progress:
            trainings = [train(place, fold) for place, fold in enumerate(folds, start=1)]
            if manner.side_by_side and gains_by_turns(device):
                yield from side_by_side(trainings, device)
            else:  # the first that fails ends the run
                for training in trainings:
                    yield from training
    except (KeyboardInterrupt, SystemExit):
        note("interrupted")
        raise
    except Exception as error:
        note("failed", error=str(error))
        raise
    _write_history(folder, config, windows, states)
    results = RunResults(windows, folds, [states[fold.index] for fold in folds], config.split.seed)
    seconds = sum(row[1] for state in states.values() for row in state.history.rows)
    write_results(folder, results, {**facts, "num_folds": len(folds), "seconds": seconds})
    note("finished", seconds=seconds, seconds_of_last_process=time.perf_counter() - begun)
    return Run(folder)


def _on_device(windows: Windows, fingerprint: str, device: torch.device) -> DeviceWindows:
    """The windows on the device, once for all runs that are under way there."""
    key = (fingerprint, device)
    data = _DATA.get(key)
    if data is None:
        data = _DATA[key] = DeviceWindows(windows, device)
    return data


def _is_finished(run: Run) -> bool:
    """Whether there is nothing left to do; a lost status only means to write the results anew."""
    try:
        return run.is_finished
    except CheckpointError:
        return False


def _write_history(
    folder: Path, config: RunConfig, windows: Windows, states: Mapping[int, FoldState]
) -> None:
    rows = {
        index: (state.history.rows, state.best.epochs.get(state.best.role))
        for index, state in states.items()
    }
    others = _method(config, windows).other_parts
    write_history(folder / "history.csv", windows.tasks, rows, others)


def _method(config: RunConfig, windows: Windows) -> Method:
    return build_method(config.method.name, tasks=windows.tasks, **config.method.options)


def _facts(config: RunConfig, windows: Windows) -> dict[str, Any]:
    """Entries of the summary that do not depend on the result.

    Raises:
        TypeError: If an option of the model or the method is of the wrong kind.
        ValueError: If one is out of range, or names a task that the data have not.
    """
    method = _method(config, windows)

    build = NetworkBuilder(
        partial(_network, config.model, windows),
        None if config.teacher is None else partial(_network, _teacher_model(config), windows),
    )
    with torch.random.fork_rng(devices=[]):
        if method.teacher_model == "trained":
            method.take_teacher(build.build_teacher(windows.num_classes))
        student = method.build_student(build, windows.num_classes)
    method.require_epochs(config.train.epochs)
    model = method.network(student)
    return {
        "data": windows.name,
        "method": config.method.name,
        "model": config.model.name,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "protocol": config.split.protocol,
        "num_windows": len(windows),
    }


def _teacher_model(config: RunConfig) -> ModelConfig:
    """The teacher's kind of network: that of the run that it is taken from, if there is one."""
    assert config.teacher is not None
    run = config.teacher.run
    return config.teacher.model if run is None else Run(run).config.model


def _network(
    model: ModelConfig, windows: Windows, num_classes: Mapping[str, int]
) -> torch.nn.Module:
    sizes = {"in_channels": windows.num_channels, "window_samples": windows.window_samples}
    return build_model(model.name, **{**model.options, "num_classes": num_classes, **sizes})


def device_of(name: str) -> torch.device:
    """The device that `train.device` names.

    Raises:
        ValueError: If there is no such GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`train.device` must be a device of this machine, which has "
            f"{torch.cuda.device_count()} GPUs that PyTorch can use, but is {name!r} instead; "
            "`smoothdistill doctor` says why."
        )
    return device
