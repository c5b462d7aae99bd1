"""README, CHANGELOG and CONTRIBUTING speak of what exists."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest
import typer

import smoothdistill
from smoothdistill.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").glob("*.md")),
)

FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\s*(?:\$ )?smoothdistill ((?:[a-z][a-z-]* ?)+)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def _read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def _commands_in(text: str) -> set[str]:
    return {words.strip() for block in FENCE.findall(text) for words in COMMAND.findall(block)}


def _is_command(words: str) -> bool:
    """Whether `words` begins with a command that exists; what follows may be an argument."""
    command: object = typer.main.get_command(app)
    for word in words.split():
        subcommands = getattr(command, "commands", None)
        if subcommands is None:
            return True
        if word not in subcommands:
            return False
        command = subcommands[word]
    return True


def test_readme_shows_commands() -> None:
    assert "train" in {words.split()[0] for words in _commands_in(_read("README.md"))}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document: str) -> None:
    unknown = {words for words in _commands_in(_read(document)) if not _is_command(words)}
    assert not unknown


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document: str) -> None:
    folder = (REPOSITORY / document).parent
    dead = [link for link in LINK.findall(_read(document)) if not (folder / link).exists()]
    assert not dead


@pytest.mark.parametrize(
    ("block", "needed"),
    [
        ("train", ["-m venv .venv", "pip install -c constraints.txt", "smoothdistill train"]),
        ("test", ["-m venv .venv", 'pip install -c constraints.txt ".[test]"', "pytest"]),
    ],
)
def test_readme_marks_the_blocks_that_ci_runs(block: str, needed: list[str]) -> None:
    marker = rf"<!-- ci: {block} -->\n+"
    marked = re.search(marker + r"```[a-z]*\n(.*?)```", _read("README.md"), re.DOTALL)
    assert marked, f"no code block follows the comment <!-- ci: {block} -->"
    assert not [command for command in needed if command not in marked.group(1)]


@pytest.mark.parametrize("name", sorted(smoothdistill.__all__))
def test_public_names_are_documented(name: str) -> None:
    value = getattr(smoothdistill, name)
    if inspect.ismodule(value) or callable(value):
        assert inspect.getdoc(value), f"smoothdistill.{name} has no docstring"


def test_changelog_begins_with_the_version_of_the_package() -> None:
    version = tomllib.loads(_read("pyproject.toml"))["project"]["version"]
    newest = re.search(r"^## \[([^\]]+)\]", _read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == version
