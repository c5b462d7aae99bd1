"""Tables of text from a run's files."""

from __future__ import annotations

import math

from smoothdistill.evaluation.run_record import RunRecord
from smoothdistill.evaluation.tables import (
    METRICS,
    Score,
    fold_table,
    format_value,
    result_table,
    score_of,
    subject_table,
)
from smoothdistill.training import METRICS as SCORED


def test_every_score_that_is_computed_has_a_column():
    assert {metric.key for metric in METRICS} == set(SCORED)


def test_scores_are_written_with_their_spread():
    score = Score(0.5751, 0.0212, 0.551, 0.5979)
    assert score.spread == "0.575 ± 0.021"
    assert score.interval == "[0.551, 0.598]"


def test_what_is_unknown_is_a_dash():
    assert format_value(math.nan) == format_value(None) == "—"
    assert Score().spread == "—"
    assert Score().interval == ""
    assert Score(mean=0.5).spread == "0.500"
    assert math.isnan(score_of({}, "task", "student", "mcc").mean)


def test_tables_have_a_row_for_each_of_their_things(make_fake_run):
    record = RunRecord.read(make_fake_run(num_subjects=12, num_folds=3, per_subject=30))
    assert len(result_table(record.summary).rows) == 2 * 2
    assert len(fold_table(record).rows) == 3 * 2 * 2
    subjects = subject_table(record)
    assert [row[0] for row in subjects.rows] == [str(1600 + number) for number in range(12)]
    for table in (result_table(record.summary), fold_table(record), subjects):
        assert all(len(row) == len(table.headings) for row in table.rows)


def test_subjects_with_numbers_are_in_the_order_of_numbers(make_fake_run):
    folder = make_fake_run(num_subjects=4, num_folds=2, per_subject=10)
    text = (folder / "per_subject.csv").read_text()
    (folder / "per_subject.csv").write_text(text.replace(",1600,", ",9,").replace(",1603,", ",b,"))
    rows = subject_table(RunRecord.read(folder)).rows
    assert [row[0] for row in rows] == ["9", "1601", "1602", "b"]
