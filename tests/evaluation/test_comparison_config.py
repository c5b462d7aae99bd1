"""The grid file: what variants it makes, and one sentence for every fault."""

from __future__ import annotations

import pytest

from smoothdistill.evaluation import CompareConfig

GRID = """
[data]
name = "synthetic"
num_subjects = 6

[method]
name = "smooth-distill"
temperature = 2.0

[train]
epochs = 1

[compare]
seeds = [0, 1]
methods = ["multitask", "smooth-distill"]
baseline = "multitask"

[[compare.variants]]
label = "as published"
role = "student"
method = { warmup_steps = 0 }
model = { layout = "published" }
split = { protocol = "published" }
"""


def _variants(text):
    return {variant.label: variant for variant in CompareConfig.from_toml(text).variants()}


def test_variants_are_laid_over_what_all_share():
    found = _variants(GRID)
    assert list(found) == ["multitask", "smooth-distill", "as published"]
    published = found["as published"].config
    assert published.method.options == {"temperature": 2.0, "warmup_steps": 0}
    assert (published.model.name, published.model.options) == ("mtl-net", {"layout": "published"})
    assert published.split.protocol == "published"
    assert published.data.options == {"num_subjects": 6}
    assert found["as published"].role == "student"
    assert found["smooth-distill"].config.method.options == {"temperature": 2.0}
    assert found["smooth-distill"].config.split.protocol == "subject"


def test_options_of_another_method_are_not_taken_over():
    assert _variants(GRID)["multitask"].config.method.options == {}


def test_options_without_a_name_are_shared_by_all():
    found = _variants(
        GRID.replace('name = "smooth-distill"\ntemperature = 2.0', "label_smoothing = 0.1")
    )
    assert all(v.config.method.options["label_smoothing"] == 0.1 for v in found.values())


def test_a_cell_is_a_run_of_one_fold():
    cell = CompareConfig.from_toml(GRID).variants()[0].cell_config(seed=7, fold=1)
    assert cell.train.seed == 7
    assert cell.split.folds == (1,)
    assert type(cell).from_toml(cell.to_toml()) == cell


def test_toml_comes_back_to_an_equal_grid():
    config = CompareConfig.from_toml(GRID)
    assert CompareConfig.from_toml(config.to_toml()) == config


def test_the_first_variant_is_the_baseline_unless_another_is_named():
    assert CompareConfig.from_toml(GRID).baseline == "multitask"
    config = CompareConfig.from_toml('[compare]\nmethods = ["smooth-distill", "multitask"]')
    assert config.baseline == "smooth-distill"


def test_overrides_change_the_grid():
    config = CompareConfig.from_toml(GRID, ["compare.seeds=[5]", "train.epochs=3"])
    assert config.compare.seeds == (5,)
    assert config.variants()[0].config.train.epochs == 3


VARIANT = '\n[[compare.variants]]\nlabel = "x"\n'


@pytest.mark.parametrize(
    ("text", "kind", "match"),
    [
        ("", ValueError, r"`compare` must have at least one variant, .* but has none instead"),
        ("[foo]\na = 1", ValueError, r"`foo` must be one of the known keys \(data, .*compare\)"),
        (GRID + "[compare.foo]", ValueError, r"`compare\.foo` must be one of the known keys"),
        ('[compare]\nmethods = ["x"]', ValueError, r"`compare\.methods` must be .* but has 'x'"),
        ('[compare]\nmethods = "x"', ValueError, r"`compare\.methods` must be .* but has 'x'"),
        ("[compare]\nmethods = [1]", ValueError, r"`compare\.methods` must be .* but has 1 inst"),
        ('[compare]\nmethods = [["x"]]', ValueError, r"`compare\.methods` must be .* has \['x'\]"),
        ("[compare]\nmethods = [{a = 1}]", ValueError, r"`compare\.methods` must be .* has {'a'"),
        ("[compare]\nmethods = 3", TypeError, r"`compare\.methods` must be a list, but is 3"),
        ("[compare]\nvariants = [1]", ValueError, r"`compare\.variants` must be a list of tables"),
        (GRID.replace("[0, 1]", "[0, 0]"), ValueError, r"`compare\.seeds` must be .*\[0, 0\]"),
        (GRID.replace("[0, 1]", "[]"), ValueError, r"`compare\.seeds` must be .* but is \[\]"),
        (GRID.replace("[0, 1]", "[-1]"), ValueError, r"`compare\.seeds` must be .* is \[-1\]"),
        (GRID.replace("[0, 1]", '["a"]'), TypeError, r"`compare\.seeds\.0` must be an integer"),
        (GRID.replace('= "multitask"', '= "q"'), ValueError, r"`compare\.baseline` must be .* 'q'"),
        (GRID.replace('"student"', '"x"'), ValueError, r"`compare\.variants\.0\.role` must be"),
        (GRID + VARIANT + VARIANT, ValueError, r"`compare\.variants` must have .* has 'x' twice"),
        (GRID + VARIANT.replace("x", "multitask"), ValueError, r"but has 'multitask' twice"),
        (GRID + '[[compare.variants]]\nrole = "student"', ValueError, r"\.1\.label` must be given"),
        (GRID + VARIANT.replace("x", " "), ValueError, r"`compare\.variants\.1\.label` must be"),
        (GRID + VARIANT + "a = 1", ValueError, r"`compare\.variants\.1\.a` must be .*\(label"),
        (GRID + VARIANT + "train = 3", TypeError, r"`compare\.variants\.1\.train` must be a table"),
        (
            GRID + VARIANT + "train = { epochs = 0 }",
            ValueError,
            r"`compare\.variants\.1\.train\.epochs` must be at least 1, but is 0 instead",
        ),
        (
            GRID + VARIANT + 'method = { name = "x" }',
            ValueError,
            r"`compare\.variants\.1\.method\.name` must be one of .* but is 'x' instead",
        ),
        (
            GRID + VARIANT + 'model = { name = "x" }',
            ValueError,
            r"`compare\.variants\.1\.model\.name` must be one of .* but is 'x' instead",
        ),
        (
            GRID + VARIANT + "train = { seed = 3 }",
            ValueError,
            r"`compare\.variants\.1\.train\.seed` must be left to `compare\.seeds`, but is 3",
        ),
        (GRID.replace("epochs = 1", "seed = 3"), ValueError, r"`train\.seed` must be left to"),
        (GRID.replace("epochs = 1", "epochs = 0"), ValueError, r"^`train\.epochs` must be at lea"),
        (GRID.replace("temperature", "heat"), ValueError, r"^`method\.heat` must be one of the k"),
        ("= 1", ValueError, r"`config` must be valid TOML, but .* instead"),
    ],
)  # fmt: skip
def test_every_fault_is_one_sentence_with_its_key(text, kind, match):
    with pytest.raises(kind, match=match) as found:
        CompareConfig.from_toml(text)
    assert str(found.value).count("\n") == 0


def test_files_that_are_no_grid(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`config` must be a TOML file or one of the pre"):
        CompareConfig.from_file(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"`config` must be UTF-8 text"):
        CompareConfig.from_file(tmp_path / "bytes.toml")
    (tmp_path / "long.toml").write_text("#" * (1 << 20 | 1))
    with pytest.raises(ValueError, match=r"`config` must be a file of at most 1048576 bytes"):
        CompareConfig.from_file(tmp_path / "long.toml")
