"""What the Dagster instance says: heartbeats, ticks, runs, backfills, badges. From its storage alone; no server is asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from engagement.exporter import series
from engagement.exporter.series import Sample, sample
from engagement.freshness.sla import ASSETS

if TYPE_CHECKING:
    from dagster import DagsterInstance

LANE, UNITS, BACKFILL = "engagement/lane", "engagement/units", "dagster/backfill"
BACKFILL_OF, REQUESTS = "engagement/backfill", "engagement_backfill_requests"
REMEMBERED = 300
"""Ended runs that are looked at: over an hour of them."""
ENDED_WITHIN = timedelta(hours=1)
BACKFILLS_WITHIN = timedelta(days=1)
BADGES = {"PASS": 0, "UNKNOWN": 1, "NOT_APPLICABLE": 1, "WARN": 2, "FAIL": 3}
_BACKFILL_STATUS = {
    "REQUESTED": "running", "CANCELING": "running", "FAILING": "running", "COMPLETED": "done", "COMPLETED_SUCCESS": "done",
    "COMPLETED_FAILED": "failed", "FAILED": "failed", "CANCELED": "canceled",
}  # fmt: skip


def look(instance: DagsterInstance, now: datetime) -> Iterator[Sample]:
    """One look; raises what the instance's storage raises."""
    wanted = set(instance.get_required_daemon_types())
    for name, beat in instance.get_daemon_heartbeats().items():
        if name in wanted:  # one that was switched off leaves its last heartbeat behind
            yield from sample(series.DAEMON, beat.timestamp, name)
    yield from _ticks(instance)
    yield from _under_way(instance, now)
    ended = _ended(instance)
    yield from _runs(ended, now)
    yield from _backfills(instance, ended, now)
    yield from _assets(instance)


def lane_of(tags: Any) -> str:
    """A run's lane; what people start from the UI has none, and Dagster's own backfills are backfills."""
    return "backfill" if BACKFILL in tags else tags.get(LANE, "none")


def _ticks(instance: DagsterInstance) -> Iterator[Sample]:
    from dagster._core.scheduler.instigation import TickStatus

    for state in instance.all_instigator_state():
        labels = (state.name, state.instigator_type.value.lower())
        yield from sample(series.SWITCHED_OFF, 0 if state.is_running else 1, *labels)
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        if ticks and state.is_running:
            yield from sample(series.TICK, ticks[0].timestamp, *labels)
            yield from sample(series.TICK_FAILED, 1 if ticks[0].status is TickStatus.FAILURE else 0, *labels)


def _under_way(instance: DagsterInstance, now: datetime) -> Iterator[Sample]:
    from dagster import DagsterRunStatus, RunsFilter

    queued = {DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED}
    running = {DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING}
    ages: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in instance.get_run_records(RunsFilter(statuses=[*queued, *running])):
        status = "queued" if record.dagster_run.status in queued else "running"
        since = record.create_timestamp if status == "queued" or not record.start_time else datetime.fromtimestamp(record.start_time, UTC)
        ages[lane_of(record.dagster_run.tags), status].append((now - _aware(since)).total_seconds())
    for lane in ("live", "day", "late", "backfill", "maintenance", "quality", *{lane for lane, _ in ages if lane == "none"}):
        for status in ("queued", "running"):
            found = ages[lane, status]
            yield from sample(series.RUNS, len(found), lane, status)
            yield from sample(series.RUN_AGE, max(found, default=0.0), lane, status)


def _ended(instance: DagsterInstance) -> list[Any]:
    from dagster import DagsterRunStatus, RunsFilter

    statuses = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
    return list(instance.get_run_records(RunsFilter(statuses=statuses), limit=REMEMBERED))


def _runs(ended: list[Any], now: datetime) -> Iterator[Sample]:
    """`ended` newest first."""
    recent: Counter[tuple[str, str]] = Counter()
    seconds: dict[str, float] = {}
    in_a_row: Counter[str] = Counter()
    broken: set[str] = set()
    for record in ended:
        lane, status = lane_of(record.dagster_run.tags), record.dagster_run.status.value
        if _ended_at(record) >= now - ENDED_WITHIN:
            recent[lane, status.lower()] += 1
        if status == "SUCCESS":
            broken.add(lane)
            if lane not in seconds and record.start_time and record.end_time:
                seconds[lane] = record.end_time - record.start_time
        elif status == "FAILURE" and lane not in broken:
            in_a_row[lane] += 1
    for (lane, status), count in recent.items():
        yield from sample(series.RUNS_ENDED, count, lane, status)
    for lane, taken in seconds.items():
        yield from sample(series.RUN_SECONDS, taken, lane)
    for lane in ("live", "day", "late", "maintenance", "quality"):
        yield from sample(series.FAILED_IN_A_ROW, in_a_row[lane], lane)


def _backfills(instance: DagsterInstance, ended: list[Any], now: datetime) -> Iterator[Sample]:
    """A backfill stands still while no run of its ends; one that only began counts from its beginning."""
    counts: Counter[str] = Counter()
    still = 0.0
    last: dict[str, datetime] = {}
    for record in ended:
        number = record.dagster_run.tags.get(BACKFILL)
        if number:
            last.setdefault(number, _ended_at(record))
    for item in instance.get_backfills(limit=REMEMBERED):
        status = _BACKFILL_STATUS[item.status.value]
        began = datetime.fromtimestamp(item.backfill_timestamp, UTC)
        over = datetime.fromtimestamp(item.backfill_end_timestamp, UTC) if item.backfill_end_timestamp else began
        if status == "running":
            still = max(still, (now - max(last.get(item.backfill_id, began), began)).total_seconds())
        elif over < now - BACKFILLS_WITHIN:
            continue
        counts[status] += 1
    for since in _asked(instance, ended):
        counts["running"] += 1
        still = max(still, (now - since).total_seconds())
    counts["failed"] += _failed_rebuilds(instance, now)
    for status in ("running", "done", "failed", "canceled"):
        yield from sample(series.BACKFILLS, counts[status], status)
    yield from sample(series.BACKFILL_STILL, still)


def _asked(instance: DagsterInstance, ended: list[Any]) -> Iterator[datetime]:
    """Of each backfill that `engagement backfill` asked the daemon for: when its last run ended, else when it was asked for."""
    for key in instance.get_dynamic_partitions(REQUESTS):
        what, _, began = key.rsplit("/", 2)
        last = next((_ended_at(record) for record in ended if record.dagster_run.tags.get(BACKFILL_OF) == what), None)
        asked = datetime.fromisoformat(began)
        yield max(last, asked) if last else asked


def _failed_rebuilds(instance: DagsterInstance, now: datetime) -> int:
    """Runs of the schedule, or of `engagement backfill`, that failed within a day and were not made good by a later run."""
    from dagster import DagsterRunStatus, RunsFilter

    statuses = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE]
    last: dict[str, bool] = {}
    for record in instance.get_run_records(RunsFilter(tags={LANE: "backfill"}, statuses=statuses), limit=REMEMBERED):
        found = record.dagster_run
        if BACKFILL not in found.tags and _ended_at(record) >= now - BACKFILLS_WITHIN:  # the newest first
            last.setdefault(found.tags.get(UNITS, found.run_id), found.status is DagsterRunStatus.SUCCESS)
    return sum(not good for good in last.values())


def _assets(instance: DagsterInstance) -> Iterator[Sample]:
    from dagster import AssetKey

    keys = {AssetKey(name): name for name in ASSETS}
    for record in instance.get_asset_records(list(keys)):
        name = keys[record.asset_entry.asset_key]
        made = record.asset_entry.last_materialization
        yield from sample(series.MATERIALIZED, made and made.timestamp, name)
    for key, found in instance.get_freshness_state_records(list(keys)).items():
        yield from sample(series.BADGE, BADGES.get(found.freshness_state.value, 1), keys[key])


def _ended_at(record: Any) -> datetime:
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else _aware(record.update_timestamp)


def _aware(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
