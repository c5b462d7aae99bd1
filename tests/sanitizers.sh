#!/usr/bin/env bash
# The kernels and the fused training step under AddressSanitizer and UndefinedBehaviorSanitizer:
#   tests/sanitizers.sh [PYTEST_ARGUMENT...]    (default: all tests that run the kernels on the CPU)
# Needs g++, cmake, and python3 with torch, pytest, hypothesis and pybind11. Builds _core in a
# temporary folder; the checkout and an installed package stay as they are. Ten minutes on one core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
workspace=$(mktemp -d "${TMPDIR:-/tmp}/smoothdistill-sanitizers.XXXXXX")
trap 'rm -rf "$workspace"' EXIT

cmake -S . -B "$workspace/build" -D CMAKE_CXX_COMPILER=g++ \
  -D SMOOTHDISTILL_SANITIZE=ON -D SMOOTHDISTILL_CUDA=OFF \
  -D Python_EXECUTABLE="$(command -v python3)" -D pybind11_DIR="$(python3 -m pybind11 --cmakedir)"
cmake --build "$workspace/build" --parallel "$(nproc)"
mkdir "$workspace/site"
cp -R smoothdistill "$workspace/site"
rm -f "$workspace"/site/smoothdistill/_{core,cuda}*.so # of a build in place
cp "$workspace"/build/_core*.so "$workspace/site/smoothdistill"

# AddressSanitizer replaces malloc, so it must be loaded first; and it looks up the C++ library's
# `throw` when it starts, which python alone would not have loaded by then.
preload="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)"
sanitized() { # sanitized PYTHON_ARGUMENT...: on the package above, and no other
  env -u SMOOTHDISTILL_BACKEND PYTHONPATH="$workspace/site" PYTHONSAFEPATH=1 LD_PRELOAD="$preload" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    OMP_NUM_THREADS=1 PYTHONMALLOC=malloc python3 "$@" # Python's own blocks have no guards
}

core=$(sanitized -c 'import smoothdistill._core as core; print(core.__file__)')
printf '\nunder test: %s\n' "$core"
if [[ $core != "$workspace"/* ]] || ! readelf -d "$core" | grep 'NEEDED.*libasan'; then
  echo "the tests would not run on the sanitized _core" >&2
  exit 1
fi

# Left out: test_mutants.py tries wrong kernels written in PyTorch, test_cuda_module.py needs _cuda,
# and 200 steps touch no memory that 24 do not.
(($#)) || set -- tests/ops tests/models/test_mtl_net_kernels.py tests/training/test_fused_step*.py \
  --ignore=tests/ops/test_mutants.py --ignore=tests/ops/test_cuda_module.py \
  -k 'not over_200_steps'
# The sanitizers write to the file descriptor of stderr, which pytest must leave alone.
sanitized -m pytest -q --capture=sys -p no:cacheprovider -m 'not slow and not cuda' "$@"
