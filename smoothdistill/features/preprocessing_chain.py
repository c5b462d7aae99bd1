"""`Preprocessing`: the usual chain in one pass, over whole recordings or sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.features.filter_chain import (
    NOT_WANTED,
    ChainPlan,
    channel_groups,
    filter_sections,
    run_chain,
)
from smoothdistill.features.preprocessing_checks import (
    check_below_nyquist,
    check_triads_fit,
    checked_bool,
    checked_borders,
    checked_number,
    checked_order,
    checked_phase,
    checked_places,
    checked_signal,
    checked_triads,
    safe_names,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int, Int64

    from smoothdistill.features.preprocessing_checks import Phase

__all__ = ["Preprocessed", "Preprocessing", "PreprocessingStream"]


class Preprocessed(NamedTuple):
    """The signals that a chain made of a recording.

    Args:
        signal: One column for each of them, in the dtype of the recording.
        channel_names: What the columns are called.
    """

    signal: Float[np.ndarray, "time columns"]
    channel_names: tuple[str, ...]


class _Layout(NamedTuple):
    """Channels in the order of the groups, and what the chain puts out of them."""

    channels: list[int]
    groups: Int64[np.ndarray, "groups 6"]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Median filter, low-pass, gravity split, jerk and magnitude, in this order and in one pass.

    The defaults are the chain of the UCI HAR data set, for one accelerometer. For an accelerometer
    and a gyroscope, `triads=((0, 1, 2), (3, 4, 5))` puts out its ten signals in its order.

    The columns are, for every triad and then for the channels that are in none: the signal (called
    body where gravity has been taken out), its gravity, its jerk; behind them, for every
    triad, the magnitudes of these. With channels acc_x, acc_y, acc_z: body_acc_x, ...,
    gravity_acc_x, ..., body_jerk_acc_x, ..., body_acc_mag, gravity_acc_mag, body_jerk_acc_mag;
    with channels gyro_x, ... that are not split: gyro_x, ..., jerk_gyro_x, ..., gyro_mag,
    jerk_gyro_mag.

    A sample that is not finite makes itself NaN in the columns of its channel, and everything
    starts anew behind it, as it does where a group begins.

    Args:
        median: Whether the median of three samples comes first, against spikes: of a sample and the
            two before it (causal), or of a sample and its neighbours (zero).
        lowpass_hz: Cutoff of the low-pass against noise, in Hz; None leaves it out.
        gravity_hz: Cutoff of the low-pass that is gravity, in Hz; None leaves the split out.
        jerk: Whether to add the change per second; see `smoothdistill.features.preprocessing.jerk`.
        magnitude: Whether to add the Euclidean lengths of the triads.
        order: Poles of both filters, from 1 to 12.
        phase: "causal" or "zero"; see `smoothdistill.features.preprocessing.butter_lowpass`.
        triads: Channel numbers of the x, y and z of each sensor.
        gravity_triads: Which of the triads are accelerometers, by their place in `triads`; the
            first by default, where there is one.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If an option breaks its rule.

    Source:
        D. Anguita et al., A public domain dataset for human activity recognition using smartphones,
        ESANN 2013, section 2.
    """

    median: bool = True
    lowpass_hz: float | None = 20.0
    gravity_hz: float | None = 0.3
    jerk: bool = True
    magnitude: bool = True
    order: int = 3
    phase: Phase = "causal"
    triads: Sequence[tuple[int, int, int]] = ((0, 1, 2),)
    gravity_triads: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("median", "jerk", "magnitude"):
            self._set(name, checked_bool(name, getattr(self, name)))
        for name in ("lowpass_hz", "gravity_hz"):
            cutoff = getattr(self, name)
            if cutoff is not None:
                self._set(name, checked_number(name, cutoff, unit=" Hz"))
        if self.lowpass_hz and self.gravity_hz and not self.gravity_hz < self.lowpass_hz:
            raise ValueError(
                f"`gravity_hz` must be below `lowpass_hz`, {self.lowpass_hz:g} Hz, but is "
                f"{self.gravity_hz:g} Hz instead."
            )
        self._set("order", checked_order(self.order))
        self._set("phase", checked_phase(self.phase))
        triads = checked_triads(self.triads)
        if len({channel for triad in triads for channel in triad}) < 3 * len(triads):
            raise ValueError(
                f"`triads` must name a channel once at most, but is {self.triads!r} instead."
            )
        self._set("triads", triads)
        self._set("gravity_triads", checked_places(self.gravity_triads, len(self.triads)))

    def apply(
        self,
        signal: Float[np.ndarray, "time channels"],
        *,
        sample_rate_hz: float,
        channel_names: Sequence[str] | None = None,
        groups: Int[np.ndarray, " time"] | None = None,
    ) -> Preprocessed:
        """Run the chain over a recording.

        Args:
            signal: Samples in any unit (m/s² or g for acceleration).
            sample_rate_hz: Samples per second, above twice the cutoffs.
            channel_names: Of letters, digits, "_", "." and "-"; x, y and z by default where there
                are three channels, numbers otherwise.
            groups: A number of every sample (subject, session, stretch between gaps); where it
                changes, everything starts anew.

        Returns:
            As many samples, in the dtype of the signal, and the names of the columns.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If a cutoff is not below half of the rate.
            DataError: If an array has another shape, or a name is unfit.
        """
        signal = checked_signal(signal)
        layout = self._layout(safe_names(channel_names, signal.shape[1]))
        plan = self._plan(layout, sample_rate_hz)
        out = np.empty((len(signal), len(layout.names)), dtype=signal.dtype)
        borders = checked_borders(groups, len(signal))
        run_chain(plan, _in_order(signal, layout.channels), borders, out)
        return Preprocessed(out, layout.names)

    def stream(
        self,
        sample_rate_hz: float,
        num_channels: int,
        channel_names: Sequence[str] | None = None,
    ) -> PreprocessingStream:
        """The same chain for samples as they come; each push gives the bits that `apply` gives.

        Args:
            sample_rate_hz: Samples per second, above twice the cutoffs.
            num_channels: Channels of the samples to come, at least 1.
            channel_names: As in `apply`.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If the phase is "zero", or a cutoff is not below half of the rate.
            DataError: If there are too few channels, or a name is unfit.
        """
        if self.phase != "causal":
            raise ValueError(
                "`phase` must be 'causal' for a stream, but is 'zero' instead: a backward run "
                "begins at the end."
            )
        if isinstance(num_channels, bool) or not isinstance(num_channels, (int, np.integer)):
            raise TypeError(
                f"`num_channels` must be an integer, but is {type(num_channels).__name__} instead."
            )
        if num_channels < 1:
            raise ValueError(f"`num_channels` must be at least 1, but is {num_channels} instead.")
        layout = self._layout(safe_names(channel_names, int(num_channels)))
        return PreprocessingStream(self._plan(layout, sample_rate_hz), layout)

    def names(self, channel_names: Sequence[str]) -> tuple[str, ...]:
        """Names of the columns that `apply` makes of channels with these names."""
        return self._layout(safe_names(channel_names, len(channel_names))).names

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _plan(self, layout: _Layout, sample_rate_hz: float) -> ChainPlan:
        rate = checked_number("sample_rate_hz", sample_rate_hz, unit=" Hz")
        for name in ("lowpass_hz", "gravity_hz"):
            cutoff = getattr(self, name)
            if cutoff is not None:
                check_below_nyquist(name, cutoff, rate)
        return ChainPlan(
            self.median,
            filter_sections(self.lowpass_hz, rate, self.order),
            filter_sections(self.gravity_hz, rate, self.order),
            self.order,
            self.phase,
            rate,
            layout.groups,
            len(layout.names),
        )

    def _layout(self, channel_names: tuple[str, ...]) -> _Layout:
        triads = checked_triads(self.triads)
        check_triads_fit(triads, len(channel_names))
        channels = [channel for triad in triads for channel in triad]
        rest = [place for place in range(len(channel_names)) if place not in set(channels)]
        sizes = [(3 * number, 3) for number in range(len(triads))]
        sizes += channel_groups(len(rest), len(channels))
        channels += rest
        names: list[str] = []
        rows = []
        for number, (first, count) in enumerate(sizes):
            own = [channel_names[channel] for channel in channels[first : first + count]]
            row = [first, count]
            for prefix in self._prefixes(number):
                is_wanted = prefix is not None
                row.append(len(names) if is_wanted else NOT_WANTED)
                names += [_joined(prefix, name) for name in own] if is_wanted else []
            rows.append([*row, NOT_WANTED])
        if self.magnitude:
            stems = _stems([[channel_names[channel] for channel in triad] for triad in triads])
            for number, stem in enumerate(stems):
                rows[number][-1] = len(names)
                prefixes = [prefix for prefix in self._prefixes(number) if prefix is not None]
                names += [_joined(prefix, stem, "mag") for prefix in prefixes]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(
                "`channel_names` must lead to different names of columns, but "
                f"{channel_names!r} lead to {twice!r} twice instead."
            )
        return _Layout(channels, np.array(rows, dtype=np.int64), tuple(names))

    def _prefixes(self, group: int) -> tuple[str | None, str | None, str | None]:
        """What the names of a group's signal, gravity and jerk begin with; None: there is none."""
        is_split = self.gravity_hz is not None and group in (self.gravity_triads or ())
        jerk = ("body_jerk" if is_split else "jerk") if self.jerk else None
        return ("body", "gravity", jerk) if is_split else ("", None, jerk)


class PreprocessingStream:
    """A causal chain that keeps its states from push to push. `Preprocessing.stream` makes one.

    Attributes:
        channel_names: What the columns are called.
    """

    def __init__(self, plan: ChainPlan, layout: _Layout) -> None:
        self.channel_names = layout.names
        self._plan = plan
        self._channels = layout.channels
        self._memory = plan.new_memory()

    def push(
        self, samples: Float[np.ndarray, "time channels"]
    ) -> Float[np.ndarray, "time columns"]:
        """Run the chain over the next samples.

        Args:
            samples: Any number of them, none included.

        Returns:
            As many, in the dtype of the samples.

        Raises:
            TypeError: If the samples are no array of real numbers.
            DataError: If they have another shape.
        """
        samples = checked_signal(samples)
        if samples.shape[1] != len(self._channels):
            raise DataError(
                f"`samples` must have {len(self._channels)} channels, but have "
                f"{samples.shape[1]} instead."
            )
        out = np.empty((len(samples), len(self.channel_names)), dtype=samples.dtype)
        borders = checked_borders(None, len(samples))
        run_chain(self._plan, _in_order(samples, self._channels), borders, out, self._memory)
        return out

    def reset(self) -> None:
        """Start anew, as behind a gap: the next sample is a first one."""
        self._memory.clear()


def _in_order(
    signal: Float[np.ndarray, "time channels"], channels: list[int]
) -> Float[np.ndarray, "time channels"]:
    """The channels of a group side by side; the signal itself where they are already."""
    if channels == list(range(len(channels))):
        return signal
    return np.ascontiguousarray(signal[:, channels])


def _joined(*parts: str | None) -> str:
    return "_".join(part for part in parts if part)


def _stems(triads: list[list[str]]) -> list[str]:
    """How the names of each triad begin; all three of them where that is not unique."""
    stems = [_common_start(names).rstrip("_.-") for names in triads]
    return [
        stem if stems.count(stem) == 1 else "_".join(names)
        for stem, names in zip(stems, triads, strict=True)
    ]


def _common_start(names: list[str]) -> str:
    length = 0
    while all(name[: length + 1] == names[0][: length + 1] for name in names):
        if length == len(names[0]):
            break
        length += 1
    return names[0][:length]
