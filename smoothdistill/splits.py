"""Windows in, folds out: who is trained on, who is validated on, who is tested on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from smoothdistill.errors import DataError, SplitLeakError
from smoothdistill.windows.checks import checked_count, checked_indices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Int64

    from smoothdistill.windows import Windows

__all__ = ["Fold", "Protocol", "check_fold", "make_folds", "share_of_overlapping_windows"]

Protocol = Literal["subject", "leave-one-subject-out", "official", "published"]

_SIDES = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the windows: int64 window numbers, ascending, on three sides."""

    index: int
    train: Int64[np.ndarray, "train_windows"]
    validation: Int64[np.ndarray, "validation_windows"]
    test: Int64[np.ndarray, "test_windows"]


def make_folds(
    windows: Windows,
    *,
    protocol: Protocol = "subject",
    num_folds: int = 5,
    validation_fraction: float = 0.15,
    seed: int = 0,
    test_subjects: Sequence[str] = (),
) -> list[Fold]:
    """Divide windows into folds; every fold has passed `check_fold`.

    Args:
        windows: The windows to divide.
        protocol: "subject": the subjects are dealt into `num_folds` groups at random, and each
            group is the test side once. "leave-one-subject-out": each subject is the test side
            once. "official": one fold, tested on `test_subjects`. In all three, whole subjects of
            the training side are set apart for validation.
            "published": the random windows of the Smooth-Distill code, 20 % for the test (the same
            ones in every fold) and `num_folds` folds inside the rest for validation. It **leaks**:
            windows of one subject, and windows that overlap, are on both sides, so that its scores
            say nothing about a new wearer. For replication only.
        num_folds: Number of folds, at least 2. "leave-one-subject-out", which has one per
            subject, and "official" do not read it.
        validation_fraction: Share of the training side's subjects that validates, in (0, 1),
            rounded, at least 1 subject. "published" does not read it.
        seed: The same seed gives the same folds. Subjects count by name, not by order of windows.
        test_subjects: Whom "official" tests on, such as `Dataset.test_subjects`.

    Returns:
        The folds, numbered from 0.

    Raises:
        TypeError: If a number is of the wrong kind.
        ValueError: If an option breaks its rule.
        DataError: If there are too few subjects, or windows, for three sides.

    Source:
        "published": Smooth-Distill (arXiv 2507.00061), released code; the others by definition.
    """
    num_folds = checked_count("num_folds", num_folds)
    if num_folds < 2:
        raise ValueError(f"`num_folds` must be at least 2, but is {num_folds} instead.")
    _check_protocol(protocol)
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(
            f"`validation_fraction` must be in (0, 1), but is {validation_fraction} instead."
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"`seed` must be an integer, but is {type(seed).__name__} instead.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be in [0, {2**32}), but is {seed} instead.")
    # Subjects are numbered once: looking their names up takes seconds over 50 folds of 70k windows.
    names, subject_numbers = np.unique(windows.subjects, return_inverse=True)
    if protocol == "published":
        folds = _published_folds(windows, num_folds, seed)
    else:
        testing = _find_subjects(names, test_subjects) if protocol == "official" else None
        num_testing = None if testing is None else len(testing)
        _check_enough_subjects(names, protocol, num_folds, num_testing)
        folds = _subject_folds(
            subject_numbers, protocol, num_folds, validation_fraction, seed, testing
        )
    for fold in folds:
        _check_fold(windows, fold, protocol, names, subject_numbers)
    return folds


def check_fold(windows: Windows, fold: Fold, protocol: Protocol = "subject") -> None:
    """Refuse a fold that tests on what it has trained on.

    Args:
        windows: The windows that the fold divides.
        fold: Window numbers of its three sides.
        protocol: Under all but "published" no subject, no window and, where `recordings` and
            `starts` are known, no sample of a recording may be on two sides. Under "published",
            which leaks by definition, only no window may.

    Raises:
        SplitLeakError: If something is on two sides.
        DataError: If a side is empty, or a number is outside the windows.
        ValueError: If the protocol is unknown.
    """
    _check_protocol(protocol)
    names, subject_numbers = np.unique(windows.subjects, return_inverse=True)
    _check_fold(windows, fold, protocol, names, subject_numbers)


def share_of_overlapping_windows(windows: Windows, fold: Fold) -> float | None:
    """Share of the test windows that have samples in common with a training window, in [0, 1].

    It tells how much a "published" split leaks. None where `recordings` and `starts` are unknown.
    """
    if windows.recordings is None or windows.starts is None:
        return None
    first = windows.starts + windows.recordings * _recording_stride(windows)
    train = np.sort(first[fold.train])
    # The nearest training windows that start before, or with, and after each test window.
    after = np.searchsorted(train, first[fold.test], side="right")
    padded = np.concatenate(([np.iinfo(np.int64).min // 2], train, [np.iinfo(np.int64).max // 2]))
    overlaps = (first[fold.test] - padded[after] < windows.window_samples) | (
        padded[after + 1] - first[fold.test] < windows.window_samples
    )
    return float(overlaps.mean())


def _check_fold(
    windows: Windows,
    fold: Fold,
    protocol: Protocol,
    names: np.ndarray,
    subject_numbers: Int64[np.ndarray, "windows"],
) -> None:
    has_window = np.zeros((len(_SIDES), len(windows)), np.bool_)
    has_subject = np.zeros((len(_SIDES), len(names)), np.bool_)
    for number, side in enumerate(_SIDES):
        try:
            chosen = checked_indices(getattr(fold, side), len(windows))
        except DataError as error:
            raise DataError(f"fold {fold.index}, side `{side}`: {error}") from error
        has_window[number, chosen] = True
        has_subject[number, subject_numbers[chosen]] = True
    for one, other in combinations(range(len(_SIDES)), 2):
        shared = np.flatnonzero(has_window[one] & has_window[other])
        if shared.size:
            raise _leak(fold, one, other, f"window {shared[0]}")
    if protocol == "published":
        return
    for one, other in combinations(range(len(_SIDES)), 2):
        shared = np.flatnonzero(has_subject[one] & has_subject[other])
        if shared.size:
            raise _leak(fold, one, other, f"subject '{names[shared[0]]}'")
    if windows.recordings is not None and windows.starts is not None:
        side_of_window = np.where(has_window.any(axis=0), has_window.argmax(axis=0), -1)
        pairs = _overlapping_neighbours(windows, side_of_window)
        if pairs.size:
            one, other = sorted(int(side) for side in side_of_window[pairs[0]])
            later = pairs[0][1]  # its first sample lies in the earlier window too
            place = f"{windows.starts[later]} of recording {windows.recordings[later]}"
            raise _leak(fold, one, other, f"sample {place}")


def _find_subjects(names: np.ndarray, test_subjects: Sequence[str]) -> Int64[np.ndarray, "some"]:
    """Numbers of the subjects to test on."""
    if not test_subjects:
        raise ValueError(
            "`test_subjects` must be given for the protocol 'official', which data sets without a "
            "test part of their own have not, but is empty instead."
        )
    missing = sorted(set(test_subjects) - set(map(str, names)))
    if missing:
        raise DataError(
            f"`windows` must hold the subjects {', '.join(test_subjects)} to test on, but lacks "
            f"{', '.join(missing)} instead."
        )
    return np.flatnonzero(np.isin(names, list(test_subjects)))


def _check_enough_subjects(
    names: np.ndarray, protocol: Protocol, num_folds: int, num_testing: int | None
) -> None:
    num_subjects = len(names)
    if num_subjects == 1:
        raise DataError(
            f"`windows` must hold at least 3 subjects (to train, to validate, to test), but holds "
            f"only '{names[0]}' instead."
        )
    if protocol == "subject" and num_folds > num_subjects:
        raise DataError(
            f"`num_folds` must be at most {num_subjects}, the number of subjects, but is "
            f"{num_folds} instead."
        )
    largest_test = -(-num_subjects // num_folds) if protocol == "subject" else num_testing or 1
    if num_subjects - largest_test < 2:
        raise DataError(
            f"`windows` must hold at least {largest_test + 2} subjects (to train, to validate, and "
            f"{largest_test} to test), but holds {num_subjects} instead."
        )


def _subject_folds(
    subject_numbers: Int64[np.ndarray, "windows"],
    protocol: Protocol,
    num_folds: int,
    validation_fraction: float,
    seed: int,
    testing: Int64[np.ndarray, "some"] | None,
) -> list[Fold]:
    from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

    if testing is not None:
        is_test = np.isin(subject_numbers, testing)
        sides = [(np.flatnonzero(~is_test), np.flatnonzero(is_test))]
    else:
        splitter = (
            GroupKFold(num_folds, shuffle=True, random_state=seed)
            if protocol == "subject"
            else LeaveOneGroupOut()
        )
        sides = list(splitter.split(subject_numbers, groups=subject_numbers))
    folds = []
    for index, (rest, test) in enumerate(sides):
        known = np.unique(subject_numbers[rest])
        num_validating = min(max(1, round(validation_fraction * len(known))), len(known) - 1)
        chosen = np.random.default_rng([seed, index]).permutation(known)[:num_validating]
        validates = np.isin(subject_numbers[rest], chosen)
        folds.append(Fold(index, rest[~validates], rest[validates], test))
    return folds


def _published_folds(windows: Windows, num_folds: int, seed: int) -> list[Fold]:
    from sklearn.model_selection import KFold, train_test_split

    if len(windows) < 2 * num_folds:  # 4/5 of them must hold one per fold, and one is tested
        raise DataError(
            f"`windows` must hold at least {2 * num_folds} windows for {num_folds} folds, but "
            f"holds {len(windows)} instead."
        )
    rest, test = train_test_split(np.arange(len(windows)), test_size=0.2, random_state=seed)
    rest, test = np.sort(rest), np.sort(test)
    splitter = KFold(num_folds, shuffle=True, random_state=seed)
    return [
        Fold(index, rest[train], rest[validation], test)
        for index, (train, validation) in enumerate(splitter.split(rest))
    ]


def _overlapping_neighbours(
    windows: Windows, side_of_window: Int64[np.ndarray, "windows"]
) -> Int64[np.ndarray, "pairs 2"]:
    """Pairs of windows with common samples and different sides, neighbours in order of time.

    If any two windows overlap across sides, so do two neighbours: one that lies between the two
    overlaps both, and its side differs from one of theirs.
    """
    assert windows.recordings is not None
    assert windows.starts is not None
    used = np.flatnonzero(side_of_window >= 0)
    order = used[np.lexsort((windows.starts[used], windows.recordings[used]))]
    earlier, later = order[:-1], order[1:]
    overlaps = (windows.recordings[earlier] == windows.recordings[later]) & (
        windows.starts[later] - windows.starts[earlier] < windows.window_samples
    )
    differ = side_of_window[earlier] != side_of_window[later]
    crosses = overlaps & differ
    return np.stack([earlier[crosses], later[crosses]], axis=1)


def _recording_stride(windows: Windows) -> int:
    """A distance that keeps the windows of two recordings apart on one line of samples."""
    assert windows.starts is not None
    return int(windows.starts.max()) + 2 * windows.window_samples


def _check_protocol(protocol: str) -> None:
    if protocol not in get_args(Protocol):
        names = ", ".join(f"'{name}'" for name in get_args(Protocol))
        raise ValueError(f"`protocol` must be one of {names}, but is {protocol!r} instead.")


def _leak(fold: Fold, one: int, other: int, what: str) -> SplitLeakError:
    return SplitLeakError(
        f"`fold` must have no {what.split()[0]} on two sides, but fold {fold.index} has {what} in "
        f"`{_SIDES[one]}` and in `{_SIDES[other]}` instead."
    )
