"""Imports go one way: a module imports from the lines above its own in `ORDER`, or from its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "smoothdistill"

# The layers, lowest first. A new top-level module must be given its place here.
ORDER = (
    ("_core", "_cuda"),
    ("errors", "cache_folder", "numba_cache", "onnx_model", "presets", "quantization", "workers"),
    ("reference",),
    ("ops",),
    ("windows",),
    ("splits",),
    ("datasets",),
    ("features",),
    ("models",),
    ("optim",),
    ("methods",),
    ("training",),
    ("evaluation",),
    ("benchmark",),
    ("estimator", "export"),
    ("commands",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def _module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_names(tree: ast.AST, module: str, *, is_package: bool) -> list[tuple[int, str]]:
    """Line and dotted name of each import of our own package, function-level ones included."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *([base] if base else [])])
            # `from smoothdistill import x` names the layer in x, any other form names it in base.
            if base == "smoothdistill":
                found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, base))
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0] if node.args else None
            if (
                called in {"import_module", "__import__"}
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                found.append((node.lineno, first.value))
    return [(line, name) for line, name in found if name.split(".")[0] == "smoothdistill"]


def _violations(source: str, module: str, *, is_package: bool) -> list[str]:
    own = module.split(".")[1]
    if own not in LEVEL:
        return [f"{module} has no place in ORDER"]
    problems = []
    for line, name in _imported_names(ast.parse(source), module, is_package=is_package):
        parts = name.split(".")
        if len(parts) == 1:
            problems.append(f"{module}:{line} imports the whole package; name the layer instead")
        elif parts[1] not in LEVEL:
            problems.append(f"{module}:{line} imports {name}, which has no place in ORDER")
        elif LEVEL[parts[1]] > LEVEL[own]:
            problems.append(f"{module}:{line} ({own}) imports {name}, a layer above its own")
        elif LEVEL[parts[1]] == LEVEL["_core"] and own != "ops":
            problems.append(f"{module}:{line} ({own}) imports {name}; only ops/ calls the kernels")
    return problems


def _modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_top_level_module_has_a_place() -> None:
    top_level = {_module_name(path).split(".")[1] for path in _modules()}
    assert top_level <= LEVEL.keys(), f"give these a line in ORDER: {top_level - LEVEL.keys()}"


@pytest.mark.parametrize("path", _modules(), ids=_module_name)
def test_imports_go_one_way(path: Path) -> None:
    problems = _violations(
        path.read_text(encoding="utf-8"), _module_name(path), is_package=path.stem == "__init__"
    )
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("source", "module", "is_package"),
    [
        ("from smoothdistill.training import Trainer", "smoothdistill.methods.multitask", False),
        ("import smoothdistill.cli", "smoothdistill.ops.ema_update", False),
        ("from smoothdistill import evaluation", "smoothdistill.training.trainer", False),
        ("from ..training import trainer", "smoothdistill.methods.multitask", False),
        ("from .training import trainer", "smoothdistill.windows", False),
        ("from ..cli import main", "smoothdistill.training", True),
        ("def f():\n    from smoothdistill.cli import main", "smoothdistill.splits", False),
        ("import_module('smoothdistill.cli')", "smoothdistill.datasets", True),
        ("from smoothdistill import _core", "smoothdistill.training.trainer", False),
        ("import smoothdistill", "smoothdistill.training.trainer", False),
        ("from smoothdistill.unheard import x", "smoothdistill.cli", False),
    ],
)
def test_the_check_sees_each_form_of_import(source: str, module: str, is_package: bool) -> None:
    assert len(_violations(source, module, is_package=is_package)) == 1


def test_the_check_allows_what_lies_below() -> None:
    source = "from smoothdistill.errors import DataError\nfrom . import x\nfrom .._core import y"
    assert not _violations(source, "smoothdistill.ops.ema_update", is_package=False)
