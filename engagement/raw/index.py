"""An index of all raw footers in the state folder, so that planning does not open thousands of files.

It is a cache of the lake and may be deleted at any time: `sync` lists the names and reads the footers of
those it does not know. Raw objects never change, so a known footer stays right.
"""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import datetime
from pathlib import Path

from engagement.lake import LAKE_JSON, Lake
from engagement.raw.files import RawFile, names, read_footer
from engagement.raw.names import Chain

_SCHEMA = """
create table if not exists files (chain text, start integer, "end" integer, footer text, primary key (chain, start)) without rowid;
create table if not exists touches (slot text, chain text, start integer, primary key (slot, chain, start)) without rowid;
"""


class RawIndex:
    """Raw objects by chain and by the event slot they touch."""

    def __init__(self, lake: Lake, state_dir: Path) -> None:
        self._lake = lake
        folder = state_dir / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / f"raw-index-{_identity(lake)}.sqlite", timeout=60, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database file."""
        self._db.close()

    def sync(self) -> list[RawFile]:
        """Bring the index up to the lake's present listing; returns the objects new to it."""
        found = {(chain.label, start) for chain, start in names(self._lake)}
        known = set(self._db.execute("select chain, start from files"))
        new = [read_footer(self._lake, Chain.parse(label), start) for label, start in sorted(found - known)]
        with self._db:
            self._db.execute("begin immediate")
            for label, start in known - found:
                self._db.execute("delete from files where chain = ? and start = ?", (label, start))
                self._db.execute("delete from touches where chain = ? and start = ?", (label, start))
            for raw in new:
                label = raw.chain.label
                self._db.execute("insert or replace into files values (?, ?, ?, ?)", (label, raw.start, raw.end, raw.to_json()))
                self._db.executemany(
                    "insert or replace into touches values (?, ?, ?)", [(slot.isoformat(), label, raw.start) for slot in raw.event_slots]
                )
        return new

    def files(self) -> list[RawFile]:
        """Every object, by chain and start."""
        return [RawFile.from_json(text) for (text,) in self._db.execute("select footer from files order by chain, start")]

    def touching(self, slot: datetime) -> list[RawFile]:
        """Objects with good rows in the slot, by chain and start."""
        query = "select footer from touches join files using (chain, start) where slot = ? order by chain, start"
        return [RawFile.from_json(text) for (text,) in self._db.execute(query, (slot.isoformat(),))]

    def touched(self) -> dict[datetime, dict[str, int]]:
        """Slot start -> chain label -> end of the last object of that chain with rows in the slot."""
        query = 'select slot, chain, max("end") from touches join files using (chain, start) group by slot, chain'
        found: dict[datetime, dict[str, int]] = {}
        for slot, chain, end in self._db.execute(query):
            found.setdefault(datetime.fromisoformat(slot), {})[chain] = end
        return found

    def newest_received_at(self) -> datetime | None:
        """Log-append time of the newest record of the log, rejects included, imports not."""
        query = "select max(json_extract(footer, '$.last_received_at')) from files where chain not like 'import/%'"
        (text,) = self._db.execute(query).fetchone()
        return text and datetime.fromisoformat(text)

    def after(self, positions: dict[str, int]) -> list[RawFile]:
        """Objects that start at or after a position of their chain; chains without one from their beginning."""
        rows = self._db.execute("select chain, start, footer from files order by chain, start")
        return [RawFile.from_json(footer) for chain, start, footer in rows if start >= positions.get(chain, 0)]


def _identity(lake: Lake) -> str:
    """Tells lakes apart, also one that was deleted and made anew in the same place."""
    made = lake.stat(LAKE_JSON)
    return hashlib.sha256(f"{lake.root}|{made and made.version}".encode()).hexdigest()[:12]
