"""Providers of the dense workload: one window per sample, so that neighbours share almost all."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from rivals import libraries, statistical
from rivals.libraries import columns_by_channel
from rivals.statistical import ALL_BESIDE, numpy_best, numpy_usual
from rivals.workload import CHANNEL_NAMES, CHANNEL_PAIRS, Answer, Case, Provider, Workload


def make_best_of_breed(case: Case) -> Workload:
    """For each column the fastest library that has it, in float64: in float32 they lose digits."""
    import bottleneck
    import numbagg
    import pandas as pd
    import polars as pl

    width = case.window_samples

    def call() -> dict[str, NDArray]:
        rows = case.signal.astype(np.float64).T.copy()
        found = {
            "mean": bottleneck.move_mean(rows, width),
            "std": bottleneck.move_std(rows, width),
            "var": bottleneck.move_var(rows, width),
            "min": bottleneck.move_min(rows, width),
            "max": bottleneck.move_max(rows, width),
            "median": bottleneck.move_median(rows, width),
        }
        for name, share in (("q25", 0.25), ("q75", 0.75)):
            found[name] = np.stack(
                [
                    pl.Series(row).rolling_quantile(share, "linear", window_size=width).to_numpy()
                    for row in rows
                ]
            )
        rolling = pd.DataFrame(rows.T, copy=False).rolling(width)
        found["skew_unbiased"] = rolling.skew().to_numpy().T
        found["kurtosis_unbiased"] = rolling.kurt().to_numpy().T
        found["corr"] = np.stack(
            [numbagg.move_corr(rows[a], rows[b], window=width) for a, b in CHANNEL_PAIRS]
        )
        return found

    def answer(found: object) -> Answer:
        return {name: values[:, width - 1 :].T for name, values in found.items()}

    return Workload(call, answer)


def make_polars(case: Case) -> Workload:
    import polars as pl

    width = case.window_samples
    first, second = zip(*CHANNEL_PAIRS, strict=True)

    def call() -> pl.DataFrame:
        frame = pl.DataFrame(case.signal.astype(np.float64), schema=list(CHANNEL_NAMES))
        columns = []
        for name in CHANNEL_NAMES:
            x = pl.col(name)
            columns += [
                x.rolling_mean(width).alias(f"{name}__mean"),
                x.rolling_std(width, ddof=0).alias(f"{name}__std"),
                x.rolling_var(width, ddof=0).alias(f"{name}__var"),
                x.rolling_min(width).alias(f"{name}__min"),
                x.rolling_max(width).alias(f"{name}__max"),
                x.rolling_median(width).alias(f"{name}__median"),
                x.rolling_quantile(0.25, "linear", window_size=width).alias(f"{name}__q25"),
                x.rolling_quantile(0.75, "linear", window_size=width).alias(f"{name}__q75"),
                x.rolling_skew(width).alias(f"{name}__skew"),
                x.rolling_kurtosis(width).alias(f"{name}__kurtosis"),
            ]
        columns += [
            pl.rolling_corr(CHANNEL_NAMES[a], CHANNEL_NAMES[b], window_size=width).alias(
                f"corr_{a}_{b}"
            )
            for a, b in zip(first, second, strict=True)
        ]
        return frame.select(columns)

    def answer(table: object) -> Answer:
        rows = {name: table[name].to_numpy()[width - 1 :] for name in table.columns}
        names = dict.fromkeys(name.split("__")[1] for name in rows if "__" in name)
        found = {
            name: columns_by_channel(rows, lambda channel, name=name: f"{channel}__{name}")
            for name in names
        }
        found["corr"] = np.stack([rows[f"corr_{a}_{b}"] for a, b in CHANNEL_PAIRS], axis=1)
        return found

    return Workload(call, answer)


def make_pandas(case: Case) -> Workload:
    import pandas as pd

    stack = statistical.make_pandas(case)

    def call() -> dict[str, pd.DataFrame]:
        found = stack.call()
        frame = pd.DataFrame(case.signal.astype(np.float64))
        found["corr"] = pd.concat(
            [frame[a].rolling(case.window_samples).corr(frame[b]) for a, b in CHANNEL_PAIRS],
            axis=1,
        )
        return found

    return Workload(call, stack.answer)


PROVIDERS = (
    Provider(
        "best of bottleneck, polars, pandas, numbagg",
        10,
        make_best_of_breed,
        ("bottleneck", "numbagg", "pandas", "polars"),
        also="also correlations",
    ),
    Provider("polars rolling", 10, make_polars, ("polars",), also="also correlations"),
    Provider("pandas rolling", 10, make_pandas, ("pandas",), 200_000, also="also correlations"),
    Provider(
        "NumPy at its best, float64",
        17,
        partial(numpy_best, dtype=np.float64, chunk=128),
        num_windows=30_000,
        also=ALL_BESIDE,
    ),
    Provider(
        "NumPy, strided view in chunks, float64",
        17,
        partial(numpy_usual, dtype=np.float64, chunk=256),
        num_windows=30_000,
        also=ALL_BESIDE,
    ),
    Provider(
        "Numba, a loop over windows", 17, statistical.make_numba, ("numba",), 10_000, ALL_BESIDE
    ),
    Provider("scikit-digital-health Bank", 10, libraries.make_skdh, ("skdh",), 4000),
    Provider(
        "tsflex, vectorized functions",
        17,
        partial(statistical.make_tsflex, is_vectorized=True),
        ("tsflex",),
        4000,
    ),
    Provider(
        "seglearn",
        13,
        libraries.make_seglearn,
        ("seglearn",),
        4000,
        "windows ready cut; 2 values wrong",
    ),
    Provider("tsfresh", 15, libraries.make_tsfresh, ("tsfresh",), 100, "long frame ready made"),
    Provider(
        "TSFEL",
        15,
        partial(libraries.tsfel_workload, names=libraries.TSFEL),
        ("tsfel",),
        100,
    ),
)
