"""What the tests of the windows share: the kernels as plain Python."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from smoothdistill.windows import kernels


@pytest.fixture(scope="session")
def plain_kernels():
    """A context in which every kernel of the windows runs as plain Python."""

    @contextmanager
    def context():
        compiled = {name: getattr(kernels, name) for name in kernels.__all__}
        try:
            for name, kernel in compiled.items():
                setattr(kernels, name, getattr(kernel, "py_func", kernel))
            yield
        finally:
            for name, kernel in compiled.items():
                setattr(kernels, name, kernel)

    return context
