"""The archive's part of the raw index: what parts cover and which event slots their ranges touch, from footers.

Parts are listed after raw and written into the same database in the same transaction (`index`): whoever asks sees no
raw object without the part that covers it. A part whose footer cannot be read keeps what was known of it, so that a
unit that needs its rows fails aloud instead of being made from less; of one that was never read nobody knows what it
covers, and raw objects that are still there are seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engagement.lake import Entry, Lake
from engagement.raw.coverage import ARCHIVE, Archive, Part, PartName, UnreadablePart, read_part
from engagement.raw.names import Chain
from engagement.raw.sources import Archived

SCHEMA = """
create table if not exists parts (key text primary key, version text, size integer, footer text, why text) without rowid;
create table if not exists ranges
    (chain text, start integer, "end" integer, part text, last_received_at text, primary key (chain, start, part)) without rowid;
create table if not exists archived
    (slot text, chain text, start integer, part text, rows integer, last_offset integer,
     primary key (slot, chain, start, part)) without rowid;
create index if not exists ranges_by_part on ranges (part);
"""


@dataclass(slots=True)
class Look:
    """What a listing of the archive found that the index does not know."""

    new: list[tuple[Entry, Part]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.new or self.gone)


class PartsIndex:
    """Parts, their ranges, and the slots that these touch, in the tables of one database."""

    def __init__(self, lake: Lake, db: sqlite3.Connection) -> None:
        self._lake, self._db = lake, db
        self._parsed: dict[str, tuple[str, Mapping[tuple[str, int], Archived]]] = {}

    def look(self) -> Look:
        """List the archive and read the footers that are not known in their present version. Writes nothing."""
        known: Mapping[str, str] = dict(self._db.execute("select key, version from parts"))
        found = {entry.key: entry for entry in self._lake.list(ARCHIVE) if PartName.parse(entry.key)}
        look = Look(gone=[key for key in known if key not in found])
        for key, entry in found.items():
            if known.get(key) == entry.version:
                continue
            try:
                look.new.append((entry, read_part(self._lake, key)))
            except UnreadablePart as error:
                look.unreadable[key] = str(error)
            except FileNotFoundError:  # somebody deletes by hand; the next listing shows it
                continue
        return look

    def unreadable(self) -> dict[str, str]:
        """Key -> why it cannot be read, of parts that the last `sync` could not read."""
        return dict(self._db.execute("select key, why from parts where why is not null"))

    def store(self, look: Look) -> None:
        """Write what was found, and which raw objects it covers; inside the caller's transaction."""
        for key in look.gone:
            self._forget(key)
            self._db.execute("delete from parts where key = ?", (key,))
        for entry, part in look.new:
            self._forget(entry.key)
            self._add(entry, part)
        self._db.execute("update parts set why = null where why is not null")
        for key, why in look.unreadable.items():  # the version stays unknown, so that it is tried again
            self._db.execute("insert into parts values (?, '', 0, null, ?) on conflict (key) do update set why = excluded.why", (key, why))
        if look.unreadable:
            self._db.execute("delete from parts where footer is null and why is null")

    def _forget(self, key: str) -> None:
        ranges = self._db.execute('select chain, start, "end" from ranges where part = ?', (key,)).fetchall()
        for chain, start, _ in ranges:
            query = "select slot from archived where chain = ? and start = ? and part = ?"
            note_change(self._db, {slot for (slot,) in self._db.execute(query, (chain, start, key)).fetchall()})
        self._db.execute("delete from ranges where part = ?", (key,))
        for chain, start, end in ranges:
            self._db.execute("delete from archived where chain = ? and start = ? and part = ?", (chain, start, key))
            self._db.execute("update files set covered = 0 where chain = ? and start >= ? and start < ?", (chain, start, end))
            for other in self._db.execute(
                'select start, "end" from ranges where chain = ? and start < ? and "end" > ?', (chain, end, start)
            ):
                self._cover(chain, *other)

    def _add(self, entry: Entry, part: Part) -> None:
        self._db.execute("insert or replace into parts values (?, ?, ?, ?, null)", (entry.key, entry.version, entry.size, part.to_json()))
        for label, item, _ in part.in_order():
            last = item.last_received_at and item.last_received_at.isoformat()
            self._db.execute("insert into ranges values (?, ?, ?, ?, ?)", (label, item.start, item.end, entry.key, last))
            touches = [(slot.isoformat(), label, item.start, entry.key, held.rows, held.last_offset) for slot, held in item.slots.items()]
            self._db.executemany("insert into archived values (?, ?, ?, ?, ?, ?)", touches)
            note_change(self._db, {slot for slot, *_ in touches})
            self._cover(label, item.start, item.end)

    def _cover(self, chain: str, start: int, end: int) -> None:
        self._db.execute("update files set covered = 1 where chain = ? and start >= ? and start < ?", (chain, start, end))

    def archive(self) -> Archive:
        """The archive as the last `sync` found it."""
        rows = self._db.execute("select key, version, size, footer, why from parts order by key").fetchall()
        held = [(Entry(key, size, version), Part.from_json(footer)) for key, version, size, footer, _ in rows if footer is not None]
        return Archive(tuple(part for _, part in held), {key: why for key, *_, why in rows if why}, tuple(entry for entry, _ in held))

    def touching(self, slot: datetime) -> list[Archived]:
        """Ranges with good rows in the slot, by chain and start."""
        query = "select part, chain, start from archived where slot = ? order by chain, start"
        return self._archived(self._db.execute(query, (slot.isoformat(),)))

    def ranges(self) -> list[Archived]:
        """Every range, by chain and start."""
        return self._archived(self._db.execute("select part, chain, start from ranges order by chain, start"))

    def _archived(self, found: Iterable[tuple[str, str, int]]) -> list[Archived]:
        return [self._ranges_of(part)[chain, start] for part, chain, start in found]

    def _ranges_of(self, key: str) -> Mapping[tuple[str, int], Archived]:
        """The ranges of a part, read from its footer once a version."""
        version, size, footer = self._db.execute("select version, size, footer from parts where key = ?", (key,)).fetchone()
        known = self._parsed.get(key)
        if known is None or known[0] != version:
            entry = Entry(key, size, version)
            made = {
                (label, item.start): Archived(entry, Chain.parse(label), item, at) for label, item, at in Part.from_json(footer).in_order()
            }
            known = self._parsed[key] = (version, made)
        return known[1]


def note_change(db: sqlite3.Connection, slots: Iterable[str]) -> None:
    """Give the days of slots whose sources change a new number."""
    for day in {slot[:10] for slot in slots}:
        db.execute("insert or replace into changes values (?, (select coalesce(max(number), 0) + 1 from changes))", (day,))


def covered(db: sqlite3.Connection, chain: str, start: int) -> bool:
    """Whether a range of a part holds this start."""
    query = 'select 1 from ranges where chain = ? and start <= ? and "end" > ? limit 1'
    return db.execute(query, (chain, start, start)).fetchone() is not None
