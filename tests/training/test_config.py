from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from smoothdistill import presets
from smoothdistill.training import RunConfig
from smoothdistill.training import config as config_module

positive = st.floats(1e-6, 1e6)


@settings(max_examples=200)
@given(
    epochs=st.integers(1, 10**6),
    lr=st.floats(0.0, 1e3),
    seed=st.integers(0, 2**63 - 1),
    standardize=st.booleans(),
    root=st.none() | st.text(),
    folds=st.none() | st.lists(st.integers(0, 50), min_size=1, unique=True),
    decay=st.floats(0.0, 1.0),
    temperature=positive | st.fixed_dictionaries({"a": positive, "b c": positive}),
    fraction=st.floats(0.01, 0.99),
    option=st.text(min_size=1),
)
def test_toml_round_trip_is_exact(
    epochs, lr, seed, standardize, root, folds, decay, temperature, fraction, option
):
    table = {
        "data": {"name": "synthetic", "reader_option": option},
        "method": {"decay": decay, "temperature": temperature},
        "train": {"epochs": epochs, "lr": lr, "seed": seed, "standardize": standardize},
        "split": {"validation_fraction": fraction},
    }
    if root is not None:
        table["data"]["root"] = root
    if folds is not None:
        table["split"]["folds"] = folds
    config = RunConfig.from_table(table)
    again = RunConfig.from_toml(config.to_toml())
    assert again == config
    assert again.to_toml() == config.to_toml()
    assert again.data.options == {"reader_option": option}


def test_defaults_are_the_papers():
    config = RunConfig.from_table({})
    assert (config.train.epochs, config.train.batch_size, config.train.lr) == (50, 64, 1e-3)
    assert config.method.name == "smooth-distill"
    assert config.split.protocol == "subject"
    assert config == RunConfig()


@pytest.mark.parametrize(
    ("override", "kind", "sentence"),
    [
        ("train.epoch=5", ValueError, r"`train\.epoch` must be one of the known keys \(epochs, "),
        (
            "training.epochs=5",
            ValueError,
            r"`training` must be one of the known keys \(data, model",
        ),
        ("train.epochs=0", ValueError, r"`train\.epochs` must be at least 1, but is 0 instead"),
        ("train.epochs=2.5", TypeError, r"`train\.epochs` must be an integer, but is 2\.5 instead"),
        ("train.epochs=many", TypeError, r"`train\.epochs` must be an integer, but is 'many'"),
        ("train.epochs=true", TypeError, r"`train\.epochs` must be an integer, but is True"),
        ("train.lr=nan", ValueError, r"`train\.lr` must be .*, but is nan instead"),
        ("train.lr=inf", ValueError, r"`train\.lr` must be a finite number, but is inf instead"),
        ("train.lr=-1.0", ValueError, r"`train\.lr` must be at least 0, but is -1\.0 instead"),
        ("train.seed=-1", ValueError, r"`train\.seed` must be at least 0, but is -1 instead"),
        ("train.standardize=1", TypeError, r"`train\.standardize` must be true or false, but is 1"),
        (
            "train.precision=float16",
            ValueError,
            r"`train\.precision` must be one of float32, bfloat16, but is 'float16' instead",
        ),
        ("train.device=tpu", ValueError, r'`train\.device` must be "auto", "cpu", "cuda" or'),
        ("train.device=cuda:x", ValueError, r'`train\.device` must be "auto", "cpu", "cuda" or'),
        ("split.protocol=random", ValueError, r"`split\.protocol` must be 'subject', 'leave-one"),
        ("split.num_folds=1", ValueError, r"`split\.num_folds` must be at least 2, but is 1"),
        ("split.folds=[1, 1]", ValueError, r"`split\.folds` must be a list of different numbers"),
        ("split.folds=all", TypeError, r"`split\.folds` must be a list, but is 'all' instead"),
        (
            "split.validation_fraction=1.0",
            ValueError,
            r"`split\.validation_fraction` must be below",
        ),
        ("method.name=magic", ValueError, r"`method\.name` must be one of .*, but is 'magic'"),
        ("method.decay=2.0", ValueError, r"`method\.decay` must be at most 1, but is 2\.0"),
        (
            "method.decay=x",
            (TypeError, ValueError),
            r"`method\.decay` must be a number, but is 'x'",
        ),
        (
            "method.depth=2",
            ValueError,
            r"`method\.depth` must be one of the known keys \(task_weights",
        ),
        ("model.name=gpt", ValueError, r"`model\.name` must be one of .*, but is 'gpt' instead"),
        ("model.depth=2", ValueError, r"`model\.depth` must be one of the known keys for mtl-net"),
        ("data.window_samples=0", ValueError, r"`data\.window_samples` must be at least 1"),
        (
            "data.label=first",
            ValueError,
            r"`data\.label` must be 'last', 'majority', 'middle' or 'pure'",
        ),
        ("data.name=5", TypeError, r"`data\.name` must be a string, but is 5 instead"),
    ],
)
def test_a_bad_key_is_named_with_its_path(override, kind, sentence):
    with pytest.raises(kind, match=sentence) as caught:
        RunConfig.from_toml("", [override])
    assert "\n" not in str(caught.value)


def test_a_section_must_be_a_table():
    with pytest.raises(TypeError, match="`train` must be a table, but is 5 instead"):
        RunConfig.from_toml("train = 5")


def test_broken_toml():
    with pytest.raises(ValueError, match=r"`config` must be valid TOML, but .*line 1"):
        RunConfig.from_toml("train = ]")


def test_files(tmp_path):
    path = tmp_path / "run.toml"
    with pytest.raises(FileNotFoundError, match=r"`config` must be a TOML file or .* not exist"):
        RunConfig.from_file(path)
    path.write_text("[train]\nepochs = 3\n")
    assert RunConfig.from_file(path, ["train.lr=0.5"]).train.lr == 0.5
    path.write_bytes(b"# \xff")
    with pytest.raises(ValueError, match="`config` must be UTF-8 text"):
        RunConfig.from_file(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ValueError, match="`config` must be a file of at most 1048576 bytes"):
        RunConfig.from_file(path)


def test_overrides_of_a_config():
    config = RunConfig().with_overrides(["train.epochs=2", "split.folds=[2, 0]"])
    assert config.train.epochs == 2
    assert config.split.folds == (0, 2)


def test_a_config_is_frozen():
    config = RunConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3
    assert math.isclose(config.train.lr, 1e-3)


def test_every_key_says_what_it_is():
    import ast
    from pathlib import Path

    tree = ast.parse(Path(config_module.__file__).read_text(encoding="utf-8"))
    undocumented = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config") and node.name[0] != "_":
            for item, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(item, ast.AnnAssign) and node.name != "RunConfig":
                    has_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    undocumented += [] if has_text else [f"{node.name}.{item.target.id}"]
    assert not undocumented
    assert issubclass(RunConfig, BaseModel)


def test_a_grid_gives_what_all_of_its_variants_share(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text("[train]\nepochs = 3\n[compare]\nseeds = [0, 1]\n")
    assert RunConfig.from_file(path) == RunConfig.from_table({"train": {"epochs": 3}})
    assert RunConfig.from_file("quick") == RunConfig.from_file(presets.path("quick"))
