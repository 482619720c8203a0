"""What one run is asked for: a contiguous range of hours, or of days, with its job, its tags and its assets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engagement.model import units
from engagement.waiting.waits import Waiting
from resources import tags
from resources.names import DAILY_ASSETS, DAYS_JOB, HOURLY_ASSETS, HOURS_JOB, day_key, hour_key

CHUNK_HOURS = 24


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

    @property
    def job(self) -> str:
        """The job that refreshes it."""
        return DAYS_JOB if self.days else HOURS_JOB

    @property
    def text(self) -> str:
        """As in the tag `engagement/units`."""
        return f"{'days' if self.days else 'hours'}/{self.first.isoformat()}/{self.last.isoformat()}"

    def tags(self, lane: str, *, rebuild: bool = False) -> dict[str, str]:
        """The run's tags."""
        key = day_key if self.days else hour_key
        found = {tags.LANE: lane, tags.UNITS: self.text, tags.RANGE_START: key(self.first), tags.RANGE_END: key(self.last)}
        return found | ({tags.REBUILD: "true"} if rebuild else {})

    def assets(self, chosen: Sequence[str] | None) -> list[str] | None:
        """The chosen assets that its job has; None is all of them."""
        if chosen is None:
            return None
        return [name for name in (DAILY_ASSETS if self.days else HOURLY_ASSETS) if name in chosen]

    def hours(self) -> Iterator[datetime]:
        """Every hour in it."""
        end = self.last + (units.DAY if self.days else units.HOUR)
        return (self.first + number * units.HOUR for number in range((end - self.first) // units.HOUR))

    def __str__(self) -> str:
        key = day_key if self.days else hour_key
        return key(self.first) if self.first == self.last else f"{key(self.first)} … {key(self.last)}"


def of_tags(found: Mapping[str, str]) -> Chunk | None:
    """What a run with these tags was asked for; None where it was not asked for hours or days."""
    if tags.UNITS not in found:
        return None
    kind, first, last = found[tags.UNITS].split("/")
    return Chunk(datetime.fromisoformat(first), datetime.fromisoformat(last), kind == "days")


def of_waiting(waiting: Waiting) -> list[Chunk]:
    """Contiguous chunks of what waits: the hours, then the days."""
    hours = [Chunk(first, last) for first, last in units.contiguous(waiting.hours, longest=CHUNK_HOURS)]
    midnights = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in waiting.days]
    return hours + [Chunk(first, last, days=True) for first, last in units.contiguous(midnights, units.DAY)]


def of_days(first_day: datetime, last_day: datetime, assets: Sequence[str] | None, now: datetime) -> list[Chunk]:
    """A day of hours a chunk, the open day up to its present hour, then the day rows; only kinds that `assets` needs."""
    chunks: list[Chunk] = []
    for number in range((last_day - first_day) // units.DAY + 1):
        midnight = first_day + number * units.DAY
        end = min(midnight + timedelta(hours=23), units.floor_hour(now))
        if assets is None or set(assets) & set(HOURLY_ASSETS):
            chunks.append(Chunk(midnight, end))
        if assets is None or set(assets) & set(DAILY_ASSETS):
            chunks.append(Chunk(midnight, midnight, days=True))
    return chunks
