"""A backfill's run: every table rebuilt in one pass, with what Dagster shows of it still told hour by hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import lake_helpers
import oracle
import pytest
from dagster import AssetKey, AssetRecordsFilter, EventRecordsFilter
from dagster._core.events import DagsterEventType

from engagement.model import units
from engagement.tables import bulk, events
from engagement.tables.context import open_tables
from engagement.verdicts.result import Status
from engagement.waiting import waits
from engagement_assets.local_runs import LocalRuns, RunFailed, local_instance
from quality import gates
from sensors.chunks import Chunk

DAY = datetime(2026, 3, 10, tzinfo=UTC)
TEN, TWELVE = DAY + 10 * units.HOUR, DAY + 12 * units.HOUR

MOMENTS = [TEN, TEN + timedelta(minutes=55), TEN + timedelta(minutes=70), TWELVE]
HISTORY = [lake_helpers.screen_view(number, moment) for number, moment in enumerate(MOMENTS)]


def test_a_backfill_run_rebuilds_its_hours_in_one_pass_and_tells_each_of_them(tmp_path, monkeypatch):
    settings = lake_helpers.settings_of(tmp_path)
    with open_tables(settings) as context:
        lake_helpers.write(context, HISTORY)
    passes = []
    real_make, real_judge = bulk.make_all, gates.judge_all
    monkeypatch.setattr(bulk, "make_all", lambda *given: passes.append(given[1]) or real_make(*given))

    def judge_all(context, table, candidates):
        found = real_judge(context, table, candidates)
        return [
            [replace(result, status=Status.FAILED, violations=1) for result in results if result.check == "no_repeated_events"]
            if table == units.EVENTS and one.hour == TWELVE
            else results
            for one, results in zip(candidates, found, strict=True)
        ]

    hours = Chunk(TEN, TWELVE)
    with local_instance(settings) as instance:
        runs = LocalRuns(settings, instance)
        with monkeypatch.context() as patch:
            patch.setattr(gates, "judge_all", judge_all)
            with pytest.raises(RunFailed, match=r"hour=12.*no_repeated_events"):
                runs.run(hours, lane="backfill", rebuild=True)
        assert passes == [units.EVENTS, units.FRAGMENTS, units.ACTIVITY, units.SESSIONS]
        with open_tables(settings) as context:
            keys = [entry.key for entry in context.lake.list(units.EVENTS)]
        assert keys == [units.slot_key(units.EVENTS, TEN), units.slot_key(units.EVENTS, TEN + units.HOUR)]
        records = instance.get_event_records(EventRecordsFilter(DagsterEventType.ASSET_CHECK_EVALUATION), limit=500)
        found = [record.event_log_entry.dagster_event.event_specific_data for record in records]
        told = {(one.partition, one.passed) for one in found if one.check_name == "no_repeated_events"}
        assert told == {("2026-03-10-10:00", True), ("2026-03-10-11:00", True), ("2026-03-10-12:00", False)}

        runs.run(hours, lane="backfill", rebuild=True)
        runs.run(Chunk(DAY, DAY, days=True), lane="backfill", rebuild=True)
        rows = {}
        for key in ("2026-03-10-10:00", "2026-03-10-11:00", "2026-03-10-12:00"):
            (record,) = instance.fetch_materializations(AssetRecordsFilter(AssetKey("events"), asset_partitions=[key]), limit=1).records
            rows[key] = record.asset_materialization.metadata["dagster/partition_row_count"].value
        assert list(rows.values()) == [2, 1, 1]
    with open_tables(settings) as context:
        assert not waits.compute(context)
    assert lake_helpers.sessions(settings) == oracle.sessions(HISTORY)


def test_an_hour_that_cannot_be_rebuilt_fails_alone(tmp_path, monkeypatch):
    settings = lake_helpers.settings_of(tmp_path)
    with open_tables(settings) as context:
        lake_helpers.write(context, HISTORY)
    real = events._facts

    def failing(slot, *given):
        if slot == TWELVE:
            raise OSError("planted")
        return real(slot, *given)

    monkeypatch.setattr(events, "_facts", failing)
    with local_instance(settings) as instance, pytest.raises(RunFailed, match="12:00: planted"):
        LocalRuns(settings, instance).run(Chunk(TEN, TWELVE), lane="backfill", rebuild=True)
    with open_tables(settings) as context:
        assert len(list(context.lake.list(units.EVENTS))) == 2
        assert set(waits.compute(context).hours) == {TWELVE}, "the tables that follow were made for all others"
