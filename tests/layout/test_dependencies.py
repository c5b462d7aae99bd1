"""What the package imports is what `pyproject.toml` declares: no more and no less."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "smoothdistill"

# Distributions whose import name differs.
DISTRIBUTION = {"sklearn": "scikit-learn"}
# Imported for annotations only, under TYPE_CHECKING.
ANNOTATIONS_ONLY = {"jaxtyping"}


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in requirements}


def _imported() -> dict[str, str]:
    """Third-party distributions that the package imports, with the first file that does."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_module"):
                texts = [text.value for text in ast.walk(node) if isinstance(text, ast.Constant)]
                modules = [text for text in texts if isinstance(text, str) and text]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top != "smoothdistill" and top not in sys.stdlib_module_names:
                    found.setdefault(DISTRIBUTION.get(top, top), path.name)
    return found


def test_imports_and_declarations_agree() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = _names(project["dependencies"] + extras["data"] + extras["plot"] + extras["export"])
    imported = _imported()
    undeclared = {
        f"{name} ({imported[name]})" for name in imported.keys() - declared - ANNOTATIONS_ONLY
    }
    assert not undeclared, "declare these in pyproject.toml"
    assert not declared - imported.keys(), "these are declared, but nothing imports them"


def test_constraints_name_a_tested_version_of_each_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = _names(project["dependencies"])
    declared |= _names(
        [name for extra in project["optional-dependencies"].values() for name in extra]
    )
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = _names([line for line in constraints if line and not line.startswith("#")])
    assert not declared - pinned - {"smoothdistill"}
