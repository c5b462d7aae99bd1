"""Benchmarks: equal answers first, fair turns, and figures that are plain numbers."""

from __future__ import annotations

import math

import pytest
import torch

from smoothdistill.benchmark import BENCHMARKS, GROUPS, copy_bandwidth, run_benchmarks
from smoothdistill.benchmark.tensors import MTL_NET_SHAPES, SMALL_SHAPES, make_tensors, size_of
from smoothdistill.benchmark.timing import compare, time_in_turns
from smoothdistill.benchmark.workload import Case, Workload, check_equal_answers
from smoothdistill.models import MTLNet
from smoothdistill.workers import torch_threads


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_providers_agree_on_the_smallest_case(name):
    module = BENCHMARKS[name]
    workloads = {
        provider.name: provider.make(module.CASES[0])
        for provider in module.PROVIDERS.values()
        if provider.name != "torch.compile"
    }
    kinds = {provider.kind for provider in module.PROVIDERS.values()}
    assert {"fused", "baseline"} <= kinds
    check_equal_answers(workloads, expected=list(workloads)[-1])


def test_a_wrong_answer_is_not_timed():
    one, two = torch.ones(3), torch.ones(3)
    workloads = {
        "right": Workload(lambda: one.add_(1.0), lambda: [one]),
        "wrong": Workload(lambda: two.add_(1.1), lambda: [two]),
    }
    with pytest.raises(AssertionError, match=r"^wrong, answer 0: "):
        check_equal_answers(workloads, expected="right")


def test_the_sizes_are_those_of_the_claims():
    model = MTLNet({"activity": 18, "placement": 2})
    assert tuple(tuple(p.shape) for p in model.parameters()) == MTL_NET_SHAPES
    assert (len(SMALL_SHAPES), size_of(SMALL_SHAPES)) == (12, 34_712)


def test_the_same_seed_gives_the_same_numbers():
    first, second = (make_tensors(((3, 2), (5,)), seed=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = time_in_turns(calls, num_rounds=4, round_seconds=1e-5)
    assert all(len(timing.seconds) == 4 for timing in timings.values())
    assert all(timing.median > 0 for timing in timings.values())
    low, high = timings["a"].quartiles
    assert low <= timings["a"].median <= high
    ratio = compare(timings["a"], timings["b"])
    assert ratio.low <= ratio.median <= ratio.high


def test_a_quick_run_gives_plain_numbers_and_restores_the_threads():
    before = torch.get_num_threads()
    seen = []
    found = run_benchmarks(GROUPS["ops"], quick=True, report=seen.append)
    assert torch.get_num_threads() == before
    assert len(seen) == len(GROUPS["ops"])
    assert found["left_out"] == []
    assert all(math.isfinite(row["median_microseconds"]) for row in found["times"])
    assert {row["kind"] for row in found["ratios"]} == {"baseline", "reference"}


def test_a_baseline_that_cannot_be_made_is_left_out_with_its_reason(monkeypatch):
    def fail(case: Case) -> Workload:
        raise RuntimeError("no compiler\nmore")

    provider = BENCHMARKS["ema_update_"].PROVIDERS["_foreach_lerp_"]
    monkeypatch.setattr(type(provider), "__setattr__", object.__setattr__)
    monkeypatch.setattr(provider, "make", fail)
    found = run_benchmarks(["ema_update_"], quick=True)
    assert found["left_out"] == [
        {
            "op": "ema_update_", "case": "12 tensors of 16", "provider": "_foreach_lerp_",
            "reason": "RuntimeError: no compiler",
        }
    ]  # fmt: skip


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(ValueError, match=r"`names` must be among adam_ema_, .*, but is 'x' inst"):
        run_benchmarks(["x"])


def test_copies_have_a_bandwidth():
    assert copy_bandwidth(1 << 16) > 1e6


def test_one_thread_is_given_back_after_an_error():
    def fail():
        with torch_threads(1):
            assert torch.get_num_threads() == 1
            raise KeyError

    before = torch.get_num_threads()
    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before
