"""Checkpoints: safetensors with metadata and a digest, written so that a crash loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from smoothdistill.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = [
    "Checkpoint",
    "load_checkpoint",
    "remove_leftovers",
    "require_matching_tensors",
    "save_checkpoint",
    "write_atomically",
]

FORMAT = "smoothdistill"
FORMAT_VERSION = 1
_HEADER_KEY = "checkpoint"
_MAX_HEADER_BYTES = 100_000_000
_LEFTOVER_SUFFIX = ".partial"


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    tensors: dict[str, Tensor]
    """Tensors by name, on the CPU."""

    metadata: dict[str, Any]
    """Whatever JSON was saved with them."""


def write_atomically(
    path: Path, write: Callable[[Path], None], *, survives_power_loss: bool = True
) -> None:
    """Write a file so that `path` holds either its old or its whole new content, always.

    The content goes to a second file in the same folder, is flushed to the disk, and takes the
    name of the first in one step; then the folder itself is flushed.

    Args:
        path: The file to write or replace.
        write: Writes the content to the path it is given.
        survives_power_loss: Whether to wait for the disk. Without it the promise holds for
            a process that is killed, which is enough for what can be written anew.

    Raises:
        OSError: If the disk is full or the folder cannot be written; `path` is as it was.
    """
    partial = path.with_name(path.name + _LEFTOVER_SUFFIX)
    try:
        partial.touch()
        mode = partial.stat().st_mode  # what the user's umask allows; safetensors allows less
        write(partial)
        partial.chmod(mode)
        if survives_power_loss:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if (
        survives_power_loss and os.name == "posix"
    ):  # elsewhere a folder cannot be opened, nor need it be
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write in `folder` and the folders below."""
    for partial in folder.rglob("*" + _LEFTOVER_SUFFIX):
        partial.unlink(missing_ok=True)


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors and metadata to one safetensors file, atomically.

    Args:
        path: The file to write or replace.
        tensors: Tensors by name; they are copied to the CPU, and may share memory.
        metadata: Anything that JSON can hold; NaN is refused.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the old file is intact.
        ValueError: If the metadata cannot be written as JSON.
    """
    from safetensors.torch import save_file

    # safetensors refuses tensors that share memory, so shared ones are told apart by a copy.
    seen: set[int] = set()
    flat = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.numel() and tensor.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.data_ptr())
        flat[name] = tensor
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "metadata": text,
        "digest": _digest(flat, text),
    }
    # One entry, since safetensors writes several in random order: equal runs give equal files.
    entry = {_HEADER_KEY: json.dumps(header, sort_keys=True)}
    write_atomically(Path(path), lambda partial: save_file(flat, partial, metadata=entry))


def load_checkpoint(path: str | Path, *, kind: str | None = None) -> Checkpoint:
    """Read a file written by `save_checkpoint`; nothing in it is ever executed.

    Args:
        path: The file.
        kind: What ``metadata["kind"]`` must be, if anything.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is no checkpoint, is cut or damaged, or is of another kind
            or a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`path` must be a checkpoint file, but {str(path)!r} does not exist instead."
        )
    content = path.read_bytes()
    header = _read_header(content, path)
    text = header["metadata"]
    tensors = _read_tensors(content, path)
    if _digest(tensors, text) != header["digest"]:
        raise _damaged(path, "its content does not match its digest")
    metadata = json.loads(text)
    if kind is not None and metadata.get("kind") != kind:
        raise CheckpointError(
            f"`path` must be a checkpoint of kind {kind!r}, "
            f"but {str(path)!r} is of kind {metadata.get('kind')!r} instead."
        )
    return Checkpoint(tensors, metadata)


def _read_header(content: bytes, path: Path) -> dict[str, str]:
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(_MAX_HEADER_BYTES, len(content) - 8):
        raise _damaged(path, "it is no safetensors file, or it was cut")
    try:
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_HEADER_KEY])
        version = int(header["format_version"])
        known = {key: header[key] for key in ("format", "metadata", "digest")}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(path, "its header cannot be read") from error
    if known["format"] != FORMAT or not all(isinstance(text, str) for text in known.values()):
        raise _damaged(path, "another program wrote it")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"`path` must be a checkpoint of format {FORMAT_VERSION}, "
            f"but {str(path)!r} is of format {version} instead."
        )
    return known


def _read_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(content)
    # The library has no one exception for a bad file: SafetensorError, KeyError, OverflowError...
    except Exception as error:
        raise _damaged(path, "its tensors cannot be read") from error
    return tensors


def _digest(tensors: Mapping[str, Tensor], metadata: str) -> str:
    """Digest of everything that a reader gets: names, dtypes, shapes, bytes and metadata."""
    digest = hashlib.blake2b(digest_size=32)
    names = sorted(tensors)
    index = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    digest.update(json.dumps([FORMAT_VERSION, index, metadata]).encode())
    for name in names:
        tensor = tensors[name]
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_matching_tensors(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, what: str
) -> None:
    """Refuse tensors that differ from the expected ones in name, shape or dtype.

    Args:
        found: What a checkpoint holds.
        expected: Tensors of the names, shapes and dtypes that are needed.
        what: What the tensors are of, for the sentence, such as ``"student"``.

    Raises:
        CheckpointError: If a name is missing or too many, or a shape or dtype differs.
    """
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        complaint = f"lacks {', '.join(missing)}" if missing else f"also has {', '.join(extra)}"
        raise CheckpointError(
            f"`{what}` must have the tensors of the model it is loaded into, "
            f"but the checkpoint {complaint} instead."
        )
    for name, tensor in expected.items():
        other = found[name]
        if other.shape != tensor.shape or other.dtype != tensor.dtype:
            raise CheckpointError(
                f"`{what}.{name}` must be {tensor.dtype} of shape {list(tensor.shape)}, "
                f"but is {other.dtype} of shape {list(other.shape)} instead."
            )


def _damaged(path: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"`path` must be an undamaged checkpoint, but {str(path)!r} is damaged ({how}) instead."
    )
