"""``smoothdistill resume``: go on with a run that was stopped."""

from __future__ import annotations

from smoothdistill.commands.options import JsonOption, QuietOption, RunArgument, SideBySideOption

__all__ = ["resume"]


def resume(
    run: RunArgument,
    side_by_side: SideBySideOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was stopped; the result is what it would have been.

    Finished folds are kept. A finished run is reported again.
    """
    from smoothdistill.commands.train import finish, stop_with_hint
    from smoothdistill.training.trainer import Trainer

    try:
        resumed = Trainer.resume(run, progress=not quiet, side_by_side=side_by_side)
    except (KeyboardInterrupt, SystemExit) as stop:
        stop_with_hint(stop, run)
    finish(resumed, quiet=quiet, as_json=as_json)
