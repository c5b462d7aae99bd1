"""A made-up but realistic run folder, so that the report is tested without training."""

from __future__ import annotations

import csv
import gzip
import json
import warnings

import numpy as np
import pytest
from sklearn import metrics as scores

ACTIVITIES = (
    "walking", "jogging", "stairs", "sitting", "standing", "typing", "teeth", "soup", "chips",
    "pasta", "drinking", "sandwich", "kicking", "catch", "dribbling", "writing", "clapping",
    "folding",
)  # fmt: skip
POSTURES = (
    "up", "upright", "rightup", "right", "rightdown", "downright", "down", "downleft", "leftdown",
    "left", "leftup", "upleft",
)  # fmt: skip
WISDM_LIKE = {"activity": ACTIVITIES, "placement": ("phone", "watch")}
SLEEP_LIKE = {"posture": POSTURES, "placement": ("neck", "chest", "belly")}
ROLES = ("student", "teacher")


def _score(target, prediction, confidence, num_classes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        correct = target == prediction
        bins = np.minimum((confidence * 15).astype(int), 14)
        ece = sum(
            abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
        return {
            "accuracy": float(correct.mean()),
            "balanced_accuracy": float(scores.balanced_accuracy_score(target, prediction)),
            "macro_f1": float(scores.f1_score(target, prediction, average="macro")),
            "cohen_kappa": float(scores.cohen_kappa_score(target, prediction)),
            "mcc": float(scores.matthews_corrcoef(target, prediction)),
            "ece": float(ece),
            "largest_class_share": float(np.bincount(target).max() / len(target)),
        }


def _predict(rng, target, num_classes, difficulty):
    """Logits with a neighbour confusion, so that the matrix has a structure worth looking at."""
    logits = rng.normal(size=(len(target), num_classes))
    logits[np.arange(len(target)), target] += 3.2 - difficulty
    logits[np.arange(len(target)), (target + 1) % num_classes] += 1.2
    exponent = np.exp(1.4 * logits)
    share = exponent / exponent.sum(1, keepdims=True)
    return share.argmax(1), share.max(1)


def _write_fake_run(
    folder, class_names=None, *, num_subjects=20, num_folds=5, epochs=12, per_subject=60,
    protocol="subject", method="smooth-distill", subject_prefix="", seed=0,
):  # fmt: skip
    """Write every file that the trainer writes, but the weights; returns the folder."""
    class_names = {task: tuple(names) for task, names in (class_names or WISDM_LIKE).items()}
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    subjects = [f"{subject_prefix}{1600 + number}" for number in range(num_subjects)]
    skill = dict(zip(subjects, rng.normal(0, 0.5, num_subjects), strict=True))
    fold_of = {subject: number % num_folds for number, subject in enumerate(subjects)}
    tasks = list(class_names)

    prediction_rows, by_key = [], {}
    window = 0
    for subject in subjects:
        fold = fold_of[subject]
        targets = {}
        for task, names in class_names.items():
            share = rng.dirichlet(np.full(len(names), 4.0))
            present = len(names) - (1 if fold == 2 and len(names) > 4 else 0)
            share = share[:present] / share[:present].sum()
            targets[task] = rng.choice(present, size=per_subject, p=share)
        for role in ROLES:
            for task, names in class_names.items():
                difficulty = 0.9 - skill[subject] - (0.25 if role == "teacher" else 0.0)
                difficulty -= 1.2 if len(names) < 5 else 0.0
                predicted, confidence = _predict(rng, targets[task], len(names), difficulty)
                by_key[fold, subject, role, task] = (targets[task], predicted, confidence)
                prediction_rows += [
                    [fold, window + row, subject, role, task, t, p, f"{c:.6f}"]
                    for row, (t, p, c) in enumerate(
                        zip(targets[task], predicted, confidence, strict=True)
                    )
                ]
        window += per_subject
    with gzip.open(folder / "predictions.csv.gz", "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["fold", "window", "subject", "role", "task", "target", "prediction", "confidence"]
        )
        writer.writerows(prediction_rows)

    metric_rows, subject_rows, summary = [], [], {"tasks": {}}
    for task, names in class_names.items():
        summary["tasks"][task] = {}
        for role in ROLES:
            per_fold = []
            for fold in range(num_folds):
                parts = [v for k, v in by_key.items() if k[0] == fold and k[2:] == (role, task)]
                joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
                per_fold.append(_score(*joined, len(names)))
                metric_rows += [[fold, role, task, m, v] for m, v in per_fold[-1].items()]
            per_person = {}
            for (fold, subject, r, t), arrays in by_key.items():
                if (r, t) == (role, task):
                    per_person[subject] = _score(*arrays, len(names))
                    subject_rows.append(
                        [fold, subject, role, task, len(arrays[0]), *per_person[subject].values()]
                    )
            summary["tasks"][task][role] = {}
            for metric in per_fold[0]:
                values = [row[metric] for row in per_fold]
                people = np.array([row[metric] for row in per_person.values()])
                draws = rng.choice(people, size=(500, len(people))).mean(1)
                summary["tasks"][task][role][metric] = {
                    "mean": float(np.mean(values)),
                    "std": float(np.std(values)),
                    "ci95": [float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))],
                }
    summary["selected"] = ["teacher"] * num_folds
    (folder / "summary.json").write_text(json.dumps(summary))
    metric_names = list(next(iter(summary["tasks"].values()))["student"])
    for name, header, rows in (
        ("metrics.csv", ["fold", "role", "task", "metric", "value"], metric_rows),
        (
            "per_subject.csv",
            ["fold", "subject", "role", "task", "num_windows", *metric_names],
            subject_rows,
        ),
    ):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])

    header = ["fold", "epoch", "seconds", "train_total"]
    for task in tasks:
        header += [
            f"train_{task}_cross_entropy", f"train_{task}_distillation", f"train_{task}_accuracy",
            f"validation_student_{task}_macro_f1", f"validation_teacher_{task}_macro_f1",
        ]  # fmt: skip
    header += ["validation_student_macro_f1", "validation_teacher_macro_f1", "is_best"]
    history = []
    for fold in range(num_folds):
        offset = rng.normal(0, 0.02)
        for epoch in range(epochs):
            rise = 1 - np.exp(-(epoch + 1) / 4)
            row, student, teacher = [fold, epoch, 3.1, 1.2], [], []
            for names in class_names.values():
                chance = np.log(len(names))
                top = 0.62 if len(names) > 4 else 0.8
                student.append(top * rise + offset + rng.normal(0, 0.02))
                teacher.append(top * (1 - np.exp(-epoch / 3.5)) + offset + 0.02)
                distillation = 0.0 if method == "multitask" else 0.8 * rise * np.exp(-epoch / 9)
                row += [chance * np.exp(-epoch / 6), distillation, rise, student[-1], teacher[-1]]
            history.append([*row, np.mean(student), np.mean(teacher), epoch == epochs - 1])
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *history])

    (folder / "config.toml").write_text(
        f'[data]\nname = "wisdm"\nwindow_samples = 100\nstep_samples = 60\n\n'
        f'[model]\nname = "mtl-net"\nlayout = "axes"\n\n[method]\nname = "{method}"\n'
        f"decay = 0.999\ndistill_weight = 0.5\ntemperature = 3.0\n\n[train]\nepochs = {epochs}\n"
        f'batch_size = 64\nlr = 0.001\nseed = 0\ndevice = "cpu"\n\n[split]\n'
        f'protocol = "{protocol}"\nnum_folds = {num_folds}\n'
    )
    (folder / "status.json").write_text(json.dumps({"state": "finished", "seconds": 212.4}))
    (folder / "environment.json").write_text(
        json.dumps({"smoothdistill": "0.1.0", "torch": "2.13.0", "python": "3.11.2"})
    )
    (folder / "data.json").write_text(
        json.dumps(
            {
                "name": "wisdm", "num_windows": window, "num_subjects": num_subjects,
                "sample_rate_hz": 20.0, "window_samples": 100, "fingerprint": "5f" * 32,
                "class_names": {task: list(names) for task, names in class_names.items()},
                "channel_names": ["x", "y", "z"],
            }
        )
    )  # fmt: skip
    folds = [
        {
            "index": fold,
            "train_subjects": [s for s in subjects if fold_of[s] not in (fold, (fold + 1) % 5)],
            "validation_subjects": [s for s in subjects if fold_of[s] == (fold + 1) % num_folds],
            "test_subjects": [s for s in subjects if fold_of[s] == fold],
            "num_train": 3 * window // 5, "num_validation": window // 5, "num_test": window // 5,
        }
        for fold in range(num_folds)
    ]  # fmt: skip
    (folder / "splits.json").write_text(
        json.dumps({"protocol": protocol, "num_folds": num_folds, "seed": 0, "folds": folds})
    )
    return folder


@pytest.fixture(scope="session")
def write_fake_run():
    """``write_fake_run(folder, class_names, **options) -> Path``."""
    return _write_fake_run


@pytest.fixture
def make_fake_run(tmp_path):
    """``make_fake_run(name="run", **options) -> Path`` of a fresh fake run folder."""

    def make(name="run", *arguments, **options):
        return _write_fake_run(tmp_path / name, *arguments, **options)

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A really trained run: two folds, one epoch, six made-up wearers."""
    from smoothdistill.training import RunConfig, Trainer

    table = {
        "data": {"name": "synthetic", "num_subjects": 6},
        "train": {"epochs": 1, "device": "cpu"},
        "split": {"num_folds": 2},
    }
    folder = tmp_path_factory.mktemp("tiny") / "run"
    return Trainer.from_config(RunConfig.from_table(table), out=folder, progress=False).fit()


SMALL_GRID = """
[data]
name = "synthetic"
num_subjects = 6

[train]
epochs = 2
device = "cpu"
path = "general"  # fused, each process measures which products are fastest

[split]
num_folds = 2

[compare]
seeds = [0, 1]
methods = ["multitask", "smooth-distill"]

[[compare.variants]]
label = "teacher only"
role = "teacher"
method = { name = "smooth-distill" }

[[compare.variants]]
label = "leaking"
method = { name = "smooth-distill" }
split = { protocol = "published", folds = [0] }
"""


@pytest.fixture(scope="session")
def small_grid():
    """A grid of two methods, one of them twice, and a leaking variant: ten different cells."""
    return SMALL_GRID


@pytest.fixture(scope="session")
def small_comparison(tmp_path_factory):
    """That grid, trained; only to be looked at."""
    from smoothdistill.evaluation import CompareConfig, compare

    folder = tmp_path_factory.mktemp("comparison") / "out"
    return compare(CompareConfig.from_toml(SMALL_GRID), out=folder, progress=False)
