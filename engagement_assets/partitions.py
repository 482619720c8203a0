"""Hourly and daily UTC partitions, and the mappings between them (R7, design §7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from dagster import DailyPartitionsDefinition, HourlyPartitionsDefinition, TimeWindowPartitionMapping

from resources.names import DAY_FORMAT, HOUR_FORMAT

END_OFFSET = 2
"""The open hour (day) and the next are partitions too: an event may be minutes ahead of the clock."""

SESSIONS_REACH = TimeWindowPartitionMapping(-47, 47, allow_nonexistent_upstream_partitions=True)
"""Sessions of an hour depend on the fragments of its day and both neighbours: 47 hours is their furthest hour (R7)."""

RAW_REACH = TimeWindowPartitionMapping(-1, 30 * 24, allow_nonexistent_upstream_partitions=True)
"""An event hour's records arrive from minutes before it (clock skew) to the lateness horizon after it (R9)."""


@dataclass(frozen=True, slots=True)
class Partitions:
    """The two partition definitions of one lake."""

    hours: HourlyPartitionsDefinition
    days: DailyPartitionsDefinition


def build(history_start: date) -> Partitions:
    """Partitions from the first UTC day of the lake's history to one period beyond the open one."""
    start = datetime(history_start.year, history_start.month, history_start.day, tzinfo=UTC)
    return Partitions(
        HourlyPartitionsDefinition(start_date=start.strftime(HOUR_FORMAT), timezone="UTC", end_offset=END_OFFSET),
        DailyPartitionsDefinition(start_date=start.strftime(DAY_FORMAT), timezone="UTC", end_offset=END_OFFSET),
    )


def parse_hours(keys: Iterable[str]) -> list[datetime]:
    """Hours of partition keys, in order."""
    return sorted(datetime.strptime(key, HOUR_FORMAT).replace(tzinfo=UTC) for key in keys)


def starts_of(keys: Iterable[str]) -> list[datetime]:
    """Starts of hour or day partition keys."""
    return [datetime.strptime(key, HOUR_FORMAT if ":" in key else DAY_FORMAT).replace(tzinfo=UTC) for key in keys]


def parse_days(keys: Iterable[str]) -> list[date]:
    """Days of partition keys, in order."""
    return sorted(date.fromisoformat(key) for key in keys)
