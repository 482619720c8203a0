"""Which raw objects become which archive part, as plain functions over what was listed (R5).

A part holds whole raw objects of one topic and ingest day. Objects of closed hours are taken as soon as they fill a part,
the rest of a day when it is closed: so a day has at most one small part, and a small app not 24. What comes for a closed
day after that (stragglers) becomes a part of its own. Whether an hour is closed is a matter of efficiency, never of safety.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from engagement.raw.footers import RawFile

PART_BYTES = 512 << 20
"""Bytes of the raw objects of a full part; the part itself is smaller by about a fifth."""
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Planned:
    """A part to be written: whole raw objects of one topic and ingest day, in the order of its rows."""

    topic: str
    day: date
    files: tuple[RawFile, ...]

    @property
    def size(self) -> int:
        """Bytes of the raw objects."""
        return sum(raw.size for raw in self.files)


def plan(files: Iterable[RawFile], now: datetime, after: timedelta, part_bytes: int = PART_BYTES) -> list[Planned]:
    """The parts that these uncovered raw objects make now; `after` is how long after its end an hour, and a day, is closed.

    With an `after` of 0 all that is there is taken.
    """
    days: dict[tuple[str, date], list[tuple[datetime, RawFile]]] = {}
    for raw, came in _dated(files, now if not after else None):
        if not after or _hour_of(came) + _HOUR + after <= now:
            days.setdefault((raw.chain.topic, came.astimezone(UTC).date()), []).append((came, raw))
    found = []
    for (topic, day), dated in sorted(days.items(), key=lambda item: (item[0][1], item[0][0])):
        closed = not after or datetime.combine(day, time(), UTC) + _DAY + after <= now
        in_time = [raw for _, raw in sorted(dated, key=lambda item: (item[0], item[1].chain, item[1].start))]
        found += [
            Planned(topic, day, tuple(sorted(share, key=lambda raw: (raw.chain.label, raw.start))))
            for share in _shares(in_time, part_bytes, closed=closed)
        ]
    return found


def _hour_of(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _dated(files: Iterable[RawFile], otherwise: datetime | None) -> Iterator[tuple[RawFile, datetime]]:
    """Objects that cover offsets, with the log-append time that says their day.

    One without rows goes with the next object of its chain that has some, at the end of a chain with the one before; where there is
    neither it waits, unless there is a time `otherwise`.
    """
    ordered = sorted((raw for raw in files if raw.start < raw.end), key=lambda raw: (raw.chain, raw.start))
    for _, found in groupby(ordered, key=lambda raw: raw.chain):
        chain = list(found)
        behind = otherwise
        times: list[datetime | None] = []
        for raw in reversed(chain):
            behind = raw.first_received_at or behind
            times.append(behind)
        before: datetime | None = None
        for raw, came in zip(chain, reversed(times), strict=True):
            before = raw.last_received_at or before
            if moment := came or before:
                yield raw, moment


def _shares(files: Sequence[RawFile], part_bytes: int, *, closed: bool) -> Iterator[list[RawFile]]:
    """Objects of one day, in the order they came, cut into parts: full ones, and of a closed day all, none of them a small rest."""
    total = sum(raw.size for raw in files)
    count = total // part_bytes
    if closed:
        count = max(count, 1)
    share: list[RawFile] = []
    taken, cut = 0, 0
    wanted = total / count if closed else part_bytes
    for raw in files:
        share.append(raw)
        taken += raw.size
        if cut < count - closed and taken >= wanted * (cut + 1):
            yield share
            share, cut = [], cut + 1
    if closed and share:
        yield share
