"""Features and boosted trees against MTL-net: the same windows, the same folds of unseen subjects.

    python bench/features/bench_pipeline.py --data wisdm --root wisdm-dataset --run runs/RUN

`Pipeline(FeatureExtractor, HistGradientBoostingClassifier)` learns each task by itself from the
training windows of each fold and is scored on its test windows, as `Trainer` does it: macro-F1 of
each fold, their mean, and a bootstrap interval over subjects. `--run` names the run folder of a
network that was trained on the same data; its scores stand beside those of the pipeline, and its
folds must be the same ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smoothdistill import datasets
from smoothdistill.splits import Fold, make_folds
from smoothdistill.windows import IGNORE_INDEX, Windows


def build_pipeline(windows: Windows, features: str, seed: int):
    """Features of a window to one class."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline

    from smoothdistill.features import FeatureExtractor

    extractor = FeatureExtractor(
        features=features,
        window_samples=windows.window_samples,
        sample_rate_hz=windows.sample_rate_hz,
        dtype="float32",
        channel_names=windows.channel_names,
    )
    # With scikit-learn's defaults (no shrinkage, 31 leaves) the loss runs away where classes are
    # rare: macro-F1 0.25 in place of 0.8 on HAPT. Chosen on its validation subjects.
    trees = HistGradientBoostingClassifier(
        max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
    )
    return make_pipeline(extractor, trees)


def run_fold(windows: Windows, fold: Fold, task: str, features: str, seed: int) -> dict[str, Any]:
    """Scores of one task on one fold, and where the time went."""
    from smoothdistill.training.metrics import macro_f1

    targets = windows.targets[task]
    train = fold.train[targets[fold.train] != IGNORE_INDEX]
    pipeline = build_pipeline(windows, features, seed)
    begun = time.perf_counter()
    table = pipeline[0].fit_transform(windows.signals[train])
    extracted = time.perf_counter()
    pipeline[1].fit(table, targets[train])
    fitted = time.perf_counter()
    probabilities = pipeline.predict_proba(windows.signals[fold.test])
    predicted = time.perf_counter()
    predictions = pipeline[-1].classes_[probabilities.argmax(axis=1)]
    return {
        "fold": fold.index,
        "task": task,
        "num_features": table.shape[1],
        "num_iterations": int(pipeline[1].n_iter_),
        "macro_f1": macro_f1(targets[fold.test], predictions),
        "predictions": predictions,
        "confidences": probabilities.max(axis=1),
        "features_seconds": extracted - begun,
        "fit_seconds": fitted - extracted,
        "predict_seconds": predicted - fitted,
    }


def interval_over_subjects(
    windows: Windows, folds: list[Fold], rows: list[dict[str, Any]], seed: int
) -> tuple[float, float]:
    """95 % interval of the mean macro-F1 over the subjects, as a run's summary has it."""
    from smoothdistill.training.bootstrap import subject_intervals
    from smoothdistill.training.tallies import count_predictions

    task = rows[0]["task"]
    columns: list[list[np.ndarray]] = []
    places, names = [], []
    for place, (fold, row) in enumerate(zip(folds, rows, strict=True)):
        targets = windows.targets[task][fold.test]
        subjects, numbers = np.unique(windows.subjects[fold.test], return_inverse=True)
        is_labelled = targets != IGNORE_INDEX
        parts = (targets, row["predictions"], row["confidences"], len(places) + numbers)
        columns.append([part[is_labelled] for part in parts])
        places += [place] * len(subjects)
        names += subjects.tolist()
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    tally = count_predictions(*joined, num_sets=len(places), num_classes=windows.num_classes[task])
    _, people = np.unique(names, return_inverse=True)
    return subject_intervals(tally, np.array(places), people, seed=seed)["macro_f1"]


def scores_of_run(run: Path, windows: Windows, folds: list[Fold]) -> Iterator[dict[str, Any]]:
    """Mean macro-F1 and its interval by task and role, of a network's run on the same folds."""
    from smoothdistill.training.run_folder import split_digest

    splits = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    digests = [fold["digest"] for fold in splits["folds"]]
    if digests != [split_digest(fold) for fold in folds]:
        raise ValueError(f"`run` must have the folds of this data, but {run} has others instead.")
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for task, by_role in summary["tasks"].items():
        for role, scores in by_role.items():
            low, high = scores["macro_f1"]["ci95"]
            yield {
                "task": task,
                "model": f"MTL-net, {role}",
                "macro_f1": scores["macro_f1"]["mean"],
                "macro_f1_low": low,
                "macro_f1_high": high,
            }


def compare(
    windows: Windows, *, features: str, seed: int, num_folds: int, run: Path | None
) -> dict[str, Any]:
    """Scores of the pipeline, and of the run if there is one, by task."""
    import sklearn

    from smoothdistill.training.environment import describe_environment
    from smoothdistill.training.run_folder import split_digest

    folds = make_folds(windows, num_folds=num_folds)
    found: dict[str, Any] = {
        "data": windows.name,
        "windows": len(windows),
        "features": features,
        "environment": {
            **describe_environment(torch.device("cpu")), "scikit-learn": sklearn.__version__,
        },
        "scores": [],
        "folds": [],
    }  # fmt: skip
    if run is not None:
        found["scores"] += scores_of_run(run, windows, folds)
    for task in windows.tasks:
        rows = []
        for fold in folds:
            row = run_fold(windows, fold, task, features, seed)
            rows.append(row)
            plain = {key: value for key, value in row.items() if np.isscalar(value)}
            found["folds"].append({**plain, "digest": split_digest(fold)})
            print(
                f"{task}, fold {fold.index}: macro-F1 {row['macro_f1']:.3f}, "
                f"{row['num_features']} features in {row['features_seconds']:.2f} s, "
                f"{row['num_iterations']} rounds of trees in {row['fit_seconds']:.0f} s",
                flush=True,
            )
        low, high = interval_over_subjects(windows, folds, rows, seed)
        found["scores"].append(
            {
                "task": task,
                "num_features": rows[0]["num_features"],
                "model": f"{rows[0]['num_features']} features + boosted trees",
                "macro_f1": float(np.mean([row["macro_f1"] for row in rows])),
                "macro_f1_low": low,
                "macro_f1_high": high,
                "features_seconds": sum(row["features_seconds"] for row in rows),
                "fit_seconds": sum(row["fit_seconds"] for row in rows),
            }
        )
    return found


@pytest.mark.filterwarnings("ignore")  # of a lacking native core, and of scikit-learn
def test_pipeline():
    """On made-up recordings, whose activities are easy: far above chance in both tasks."""
    windows = datasets.load("synthetic")
    windows = windows.select(np.arange(0, len(windows), 4))
    found = compare(windows, features="statistical", seed=0, num_folds=2, run=None)
    assert {row["task"] for row in found["scores"]} == set(windows.tasks)
    for row in found["scores"]:
        assert row["macro_f1_low"] <= row["macro_f1"] <= row["macro_f1_high"]
        assert row["macro_f1"] > 2.0 / windows.num_classes[row["task"]]


def main() -> None:
    """Compare, print, and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="synthetic", help="a name in datasets.DATASETS")
    parser.add_argument("--root", type=Path, help="folder of the recordings")
    parser.add_argument("--run", type=Path, help="run folder of a network on the same folds")
    parser.add_argument("--features", default="har", help="a preset of FeatureExtractor")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the results go")
    arguments = parser.parse_args()
    options = {} if arguments.root is None else {"root": arguments.root}
    windows = datasets.load(arguments.data, **options)
    found = compare(
        windows,
        features=arguments.features,
        seed=arguments.seed,
        num_folds=arguments.folds,
        run=arguments.run,
    )
    print("| task | model | macro-F1 |\n|---|---|---|")
    for row in sorted(found["scores"], key=lambda row: row["task"]):
        print(
            f"| {row['task']} | {row['model']} | {row['macro_f1']:.3f} "
            f"[{row['macro_f1_low']:.3f}, {row['macro_f1_high']:.3f}] |"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
