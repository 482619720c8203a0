"""The catalog as the last step of real runs: what it does there, and what its failures do not do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import lake_helpers
import pytest
from dagster import AssetKey, DagsterInstance

from engagement import catalog
from engagement.catalog import calls
from engagement.errors import TransientError
from engagement.tables import bulk, fragments
from engagement_assets.local_runs import LocalRuns, RunFailed
from sensors.arrivals import past_runs
from sensors.chunks import Chunk

HOUR = datetime(2026, 3, 10, 12, tzinfo=UTC)
CATALOG = AssetKey("catalog")


class Harness:
    def __init__(self, folder, instance):
        self.folder, self.instance = folder, instance
        self.settings = lake_helpers.settings_of(folder)
        self.runs = LocalRuns(self.settings, instance)
        self.number = 0

    def arrive(self, at=HOUR):
        with lake_helpers.tables_of(self.folder) as context:
            lake_helpers.write(context, [lake_helpers.screen_view(self.number, at + timedelta(minutes=self.number))])
        self.number += 1

    def run(self, *, days=False, assets=None):
        start = HOUR.replace(hour=0) if days else HOUR
        return self.runs.run(Chunk(start, start, days=days), lane="day" if days else "live", assets=assets)

    def materialized(self):
        return self.instance.get_latest_materialization_event(CATALOG).asset_materialization.metadata

    def shown(self, table="events"):
        with duckdb.connect(str(self.folder / "state" / "lake.duckdb"), read_only=True) as con:
            return con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]


@pytest.fixture
def lake(tmp_path) -> Iterator[Harness]:
    home = tmp_path / "dagster"
    home.mkdir()
    with DagsterInstance.local_temp(str(home)) as instance:
        yield Harness(tmp_path, instance)


def test_both_jobs_end_with_the_catalog_and_say_what_it_did(lake):
    lake.arrive()
    lake.run()
    assert lake.shown() == 1
    assert lake.materialized()["catalog"].value == f"local {lake.folder / 'state' / 'lake.duckdb'}"
    assert "events" in lake.materialized()["tables_written"].value
    lake.run(days=True)
    assert lake.materialized()["tables_written"].value == "", "all were there after the hours"
    assert lake.shown("daily_aggregates_with_dimensions") > 0
    lake.arrive()
    lake.run(assets=["events"])
    assert lake.shown() == 2


def test_the_run_tells_the_catalog_which_objects_lie_there(lake, monkeypatch):
    told = []
    monkeypatch.setattr(catalog, "refresh", lambda *_, keys, **__: told.append(set(keys)) or catalog.Report("local", "here"))
    lake.arrive()
    lake.run()
    hour = "year=2026/month=03/day=10/hour=12/slot-00.parquet"
    tables = ("app_events", "session_fragments", "user_activity", "sessions")
    hours = {f"processed/{table}/{hour}" for table in tables}
    hours.add("aggregated/daily_aggregates_with_dimensions/year=2026/month=03/day=10/hours.parquet")
    assert told == [hours]
    lake.run()
    assert told == [hours, hours], "also where nothing had to be made anew: the last run may have failed before its end"


def test_a_catalog_that_does_not_answer_fails_the_run_and_no_hour(lake, monkeypatch):
    lake.arrive()

    def away(*_, **__):
        raise calls.GlueUnavailable("Glue is away")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "refresh", away)
        with pytest.raises(RunFailed, match=r"catalog: .*Glue is away"):
            lake.run()
    assert issubclass(calls.GlueUnavailable, TransientError)
    (run,) = past_runs(lake.instance, "hours")
    assert not run.succeeded
    assert not run.failed_on(HOUR)
    assert not lake.runs.waiting().hours
    lake.run()
    assert lake.shown() == 1


def test_the_catalog_shows_what_a_run_made_though_units_of_it_failed(lake, monkeypatch):
    lake.arrive()

    def broken(*_arguments, **_options):
        raise OSError("disk on fire")

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "publish_made", broken)  # of many units: each is then tried alone
        patch.setattr(fragments, "publish", broken)
        with pytest.raises(RunFailed, match=r"catalog: .*session_fragments 2026-03-10-12:00: disk on fire"):
            lake.run()
    assert lake.shown() == 1
    (run,) = past_runs(lake.instance, "hours")
    assert run.failed_on(HOUR)
