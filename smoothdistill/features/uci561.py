"""The layout of UCI HAR's 561 features, from an accelerometer and a gyroscope.

The list of names is published, the code that made the values is not: filters, entropy, scaling of
spectra and the edges of bands follow the data set's description where it says something, and
our definitions elsewhere. So the columns mean what theirs mean; their values differ (theirs
were also scaled to [-1, 1] over the whole data set).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.errors import DataError
from smoothdistill.features.compute import Kernels, empty_columns, of_recording, of_windows
from smoothdistill.features.plan import make_plan
from smoothdistill.features.preprocessing_chain import Preprocessing

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

    from smoothdistill.features.compute import Policy
    from smoothdistill.features.inputs import Cut
    from smoothdistill.features.settings import Settings

__all__ = ["UCI561"]

CHAIN = Preprocessing(phase="zero", triads=((0, 1, 2), (3, 4, 5)), gravity_triads=(0,))
"""Of acc_x, acc_y, acc_z, gyro_x, gyro_y, gyro_z: what the data set's description says."""

TRIADS = ("tBodyAcc", "tGravityAcc", "tBodyAccJerk", "tBodyGyro", "tBodyGyroJerk")
SPECTRAL_TRIADS = ("fBodyAcc", "fBodyAccJerk", "fBodyGyro")
SPECTRAL_NORMS = ("fBodyAccMag", "fBodyAccJerkMag", "fBodyGyroMag", "fBodyGyroJerkMag")
CHAIN_NAMES = {
    "body_acc": "tBodyAcc",
    "gravity_acc": "tGravityAcc",
    "body_jerk_acc": "tBodyAccJerk",
    "gyro": "tBodyGyro",
    "jerk_gyro": "tBodyGyroJerk",
}
AXES = ("x", "y", "z")
TIME_FEATURES = ("mean", "std", "mad", "max", "min", "energy", "iqr", "hist_entropy")
AR_FEATURES = ("ar1", "ar2", "ar3", "ar4")
SPECTRUM_FEATURES = (*TIME_FEATURES, "skew", "kurtosis")
# First and last of the 64 bins above 0 Hz: 8 bands of 8 bins, 4 of 16, 2 of 24.
BANDS = (
    *((first, first + 7) for first in range(1, 65, 8)),
    *((first, first + 15) for first in range(1, 65, 16)),
    (1, 24),
    (25, 48),
)
NUM_BINS = 64
ANGLES = ("tBodyAcc", "tBodyAccJerk", "tBodyGyro", "tBodyGyroJerk")
CHUNK_WINDOWS = 1024  # whose spectra, 7 MB, are in memory at a time


class UCI561:
    """The 561 columns: their names, and how windows of a recording fill them.

    Args:
        channel_names: The six channels: acceleration along x, y, z, angular velocity about x, y, z.

    Raises:
        ValueError: If there are not six.

    Source:
        D. Anguita et al., A public domain dataset for human activity recognition using smartphones,
        ESANN 2013, and the list of features that comes with the data set.
    """

    def __init__(self, channel_names: tuple[str, ...]) -> None:
        if len(channel_names) != 6:
            raise ValueError(
                "`X` must have 6 channels (acceleration x, y, z and angular velocity x, y, z) for "
                f"'uci561', but has {len(channel_names)} instead."
            )
        norms = [f"{name}Mag" for name in TRIADS]
        self._signals = [f"{name}_{axis}" for name in TRIADS for axis in AXES] + norms
        wanted = [column for name in TRIADS for column in _triad_columns(name)]
        wanted += [f"{norm}__{name}" for norm in norms for name in (*TIME_FEATURES, *AR_FEATURES)]
        self._time_plan = make_plan(wanted, self._signals)
        self._spectra = [f"{name}_{axis}" for name in SPECTRAL_TRIADS for axis in AXES]
        self._spectra += SPECTRAL_NORMS
        plain = [f"{name}__{feature}" for name in self._spectra for feature in SPECTRUM_FEATURES]
        self._spectrum_plan = make_plan(
            [*plain, *(f"{name}__sma" for name in SPECTRAL_TRIADS)], self._spectra
        )
        self.names = (
            *self._time_plan.names,
            *(f"{norm}__sma" for norm in norms),
            *self._spectrum_plan.names,
            *(f"{norm}__sma" for norm in SPECTRAL_NORMS),
            *(
                f"{name}__{feature}"
                for name in self._spectra
                for feature in ("maxInds", "meanFreq")
            ),
            *(
                f"{name}__bandsEnergy_{first}_{last}"
                for name in self._spectra[: 3 * len(SPECTRAL_TRIADS)]
                for first, last in BANDS
            ),
            *(f"angle_{name}_gravity" for name in ANGLES),
            *(f"angle_{axis}_gravity" for axis in AXES),
        )

    def needing_rate(self, *, slope_per_second: bool) -> list[str]:
        """Columns that cannot be computed without a sample rate: all, for the filters need it."""
        del slope_per_second
        return ["uci561"]

    def fill(
        self,
        signal: Float[np.ndarray, "time 6"],
        cut: Cut,
        settings: Settings,
        out: Float[np.ndarray, "columns windows"],
        groups: Int64[np.ndarray, " time"],
        nan_policy: Policy,
        num_threads: int,
    ) -> None:
        """Compute all columns of the windows of one recording.

        Args:
            signal: Acceleration and angular velocity, in any units.
            cut: Where its windows lie, all of one length.
            settings: With a sample rate.
            out: Rows of `empty_columns`, one for each column.
            groups: A number of every sample; where it changes, the filters start anew.
            nan_policy: "omit" is for the features in time; a spectrum with a NaN is NaN.
            num_threads: Threads that share the windows.

        Raises:
            DataError: If some windows are cut short, or all are too short for a frequency.
        """
        starts = cut.starts
        if not len(starts):
            return
        window_samples = int(cut.lengths.max())
        if (cut.lengths != window_samples).any():
            raise DataError(
                f"`segmenter` must give windows of one length for 'uci561', {window_samples}, but "
                f"gives one of {cut.lengths.min()} instead."
            )
        if window_samples < 2:
            raise DataError(
                f"`window_samples` must be at least 2 for 'uci561', but is {window_samples} "
                "instead."
            )
        derived = self._derive(signal, settings.sample_rate_hz, groups)
        block = of_recording(derived, starts, window_samples)
        time_columns = empty_columns(len(self._time_plan.columns), len(starts), np.dtype(float))
        kernels = Kernels(
            self._time_plan, window_samples, is_interleaved=True, step_samples=0, settings=settings
        )
        kernels.fill(block, time_columns, nan_policy=nan_policy, num_threads=num_threads)
        row = len(time_columns)
        out[:row] = time_columns
        place = {name: number for number, name in enumerate(self._time_plan.names)}
        for norm in self._signals[15:]:  # a norm is positive: its mean is its area
            out[row] = time_columns[place[f"{norm}__mean"]]
            row += 1
        for first in range(0, len(starts), CHUNK_WINDOWS):
            chunk = slice(first, first + CHUNK_WINDOWS)
            spectra = self._amplitudes(derived, starts[chunk], window_samples)
            self._fill_spectra(spectra, window_samples, settings, out[row:, chunk])
        self._fill_angles(time_columns, place, out[len(self.names) - 7 :])

    def _derive(
        self, signal: Float[np.ndarray, "time 6"], rate: float, groups: np.ndarray | None
    ) -> Float[np.ndarray, "time 20"]:
        names = [f"{sensor}_{axis}" for sensor in ("acc", "gyro") for axis in AXES]
        made = CHAIN.apply(signal, sample_rate_hz=rate, channel_names=names, groups=groups)
        ours = {
            f"{theirs}_{axis}": f"{name}_{axis}"
            for theirs, name in CHAIN_NAMES.items()
            for axis in AXES
        }
        ours |= {f"{theirs}_mag": f"{name}Mag" for theirs, name in CHAIN_NAMES.items()}
        found = [ours[name] for name in made.channel_names]
        return np.ascontiguousarray(made.signal[:, [found.index(name) for name in self._signals]])

    def _amplitudes(
        self,
        derived: Float[np.ndarray, "time 20"],
        starts: Int64[np.ndarray, " windows"],
        window_samples: int,
    ) -> Float64[np.ndarray, "windows 13 bins"]:
        """Amplitude at each frequency above 0: a sine of amplitude 1 has 1 in its bin."""
        sources = [name.replace("f", "t", 1) for name in self._spectra]
        chosen = derived[:, [self._signals.index(name) for name in sources]]
        view = np.lib.stride_tricks.sliding_window_view(chosen, window_samples, axis=0)
        windows = view[starts].astype(np.float64)
        windows -= windows.mean(2, keepdims=True)
        spectra = np.abs(np.fft.rfft(windows, axis=2)) * (2.0 / window_samples)
        return np.ascontiguousarray(spectra[:, :, 1:])

    def _fill_spectra(
        self,
        spectra: Float64[np.ndarray, "windows 13 bins"],
        window_samples: int,
        settings: Settings,
        out: Float[np.ndarray, "columns windows"],
    ) -> None:
        num_bins = spectra.shape[2]
        kernels = Kernels(
            self._spectrum_plan, num_bins, is_interleaved=False, step_samples=0, settings=settings
        )
        columns = empty_columns(len(self._spectrum_plan.columns), len(spectra), np.dtype(float))
        kernels.fill(of_windows(spectra), columns)
        row = len(columns)
        out[:row] = columns
        for norm in SPECTRAL_NORMS:
            out[row] = columns[self._spectrum_plan.names.index(f"{norm}__mean")]
            row += 1
        bins = np.arange(1, num_bins + 1)
        hertz = bins * (settings.sample_rate_hz / window_samples)
        places = bins * (2 * NUM_BINS) / window_samples  # the bins of a window of 128
        total = spectra.sum(2)
        is_still = ~(total > 0)  # true for NaN
        safe = np.where(is_still, 1.0, total)
        for number in range(len(self._spectra)):
            still = np.where(np.isnan(total[:, number]), np.nan, settings.undefined)
            peak = 1.0 + spectra[:, number].argmax(1)
            centre = spectra[:, number] @ hertz / safe[:, number]
            out[row] = np.where(is_still[:, number], still, peak)
            out[row + 1] = np.where(is_still[:, number], still, centre)
            row += 2
        power = spectra**2
        for number in range(3 * len(SPECTRAL_TRIADS)):
            for first, last in BANDS:
                is_inside = (places > first - 1) & (places <= last)
                out[row] = power[:, number, is_inside].sum(1)
                row += 1

    def _fill_angles(
        self,
        columns: Float[np.ndarray, "columns windows"],
        place: dict[str, int],
        out: Float[np.ndarray, "7 windows"],
    ) -> None:
        """Angles to the mean gravity, in radians: of mean signals, and of the axes."""

        def mean(name: str) -> Float[np.ndarray, "3 windows"]:
            return np.stack([columns[place[f"{name}_{axis}__mean"]] for axis in AXES])

        gravity = mean("tGravityAcc")
        vectors = [mean(name) for name in ANGLES]
        vectors += [np.broadcast_to(axis[:, None], gravity.shape) for axis in np.eye(3)]
        for row, vector in enumerate(vectors):
            # arctan2 and not arccos, which loses half of the digits near 0 and pi
            across = np.linalg.norm(np.cross(vector, gravity, axis=0), axis=0)
            out[row] = np.arctan2(across, (vector * gravity).sum(0))


def _triad_columns(name: str) -> list[str]:
    """The 40 of a triad in time."""
    axes = [f"{name}_{axis}" for axis in AXES]
    columns = [f"{axis}__{feature}" for axis in axes for feature in (*TIME_FEATURES, *AR_FEATURES)]
    pairs = [f"corr_{axes[a]}_{axes[b]}" for a, b in ((0, 1), (0, 2), (1, 2))]
    return [*columns, f"{name}__sma", *pairs]
