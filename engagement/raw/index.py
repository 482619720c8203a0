"""An index of all raw footers in the state folder, so that planning does not open thousands of files.

It is a cache of the lake and may be deleted at any time: `sync` lists the names and reads the footers of
those it does not know in their present version. Raw is listed first, then the archive (`parts`), and both are written
at once: so a raw object that a part covers is not seen (R5), and what `touching`, `touched`, `good_rows` and `sources` say
holds every record once. `files` has the covered objects too.

An object that cannot be read (`footers.Unreadable`) is set apart with the reason and tried again at every
`sync`; all others are indexed. Whoever stopped here would stop every hour of every partition for one damaged
file; whoever passed over it in silence would break R11. So audit, `status` and the asset check name it until it
is mended, and a unit made without its rows is made again then (`tables.events`).
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from engagement.lake import LAKE_JSON, Entry, Lake
from engagement.lake.together import together
from engagement.raw import footers, looking, parts
from engagement.raw.coverage import Archive
from engagement.raw.footers import RawFile
from engagement.raw.looking import Head, Look, Scope
from engagement.raw.names import RAW, Chain, parse_key
from engagement.raw.sources import Source

_SCHEMA = f"""{parts.SCHEMA}
create table if not exists files
    (chain text, start integer, "end" integer, version text, size integer, footer text, covered integer,
     primary key (chain, start)) without rowid;
create table if not exists touches
    (slot text, chain text, start integer, rows integer, primary key (slot, chain, start)) without rowid;
create table if not exists unreadable (key text primary key, why text) without rowid;
create table if not exists heads (chain text primary key, last_start integer, last_received_at text, seen_at real) without rowid;
create table if not exists changes (day text primary key, number integer) without rowid;
create table if not exists turns (one integer primary key check (one = 1), turn integer);
"""
_SCHEMA_VERSION = 5
"""Stands in the file's name: a cache of another shape is left alone and made anew."""


_HEAD = """
insert into heads values (?, ?, ?, ?) on conflict (chain) do update set
    last_start = max(last_start, excluded.last_start), last_received_at = max(last_received_at, excluded.last_received_at),
    seen_at = excluded.seen_at
"""


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A name that claims, over an object that cannot be read."""

    key: str
    chain: Chain
    start: int
    why: str


class RawIndex:
    """Raw objects and archived ranges by chain and by the event slot they touch. Without a state folder it lives in memory."""

    def __init__(self, lake: Lake, state_dir: Path | None = None) -> None:
        self._lake = lake
        if state_dir is None:
            self._db = sqlite3.connect(":memory:", isolation_level=None)
            self._db.executescript(_SCHEMA)
        else:
            folder = state_dir / "cache"
            folder.mkdir(parents=True, exist_ok=True)
            self._db = _opened(folder / f"raw-index-{_identity(lake)}.sqlite")
        self._parts = parts.PartsIndex(lake, self._db)

    def close(self) -> None:
        """Close the database file."""
        self._db.close()

    def sync(self, *, recent: bool = False) -> list[RawFile]:
        """Bring the index up to the lake's present listing; returns the objects new to it in this version, by key.

        `recent` lists what living chains have behind what is known, and the rest page by page in turns (`looking`): enough for whoever
        looks again and again.
        """
        look = self._look() if recent and self._was_synced() else None
        # What is known before the listing: another process that indexes a new object meanwhile is not undone.
        known = self._known(look)
        told = dict(self._db.execute("select key, why from unreadable"))
        found = {entry.key: entry for entry in self._listed(look) if parse_key(entry.key)}
        new, unreadable = self._read([entry for key, entry in found.items() if known.get(key) != entry.version])
        gone = [key for key, version in known.items() if key not in found or found[key].version != version]
        # After raw, never before: what is archived meanwhile is missed by nobody.
        archive = self._parts.look() if look is None or look.archive else None
        if look is not None:
            unreadable = {key: why for key, why in told.items() if not _is_in(look, key)} | unreadable
        changed = new or gone or (archive is not None and (archive or archive.unreadable != self._parts.unreadable()))
        if changed or unreadable != told or not self._was_synced():
            with self._db:
                self._db.execute("begin immediate")
                if archive is not None:
                    self._parts.store(archive)
                self._forget(gone)
                self._add(new)
                self._db.execute("delete from unreadable")
                self._db.executemany("insert into unreadable values (?, ?)", unreadable.items())
                self._db.execute("insert or ignore into turns values (1, 0)")
        return new

    @property
    def turn(self) -> int:
        """How often somebody looked at what is recent; turns of a round are counted by it."""
        found = self._db.execute("select turn from turns").fetchone()
        return int(found[0]) if found else 0

    def _was_synced(self) -> bool:
        """Whether everything was listed once: only then are the heads of chains known."""
        return self._db.execute("select 1 from turns").fetchone() is not None

    def _next_turn(self) -> int:
        found = self._db.execute("update turns set turn = turn + 1 returning turn").fetchone()
        return int(found[0]) if found else 0

    def _look(self) -> Look:
        heads = [Head(*row) for row in self._db.execute("select chain, last_start, last_received_at, seen_at from heads")]
        return looking.recent(self._lake, heads, self._starts, self._next_turn(), time.time())

    def _starts(self, label: str) -> list[int]:
        return [start for (start,) in self._db.execute("select start from files where chain = ? order by start", (label,))]

    def _known(self, look: Look | None) -> dict[str, str]:
        """Key -> version of the known objects that the look lists."""
        if look is None:
            return {_key(chain, start): version for chain, start, version in self._db.execute("select chain, start, version from files")}
        query = "select start, version from files where chain = ? and start > ifnull(?, -1) and start <= ifnull(?, start)"
        return {
            _key(scope.label, start): version
            for scope in look.scopes
            for start, version in self._db.execute(query, (scope.label, scope.after, scope.until))
        }

    def _listed(self, look: Look | None) -> Iterator[Entry]:
        if look is None:
            yield from self._lake.list(RAW)
            return

        def listed(scope: Scope) -> list[Entry]:
            after, until = (None if start is None else _key(scope.label, start) for start in (scope.after, scope.until))
            return list(looking.up_to(self._lake.list(f"{RAW}/{scope.label}", after), until))

        for found in together(self._lake, listed, look.scopes):
            yield from found

    def _read(self, entries: Iterable[Entry]) -> tuple[list[RawFile], dict[str, str]]:
        new: list[RawFile] = []
        unreadable: dict[str, str] = {}

        def footer(entry: Entry) -> RawFile | str | None:
            try:
                return replace(footers.read(self._lake, entry.key), size=entry.size, version=entry.version)
            except footers.Unreadable as error:
                return error.why
            except FileNotFoundError:  # archived and expired since the listing; the next one shows it
                return None

        asked = list(entries)
        for entry, found in zip(asked, together(self._lake, footer, asked), strict=True):
            if isinstance(found, RawFile):
                new.append(found)
            elif found is not None:
                unreadable[entry.key] = found
        return new, unreadable

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            if (parsed := parse_key(key)) is None:
                continue
            where = (parsed[0].label, parsed[1])
            for (footer,) in self._db.execute("select footer from files where chain = ? and start = ?", where).fetchall():
                slots = [slot.isoformat() for slot in RawFile.from_json(footer).event_slots]
                parts.note_change(self._db, slots)
                self._db.executemany("delete from touches where slot = ? and chain = ? and start = ?", ((slot, *where) for slot in slots))
            self._db.execute("delete from files where chain = ? and start = ?", where)

    def _add(self, new: Iterable[RawFile]) -> None:
        for raw in new:
            label = raw.chain.label
            parts.note_change(self._db, [slot.isoformat() for slot in raw.event_slots])
            row = (label, raw.start, raw.end, raw.version, raw.size, raw.to_json(), parts.covered(self._db, label, raw.start))
            self._db.execute("insert or replace into files values (?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute(_HEAD, (label, raw.start, raw.last_received_at.isoformat() if raw.last_received_at else "", time.time()))
            slots = [(slot.isoformat(), label, raw.start, rows) for slot, rows in raw.event_slots.items()]
            self._db.executemany("insert or replace into touches values (?, ?, ?, ?)", slots)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is asked inside is answered as of one moment, whatever other processes index meanwhile; `sync` is not for inside."""
        self._db.execute("begin")
        try:
            yield
        finally:
            self._db.execute("commit")

    def archive(self) -> Archive:
        """The archive as the last `sync` found it; of a part that cannot be read any more what was known of it."""
        return self._parts.archive()

    def sources(self) -> list[Source]:
        """Everything that holds records, each record once, by chain and start."""
        with self.snapshot():
            return _in_order(self.uncovered(), self._parts.ranges())

    def uncovered(self) -> list[RawFile]:
        """Objects that readers see, by chain and start: those that no part covers."""
        return [_raw(*row) for row in self._db.execute("select footer, size, version from files where not covered order by chain, start")]

    def files(self) -> list[RawFile]:
        """Every object, those that a part covers too, by chain and start."""
        return [_raw(*row) for row in self._db.execute("select footer, size, version from files order by chain, start")]

    def unreadable(self) -> list[UnreadableFile]:
        """Objects that the last `sync` could not read, by key."""
        found = self._db.execute("select key, why from unreadable order by key")
        return [UnreadableFile(key, *parsed, why) for key, why in found if (parsed := parse_key(key))]

    def touching(self, slot: datetime) -> list[Source]:
        """Everything with good rows in the slot, by chain and start."""
        return self.touching_each([slot])[slot]

    def touching_each(self, slots: Iterable[datetime]) -> dict[datetime, list[Source]]:
        """The same for many slots, all as of one moment: what is read in one pass must not be seen here raw and there archived."""
        query = "select footer, size, version from touches join files using (chain, start) where slot = ? and not covered"
        with self.snapshot():
            return {
                slot: _in_order((_raw(*row) for row in self._db.execute(query, (slot.isoformat(),))), self._parts.touching(slot))
                for slot in slots
            }

    def last_change(self) -> int:
        """A number that grows with each change of what slots hold."""
        return int(self._db.execute("select coalesce(max(number), 0) from changes").fetchone()[0])

    def changed_since(self, number: int) -> set[date]:
        """UTC days with slots that changed after this number."""
        return {date.fromisoformat(day) for (day,) in self._db.execute("select day from changes where number > ?", (number,))}

    def touched(self, days: Iterable[date] | None = None) -> dict[datetime, dict[str, int]]:
        """Slot start -> chain label -> an offset behind its last row of the slot, not behind what was claimed with that row.

        Of the slots of these UTC days, of all where none are given.
        """
        query = """
            select slot, chain, max(upto) from (
                select slot, chain, "end" as upto from touches join files using (chain, start)
                    where not covered and slot >= ? and slot < ?
                union all select slot, chain, last_offset + 1 from archived where slot >= ? and slot < ?
            ) group by slot, chain"""
        found: dict[datetime, dict[str, int]] = {}
        for slot, chain, end in self._of_days(query, days):
            found.setdefault(datetime.fromisoformat(slot), {})[chain] = end
        return found

    def good_rows(self, days: Iterable[date] | None = None) -> dict[datetime, int]:
        """Slot start -> good rows in it; of these UTC days as `touched`."""
        query = """
            select slot, sum(rows) from (
                select slot, rows from touches join files using (chain, start) where not covered and slot >= ? and slot < ?
                union all select slot, rows from archived where slot >= ? and slot < ?
            ) group by slot"""
        return {datetime.fromisoformat(slot): rows for slot, rows in self._of_days(query, days)}

    def _of_days(self, query: str, days: Iterable[date] | None) -> Iterator[tuple[Any, ...]]:
        """Rows of a query that takes twice the bounds of slots."""
        ranges = [("", "~")] if days is None else [(day.isoformat(), (day + timedelta(days=1)).isoformat()) for day in sorted(set(days))]
        for bounds in ranges:
            yield from self._db.execute(query, bounds * 2)

    def ends(self) -> dict[str, int]:
        """Chain label -> the offset behind everything that is claimed of it, raw or archived."""
        query = 'select chain, max("end") from (select chain, "end" from files union all select chain, "end" from ranges) group by chain'
        return dict(self._db.execute(query))

    def newest_received_at(self) -> datetime | None:
        """Log-append time of the newest record of the log, rejects included, imports not."""
        query = """
            select max(last) from (
                select chain, json_extract(footer, '$.last_received_at') as last from files
                union all select chain, last_received_at from ranges
            ) where chain not like 'import/%'"""
        (text,) = self._db.execute(query).fetchone()
        return text and datetime.fromisoformat(text)

    def after(self, positions: dict[str, int]) -> list[RawFile]:
        """Objects that start at or after a position of their chain; chains without one from their beginning."""
        rows = self._db.execute("select chain, start, footer, size, version from files order by chain, start")
        return [_raw(*found) for chain, start, *found in rows if start >= positions.get(chain, 0)]


def _opened(path: Path) -> sqlite3.Connection:
    """The cache, made where it is missing; by one process at a time, for SQLite does not wait when two of them turn to WAL at once."""
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    with path.with_suffix(".lock").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        db.execute("pragma journal_mode=wal")
        db.executescript(_SCHEMA)
    return db


def _identity(lake: Lake) -> str:
    """Tells lakes apart, also one that was deleted and made anew in the same place."""
    made = lake.stat(LAKE_JSON)
    return hashlib.sha256(f"{_SCHEMA_VERSION}|{lake.url}|{made and made.version}".encode()).hexdigest()[:12]


def _is_in(look: Look, key: str) -> bool:
    """Whether the look lists this key."""
    parsed = parse_key(key)
    return parsed is not None and any(scope.label == parsed[0].label and scope.holds(parsed[1]) for scope in look.scopes)


def _in_order(*found: Iterable[Source]) -> list[Source]:
    return sorted((source for some in found for source in some), key=lambda source: (source.chain, source.start))


def _raw(footer: str, size: int, version: str) -> RawFile:
    return replace(RawFile.from_json(footer), size=size, version=version)


def _key(label: str, start: int) -> str:
    """`Chain.key` without making a Chain: this runs for every object at every sync."""
    return f"{RAW}/{label}/{start:020d}.parquet"
