"""Small files in the public layouts, the real recordings, and a cache folder of the test's own."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

WISDM_LETTERS = "ABCDEFGHIJKLMOPQRS"


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SMOOTHDISTILL_CACHE", str(folder))
    return folder


def _signal(
    seed: int, num_rows: int, num_channels: int = 3, gravity: float = 9.80665
) -> np.ndarray:
    signal = np.random.default_rng(seed).normal(0.0, 0.5, (num_rows, num_channels))
    signal[:, 0] += gravity
    return signal.round(6)


def write_wisdm(root: Path) -> Path:
    for device in ("phone", "watch"):
        folder = root / "raw" / device / "accel"
        folder.mkdir(parents=True)
        for subject in (1600, 1601):
            lines = []
            for block, letter in enumerate("AS"):
                start = 90_426_708_196_641 - 10**12 * block
                for row, (x, y, z) in enumerate(_signal(subject + block, 250)):
                    lines.append(f"{subject},{letter},{start + 50_000_000 * row},{x},{y},{z};\n")
            name = f"data_{subject}_accel_{device}.txt"
            (folder / name).write_bytes("".join(lines).encode())
    return root


def wisdm_v1_1_rows() -> list[str]:
    """Rows of two users, without line ends: a gap, a tie, a duplicate and rows without a time."""
    rows = []
    for user, activity in ((33, "Jogging"), (7, "Walking")):
        time = 49_105_962_326_000
        for row, (x, y, z) in enumerate(_signal(user, 240)):
            time += 3_000_000_000 if row == 120 else 50_000_000
            rows.append(f"{user},{activity},{time},{x},{y},{z}")
        rows.append(rows[-1])
        rows.append(f"{user},{activity},0,0,0,0.0")
        rows.append(f"{user},{activity},{time},1.5,9.5,2.5")
    return rows


def write_wisdm_v1_1(root: Path) -> Path:
    for user in (33, 7):
        rows = [row for row in wisdm_v1_1_rows() if row.startswith(f"{user},")]
        text = "\n".join(["user,activity,timestamp,x,y,z", *rows]) + "\n"
        (root / f"wisdm_subject{user}.csv").write_bytes(text.encode())
    return root


def write_hapt(root: Path) -> Path:
    raw = root / "RawData"
    raw.mkdir(parents=True)
    labels = []
    for experiment, user in ((1, 1), (2, 1), (3, 2)):
        name = f"exp{experiment:02d}_user{user:02d}.txt"
        for sensor, gravity in (("acc", 1.0), ("gyro", 0.0)):
            signal = 0.05 * _signal(experiment, 600, gravity=0.0) + [gravity, 0.0, 0.0]
            text = "".join(" ".join(map(repr, row)) + " \n" for row in signal.tolist())
            (raw / f"{sensor}_{name}").write_bytes(text.encode())
        labels += [f"{experiment} {user} 5 20 300", f"{experiment} {user} 7 301 340"]
        labels += [f"{experiment} {user} 12 400 600"]
    (raw / "labels.txt").write_bytes(("\n".join(labels) + "\n").encode())
    return root


def write_mhealth(root: Path) -> Path:
    for subject in (1, 2, 10):
        lines = []
        for row, values in enumerate(_signal(subject, 300, 23).tolist()):
            values[5] += 9.8
            values[14] -= 9.8
            lines.append("\t".join([*(f"{value:.5g}" for value in values), str(row // 150 * 4)]))
        (root / f"mHealth_subject{subject}.log").write_bytes(("\n".join(lines) + "\n").encode())
    return root


def write_uci_har(root: Path) -> Path:
    for part, subjects in (("train", (1, 3)), ("test", (2,))):
        folder = root / part / "Inertial Signals"
        folder.mkdir(parents=True)
        num_windows = 6 * len(subjects)
        for sensor in ("body_acc", "body_gyro", "total_acc"):
            for axis in "xyz":
                is_up = sensor == "total_acc" and axis == "x"
                values = 0.1 * _signal(len(part), num_windows, 128, 0.0) + is_up
                lines = ["".join(f" {value: .7e}" for value in row) for row in values]
                path = folder / f"{sensor}_{axis}_{part}.txt"
                path.write_bytes(("\n".join(lines) + "\n").encode())
        numbers = "".join(f"{1 + window % 6}\n" for window in range(num_windows))
        (root / part / f"y_{part}.txt").write_bytes(numbers.encode())
        people = "".join(f"{subject}\n" * 6 for subject in subjects)
        (root / part / f"subject_{part}.txt").write_bytes(people.encode())
    return root


def write_sleep_postures(root: Path) -> Path:
    for subject in ("an", "binh"):
        for posture in ("up", "rightdown"):
            for placement in ("co", "nguc", "bung"):
                signal = _signal(len(posture), 220).tolist()
                timed = "".join(
                    f"{20 * row},{x},{y},{z};\n" for row, (x, y, z) in enumerate(signal)
                )
                plain = "x,y,z\n" + "".join(f"{x},{y},{z}\n" for x, y, z in signal)
                text = timed if posture == "up" else plain
                suffix = "txt" if posture == "up" else "csv"
                name = f"{subject}_{posture}_{placement}.{suffix}"
                (root / name).write_bytes(text.encode())
    return root


def write_sp_sw_har(root: Path) -> Path:
    labels = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
    for subject in ("s01", "s02"):
        folder = root / "DATA" / subject
        folder.mkdir(parents=True)
        for device in ("sp", "sw"):
            lines = ["x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"]
            for row, values in enumerate(_signal(len(device), 750, 6).tolist()):
                time = 1657534412342 + 10 * row - (row % 7 == 3) * 10
                lines.append(",".join(map(repr, values)) + f",{time},{labels[row // 150]}")
            path = folder / f"{subject}_01_{device}.csv"
            path.write_bytes(("\n".join(lines) + "\n").encode())
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "wisdm": write_wisdm,
    "wisdm-v1.1": write_wisdm_v1_1,
    "hapt": write_hapt,
    "mhealth": write_mhealth,
    "uci-har": write_uci_har,
    "sleep-postures": write_sleep_postures,
    "sp-sw-har": write_sp_sw_har,
}


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[[str], Path | None]:
    """Function that writes a small data set in its public layout and returns its root."""

    def write(name: str) -> Path | None:
        if name == "synthetic":
            return None
        root = tmp_path / name
        root.mkdir()
        return WRITERS[name](root)

    return write


@pytest.fixture
def v1_1_rows() -> list[str]:
    return wisdm_v1_1_rows()


@pytest.fixture(scope="session")
def unpack(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Function that unpacks the first members of an archive whose names hold one of some texts."""
    done: dict[tuple[object, ...], Path] = {}

    def unpacked(archive: str, *wanted: str, at_most: int = 1_000_000) -> Path:
        key = (archive, wanted, at_most)
        if key in done:
            return done[key]
        path = data_root / f"{archive}.tar.xz"
        if not path.is_file():
            pytest.skip(f"no real recordings: {path.name} is not in the data folder")
        folder = tmp_path_factory.mktemp(archive.replace(".", "_"))
        num_unpacked = 0
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and any(text in member.name for text in wanted):
                    tar.extract(member, folder, filter="data")
                    num_unpacked += 1
                    if num_unpacked == at_most:
                        break
        done[key] = folder
        return folder

    return unpacked
