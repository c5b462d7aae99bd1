#!/usr/bin/env bash
# Everything that needs a GPU, from a bare checkout, without a network:
#   tests/gpu.sh [RESULTS_FOLDER]     (default: bench/results)
# Needs python3 with torch, pytest, scikit-build-core and pybind11, a driver, and nvcc on PATH.
# SMOOTHDISTILL_WHEELS=<folder> installs what is missing from wheels in that folder.
# SMOOTHDISTILL_PARTS="build tests sanitizer", then "build benches epoch", does it in two calls.
# SMOOTHDISTILL_SANITIZER_SECONDS=<seconds> gives each of compute-sanitizer's tools more than 90.
# Runs every part even when an earlier one failed; the exit status says whether all passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
results=$(realpath -m "${1:-bench/results}")
mkdir -p "$results"
# The CUDA kernels are opt-in; here they are what is tested and timed.
# What was installed is what is tried, not the checkout, which has no kernels.
export OMP_NUM_THREADS=1 PYTHONSAFEPATH=1 SMOOTHDISTILL_REQUIRE_CUDA=1 SMOOTHDISTILL_BACKEND=cuda
export CUDA_DEVICE_MAX_CONNECTIONS=32 # streams that can be at work at a time; 8 by default
export NVIDIA_TF32_OVERRIDE=0         # float32 means float32, for us and for rivals

parts=" ${SMOOTHDISTILL_PARTS:-build tests benches epoch sanitizer} "
wanted() { [[ $parts == *" $1 "* ]]; }
summary=()
failed=0
part() { # part TITLE COMMAND...: runs it, and says and notes how it ended
  local title=$1 began=$SECONDS verdict=ok
  shift
  printf '\n=== %s\n' "$title"
  "$@"
  local status=$?
  case $status in
    0) ;;
    124) verdict='out of time' ;; # of a part that may be cut short
    *) verdict="FAILED ($status)" failed=1 ;;
  esac
  summary+=("$(printf '%-28s %-12s %4d s' "$title" "$verdict" $((SECONDS - began)))")
  printf '%s\n' "${summary[-1]}"
}

if [[ -n ${SMOOTHDISTILL_WHEELS:-} ]]; then
  python3 -m pip install --quiet --no-index --no-deps "$SMOOTHDISTILL_WHEELS"/*.whl || exit 2
fi
python3 - <<'PYTHON' || exit 2
import importlib, shutil, sys
import torch
needed = """scikit_build_core pybind11 numpy numba safetensors sklearn pydantic typer rich jinja2
pytest pytest_benchmark hypothesis"""
missing = []
for name in needed.split():
    try:
        importlib.import_module(name)
    except ImportError as error:  # of itself, or of what it needs
        missing.append(error.name or name)
missing += [tool for tool in ("nvcc", "cmake") if shutil.which(tool) is None]
if missing:
    sys.exit(f"`SMOOTHDISTILL_WHEELS` must supply what is missing here: {', '.join(missing)}.")
if not torch.cuda.is_available():
    sys.exit("torch sees no GPU.")
PYTHON
device=$(python3 -c 'import torch; print(torch.cuda.get_device_name().replace(" ", "-").lower())')
report=$results/$device.json

# Other versions than the tested ones may warn.
tests=(python3 -m pytest -m cuda -q -W default --continue-on-collection-errors)

wanted build && part 'build and install' python3 -m pip install --quiet --no-build-isolation --no-deps \
  -C cmake.define.CMAKE_CUDA_ARCHITECTURES=native .
wanted tests && part 'tests marked cuda' "${tests[@]}" tests/ops tests/optim tests/training
wanted benches && part 'benches' python3 bench/gpu.py "$report"
wanted epoch && part 'an epoch' python3 bench/train/bench_epoch.py --layout axes --device cuda --out "${report%.json}-epoch.json"
# Last, since they are slow. These tests launch each kernel, with each of its ways to end.
every_kernel='every_promise or several_tables or ticket or many_tasks or more_taps'
sanitize() { # sanitize TOOL [OPTION...]: fails on a finding in a kernel of ours, also if cut short
  local log status
  log=$(mktemp)
  timeout -k 10 "${SMOOTHDISTILL_SANITIZER_SECONDS:-90}" compute-sanitizer --log-file "$log" \
    --tool "$@" "${tests[@]}" -vv tests/ops/test_cuda_module.py -k "$every_kernel" | tee "$log.tests"
  status=${PIPESTATUS[0]}
  # A record has its kernel in one of the lines after its first.
  grep -A 12 -E 'Uninitialized|Invalid|hazard|Barrier error|Misaligned' "$log" |
    grep -B 12 -A 4 smoothdistill && status=9
  ((status == 124)) && ! grep -q PASSED "$log.tests" && status=1
  rm -f "$log" "$log.tests"
  return "$status"
}
only_ours=(--kernel-name kns=smoothdistill --error-exitcode 9)
if ! wanted sanitizer; then
  :
elif command -v compute-sanitizer >/dev/null; then
  part 'compute-sanitizer racecheck' sanitize racecheck "${only_ours[@]}"
  part 'compute-sanitizer synccheck' sanitize synccheck "${only_ours[@]}"
  # torch's own allocator would hide an access beyond a tensor; without it each tensor is a block.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  part 'compute-sanitizer memcheck' sanitize memcheck --report-api-errors no "${only_ours[@]}"
  # It watches all kernels, since PyTorch's write what ours read; reports on ours count.
  part 'compute-sanitizer initcheck' sanitize initcheck
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
else
  summary+=('compute-sanitizer            not found, not run')
  failed=1
fi

printf '\n%s\n' "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)"
printf '%s\n' "${summary[@]}"
[[ -s $report ]] && printf 'timings: %s\n' "$report"
exit "$failed"
