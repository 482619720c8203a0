"""The real Dagster instance: the sensor's requests, run as the daemon runs them, until the big table carries everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lake_helpers
import oracle
import pytest
from dagster import DagsterInstance, DagsterRunStatus, EventRecordsFilter, RunsFilter
from dagster._core.events import DagsterEventType
from dagster._core.test_utils import freeze_time
from oracle import RawEvent

from engagement.tables import bulk, fragments
from engagement.tables.context import open_tables
from engagement.verdicts.result import Status
from engagement.waiting import refresh
from engagement_assets import partitions
from engagement_assets.definitions import build_definitions
from engagement_assets.steps import PartitionsDropped, require_range
from quality import gates
from resources.tables import Tables
from resources.tags import LANE, RANGE_END, RANGE_START
from sensors import arrivals, planning
from sensors.arrivals import SILENT_AFTER, evaluate
from sensors.planning import FIRST_DELAY

NOON = datetime(2026, 3, 10, 12, 10, tzinfo=UTC)
BEFORE_MIDNIGHT = datetime(2026, 3, 10, 23, 58, tzinfo=UTC)


class Harness:
    """A lake, an instance on disk and the definitions, with a clock that stands where the test puts it."""

    def __init__(self, folder: Path, instance: DagsterInstance) -> None:
        self.folder = folder
        self.instance = instance
        self.settings = lake_helpers.settings_of(folder)
        self.tables = Tables(environment=self.settings.environment(), folder=str(folder))
        self.definitions = build_definitions(self.settings.history_start, self.tables)
        self.history: list[RawEvent] = []

    def arrive(self, *moments: datetime, user: str = "u1", received: datetime | None = None) -> None:
        new = []
        for moment in moments:
            number = len(self.history)
            event = RawEvent(
                event_id=f"00000000-0000-4000-8000-{number:012d}", user_id=user, session_id=None, event_type="screen_view",
                event_time=moment,
                received_at=received or moment, kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0,
                kafka_offset=number, device_type="iPhone", device_model=None, app_version="1.0", country="DE", screen="Home",
            )  # fmt: skip
            self.history.append(event)
            new.append(event)
        with open_tables(self.settings) as context:
            lake_helpers.write(context, new)

    def tick(self, now: datetime, cursor: str | None = None):
        return evaluate(self.instance, self.tables, cursor, now)

    def run(self, request, *, now: datetime = NOON):
        hours = request.job_name == "refresh_hours"
        cut = partitions.build(self.settings.history_start)
        known = (cut.hours if hours else cut.days).get_partition_keys(current_time=now)
        assert request.tags[RANGE_END] in known, "Dagster would drop it silently"
        with freeze_time(now):
            job = self.definitions.resolve_job_def(request.job_name)
            return job.execute_in_process(instance=self.instance, tags=dict(request.tags), raise_on_error=False)

    def settle(self, now: datetime = NOON) -> int:
        """Tick and run until nothing waits; days and stragglers are paced, so time goes on."""
        for number in range(24):
            result = self.tick(now)
            if result.skip_reason and "nothing waits" in result.skip_reason.skip_message:
                return number
            for request in result.run_requests:
                assert self.run(request, now=now).success
            now += timedelta(minutes=2)
        raise AssertionError("something still waits after 24 ticks")

    def asked(self, now: datetime) -> list[tuple]:
        tags = [request.tags for request in self.tick(now).run_requests]
        return [(tag[LANE], tag["dagster/asset_partition_range_start"], tag["dagster/asset_partition_range_end"]) for tag in tags]


@pytest.fixture
def lake(tmp_path: Path, monkeypatch) -> Iterator[Harness]:
    """What is refreshed although nothing arrives is left out but where a test asks for it."""
    monkeypatch.setattr(arrivals, "quiet", lambda *_: [])
    home = tmp_path / "dagster"
    home.mkdir()
    with DagsterInstance.local_temp(str(home)) as instance:
        yield Harness(tmp_path, instance)


def assert_equals_oracle(lake: Harness) -> None:
    assert lake_helpers.sessions(lake.settings) == oracle.sessions(lake.history)
    for period in ("hour", "day"):
        found = sorted(lake_helpers.big_table(lake.settings, period), key=repr)
        expected = [{name: row[name] for name in found[0]} for row in oracle.aggregates(lake.history, period)]
        assert found == sorted(expected, key=repr)


def test_the_sensor_asks_for_exactly_the_hours_that_wait_and_the_tables_carry_them(lake):
    lake.arrive(NOON - timedelta(hours=5), NOON - timedelta(minutes=1), NOON)
    assert lake.asked(NOON) == [("live", "2026-03-10-11:00", "2026-03-10-12:00"), ("late", "2026-03-10-07:00", "2026-03-10-07:00")]
    lake.settle()
    assert lake.asked(NOON + timedelta(hours=1)) == []
    assert_equals_oracle(lake)


def test_in_a_silent_night_the_live_hours_and_today_are_refreshed_all_the_same_and_raw_is_fresh_if_the_log_is_read(lake, monkeypatch):
    lake.arrive(NOON)
    lake.settle()
    monkeypatch.setattr(arrivals, "quiet", planning.quiet)
    night = datetime.now(UTC) + timedelta(hours=9)  # runs are recorded by the real clock
    cursor = lake.tick(night).cursor
    result = lake.tick(night, cursor)
    assert {request.tags[LANE] for request in result.run_requests} == {"live", "day"}
    assert result.asset_events == [], "no broker answers: nobody knows whether raw is whole"
    monkeypatch.setattr(arrivals, "nothing_unread", lambda *_: True)
    (raw,) = lake.tick(night, cursor).asset_events
    assert raw.asset_key.to_user_string() == "raw_events"
    assert raw.metadata["objects"].value == 0


def test_stragglers_of_old_hours_are_gathered_while_the_live_hour_goes_on(lake):
    morning = NOON - timedelta(hours=5)
    lake.arrive(morning, NOON)
    lake.settle()
    began = max(record.start_time for record in lake.instance.get_run_records(RunsFilter(tags={LANE: "late"})))
    gathered_at = datetime.fromtimestamp(began, UTC) + timedelta(minutes=15)
    lake.arrive(morning + timedelta(minutes=1), NOON + timedelta(minutes=1), received=NOON + timedelta(minutes=1))
    moment = timedelta(seconds=1)
    assert [lane for lane, *_ in lake.asked(gathered_at - moment) if lane != "day"] == ["live"]
    assert [lane for lane, *_ in lake.asked(gathered_at + moment) if lane != "day"] == ["live", "late"]


def test_a_repeated_tick_starts_no_second_run(lake):
    lake.arrive(NOON)
    (request,) = lake.tick(NOON).run_requests
    lake.instance.create_run_for_job(
        lake.definitions.resolve_job_def(request.job_name), tags=dict(request.tags), status=DagsterRunStatus.STARTED
    )
    assert lake.asked(NOON) == []


def test_a_failed_run_is_asked_for_again_after_a_growing_delay_even_with_a_new_cursor(lake, monkeypatch):
    lake.arrive(NOON)
    (request,) = lake.tick(NOON).run_requests

    def broken(*_arguments, **_options):
        raise OSError("disk on fire")

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "publish_made", broken)  # of many units: each is then tried alone
        patch.setattr(fragments, "publish", broken)
        assert not lake.run(request).success
    failed_at = datetime.fromtimestamp(lake.instance.get_run_records(RunsFilter())[0].end_time, UTC)
    assert [lane for lane, *_ in lake.asked(failed_at) if lane != "day"] == []
    assert [lane for lane, *_ in lake.asked(failed_at + FIRST_DELAY) if lane != "day"] == ["live"]
    lake.settle(failed_at + FIRST_DELAY)
    assert_equals_oracle(lake)


def test_a_run_whose_process_was_killed_loses_no_hour(lake):
    lake.arrive(NOON)
    (request,) = lake.tick(NOON).run_requests
    run = lake.instance.create_run_for_job(
        lake.definitions.resolve_job_def(request.job_name), tags=dict(request.tags), status=DagsterRunStatus.STARTED
    )
    lake.instance.report_engine_event("started, then killed", run)
    now = datetime.now(UTC)
    assert lake.asked(now) == []
    later = now + SILENT_AFTER["live"] + timedelta(seconds=1)
    lake.tick(later)
    assert lake.instance.get_run_by_id(run.run_id).status == DagsterRunStatus.FAILURE
    lake.settle(later + FIRST_DELAY)
    assert_equals_oracle(lake)


@pytest.mark.parametrize("now", [NOON.replace(minute=58), BEFORE_MIDNIGHT], ids=["across_the_hour", "across_midnight"])
def test_an_event_four_minutes_ahead_of_the_clock_is_in_its_table(lake, now):
    lake.arrive(now, now + timedelta(minutes=4), received=now)
    lake.settle(now)
    assert_equals_oracle(lake)
    assert {row["hour"] for row in lake_helpers.big_table(lake.settings, "hour")} == {now.hour, (now.hour + 1) % 24}


@pytest.mark.parametrize("given", [[], ["b"], ["a", "b"], ["b", "c"]])
def test_a_range_of_which_dagster_drops_partitions_fails_instead_of_succeeding(given):
    tags = {RANGE_START: "a", RANGE_END: "c"}
    assert require_range(["a", "b", "c"], tags) == ["a", "b", "c"]
    with pytest.raises(PartitionsDropped):
        require_range(given, tags)


def test_a_late_event_refreshes_the_hour_whose_session_it_extends(lake):
    lake.arrive(NOON - timedelta(minutes=65), NOON)
    lake.settle()
    lake.arrive(NOON - timedelta(minutes=45), NOON - timedelta(minutes=20), received=NOON)
    lake.settle()
    assert_equals_oracle(lake)
    assert len(lake_helpers.sessions(lake.settings)) == 1


def test_a_unit_that_a_gate_refuses_keeps_its_last_good_object_and_the_others_are_published(lake, monkeypatch):
    lake.arrive(NOON - timedelta(hours=1), NOON)
    lake.settle()
    good = lake_helpers.table(lake.settings, "SELECT event_id FROM events WHERE hour = 12")
    lake.arrive(NOON - timedelta(minutes=50), NOON + timedelta(minutes=1))
    (request,) = [item for item in lake.tick(NOON).run_requests if item.tags[LANE] == "live"]
    real = gates.judge_all

    def judge_all(context, table, candidates):
        return [
            [replace(result, status=Status.FAILED, violations=1) for result in found if result.check == "no_repeated_events"]
            if table.endswith("app_events") and candidate.facts["max_event_time"].startswith("2026-03-10T12")
            else found
            for candidate, found in zip(candidates, real(context, table, candidates), strict=True)
        ]

    with monkeypatch.context() as patch:
        patch.setattr(gates, "judge_all", judge_all)
        assert not lake.run(request).success
    assert lake_helpers.table(lake.settings, "SELECT event_id FROM events WHERE hour = 12") == good
    assert len(lake_helpers.table(lake.settings, "SELECT * FROM events WHERE hour = 11")) == 2
    records = lake.instance.get_event_records(EventRecordsFilter(DagsterEventType.ASSET_CHECK_EVALUATION), limit=500)
    evaluations = [record.event_log_entry.dagster_event.event_specific_data for record in records]
    assert ("no_repeated_events", "2026-03-10-12:00", False) in {(item.check_name, item.partition, item.passed) for item in evaluations}
    assert ("no_repeated_events", "2026-03-10-11:00", True) in {(item.check_name, item.partition, item.passed) for item in evaluations}
    lake.settle(datetime.now(UTC) + timedelta(minutes=1))
    assert_equals_oracle(lake)


def test_every_materialization_tells_rows_bytes_and_event_times(lake):
    lake.arrive(NOON, NOON + timedelta(minutes=1))
    lake.settle()
    for name in ("events", "session_fragments", "user_activity", "sessions"):
        (event,) = lake.instance.fetch_materializations(name_filter(name), limit=1).records
        metadata = event.asset_materialization.metadata
        assert metadata["dagster/partition_row_count"].value in (1, 2)
        assert metadata["bytes"].value > 0
        assert metadata["min_event_time"].value == "2026-03-10T12:10:00+00:00"
        assert metadata["max_event_time"].value == "2026-03-10T12:11:00+00:00"
        assert metadata["raw_offsets"].value == {"session/5e5e5e5e-00000": 2}


def name_filter(name: str):
    from dagster import AssetKey, AssetRecordsFilter

    return AssetRecordsFilter(AssetKey(name), asset_partitions=["2026-03-10-12:00"])


def test_the_assets_and_the_plain_builders_make_the_same_objects(lake, tmp_path):
    lake.arrive(NOON - timedelta(hours=30), NOON - timedelta(minutes=20), NOON)
    lake.settle()
    other = tmp_path / "other"
    with lake_helpers.tables_of(other) as context:
        lake_helpers.write(context, lake.history)
        refresh.until_nothing_waits(context)
        assert lake_helpers.sessions(context.settings) == lake_helpers.sessions(lake.settings)
        for period in ("hour", "day"):
            assert lake_helpers.big_table(context.settings, period) == lake_helpers.big_table(lake.settings, period)


def test_raw_events_are_reported_once_per_ingest_hour_while_the_cursor_is_kept(lake):
    lake.arrive(NOON - timedelta(hours=1), NOON)
    first = lake.tick(NOON)
    assert [event.partition for event in first.asset_events] == ["2026-03-10-11:00"]
    assert first.asset_events[0].metadata["dagster/partition_row_count"].value == 2
    assert lake.tick(NOON, first.cursor).asset_events == []
    assert len(lake.tick(NOON, None).asset_events) == 1


def test_a_raw_object_that_cannot_be_read_stops_no_hour_and_the_sensor_does_not_say_that_all_is_well(lake):
    lake.arrive(NOON - timedelta(hours=1))
    with open_tables(lake.settings) as context:
        (entry,) = context.lake.list("raw")
        context.lake.put_new(entry.key.replace("/00000000000000000000.", "/00000000000000000001."), b"torn")
    assert lake.asked(NOON) == [("live", "2026-03-10-11:00", "2026-03-10-11:00")]
    lake.settle()
    assert "1 raw objects cannot be read" in lake.tick(NOON + timedelta(minutes=30)).skip_reason.skip_message
