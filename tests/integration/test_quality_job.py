"""The quality job on a real Dagster instance, with the real Deequ: what has settled is judged and shown by partition."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import lake_helpers
import pyarrow as pa
import pytest
from dagster import AssetCheckKey, AssetKey, DagsterEventType, DagsterInstance, EventRecordsFilter, RunRequest, SkipReason

from engagement.lake import open_lake
from engagement.model import units
from engagement.tables.context import open_tables
from engagement.tables.objects import encode, read_rows
from engagement.verdicts import records, suspects
from engagement.verdicts.result import Period, Status
from engagement.waiting import refresh
from engagement_assets.definitions import build_definitions
from engagement_assets.quality import CHECK_JOB
from resources.tables import Tables
from sensors.settled import evaluate

HOUR = units.floor_hour(datetime.now(UTC)) - 5 * units.HOUR
NEXT = HOUR + units.HOUR


def event(number, minutes, user="u1", **changes):
    at = HOUR + timedelta(minutes=minutes)
    return lake_helpers.screen_view(number, at, **{"user_id": user, "received_at": at, "session_id": f"s-{user}"} | changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    settings = lake_helpers.settings_of(tmp_path_factory.mktemp("quality"))
    with open_tables(settings) as context:
        lake_helpers.write(context, [event(0, 1), event(1, 5, "u2"), event(2, 65), event(3, 80, "u3")])
        refresh.until_nothing_waits(context)
        doubled(context.lake, NEXT)
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("home"))) as instance:
        yield World(settings, instance)


class World:
    def __init__(self, settings, instance):
        self.settings, self.instance = settings, instance
        self.lake, _ = open_lake(settings)
        self.tables = Tables.of(settings)
        self.definitions = build_definitions(date(2020, 1, 1), self.tables)

    def run(self):
        return self.definitions.resolve_job_def(CHECK_JOB).execute_in_process(instance=self.instance, raise_on_error=False)

    def tick(self):
        return evaluate(self.instance, self.tables, CHECK_JOB, datetime.now(UTC))

    def evaluations(self, asset, check):
        """Partition -> passed, newest first."""
        found = self.instance.get_event_records(EventRecordsFilter(event_type=DagsterEventType.ASSET_CHECK_EVALUATION), limit=5000)
        key = AssetCheckKey(AssetKey(asset), check)
        shown = {}
        for record in found:
            data = record.event_log_entry.dagster_event.event_specific_data
            if data.asset_check_key == key:
                shown.setdefault(data.partition, data)
        return shown


def doubled(lake, hour):
    """Every session of an hour twice, behind the gates' back."""
    entry = lake.stat(units.slot_key(units.SESSIONS, hour))
    rows = read_rows(lake, entry)
    from engagement.tables.objects import Footers

    facts = Footers(lake).of(entry)
    with lake.replacing(entry.key):
        lake.replace(entry.key, encode(pa.concat_tables([rows, rows]), facts), entry)


def test_what_has_settled_is_judged_by_deequ_shown_by_partition_and_not_asked_for_again(world):
    with open_tables(world.settings) as context:  # the hour rows of the doubled hour were made before: nothing may wait
        refresh.until_nothing_waits(context)
    assert isinstance(world.tick(), RunRequest)
    assert world.run().success, "checks that fail do not fail the run"
    found = records.latest(world.lake, HOUR.date(), NEXT.date())
    failed = {
        (standing.result.asset, standing.result.period, standing.result.check)
        for standing in found.values()
        if standing.result.status is Status.FAILED and standing.result.severity == "error"
    }
    assert ("sessions", Period(NEXT), "no_repeated_sessions") in failed
    assert {period for _, period, _ in failed if period.kind == "hour"} == {Period(NEXT)}
    assert {standing.result.engine for standing in found.values()} >= {"deequ", "anomaly", "drift"}
    assert not [standing.result for standing in found.values() if standing.result.status is Status.BROKEN]

    shown = world.evaluations("sessions", "no_repeated_sessions")
    assert {key: data.passed for key, data in shown.items()} == {Period(HOUR).key: True, Period(NEXT).key: False}
    wrong = shown[Period(NEXT).key].metadata
    assert {"value", "threshold", "hint", "sample", "query", "rows", "violations", "engine"} <= wrong.keys()
    assert "u3" not in str(wrong["sample"].value)
    assert lake_helpers.table(world.settings, wrong["query"].value.strip("`").removeprefix("sql").strip("`\n")), "the query shows the rows"

    assert ("sessions/" + Period(NEXT).key) in {suspect.unit for suspect in suspects.suspects(world.lake, HOUR.date(), NEXT.date())}
    metrics = list(records.metrics(world.lake, HOUR.date(), NEXT.date()))
    assert {"Size", "Uniqueness", "Compliance"} <= {metric.name for metric in metrics if metric.engine == "deequ"}
    assert isinstance(world.tick(), SkipReason)


def test_a_reopened_hour_is_judged_again_and_what_was_mended_passes(world):
    with open_tables(world.settings) as context:
        lake_helpers.write(context, [event(4, 66, "u4", received_at=datetime.now(UTC) - units.HOUR)])
        refresh.hours(context, [HOUR, NEXT], rebuild=True)
        refresh.until_nothing_waits(context)
    assert isinstance(world.tick(), RunRequest)
    assert world.run().success
    assert world.evaluations("sessions", "no_repeated_sessions")[Period(NEXT).key].passed
    assert "sessions/" + Period(NEXT).key not in {suspect.unit for suspect in suspects.suspects(world.lake, HOUR.date(), NEXT.date())}


def test_on_demand_the_twin_judges_one_partition_or_a_range_each_for_itself(world):
    job = (
        world.definitions.get_implicit_global_asset_job_def()
        if hasattr(world.definitions, "get_implicit_global_asset_job_def")
        else world.definitions.resolve_implicit_global_asset_job_def()
    )
    from dagster import AssetSelection, Definitions, define_asset_job

    asked = define_asset_job("asked", AssetSelection.checks(AssetCheckKey(AssetKey("events"), "no_repeated_events")))
    whole = Definitions.merge(world.definitions, Definitions(jobs=[asked]))
    tags = {"dagster/asset_partition_range_start": Period(HOUR).key, "dagster/asset_partition_range_end": Period(NEXT).key}
    result = whole.resolve_job_def("asked").execute_in_process(instance=world.instance, tags=tags, raise_on_error=False)
    assert result.success
    shown = world.evaluations("events", "no_repeated_events")
    assert {Period(HOUR).key, Period(NEXT).key} <= shown.keys()
    assert shown[Period(HOUR).key].passed
    assert job
