"""Holds a wheel to what docs/wheels.md promises about its contents.

python .ci/check_wheel.py SOURCE WHEEL MODULE...: SOURCE is the unpacked source distribution that
the wheel was built from, MODULE the extension modules that it must hold (_core; _cuda from nvcc).
"""

from __future__ import annotations

import io
import json
import sys
import tomllib
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

from elftools.elf.elffile import ELFFile
from installer.sources import WheelFile
from installer.utils import parse_wheel_filename

MAX_BYTES = 2_000_000
# The C and C++ libraries of every Linux; before glibc 2.34 its parts were libraries of their own.
SYSTEM_LIBRARIES = {
    *("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libc.so.6"),
    *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
    *("libpthread.so.0", "libdl.so.2", "librt.so.1"),
}
ELF_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


def problems(source: Path, path: Path, modules: list[str]) -> Iterator[str]:
    """One sentence for each promise that the wheel breaks."""
    if path.stat().st_size > MAX_BYTES:
        yield f"its size must be at most {MAX_BYTES} bytes, but is {path.stat().st_size} instead"
    name = parse_wheel_filename(path.name)
    python, abi, platform = name.tag.split("-")
    machine = next((known for known in ELF_MACHINES if platform.endswith(known)), "unknown")
    if not (python == abi and platform.startswith("manylinux_2_") and machine in ELF_MACHINES):
        yield f"its tag must be cpXY-cpXY-manylinux_2_Z_<machine>, but is {name.tag} instead"
        return
    suffix = f".cpython-{python.removeprefix('cp')}-{machine}-linux-gnu.so"
    libraries = {f"smoothdistill/{module}{suffix}" for module in modules}
    with WheelFile.open(path) as wheel:
        try:
            wheel.validate_record()
        except ValueError as error:
            yield f"its RECORD must tell the truth, but does not: {error}"
            return
        contents = {record[0]: stream.read() for record, stream, _ in wheel.get_contents()}
        metadata_folder = wheel.dist_info_dir
    yield from _wrong_names(source, set(contents), libraries, metadata_folder)
    for library in sorted(libraries & contents.keys()):
        yield from _wrong_library(library, contents[library], machine)
    yield from _wrong_metadata(source, contents, metadata_folder, name.version)
    yield from _wrong_sbom(contents.get(f"{metadata_folder}/sboms/smoothdistill.cdx.json"), modules)


def _wrong_names(
    source: Path, names: set[str], libraries: set[str], metadata_folder: str
) -> Iterator[str]:
    """The wheel holds the package's files, its modules and its metadata, and nothing else."""
    package = {
        file.relative_to(source).as_posix()
        for file in (source / "smoothdistill").rglob("*")
        if file.is_file()
    }
    metadata = ("METADATA", "RECORD", "WHEEL", "entry_points.txt")
    metadata += ("licenses/LICENSE", "licenses/pybind11/LICENSE")
    expected = package | libraries | {f"{metadata_folder}/{name}" for name in metadata}
    expected.add(f"{metadata_folder}/sboms/smoothdistill.cdx.json")
    # What users rely on and no other check would miss if it vanished from the source as well.
    expected |= {"smoothdistill/py.typed", "smoothdistill/presets/best.toml"}
    yield from (f"{name} must be inside, but is not" for name in sorted(expected - names))
    yield from (f"{name} must not be inside, but is" for name in sorted(names - expected))


def _wrong_library(name: str, content: bytes, machine: str) -> Iterator[str]:
    elf = ELFFile(io.BytesIO(content))
    if elf["e_machine"] != ELF_MACHINES[machine]:
        yield f"{name} must be of {machine}, but is of {elf['e_machine']} instead"
    if elf.get_section_by_name(".symtab") or elf.get_section_by_name(".debug_info"):
        yield f"{name} must be stripped, but has its symbols"
    for tag in elf.get_section_by_name(".dynamic").iter_tags():
        if tag.entry.d_tag == "DT_NEEDED" and tag.needed not in SYSTEM_LIBRARIES:
            yield f"{name} must link the system's C and C++ libraries only, but links {tag.needed}"
        if tag.entry.d_tag in {"DT_RPATH", "DT_RUNPATH"}:
            yield f"{name} must name no folder of libraries, but has a {tag.entry.d_tag}"


def _wrong_metadata(
    source: Path, contents: dict[str, bytes], metadata_folder: str, version: str
) -> Iterator[str]:
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = message_from_bytes(contents[f"{metadata_folder}/METADATA"])
    for field, expected in (
        ("Version", project["version"]),
        ("Version", version),
        ("Requires-Python", project["requires-python"]),
        ("License-Expression", project["license"]),
    ):
        if metadata[field] != expected:
            yield f"{field} must be {expected}, but is {metadata[field]} instead"
    extras = set(metadata.get_all("Provides-Extra", []))
    if extras != set(project["optional-dependencies"]):
        yield f"the extras must be those of pyproject.toml, but are {sorted(extras)} instead"
    if f'__version__ = "{version}"'.encode() not in contents["smoothdistill/__init__.py"]:
        yield f"smoothdistill.__version__ must be {version}, but is something else"


def _wrong_sbom(content: bytes | None, modules: list[str]) -> Iterator[str]:
    """The bill of materials names what is compiled in, each in a version."""
    bill = json.loads(content or b"{}")
    found = {part["name"]: part["version"] for part in bill.get("components", [])}
    expected = {"pybind11"} | ({"cudart_static"} if "_cuda" in modules else set())
    if found.keys() != expected or not all(found.values()):
        yield f"the SBOM must name {sorted(expected)} and versions, but names {found} instead"


def main() -> None:
    """Check the wheel that the command line names."""
    source, path, *modules = sys.argv[1:]
    found = list(problems(Path(source), Path(path), modules))
    if found:
        sys.exit("\n".join(f"{Path(path).name}: {problem}." for problem in found))


if __name__ == "__main__":
    main()
