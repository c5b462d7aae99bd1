"""The catalog: every feature is computed by a kernel, under a name that nothing else has."""

from __future__ import annotations

import re

import numpy as np
import pytest

from smoothdistill.features import catalog
from smoothdistill.features.definitions import FEATURES, find
from smoothdistill.features.inputs import SAFE_NAME
from smoothdistill.features.presets import PRESETS, PRESETS_WITH_MAGNITUDE, names_of

from .engine_checks import compute

# Numbers for names that have some.
EXAMPLES = {
    "q{q}": "q12.5",
    "autocorr_lag{k}": "autocorr_lag3",
    "rolloff_{q}": "rolloff_85",
    "band_{lo}_{hi}": "band_0.3_3",
    "band_ratio_{lo}_{hi}": "band_ratio_3_8.5",
}
FAMILIES = sorted({feature.family for feature in FEATURES})
COSTLY = ("complexity", "catch22")  # seconds to compile: their own tests compute them


def example_of(name: str) -> str:
    return EXAMPLES.get(name, name)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_feature_says_what_it_is(feature) -> None:
    assert feature.formula
    assert feature.source
    # u is the signal's unit
    assert re.fullmatch(r"1|u|u\^2|Hz|rad|bits|nats|changes|turns|samples|u/s.*", feature.unit)
    assert SAFE_NAME.fullmatch(example_of(feature.name))
    assert "__" not in feature.name


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_name_leads_to_its_feature_and_to_no_other(feature) -> None:
    name = example_of(feature.name)
    found = find(name)
    assert found is not None
    assert found[0] is feature
    assert [other.name for other in FEATURES if other.pattern.match(name)] == [feature.name]


def test_names_are_different() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names)
    assert not set(names) & {*FAMILIES, *PRESETS, "bands", "uci561"}


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("q25", (25.0,)),
        ("q97.5", (97.5,)),
        ("autocorr_lag12", (12.0,)),
        ("rolloff_85", (85.0,)),
        ("band_0.3_3", (0.3, 3.0)),
        ("band_ratio_15_25", (15.0, 25.0)),
        ("mean", ()),
    ],
)
def test_numbers_in_names(name: str, numbers: tuple[float, ...]) -> None:
    found = find(name)
    assert found is not None
    assert found[1] == numbers


@pytest.mark.parametrize(
    "name",
    ["", "q", "q-5", "q1e1", "q.5", "q25 ", " mean", "means", "Mean", "x__mean", "band_1", "q{q}"],
)
def test_what_is_no_name(name: str) -> None:
    assert find(name) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_holds_features(preset: str) -> None:
    names = names_of(preset)
    assert len(set(names)) == len(names)
    assert all(name == "bands" or find(name) for name in names)


def test_presets_grow() -> None:
    assert set(PRESETS["basic"]) < set(PRESETS["har"])
    assert set(PRESETS["statistical"]) < set(PRESETS["har"])
    assert set(PRESETS["spectral"]) < set(PRESETS["har"])
    assert set(PRESETS) >= PRESETS_WITH_MAGNITUDE
    costly = {feature.name for feature in FEATURES if feature.family in COSTLY}
    assert not costly & {name for names in PRESETS.values() for name in names}


def test_the_default_presets_are_these() -> None:
    """A name that comes or goes changes every table and model that users have made with it."""
    assert {preset: len(names) for preset, names in PRESETS.items()} == {
        "basic": 10,
        "statistical": 19,
        "spectral": 15,
        "har": 55,
    }


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in PRESETS])
def test_a_family_is_its_features_without_numbers(family: str) -> None:
    names = names_of(family)
    assert names == tuple(
        feature.name for feature in FEATURES if feature.family == family and "{" not in feature.name
    )


def test_a_name_that_is_no_set_stands_for_itself() -> None:
    assert names_of("mean") == ("mean",)
    assert names_of("x__mean") == ("x__mean",)


def test_the_table_for_users() -> None:
    rows = catalog()
    assert [row["name"] for row in rows] == [feature.name for feature in FEATURES]
    assert all(list(row) == ["name", "family", "of", "formula", "unit", "source"] for row in rows)
    assert all(isinstance(value, str) and value for row in rows for value in row.values())


@pytest.mark.parametrize(
    "feature", [f for f in FEATURES if f.family not in COSTLY], ids=lambda feature: feature.name
)
def test_every_feature_is_computed(feature) -> None:
    """A name without a slot in a kernel would leave its column as the memory was before."""
    windows = 6 * np.random.default_rng(0).standard_normal((20, 3, 64))
    columns = compute(example_of(feature.name), windows)  # which sees to it that all is written
    assert len(columns) == {"channel": 4, "pair": 3, "triad": 1}[feature.of]
    for name, column in columns.items():
        assert np.isfinite(column).all(), name
        if not name.startswith("mag__zcr"):  # a norm never crosses 0
            assert np.ptp(column) > 0, name
