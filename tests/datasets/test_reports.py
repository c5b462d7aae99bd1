"""Tests of the report's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from smoothdistill.datasets.reports import DataReport, FileReport, median_norm, unit_of_norm
from smoothdistill.windows import Recording


def file_report(name: str, norm: float, subject: str) -> FileReport:
    return FileReport(
        file=name,
        rows=100,
        subjects=(subject,),
        recordings=2,
        kept_samples=90,
        gaps=1,
        rates_hz=(19.9, 20.3, 49.6),
        median_norm=norm,
        repairs={"dropped": 10},
        notes=(f"{name} is odd",),
    )


def test_totals() -> None:
    report = DataReport(
        "wisdm", "root", (file_report("a", 9.7, "10"), file_report("b", 9.9, "9")), ("m/s²",) * 3
    )
    values = report.to_dict()
    assert values["rows"] == 200
    assert values["kept_samples"] == 180
    assert values["subjects"] == ["9", "10"]
    assert values["recordings"] == 4
    assert values["gaps"] == 2
    assert values["rate_histogram"] == {"20": 4, "50": 2}
    assert values["repairs"] == {"dropped": 20}
    assert values["median_norm"] == pytest.approx(9.8)
    assert values["unit_evidence"] == "m/s²"
    assert values["notes"] == ["a is odd", "b is odd"]


def test_a_file_report_survives_json() -> None:
    report = file_report("a", 1.0, "1")
    assert FileReport.from_dict(report.to_dict()) == report


@pytest.mark.parametrize(
    ("norm", "unit"),
    [(1.0, "g"), (1.25, "g"), (9.8, "m/s²"), (12.0, "m/s²"), (4.0, "unknown"), (None, "unknown")],
)
def test_unit_of_the_norm(norm: float | None, unit: str) -> None:
    assert unit_of_norm(norm) == unit


def test_the_norm_is_that_of_the_first_three_channels() -> None:
    signal = np.tile(np.array([0.0, 3.0, 4.0, 99.0], np.float32), (64, 1))
    recording = Recording(signal, {"activity": np.zeros(64, np.int64)}, "1", 50.0)
    assert median_norm([recording]) == pytest.approx(5.0)
    assert median_norm([]) is None
