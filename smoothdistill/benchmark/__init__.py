"""The figures behind the speed claims, measured on the reader's own machine.

``bench/`` holds pytest-benchmark files over the same cases and providers.
"""

from __future__ import annotations

from smoothdistill.benchmark.run import BENCHMARKS as BENCHMARKS
from smoothdistill.benchmark.run import GROUPS as GROUPS
from smoothdistill.benchmark.run import copy_bandwidth as copy_bandwidth
from smoothdistill.benchmark.run import run_benchmarks as run_benchmarks

__all__ = ["BENCHMARKS", "GROUPS", "copy_bandwidth", "run_benchmarks"]
