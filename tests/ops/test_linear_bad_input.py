"""What the native products refuse, in one sentence and before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from smoothdistill.ops import _backend
from smoothdistill.ops.linear import (
    AdamNumbers,
    LinearProducts,
    available_products,
    make_products,
    require_products,
)

from .guarded import same_bits

CORE = _backend.cpu_kernels()
ADAM = AdamNumbers(1e-3, 0.9, 0.999, 1e-8, 0.0, False, 0.99)

X, W, B, DY = torch.ones(2, 17, 32), torch.ones(5, 17), torch.ones(5), torch.ones(2, 5, 32)
X16, DY4 = X[:, :16].clone(), DY[:, :4].clone()  # a feature less
BAD_FORWARD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "x": (
        {"x": X16},
        ValueError,
        r"`x` must have the shape \[any, 17, any\], but has",
    ),
    "flat x": ({"x": X[0]}, ValueError, r"`x` must have the shape \[any, 17, any\], but has"),
    "weight": ({"weight": W[0]}, ValueError, r"`weight` must have the shape \[any, any\], but has"),
    "bias": ({"bias": B[:4]}, ValueError, r"`bias` must have the shape \[5\], but has"),
    "y": ({"y": DY4}, ValueError, r"`y` must have the shape \[2, 5, 32\], but has"),
    "dtype": ({"weight": W.double()}, TypeError, r"`weight` must be float32, but is float64"),
    "strides": (
        {"x": torch.ones(2, 32, 17).transpose(1, 2)},
        ValueError,
        r"`x` must be contiguous",
    ),
    "columns": (
        {"x": torch.ones(2, 17, 24), "y": torch.zeros(2, 5, 24)},
        ValueError,
        r"`columns` must be 1 or a multiple of 16, but is 24 instead",
    ),
    "a list": ({"x": [1.0]}, TypeError, r"`x` must be a torch.Tensor .*, but is list instead"),
}


@pytest.mark.parametrize("name", BAD_FORWARD)
def test_a_forward_that_does_not_fit_writes_nothing(name: str) -> None:
    changes, error, sentence = BAD_FORWARD[name]
    call = {"x": X, "weight": W, "bias": B, "relu": True, "y": torch.full_like(DY, 7.0)} | changes
    _refused(make_products("native").forward, call, error, sentence, ["y"])


BAD_BACKWARD_INPUT: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "dy": (
        {"dy": DY4},
        ValueError,
        r"`dy` must have the shape \[any, 5, any\], but has",
    ),
    "gate": ({"gate": X[:1]}, ValueError, r"`gate` must have the shape \[2, 17, 32\], but has"),
    "dx": (
        {"dx": X16},
        ValueError,
        r"`dx` must have the shape \[2, 17, 32\], but has",
    ),
    "dtype": ({"gate": X > 0}, TypeError, r"`gate` must be float32, but is bool"),
    "one column": (
        {"dy": torch.ones(1, 5, 1), "gate": None, "dx": torch.zeros(1, 17, 1)},
        ValueError,
        r"`columns` must be a multiple of 16, but is 1 instead",
    ),
}


@pytest.mark.parametrize("name", BAD_BACKWARD_INPUT)
def test_a_backward_input_that_does_not_fit_writes_nothing(name: str) -> None:
    changes, error, sentence = BAD_BACKWARD_INPUT[name]
    call = {"dy": DY, "weight": W, "gate": X, "accumulates": False, "dx": torch.full_like(X, 7.0)}
    _refused(make_products("native").backward_input, call | changes, error, sentence, ["dx"])


BAD_BACKWARD_WEIGHT: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "dy": (
        {"dy": DY4},
        ValueError,
        r"`dy` must have the shape \[2, 5, 32\], but has",
    ),
    "x": (
        {"x": X16},
        ValueError,
        r"`x` must have the shape \[any, 17, any\], but has",
    ),
    "db": ({"db": torch.zeros(4)}, ValueError, r"`db` must have the shape \[5\], but has"),
    "dtype": ({"x": X.double()}, TypeError, r"`x` must be float32, but is float64"),
    "one column": (
        {"dy": torch.ones(1, 5, 1), "x": torch.ones(1, 17, 1)},
        ValueError,
        r"`columns` must be a multiple of 16, but is 1 instead",
    ),
}


@pytest.mark.parametrize("name", BAD_BACKWARD_WEIGHT)
def test_a_backward_weight_that_does_not_fit_writes_nothing(name: str) -> None:
    changes, error, sentence = BAD_BACKWARD_WEIGHT[name]
    call = {"dy": DY, "x": X, "dw": torch.full_like(W, 7.0), "db": torch.full_like(B, 7.0)}
    native = make_products("native")
    _refused(native.backward_weight, call | changes, error, sentence, ["dw", "db"])


BAD_UPDATE: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    **{
        name: values
        for name, values in BAD_BACKWARD_WEIGHT.items()
        if name in ("dy", "x", "dtype", "one column", "db")
    },
    "teacher": (
        {"teacher": W[:4].clone()},
        ValueError,
        r"`teacher` must have the shape \[5, 17\], but has",
    ),
    "moment": (
        {"exp_avg": torch.zeros(17, 5)},
        ValueError,
        r"`exp_avg` must have the shape \[5, 17\], but has",
    ),
    "moment's type": (
        {"exp_avg_sq": torch.zeros(5, 17, dtype=torch.float64)},
        TypeError,
        r"`exp_avg_sq` must be float32, but is float64",
    ),
    "step": (
        {"step": torch.zeros((), dtype=torch.int64)},
        TypeError,
        r"`step` must be one float32 element, but is int64",
    ),
    "steps": ({"step": torch.zeros(2)}, TypeError, r"`step` must be one float32 element, but is"),
}


@pytest.mark.parametrize("name", BAD_UPDATE)
def test_an_update_that_does_not_fit_writes_nothing(name: str) -> None:
    changes, error, sentence = BAD_UPDATE[name]
    call = {
        "dy": DY, "x": X, "weight": W.clone(), "exp_avg": torch.zeros_like(W),
        "exp_avg_sq": torch.zeros_like(W), "teacher": W.clone(), "step": torch.zeros(()),
        "db": torch.full_like(B, 7.0),
    } | changes  # fmt: skip

    def update(exp_avg: Tensor, exp_avg_sq: Tensor, step: Tensor, **others: Any) -> None:
        state = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "step": step}
        make_products("native").update_(state=state, numbers=ADAM, **others)

    written = ["weight", "exp_avg", "exp_avg_sq", "teacher", "step", "db"]
    _refused(update, call, error, sentence, written)


def _refused(
    call: Any, arguments: dict[str, Any], error: type[Exception], sentence: str, written: list[str]
) -> None:
    if CORE is None:
        pytest.skip("needs the compiled kernels")
    before = {name: arguments[name].clone() for name in written}
    with pytest.raises(error, match=sentence) as caught:
        call(**arguments)
    assert "\n" not in str(caught.value)
    assert " instead" in str(caught.value)
    for name, tensor in before.items():
        assert same_bits(arguments[name], tensor)


def test_too_little_memory_for_the_panels_is_refused() -> None:
    if CORE is None:
        pytest.skip("needs the compiled kernels")
    with pytest.raises(ValueError, match=r"`panels` must hold at least 4096 elements, but holds 9"):
        CORE.linear_backward_weight(DY, X, torch.empty(9), torch.empty_like(W), torch.empty(5))


def test_an_unknown_library_is_refused() -> None:
    names = ", ".join(available_products())
    with pytest.raises(ValueError, match=rf"`products` must be one of {names}, but is 'mkl' inst"):
        make_products("mkl")
    with pytest.raises(ValueError, match=rf"`x` must be one of {names}, but is 'bfloat16' instead"):
        require_products("x", "bfloat16")


def test_without_kernels_the_native_products_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from smoothdistill.ops import linear

    monkeypatch.setattr(linear, "cpu_kernels", lambda: None)
    assert "native" not in available_products()
    with pytest.raises(ValueError, match=r"must be 'blas' or 'onednn' where the kernels"):
        LinearProducts()
