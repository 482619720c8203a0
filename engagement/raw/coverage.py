"""Archive parts: what their footers say they cover of each chain (R5).

A part holds whole raw objects; its footer names the ranges they claimed, never min..max. Readers list raw
first, then the archives of all days, and ignore a raw object whose start a part covers (`chain.visible`).
Parts are not written here, and their rows are not read here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engagement.errors import PermanentError
from engagement.lake import Lake
from engagement.raw.chain import NO_COVERAGE, Coverage, Link
from engagement.raw.footers import FOOTER_KEY
from engagement.raw.names import Chain

ARCHIVE = "archive"
_KEY = re.compile(r"archive/(?P<topic>[^/]+)/year=\d{4}/month=\d{2}/day=\d{2}/part-\d+\.parquet")


class UnreadablePart(PermanentError):
    """A part whose footer cannot be read or contradicts its name: what it covers is not known."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that the log had lost before anybody read them, and when the records around them came."""

    start: int
    end: int
    after: datetime | None = None
    """Log-append time of the last record before it; None where it is the chain's beginning."""
    before: datetime | None = None
    """Log-append time of the first record behind it; None where nothing came since."""

    @property
    def offsets(self) -> int:
        """How many records are lost at most."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Slot:
    """What a range holds of one event slot: the greatest offset with a good row of it, and how many rows."""

    last_offset: int
    rows: int


@dataclass(frozen=True, slots=True)
class Range:
    """Raw objects of one chain that follow one another without a hole, as one part holds them: [start, end)."""

    start: int
    end: int
    rows: int
    rejects: dict[str, int] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    slots: dict[datetime, Slot] = field(default_factory=dict)
    first_received_at: datetime | None = None
    last_received_at: datetime | None = None
    noticed: dict[str, int] = field(default_factory=dict)
    source: str | None = None

    @property
    def link(self) -> Link:
        """What it covers."""
        return Link(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Part:
    """One archive part: ranges by chain label."""

    ranges: dict[str, tuple[Range, ...]]

    def to_json(self) -> str:
        """The footer's text."""
        return json.dumps({"covers": {label: [_range_out(item) for item in found] for label, found in self.ranges.items()}})

    @staticmethod
    def from_json(text: str | bytes) -> Part:
        """Read a footer's text."""
        return Part({label: tuple(_range_in(item) for item in found) for label, found in json.loads(text)["covers"].items()})


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive as one look found it. `unreadable` maps keys to why: nobody knows what those parts cover."""

    parts: tuple[Part, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)

    def ranges(self) -> dict[str, list[Range]]:
        """Chain label -> everything that parts hold of it, by start."""
        found: dict[str, list[Range]] = {}
        for part in self.parts:
            for label, ranges in part.ranges.items():
                found.setdefault(label, []).extend(ranges)
        return {label: sorted(ranges, key=lambda item: item.link) for label, ranges in found.items()}

    def coverage(self) -> dict[str, Coverage]:
        """Chain label -> what is covered of it."""
        return {label: Coverage.of(item.link for item in ranges) for label, ranges in self.ranges().items()}


class Parts:
    """The parts of a lake, each footer read once a version; keep it for the life of a process."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._known: dict[str, tuple[str, Part]] = {}

    def look(self, topic: str | None = None) -> Archive:
        """The archive now, of one topic or of all; a part that cannot be read stops no other."""
        parts: list[Part] = []
        unreadable: dict[str, str] = {}
        for entry in self._lake.list(f"{ARCHIVE}/{topic}" if topic else ARCHIVE):
            if _KEY.fullmatch(entry.key) is None:
                continue
            known = self._known.get(entry.key)
            if known is None or known[0] != entry.version:
                try:
                    known = self._known[entry.key] = (entry.version, read_part(self._lake, entry.key))
                except UnreadablePart as error:
                    unreadable[entry.key] = str(error)
                    continue
                except FileNotFoundError:  # retention deleted it since the listing
                    continue
            parts.append(known[1])
        return Archive(tuple(parts), unreadable)

    def of(self, chain: Chain) -> Coverage:
        """What is covered of one chain; lists its topic's folder alone.

        Raises UnreadablePart where a part of the topic cannot be read: it might cover the chain, and a writer
        that resumed without knowing would write records twice.
        """
        found = self.look(chain.topic)
        for key, why in found.unreadable.items():
            raise UnreadablePart(f"{key}: {why}")
        return found.coverage().get(chain.label, NO_COVERAGE)


def coverage(lake: Lake) -> dict[str, Coverage]:
    """Chain label -> what the archive covers of it, read now."""
    return Parts(lake).look().coverage()


def read_part(lake: Lake, key: str) -> Part:
    """The footer of one part; raises UnreadablePart with the reason alone as text, FileNotFoundError where it is gone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = _KEY.fullmatch(key)
    try:
        with lake.open(key) as file:
            metadata = pq.read_metadata(file)
        part = Part.from_json((metadata.metadata or {})[FOOTER_KEY])
        topics = {Chain.parse(label).topic for label in part.ranges}
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadablePart(f"no archive part of this program ({' '.join(str(error).split())})") from error
    if strangers := topics - {named and named["topic"]}:
        raise UnreadablePart(f"covers chains of topic {min(strangers)}, which belong in another folder")
    rows = sum(item.rows for ranges in part.ranges.values() for item in ranges)
    if rows != metadata.num_rows:
        raise UnreadablePart(f"its footer says {rows} rows, it has {metadata.num_rows}")
    return part


def _range_out(item: Range) -> dict[str, Any]:
    return {
        "start": item.start, "end": item.end, "rows": item.rows, "rejects": item.rejects,
        "gaps": [[gap.start, gap.end, _text(gap.after), _text(gap.before)] for gap in item.gaps],
        "slots": {slot.isoformat(): [held.last_offset, held.rows] for slot, held in item.slots.items()},
        "first_received_at": _text(item.first_received_at), "last_received_at": _text(item.last_received_at),
        "noticed": item.noticed, "source": item.source,
    }  # fmt: skip


def _range_in(raw: dict[str, Any]) -> Range:
    return Range(
        raw["start"], raw["end"], raw["rows"], raw["rejects"],
        tuple(Gap(start, end, _instant(after), _instant(before)) for start, end, after, before in raw["gaps"]),
        {datetime.fromisoformat(slot): Slot(*held) for slot, held in raw["slots"].items()},
        _instant(raw["first_received_at"]), _instant(raw["last_received_at"]), raw["noticed"], raw["source"],
    )  # fmt: skip


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
