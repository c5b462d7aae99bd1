"""Files -> recordings -> windows: public data sets, a synthetic one, and the user's own files."""

from __future__ import annotations

# Each import registers one data set, in the order in which they are listed.
from smoothdistill.datasets import embedded as _embedded  # noqa: F401
from smoothdistill.datasets import hapt as _hapt  # noqa: F401
from smoothdistill.datasets import mhealth as _mhealth  # noqa: F401
from smoothdistill.datasets import sleep_postures as _sleep_postures  # noqa: F401
from smoothdistill.datasets import sp_sw_har as _sp_sw_har  # noqa: F401
from smoothdistill.datasets import uci_har as _uci_har  # noqa: F401
from smoothdistill.datasets import wisdm as _wisdm  # noqa: F401
from smoothdistill.datasets import wisdm_v1_1 as _wisdm_v1_1  # noqa: F401
from smoothdistill.datasets.loading import check as check
from smoothdistill.datasets.loading import load as load
from smoothdistill.datasets.loading import load_recordings as load_recordings
from smoothdistill.datasets.own_files import from_csv as from_csv
from smoothdistill.datasets.registry import DATASETS as DATASETS
from smoothdistill.datasets.registry import Dataset as Dataset
from smoothdistill.datasets.registry import register_dataset as register_dataset
from smoothdistill.datasets.reports import DataReport as DataReport
from smoothdistill.datasets.reports import FileReport as FileReport

__all__ = [
    "DATASETS",
    "DataReport",
    "Dataset",
    "FileReport",
    "check",
    "from_csv",
    "load",
    "load_recordings",
    "register_dataset",
]
