"""Pairs and triads of channels: parity with the reference, and postures with a known angle."""

from __future__ import annotations

import numpy as np
import pytest

from smoothdistill.features import families
from smoothdistill.features.kernels.cross_channel import TRIAD
from smoothdistill.reference.features.cross_channel import triad_features

from .engine_checks import (
    BATCHES,
    CHANNELS,
    WIDTHS,
    check_parity,
    compute,
    make_windows,
    names_of_family,
    norm_of,
    same_bits,
)
from .error_bounds import SINGLE_U, U

FAMILY = names_of_family("cross_channel")
GRAVITY = 9.80665


def posture(x: float, y: float, z: float, window_samples: int = 20) -> np.ndarray:
    """One window of a sensor at rest."""
    return np.broadcast_to(np.array([x, y, z], float)[None, :, None], (1, 3, window_samples)).copy()


def test_the_kernel_has_the_features_of_the_family() -> None:
    assert set(FAMILY) == {"corr", *TRIAD}
    assert set(triad_features(np.ones((1, 3, 4)), gravity=1.0)) == set(TRIAD)


@pytest.mark.parametrize("window_samples", WIDTHS)
def test_every_window_length(window_samples: int) -> None:
    check_parity("cross_channel", 17, 3, window_samples)


@pytest.mark.parametrize("num_channels", [2, 3, 6, 7])
@pytest.mark.parametrize("num_windows", BATCHES)
def test_every_number_of_windows_and_channels(num_windows: int, num_channels: int) -> None:
    check_parity("cross_channel", num_windows, num_channels, 29)


@pytest.mark.parametrize("gravity", [1.0, GRAVITY])
def test_the_unit_of_acceleration(gravity: float) -> None:
    check_parity("cross_channel", 33, 3, 12, gravity=gravity)


def test_a_correlation_with_nothing_is_zero_if_asked_for() -> None:
    check_parity("cross_channel", 17, 3, 9, undefined=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_channels", [3, 6, 7])
def test_the_norm_of_a_triad(num_channels: int, dtype: type) -> None:
    """It is stored in the dtype of the samples: its square and its root round once each."""
    windows = make_windows(20, num_channels, 23)[0].astype(dtype)
    roundoff = SINGLE_U if dtype is np.float32 else U
    names = CHANNELS[num_channels]
    got = compute(["min", "max"], windows, magnitude=True)
    triads = {3: {"mag": "xyz"}}.get(num_channels, {"acc_mag": "acc", "gyr_mag": "gyr"})
    for norm_name, stem in triads.items():
        axes = [names.index(axis if stem == "xyz" else f"{stem}_{axis}") for axis in "xyz"]
        samples = windows[:, axes].astype(np.float64)
        truth = np.sqrt((samples**2).sum(1))
        for name, extreme in (("min", truth.min(1)), ("max", truth.max(1))):
            # half of a relative error is left of the square's, and one is of the root
            assert got[f"{norm_name}__{name}"] == pytest.approx(extreme, rel=1.5 * roundoff + 3 * U)
        assert np.array_equal(got[f"{norm_name}__max"], norm_of(windows[:, axes]).max(1))


def test_a_norm_that_no_column_shows_is_there_for_those_that_need_it() -> None:
    windows = make_windows(20, 6, 23)[0]
    alone = compute(["gyr__mad_mag"], windows)
    beside = compute(["acc__sma", "gyr__mad_mag", "acc_mag__mean"], windows)
    assert same_bits(alone["gyr__mad_mag"], beside["gyr__mad_mag"])
    assert same_bits(compute(["acc__sma"], windows)["acc__sma"], beside["acc__sma"])


def test_postures() -> None:
    """Angles of a sensor at rest to its axes, pitch about y and roll about x."""
    half = np.pi / 2
    for (x, y, z), expected in {
        (0, 0, 9.81): {"pitch": 0, "roll": 0, "angle_x": half, "angle_y": half, "angle_z": 0},
        (0, 0, -9.81): {"pitch": 0, "roll": np.pi, "angle_z": np.pi},
        (9.81, 0, 0): {"pitch": -half, "angle_x": 0, "angle_y": half, "angle_z": half},
        (-9.81, 0, 0): {"pitch": half, "angle_x": np.pi},
        (0, 9.81, 0): {"pitch": 0, "roll": half, "angle_y": 0},
        (0, -9.81, 0): {"pitch": 0, "roll": -half, "angle_y": np.pi},
        (0, 5, 5): {"roll": half / 2, "angle_y": half / 2, "angle_z": half / 2},
        (5, 0, 5): {"pitch": -half / 2, "angle_x": half / 2, "angle_z": half / 2},
    }.items():
        got = compute("cross_channel", posture(x, y, z))
        for name, angle in expected.items():
            assert got[f"xyz__{name}"] == pytest.approx(angle, abs=4 * U * np.pi), (x, y, z, name)


@pytest.mark.parametrize("tilt", [1e-9, 1e-6, 1e-3])
def test_a_small_tilt_keeps_its_digits(tilt: float) -> None:
    """An arc cosine would lose half of them."""
    got = compute(["angle_z", "roll"], posture(0, 9.81 * np.sin(tilt), 9.81 * np.cos(tilt)))
    assert got["xyz__angle_z"] == pytest.approx(tilt, rel=1e-13)
    assert got["xyz__roll"] == pytest.approx(tilt, rel=1e-13)


def test_enmo_in_either_unit() -> None:
    """What exceeds 1 g counts, what falls short of it does not make up for it."""
    norms = np.array([0.5, 1.0, 1.5, 2.0])
    windows = np.zeros((1, 3, 4))
    windows[0, 2] = norms
    in_g = compute("enmo", windows, gravity=1.0)["xyz__enmo"]
    in_metres = compute("enmo", windows * GRAVITY, gravity=GRAVITY)["xyz__enmo"]
    assert in_g == pytest.approx(0.375, rel=4 * U)
    assert in_metres == pytest.approx(0.375 * GRAVITY, rel=16 * U)


def test_correlation_of_what_is_alike() -> None:
    samples = np.random.default_rng(0).standard_normal((20, 50))
    windows = np.stack([samples, 9.81 - 3 * samples, samples + 100], axis=1)
    got = compute("corr", windows, channel_names=["a", "b", "c"])
    # 150 roundings or so in each sum, and 100 + x has lost two digits of x.
    assert got["corr_a_b"] == pytest.approx(-1, abs=200 * U)
    assert got["corr_a_c"] == pytest.approx(1, abs=200 * U * 100)
    assert (np.abs(got["corr_a_b"]) <= 1 + 8 * U).all()


def test_correlation_with_a_constant_is_undefined() -> None:
    windows = np.random.default_rng(1).standard_normal((4, 2, 20))
    windows[1, 0] = 0.1
    windows[2] = -9.81
    got = compute("corr", windows)["corr_c0_c1"]
    assert np.isnan(got).tolist() == [False, True, True, False]
    got = compute("corr", windows, undefined=0.0)["corr_c0_c1"]
    assert got[[1, 2]].tolist() == [0, 0]


def test_order_of_a_pair_does_not_matter() -> None:
    windows = make_windows(20, 3, 31)[0]
    got = compute(["corr_x_z", "corr_z_x"], windows)
    assert same_bits(got["corr_x_z"], got["corr_z_x"])


def test_the_public_function() -> None:
    windows = np.random.default_rng(2).standard_normal((5, 3, 30))
    got = families.cross_channel(windows)
    values = triad_features(windows, gravity=GRAVITY)
    assert set(got) == {"corr_x_y", "corr_x_z", "corr_y_z", *(f"xyz__{name}" for name in TRIAD)}
    for name, column in values.items():
        assert got[f"xyz__{name}"] == pytest.approx(column, rel=1e-12), name
    in_g = families.cross_channel(windows, acceleration_unit="g")
    assert in_g["xyz__enmo"] == pytest.approx(triad_features(windows, gravity=1.0)["enmo"])
    pair = families.cross_channel(windows[:, :2], channel_names=["left", "right"])
    assert same_bits(pair["corr_left_right"], got["corr_x_y"])
