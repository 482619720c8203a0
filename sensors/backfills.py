"""Backfills that people ask for: the request, how far it is, and its next runs in the lane `backfill`; the sensor `arrivals` asks for them.

A request is a key in a set of the Dagster instance (its dynamic partitions: added and removed atomically, on SQLite and on
PostgreSQL), so that whoever can reach the instance can ask, and a request outlives the death of whoever asked. How far a
backfill is, its runs say, whose tags name it; nothing is kept beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from dagster import AssetKey, DagsterInstance, DagsterRunStatus, RunRequest, RunsFilter

from resources import tags
from resources.names import CATALOG
from sensors import chunks
from sensors.chunks import Chunk

SENSOR = "arrivals"
REQUESTS = "engagement_backfill_requests"
"""Name of the set of requests in the instance."""
LANE = "backfill"
PRIORITY = "-8"
AT_ONCE = 2
"""So many runs of a request are queued or running: the lane does one at a time, the next is ready when it ends."""
SILENT = timedelta(seconds=75)
"""A daemon without a heartbeat for so long, or a sensor without a tick, serves no request."""
DAEMONS = ("SENSOR", "QUEUED_RUN_COORDINATOR")


@dataclass(frozen=True, slots=True)
class Backfill:
    """UTC days to make again from raw, both included. `since` is when it was first asked for, `began` when this attempt was."""

    first: datetime
    last: datetime
    assets: tuple[str, ...] | None
    since: datetime
    began: datetime

    @property
    def what(self) -> str:
        """Which days of which assets, whenever it was asked for."""
        return f"{self.first.date()}/{self.last.date()}/{'+'.join(self.assets) if self.assets else 'all'}"

    @property
    def key(self) -> str:
        """The request; `parse` reads it back."""
        return f"{self.what}/{self.since.isoformat()}/{self.began.isoformat()}"

    @property
    def tags(self) -> dict[str, str]:
        """What its runs carry besides their chunk's tags."""
        return {tags.BACKFILL_OF: self.what, tags.BACKFILL_SINCE: self.since.isoformat(), tags.BACKFILL_BEGAN: self.began.isoformat()}

    def chunks(self) -> list[Chunk]:
        """All of it; hours of the open day up to that in which it was first asked for."""
        return chunks.of_days(self.first, self.last, self.assets, self.since)


def parse(key: str) -> Backfill:
    """The request of a key."""
    first, last, assets, since, began = key.split("/")
    first_day, last_day = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last))
    chosen = None if assets == "all" else tuple(assets.split("+"))
    return Backfill(first_day, last_day, chosen, datetime.fromisoformat(since), datetime.fromisoformat(began))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a backfill is: each chunk is in one of these lists."""

    done: Sequence[Chunk]
    """By this attempt or by one before it."""
    failed: Sequence[Chunk]
    """In this attempt, or cancelled."""
    under_way: Sequence[Chunk]
    left: Sequence[Chunk]

    @property
    def over(self) -> bool:
        """Whether nothing of it is to come."""
        return not self.left and not self.under_way


def standing(instance: DagsterInstance, backfill: Backfill) -> Standing:
    """How far it is, from the records of its runs."""
    wanted = {tags.BACKFILL_OF: backfill.what, tags.BACKFILL_SINCE: backfill.since.isoformat()}
    done, failed, under_way = set(), set(), set()
    for run in instance.get_runs(RunsFilter(tags=wanted)):
        chunk = chunks.of_tags(run.tags)
        if chunk is None:
            continue
        if run.status is DagsterRunStatus.SUCCESS:
            done.add(chunk)
        elif not run.is_finished:
            under_way.add(chunk)
        elif run.tags[tags.BACKFILL_BEGAN] == backfill.began.isoformat():
            failed.add(chunk)
    found: dict[str, list[Chunk]] = {"done": [], "under_way": [], "failed": [], "left": []}
    for chunk in backfill.chunks():
        kinds = (("done", done), ("under_way", under_way), ("failed", failed))
        found[next((name for name, members in kinds if chunk in members), "left")].append(chunk)
    return Standing(**found)


def resumed(instance: DagsterInstance, backfill: Backfill) -> Backfill:
    """The same, going on where its last attempt ended; as it is where there was none."""
    for run in instance.get_runs(RunsFilter(tags={tags.BACKFILL_OF: backfill.what}), limit=1):
        return replace(backfill, since=datetime.fromisoformat(run.tags[tags.BACKFILL_SINCE]))
    return backfill


def ask(instance: DagsterInstance, backfill: Backfill) -> None:
    """Leave a request for the sensor."""
    instance.add_dynamic_partitions(REQUESTS, [backfill.key])


def withdraw(instance: DagsterInstance, backfill: Backfill) -> None:
    """Ask for nothing more of it; runs that are queued or running go on."""
    instance.delete_dynamic_partition(REQUESTS, backfill.key)


def asked(instance: DagsterInstance) -> list[Backfill]:
    """All requests that are not over, the oldest first."""
    return sorted(map(parse, instance.get_dynamic_partitions(REQUESTS)), key=lambda found: found.began)


def is_served(instance: DagsterInstance, now: datetime) -> bool:
    """Whether somebody would see to a request: the daemon lives, and the sensor ticks."""
    beats = instance.get_daemon_heartbeats()
    since = (now - SILENT).timestamp()
    return all(name in beats and beats[name].timestamp >= since for name in DAEMONS) and _last_tick(instance) >= since


def _last_tick(instance: DagsterInstance) -> float:
    last = 0.0
    for state in instance.all_instigator_state():
        if state.name == SENSOR and state.is_running:
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            last = max([last, *(tick.timestamp for tick in ticks)])
    return last


def evaluate(instance: DagsterInstance) -> list[RunRequest]:
    """The next runs of each request; what is over is forgotten."""
    requests: list[RunRequest] = []
    for backfill in asked(instance):
        found = standing(instance, backfill)
        if found.over:
            withdraw(instance, backfill)
        requests += [run_request(backfill, chunk) for chunk in found.left[: max(AT_ONCE - len(found.under_way), 0)]]
    return requests


def run_request(backfill: Backfill, chunk: Chunk) -> RunRequest:
    """The run of one chunk; Dagster starts it once, however often the tick is done again."""
    assets = chunk.assets(backfill.assets)
    chosen = None if assets is None else [AssetKey(name) for name in (*assets, CATALOG)]
    return RunRequest(
        run_key=f"{backfill.key} {chunk.text}",
        job_name=chunk.job,
        tags=chunk.tags(LANE, rebuild=True) | backfill.tags | {"dagster/priority": PRIORITY},
        asset_selection=chosen,
        asset_check_keys=None if chosen is None else [],
    )
