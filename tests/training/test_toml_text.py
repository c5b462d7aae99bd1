from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothdistill.training.toml_text import merge_overrides, parse_override, to_toml

scalars = st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(table=st.dictionaries(st.text(), values, max_size=6))
def test_round_trip_is_exact(table):
    again = tomllib.loads(to_toml(table))
    assert again == table
    assert repr(again) == repr({key: again[key] for key in again})  # 1 is not 1.0, nor is True


def test_kinds_survive():
    table = {"a": 1, "b": 1.0, "c": True, "d": -0.0, "e": 1e22, "f": 5e-324, "g": float("inf")}
    again = tomllib.loads(to_toml({"section": table}))["section"]
    assert [type(value) for value in again.values()] == [type(value) for value in table.values()]
    assert repr(again) == repr(table)


def test_layout_is_readable():
    text = to_toml({"top": 1, "data": {"name": "x", "root": None, "weights": {"a b": 0.5}}})
    assert text == 'top = 1\n\n[data]\nname = "x"\nweights = {"a b" = 0.5}\n'
    assert to_toml({}) == ""


@pytest.mark.parametrize("value", [object(), b"x", {1}])
def test_other_kinds_are_refused(value):
    with pytest.raises(TypeError, match="`value` must be a text, an integer"):
        to_toml({"key": value})


def test_keys_must_be_texts():
    with pytest.raises(TypeError, match="`key` must be a text, but is 1 instead"):
        to_toml({1: 2})


@pytest.mark.parametrize(
    ("override", "keys", "value"),
    [
        ("train.epochs=5", ["train", "epochs"], 5),
        ("train.lr=1e-3", ["train", "lr"], 1e-3),
        ("train.standardize = false", ["train", "standardize"], False),
        ("data.name=wisdm", ["data", "name"], "wisdm"),
        ("data.root=a/b=c d", ["data", "root"], "a/b=c d"),
        ('data.root="5"', ["data", "root"], "5"),
        ("split.folds=[0, 2]", ["split", "folds"], [0, 2]),
        ("method.task_weights.activity=0.7", ["method", "task_weights", "activity"], 0.7),
        ("data.root=", ["data", "root"], ""),
        ("data.root=1\nname=2", ["data", "root"], "1\nname=2"),
    ],
)
def test_override_values(override, keys, value):
    parsed = parse_override(override)
    assert parsed == (keys, value)
    assert type(parsed[1]) is type(value)


@pytest.mark.parametrize("override", ["epochs=5", "train.epochs", "=5", "train.=5", ".epochs=5"])
def test_malformed_overrides(override):
    with pytest.raises(ValueError, match=r"`--set` must be of the form section.key=value, but is"):
        parse_override(override)


def test_merge_leaves_the_original_alone_and_the_last_wins():
    table = {"train": {"epochs": 1, "lr": 0.1}}
    merged = merge_overrides(table, ["train.epochs=2", "train.epochs=3", "data.name=x"])
    assert merged == {"train": {"epochs": 3, "lr": 0.1}, "data": {"name": "x"}}
    assert table == {"train": {"epochs": 1, "lr": 0.1}}


def test_merge_does_not_lead_through_a_number():
    with pytest.raises(
        ValueError, match=r"`train.lr.x` must lead through tables only, but `train.lr`"
    ):
        merge_overrides({"train": {"lr": 0.1}}, ["train.lr.x=1"])
