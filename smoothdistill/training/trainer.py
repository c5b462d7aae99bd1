"""`Trainer`: from windows to a run folder, fold by fold; stopped at any time, it can go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothdistill.training.config import RunConfig
from smoothdistill.training.data_source import load_windows
from smoothdistill.training.run import Run
from smoothdistill.training.run_execution import Manner, begin_run, device_of, resume_run
from smoothdistill.training.run_folder import require_free
from smoothdistill.training.turns import in_one_go
from smoothdistill.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        teacher: Keys of `config.TeacherConfig`, such as ``{"model": {"name": "mtl-net"}}``, for
            methods that learn from a network of another kind.
        progress: Whether to report on stderr; by default only on a terminal.
        side_by_side: Whether a GPU trains all folds at once, each on a stream of its own: small
            networks leave most of it idle. It must hold them all; what a fold computes does not
            depend on the others. On a CPU they are trained one after the other.
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
        teacher: Mapping[str, Any] | None = None,
        progress: bool | None = None,
        side_by_side: bool = False,
        **train_options: Any,
    ) -> None:
        table: dict[str, Any] = {
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
        if teacher is not None:
            table["teacher"] = dict(teacher)
        self.config = RunConfig.from_table(table)
        self.out = None if out is None else Path(out)
        self.progress, self.side_by_side = progress, side_by_side

    @classmethod
    def from_config(
        cls,
        config: RunConfig,
        *,
        out: str | Path | None = None,
        progress: bool | None = None,
        side_by_side: bool = False,
    ) -> Trainer:
        """A trainer for a configuration; `fit` without arguments then loads its data."""
        trainer = cls(out=out, progress=progress, side_by_side=side_by_side)
        trainer.config = config
        return trainer

    def fit(
        self, data: Windows | str | None = None, split: str | None = None, **split_options: Any
    ) -> Run:
        """Train every fold, test it, and write the run folder.

        Args:
            data: Windows, or the name of a data set; by default what the configuration names.
            split: "subject", "leave-one-subject-out", "official" (the data set's own test
                part) or "published" (which leaks).
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
        device = device_of(config.train.device)
        windows = data if isinstance(data, Windows) else load_windows(config.data)
        is_given = isinstance(data, Windows)
        manner = Manner(self.progress, self.side_by_side)
        return in_one_go(begin_run(config, windows, self.out, device, manner, is_given=is_given))

    @staticmethod
    def resume(
        folder: str | Path,
        *,
        data: Windows | None = None,
        progress: bool | None = None,
        side_by_side: bool = False,
    ) -> Run:
        """Go on with a run that was interrupted; the result is what it would have been.

        Finished folds are kept, and the one under way goes on from its last save. A finished
        run is returned as it is.

        Args:
            folder: The run folder.
            data: The same windows again, where the run was started with windows rather than
                with a configuration that names a data set.
            progress: Whether to report on stderr; by default only on a terminal.
            side_by_side: As for the trainer.

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
        return in_one_go(resume_run(Run(folder), data, Manner(progress, side_by_side)))
