"""`FeatureTable`: the features of windows, and which window of which recording each row is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from jaxtyping import Float, Int64

__all__ = ["FeatureTable"]


@dataclass(frozen=True, eq=False, repr=False)
class FeatureTable:
    """One row for each window, with its labels. Made by `FeatureExtractor.extract`.

    Args:
        values: The features, float32 or float64.
        names: Name of each column.
        starts: First sample of each window in its recording.
        recordings: Number of the recording that each window is of.
        targets: Class index of each window per task, or `IGNORE_INDEX`.
        groups: Subject (or whatever the samples were grouped by) of each window, or None.
    """

    values: Float[np.ndarray, "windows features"]
    names: tuple[str, ...]
    starts: Int64[np.ndarray, " windows"]
    recordings: Int64[np.ndarray, " windows"]
    targets: Mapping[str, Int64[np.ndarray, " windows"]] = field(default_factory=dict)
    groups: np.ndarray | None = None

    def __len__(self) -> int:  # windows
        return len(self.values)

    def __repr__(self) -> str:
        return f"<FeatureTable: {len(self)} windows x {len(self.names)} features>"

    def to_pandas(self, *, labels: bool = True) -> Any:
        """A `pandas.DataFrame` of the features, which are not copied.

        Args:
            labels: Whether recording, start, group and targets come first, as columns of their own.
        """
        import pandas as pd

        frame = pd.DataFrame(self.values, columns=list(self.names), copy=False)
        if not labels:
            return frame
        about: dict[str, Any] = {"recording": self.recordings, "start": self.starts}
        if self.groups is not None:
            about["group"] = self.groups
        about |= self.targets
        return pd.concat([pd.DataFrame(about), frame], axis=1)
