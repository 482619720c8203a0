"""The exporter over a real Dagster instance on disk: runs, heartbeats, backfills, materializations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, DagsterRunStatus, job, op
from dagster._core.events import DagsterEvent, DagsterEventType, JobFailureData, RunFailureReason
from dagster._daemon.types import DaemonHeartbeat

from engagement.exporter import dagster, series
from resources import tags
from sensors import backfills


@pytest.fixture
def now():
    return datetime.now(UTC)


@op
def nothing():
    """A step."""


@job
def work():
    nothing()


@pytest.fixture
def instance(tmp_path):
    with DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def ran(instance, status, **tags):
    """A run that ended so; `engagement_lane` is the tag engagement/lane."""
    named = {name.replace("_", "/"): value for name, value in tags.items()}
    run = instance.create_run_for_job(work, tags=named, status=DagsterRunStatus.STARTED)
    kind = DagsterEventType.PIPELINE_SUCCESS if status is DagsterRunStatus.SUCCESS else DagsterEventType.PIPELINE_FAILURE
    data = None if status is DagsterRunStatus.SUCCESS else JobFailureData(error=None, failure_reason=RunFailureReason.STEP_FAILURE)
    instance.report_dagster_event(DagsterEvent(kind.value, run.job_name, event_specific_data=data), run_id=run.run_id)


def look(instance, now=None):
    return {(item.series.name, *item.labels): item.value for item in dagster.look(instance, now or datetime.now(UTC))}


def test_runs_of_a_lane_that_failed_since_the_last_that_succeeded_are_counted_and_backfills_are_not(instance):
    for status in (DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.FAILURE):
        ran(instance, status, engagement_lane="live")
    ran(instance, DagsterRunStatus.FAILURE, engagement_lane="live", dagster_backfill="b1")
    found = look(instance)
    assert found[series.FAILED_IN_A_ROW.name, "live"] == 2
    assert found[series.RUNS_ENDED.name, "live", "failure"] == 3
    assert found[series.RUNS_ENDED.name, "backfill", "failure"] == 1


def test_a_night_that_failed_is_a_failed_backfill_until_the_same_days_were_made(instance, now):
    ran(instance, DagsterRunStatus.FAILURE, engagement_lane="backfill", engagement_units="hours/a/b")
    ran(instance, DagsterRunStatus.FAILURE, engagement_lane="backfill", engagement_units="hours/c/d")
    assert look(instance)[series.BACKFILLS.name, "failed"] == 2
    ran(instance, DagsterRunStatus.SUCCESS, engagement_lane="backfill", engagement_units="hours/a/b")
    assert look(instance)[series.BACKFILLS.name, "failed"] == 1
    assert look(instance, now + timedelta(days=2))[series.BACKFILLS.name, "failed"] == 0


def test_a_backfill_that_was_asked_for_stands_still_while_none_of_its_runs_ends(instance, now):
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    wanted = backfills.Backfill(day, day, None, now, now)
    backfills.ask(instance, wanted)
    found = look(instance, now + timedelta(minutes=40))
    assert found[series.BACKFILLS.name, "running"] == 1
    assert found[series.BACKFILL_STILL.name,] == 2400
    ran(instance, DagsterRunStatus.SUCCESS, engagement_lane="backfill", engagement_backfill=wanted.what)
    assert look(instance, now + timedelta(minutes=40))[series.BACKFILL_STILL.name,] == pytest.approx(2400, abs=60)
    assert look(instance, now + timedelta(minutes=40))[series.BACKFILL_STILL.name,] < 2400
    backfills.withdraw(instance, wanted)
    assert look(instance)[series.BACKFILLS.name, "running"] == 0


def test_a_run_that_stays_under_way_gets_older(instance, now):
    instance.create_run_for_job(work, tags={"engagement/lane": "live"}, status=DagsterRunStatus.STARTED)
    found = look(instance, now + timedelta(minutes=20))
    assert found[series.RUNS.name, "live", "running"] == 1
    assert found[series.RUN_AGE.name, "live", "running"] > 1000


def test_only_heartbeats_of_daemons_that_are_to_run_count(instance, now):
    for name in ("SENSOR", "LONG_GONE"):
        instance.add_daemon_heartbeat(DaemonHeartbeat(now.timestamp(), name, "id"))
    found = look(instance)
    assert found[series.DAEMON.name, "SENSOR"] == pytest.approx(now.timestamp())
    assert (series.DAEMON.name, "LONG_GONE") not in found


def test_a_materialization_is_dated_whichever_partition_it_was(instance, now):
    instance.report_runless_asset_event(AssetMaterialization(AssetKey("events"), partition="2020-01-01-00:00"))
    assert abs(look(instance)[series.MATERIALIZED.name, "events"] - now.timestamp()) < 60


def test_an_instance_without_anything_is_well(instance):
    found = look(instance)
    assert found[series.BACKFILL_STILL.name,] == 0
    assert found[series.BACKFILLS.name, "running"] == 0


def test_the_lake_of_a_law_abiding_demo_has_every_series_of_its_source(tmp_path, now):
    from engagement.exporter import audit, lake
    from engagement.freshness import ages, sla
    from engagement.waiting import refresh

    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(0, now - timedelta(minutes=1))])
        refresh.until_nothing_waits(context)
        found = {item.series.name for item in lake.look(context, ages.NO_LOG, sla.parse("", ""), ages.Seen(), now)}
        found |= {item.series.name for item in audit.look(context, now)}
    wanted = {series.AGE, series.STATE, series.SLA, series.NEWEST, series.NEWEST_EVENT, series.WAITING, series.HELD, series.LAYER_BYTES,
              series.RAW_ROWS, series.AUDIT_FINDINGS, series.GAP_RECORDS, series.OUTDATED, series.DUPLICATES, series.SUSPECT}  # fmt: skip
    assert {item.name for item in wanted} <= found


def test_the_exporter_reads_the_tags_that_the_sensors_set():
    assert (dagster.LANE, dagster.UNITS, dagster.BACKFILL) == (tags.LANE, tags.UNITS, tags.BACKFILL)
