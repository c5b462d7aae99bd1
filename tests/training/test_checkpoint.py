from __future__ import annotations

import json
import os
import pickle
import random
import stat
import zipfile

import pytest
import torch

from smoothdistill.errors import CheckpointError
from smoothdistill.training.checkpoint import (
    load_checkpoint,
    remove_leftovers,
    require_matching_tensors,
    save_checkpoint,
    write_atomically,
)

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "step": torch.tensor(3, dtype=torch.int64),
    "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 4),
    "state": torch.arange(9, dtype=torch.uint8),
}
METADATA = {"kind": "model", "epoch": 7, "score": 0.1 + 0.2, "names": ["a", "ü"], "none": None}


def _equal(found, expected):
    assert found.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert found.tensors[name].shape == tensor.shape
        assert found.tensors[name].view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, {k: v for k, v in TENSORS.items() if v.ndim}, METADATA)
    return path


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, TENSORS, METADATA)
    found = load_checkpoint(path, kind="model")
    assert found.metadata == METADATA
    assert found.tensors["step"].item() == 3
    del found.tensors["step"]
    _equal(found, {k: v for k, v in TENSORS.items() if v.ndim})
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_shared_and_strided_tensors(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "x", {"a": base, "b": base, "c": base.t(), "d": base[0]}, {})
    found = load_checkpoint(tmp_path / "x").tensors
    assert torch.equal(found["c"], base.t())
    assert torch.equal(found["a"], found["b"])
    assert torch.equal(found["d"], base[0])


def test_a_cut_file_is_refused(saved, tmp_path):
    content = saved.read_bytes()
    for number in range(20):
        cut = tmp_path / f"cut{number}"
        cut.write_bytes(content[: len(content) * number // 20])
        with pytest.raises(CheckpointError, match="`path` must be an undamaged checkpoint, but"):
            load_checkpoint(cut)


def test_flipped_bytes_are_refused_or_change_nothing(saved, tmp_path):
    content = saved.read_bytes()
    expected = load_checkpoint(saved)
    chance = random.Random(0)
    flipped = tmp_path / "flipped"
    num_harmless = 0
    for _ in range(600):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        flipped.write_bytes(damaged)
        try:
            found = load_checkpoint(flipped)
        except CheckpointError:
            continue
        _equal(found, expected.tensors)
        assert found.metadata == expected.metadata
        num_harmless += 1
    assert num_harmless < 60  # a space that became a tab, say


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 10**9, 0])
def test_an_impossible_header_size(saved, size):
    saved.write_bytes(size.to_bytes(8, "little") + saved.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(saved)


class _Bomb:
    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return (os.mkdir, (self.witness,))


@pytest.mark.parametrize("form", ["pickle", "torch", "zip"])
def test_a_renamed_pickle_is_refused_and_not_run(tmp_path, form):
    path, witness = tmp_path / "evil.safetensors", tmp_path / "witness"
    if form == "pickle":
        path.write_bytes(pickle.dumps(_Bomb(witness)))
    elif form == "torch":
        torch.save({"x": _Bomb(witness)}, path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(_Bomb(witness)))
    with pytest.raises(CheckpointError, match="it is no safetensors file, or it was cut"):
        load_checkpoint(path)
    assert not witness.exists()


def _with_header(saved, change):
    content = saved.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    saved.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def _with_entry(**changes):
    """Change our own entry of the header; None takes a key out."""

    def change(header):
        entry = {**json.loads(header["__metadata__"]["checkpoint"]), **changes}
        kept = {key: value for key, value in entry.items() if value is not None}
        header["__metadata__"]["checkpoint"] = json.dumps(kept)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["weight"].update(dtype="I32"),
        lambda header: header["weight"].update(shape=[4, 3]),
        lambda header: header["weight"].update(data_offsets=[0, 8]),
        lambda header: header["weight"].update(data_offsets=[2**62, 2**62 + 48]),
        lambda header: header.update(extra=header.pop("weight")),
        lambda header: header.pop("__metadata__"),
        lambda header: header["__metadata__"].pop("checkpoint"),
        _with_entry(metadata="{}"),
        _with_entry(digest=None),
        _with_entry(format="pt"),
        _with_entry(format_version="x"),
        lambda header: header.update(weight=header["half"]),
    ],
)
def test_a_forged_header_is_refused(saved, change):
    _with_header(saved, change)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(saved)


def test_another_format_version(saved):
    _with_header(saved, _with_entry(format_version=9))
    with pytest.raises(CheckpointError, match=r"must be a checkpoint of format 1, but .* format 9"):
        load_checkpoint(saved)


def test_another_kind(saved):
    with pytest.raises(
        CheckpointError, match=r"of kind 'state', but .* is of kind 'model' instead"
    ):
        load_checkpoint(saved, kind="state")


def test_no_such_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"`path` must be a checkpoint file, but .* not exist"
    ):
        load_checkpoint(tmp_path / "none")


def test_a_failed_write_leaves_the_old_file(saved):
    before = saved.read_bytes()

    def write(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(saved, write)
    assert saved.read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 1


def test_a_symbolic_link_is_replaced_not_followed(saved):
    link = saved.with_name("link")
    link.symlink_to(saved)
    before = saved.read_bytes()
    save_checkpoint(link, {"x": torch.ones(1)}, {})
    assert saved.read_bytes() == before
    assert not link.is_symlink()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_file_is_as_readable_as_any_other(saved):
    other = saved.with_name("other")
    other.touch()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_leftovers_are_removed(tmp_path):
    (tmp_path / "fold-00").mkdir()
    (tmp_path / "fold-00" / "last.safetensors.partial").touch()
    (tmp_path / "keep").touch()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["fold-00", "keep"]


def test_metadata_must_be_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path / "x", {}, {"score": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({}, "`student` must have the tensors .* but the checkpoint lacks w instead"),
        ({"w": torch.ones(2), "v": torch.ones(1)}, "but the checkpoint also has v instead"),
        ({"w": torch.ones(3)}, r"`student\.w` must be torch\.float32 of shape \[2\], but .* \[3\]"),
        ({"w": torch.ones(2).double()}, r"of shape \[2\], but is torch\.float64 of shape \[2\]"),
    ],
)
def test_tensors_must_match(found, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        require_matching_tensors(found, {"w": torch.zeros(2)}, what="student")


def test_equal_contents_give_equal_files(tmp_path):
    tensors = {name: torch.arange(3.0) for name in ("a", "b", "c")}
    for name in ("one", "two"):
        save_checkpoint(tmp_path / name, tensors, {"kind": "state", "x": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
