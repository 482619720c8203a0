"""Every night the last days are made again from the raw log alone: what is right is left as it is (R10), what is not is replaced.

Whole days, each one range run of hours and one of day rows in the lane `backfill`, which yields to the live path.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import DefaultScheduleStatus, RunRequest, ScheduleDefinition, ScheduleEvaluationContext, SkipReason, schedule

from engagement.lake import open_lake
from engagement.model import units
from engagement.settings import Settings
from engagement.tables import finality
from resources.tables import Tables
from sensors import backfills
from sensors.chunks import Chunk

HOURS_CRON, DAYS_CRON = "10 3 * * *", "40 3 * * *"


def schedules(hours_job: Any, days_job: Any) -> list[ScheduleDefinition]:
    """One schedule a job: a schedule has one."""

    def made(name: str, job: Any, cron: str, *, daily: bool, description: str) -> ScheduleDefinition:
        @schedule(
            name=name, job=job, cron_schedule=cron, execution_timezone="UTC", default_status=DefaultScheduleStatus.RUNNING,
            description=description,
        )  # fmt: skip
        def nightly(context: ScheduleEvaluationContext, tables: Tables) -> list[RunRequest] | SkipReason:
            found = list(requests(tables.settings(), context.scheduled_execution_time, daily=daily))
            return found or SkipReason("no whole day to make again: ENGAGEMENT_REBUILD_DAYS is 0, or the history is younger or final")

        return nightly

    return [
        made("rebuild_hours_every_night", hours_job, HOURS_CRON, daily=False, description="Makes the hours of the last days again."),
        made("rebuild_days_every_night", days_job, DAYS_CRON, daily=True, description="Makes the day rows of the last days again."),
    ]


def requests(settings: Settings, now: datetime, *, daily: bool) -> Iterator[RunRequest]:
    """One range run a day, the oldest first; of days before the history's start, or final, none."""
    lake, lake_format = open_lake(settings)
    first_open = finality.read(lake).first_open_day(now)
    midnight = units.floor_day(now.astimezone(UTC))
    for number in range(settings.rebuild_days, 0, -1):
        day = midnight - timedelta(days=number)
        if day.date() < lake_format.history_start or (first_open is not None and day.date() < first_open):
            continue
        chunk = Chunk(day, day, days=True) if daily else Chunk(day, day + timedelta(hours=23))
        yield RunRequest(tags=chunk.tags(backfills.LANE, rebuild=True) | {"dagster/priority": backfills.PRIORITY})
