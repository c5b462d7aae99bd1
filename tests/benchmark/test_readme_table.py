"""The README's tables of steps, features and methods: nothing measured is missing from them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def readme_table():
    path = Path(__file__).resolve().parents[2] / "bench" / "readme_table.py"
    spec = importlib.util.spec_from_file_location("readme_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _steps():
    place = {"layout": "axes", "batch": 64}
    kinds = {"ours, float32": "fused", "floor": "floor", "tuned": "baseline"}
    milliseconds = {"ours, float32": 20.0, "floor": 10.0, "tuned": 30.0}
    times, ratios = [], []
    for threads in (1, 2):
        for provider, kind in kinds.items():
            row = {**place, "threads": threads, "provider": provider, "kind": kind}
            times.append({**row, "median_microseconds": 1e3 * milliseconds[provider]})
            if provider == "ours, float32" or (provider == "tuned" and threads == 2):
                continue
            ratio = milliseconds[provider] / 20.0
            ratios.append(
                {
                    **row, "provider": "ours, float32", "against": provider, "ratio": ratio,
                    "ratio_low": 0.8 * ratio, "ratio_high": 1.25 * ratio,
                }
            )  # fmt: skip
    return {"times": times, "ratios": ratios, "left_out": []}


def test_a_rival_has_its_ratio_and_a_floor_the_distance_to_it(readme_table):
    lines = readme_table.step_table(_steps()).splitlines()
    assert lines == [
        "| layout | batch | threads | ours, float32 | tuned | floor |",
        "|---|--:|--:|--:|--:|--:|",
        "| axes | 64 | 1 | 20.00 | 30.00: **1.50** (1.20 to 1.88) | 10.00: *2.00* (1.60 to 2.50) |",
        "| axes | 64 | 2 | 20.00 |  | 10.00: *2.00* (1.60 to 2.50) |",
    ]


def test_a_number_format_has_its_own_floor(readme_table):
    place = {"layout": "axes", "batch": 64, "threads": 1}
    milliseconds = {
        "ours, float32": 20.0, "ours, bfloat16": 16.0, "floor": 10.0, "floor, bfloat16": 8.0
    }  # fmt: skip
    kinds = {name: name.split(",")[0].replace("ours", "fused") for name in milliseconds}
    times = [
        {**place, "provider": name, "kind": kinds[name], "median_microseconds": 1e3 * each}
        for name, each in milliseconds.items()
    ]
    ratios = [
        {**place, "provider": ours, "against": other, "ratio": each / milliseconds[ours],
         "ratio_low": each / milliseconds[ours], "ratio_high": each / milliseconds[ours]}
        for ours in ("ours, float32", "ours, bfloat16")
        for other, each in milliseconds.items() if other != ours
    ]  # fmt: skip
    steps = {"times": times, "ratios": ratios, "left_out": []}
    first = readme_table.step_table(steps).splitlines()
    assert first[0] == "| layout | batch | threads | ours, float32 | ours, bfloat16 | floor |"
    second = readme_table.step_table(steps, "ours, bfloat16").splitlines()
    assert second[0::2] == [
        "| layout | batch | threads | ours, bfloat16 | ours, float32 | floor, bfloat16 |",
        "| axes | 64 | 1 | 16.00 | 20.00: **1.25** (1.25 to 1.25) | 8.00: *2.00* (2.00 to 2.00) |",
    ]


def test_costs_have_a_row_for_each_method_and_a_column_for_each_precision(readme_table):
    rows = [
        {"method": method, "precision": precision, "milliseconds": milliseconds,
         "ratio": milliseconds / 10.0, "ratio_low": 0.5, "ratio_high": 2.0}
        for precision, times in (("float32", (10.0, 12.7)), ("bfloat16", (8.0, 9.0)))
        for method, milliseconds in zip(("multitask", "multitask, alone"), times, strict=True)
    ]  # fmt: skip
    about = {"processor": "Abacus", "simd_level": "wood", "torch": "2.13"}
    lines = readme_table.costs_table({"methods": rows, "machine": about}).splitlines()
    assert lines[0] == (
        "| a step by | float32, ms | times `multitask` | bfloat16, ms | times `multitask` |"
    )
    assert lines[2:] == [
        "| `multitask` | 10.0 | **1.00** (0.50 to 2.00) | 8.0 | **0.80** (0.50 to 2.00) |",
        "| multitask, alone | 12.7 | **1.27** (0.50 to 2.00) | 9.0 | **0.90** (0.50 to 2.00) |",
        "",
        "Abacus, wood kernels, torch 2.13, one thread.",
    ]


def _features():
    place = {"workload": "dense", "num_features": 17, "num_windows": 16_666, "also": ""}
    errors = {"variance": 2e-16, "variance, after a glitch": 1e-15, "skew, after a glitch": 0.0}
    times = [
        {
            **place, "provider": provider, "is_ours": provider.startswith("ours"),
            "median_nanoseconds": nanoseconds, "shown_errors": {**errors, "variance": error},
        }
        for provider, nanoseconds, error in (
            ("slow", 123_456.7, None), ("ours, float64", 61.25, 2e-16), ("quick", 42.0, 0.5),
            ("ours, float32", 50.0, 3e-8),
        )
    ]  # fmt: skip
    ratios = [
        {
            "workload": "dense", "provider": "ours, float64", "against": against,
            "ratio": ratio, "ratio_low": 0.8 * ratio, "ratio_high": 1.25 * ratio,
        }
        for against, ratio in (("slow", 2469.1), ("quick", 0.84))
    ]  # fmt: skip
    return {"times": times, "ratios": ratios, "left_out": [{"provider": "b", "reason": "no b"}]}


def test_features_have_ours_first_and_keep_the_row_that_we_lose(readme_table):
    lines = readme_table.features_tables(_features()).splitlines()
    assert lines == [
        "| dense | values | windows | ns | ours, float64 | ours, float32 | variance "
        "| variance, after a glitch |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        "| ours, float64 | 17 | 16,666 | 61.2 |  |  | 2e-16 | 1e-15 |",
        "| ours, float32 | 17 | 16,666 | 50.0 |  |  | 3e-08 | 1e-15 |",
        "| quick | 17 | 16,666 | 42.0 | **0.84** (0.67 to 1.05) |  | 5e-01 | 1e-15 |",
        "| slow | 17 | 16,666 | 123,457 | **2,469** (1,975 to 3,086) |  |  | 1e-15 |",
    ]


def test_notes_on_features_name_versions_and_what_is_left_out(readme_table):
    machine = {"processor": "P", "python": "3.11", "packages": {"numpy": "2.3", "aeon": None}}
    notes = readme_table.features_notes({"machine": machine, "features": _features()})
    assert notes.endswith(" P, Python 3.11, numpy 2.3. Left out: b (no b).\n")


def test_only_what_lies_between_the_marks_is_replaced(readme_table):
    text = f"a\n{readme_table.STEP_BEGIN}old\n{readme_table.STEP_END}b\n"
    found = readme_table.replaced(text, readme_table.STEP_BEGIN, readme_table.STEP_END, "new\n")
    assert found == text.replace("old", "new")


def test_the_readme_has_both_pairs_of_marks(readme_table):
    text = readme_table.README.read_text(encoding="utf-8")
    marks = (
        readme_table.BEGIN, readme_table.END, readme_table.STEP_BEGIN, readme_table.STEP_END,
    )  # fmt: skip
    assert [text.count(mark) for mark in marks] == [1, 1, 1, 1]
    assert [text.index(mark) for mark in marks] == sorted(text.index(mark) for mark in marks)
