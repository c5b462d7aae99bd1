"""``smoothdistill models``: which networks there are, and what they cost on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from smoothdistill.commands.options import JsonOption

__all__ = ["models"]


def models(
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Only this network: model.name, and options such as model.width=0.5. "
            "May be given many times.",
        ),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Sensor channels.")] = 6,
    window_samples: Annotated[int, typer.Option(min=1, help="Samples of a window.")] = 128,
    classes: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Classes of a task; given again for each further task."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the networks: parameters, multiply-adds, and the time for one window, one thread."""
    import torch

    from smoothdistill.benchmark.network_latency import NETWORKS, network_latencies
    from smoothdistill.commands.output import print_json, print_lines, print_table
    from smoothdistill.models import build_model
    from smoothdistill.models.cost import network_cost
    from smoothdistill.training import RunConfig
    from smoothdistill.workers import torch_threads

    rows = NETWORKS
    if overrides:
        chosen = RunConfig().with_overrides(overrides).model
        options = [f"{key} {value}" for key, value in chosen.options.items()]
        rows = {", ".join([chosen.name, *options]): (chosen.name, chosen.options)}
    num_classes = {f"task {place}": count for place, count in enumerate(classes or [12], 1)}
    with torch.random.fork_rng(devices=[]), torch_threads(1):
        networks = {
            label: build_model(
                model,
                num_classes=num_classes,
                in_channels=channels,
                window_samples=window_samples,
                **options,
            )
            for label, (model, options) in rows.items()
        }
        costs = {
            label: network_cost(network, channels, window_samples)
            for label, network in networks.items()
        }
        timings = network_latencies(networks, channels, window_samples)
    found = [
        {
            "label": label,
            "model": rows[label][0],
            "options": rows[label][1],
            "num_parameters": costs[label].num_parameters,
            "num_macs": costs[label].num_macs,
            "latency_seconds": timings[label].median,
            "latency_quartiles_seconds": timings[label].quartiles,
        }
        for label in rows
    ]
    if as_json:
        print_json(found)
        return
    cells = []
    for label in rows:
        low, high = timings[label].quartiles
        cells.append(
            (
                label,
                f"{costs[label].num_parameters:,}",
                f"{costs[label].num_macs / 1e6:,.2f} M",
                f"{timings[label].median * 1e3:.2f} ms",
                f"{low * 1e3:.2f} to {high * 1e3:.2f}",
            )
        )
    headings = ("network", "parameters", "multiply-adds", "one window", "quartiles")
    print_table(headings, cells)
    print_lines(
        f"For {channels} channels x {window_samples} samples and "
        f"{' + '.join(map(str, num_classes.values()))} classes; float32, one thread, PyTorch "
        f"{torch.__version__}."
    )
