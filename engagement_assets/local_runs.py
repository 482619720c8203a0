"""The refresh jobs run in this process, against the instance in the state folder (design §7).

`engagement refresh` and `engagement backfill` go this way: lineage, checks and freshness are recorded as
if the daemon had run them. R4 keeps them apart from runs that the daemon starts at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult

from engagement.errors import PermanentError
from engagement.model import units
from engagement.settings import Settings
from engagement.tables.context import open_tables
from engagement.waiting import waits
from engagement_assets.definitions import build_definitions
from engagement_assets.home import instance_home
from engagement_assets.jobs import CATALOG, DAILY_ASSETS, DAYS_JOB, HOURLY_ASSETS, HOURS_JOB
from engagement_assets.partitions import day_key, hour_key
from resources import tags
from resources.tables import Tables

CHUNK_HOURS = 24
ROUNDS = 20


class RunFailed(PermanentError):
    """A run in this process did not succeed; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One contiguous range run: hours, or (`days`) the midnights of days, both ends included."""

    first: datetime
    last: datetime
    days: bool = False

    @property
    def units(self) -> int:
        """Number of partitions."""
        return (self.last - self.first) // (units.DAY if self.days else units.HOUR) + 1

    def __str__(self) -> str:
        key = day_key if self.days else hour_key
        return key(self.first) if self.first == self.last else f"{key(self.first)} … {key(self.last)}"


@contextmanager
def local_instance(settings: Settings) -> Iterator[DagsterInstance]:
    """The instance in the state folder."""
    os.environ["DAGSTER_HOME"] = str(instance_home(settings))
    with DagsterInstance.get() as instance:
        yield instance


class LocalRuns:
    """Runs jobs in this process with these settings."""

    def __init__(self, settings: Settings, instance: DagsterInstance, *, verbose: bool = False) -> None:
        self._settings = settings
        self._log_level = "DEBUG" if verbose else "CRITICAL"
        self._instance = instance
        tables = Tables.of(settings)
        with open_tables(settings) as opened:
            self._definitions: Definitions = build_definitions(opened.format.history_start, tables)

    def run(self, chunk: Chunk, *, lane: str, rebuild: bool = False, assets: Sequence[str] | None = None) -> ExecuteInProcessResult:
        """Run one chunk; raises RunFailed."""
        key, job_name = (day_key, DAYS_JOB) if chunk.days else (hour_key, HOURS_JOB)
        run_tags = {
            tags.LANE: lane,
            tags.UNITS: f"{'days' if chunk.days else 'hours'}/{chunk.first.isoformat()}/{chunk.last.isoformat()}",
            tags.RANGE_START: key(chunk.first),
            tags.RANGE_END: key(chunk.last),
        } | ({tags.REBUILD: "true"} if rebuild else {})
        job = self._definitions.resolve_job_def(job_name)
        if assets:  # without a selection of checks Dagster would add all those of the chosen assets
            job = job.get_subset(asset_selection={AssetKey(name) for name in (*assets, CATALOG)}, asset_check_selection=frozenset())
        result = job.execute_in_process(
            instance=self._instance,
            tags=run_tags,
            run_config={"loggers": {"console": {"config": {"log_level": self._log_level}}}},
            raise_on_error=False,
        )
        if not result.success:
            raise RunFailed(f"{job_name} {chunk}: {_why(result)} (run {result.run_id}; `engagement status` shows what waits)")
        return result

    def waiting(self) -> waits.Waiting:
        """What waits now."""
        with open_tables(self._settings) as opened:
            return waits.compute(opened)

    def refresh(self) -> Iterator[Chunk]:
        """Run what waits until nothing does, yielding each chunk done.

        A chunk that fails is not tried again and stops no other; at the end it raises RunFailed for all that did.
        """
        failed: dict[Chunk, str] = {}
        for _ in range(ROUNDS):
            chunks = [chunk for chunk in chunks_of(self.waiting()) if chunk not in failed]
            if not chunks:
                break
            for chunk in chunks:
                try:
                    self.run(chunk, lane="day" if chunk.days else "live")
                except RunFailed as error:
                    failed[chunk] = str(error)
                yield chunk
        else:
            raise RunFailed(f"something still waits after {ROUNDS} rounds: is data arriving faster than this process refreshes?")
        if failed:
            raise RunFailed("; ".join(failed.values()))


def chunks_of(waiting: waits.Waiting) -> list[Chunk]:
    """Contiguous chunks of what waits: the hours, then the days."""
    hours = [Chunk(first, last) for first, last in units.contiguous(waiting.hours, longest=CHUNK_HOURS)]
    midnights = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in waiting.days]
    return hours + [Chunk(first, last, days=True) for first, last in units.contiguous(midnights, units.DAY)]


def backfill_chunks(first_day: datetime, last_day: datetime, assets: Sequence[str] | None, now: datetime) -> list[Chunk]:
    """A day of hours a chunk, the open day up to its present hour, then the day rows; only kinds that `assets` needs."""
    chunks: list[Chunk] = []
    days = (last_day - first_day) // units.DAY + 1
    for number in range(days):
        midnight = first_day + number * units.DAY
        end = min(midnight + timedelta(hours=23), units.floor_hour(now))
        if assets is None or set(assets) & set(HOURLY_ASSETS):
            chunks.append(Chunk(midnight, end))
        if assets is None or set(assets) & set(DAILY_ASSETS):
            chunks.append(Chunk(midnight, midnight, days=True))
    return chunks


def assets_of(chunk: Chunk, assets: Sequence[str] | None) -> list[str] | None:
    """The chosen assets that a chunk's job has; None is all of them."""
    if assets is None:
        return None
    return [name for name in (DAILY_ASSETS if chunk.days else HOURLY_ASSETS) if name in assets]


def _why(result: ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            cause = error.cause or error
            return f"{event.step_key}: {' '.join(cause.message.split())}"
    return "failed without a step's error"
