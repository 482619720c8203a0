"""What a set of arrivals may change, said by the oracle: the dirty set of a lake in which nothing waited before.

Nothing untouched is rebuilt, so these sets are compared for equality. Allowed besides objects whose rows change:

- events, fragments and user activity of a slot that only copies touch: their footers say that the copies were counted;
- a session object of a slot that has its first events, though no session starts there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import oracle
from oracle import RawEvent

UNITS = {"app_events": "events", "session_fragments": "fragments", "user_activity": "activity", "sessions": "sessions"}


@dataclass(frozen=True)
class Dirty:
    """Slots whose raw rows are new, slots whose sessions change, slots that are new."""

    touched: frozenset[datetime]
    sessions: frozenset[datetime]
    new: frozenset[datetime]

    @property
    def hours(self) -> set[datetime]:
        """Hours that have to be asked for: they hold new raw rows or a session that changes."""
        return {slot.replace(minute=0) for slot in self.touched | self.sessions}

    @property
    def units(self) -> set[tuple[str, object]]:
        """(unit's table, its slot or day) of every object to be replaced."""
        of_slots = {(table, slot) for table in ("events", "fragments", "activity") for slot in self.touched}
        of_slots |= {("sessions", slot) for slot in self.sessions | self.new}
        return of_slots | {(kind, slot.date()) for kind in ("hour rows", "day rows") for _, slot in of_slots}


def dirty(before: list[RawEvent], arrived: list[RawEvent], slot_minutes: int = 60, gap_seconds: int = 1800, mode: str = "gap") -> Dirty:
    """The dirty set of `arrived` in a lake that holds `before` and in which nothing waits."""
    slot_of = {row.event_time: _floor(row.event_time, slot_minutes) for row in (*before, *arrived)}

    def started(rows: Iterable[RawEvent]) -> Mapping[datetime, list[dict]]:
        found = defaultdict(list)
        for session in oracle.sessions(list(rows), gap_seconds, mode):
            found[slot_of[session["started_at"]]].append(session)
        return found

    touched = frozenset(slot_of[row.event_time] for row in arrived)
    known = {slot_of[row.event_time] for row in before}
    sessions = _differing(started(before), started([*before, *arrived]))
    return Dirty(touched, frozenset(sessions), touched - known)


def replaced(before: Mapping[str, str], after: Mapping[str, str]) -> set[tuple[str, object]]:
    """The units of `Dirty.units` whose objects differ between two listings (key -> version)."""
    return {unit_of(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def unit_of(key: str) -> tuple[str, datetime | date]:
    """(unit's table, its slot or day) of an object."""
    parts = dict(part.split("=") for part in key.split("/") if "=" in part)
    day = date(int(parts["year"]), int(parts["month"]), int(parts["day"]))
    if key.startswith("aggregated/"):
        return "day rows" if key.endswith("/day.parquet") else "hour rows", day
    minute = int(key.rsplit("-", 1)[1].removesuffix(".parquet"))
    return UNITS[key.split("/")[1]], datetime(day.year, day.month, day.day, int(parts["hour"]), minute, tzinfo=UTC)


def _differing(before: Mapping[datetime, list[dict]], after: Mapping[datetime, list[dict]]) -> set[datetime]:
    return {slot for slot in before.keys() | after.keys() if before.get(slot) != after.get(slot)}


def _floor(moment: datetime, slot_minutes: int) -> datetime:
    return moment.replace(minute=moment.minute // slot_minutes * slot_minutes, second=0, microsecond=0)
