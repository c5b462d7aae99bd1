"""`FeatureExtractor`: recordings or windows to features, as a scikit-learn transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted, validate_data

from smoothdistill.errors import DataError
from smoothdistill.features.compute import Policy, empty_columns, fill_part
from smoothdistill.features.inputs import (
    Part,
    check_agreement,
    checked_names,
    cut_part,
    is_flat,
    is_many,
    labelled,
    read_part,
    sample_groups,
)
from smoothdistill.features.plan import Plan, make_plan
from smoothdistill.features.settings import (
    NanPolicy,
    checked_bands,
    checked_settings,
    checked_threads,
)
from smoothdistill.features.table import FeatureTable
from smoothdistill.features.uci561 import UCI561
from smoothdistill.windows import Segmenter
from smoothdistill.windows.checks import check_finite, checked_rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from numpy.typing import ArrayLike
    from sklearn.utils import Tags

    from smoothdistill.features.preprocessing_chain import Preprocessing
    from smoothdistill.features.stream import FeatureStream

__all__ = ["FeatureExtractor"]


class FeatureExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of windows of wearable-sensor signals.

    What `transform` takes:

    - a recording [time, channels], or several in a list: they are cut into windows, and the result
      has one row for each window, recording after recording;
    - windows [windows, channels, time], or a `Windows`: one row each;
    - without a window length, an array [windows, time] of one channel: one row each.

    Args:
        features: A preset ("basic", "statistical", "spectral", "har"), a family or a feature of
            `smoothdistill.features.catalog()`, a column such as "x__mean", or several of these.
            Only what is asked for is computed. Or "uci561", for recordings of an accelerometer's
            and a gyroscope's three channels each.
        window_samples: Window length, in samples, at least 1; or `window_seconds`.
        step_samples: Hop between windows, in samples, at least 1; or `step_seconds`; the default
            is the window length.
        window_seconds: Window length, in seconds, a whole number of samples.
        step_seconds: Hop between windows, in seconds, likewise.
        sample_rate_hz: Samples per second, above 0; needed for spectral features, slopes per
            second, and lengths in seconds.
        channel_names: One name per channel, of letters, digits, `_`, `.` and `-`. By default the
            columns of a data frame, or x, y, z for three channels, or c0, c1, ...
        magnitude: Whether the norm of each triad of axes (channels x, y, z or stem_x, stem_y,
            stem_z) is a further channel; by default only in the preset "har".
        segmenter: How recordings are cut, where lengths are not enough; excludes the lengths.
        preprocessing: Filters that recordings go through before they are cut; features are then
            of the channels that come out of them.
        bands_hz: Edges of the frequency bands of the presets; by default 0.3-3, 3-8, 8-15 and
            15 Hz to half of the rate.
        nan_policy: "propagate": a window with a NaN has NaN in the features of that channel, and in
            no others. "omit": they are computed from the samples that are left. "raise": an error.
            An infinity counts as a NaN, but is not omitted.
        undefined: Value of a ratio to a variance of 0, and of what a window is too short for:
            "nan" or "zero".
        ddof: Variance is divided by the number of samples less this, at least 0.
        slope_per: "second" or "sample".
        acceleration_unit: "m/s^2" or "g": what `enmo` takes for 1 g.
        taper: Weights before the Fourier transform: "none" or "hann".
        centroid_weight: "power" or "magnitude" (its root).
        dtype: Of the result, "float64" or "float32". Moments are summed in float64 either way.
        n_jobs: Threads that share the windows; None is 1, -1 is one for each core.

    Attributes:
        channel_names_: Names of the channels of `fit`.
        plan_: The columns.
        n_features_in_: Number of columns of `X`, where it had two dimensions.

    Example:
        >>> import numpy as np, smoothdistill as sd
        >>> signal = np.random.default_rng(0).standard_normal((1000, 3))
        >>> extractor = sd.features.FeatureExtractor(
        ...     "basic", window_samples=100, step_samples=50
        ... )
        >>> extractor.fit_transform(signal).shape
        (19, 28)

    Source:
        Definitions: `smoothdistill.features.catalog()`.
    """

    def __init__(
        self,
        features: str | Sequence[str] = "har",
        *,
        window_samples: int | None = None,
        step_samples: int | None = None,
        window_seconds: float | None = None,
        step_seconds: float | None = None,
        sample_rate_hz: float | None = None,
        channel_names: Sequence[str] | None = None,
        magnitude: bool | None = None,
        segmenter: Segmenter | None = None,
        preprocessing: Preprocessing | None = None,
        bands_hz: Sequence[tuple[float, float]] | None = None,
        nan_policy: NanPolicy = "propagate",
        undefined: Literal["nan", "zero"] = "nan",
        ddof: int = 0,
        slope_per: Literal["second", "sample"] = "second",
        acceleration_unit: Literal["m/s^2", "g"] = "m/s^2",
        taper: Literal["none", "hann"] = "none",
        centroid_weight: Literal["power", "magnitude"] = "power",
        dtype: Literal["float64", "float32"] = "float64",
        n_jobs: int | None = None,
    ) -> None:
        self.features = features
        self.window_samples = window_samples
        self.step_samples = step_samples
        self.window_seconds = window_seconds
        self.step_seconds = step_seconds
        self.sample_rate_hz = sample_rate_hz
        self.channel_names = channel_names
        self.magnitude = magnitude
        self.segmenter = segmenter
        self.preprocessing = preprocessing
        self.bands_hz = bands_hz
        self.nan_policy = nan_policy
        self.undefined = undefined
        self.ddof = ddof
        self.slope_per = slope_per
        self.acceleration_unit = acceleration_unit
        self.taper = taper
        self.centroid_weight = centroid_weight
        self.dtype = dtype
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Resolve the columns for the channels of `X`; nothing is learnt from its values.

        Args:
            X: What `transform` takes.
            y: Ignored.

        Raises:
            TypeError: If an argument or `X` is of the wrong kind.
            ValueError: If a value breaks its rule, or a feature needs a sample rate that is not
                given.
        """
        if self.sample_rate_hz is not None:
            checked_rate(self.sample_rate_hz)
        part = self._read(X, "X", reset=True)[0]
        names = self.channel_names if self.channel_names is not None else part.names
        self.channel_names_ = checked_names(names, part.num_channels)
        self.plan_ = self._plan()
        checked_settings(self, self.plan_)
        self._segmenter()
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "windows features"]:
        """The features of every window.

        Args:
            X: Recordings or windows with the channels of `fit`, in its order.

        Returns:
            One row for each window.

        Raises:
            TypeError: If `X` is of the wrong kind.
            ValueError: If its shape is wrong, no window fits, or it holds a NaN where that is an
                error.
        """
        check_is_fitted(self, "plan_")
        table = self.extract(X)
        values: Float[np.ndarray, "windows features"] = table.values
        if hasattr(X, "columns") and _get_output_config("transform", self)["dense"] == "pandas":
            # A frame of samples has an index of samples, which scikit-learn would give to windows.
            values = table.to_pandas(labels=False)
        return values

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Names of the columns, `{channel}__{feature}`.

        Args:
            input_features: Ignored: the channels were named in `fit`.
        """
        check_is_fitted(self, "plan_")
        return np.asarray(self.plan_.names, dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.nan_policy != "raise"
        tags.input_tags.three_d_array = True
        tags.requires_fit = True
        return tags

    def extract(
        self,
        X: Any,
        *,
        targets: Mapping[str, ArrayLike] | None = None,
        groups: ArrayLike | None = None,
        timestamps_seconds: ArrayLike | None = None,
    ) -> FeatureTable:
        """The features of every window, with its place, labels and group.

        Args:
            X: What `transform` takes. A `Recording` or `Windows` brings its own labels, subject
                and times; the arguments below are for arrays.
            targets: Class index of every sample (or window) per task.
            groups: Group of every sample (or window): subject, session. No window crosses a change.
            timestamps_seconds: Time of every sample, in seconds. No window crosses a gap.

        Returns:
            The table. An extractor that was not fitted yet is fitted to `X`.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: As `transform`.
        """
        if not hasattr(self, "plan_"):
            self.fit(X)
        parts = self._read(X, "X", reset=False)
        if any(value is not None for value in (targets, groups, timestamps_seconds)):
            parts = [labelled(parts, targets, groups, timestamps_seconds)]
        parts = [self._prepared(part) for part in parts]
        segmenter = self._segmenter()
        cuts = [cut_part(part, segmenter, must_fit=len(parts) == 1) for part in parts]
        counts = [len(cut.starts) for cut in cuts]
        columns = empty_columns(len(self.plan_.names), sum(counts), np.dtype(self.dtype))
        settings, filled = checked_settings(self, self.plan_), 0
        policy: Policy = "omit" if self.nan_policy == "omit" else "propagate"
        threads = checked_threads(self.n_jobs)
        for part, cut in zip(parts, cuts, strict=True):
            out = columns[:, filled : filled + len(cut.starts)]
            if isinstance(self.plan_, UCI561):
                groups_of_samples = sample_groups(part, segmenter)
                self.plan_.fill(part.values, cut, settings, out, groups_of_samples, policy, threads)
            else:
                fill_part(self.plan_, part.values, cut, settings, out, policy, threads)
            filled += len(cut.starts)
        return FeatureTable(
            columns.T,
            self.plan_.names,
            np.concatenate([cut.starts for cut in cuts]),
            np.repeat(np.arange(len(cuts)), counts),
            {task: np.concatenate([cut.targets[task] for cut in cuts]) for task in cuts[0].targets},
            None if cuts[0].groups is None else np.concatenate([cut.groups for cut in cuts]),
        )

    def stream(self) -> FeatureStream:
        """The same features of samples as they come, bit for bit; for a fitted extractor.

        Raises:
            sklearn.exceptions.NotFittedError: If `fit` has not named the channels yet.
            ValueError: If windows are padded or a filter runs backwards, which needs what is yet
                to come.
        """
        from smoothdistill.features.stream import FeatureStream

        check_is_fitted(self, "plan_")
        segmenter = self._segmenter()
        if isinstance(self.plan_, UCI561):
            raise ValueError(
                "`features` must not be 'uci561' in a stream: its filters run backwards too."
            )
        if segmenter is None or segmenter.partial == "pad":
            raise ValueError(
                "`segmenter` must have a window length and partial='drop' in a stream, but is "
                f"{segmenter!r} instead."
            )
        filters = None
        if self.preprocessing is not None:
            filters = self.preprocessing.stream(
                self._rate_of_filters(), len(self.channel_names_), self.channel_names_
            )
        return FeatureStream(
            self.plan_,
            checked_settings(self, self.plan_),
            segmenter,
            nan_policy=self.nan_policy,
            dtype=np.dtype(self.dtype),
            num_channels=len(self.channel_names_),
            channel_names=self.channel_names_ if self.channel_names is None else None,
            filters=filters,
        )

    def _is_uci561(self) -> bool:
        asked = [self.features] if isinstance(self.features, str) else self.features
        return isinstance(asked, list | tuple) and list(asked) == ["uci561"]

    def _is_cutting(self) -> bool:
        lengths = (self.window_samples, self.step_samples, self.window_seconds, self.step_seconds)
        return self.segmenter is not None or any(length is not None for length in lengths)

    def _read(self, X: Any, place: str, *, reset: bool) -> list[Part]:
        is_cut = not self._is_cutting()
        if is_many(X):
            parts = [read_part(x, is_cut=is_cut, place=f"{place}[{i}]") for i, x in enumerate(X)]
        else:
            parts = [read_part(X, is_cut=is_cut, place=place)]
            if is_flat(X):
                validate_data(self, X, reset=reset, skip_check_array=True)
        first = parts[0]
        if not reset and self.channel_names is None:
            first = first._replace(names=self.channel_names_)
        num_channels = first.num_channels if reset else len(self.channel_names_)
        for number, part in enumerate(parts):
            where = f"{place}[{number}]" if len(parts) > 1 else place
            if part.num_channels != num_channels:
                raise DataError(
                    f"`{where}` must have {num_channels} channels, as what came first, but has "
                    f"{part.num_channels} instead."
                )
            check_agreement(where, part, first, self.sample_rate_hz)
            if self.nan_policy == "raise":
                check_finite(where, part.values)
        return parts

    def _prepared(self, part: Part) -> Part:
        """The part behind its filters."""
        if self.preprocessing is None and not self._is_uci561():
            return part
        if part.values.ndim == 3:
            raise DataError(
                "`X` must have recordings of shape [time, channels] for filters, but has windows "
                f"of shape {list(part.values.shape)} instead."
            )
        if self.preprocessing is None:
            return part
        made = self.preprocessing.apply(
            part.values,
            sample_rate_hz=self._rate_of_filters(),
            channel_names=self.channel_names_,
            groups=sample_groups(part, self._segmenter()),
        )
        return part._replace(values=made.signal)

    def _rate_of_filters(self) -> float:
        if self.sample_rate_hz is None:
            raise ValueError(
                "`sample_rate_hz` must be given where `preprocessing` is, but is None instead."
            )
        return self.sample_rate_hz

    def _segmenter(self) -> Segmenter | None:
        lengths = (self.window_samples, self.step_samples, self.window_seconds, self.step_seconds)
        if self.segmenter is not None:
            if not isinstance(self.segmenter, Segmenter):
                raise TypeError(
                    "`segmenter` must be a Segmenter, but is "
                    f"{type(self.segmenter).__name__} instead."
                )
            if any(length is not None for length in lengths):
                raise ValueError(
                    "`segmenter` must be None where window or step are given, but is "
                    f"{self.segmenter!r} instead."
                )
            return self.segmenter
        if not self._is_cutting():
            return None
        return Segmenter(
            window_samples=self.window_samples,
            step_samples=self.step_samples,
            window_seconds=self.window_seconds,
            step_seconds=self.step_seconds,
            sample_rate_hz=self.sample_rate_hz,
            backwards="raise",
        )

    def _plan(self) -> Plan | UCI561:
        channel_names = self.channel_names_
        if self.preprocessing is not None:
            channel_names = self.preprocessing.names(channel_names)
        if self._is_uci561():
            return UCI561(channel_names)
        bands = checked_bands(self.bands_hz, self.sample_rate_hz)
        return make_plan(self.features, channel_names, magnitude=self.magnitude, bands=bands)
