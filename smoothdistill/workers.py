"""Work shared by threads, or through joblib by processes, Dask or Ray: in order, bit by bit."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

__all__ = ["BACKENDS", "check_backend", "count_workers", "results", "torch_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = {"threads": "threading", "processes": "loky", "dask": "dask", "ray": "ray"}
"""What shares the work, and what joblib calls it."""

# Package and environment variable of a cluster, and what the variable holds.
CLUSTERS = {
    "dask": ("distributed", "DASK_SCHEDULER_ADDRESS", "the address of a scheduler"),
    "ray": ("ray", "RAY_ADDRESS", "the address of a cluster, or local"),
}

# Pieces, for each worker, that are in work or lie in memory while a slow one before them is waited
# for. joblib by itself sets no limit.
MOST_IN_FLIGHT = 4


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads inside, and as many as before after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_backend(backend: str) -> None:
    """Refuse a backend that is unknown, not installed or not configured.

    Raises:
        ValueError: If it is.
    """
    if backend not in BACKENDS:
        names = ", ".join(f"'{name}'" for name in BACKENDS)
        raise ValueError(f"`backend` must be one of {names}, but is {backend!r} instead.")
    if backend not in CLUSTERS:
        return
    package, variable, content = CLUSTERS[backend]
    if find_spec(package) is None:
        raise ValueError(
            f"`backend` must be one that is installed, but is {backend!r} without the package "
            f"{package} (pip install {package}) instead."
        )
    if not os.environ.get(variable) and not _is_connected(backend):
        raise ValueError(
            f"`backend` must be one that is configured, but is {backend!r} without {variable} "
            f"({content}) instead."
        )


def count_workers(n_jobs: int | None, backend: str) -> int | None:
    """Number of workers; None is all of a cluster.

    Raises:
        TypeError: If `n_jobs` is no integer.
        ValueError: If it is neither at least 1 nor -1.
    """
    from joblib import effective_n_jobs

    if n_jobs is None:
        return None if backend in CLUSTERS else 1
    if n_jobs == -1:
        return None if backend in CLUSTERS else int(effective_n_jobs(-1))
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int):
        raise TypeError(f"`n_jobs` must be an integer, but is {type(n_jobs).__name__} instead.")
    if n_jobs < 1:
        raise ValueError(
            f"`n_jobs` must be at least 1, or -1 for one on each core, but is {n_jobs} instead."
        )
    return n_jobs


def results(
    task: Callable[[Item], Result], work: Sequence[Item], num_workers: int | None, backend: str
) -> Generator[Result, None, None]:
    """Results of all pieces of work, in their order.

    Args:
        task: What is to be done; sent to the workers.
        work: The pieces.
        num_workers: From `count_workers`.
        backend: One of `BACKENDS`, checked.
    """
    if backend == "threads":
        return _by_threads(task, work, num_workers or 1)
    return _by_joblib(task, work, -1 if num_workers is None else num_workers, backend)


def _by_threads(
    task: Callable[[Item], Result], work: Sequence[Item], num_workers: int
) -> Generator[Result, None, None]:
    if num_workers == 1:
        yield from map(task, work)
        return
    # Not by joblib: its threads are still at work when the interpreter is torn down after Ctrl-C,
    # and the process then dies by SIGABRT inside pyarrow.
    pending, running = iter(work), deque[Future[Result]]()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for item in islice(pending, MOST_IN_FLIGHT * num_workers):
                running.append(pool.submit(task, item))
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(task, item) for item in islice(pending, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _by_joblib(
    task: Callable[[Item], Result], work: Sequence[Item], n_jobs: int, backend: str
) -> Generator[Result, None, None]:
    from joblib import Parallel, delayed, effective_n_jobs, parallel_config

    pending = iter(work)
    given = taken = 0
    with ExitStack() as stack:
        _connect(backend, stack)
        stack.enter_context(parallel_config(backend=BACKENDS[backend], n_jobs=n_jobs))
        limit = MOST_IN_FLIGHT * effective_n_jobs(n_jobs)

        def some() -> Iterator[Any]:
            """Work up to the limit; then this ends, and begins anew when all of it is taken."""
            nonlocal given
            while given < min(taken + limit, len(work)):
                given += 1
                yield delayed(task)(next(pending))

        # What Ray's workers find is handed over at the end only.
        return_as = "list" if backend == "ray" else "generator"
        parallel = stack.enter_context(Parallel(batch_size=1, return_as=return_as))
        while taken < len(work):
            with _deaf_children(backend):
                running = parallel(some())
            try:
                for result in running:
                    taken += 1
                    yield result
            finally:
                with warnings.catch_warnings():  # of work that is given up, which is why we leave
                    warnings.simplefilter("ignore")
                    getattr(running, "close", bool)()


@contextmanager
def _deaf_children(backend: str) -> Iterator[None]:
    """Processes that are started meanwhile do not hear Ctrl-C, which a terminal sends to them too.

    Each would print a traceback; their parent ends them. For those milliseconds it is deaf itself.
    """
    if backend != "processes" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _package(backend: str, part: str = "") -> Any:
    """The package of a cluster, which only its users have, or a part of it."""
    name = CLUSTERS[backend][0] + part
    return import_module(name)


def _is_connected(backend: str) -> bool:
    """Whether this process has joined a cluster already."""
    if backend == "ray":
        return bool(_package(backend).is_initialized())
    try:
        _package(backend).get_client()
    except ValueError:
        return False
    return True


def _connect(backend: str, stack: ExitStack) -> None:
    """Join the cluster, and leave it at the end, where the caller has not joined it himself."""
    if backend == "ray":
        _package(backend, ".util.joblib").register_ray()
    if backend not in CLUSTERS or _is_connected(backend):
        return
    if backend == "dask":
        address = os.environ[CLUSTERS[backend][1]]
        stack.enter_context(_package(backend).Client(address))
    else:
        _package(backend).init(logging_level=logging.ERROR, log_to_driver=False)
        stack.callback(_package(backend).shutdown)
