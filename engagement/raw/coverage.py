"""Archive parts: what their footers say they cover of each chain (R5).

A part holds whole raw objects; its footer names the ranges they claimed, never min..max. Readers list raw
first, then the archives of all days, and ignore a raw object whose start a part covers (`chain.visible`).
Rows lie in a part as its ranges do: by chain label, then by offset; so a range's place among them is known from the footer.
Not here: how parts are written (`archive`), and their rows (`sources`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from engagement.errors import PermanentError
from engagement.lake import Entry, Lake
from engagement.raw.chain import NO_COVERAGE, Coverage, Link
from engagement.raw.footers import FOOTER_KEY
from engagement.raw.names import Chain

ARCHIVE = "archive"
_KEY = re.compile(
    r"archive/(?P<topic>[^/]+)/year=(?P<year>\d{4})/month=(?P<month>\d{2})/day=(?P<day>\d{2})/part-(?P<number>0|[1-9]\d*)\.parquet"
)


class UnreadablePart(PermanentError):
    """A part whose footer cannot be read or contradicts its name: what it covers is not known."""


@dataclass(frozen=True, slots=True, order=True)
class PartName:
    """A part's key taken apart: the topic of its chains, the ingest day, and how many parts of that day its writer had seen."""

    topic: str
    day: date
    number: int

    @property
    def key(self) -> str:
        """The key."""
        return f"{ARCHIVE}/{self.topic}/year={self.day:%Y}/month={self.day:%m}/day={self.day:%d}/part-{self.number}.parquet"

    @staticmethod
    def parse(key: str) -> PartName | None:
        """The name of a key; None for anything else that lies there."""
        found = _KEY.fullmatch(key)
        if found is None:
            return None
        try:
            return PartName(found["topic"], date(int(found["year"]), int(found["month"]), int(found["day"])), int(found["number"]))
        except ValueError:  # no day of the calendar
            return None


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
    expired: int = 0
    """Rows that retention took. The claim stays; `rows` and all other counts are of what is left."""
    erased: dict[datetime, int] = field(default_factory=dict)
    """Event slots whose good rows were erased after they were first written, and the length of the erasure list then."""

    @property
    def link(self) -> Link:
        """What it covers."""
        return Link(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Part:
    """One archive part: ranges by chain label."""

    ranges: dict[str, tuple[Range, ...]]
    erasures: int = 0
    """Length of the erasure list that was applied to its rows when they were written."""

    def in_order(self) -> Iterator[tuple[str, Range, int]]:
        """Chain label, range and number of its first row, in the order of the rows."""
        place = 0
        for label, ranges in sorted(self.ranges.items()):
            for item in sorted(ranges, key=lambda item: item.link):
                yield label, item, place
                place += item.rows

    def to_json(self) -> str:
        """The footer's text."""
        covers = {label: [_range_out(item) for item in found] for label, found in self.ranges.items()}
        return json.dumps({"covers": covers, "erasures": self.erasures})

    @staticmethod
    def from_json(text: str | bytes) -> Part:
        """Read a footer's text."""
        raw = json.loads(text)
        covers = {label: tuple(_range_in(item) for item in found) for label, found in raw["covers"].items()}
        return Part(covers, raw.get("erasures", 0))


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive as one look found it. `unreadable` maps keys to why: nobody knows what those parts cover."""

    parts: tuple[Part, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    """The objects of `parts`, in their order."""

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
        entries: list[Entry] = []
        unreadable: dict[str, str] = {}
        for entry in self._lake.list(f"{ARCHIVE}/{topic}" if topic else ARCHIVE):
            if PartName.parse(entry.key) is None:
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
            entries.append(entry)
        return Archive(tuple(parts), unreadable, tuple(entries))

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

    named = PartName.parse(key)
    try:
        with lake.open(key) as file:
            metadata = pq.read_metadata(file)
        part = Part.from_json((metadata.metadata or {})[FOOTER_KEY])
        topics = {Chain.parse(label).topic for label in part.ranges}
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadablePart(f"no archive part of this program ({' '.join(str(error).split())})") from error
    if strangers := topics - {named and named.topic}:
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
        "noticed": item.noticed, "source": item.source, "expired": item.expired,
        **({"erased": {slot.isoformat(): number for slot, number in item.erased.items()}} if item.erased else {}),
    }  # fmt: skip


def _range_in(raw: dict[str, Any]) -> Range:
    return Range(
        raw["start"], raw["end"], raw["rows"], raw["rejects"],
        tuple(Gap(start, end, _instant(after), _instant(before)) for start, end, after, before in raw["gaps"]),
        {datetime.fromisoformat(slot): Slot(*held) for slot, held in raw["slots"].items()},
        _instant(raw["first_received_at"]), _instant(raw["last_received_at"]), raw["noticed"], raw["source"],
        raw.get("expired", 0), {datetime.fromisoformat(slot): number for slot, number in raw.get("erased", {}).items()},
    )  # fmt: skip


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
