"""Good files, damaged at random: every reader answers with a DataError or a sound reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoothdistill import datasets
from smoothdistill.errors import DataError

FILES = {
    "wisdm": "raw/phone/accel/data_1600_accel_phone.txt",
    "wisdm-v1.1": "wisdm_subject7.csv",
    "hapt": "RawData/labels.txt",
    "mhealth": "mHealth_subject1.log",
    "uci-har": "train/Inertial Signals/total_acc_x_train.txt",
    "sleep-postures": "an_up_co.txt",
    "sp-sw-har": "DATA/s01/s01_01_sp.csv",
}
NUM_MUTANTS = 300 // len(FILES) + 1


def mutate(good: bytes, generator: np.random.Generator) -> bytes:
    place = int(generator.integers(len(good)))
    kind = int(generator.integers(4))
    if kind == 0:  # a flipped bit
        return (
            good[:place]
            + bytes([good[place] ^ (1 << int(generator.integers(8)))])
            + good[place + 1 :]
        )
    if kind == 1:  # a cut at the end
        return good[:place]
    if kind == 2:  # a piece taken out
        return good[:place] + good[place + int(generator.integers(1, 200)) :]
    pieces = (
        b"\n",
        b",",
        b";",
        b"\0",
        b"nan",
        b"-",
        b"\xff\xfe",
        b"9" * 30,
        good[:50],
        b"0x1",
        b'"',
    )
    return good[:place] + pieces[int(generator.integers(len(pieces)))] + good[place:]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file(name: str, write_dataset: Callable[[str], Path]) -> None:
    root = write_dataset(name)
    path = root / FILES[name]
    # the file in question alone, as far as the data set allows, keeps the test short
    for other in sorted(root.rglob("*")):
        if name not in {"hapt", "uci-har"} and other.is_file() and other != path:
            other.unlink()
    good = path.read_bytes()
    generator = np.random.default_rng(sum(name.encode()))
    refusals = []
    for _ in range(NUM_MUTANTS):
        path.write_bytes(mutate(good, generator))
        try:
            windows = datasets.load(name, root=root, cache=False)
        except DataError as error:
            refusals.append(str(error))
        else:
            assert np.isfinite(windows.signals).all()
            for task, labels in windows.targets.items():
                assert labels.min() >= 0
                assert labels.max() < windows.num_classes[task]
    assert len(refusals) > NUM_MUTANTS // 4
    assert all("must" in sentence and "\n" not in sentence for sentence in refusals)
