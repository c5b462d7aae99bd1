"""From the names asked for to columns: which kernel fills which slot of which channel."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from smoothdistill.features.definitions import FEATURES, Feature, find, write_number
from smoothdistill.features.presets import PRESETS, PRESETS_WITH_MAGNITUDE, names_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Int64

__all__ = ["Column", "Plan", "Triad", "find_triads", "make_plan"]


class Triad(NamedTuple):
    """Three axes at right angles: their channel numbers, and what they are called together."""

    label: str
    axes: tuple[int, int, int]

    @property
    def norm_name(self) -> str:
        """Name of the derived channel: "mag", or "acc_mag" for "acc"."""
        return "mag" if self.label == "xyz" else f"{self.label}_mag"


class Column(NamedTuple):
    """One column of the result: a feature of a signal (channel or norm), a pair, or a triad."""

    name: str
    feature: Feature
    numbers: tuple[float, ...]
    signal: int = -1
    pair: tuple[int, int] = (-1, -1)
    triad: int = -1


@dataclass(frozen=True)
class Plan:
    """The columns, and what they are computed of.

    Args:
        columns: In the order of the result.
        num_channels: Channels that the recordings must have. Signals are these, and behind them
            the norms of the first triads.
        triads: Triads of axes.
        num_norms: How many triads, from the first on, have a norm that a column needs.
    """

    columns: tuple[Column, ...]
    num_channels: int
    triads: tuple[Triad, ...]
    num_norms: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def of_family(self, family: str) -> list[tuple[int, Column]]:
        """The columns of a family, with their places."""
        return [
            (place, column)
            for place, column in enumerate(self.columns)
            if column.feature.family == family
        ]

    def table(
        self, slots: Mapping[tuple[str, tuple[float, ...]], int], num_slots: int
    ) -> Int64[np.ndarray, "signals slots"]:
        """Column that each slot of each signal goes to, -1 for none.

        Args:
            slots: Number of the slot by the feature's name in the catalog and the numbers in it.
            num_slots: How many slots the kernel has.
        """
        table = np.full((self.num_channels + self.num_norms, num_slots), -1, np.int64)
        for place, column in enumerate(self.columns):
            slot = slots.get((column.feature.name, column.numbers))
            if column.signal >= 0 and slot is not None:
                table[column.signal, slot] = place
        return table

    def numbers(self, name: str) -> list[tuple[float, ...]]:
        """Different numbers in the names of a feature with numbers, ascending."""
        return sorted({column.numbers for column in self.columns if column.feature.name == name})

    def needing_rate(self, *, slope_per_second: bool) -> list[str]:
        """Columns that cannot be computed without a sample rate."""
        return [
            column.name
            for column in self.columns
            if column.feature.family == "spectral"
            or (column.feature.name == "slope" and slope_per_second)
        ]

    def part(self, channels: tuple[int, ...]) -> tuple[list[int], Plan]:
        """The columns that need just these channels, in this order, as a plan of their own.

        Args:
            channels: One channel, a pair, or the axes of a triad.

        Returns:
            The places of the columns, and a plan for recordings of these channels only.
        """
        number = {channel: place for place, channel in enumerate(channels)}
        places, columns = [], []
        triads = [triad.axes for triad in self.triads]
        has_norm = channels in triads[: self.num_norms]
        for place, column in enumerate(self.columns):
            needed = self.inputs(column)
            if needed != channels:
                continue
            places.append(place)
            signal = number.get(column.signal, len(channels) if column.signal >= 0 else -1)
            pair = (number.get(column.pair[0], -1), number.get(column.pair[1], -1))
            triad = 0 if column.triad >= 0 else -1
            columns.append(column._replace(signal=signal, pair=pair, triad=triad))
        kept = tuple(
            triad._replace(axes=(0, 1, 2)) for triad in self.triads if triad.axes == channels
        )
        return places, Plan(tuple(columns), len(channels), kept, int(has_norm))

    def inputs(self, column: Column) -> tuple[int, ...]:
        """Channels that a column is computed of."""
        if column.pair[0] >= 0:
            return column.pair
        if column.triad >= 0:
            return self.triads[column.triad].axes
        if column.signal >= self.num_channels:
            return self.triads[column.signal - self.num_channels].axes
        return (column.signal,)


def find_triads(channel_names: Sequence[str]) -> tuple[Triad, ...]:
    """Channels called x, y, z, or with one stem and the endings _x, _y, _z (in either case)."""
    places = {name.lower(): number for number, name in enumerate(channel_names)}
    triads: list[Triad] = []
    for name, number in places.items():
        if re.fullmatch(r"(.*_)?x", name):
            stem = name[:-1]
            others = places.get(f"{stem}y"), places.get(f"{stem}z")
            if others[0] is not None and others[1] is not None:
                label = channel_names[number][:-1].rstrip("_") or "xyz"
                if any(triad.label == label for triad in triads):
                    label += "2"
                triads.append(Triad(label, (number, others[0], others[1])))
    return tuple(triads)


def make_plan(
    features: str | Sequence[str],
    channel_names: Sequence[str],
    *,
    triads: Sequence[Triad] | None = None,
    magnitude: bool | None = None,
    bands: Sequence[tuple[float, float]] = (),
) -> Plan:
    """Resolve what was asked for.

    Args:
        features: A preset, a family, the name of a feature, the name of a column such as
            "x__mean", or several of them.
        channel_names: Of all channels, safe in column names.
        triads: Triads of axes; found by the names of the channels if left out.
        magnitude: Whether features of channels are also computed of the norms of the triads; by
            default as the preset says.
        bands: Edges that the entry "bands" of a preset stands for, in Hz.

    Returns:
        The columns: those of channels, channel by channel in the order of the features, then those
        of pairs and of triads.

    Raises:
        ValueError: If a name is unknown, or nothing is left to compute.
    """
    requested = _checked_requests(features)
    if magnitude is None:
        magnitude = any(name in PRESETS_WITH_MAGNITUDE for name in requested)
    known = find_triads(channel_names) if triads is None else tuple(triads)
    asked = _expanded(requested, bands)
    builder = _Builder(tuple(channel_names), known, with_norms=magnitude)
    plain = [name for name in asked if "__" not in name and not name.startswith("corr_")]
    builder.add_features(plain)
    for name in asked:
        if name not in plain:
            builder.add_column(name)
    if not builder.columns:
        raise ValueError(
            f"`features` must name at least 1 feature that the channels {list(channel_names)} have "
            f"(triads are three channels such as acc_x, acc_y, acc_z), but is {features!r} instead."
        )
    return builder.plan()


def _checked_requests(features: Any) -> tuple[str, ...]:
    if isinstance(features, str):
        return (features,)
    requested = tuple(features) if isinstance(features, Iterable) else (features,)
    if not all(isinstance(name, str) for name in requested):
        raise TypeError(
            f"`features` must be a string or a sequence of strings, but is {features!r} instead."
        )
    return requested


def _expanded(requested: Sequence[str], bands: Sequence[tuple[float, float]]) -> list[str]:
    asked: dict[str, None] = {}
    for wanted in requested:
        for name in names_of(wanted):
            if name == "bands":
                asked |= {
                    f"band_{write_number(low)}_{write_number(high)}": None for low, high in bands
                }
            else:
                asked[name] = None
    return list(asked)


class _Builder:
    """Collects columns, each once; norms get their signal numbers in the end."""

    def __init__(
        self, channels: tuple[str, ...], triads: tuple[Triad, ...], *, with_norms: bool
    ) -> None:
        self.channels = channels
        self.triads = triads
        self.with_norms = with_norms
        self.columns: dict[str, Column] = {}
        # Signals by name: channels, then the norms of all triads (the unused are dropped later).
        self.signals = {name: number for number, name in enumerate(channels)}
        self.pairs: dict[str, tuple[int, int]] = {}
        for first, a in enumerate(channels):
            for second, b in enumerate(channels):
                if first != second:  # (a, b_c) and (a_b, c) would both be corr_a_b_c
                    name = f"corr_{a}_{b}"
                    name = f"corr_{a}__{b}" if name in self.pairs else name
                    self.pairs[name] = (first, second)
        for number, triad in enumerate(triads):  # a channel of that name is a norm by itself
            self.signals.setdefault(triad.norm_name, len(channels) + number)

    def add_features(self, names: Sequence[str]) -> None:
        found = {name: _known(name) for name in names}
        signals = list(self.signals) if self.with_norms else list(self.channels)
        for signal in signals:
            for feature, numbers in found.values():
                if feature.of == "channel":
                    self._add(signal, feature, numbers, signal=self.signals[signal])
        for feature, numbers in found.values():
            if feature.of == "pair":
                for name, pair in self.pairs.items():
                    if pair[0] < pair[1]:
                        self._add_pair(name, pair)
            elif feature.of == "triad":
                for number, triad in enumerate(self.triads):
                    self._add(triad.label, feature, numbers, triad=number)

    def add_column(self, name: str) -> None:
        """A column by its full name."""
        if name.startswith("corr_"):
            pair = self.pairs.get(name)
            if pair is None:
                raise _unknown(name, list(self.pairs))
            self._add_pair(name, pair)
            return
        owner, _, bare = name.partition("__")
        feature, numbers = _known(bare)
        labels = [triad.label for triad in self.triads]
        if feature.of == "channel" and owner in self.signals:
            self._add(owner, feature, numbers, signal=self.signals[owner])
        elif feature.of == "triad" and owner in labels:
            self._add(owner, feature, numbers, triad=labels.index(owner))
        else:
            owners = list(self.signals) if feature.of == "channel" else labels
            raise _unknown(name, [f"{known}__{bare}" for known in owners])

    def _add_pair(self, name: str, pair: tuple[int, int]) -> None:
        self.columns.setdefault(name, Column(name, _known("corr")[0], (), pair=pair))

    def _add(
        self,
        owner: str,
        feature: Feature,
        numbers: tuple[float, ...],
        *,
        signal: int = -1,
        triad: int = -1,
    ) -> None:
        name = f"{owner}__{feature.written(numbers)}"
        self.columns.setdefault(name, Column(name, feature, numbers, signal, triad=triad))

    def plan(self) -> Plan:
        num_channels = len(self.channels)
        columns = tuple(self.columns.values())
        norms = {
            column.signal - num_channels for column in columns if column.signal >= num_channels
        }
        norms |= {column.triad for column in columns if column.feature.name in {"enmo", "mad_mag"}}
        # Triads with a norm come first, which is how the kernels number the signals.
        order = sorted(norms) + [
            number for number in range(len(self.triads)) if number not in norms
        ]
        place = {old: new for new, old in enumerate(order)}
        renumbered = tuple(
            column._replace(
                signal=column.signal
                if column.signal < num_channels
                else num_channels + place[column.signal - num_channels],
                triad=place.get(column.triad, -1),
            )
            for column in columns
        )
        return Plan(
            renumbered,
            num_channels,
            tuple(self.triads[old] for old in order),
            len(norms),
        )


def _known(name: str) -> tuple[Feature, tuple[float, ...]]:
    found = find(name)
    if found is None:
        raise _unknown(name, [*PRESETS, *(feature.name for feature in FEATURES)])
    feature, numbers = found
    rule = _broken_rule(feature.name, numbers)
    if rule:
        raise ValueError(f"`features` must ask for {rule}, but has {name!r} instead.")
    return feature, numbers


def _broken_rule(name: str, numbers: tuple[float, ...]) -> str:
    """What the numbers in a name should have been, or nothing."""
    if name == "q{q}" and not 0 < numbers[0] < 100:
        return "a percentile inside (0, 100)"
    if name == "rolloff_{q}" and not 0 < numbers[0] <= 100:
        return "a share inside (0, 100] percent"
    if name == "autocorr_lag{k}" and (numbers[0] < 1 or numbers[0] % 1):
        return "a lag of whole samples, at least 1"
    if name.startswith("band_") and not numbers[0] < numbers[1]:
        return "a band whose lower edge is below the upper one"
    return ""


def _unknown(name: str, known: Sequence[str]) -> ValueError:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    return ValueError(
        "`features` must hold names of `smoothdistill.features.catalog()`, presets or columns, but "
        f"has {name!r} instead.{hint}"
    )
