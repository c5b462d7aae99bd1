"""Providers of the statistical set: mean to autocorrelation, 17 values a window and channel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rivals import libraries, numpy_forms
from rivals.libraries import columns_by_channel
from rivals.workload import (
    CHANNEL_NAMES,
    CHANNEL_PAIRS,
    SAMPLE_RATE_HZ,
    Answer,
    Case,
    Provider,
    Workload,
)


def numpy_workload(
    case: Case, *, form: Callable, dtype: DTypeLike, chunk: int, is_transposed: bool
) -> Workload:
    call = form(case, dtype, chunk)
    if not is_transposed:
        return Workload(call, lambda out: out)
    return Workload(call, lambda out: {name: values.T for name, values in out.items()})


numpy_usual = partial(numpy_workload, form=numpy_forms.usual_call, chunk=512, is_transposed=False)
numpy_best = partial(
    numpy_workload, form=numpy_forms.statistical_call, chunk=256, is_transposed=True
)


def make_numba(case: Case) -> Workload:
    from rivals import compiled

    return compiled.make_statistical(case)


def _numpy_functions(**axis: int) -> dict[str, Callable[[NDArray], NDArray]]:
    """One function per value, as users hand them to tsflex; with axis=1 for all windows at once."""

    def spread(values: NDArray) -> NDArray:
        return values - (values.mean(axis=1, keepdims=True) if axis else values.mean())

    def moment(power: int) -> Callable[[NDArray], NDArray]:
        def standardised(values: NDArray) -> NDArray:
            c = spread(values)
            return (c**power).mean(**axis) / (c * c).mean(**axis) ** (power / 2)

        return standardised

    def iqr(values: NDArray) -> NDArray:
        low, high = np.percentile(values, (25, 75), **axis)
        return high - low

    def mad(values: NDArray) -> NDArray:
        median = np.median(values, **axis)
        return np.median(np.abs(values - (median[:, None] if axis else median)), **axis)

    def rate(values: NDArray) -> NDArray:
        above = values > 0
        return (above[..., 1:] != above[..., :-1]).mean(**axis)

    def slope(values: NDArray) -> NDArray:
        time = np.arange(values.shape[-1]) - (values.shape[-1] - 1) / 2
        return values @ (time / (time @ time)) * SAMPLE_RATE_HZ

    def lag(values: NDArray) -> NDArray:
        c = spread(values)
        return (c[..., 1:] * c[..., :-1]).sum(**axis) / (c * c).sum(**axis)

    return {
        "mean": lambda x: np.mean(x, **axis),
        "std": lambda x: np.std(x, **axis),
        "var": lambda x: np.var(x, **axis),
        "min": lambda x: np.min(x, **axis),
        "max": lambda x: np.max(x, **axis),
        "median": lambda x: np.median(x, **axis),
        "iqr": iqr,
        "rms": lambda x: np.sqrt((x * x).mean(**axis)),
        "mad": mad,
        "skew": moment(3),
        "kurtosis": lambda x: moment(4)(x) - 3,
        "zcr": rate,
        "mcr": lambda x: rate(spread(x)),
        "energy": lambda x: (x * x).mean(**axis),
        "ptp": lambda x: np.ptp(x, **axis),
        "slope": slope,
        "autocorr_lag1": lag,
    }


def _scipy_functions() -> dict[str, Callable[[NDArray], NDArray]]:
    from scipy import stats

    return _numpy_functions() | {
        "iqr": stats.iqr,
        "mad": stats.median_abs_deviation,
        "skew": stats.skew,
        "kurtosis": stats.kurtosis,
    }


def make_tsflex(case: Case, *, is_vectorized: bool, with_scipy: bool = False) -> Workload:
    import pandas as pd
    from tsflex.features import FeatureCollection, FuncWrapper, MultipleFeatureDescriptors

    if with_scipy:
        functions = _scipy_functions()
    else:
        functions = _numpy_functions(**({"axis": 1} if is_vectorized else {}))
    collection = FeatureCollection(
        MultipleFeatureDescriptors(
            [
                FuncWrapper(function, output_names=name, vectorized=is_vectorized)
                for name, function in functions.items()
            ],
            list(CHANNEL_NAMES),
            windows=case.window_samples,
            strides=case.step_samples,
        )
    )
    frame = pd.DataFrame(case.signal.astype(np.float64), columns=list(CHANNEL_NAMES))

    def call() -> pd.DataFrame:
        return collection.calculate(
            frame, return_df=True, n_jobs=1, include_final_window=True, approve_sparsity=True
        )

    def answer(table: object) -> Answer:
        rows = table.iloc[: case.num_windows]
        suffix = f"w={case.window_samples}"
        return {
            name: columns_by_channel(
                rows, lambda channel, name=name: f"{channel}__{name}__{suffix}"
            )
            for name in functions
        }

    return Workload(call, answer)


def make_python_loop(case: Case) -> Workload:
    functions = _scipy_functions()

    def call() -> list[dict[str, float]]:
        rows = []
        for first in range(0, len(case.signal) - case.window_samples + 1, case.step_samples):
            window = case.signal[first : first + case.window_samples].astype(np.float64)
            row = {}
            for channel, name in enumerate(CHANNEL_NAMES):
                for feature, function in functions.items():
                    row[f"{name}__{feature}"] = function(window[:, channel])
            for a, b in CHANNEL_PAIRS:
                row[f"corr_{a}_{b}"] = np.corrcoef(window[:, a], window[:, b])[0, 1]
            row["sma"] = np.abs(window).sum(axis=1).mean()
            rows.append(row)
        return rows

    def answer(rows: object) -> Answer:
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        found = {
            feature: columns_by_channel(table, lambda channel, f=feature: f"{channel}__{f}")
            for feature in functions
        }
        found["corr"] = np.stack([table[f"corr_{a}_{b}"] for a, b in CHANNEL_PAIRS], axis=1)
        return found | {"sma": table["sma"][:, None]}

    return Workload(call, answer)


def make_pandas(case: Case) -> Workload:
    """The ten values that `rolling` has; with a step, it computes all and drops the most."""
    import pandas as pd

    # Rows lie at 0, step, 2 step, ...; some samples in front make the windows end there.
    pad = -(case.window_samples - 1) % case.step_samples
    first = (case.window_samples - 1 + pad) // case.step_samples

    def call() -> dict[str, pd.DataFrame]:
        signal = np.concatenate([case.signal[:pad], case.signal]).astype(np.float64)
        frame = pd.DataFrame(signal, columns=list(CHANNEL_NAMES))
        rolling = frame.rolling(case.window_samples, step=case.step_samples)
        return {
            "mean": rolling.mean(),
            "std": rolling.std(ddof=0),
            "var": rolling.var(ddof=0),
            "min": rolling.min(),
            "max": rolling.max(),
            "median": rolling.median(),
            "q25": rolling.quantile(0.25),
            "q75": rolling.quantile(0.75),
            "skew_unbiased": rolling.skew(),
            "kurtosis_unbiased": rolling.kurt(),
        }

    def answer(tables: object) -> Answer:
        return {name: table.to_numpy()[first:] for name, table in tables.items()}

    return Workload(call, answer)


def make_polars(case: Case) -> Workload:
    """Expressions over dynamic groups: everything, in one query."""
    import polars as pl

    time = np.arange(case.window_samples) - (case.window_samples - 1) / 2
    norm = float(time @ time)

    def moment(c: pl.Expr, power: int) -> pl.Expr:
        return (c**power).mean()

    def rate(above: pl.Expr) -> pl.Expr:
        return (above != above.shift(1)).mean()

    def values(name: str) -> dict[str, pl.Expr]:
        x = pl.col(name)
        c = x - x.mean()
        position = pl.col("t") - pl.col("t").mean()
        return {
            "mean": x.mean(),
            "std": x.std(ddof=0),
            "var": x.var(ddof=0),
            "min": x.min(),
            "max": x.max(),
            "median": x.median(),
            "iqr": x.quantile(0.75, "linear") - x.quantile(0.25, "linear"),
            "rms": (x * x).mean().sqrt(),
            "mad": (x - x.median()).abs().median(),
            "skew": x.skew(),
            "kurtosis": x.kurtosis(),
            "zcr": rate(x > 0),
            "mcr": rate(x > x.mean()),
            "energy": (x * x).mean(),
            "ptp": x.max() - x.min(),
            "slope": (position * x).sum() / norm * SAMPLE_RATE_HZ,
            "autocorr_lag1": (c * c.shift(1)).sum() / (c * c).sum(),
        }

    expressions = [
        expression.alias(f"{channel}__{name}")
        for channel in CHANNEL_NAMES
        for name, expression in values(channel).items()
    ]
    expressions += [
        pl.corr(CHANNEL_NAMES[a], CHANNEL_NAMES[b]).alias(f"corr_{a}_{b}") for a, b in CHANNEL_PAIRS
    ]
    area = sum((pl.col(name).abs() for name in CHANNEL_NAMES[1:]), pl.col(CHANNEL_NAMES[0]).abs())
    expressions.append(area.mean().alias("sma"))
    frame = pl.DataFrame(case.signal.astype(np.float64), schema=list(CHANNEL_NAMES))
    frame = frame.with_row_index("t").with_columns(pl.col("t").cast(pl.Int64))

    def call() -> pl.DataFrame:
        return frame.group_by_dynamic(
            "t", every=f"{case.step_samples}i", period=f"{case.window_samples}i", closed="left"
        ).agg(expressions)

    def answer(table: object) -> Answer:
        table = {name: table[name].to_numpy()[: case.num_windows] for name in table.columns}
        found = {
            name: columns_by_channel(table, lambda channel, name=name: f"{channel}__{name}")
            for name in values("x")
        }
        found["corr"] = np.stack([table[f"corr_{a}_{b}"] for a, b in CHANNEL_PAIRS], axis=1)
        return found | {"sma": table["sma"][:, None]}

    return Workload(call, answer)


ALL_BESIDE = "also SMA, correlations"

PROVIDERS = (
    Provider(
        "NumPy at its best, float32",
        17,
        partial(numpy_best, dtype=np.float32),
        also=f"{ALL_BESIDE}; time outermost, buffers reused",
    ),
    Provider(
        "NumPy at its best, float64",
        17,
        partial(numpy_best, dtype=np.float64),
        also=f"{ALL_BESIDE}; time outermost, buffers reused",
    ),
    Provider(
        "NumPy, strided view in chunks, float64",
        17,
        partial(numpy_usual, dtype=np.float64),
        also=ALL_BESIDE,
    ),
    Provider("Numba, a loop over windows", 17, make_numba, ("numba",), also=ALL_BESIDE),
    Provider("aeon SevenNumberSummary", 7, libraries.make_aeon, ("aeon",)),
    Provider("scikit-digital-health Bank", 10, libraries.make_skdh, ("skdh",), 4000),
    Provider(
        "seglearn",
        13,
        libraries.make_seglearn,
        ("seglearn",),
        4000,
        "windows ready cut; 2 values wrong",
    ),
    Provider(
        "tsflex, vectorized functions",
        17,
        partial(make_tsflex, is_vectorized=True),
        ("tsflex",),
        4000,
    ),
    Provider("pandas rolling", 10, make_pandas, ("pandas",), 4000),
    Provider("polars group_by_dynamic", 17, make_polars, ("polars",), 1000, ALL_BESIDE),
    Provider(
        "tsflex, NumPy functions", 17, partial(make_tsflex, is_vectorized=False), ("tsflex",), 300
    ),
    Provider(
        "tsflex, NumPy and SciPy functions",
        17,
        partial(make_tsflex, is_vectorized=False, with_scipy=True),
        ("tsflex",),
        100,
    ),
    Provider("Python loop, NumPy and SciPy", 17, make_python_loop, ("scipy",), 100, ALL_BESIDE),
    Provider("tsfresh", 15, libraries.make_tsfresh, ("tsfresh",), 100, "long frame ready made"),
    Provider(
        "TSFEL", 15, partial(libraries.tsfel_workload, names=libraries.TSFEL), ("tsfel",), 100
    ),
    Provider("mne-features", 9, libraries.make_mne_features, ("mne_features",), 100),
)
