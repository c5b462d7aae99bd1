"""Recordings in, labelled windows out: the arrays that everything later works on."""

from __future__ import annotations

from smoothdistill.windows.arrays import IGNORE_INDEX as IGNORE_INDEX
from smoothdistill.windows.arrays import Recording as Recording
from smoothdistill.windows.arrays import Windows as Windows
from smoothdistill.windows.cutting import cut_windows as cut_windows
from smoothdistill.windows.labelling import LabelRule as LabelRule
from smoothdistill.windows.segmenter import Segmenter as Segmenter
from smoothdistill.windows.segments import Segments as Segments

__all__ = [
    "IGNORE_INDEX",
    "LabelRule",
    "Recording",
    "Segmenter",
    "Segments",
    "Windows",
    "cut_windows",
]
