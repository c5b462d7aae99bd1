"""Fixtures and settings that every test shares: the device, the real recordings, Hypothesis."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

REPOSITORY = Path(__file__).resolve().parents[1]

# One thread: two on a busy machine spin-wait on each other, which is slower than the test itself.
torch.set_num_threads(1)

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--every N`: a sample of the tests, for machines on which all would take too long."""
    parser.addoption("--every", type=int, default=1, help="run each Nth of the selected tests")


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `--every` leaves out."""
    every = config.getoption("every")
    if every > 1:
        config.hook.pytest_deselected(items=[one for at, one in enumerate(items) if at % every])
        items[:] = items[::every]


@pytest.fixture(autouse=True)
def _require_cuda(request: pytest.FixtureRequest) -> Iterator[None]:
    """Skip `cuda` tests without a GPU, unless one was asked for: then its absence is a failure.

    With one, its convolutions are in float32 and always summed in one order.
    """
    if request.node.get_closest_marker("cuda") is None:
        yield
    elif torch.cuda.is_available():
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    elif os.environ.get("SMOOTHDISTILL_REQUIRE_CUDA") == "1":
        pytest.fail("SMOOTHDISTILL_REQUIRE_CUDA is 1, but torch.cuda.is_available() is False.")
    else:
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def without_waits() -> Callable[[], AbstractContextManager[None]]:
    """A context within which a wait for the GPU is an error."""

    @contextmanager
    def within() -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a prototype, says PyTorch
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return within


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn; the CUDA half is selected with `-m cuda`."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real recordings' archives, as `SMOOTHDISTILL_DATA` names it."""
    named = os.environ.get("SMOOTHDISTILL_DATA")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no real recordings: SMOOTHDISTILL_DATA names no folder, nor is {root} one")
    return root
