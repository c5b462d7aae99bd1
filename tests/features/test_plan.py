"""From names to columns: which ones, in which order, of which channels, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from smoothdistill.features.plan import Triad, find_triads, make_plan
from smoothdistill.features.presets import PRESETS

from .engine_checks import CHANNELS, compute, differing, make_windows, same_bits

XYZ = ("x", "y", "z")
TWO_TRIADS = CHANNELS[6]
BANDS = ((0.3, 3.0), (3.0, 8.0))
NUMBERED = ("q10", "autocorr_lag1", "autocorr_lag5")


def test_channels_come_one_after_the_other_then_pairs_and_triads() -> None:
    plan = make_plan(["sma", "mean", "corr", "q25", "enmo"], XYZ)
    assert plan.names == (
        *("x__mean", "x__q25", "y__mean", "y__q25", "z__mean", "z__q25"),
        "xyz__sma",
        *("corr_x_y", "corr_x_z", "corr_y_z"),
        "xyz__enmo",
    )


def test_norms_come_behind_the_channels() -> None:
    plan = make_plan(["mean", "enmo"], TWO_TRIADS, magnitude=True)
    assert plan.names == (
        *(f"{name}__mean" for name in TWO_TRIADS),
        *("acc_mag__mean", "gyr_mag__mean"),
        *("acc__enmo", "gyr__enmo"),
    )
    assert plan.num_norms == 2
    assert make_plan("mean", XYZ, magnitude=True).names[-1] == "mag__mean"


@pytest.mark.parametrize(
    ("preset", "has_norm"), [("basic", False), ("statistical", False), ("har", True)]
)
def test_a_preset_says_whether_the_norm_is_a_channel(preset: str, has_norm: bool) -> None:
    assert ("mag__mean" in make_plan(preset, XYZ, bands=BANDS).names) == has_norm
    assert "mag__mean" not in make_plan(preset, XYZ, bands=BANDS, magnitude=False).names
    assert "mag__mean" in make_plan(preset, XYZ, bands=BANDS, magnitude=True).names


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("num_channels", CHANNELS)
def test_every_preset_for_every_number_of_channels(num_channels: int, preset: str) -> None:
    names = make_plan(preset, CHANNELS[num_channels], bands=BANDS).names
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)


def test_har_of_an_accelerometer_has_about_sixty_columns_for_each_axis() -> None:
    names = make_plan("har", XYZ, bands=BANDS).names
    of_x = [name for name in names if name.startswith("x__")]
    assert len(of_x) == 31 + 14 + len(BANDS)
    assert len(names) == 4 * len(of_x) + 3 + 8


def test_bands_stand_for_the_edges() -> None:
    names = make_plan("spectral", ["x"], bands=BANDS).names
    assert [name for name in names if "band" in name] == ["x__band_0.3_3", "x__band_3_8"]


@pytest.mark.parametrize("edge", [0.1234567, 16.66665, 1234567.5, 1e-5])
def test_edges_keep_all_their_digits(edge: float) -> None:
    """A band is what it is called: six digits of its edge would be another band."""
    plan = make_plan("spectral", ["x"], bands=[(0.0, edge)])
    (band,) = (column for column in plan.columns if "band" in column.name)
    assert band.numbers == (0.0, edge)


def test_what_is_asked_for_twice_is_there_once() -> None:
    plan = make_plan(["mean", "basic", "x__mean", "mean", "corr_x_y"], XYZ)
    assert len(set(plan.names)) == len(plan.names)
    assert plan.names[:2] == ("x__mean", "x__std")


@pytest.mark.parametrize(
    "names",
    [
        ["q25", "q25.0"],
        ["q25", "q025"],
        ["autocorr_lag2", "autocorr_lag02"],
        ["autocorr_lag1", "autocorr_lag01"],
        ["band_0.3_3", "band_0.30_3.0"],
        ["rolloff_85", "rolloff_85.0"],
    ],
)
def test_one_number_in_two_spellings(names: list[str]) -> None:
    """Each column is filled, or there is one column only: none keeps what was in memory."""
    windows = make_windows(17, 1, 40)[0]
    for column in compute(names, windows).values():
        assert same_bits(column, compute(names[0], windows)[f"x__{names[0]}"])


def test_columns_of_one_channel() -> None:
    plan = make_plan(["z__mean", "x__q25", "mag__max", "xyz__enmo", "corr_z_x", "corr_x_y"], XYZ)
    assert plan.names == ("z__mean", "x__q25", "mag__max", "xyz__enmo", "corr_z_x", "corr_x_y")
    assert [column.signal for column in plan.columns[:3]] == [2, 0, 3]
    assert [column.pair for column in plan.columns[4:]] == [(2, 0), (0, 1)]


def test_norms_that_no_column_needs_are_not_computed() -> None:
    assert make_plan("basic", TWO_TRIADS).num_norms == 0
    assert make_plan(["sma", "roll"], TWO_TRIADS).num_norms == 0
    plan = make_plan(["gyr__mad_mag", "acc__sma"], TWO_TRIADS)
    assert plan.num_norms == 1
    assert [triad.label for triad in plan.triads] == ["gyr", "acc"]
    assert [column.triad for column in plan.columns] == [0, 1]
    plan = make_plan(["gyr_mag__mean"], TWO_TRIADS)
    assert (plan.num_norms, plan.columns[0].signal) == (1, 6)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (XYZ, [Triad("xyz", (0, 1, 2))]),
        (("z", "y", "x"), [Triad("xyz", (2, 1, 0))]),
        (("X", "Y", "Z"), [Triad("xyz", (0, 1, 2))]),
        (("acc_x", "acc_y", "acc_z"), [Triad("acc", (0, 1, 2))]),
        (("Acc_X", "Acc_Y", "Acc_Z"), [Triad("Acc", (0, 1, 2))]),
        (("left_acc_x", "left_acc_y", "left_acc_z"), [Triad("left_acc", (0, 1, 2))]),
        (CHANNELS[7], [Triad("gyr", (3, 6, 0)), Triad("acc", (4, 1, 5))]),
        (("acc_x", "acc_y"), []),
        (("ax", "ay", "az"), []),
        (("acc_x", "gyr_y", "acc_z"), []),
        (("box", "boy", "boz"), []),
    ],
)
def test_triads_are_found_by_name(names: tuple[str, ...], expected: list[Triad]) -> None:
    assert list(find_triads(names)) == expected


def test_triads_may_be_given() -> None:
    plan = make_plan(
        ["mean", "sma"], ["a", "b", "c"], triads=[Triad("foot", (2, 0, 1))], magnitude=True
    )
    assert plan.names == ("a__mean", "b__mean", "c__mean", "foot_mag__mean", "foot__sma")
    assert plan.triads[0].axes == (2, 0, 1)


def test_a_channel_that_is_called_as_a_norm_is_itself() -> None:
    """An app that records x, y, z and its own mag: the column of mag is of what it recorded."""
    names = ["x", "y", "z", "mag"]
    plan = make_plan("mean", names)
    assert [column.signal for column in plan.columns] == [0, 1, 2, 3]
    windows = make_windows(5, 7, 20)[0][:, :4]
    got = compute("mean", windows, channel_names=names, magnitude=False)
    assert got["mag__mean"] == pytest.approx(windows[:, 3].mean(1), rel=1e-5, abs=1e-6)


def test_norms_beside_a_channel_that_is_called_as_one() -> None:
    """However the clash is settled, no two norms are one signal."""
    names = ["x", "y", "z", "mag", "gyr_x", "gyr_y", "gyr_z"]
    windows = make_windows(5, 7, 20)[0]
    got = compute("max", windows, channel_names=names, magnitude=True)
    norms = np.sqrt((windows[:, 4:].astype(float) ** 2).sum(1))
    assert got["gyr_mag__max"] == pytest.approx(norms.max(1), rel=1e-6)


def test_no_pair_is_lost_to_a_name() -> None:
    """The pairs (a, b_c) and (a_b, c) would both be called corr_a_b_c."""
    names = ["a", "a_b", "b_c", "c"]
    assert len(make_plan("corr", names).names) == 6


def test_no_triad_is_lost_to_a_name() -> None:
    names = ["x", "y", "z", "xyz_x", "xyz_y", "xyz_z"]
    assert len(make_plan("sma", names).names) == 2


@pytest.mark.parametrize("num_channels", [1, 2, 3, 6, 7])
def test_a_part_computes_the_same(num_channels: int) -> None:
    """What `nan_policy="omit"` relies on: the columns of some channels, of these channels alone."""
    names = CHANNELS[num_channels]
    plan = make_plan(["mean", "median", "corr", "enmo", "pitch"], names, magnitude=True)
    found: list[int] = []
    for channels in {plan.inputs(column) for column in plan.columns}:
        places, part = plan.part(channels)
        assert part.num_channels == len(channels)
        assert [plan.names[place] for place in places] == list(part.names)
        found += places
        for column in part.columns:
            assert all(0 <= n < len(channels) for n in part.inputs(column))
    assert sorted(found) == list(range(len(plan.columns)))


def test_asking_for_less_changes_no_bit() -> None:
    windows = make_windows(33, 7, 40)[0]
    whole = compute(["moments", "order", "temporal", "cross_channel", *NUMBERED], windows)
    for names in (
        ["acc_x__kurtosis"],
        ["order"],
        ["moments", "ar3"],
        ["corr"],
        ["gyr__mad_mag", "acc__sma", "pressure__q10"],
        ["acc_mag__hist_entropy", "autocorr_lag5", "autocorr_lag1"],
    ):
        got = compute(names, windows)
        assert not differing(got, {name: whole[name] for name in got})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("nope", r"`features` must hold names of .*, but has 'nope' instead\."),
        ("means", r"has 'means' instead\. Did you mean 'mean'"),
        (["mean", "x__nope"], r"but has 'nope' instead\."),
        ("w__mean", r"but has 'w__mean' instead\. Did you mean .*'x__mean'"),
        ("x__sma", r"but has 'x__sma' instead\. Did you mean 'xyz__sma'\?"),
        ("acc__sma", r"but has 'acc__sma' instead\."),
        ("corr_x_w", r"but has 'corr_x_w' instead\. Did you mean 'corr_x_"),
        ("corr_x_x", r"but has 'corr_x_x' instead\."),
        ("", r"but has '' instead\."),
        ([], r"`features` must name at least 1 feature .*, but is \[\] instead\."),
        ("q0", r"`features` must ask for a percentile inside \(0, 100\), but has 'q0' instead\."),
        ("q100", r"a percentile inside \(0, 100\), but has 'q100' instead\."),
        ("autocorr_lag0", r"a lag of whole samples, at least 1, but has 'autocorr_lag0' instead\."),
        ("autocorr_lag1.5", r"a lag of whole samples, .* but has 'autocorr_lag1\.5' instead\."),
        ("rolloff_0", r"a share inside \(0, 100\] percent, but has 'rolloff_0' instead\."),
        ("rolloff_101", r"a share inside \(0, 100\] percent, but has 'rolloff_101' instead\."),
        (
            "band_3_3",
            r"a band whose lower edge is below the upper one, but has 'band_3_3' instead\.",
        ),
        ("x__band_8_3", r"a band whose lower edge .*, but has .*band_8_3' instead\."),
        ("band_ratio_8_3", r"a band whose lower edge .*, but has 'band_ratio_8_3' instead\."),
    ],
)
def test_what_cannot_be_computed(features: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(features, XYZ)  # type: ignore[arg-type]


@pytest.mark.parametrize("features", [5, None, ["mean", 3], [["mean"]]])
def test_what_are_no_names(features: object) -> None:
    with pytest.raises(TypeError, match=r"`features` must be .*, but "):
        make_plan(features, XYZ)  # type: ignore[arg-type]


def test_no_triad_for_a_feature_of_triads() -> None:
    with pytest.raises(
        ValueError, match=r"must name at least 1 feature that the channels \['a', 'b'\] have"
    ):
        make_plan(["sma", "pitch"], ["a", "b"])


def test_one_channel_has_no_pair() -> None:
    assert make_plan(["mean", "corr"], ["x"]).names == ("x__mean",)
    with pytest.raises(ValueError, match="must name at least 1 feature"):
        make_plan("corr", ["x"])
