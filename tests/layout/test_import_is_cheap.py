"""`import smoothdistill` costs what torch costs: it does nothing and loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

# Runs in a fresh interpreter. torch comes first: what its import does is not ours to promise.
PROBE = """
import json, os, sys
import torch

before = set(sys.modules)
deeds = []

def watch(event, args):
    if event.split(".")[0] in {"socket", "subprocess", "shutil", "tempfile", "urllib"}:
        deeds.append(event)
    elif event in {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}:
        deeds.append(event)
    elif event in {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink"}:
        deeds.append(f"{event} {args[0]}")
    elif event == "open" and isinstance(args[2], int):
        if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            deeds.append(f"open for writing {args[0]}")

sys.addaudithook(watch)
import smoothdistill
done = list(deeds)
print(json.dumps({"deeds": done, "modules": sorted(set(sys.modules) - before)}))
"""

# Each of these costs from a tenth of a second to two seconds to import.
HEAVY = {
    *("IPython", "joblib", "matplotlib", "numba", "onnx", "pandas", "pyarrow", "pydantic"),
    *("rich", "scipy", "sklearn", "tensorboard", "typer"),
}


def _probe() -> dict[str, list[str]]:
    # -B: writing byte code is the interpreter's doing, not the package's.
    answer = subprocess.run(
        [sys.executable, "-B", "-c", PROBE], capture_output=True, text=True, check=True
    )
    result: dict[str, list[str]] = json.loads(answer.stdout.splitlines()[-1])
    return result


def test_import_does_nothing_and_loads_nothing_heavy() -> None:
    result = _probe()
    assert not result["deeds"], "importing must open no socket, start nothing and write nothing"
    loaded = {name.split(".")[0] for name in result["modules"]}
    assert "smoothdistill" in loaded
    assert not loaded & HEAVY, "these belong inside the functions that use them"
