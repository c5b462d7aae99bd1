"""Which library multiplies: the environment's word, what is remembered, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smoothdistill.ops import product_choice
from smoothdistill.ops.columns import plan_columns
from smoothdistill.ops.linear import PRODUCTS_VARIABLE, available_products
from smoothdistill.ops.product_choice import choose_products, time_products

LAYERS = [(7, 33), (5, 7)]
LAYOUT = plan_columns(16)
NAMES = available_products()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and no memory of this process."""
    monkeypatch.setenv("SMOOTHDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(PRODUCTS_VARIABLE, raising=False)
    product_choice._remembered.cache_clear()
    yield tmp_path / "cache"
    product_choice._remembered.cache_clear()


def forget() -> None:
    """Make the process as new: only the file is left."""
    product_choice._remembered.cache_clear()


def prefer(name: str, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Let a library win every measurement; the list grows with each."""
    calls: list[object] = []

    def measure(layers: object, layout: object, names: list[str]) -> dict[str, float]:
        calls.append(layers)
        return {each: 1.0 + (each != name) for each in names}

    monkeypatch.setattr(product_choice, "time_products", measure)
    return calls


def the_file(cache: Path) -> Path:
    (path,) = (cache / "products").iterdir()
    return path


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_decides(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = prefer("none", monkeypatch)
    monkeypatch.setenv(PRODUCTS_VARIABLE, name)
    assert choose_products(LAYERS, LAYOUT) == name
    assert not calls
    assert not cache.exists()


@pytest.mark.parametrize("value", ["auto", ""])
def test_auto_leaves_the_choice_to_the_clock(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = prefer("blas", monkeypatch)
    monkeypatch.setenv(PRODUCTS_VARIABLE, value)
    assert choose_products(LAYERS, LAYOUT) == "blas"
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["mkl", "Native", "bfloat16"])
def test_an_unknown_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRODUCTS_VARIABLE, name)
    known = ", ".join(NAMES)
    sentence = rf"`SMOOTHDISTILL_PRODUCTS` must be one of .*{known}, but is '{name}' instead\."
    with pytest.raises(ValueError, match=sentence):
        choose_products(LAYERS, LAYOUT)


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_is_read_back(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = prefer(name, monkeypatch)
    assert choose_products(LAYERS, LAYOUT) == name
    assert choose_products(LAYERS, LAYOUT) == name
    forget()
    prefer("none", monkeypatch)  # a second measurement would choose the first name
    assert choose_products(LAYERS, LAYOUT) == name
    assert len(calls) == 1
    saved = json.loads(the_file(cache).read_text())
    assert saved["fastest"] == name
    assert set(saved["seconds"]) == set(NAMES)
    assert saved["layers"] == [list(layer) for layer in LAYERS]


def test_other_sizes_and_threads_are_measured_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = prefer("blas", monkeypatch)
    choose_products(LAYERS, LAYOUT)
    choose_products(LAYERS, plan_columns(64))
    choose_products(LAYERS[:1], LAYOUT)
    monkeypatch.setattr(product_choice.torch, "get_num_threads", lambda: 99)
    choose_products(LAYERS, LAYOUT)
    assert len(calls) == 4
    assert len(list((cache / "products").iterdir())) == 4


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", "{}", '{"fastest": "mkl"}', '{"fastest": null}',
        '{"fastest": ["blas"]}', '"fastest"',
    ],
)  # fmt: skip
def test_a_damaged_file_is_measured_over(
    text: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = prefer("blas", monkeypatch)
    choose_products(LAYERS, LAYOUT)
    the_file(cache).write_text(text)
    forget()
    assert choose_products(LAYERS, LAYOUT) == "blas"
    assert len(calls) == 2
    assert json.loads(the_file(cache).read_text())["fastest"] == "blas"


def test_a_file_that_is_no_text_is_measured_over(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = prefer("blas", monkeypatch)
    choose_products(LAYERS, LAYOUT)
    the_file(cache).write_bytes(b"\xff\xfe\x00\x80")
    forget()
    assert choose_products(LAYERS, LAYOUT) == "blas"
    assert len(calls) == 2


def test_a_library_that_is_gone_is_not_chosen(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer("onednn", monkeypatch)
    choose_products(LAYERS, LAYOUT)
    forget()
    monkeypatch.setattr(product_choice, "available_products", lambda: ["blas"])
    assert choose_products(LAYERS, LAYOUT) == "blas"


def test_the_file_appears_whole_or_not_at_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer("blas", monkeypatch)
    seen: list[tuple[Path, Path]] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        assert not target.exists()
        assert json.loads(self.read_text())["fastest"] == "blas"
        seen.append((self, target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    choose_products(LAYERS, LAYOUT)
    ((partial, target),) = seen
    assert partial.parent == target.parent
    assert [the_file(cache)] == [target]


@pytest.mark.parametrize("step", ["mkdir", "write_text", "replace"])
def test_a_folder_that_cannot_be_written_is_no_error(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer("blas", monkeypatch)

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, step, refuse)
    assert choose_products(LAYERS, LAYOUT) == "blas"


def test_a_file_in_the_folders_place_is_no_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer("blas", monkeypatch)
    cache.write_text("")
    assert choose_products(LAYERS, LAYOUT) == "blas"
    assert cache.read_text() == ""


def test_every_library_is_timed() -> None:
    seconds = time_products(LAYERS, LAYOUT, NAMES)
    assert list(seconds) == NAMES
    assert all(0.0 < value < float("inf") for value in seconds.values())


def test_the_choice_is_one_of_the_libraries(cache: Path) -> None:
    chosen = choose_products(LAYERS, LAYOUT)
    assert chosen in NAMES
    saved = json.loads(the_file(cache).read_text())
    assert saved["seconds"][chosen] == min(saved["seconds"].values())
