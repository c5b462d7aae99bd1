#!/usr/bin/env bash
# The package on processors that have less than this one, emulated by QEMU:
#   tests/simd_levels.sh
# Needs x86-64, qemu-x86_64-static 7.2 or newer (in Debian: qemu-user-static), and python3 with
# torch, pytest, hypothesis and smoothdistill, kernels included. Two minutes, most of them for
# importing torch. QEMU has no AVX-512: that level needs a processor that has it, and `pytest`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What is installed is what is tried, not the sources beside this file, which may have no kernels.
export PYTHONSAFEPATH=1 OMP_NUM_THREADS=1
python=$(python3 -c 'import sys; print(sys.executable)')

emulate() { # emulate MODEL LEVEL: runs there without being told how, and refuses what is not there
  printf '\n=== %s: %s\n' "$1" "$2"
  qemu-x86_64-static -cpu "$1" "$python" - "$2" <<'PYTHON'
import sys

import pytest

from smoothdistill.ops import _backend

level = sys.argv[1]
core = _backend.cpu_module
if core is None or core.simd_level() != level:
    sys.exit(f"the level must be {level} here, but is {core and core.simd_level()} instead")
ops = ("ema_update", "adam_ema", "multitask_kd_loss", "conv_pool", "linear")
sys.exit(
    pytest.main(
        ["-q", "-p", "no:cacheprovider", "tests/ops/test_backend.py"]
        + [f"tests/ops/test_{op}.py" for op in ops]
        # One past 16, the widest vector: whole vectors and a rest at every level.
        + ["-k", f"test_backend or ({level} and parity and 17)"]
    )
)
PYTHON
}

unset SMOOTHDISTILL_SIMD SMOOTHDISTILL_BACKEND
emulate Nehalem sse2
emulate Haswell avx2
