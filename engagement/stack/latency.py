"""How long after its log-append time a record is in the hour row that people read.

The measure (interface, `demo --seconds`): for each good live record, the first poll at which the hour
object's footer covers its offset, minus received_at. Live is what the phone sent within LIVE of its event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from engagement.lake import open_lake
from engagement.model import units
from engagement.raw.footers import RawFile
from engagement.raw.index import RawIndex
from engagement.settings import Settings
from engagement.tables.objects import Footers

LIVE = timedelta(minutes=1)

Coverage = Mapping[datetime, Mapping[str, int]]
"""Slot start -> chain label -> next offset that the hour rows cover."""


@dataclass
class Latency:
    """Collects latencies poll by poll.

    `times_of` gives (slot, received_at) of each good live record of a raw object; every object is read once.
    """

    live_from: datetime
    times_of: Callable[[RawFile], Sequence[tuple[datetime, datetime]]]
    seconds: list[float] = field(default_factory=list)
    first_current: datetime | None = None
    _open: dict[tuple[str, int], tuple[RawFile, list[tuple[datetime, datetime]]]] = field(default_factory=dict)

    def poll(self, now: datetime, new: Sequence[RawFile], coverage: Coverage, newest: datetime | None) -> None:
        """Take note of new raw objects, of what the hour rows cover now, and of the newest record in the current hour's."""
        for raw in new:
            if raw.last_received_at and raw.last_received_at >= self.live_from:
                self._open[raw.chain.label, raw.start] = (raw, list(self.times_of(raw)))
        for key, (raw, times) in list(self._open.items()):
            left = []
            for slot, received in times:
                if coverage.get(slot, {}).get(raw.chain.label, 0) < raw.end:
                    left.append((slot, received))
                elif received >= self.live_from:
                    self.seconds.append((now - received).total_seconds())
            if left:
                self._open[key] = (raw, left)
            else:
                del self._open[key]
        if self.first_current is None and newest is not None and newest >= self.live_from:
            self.first_current = now

    def percentile(self, share: float) -> float | None:
        """Nearest-rank percentile in seconds, None without records."""
        if not self.seconds:
            return None
        ranked = sorted(self.seconds)
        return round(ranked[min(len(ranked) - 1, int(share * len(ranked)))], 2)


class LakeWatch:
    """The lake as the measure needs it, read by polling."""

    def __init__(self, settings: Settings) -> None:
        self._lake, self._format = open_lake(settings)
        self._index = RawIndex(self._lake, settings.state_dir)
        self._footers = Footers(self._lake)

    def new_files(self, known: dict[str, int]) -> list[RawFile]:
        """Raw objects beyond the known ends; `known` is brought forward."""
        self._index.sync(recent=True)
        found = self._index.after(known)
        for raw in found:
            known[raw.chain.label] = max(raw.end, known.get(raw.chain.label, 0))
        return found

    def times_of(self, raw: RawFile) -> list[tuple[datetime, datetime]]:
        """(slot, received_at) of each good live record."""
        import pyarrow.parquet as pq

        (path,) = self._lake.local([raw.entry])
        table = pq.ParquetFile(path).read(["event_time", "received_at"])
        pairs = zip(table["event_time"].to_pylist(), table["received_at"].to_pylist(), strict=True)
        minutes = self._format.slot_minutes
        return [(units.floor_slot(event, minutes), received) for event, received in pairs if event and received - event <= LIVE]

    def hours(self, now: datetime) -> dict[str, Mapping[str, Any]]:
        """Footer entries of the hour rows of today and yesterday, by hour."""
        found: dict[str, Mapping[str, Any]] = {}
        for day in (now - units.DAY, now):
            found |= self._footers.of(self._lake.stat(units.hours_key(day.date()))).get("hours", {})
        return found

    def coverage(self, now: datetime) -> Coverage:
        """What the hour rows of today and yesterday cover."""
        return {datetime.fromisoformat(slot): ends for made in self.hours(now).values() for slot, ends in made.get("offsets", {}).items()}

    def newest(self, now: datetime) -> datetime | None:
        """Log-append time of the newest record in the current hour's rows."""
        text = self.hours(now).get(units.floor_hour(now).isoformat(), {}).get("newest_received_at")
        return None if text is None else datetime.fromisoformat(text)

    def totals(self) -> dict[str, int]:
        """Rows and rejects of the raw log, and copies dropped from events."""
        self._index.sync()
        files = self._index.sources()
        events = [self._footers.of(entry) for entry in self._lake.list(units.EVENTS)]
        return {
            "rows_raw": sum(raw.rows for raw in files),
            "rows_rejected": sum(sum(raw.rejects.values()) for raw in files),
            "duplicates_dropped": sum(facts.get("duplicates", 0) for facts in events),
        }

    def close(self) -> None:
        """Close the index."""
        self._index.close()
