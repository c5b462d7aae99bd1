"""`bench/gpu.py` runs; what it measures needs a GPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_script_runs_without_a_gpu(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("gpu", REPOSITORY / "bench" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.main([str(tmp_path / "cpu.json"), "--device", "cpu", "--quick"])
    content = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    rows = content["rows"]
    assert content["environment"]["device"] == "cpu"
    assert {row["provider"] for row in rows} == {
        "ours, float32", "ours, general path", "published form", "tuned PyTorch", "adam_ema_",
        "ours, batches on the device", "side by side", "one after the other",
        "adam_ema_, bfloat16 weights", "Adam(fused) + _foreach_lerp_",
        "copy of as many numbers", "multitask_kd_loss",
    }  # fmt: skip
    assert all(row["microseconds"] > 0.0 and row["ratio"] > 0.0 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
