"""Which library multiplies matrices fastest here: measured once, remembered, overridable."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from smoothdistill.cache_folder import cache_folder
from smoothdistill.ops._backend import cpu_module
from smoothdistill.ops.adam_ema import adam_ema_
from smoothdistill.ops.linear import (
    PRODUCTS_VARIABLE,
    AdamNumbers,
    LinearProducts,
    available_products,
    make_products,
    require_products,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothdistill.ops.columns import BatchInColumns

__all__ = ["choose_products", "time_products"]


def choose_products(layers: Sequence[tuple[int, int]], layout: BatchInColumns) -> str:
    """Name of the library that is fastest for a step of linear layers.

    ``SMOOTHDISTILL_PRODUCTS`` decides if it is set and not ``auto``. Else every library is timed
    once for each processor, PyTorch, number of threads and size (a tenth of a second), and the
    winner is kept in the cache folder: the order of the sums differs between libraries, so runs on
    one machine should agree on one.

    Args:
        layers: (out, in) of each layer.
        layout: How the batch lies.
    """
    chosen = os.environ.get(PRODUCTS_VARIABLE) or "auto"
    if chosen != "auto":
        require_products(PRODUCTS_VARIABLE, chosen)
        return chosen
    return _remembered(tuple(layers), layout, torch.get_num_threads())


@lru_cache(maxsize=64)
def _remembered(
    layers: tuple[tuple[int, int], ...], layout: BatchInColumns, num_threads: int
) -> str:
    names = available_products()
    about = {
        "processor": _processor(),
        "torch": torch.__version__,
        "simd": None if cpu_module is None else cpu_module.simd_level(),
        "threads": num_threads,
        "layers": layers,
        "layout": tuple(layout),
        "among": names,
    }
    key = hashlib.blake2b(json.dumps(about).encode(), digest_size=12).hexdigest()
    path = cache_folder() / "products" / f"{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text())["fastest"]
        if found in names:
            return str(found)
    seconds = time_products(layers, layout, names)
    fastest = min(seconds, key=lambda name: seconds[name])
    with suppress(OSError):  # a cache that cannot be written is no reason to stop
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({**about, "seconds": seconds, "fastest": fastest}, indent=1))
        partial.replace(path)
    return fastest


def time_products(
    layers: Sequence[tuple[int, int]], layout: BatchInColumns, names: Sequence[str]
) -> dict[str, float]:
    """Seconds that a step's products and updates of these layers take with each library."""
    numbers = AdamNumbers(1e-3, 0.9, 0.999, 1e-8, 0.0, False, 0.999)
    cases = []
    for out, size in layers:
        x, dy = (torch.full((layout.blocks, n, layout.columns), 0.01) for n in (size, out))
        weight, bias = torch.full((out, size), 0.01), torch.zeros(out)
        state = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
        cases.append((x, dy, weight, bias, {**state, "step": torch.zeros(())}, weight.clone()))

    def run(products: LinearProducts) -> None:
        for x, dy, weight, bias, state, teacher in cases:
            y, dx, db = torch.empty_like(dy), torch.empty_like(x), torch.empty_like(bias)
            for _ in range(2):  # student and teacher
                products.forward(x, weight, bias, True, y)
            products.backward_input(dy, weight, x, False, dx)
            if products.updates:
                products.update_(dy, x, weight, state, teacher, numbers, db)
            else:
                dw = torch.empty_like(weight)
                products.backward_weight(dy, x, dw, db)
                adam_ema_(
                    [weight], [dw], [state["exp_avg"]], [state["exp_avg_sq"]], [teacher],
                    lr=numbers.lr, step=[state["step"]],
                )  # fmt: skip

    candidates = {name: make_products(name) for name in names}
    seconds = dict.fromkeys(names, float("inf"))
    for _ in range(4):  # by turns, and the best of each: a busy machine meets all of them alike
        for name, products in candidates.items():
            begun = time.perf_counter()
            run(products)
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "CPU part")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
