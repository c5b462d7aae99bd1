"""``smoothdistill evaluate``: a run's models on its own test folds, or on other data."""

from __future__ import annotations

from smoothdistill.commands.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    OutOption,
    QuietOption,
    RunArgument,
    SetOption,
    configuration,
    torch_device,
)

__all__ = ["evaluate"]


def evaluate(
    run: RunArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test student and teacher of a run (or one best.safetensors) again, or on other data.

    Without --set each fold's models are tested on that fold's own test windows. With
    --set data.name=... (and data.root=...) every fold's models are tested on all of that data.
    --out writes summary.json, metrics.csv, per_subject.csv and predictions.csv.gz.
    """
    from smoothdistill.commands.output import print_json, print_lines, print_results
    from smoothdistill.evaluation.evaluate import evaluate as evaluate_models
    from smoothdistill.evaluation.evaluate import load_checkpoints

    windows = None
    if config is not None or overrides:
        from smoothdistill.training.data_source import load_windows

        data = configuration(config, overrides).data
        if data.window_samples is None:  # what the model reads, not the data set's own default
            length = load_checkpoints(run)[0].description.window_samples
            data = data.model_copy(update={"window_samples": length})
        windows = load_windows(data)
    found = evaluate_models(run, windows, device=torch_device(device))
    if out is not None:
        found.write(out)
    if as_json:
        print_json(found.summary)
    elif not quiet:
        print_results(found.summary)
        if windows is not None:
            print_lines(f"tested on all {len(windows)} windows of {windows.name}")
        if out is not None:
            print_lines(f"tables: {out}")
