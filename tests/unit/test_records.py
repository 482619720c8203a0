"""What checks found is kept: rows are only added, by several writers at once, and the newest result of each check stands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import lake_helpers
import pytest

from engagement.errors import PermanentError, TransientError
from engagement.lake import Changed, open_lake
from engagement.model import units
from engagement.verdicts import accepted, records, suspects
from engagement.verdicts.records import Metric
from engagement.verdicts.result import Period, Result, Severity, Status
from engagement.waiting import refresh

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
DAY = date(2026, 3, 11)
NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)


def result(check="unique", status=Status.PASSED, minutes=0, hour=HOUR, **changes):
    made = {"value": 0.5, "threshold": "= 1", "hint": "look", "message": "1 of 2 rows", "rows": 2, "violations": 1}
    made |= {"sample": ({"user_id": "user 1"},), "query": "SELECT 1", "inputs": "abc", "measured_at": NOW + timedelta(minutes=minutes)}
    engine, severity = changes.pop("engine", "duckdb"), changes.pop("severity", Severity.ERROR)
    return Result("suite", check, "events", Period(hour), engine, severity, status, **{**made, **changes})


@pytest.fixture
def lake(tmp_path):
    return open_lake(lake_helpers.settings_of(tmp_path))[0]


def test_what_was_appended_is_read_back_as_it_was(lake):
    found = [
        result(),
        result("complete", Status.EMPTY, value=None, violations=None, sample=()),
        replace(result(), period=Period.of_day(DAY)),
    ]
    records.append_results(lake, found[:1])
    records.append_results(lake, found[1:])
    assert list(records.results(lake, DAY, DAY)) == found
    metric = Metric("profile", "events", Period.of_day(DAY), "profile", "Column", "country", "top", None, '[["DE", 3]]', "abc", NOW)
    records.append_metrics(lake, [metric, replace(metric, suite="other")])
    assert list(records.metrics(lake, DAY, DAY, "profile")) == [metric]
    assert len(list(records.metrics(lake, DAY, DAY))) == 2


def test_results_of_several_days_lie_by_their_day(lake):
    records.append_results(lake, [result(), result(hour=HOUR + units.DAY)])
    assert [entry.key for entry in lake.list("metrics")] == [
        f"metrics/quality_results/year=2026/month=03/day={day}/day.parquet" for day in (11, 12)
    ]
    assert len(list(records.results(lake, DAY, DAY))) == 1
    assert len(list(records.results(lake, DAY, DAY + timedelta(days=1)))) == 2


def test_writers_at_once_lose_nothing(lake):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: records.append_results(lake, [result(f"check_{number}")]), range(12)))
    assert {found.check for found in records.results(lake, DAY, DAY)} == {f"check_{number}" for number in range(12)}


def test_a_day_that_others_replace_again_and_again_is_an_error_and_no_hang(lake, monkeypatch):
    def changed(*_asked):
        raise Changed

    monkeypatch.setattr(lake, "replace", changed)
    with pytest.raises(TransientError, match="replaced by other writers 20 times"):
        records.append_results(lake, [result()])


def test_the_newest_result_of_a_check_stands_and_since_when_it_is_what_it_is(lake):
    records.append_results(lake, [result(status=Status.PASSED), result(status=Status.FAILED, minutes=1)])
    records.append_results(lake, [result(status=Status.FAILED, minutes=9), result(status=Status.PASSED, minutes=9, engine="deequ")])
    found = records.latest(lake, DAY, DAY)
    standing = found["suite", "unique", Period(HOUR), "duckdb"]
    assert (standing.result.status, standing.result.measured_at, standing.since) == (
        Status.FAILED, NOW + timedelta(minutes=9), NOW + timedelta(minutes=1),
    )  # fmt: skip
    assert found["suite", "unique", Period(HOUR), "deequ"].result.passed


def test_a_backfill_touches_no_record(tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(0, HOUR)])
        refresh.until_nothing_waits(context)
        records.append_results(context.lake, [result()])
        before = context.lake.read(records.key_of(units.QUALITY_RESULTS, DAY))
        refresh.days(context, [DAY], rebuild=True)
        assert context.lake.read(records.key_of(units.QUALITY_RESULTS, DAY)) == before


def test_records_are_tables_that_query_sees(tmp_path):
    settings = lake_helpers.settings_of(tmp_path)
    lake, _ = open_lake(settings)
    records.append_results(lake, [result()])
    query = "SELECT check_name, status, year, month, day FROM quality_results WHERE status = 'passed'"
    assert lake_helpers.table(settings, query) == [{"check_name": "unique", "status": "passed", "year": 2026, "month": 3, "day": 11}]


def test_a_failed_error_makes_a_unit_suspect_until_it_passes_or_is_accepted(lake):
    failed = result(status=Status.FAILED)
    records.append_results(lake, [failed, result("warned", Status.FAILED, severity=Severity.WARNING), result("broken", Status.BROKEN)])
    (suspect,) = suspects.suspects(lake, DAY, DAY)
    assert (suspect.unit, [item.check for item in suspect.results], suspect.since) == ("events/2026-03-11-10:00", ["unique"], NOW)
    accepted.accept(lake, suspect.unit, "unique", "known")
    assert suspects.suspects(lake, DAY, DAY) == []
    accepted.withdraw(lake, suspect.unit, "unique")
    assert len(suspects.suspects(lake, DAY, DAY)) == 1
    records.append_results(lake, [result(minutes=5)])
    assert suspects.suspects(lake, DAY, DAY) == []


def test_an_anomaly_makes_a_unit_suspect_though_it_is_a_warning_and_drift_does_not(lake):
    records.append_results(lake, [
        result("sessions", Status.FAILED, engine="anomaly", severity=Severity.WARNING), result("field", Status.FAILED, engine="drift"),
    ])  # fmt: skip
    assert [[item.check for item in suspect.results] for suspect in suspects.suspects(lake, DAY, DAY)] == [["sessions"]]


def test_only_what_was_accepted_can_be_withdrawn(lake):
    with pytest.raises(PermanentError, match=r"^events/x unique was never accepted$"):
        accepted.withdraw(lake, "events/x", "unique")


def test_an_unreadable_word_of_acceptance_accepts_nothing(lake):
    lake.replace(accepted.KEY, b"[{}]", None)
    with pytest.raises(PermanentError, match=r"accepted\.json is not readable"):
        suspects.suspects(lake, DAY, DAY)
