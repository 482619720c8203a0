"""How time is cut: hours, slots, days, and the key of each unit's object (design §5). All time is UTC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

_KEY = re.compile(r".+/year=\d{4}/month=\d{2}/day=\d{2}/(hour=\d{2}/slot-\d{2}|hours|day)\.parquet")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

EVENTS = "processed/app_events"
FRAGMENTS = "processed/session_fragments"
ACTIVITY = "processed/user_activity"
SESSIONS = "processed/sessions"
BIG_TABLE = "aggregated/daily_aggregates_with_dimensions"
QUALITY_RESULTS = "metrics/quality_results"
QUALITY_METRICS = "metrics/quality_metrics"


def floor_hour(instant: datetime) -> datetime:
    """Start of the UTC hour."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def is_late(hour: datetime, now: datetime) -> bool:
    """Whether an hour is older than the previous one: from that on hours are live (R9)."""
    return hour < floor_hour(now) - HOUR


def floor_day(instant: datetime) -> datetime:
    """Start of the UTC day."""
    return floor_hour(instant).replace(hour=0)


def floor_slot(instant: datetime, slot_minutes: int) -> datetime:
    """Start of the slot."""
    utc = instant.astimezone(UTC)
    return floor_hour(utc) + timedelta(minutes=utc.minute // slot_minutes * slot_minutes)


def slots_of(hour: datetime, slot_minutes: int) -> list[datetime]:
    """Starts of an hour's slots."""
    return [hour + timedelta(minutes=minute) for minute in range(0, 60, slot_minutes)]


def hours_of(day: date) -> list[datetime]:
    """Starts of a UTC day's hours."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return [start + number * HOUR for number in range(24)]


def slots_between(start: datetime, end: datetime, slot_minutes: int) -> Iterator[datetime]:
    """Starts of all slots in [start, end)."""
    slot = start
    while slot < end:
        yield slot
        slot += timedelta(minutes=slot_minutes)


def reach(slot: datetime, slot_minutes: int) -> list[datetime]:
    """The slots whose fragments a slot's sessions can depend on: its UTC day and both neighbours, whole (R7)."""
    day = floor_day(slot)
    return list(slots_between(day - DAY, day + 2 * DAY, slot_minutes))


def slot_key(table: str, slot: datetime) -> str:
    """Key of a slot's object."""
    return f"{table}/year={slot:%Y}/month={slot:%m}/day={slot:%d}/hour={slot:%H}/slot-{slot:%M}.parquet"


def hours_key(day: date) -> str:
    """Key of a day's object of hour rows."""
    return f"{BIG_TABLE}/year={day:%Y}/month={day:%m}/day={day:%d}/hours.parquet"


def day_key(day: date) -> str:
    """Key of a day's object of day rows."""
    return f"{BIG_TABLE}/year={day:%Y}/month={day:%m}/day={day:%d}/day.parquet"


def slot_of_key(key: str) -> datetime:
    """The slot of a slot object's key."""
    parts = dict(part.split("=") for part in key.split("/") if "=" in part)
    minute = int(key.rsplit("-", 1)[1].removesuffix(".parquet"))
    return datetime(int(parts["year"]), int(parts["month"]), int(parts["day"]), int(parts["hour"]), minute, tzinfo=UTC)


def day_of_key(key: str) -> date:
    """The UTC day of any key below a day's folder."""
    parts = dict(part.split("=") for part in key.split("/") if "=" in part)
    return date(int(parts["year"]), int(parts["month"]), int(parts["day"]))


def is_key(key: str) -> bool:
    """Whether a key is that of a unit: what strangers leave in a table's folder is not of the table."""
    return _KEY.fullmatch(key) is not None


def contiguous(hours: Iterable[datetime], step: timedelta = HOUR, longest: int = 24) -> list[tuple[datetime, datetime]]:
    """Group instants into ranges (first, last, both included) without holes, none longer than `longest` steps."""
    ranges: list[tuple[datetime, datetime]] = []
    for hour in sorted(set(hours)):
        if ranges and hour - ranges[-1][1] == step and hour - ranges[-1][0] < longest * step:
            ranges[-1] = (ranges[-1][0], hour)
        else:
            ranges.append((hour, hour))
    return ranges
