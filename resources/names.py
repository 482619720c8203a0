"""Names that the asset graph, its sensors and the commands share: jobs, their assets, partition keys."""

from __future__ import annotations

from datetime import date, datetime

HOURS_JOB, DAYS_JOB = "refresh_hours", "refresh_days"
HOURLY_ASSETS = ("events", "session_fragments", "user_activity", "sessions", "hourly_engagement")
DAILY_ASSETS = ("daily_engagement",)
CATALOG = "catalog"
"""The last step of both jobs; not partitioned."""

HOUR_FORMAT, DAY_FORMAT = "%Y-%m-%d-%H:%M", "%Y-%m-%d"


def hour_key(hour: datetime) -> str:
    """Partition key of an hour."""
    return hour.strftime(HOUR_FORMAT)


def day_key(day: date) -> str:
    """Partition key of a day."""
    return day.strftime(DAY_FORMAT)
