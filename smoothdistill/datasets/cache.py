"""Parsed recordings on disk: safetensors with a JSON header, keyed by content, never trusted."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdistill.cache_folder import cache_folder as cache_folder
from smoothdistill.datasets.reports import FileReport
from smoothdistill.windows import Recording

if TYPE_CHECKING:
    from smoothdistill.datasets.registry import Dataset, Source

__all__ = ["cache_folder", "cache_key", "read_cached", "write_cached"]

_FORMAT = 1
_HASH_BLOCK_BYTES = 1 << 20


def cache_key(dataset: Dataset, source: Source, options: dict[str, Any]) -> str:
    """BLAKE2b, in hexadecimal, of everything that the recordings depend on.

    That is: the reader's name, version and options, and the names and bytes of the files.
    """
    about = [_FORMAT, dataset.name, dataset.version, sorted(options.items())]
    digest = hashlib.blake2b(json.dumps(about, default=str).encode(), digest_size=20)
    for path in source.paths:
        # a loader may read the subject or placement from the name of the file or its folder
        digest.update(f"\0{path.parent.name}/{path.name}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def read_cached(dataset: Dataset, key: str) -> tuple[list[Recording], FileReport] | None:
    """Recordings and report under the key, or None if they are absent or damaged in any way."""
    from safetensors import SafetensorError, safe_open

    path = _entry(dataset, key)
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["smoothdistill"])
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if header["key"] != key or header["digest"] != _digest(arrays, header["content"]):
            return None
        content = header["content"]
        recordings = [
            _recording(about, arrays, number) for number, about in enumerate(content["recordings"])
        ]
        return recordings, FileReport.from_dict(content["report"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        return None  # rebuilt from the data set's own files


def write_cached(
    dataset: Dataset, key: str, recordings: list[Recording], report: FileReport
) -> bool:
    """Write atomically; return False, without an error, where the folder cannot be written."""
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {}
    abouts = []
    for number, recording in enumerate(recordings):
        arrays[f"{number:05d}.signal"] = recording.signal
        if recording.timestamps_seconds is not None:
            arrays[f"{number:05d}.timestamps_seconds"] = recording.timestamps_seconds
        constants = {}
        for task, labels in recording.targets.items():
            if labels.strides == (0,):
                constants[task] = int(labels[0])
            else:
                arrays[f"{number:05d}.targets.{task}"] = labels
        abouts.append(
            {
                "tasks": list(recording.targets),
                "constant_targets": constants,
                "subject": recording.subject,
                "sample_rate_hz": recording.sample_rate_hz,
                "session": recording.session,
                "channel_names": list(recording.channel_names),
            }
        )
    content = {"recordings": abouts, "report": report.to_dict()}
    header = {"key": key, "digest": _digest(arrays, content), "content": content}
    path = _entry(dataset, key)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        os.close(descriptor)
        save_file(arrays, temporary, metadata={"smoothdistill": json.dumps(header)})
        with Path(temporary).open("rb+") as file:
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        return False
    else:
        temporary = None
        return True
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()


def _entry(dataset: Dataset, key: str) -> Path:
    return cache_folder() / dataset.name / f"{key}.safetensors"


def _digest(arrays: dict[str, np.ndarray], content: dict[str, Any]) -> str:
    digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=20)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _recording(about: dict[str, Any], arrays: dict[str, np.ndarray], number: int) -> Recording:
    signal = arrays[f"{number:05d}.signal"]
    targets = {}
    for task in about["tasks"]:
        if task in about["constant_targets"]:
            constant = np.int64(about["constant_targets"][task])
            targets[task] = np.broadcast_to(constant, len(signal))
        else:
            targets[task] = arrays[f"{number:05d}.targets.{task}"]
    return Recording(
        signal,
        targets=targets,
        subject=about["subject"],
        sample_rate_hz=about["sample_rate_hz"],
        session=about["session"],
        timestamps_seconds=arrays.get(f"{number:05d}.timestamps_seconds"),
        channel_names=tuple(about["channel_names"]),
    )
