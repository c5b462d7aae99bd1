"""`Trainer`: from windows to a run folder, fold by fold; stopped at any time, it can go on."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from smoothdistill.errors import CheckpointError, DataError
from smoothdistill.methods import build_method
from smoothdistill.models import build_model
from smoothdistill.training.batches import DeviceWindows
from smoothdistill.training.checkpoint import remove_leftovers
from smoothdistill.training.config import RunConfig
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
    require_free,
    split_digest,
    write_json,
    write_results,
    write_text,
)
from smoothdistill.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smoothdistill.methods import Method
    from smoothdistill.splits import Fold
    from smoothdistill.training.fold_state import FoldState

__all__ = ["Trainer"]


class Trainer:
    """Trains a method fold by fold and writes a run folder.

    Each fold's model starts from its own seed, is trained on the training windows, and is
    scored on the validation windows after each epoch, student and averaged teacher alike. Of
    each role the epoch with the highest macro-F1 (averaged over tasks) is kept as a copy and
    tested; the role that did better in validation is the one to use. On a CPU equal seeds give
    bit-equal results, also through interruptions. The caller's random generators are left as
    they were.

    Args:
        method: A name in `methods.METHODS`.
        model: A name in `models.MODELS`.
        epochs: Passes over the training windows of each fold, at least 1.
        batch_size: Windows per step, at least 1.
        lr: Learning rate of Adam, at least 0.
        seed: Seed of weights and order, in [0, 2**63). The split has its own.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".
        out: The run folder, which must not hold a run; by default a new one in ``runs``.
        method_options: Options of the method.
        model_options: Options of the model.
        progress: Whether to report on stderr; by default only on a terminal.
        **train_options: Further keys of `config.TrainConfig`, such as `standardize`.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        method: str = "smooth-distill",
        model: str = "mtl-net",
        *,
        epochs: int = 50,
        batch_size: int = 64,
        lr: float = 1e-3,
        seed: int = 0,
        device: str = "auto",
        out: str | Path | None = None,
        method_options: Mapping[str, Any] | None = None,
        model_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
        **train_options: Any,
    ) -> None:
        table = {
            "model": {"name": model, **(model_options or {})},
            "method": {"name": method, **(method_options or {})},
            "train": {
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
                "seed": seed,
                "device": device,
                **train_options,
            },
        }
        self.config = RunConfig.from_table(table)
        self.out = None if out is None else Path(out)
        self.progress = progress

    @classmethod
    def from_config(
        cls, config: RunConfig, *, out: str | Path | None = None, progress: bool | None = None
    ) -> Trainer:
        """A trainer for a configuration; `fit` without arguments then loads its data."""
        trainer = cls(out=out, progress=progress)
        trainer.config = config
        return trainer

    def fit(
        self, data: Windows | str | None = None, split: str | None = None, **split_options: Any
    ) -> Run:
        """Train every fold, test it, and write the run folder.

        Args:
            data: Windows, or the name of a data set; by default what the configuration names.
            split: "subject", "leave-one-subject-out" or "published" (which leaks).
            **split_options: Further keys of `config.SplitConfig`: `num_folds`,
                `validation_fraction`, `seed`, `folds`.

        Returns:
            The finished run.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range, or `out` holds a run already.
            DataError: If the data cannot be loaded or divided.
            NonFiniteError: If too many losses in a row were not finite.
            KeyboardInterrupt: After Ctrl-C, once the state is saved.
            SystemExit: After SIGTERM, once the state is saved; the code is 143.
        """
        if self.out is not None:
            require_free(self.out)
        table = self.config.to_table()
        if isinstance(data, Windows):
            table["data"] = {"name": data.name, "window_samples": data.window_samples}
        elif isinstance(data, str):
            configured = table["data"] if data == table["data"]["name"] else {}
            table["data"] = {**configured, "name": data}
        elif data is not None:
            raise TypeError(
                "`data` must be Windows or the name of a data set, "
                f"but is a {type(data).__name__} instead."
            )
        table["split"] |= {"protocol": split} if split is not None else {}
        table["split"] |= split_options
        config = RunConfig.from_table(table)
        device = _device(config.train.device)
        windows = data if isinstance(data, Windows) else load_windows(config.data)
        folds = make_split(config.split, windows)
        facts = _facts(
            config, windows
        )  # what cannot be built is found out before there is a folder

        folder = self.out or default_folder(
            Path("runs"), f"{config.data.name}-{config.method.name}"
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "status.json", {"state": "running"})
        write_text(folder / "config.toml", config.to_toml())
        about = describe_data(windows, is_given=isinstance(data, Windows))
        write_json(folder / "data.json", about)
        write_json(folder / "splits.json", describe_splits(windows, folds, config.split))
        return _execute(
            config, windows, folds, folder, device, about["fingerprint"], facts, self.progress
        )

    @staticmethod
    def resume(
        folder: str | Path, *, data: Windows | None = None, progress: bool | None = None
    ) -> Run:
        """Go on with a run that was interrupted; the result is what it would have been.

        Finished folds are kept, and the one under way goes on from its last save. A finished
        run is returned as it is.

        Args:
            folder: The run folder.
            data: The same windows again, where the run was started with windows rather than
                with a configuration that names a data set.
            progress: Whether to report on stderr; by default only on a terminal.

        Returns:
            The finished run.

        Raises:
            FileNotFoundError: If there is no such folder.
            CheckpointError: If a file of the run is missing or damaged.
            ValueError: If `data` is needed, but is not given.
            DataError: If the data are not those that the run was started with.
            NonFiniteError: If too many losses in a row were not finite.
            KeyboardInterrupt, SystemExit: After a signal, as with `fit`.
        """
        run = Run(folder)
        config, about, splits = (
            run.config,
            read_json(run.folder / "data.json"),
            read_json(run.folder / "splits.json"),
        )
        remove_leftovers(run.folder)
        if _is_finished(run):
            return run
        device = _device(config.train.device)
        if data is None and about.get("source") == "given":
            raise ValueError(
                "`data` must be the windows that the run was started with, since they were not "
                "loaded by a name, but is None instead."
            )
        windows = load_windows(config.data) if data is None else data
        fingerprint = windows.fingerprint()
        if fingerprint != about.get("fingerprint"):
            raise DataError(
                f"`data` must have the fingerprint {str(about.get('fingerprint'))[:16]} of the "
                f"run in {str(folder)!r}, but has {fingerprint[:16]} instead."
            )
        folds = make_split(config.split, windows)
        old_digests = [fold.get("digest") for fold in splits.get("folds", [])]
        if old_digests != [split_digest(fold) for fold in folds]:
            raise CheckpointError(
                "`splits.json` must describe the folds that the configuration gives, but "
                f"describes others in {str(folder)!r} instead."
            )
        return _execute(
            config,
            windows,
            folds,
            run.folder,
            device,
            fingerprint,
            _facts(config, windows),
            progress,
        )


def _execute(
    config: RunConfig,
    windows: Windows,
    folds: Sequence[Fold],
    folder: Path,
    device: torch.device,
    fingerprint: str,
    facts: dict[str, Any],
    show: bool | None,
) -> Run:
    """Run every fold that is not finished, then write the results."""
    begun = time.perf_counter()
    write_json(folder / "environment.json", describe_environment(device))
    identity = {
        "config": hashlib.sha256(config.to_toml().encode()).hexdigest()[:16],
        "data": fingerprint[:16],
    }
    data = DeviceWindows(windows, device)
    states: dict[int, FoldState] = {}
    epochs = config.train.epochs
    progress = Progress(
        num_steps=epochs * sum(steps_per_epoch(fold, config.train.batch_size) for fold in folds),
        num_folds=len(folds),
        num_epochs=epochs,
        show=sys.stderr.isatty() if show is None else show,
    )

    num_rows_written: int | None = None

    def note(state: str, **more: Any) -> None:
        is_final = state != "running"
        write_json(folder / "status.json", {"state": state, **more}, survives_power_loss=is_final)

    try:
        with StopRequest() as stop, progress:
            for place, fold in enumerate(folds, start=1):

                def on_save(state: FoldState, index: int = fold.index) -> None:
                    nonlocal num_rows_written
                    states[index] = state
                    num_rows = sum(len(one.history.rows) for one in states.values())
                    if num_rows != num_rows_written:
                        _write_history(folder, config, windows, states)
                        num_rows_written = num_rows
                    note("running", fold=index, epoch=state.epoch, step=state.step)

                path = fold_folder(folder, fold.index)
                path.mkdir(exist_ok=True)
                states[fold.index] = FoldTrainer(
                    config,
                    windows,
                    data,
                    fold,
                    path,
                    identity={**identity, "split": split_digest(fold)[:16]},
                    stop=stop,
                    progress=progress,
                    place=place,
                    on_save=on_save,
                ).run()
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

    def build(num_classes: Mapping[str, int]) -> torch.nn.Module:
        return build_model(
            config.model.name,
            num_classes=num_classes,
            in_channels=windows.num_channels,
            window_samples=windows.window_samples,
            **config.model.options,
        )

    with torch.random.fork_rng(devices=[]):
        student = method.build_student(build, windows.num_classes)
    model = method.network(student)
    return {
        "data": windows.name,
        "method": config.method.name,
        "model": config.model.name,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "protocol": config.split.protocol,
        "num_windows": len(windows),
    }


def _device(name: str) -> torch.device:
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
            f"{torch.cuda.device_count()} GPUs that PyTorch can use, but is {name!r} instead."
        )
    return device
