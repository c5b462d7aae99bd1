from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from smoothdistill.errors import DataError, NonFiniteError
from smoothdistill.methods import METHODS
from smoothdistill.training import Run, RunConfig, Trainer, fold_trainer
from smoothdistill.training.data_source import load_windows


def test_two_runs_are_equal_and_leave_the_callers_generators_alone(finished_run, tiny, tmp_path):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002  (it is the global generator that must stay put)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    run = tiny.make_trainer(tmp_path / "run").fit(tiny.make_windows(), num_folds=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    for name in ("predictions.csv.gz", "metrics.csv", "per_subject.csv", "splits.json"):
        assert (run.folder / name).read_bytes() == (finished_run.folder / name).read_bytes(), name
    for fold in range(3):
        one, two = run.checkpoint(fold), finished_run.checkpoint(fold)
        for role, state in one.weights.items():
            assert all(torch.equal(state[key], two.weights[role][key]) for key in state)


def test_another_seed_is_another_run_on_the_same_folds(finished_run, tiny, tmp_path):
    run = tiny.make_trainer(tmp_path / "run", seed=1, epochs=1).fit(
        tiny.make_windows(), num_folds=3
    )
    name = "splits.json"
    assert (run.folder / name).read_bytes() == (finished_run.folder / name).read_bytes()
    assert run.history["train_total"][0] != finished_run.history["train_total"][0]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains(tiny, tmp_path, method):
    kinds = {}
    if METHODS[method].teacher_model != "none":
        options = {"width": 0.1, "dropout": 0.0}
        kinds = {"model": "har-mlp", "teacher": {"model": {"name": "har-mlp", **options}}}
    trainer = tiny.make_trainer(
        tmp_path / "run", method=method, epochs=4, method_options={}, **kinds
    )
    run = trainer.fit(tiny.make_windows(), num_folds=2)
    assert run.config.method.name == method
    assert math.isfinite(run.history["train_total"].sum())


def test_before_swa_averages_its_copy_is_not_chosen(tiny, tmp_path, monkeypatch):
    scores = iter(np.linspace(0.9, 0.1, 100))  # the first epoch would be the best
    monkeypatch.setattr(fold_trainer, "mean_over_tasks", lambda _: next(scores))
    trainer = tiny.make_trainer(tmp_path / "run", method="swa", method_options={"start": 0.5})
    run = trainer.fit(tiny.make_windows(), num_folds=3, folds=[0])
    assert run.summary["folds"][0]["best_epochs"] == {"student": 0, "teacher": 2}


def test_some_folds_only_and_no_standardization(tiny, tmp_path):
    trainer = tiny.make_trainer(tmp_path / "run", epochs=1, standardize=False)
    run = trainer.fit(tiny.make_windows(), num_folds=3, folds=[2])
    assert run.folds == [2]
    assert run.history["fold"].tolist() == [2]
    assert run.checkpoint(2).standardization.deviation.tolist() == [1.0, 1.0, 1.0]
    assert run.summary["tasks"]["activity"]["student"]["macro_f1"]["std"] is None
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run.checkpoint(0)


@pytest.mark.parametrize("protocol", ["leave-one-subject-out", "published"])
def test_other_protocols(tiny, tmp_path, protocol):
    trainer = tiny.make_trainer(tmp_path / "run", epochs=1)
    run = trainer.fit(tiny.make_windows(num_subjects=4), split=protocol, num_folds=2)
    assert run.summary["protocol"] == protocol
    assert run.summary["num_folds"] == (4 if protocol.startswith("leave") else 2)
    low, high = run.summary["tasks"]["activity"]["teacher"]["macro_f1"]["ci95"]
    assert low <= high


def test_the_official_protocol_is_for_data_sets_with_a_test_part(tiny, tmp_path, monkeypatch):
    from dataclasses import replace

    from smoothdistill.datasets import DATASETS

    windows = tiny.make_windows()
    trainer = tiny.make_trainer(tmp_path / "run", epochs=1)
    with pytest.raises(ValueError, match=r"`split\.protocol` must be another .* \(.*hapt.* have"):
        trainer.fit(windows, split="official")
    dataset = replace(DATASETS["hapt"], name=windows.name, test_subjects=("s1", "s4"))
    monkeypatch.setitem(DATASETS, windows.name, dataset)
    run = trainer.fit(windows, split="official")
    assert run.folds == [0]
    with (run.folder / "per_subject.csv").open() as file:
        assert {row.split(",")[1] for row in file} == {"subject", "s1", "s4"}


def test_missing_classes_are_stated(tiny, tmp_path):
    windows = tiny.make_windows()
    windows.targets["activity"][(windows.targets["activity"] == 3) & (windows.subjects != "s0")] = 2
    run = tiny.make_trainer(tmp_path / "run", epochs=1).fit(windows, num_folds=3)
    missing = run.summary["missing_classes"]
    assert all(entry["classes"] == ["run"] and entry["task"] == "activity" for entry in missing)
    assert len(missing) == 6  # of three sides in each of three folds only one has subject s0


def test_a_new_folder_by_default(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run = tiny.make_trainer(None, epochs=1).fit(tiny.make_windows(), num_folds=2)
        assert run.folder.parent.name == "runs"
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_folder_that_holds_a_run_is_refused(finished_run, tiny, tmp_path):
    with pytest.raises(ValueError, match=r"`out` must be a folder without a run, but .* resume"):
        tiny.make_trainer(finished_run.folder).fit(tiny.make_windows())
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`out` must be a folder, but .* is a file instead"):
        tiny.make_trainer(tmp_path / "file").fit(tiny.make_windows())


@pytest.mark.parametrize(
    ("trainer_options", "fit_options", "kind", "sentence"),
    [
        ({}, {"num_folds": 7}, DataError, "`num_folds` must be at most 6"),
        ({}, {"split": "random"}, ValueError, r"`split\.protocol` must be"),
        ({}, {"depth": 1}, ValueError, r"`split\.depth` must be one of the known keys"),
        (
            {"method_options": {"task_weights": {"mood": 1.0}}},
            {},
            ValueError,
            r"`method\.task_weights` must have one value for each of the tasks activity, placement",
        ),
        ({}, {"folds": [9]}, ValueError, r"`split\.folds` must be numbers below 5"),
        (
            {"device": "cuda:99"},
            {},
            ValueError,
            r"`train\.device` must be a device of this machine",
        ),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(
    tiny, tmp_path, trainer_options, fit_options, kind, sentence
):
    with pytest.raises(kind, match=sentence):
        tiny.make_trainer(tmp_path / "run", **trainer_options).fit(
            tiny.make_windows(), **fit_options
        )
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_built_leaves_no_folder(tiny, tmp_path):
    with pytest.raises(ValueError, match="`window_samples` must be at least 28, but is 20 instead"):
        tiny.make_trainer(tmp_path / "run", model="mtl-net").fit(tiny.make_windows(samples=20))
    assert not (tmp_path / "run").exists()


def test_bad_arguments(tiny):
    with pytest.raises(
        TypeError, match="`data` must be Windows or the name of a data set, but is a"
    ):
        tiny.make_trainer(None).fit(5)
    with pytest.raises(ValueError, match=r"`train\.epochs` must be at least 1"):
        Trainer(epochs=0)
    with pytest.raises(ValueError, match=r"`train\.speed` must be one of the known keys"):
        Trainer(speed=3)
    with pytest.raises(
        ValueError, match=r"`data\.name` must be one of .*synthetic.*'moon' instead"
    ):
        tiny.make_trainer(None).fit("moon")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"name": "csv"}, r"`data\.root` must be given where `data\.name` is 'csv'"),
        ({"name": "csv", "root": "x"}, r"`data\.targets` must be given where"),
        (
            {"name": "csv", "root": "x", "colour": 1},
            r"`data\.colour` must be one of the known keys",
        ),
    ],
)
def test_own_files_need_a_root_and_targets(data, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_windows(RunConfig.from_table({"data": data}).data)


def test_own_files_from_a_configuration(tmp_path):
    lines = ["x,y,z,label,subject"]
    lines += [f"{k},{k},{k},{'ab'[k // 50]},s{k // 25}" for k in range(100)]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    table = {
        "name": "csv", "root": str(tmp_path / "own.csv"), "window_samples": 10, "step_samples": 5,
        "sample_rate_hz": 20.0, "targets": {"activity": "label"},
    }  # fmt: skip
    windows = load_windows(RunConfig.from_table({"data": table}).data)
    assert windows.class_names["activity"] == ("a", "b")
    assert windows.window_samples == 10


def test_non_finite_losses_stop_the_run_and_keep_the_batch(tiny, tmp_path, monkeypatch):
    class Exploding(tiny.TinyNet):
        def forward(self, signals):
            out = super().forward(signals)
            return {task: z * math.nan for task, z in out.items()} if self.training else out

    from smoothdistill.models import MODELS

    monkeypatch.setitem(MODELS, "tiny-net", Exploding)
    with pytest.raises(NonFiniteError, match=r"`loss` must be finite .* batch was saved as"):
        tiny.make_trainer(tmp_path / "run").fit(tiny.make_windows(), num_folds=3)
    run = Run(tmp_path / "run")
    assert run.status["state"] == "failed"
    assert "`loss` must be finite" in run.status["error"]
    assert (run.folder / "fold-00" / "nonfinite.safetensors").is_file()


def test_a_batch_beyond_the_memory_of_a_gpu_is_one_sentence(tiny, tmp_path, monkeypatch):
    """And the process goes on: the same run trains to its end with the memory that it needs."""
    real = fold_trainer.TrainStep.__call__
    calls = []

    def step(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore.")
        return real(*arguments, **options)

    monkeypatch.setattr(fold_trainer.TrainStep, "__call__", step)
    sentence = r"`train\.batch_size` must fit the memory of the GPU, but a step of .* 9 GiB"
    with pytest.raises(MemoryError, match=sentence):
        tiny.make_trainer(tmp_path / "run").fit(tiny.make_windows(), num_folds=3)
    assert Run(tmp_path / "run").status["state"] == "failed"
    run = tiny.make_trainer(tmp_path / "again").fit(tiny.make_windows(), num_folds=3)
    assert run.status["state"] == "finished"


def test_skipped_steps_are_counted(tiny, tmp_path, monkeypatch):
    class Hiccup(tiny.TinyNet):
        num_calls = 0

        def forward(self, signals):
            Hiccup.num_calls += self.training
            out = super().forward(signals)
            is_bad = self.training and Hiccup.num_calls % 7 == 0
            return {task: z * math.nan for task, z in out.items()} if is_bad else out

    from smoothdistill.models import MODELS

    monkeypatch.setitem(MODELS, "tiny-net", Hiccup)
    run = tiny.make_trainer(tmp_path / "run").fit(tiny.make_windows(), num_folds=3)
    assert sum(fold["num_skipped_steps"] for fold in run.summary["folds"]) == Hiccup.num_calls // 7
    assert np.isfinite(run.history["train_total"]).all()


def test_progress_lines(tiny, tmp_path, capsys):
    trainer = tiny.make_trainer(tmp_path / "run", progress=True, epochs=2)
    trainer.fit(tiny.make_windows(), num_folds=2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("fold 1/2  epoch 2/2")
    assert "validation F1" in lines[1]


def test_progress_bar(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    tiny.make_trainer(tmp_path / "run", epochs=1).fit(tiny.make_windows(), num_folds=2)
    trainer = tiny.make_trainer(tmp_path / "run2", epochs=1, progress=None)
    trainer.fit(tiny.make_windows(), num_folds=2)
    assert "fold 2/2" in capsys.readouterr().err


def test_weights_that_blew_up_in_few_steps_are_named(tiny, tmp_path):
    trainer = Trainer(model="tiny-net", epochs=1, batch_size=64, lr=1e38, out=tmp_path / "run")
    with pytest.raises(NonFiniteError, match=r"`model` must give finite logits, but gives NaN for"):
        trainer.fit(tiny.make_windows(), num_folds=2)
