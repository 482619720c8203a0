"""The nightly schedule: which days are made again, as which runs."""

from __future__ import annotations

from datetime import UTC, date, datetime

import lake_helpers
import pytest
from dagster import SkipReason, build_schedule_context

from engagement_assets import rebuilds
from engagement_assets.definitions import build_definitions
from resources import tags
from resources.tables import Tables

NOW = datetime(2026, 3, 11, 3, 10, tzinfo=UTC)


def asked(folder, *, daily=False, **settings):
    found = rebuilds.requests(lake_helpers.settings_of(folder, **settings), NOW, daily=daily)
    return [(request.tags[tags.RANGE_START], request.tags[tags.RANGE_END]) for request in found]


def test_the_last_whole_days_the_oldest_first(tmp_path):
    assert asked(tmp_path, rebuild_days=2) == [("2026-03-09-00:00", "2026-03-09-23:00"), ("2026-03-10-00:00", "2026-03-10-23:00")]
    assert asked(tmp_path, rebuild_days=2, daily=True) == [("2026-03-09", "2026-03-09"), ("2026-03-10", "2026-03-10")]


def test_none_where_none_is_wished(tmp_path):
    assert asked(tmp_path, rebuild_days=0) == []


def test_no_day_before_the_history(tmp_path):
    assert asked(tmp_path, rebuild_days=3, history_start=date(2026, 3, 10)) == [("2026-03-10-00:00", "2026-03-10-23:00")]


def test_they_are_rebuilds_in_the_lane_of_backfills(tmp_path):
    for daily in (False, True):
        for request in rebuilds.requests(lake_helpers.settings_of(tmp_path), NOW, daily=daily):
            assert (request.tags[tags.LANE], request.tags[tags.REBUILD]) == ("backfill", "true")
            kind, first, last = request.tags[tags.UNITS].split("/")
            assert kind == ("days" if daily else "hours")
            assert datetime.fromisoformat(first) <= datetime.fromisoformat(last) < NOW


@pytest.mark.parametrize("name", ["rebuild_hours_every_night", "rebuild_days_every_night"])
def test_dagster_gets_them_from_the_schedule(tmp_path, name):
    for days in (2, 0):
        settings = lake_helpers.settings_of(tmp_path, rebuild_days=days)
        tables = Tables.of(settings)
        definitions = build_definitions(settings.history_start, tables)
        with build_schedule_context(resources={"tables": tables}, scheduled_execution_time=NOW) as context:
            found = definitions.resolve_schedule_def(name)(context)
        assert len(found) == days if days else isinstance(found, SkipReason)
