"""What the sources must not hold: unsafe loading, risky Numba flags, stubs, a machine's paths."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "smoothdistill"
MAX_LINES = 400

TEXT_SUFFIXES = {
    *(".py", ".pyi", ".cpp", ".cu", ".h", ".cuh", ".md", ".toml", ".txt", ".sh"),
    *(".json", ".csv", ".yaml", ".html", ".cmake"),
}
FOLDERS = ("smoothdistill", "csrc", "bench", "tests", "docs", ".ci")

# Modules whose loaders run code that the file brings along.
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}
UNSAFE_CALLS = {
    *("eval", "exec", "torch.load", "yaml.load", "joblib.load", "os.system", "os.popen"),
    "pandas.read_pickle",
}
# fastmath=True lets NaN vanish from a signal; parallel=True kills forked children.
UNSAFE_KEYWORDS = {"shell", "fastmath", "parallel", "allow_pickle"}

# Written in pieces, so that this file does not find itself.
MACHINE = re.compile(
    "|".join(
        [
            *("/" + folder + "/" for folder in ("work", "farm", "root", "home/[a-z]+", "Users")),
            *("pypi" + r"\.org", "python" + "hosted", "deb" + r"\.debian"),
        ]
    )
)
STUB = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
FRAMEWORK_HEADER = re.compile(r"Python\.h|pybind11|torch|ATen|c10")
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:<([^>]+)>|"([^"]+)")', re.MULTILINE)


def _relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _native_files() -> list[Path]:
    suffixes = {".h", ".cuh", ".cpp", ".cu"}
    return sorted(p for p in (REPOSITORY / "csrc").rglob("*") if p.suffix in suffixes)


def _text_files(*folders: str) -> list[Path]:
    below = [path for folder in folders for path in (REPOSITORY / folder).rglob("*")]
    return sorted(
        path
        for path in below
        if path.is_file()
        and (path.suffix in TEXT_SUFFIXES or path == REPOSITORY / ".ci" / "run")
        and "__pycache__" not in path.parts
    )


def _unsafe(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = {(getattr(node, "module", None) or name).split(".")[0] for name in names}
            found += [f"{line}: import {name}" for name in sorted(modules & UNSAFE_MODULES)]
            found += [f"{line}: {name}" for name in names if name == "prange"]
        elif isinstance(node, ast.Attribute) and node.attr in {"extractall", "prange"}:
            found.append(f"{line}: {node.attr}")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in UNSAFE_CALLS:
                found.append(f"{line}: {called}()")
            found += [
                f"{line}: {keyword.arg}=True"
                for keyword in node.keywords
                if keyword.arg in UNSAFE_KEYWORDS
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is True
            ]
        elif isinstance(node, ast.Raise) and ast.unparse(node) == "raise NotImplementedError":
            found.append(f"{line}: a stub (NotImplementedError without a sentence)")
    return found


@pytest.mark.parametrize("path", _python_files(), ids=_relative)
def test_package_loads_nothing_unsafe(path: Path) -> None:
    assert not _unsafe(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "archive.extractall('x')",
        "run('x', shell=True)",
        "yaml.load('x')",
        "np.load('x', allow_pickle=True)",
        "@njit(fastmath=True)\ndef f(): ...",
        "@njit(parallel=True)\ndef f(): ...",
        "from numba import prange",
        "numba.prange(3)",
        "raise NotImplementedError",
    ],
)
def test_the_scan_sees_each_unsafe_form(source: str) -> None:
    assert len(_unsafe(source)) == 1


def test_the_scan_lets_safe_look_alikes_pass() -> None:
    safe = "model.eval()\njson.load(f)\nnjit(fastmath={'contract'})\nsafetensors.torch.load_file(p)"
    assert not _unsafe(safe)


@pytest.mark.parametrize("path", [*_python_files(), *_native_files()], ids=_relative)
def test_a_file_holds_one_concept(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_LINES, f"{num_lines} lines; split it where its concepts part"


@pytest.mark.parametrize("path", _python_files(), ids=_relative)
def test_a_module_introduces_itself(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module opens with one line of purpose"
    assert any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    ), "a module begins with `from __future__ import annotations`"
    is_private = any(part.startswith("_") and part != "__init__.py" for part in path.parts)
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert is_private or "__all__" in assigned, "a public module lists its names in __all__"


@pytest.mark.parametrize("path", _text_files("smoothdistill", "csrc", "bench"), ids=_relative)
def test_no_stub_markers(path: Path) -> None:
    assert not STUB.search(path.read_text(encoding="utf-8"))


def test_no_path_or_host_of_one_machine() -> None:
    top_level = [path for path in REPOSITORY.iterdir() if path.suffix in TEXT_SUFFIXES]
    found = [
        f"{_relative(path)}: {match.group()}"
        for path in [*top_level, *_text_files(*FOLDERS)]
        if (match := MACHINE.search(path.read_text(encoding="utf-8")))
    ]
    assert not found


def _framework_headers(path: Path, seen: set[Path]) -> list[str]:
    """Framework headers that `path` reaches through its includes."""
    if path in seen:
        return []
    seen.add(path)
    found = []
    for system, local in INCLUDE.findall(path.read_text(encoding="utf-8")):
        if FRAMEWORK_HEADER.search(system or local):
            found.append(f"{_relative(path)}: {system or local}")
        for folder in (path.parent, REPOSITORY / "csrc"):
            header = (folder / local).resolve() if local else None
            if header is not None and header.is_file():
                found += _framework_headers(header, seen)
                break
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in _native_files() if path.parent.name in {"cpu", "cuda"}],
    ids=_relative,
)
def test_a_kernel_names_no_framework(path: Path) -> None:
    assert not _framework_headers(path, set())


def test_scripts_can_be_run() -> None:
    """What begins like a script is executable: a copy or a formatter may have made it none."""
    paths = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    scripts = [p for p in paths if p.is_file() and p.suffix != ".pyc" and _begins_as_script(p)]
    assert scripts
    assert not [str(p.relative_to(REPOSITORY)) for p in scripts if not p.stat().st_mode & 0o100]
    assert all(_begins_as_script(p) for p in paths if p.is_file() and p.name == "run")


def _begins_as_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"
