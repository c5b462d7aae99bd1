"""What the benches of the quick features share: our call, chunks in NumPy, the check, the turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from costly import NUM_WINDOWS, Provider, cases_of, lines_of, make_case, measure
from numpy.typing import NDArray
from rivals.measure import one_thread
from rivals.numpy_forms import chunks
from rivals.workload import CHANNEL_NAMES, SAMPLE_RATE_HZ, Answer, Case

from smoothdistill.features.compute import Kernels, empty_columns, of_recording
from smoothdistill.features.plan import make_plan
from smoothdistill.features.settings import Settings

CHUNK = 256  # windows; numpy_forms has it too


def _ours(case: Case, names: Sequence[str]) -> Answer:
    return _prepared(case, tuple(names))()


OURS = Provider(_ours, num_windows=NUM_WINDOWS)
"""From the recording as it is (interleaved float32) to float64 columns."""


@lru_cache(maxsize=64)
def _prepared(case: Case, names: tuple[str, ...]) -> Callable[[], Answer]:
    settings = Settings(sample_rate_hz=SAMPLE_RATE_HZ, slope_rate_hz=SAMPLE_RATE_HZ)
    plan = make_plan(names, CHANNEL_NAMES)
    out = empty_columns(len(plan.names), case.num_windows, np.dtype(np.float64))
    starts = np.arange(case.num_windows) * case.step_samples
    block = of_recording(case.signal, starts, case.window_samples)
    kernels = Kernels(
        plan,
        case.window_samples,
        is_interleaved=True,
        step_samples=case.step_samples,
        settings=settings,
    )
    rows = {name: _rows_of(plan.names, name) for name in names}

    def call() -> Answer:
        kernels.fill(block, out)
        return {name: out[place].T for name, place in rows.items()}

    return call


def _rows_of(columns: Sequence[str], name: str) -> slice:
    """Where `x__name, y__name, ...` or `name_x_y, ...` stand."""
    places = [
        place
        for place, column in enumerate(columns)
        if column.endswith(f"__{name}") or column.startswith(f"{name}_")
    ]
    hop = places[1] - places[0] if len(places) > 1 else 1
    return slice(places[0], places[-1] + 1, hop)


class Chunk:
    """Windows [time, channels, windows] and what several features need of them, computed once.

    Time is outermost, as in `numpy_forms.statistical_call`, so that sums over it run along windows.
    """

    def __init__(self, view: NDArray[np.float32]) -> None:
        self.view = view
        self.num_samples = len(view)
        self.known: dict[Any, Any] = {}

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """Side by side, in float32: what only compares them is exact in it."""
        return self.view.astype(np.float32, order="C")

    @cached_property
    def x(self) -> NDArray[np.float64]:
        """In float64."""
        return self.samples.astype(np.float64)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Over time."""
        return self.x.mean(axis=0)

    @cached_property
    def c(self) -> NDArray[np.float64]:
        """The samples less their mean."""
        return self.x - self.mean

    @cached_property
    def var(self) -> NDArray[np.float64]:
        """The population's variance."""
        return sum_of(self.c, self.c) / self.num_samples


def sum_of(*factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of products over time: up to 3 factors take less than one multiplication into an array."""
    return np.einsum(",".join(["tcw"] * len(factors)) + "->cw", *factors)


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """For what several features share; it goes with its chunk, whose memory the next one takes."""

    def known(chunk: Chunk, *arguments: Any) -> Any:
        key = function, arguments
        if key not in chunk.known:
            chunk.known[key] = function(chunk, *arguments)
        return chunk.known[key]

    return known


def count_of(flags: NDArray[np.bool_]) -> NDArray:
    """How many are true over time, at most 255."""
    return flags.view(np.uint8).sum(axis=0, dtype=np.uint8).astype(np.float64)


def in_chunks(features: Mapping[str, Callable[[Chunk], NDArray]], **options: Any) -> Provider:
    """A provider of these features that takes `CHUNK` windows at a time."""

    def call(case: Case, names: Sequence[str]) -> Answer:
        found = {name: [] for name in names}
        for _, view in chunks(case, CHUNK):
            chunk = Chunk(view)
            for name, parts in found.items():
                parts.append(features[name](chunk))
        joined = {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}
        return {name: np.atleast_2d(values).T for name, values in joined.items()}

    return Provider(call, **{"num_windows": NUM_WINDOWS, "names": tuple(features), **options})


def of_channels(reference: Callable[..., Answer], **options: Any) -> Callable[[Case], Answer]:
    """The reference of windows [windows, time], for every channel."""

    def truth(case: Case) -> Answer:
        windows = case.windows().astype(np.float64).swapaxes(0, 1)
        found = [reference(channel, **options) for channel in windows]
        return {name: np.stack([part[name] for part in found], axis=1) for name in found[0]}

    return truth


@dataclass(frozen=True, eq=False)
class Family:
    """What is compared: values within `tolerance` of the reference, absolute and relative."""

    names: tuple[str, ...]
    truth: Callable[[Case], Answer]
    providers: Mapping[str, Provider]
    # 4 W eps mean / std is 1e-11 in this signal, and what a kurtosis in float64 may be off.
    tolerance: float = 1e-10

    @property
    def groups(self) -> tuple[str, ...]:
        """Each feature, and all."""
        return (*self.names, "all")

    @property
    def cases(self) -> list[Any]:
        """Test parameters: each group with each provider that has it."""
        return cases_of(self.providers, self.names)

    def check(self, provider: Provider, names: Sequence[str]) -> Case:
        """Hold a provider's values against the reference's on the windows that it is timed on."""
        case = make_case(provider.num_windows)
        found, expected = provider.call(case, names), _truth(self, case)
        for name in names:
            np.testing.assert_allclose(
                found[name],
                expected[name],
                rtol=self.tolerance,
                atol=self.tolerance,
                err_msg=name,
            )
        return case

    def bench(self, benchmark: Any, group: str, names: Sequence[str], provider: Provider) -> None:
        """The body of each family's test."""
        with one_thread():
            case = self.check(provider, names)
            benchmark.group = group
            benchmark.extra_info["series"] = case.num_windows * case.num_channels
            benchmark(provider.call, case, names)

    def print_ratios(self, group: str, *, num_rounds: int = 7) -> None:
        """Check and time by turns everybody who has the features of a group."""
        names = self.names if group == "all" else (group,)
        with one_thread():
            for provider in self.providers.values():
                if not provider.names or set(names) <= set(provider.names):
                    self.check(provider, names)
            timings = measure(self.providers, names, num_rounds=num_rounds)
        print("\n".join(lines_of(group, timings)), flush=True)


@lru_cache(maxsize=8)
def _truth(family: Family, case: Case) -> Answer:
    return family.truth(case)


def main(family: Family) -> None:
    """Print all ratios."""
    for group in family.groups:
        family.print_ratios(group)
