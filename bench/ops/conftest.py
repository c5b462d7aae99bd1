"""How an op is timed: one thread, the answer held against float64 first, providers by turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from smoothdistill.benchmark import copy_bandwidth, run_benchmarks
from smoothdistill.benchmark.workload import NUM_CALLS_BEFORE_COMPARISON, Case, Workload

# Three float32 calls, of sums of up to 1000 terms: some hundred roundings of 6e-8.
RELATIVE_TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _relative_error(workload: Workload, expected: Sequence[Tensor]) -> float:
    """Largest error after the first calls, as a share of the largest value of its tensor."""
    for _ in range(NUM_CALLS_BEFORE_COMPARISON):
        workload.call()
    pairs = zip(workload.answer(), expected, strict=True)
    errors = [float((a.detach().double() - b).abs().max() / b.abs().max()) for a, b in pairs]
    return max(errors)


@pytest.fixture
def time_call(benchmark) -> Callable[[Workload, Sequence[Tensor], Case], None]:  # type: ignore[no-untyped-def]
    """Check a fresh workload against float64 answers, then time it."""

    def timed(workload: Workload, expected: Sequence[Tensor], case: Case) -> None:
        error = _relative_error(workload, expected)
        assert error <= RELATIVE_TOLERANCE, f"off by {error:.1e}: not timed"
        benchmark.group = case.name
        benchmark.extra_info.update(
            device="cpu",
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            bytes_moved=case.bytes_moved,
            relative_error=error,
        )
        benchmark(workload.call)
        if case.bytes_moved and benchmark.stats is not None:
            rate = case.bytes_moved / benchmark.stats.stats.median
            benchmark.extra_info["gigabytes_per_second"] = rate / 1e9

    return timed


@pytest.fixture
def print_ratios(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Time an op's providers by turns, and print medians, rates, and quartiles of the ratios."""

    def show(name: str) -> None:
        found = run_benchmarks([name])
        bandwidth = copy_bandwidth()
        lines = [f"\n{name}, one thread, torch {torch.__version__}"]
        lines.append(f"  plain copy: {bandwidth / 1e9:.1f} GB/s")
        lines += [f"  {_words(row)}" for row in (*found["times"], *found["ratios"])]
        with capsys.disabled():
            print("\n".join(lines))

    return show


def _words(row: dict[str, object]) -> str:
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in row.items()
        if key != "op"
    )
