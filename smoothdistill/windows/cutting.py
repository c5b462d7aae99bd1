"""`cut_windows`: from recordings to labelled windows that cross no border."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.windows.arrays import IGNORE_INDEX, Recording, Windows
from smoothdistill.windows.checks import check_labels_in_range, checked_class_names
from smoothdistill.windows.segmenter import Segmenter, cut_segments
from smoothdistill.windows.segments import copy_into

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from smoothdistill.windows.labelling import LabelRule

__all__ = ["cut_windows"]


def cut_windows(
    recordings: Iterable[Recording],
    *,
    class_names: Mapping[str, tuple[str, ...]],
    window_samples: int = 100,
    step_samples: int = 60,
    label: LabelRule = "pure",
    max_gap_seconds: float | None = None,
    name: str = "custom",
) -> Windows:
    """Cut recordings into overlapping windows that cross no border, and label them.

    A border lies between two recordings (so between two subjects or sessions), where time steps
    backwards, and where it steps on by more than `max_gap_seconds`. Equal timestamps are no border:
    phones deliver samples in bursts that share one. Windows start anew after every border; what is
    left before the next one, shorter than a window, is dropped.

    The windows are counted first and the result is allocated once, so that memory peaks at the
    recordings plus the result.

    Args:
        recordings: Recordings with the same tasks, channels and rate. Those shorter than a window
            add none.
        class_names: Names of the classes per task.
        window_samples: Window length, in samples, at least 1.
        step_samples: Hop between window starts, in samples, at least 1.
        label: "pure": a change of label in any task is a border too, so a window holds one label.
            "last": the label of the last sample. "middle": that of the middle one, the later of
            two. "majority": the most frequent label of the window; in a tie the lowest class, and a
            class before `IGNORE_INDEX`. A window that is unlabelled in every task is dropped.
        max_gap_seconds: Longest step of time inside a window, in seconds, above 0. The default is
            the larger of 2.5 sample periods (one sample may be missing) and 0.25 s: phones stamp
            bursts on arrival, so their jitter is no share of the period (in the sp_sw_har logs at
            100 Hz, 5 % of the steps exceed 2.5 periods and none exceeds 0.2 s). Used
            only where a recording has timestamps.
        name: What the data are called in reports.

    Returns:
        The windows in the order of the recordings, then of time, with `recordings` and `starts`.

    Raises:
        TypeError: If a recording or a number is of the wrong kind.
        ValueError: If an option breaks its rule.
        DataError: If the recordings disagree, a label is no class, or no window fits.
    """
    recordings = list(recordings)
    segmenter = Segmenter(
        window_samples=window_samples,
        step_samples=step_samples,
        label=label,
        max_gap_seconds=max_gap_seconds,
    )
    _check_agreement(recordings)
    first = recordings[0]
    segmenter = replace(segmenter, sample_rate_hz=first.sample_rate_hz)
    class_names = checked_class_names(class_names, first.targets, must_be_given=True)

    # Places and labels first: 8 bytes per window and task, against 1200 for a signal of 100 x 3.
    cuts = []
    longest = 0
    for number, recording in enumerate(recordings):
        place = f"recordings[{number}].targets"
        segments = cut_segments(
            segmenter,
            len(recording),
            timestamps_seconds=recording.timestamps_seconds,
            groups=None,
            targets=recording.targets,
            check_labels=partial(
                check_labels_in_range, place, class_names=class_names, ignore_index=IGNORE_INDEX
            ),
        )
        longest = max(longest, int(np.diff(segments.borders).max()))
        is_labelled = segments.is_labelled
        cuts.append(segments if is_labelled.all() else segments.select(is_labelled))
    counts = [len(segments) for segments in cuts]
    if longest < segmenter.width_samples:
        raise DataError(
            f"`window_samples` must be at most {longest} (the longest stretch without a border in "
            f"{len(recordings)} recordings), but is {segmenter.width_samples} instead."
        )
    if not sum(counts):
        raise DataError(
            "`recordings` must hold at least 1 window with a label, but every window is unlabelled "
            "instead."
        )

    signals = np.empty((sum(counts), first.signal.shape[1], segmenter.width_samples), np.float32)
    filled = 0
    for recording, segments in zip(recordings, cuts, strict=True):
        copy_into(signals[filled : filled + len(segments)], recording.signal, segments)
        filled += len(segments)
    return Windows(
        signals,
        targets={
            task: np.concatenate([segments.targets[task] for segments in cuts])
            for task in first.targets
        },
        subjects=np.repeat([recording.subject for recording in recordings], counts),
        sample_rate_hz=first.sample_rate_hz,
        class_names=class_names,
        channel_names=first.channel_names,
        recordings=np.repeat(np.arange(len(recordings)), counts),
        starts=np.concatenate([segments.starts for segments in cuts]),
        name=name,
    )


def _check_agreement(recordings: list[Recording]) -> None:
    if not recordings:
        raise DataError("`recordings` must hold at least 1 recording, but is empty instead.")
    for number, recording in enumerate(recordings):
        if not isinstance(recording, Recording):
            raise TypeError(
                f"`recordings[{number}]` must be a Recording, but is {type(recording).__name__} "
                "instead."
            )
        first = recordings[0]
        for what, value, expected in (
            ("the tasks", sorted(recording.targets), sorted(first.targets)),
            ("the number of channels", recording.signal.shape[1], first.signal.shape[1]),
            ("the channel names", recording.channel_names, first.channel_names),
            ("the sample rate in Hz", recording.sample_rate_hz, first.sample_rate_hz),
        ):
            if value != expected:
                raise DataError(
                    f"`recordings[{number}]` must have {what} of the first recording, {expected}, "
                    f"but has {value} instead."
                )
