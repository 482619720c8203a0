"""The arrivals sensor: what waits in the lake becomes range runs, and new raw objects are reported (design §7).

Level-triggered: nothing about what waits is remembered here. The cursor only saves reporting raw objects
twice; losing it reports them again and loses no hour.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from engagement.errors import TransientError
from engagement.ingest import lag
from engagement.model import units
from engagement.raw.footers import RawFile
from engagement.settings import Settings
from engagement.tables.context import open_tables
from engagement.waiting import backlog, recent, waits
from resources import tags
from resources.names import HOUR_FORMAT
from resources.tables import Tables
from sensors import backfills
from sensors.chunks import Chunk, of_tags
from sensors.planning import Lane, LatePace, PastRun, Request, Stragglers, plan, quiet

PRIORITY = {"live": "10", "day": "5", "late": "0"}
LIVE_PATH = {tags.LANE: list(PRIORITY)}
UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
REMEMBERED_RUNS = 200
BROKER_SECONDS = 3.0
SILENT_AFTER = {"live": timedelta(minutes=10), "day": timedelta(minutes=10), "late": timedelta(minutes=10)}
SILENT_AT_LAST = timedelta(hours=1)
"""A started run without any event for so long has lost its process, of what lane ever: a whole day of a backfill is one step,
and what people start from the UI has no lane. R4 makes a mistake harmless."""


def arrivals_sensor(jobs: Sequence[Any]) -> SensorDefinition:
    """The sensor's definition, over the two refresh jobs; it needs the `tables` resource."""

    @sensor(
        name="arrivals",
        jobs=jobs,
        minimum_interval_seconds=5,
        default_status=DefaultSensorStatus.RUNNING,
        description="Asks for runs of exactly the hours and days that wait, computed from the lake, and of backfills; reports raw_events.",
    )
    def arrivals(context: SensorEvaluationContext, tables: Tables) -> SensorResult:
        return evaluate(context.instance, tables, context.cursor, datetime.now(UTC))

    return arrivals


def evaluate(instance: DagsterInstance, tables: Tables, cursor: str | None, now: datetime) -> SensorResult:
    """One tick: runs for what waits and of backfills, materializations of raw_events since the cursor, the new cursor."""
    free_silent_runs(instance, now)
    with open_tables(tables.settings()) as opened:
        waiting = recent.compute(opened, now)
        new = opened.index.after(json.loads(cursor) if cursor else {})
        unreadable = len(opened.index.unreadable())
        lacking = backlog.measure(opened, [hour for hour in waiting.hours if units.is_late(hour, now)])
        pace = LatePace(timedelta(minutes=opened.settings.late_minutes), opened.settings.late_rows)
        ends = opened.index.ends()
    hour_runs, day_runs, busy = past_runs(instance, "hours"), past_runs(instance, "days"), under_way(instance)
    requests = plan(waiting, now, busy, hour_runs, day_runs, Stragglers(lacking.rows, lacking.unseen), pace)
    quiet_requests = quiet(now, requests, busy, hour_runs, day_runs)
    requests += quiet_requests
    asked = [*map(run_request, requests), *backfills.evaluate(instance)]
    found = materializations(new)
    if not found and quiet_requests and nothing_unread(tables.settings(), ends):
        found = [AssetMaterialization("raw_events", partition=units.floor_hour(now).strftime(HOUR_FORMAT), metadata=_metadata([]))]
    return SensorResult(
        run_requests=asked,
        skip_reason=None if asked else SkipReason(_why_nothing(waiting, unreadable)),
        asset_events=found,
        cursor=_advanced(cursor, new),
    )


def nothing_unread(settings: Settings, ends: Mapping[str, int]) -> bool:
    """Whether the broker answers and the lake, which ends here, has all of the log: raw is fresh though nothing came."""
    try:
        return all(partition.records <= 0 for partition in lag.measure(settings, ends, BROKER_SECONDS))
    except TransientError:
        return False


def run_request(request: Request) -> RunRequest:
    """The range run of a plan's request."""
    chunk = Chunk(request.first, request.last, request.lane == "day")
    return RunRequest(job_name=chunk.job, tags=chunk.tags(request.lane) | {"dagster/priority": PRIORITY[request.lane]})


def under_way(instance: DagsterInstance) -> list[Request]:
    """What runs of the live path that are queued or running were asked for; backfills stop nothing and are stopped by nothing."""
    found = [(run.tags[tags.LANE], of_tags(run.tags)) for run in instance.get_runs(RunsFilter(statuses=UNDER_WAY, tags=LIVE_PATH))]
    return [Request(cast("Lane", lane), chunk.first, chunk.last) for lane, chunk in found if chunk]


def past_runs(instance: DagsterInstance, kind: str) -> list[PastRun]:
    """Recent finished runs of the live path over `hours` or `days`, from the run records alone.

    A backfill's are not: it starts no rest of the late hours, and its failures are no reason to wait with what is live.
    """
    found = []
    for record in instance.get_run_records(RunsFilter(statuses=FINISHED, tags=LIVE_PATH), limit=REMEMBERED_RUNS):
        found_tags = record.dagster_run.tags
        chunk = of_tags(found_tags)
        if chunk is None or chunk.days != (kind == "days"):
            continue
        ended = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp.astimezone(UTC)
        started = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else ended
        succeeded = record.dagster_run.status == DagsterRunStatus.SUCCESS
        found.append(PastRun(chunk.first, chunk.last, started, ended, succeeded, _failed(found_tags)))
    return found


def _failed(found: Mapping[str, str]) -> frozenset[datetime] | None:
    """Units that the run itself named as failed at its end."""
    if tags.FAILED not in found:
        return None
    return frozenset(datetime.fromisoformat(text) for text in found[tags.FAILED].split(",") if text)


def free_silent_runs(instance: DagsterInstance, now: datetime) -> None:
    """Fail started runs whose process is gone, so that their lane is free and their hours wait again."""
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING])):
        longest = SILENT_AFTER.get(run.tags.get(tags.LANE, ""), SILENT_AT_LAST)
        events = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        if events and now - datetime.fromtimestamp(events[0].timestamp, UTC) > longest:
            instance.report_run_failed(run, f"no event for {longest}: its process is gone")


def materializations(new: Iterable[RawFile]) -> list[AssetMaterialization]:
    """One materialization of raw_events an ingest hour, over the raw objects that are new (R11)."""
    by_hour: dict[datetime, list[RawFile]] = {}
    for raw in new:
        if raw.ingest_hour:
            by_hour.setdefault(raw.ingest_hour, []).append(raw)
    return [
        AssetMaterialization("raw_events", partition=hour.strftime(HOUR_FORMAT), metadata=_metadata(found))
        for hour, found in sorted(by_hour.items())
    ]


def _metadata(found: Sequence[RawFile]) -> dict[str, Any]:
    rejects: Counter[str] = sum((Counter(raw.rejects) for raw in found), Counter())
    noticed: Counter[str] = sum((Counter(raw.noticed) for raw in found), Counter())
    event_hours = sorted({units.floor_hour(slot) for raw in found for slot in raw.event_slots})
    return {
        "dagster/partition_row_count": sum(raw.rows for raw in found),
        "objects": len(found),
        "rejects": dict(rejects),
        "late_or_out_of_place": dict(noticed),
        "first_event_hour": event_hours[0].isoformat() if event_hours else "",
        "last_event_hour": event_hours[-1].isoformat() if event_hours else "",
        "raw_offsets": {raw.chain.label: raw.end for raw in found},
    }


def _advanced(cursor: str | None, new: Iterable[RawFile]) -> str:
    positions: dict[str, int] = json.loads(cursor) if cursor else {}
    for raw in new:
        positions[raw.chain.label] = max(raw.end, positions.get(raw.chain.label, 0))
    return json.dumps(positions, sort_keys=True)


def _why_nothing(waiting: waits.Waiting, unreadable: int) -> str:
    if waiting:
        return f"{len(waiting.hours)} hours and {len(waiting.days)} days wait for a run under way, for their pace or for their retry delay"
    if unreadable:
        return f"nothing waits, but {unreadable} raw objects cannot be read: the check chains_whole of raw_events names them"
    return "nothing waits: every hour and day carries all raw records"
