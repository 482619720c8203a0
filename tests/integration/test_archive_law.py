"""Whatever archive writers and expiry do, and wherever they die, readers see every record exactly once (R5).

Real objects, the real writer, expiry and index. Two archive writers stand still between their look and their write for as
long as the law wants; writers of raw wake up and write under names that expiry has freed. ARCHIVE_CASES=2000 is the long form.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import archive_helpers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model.real import Killed, read_through_index

from engagement.contract import TimeWindow
from engagement.lake import LAKE_JSON, LakeFormat, LocalLake
from engagement.progress import silent
from engagement.raw import archive, audit, chain, expiry, files, rows
from engagement.raw.coverage import Parts
from engagement.raw.index import RawIndex
from engagement.raw.names import topic_chain

START = datetime(2026, 3, 11, 10, tzinfo=UTC)
WINDOW = TimeWindow.of(START.date(), 10**9, None)
CHAINS = [("session", "5e" * 16, 0), ("session", "5e" * 16, 1), ("session", "0a" * 16, 0), ("install", "1a" * 16, 0)]
DEATHS = ["while it reads", "before the name", "after the name"]

which, writer, pick = st.integers(0, 3), st.integers(0, 1), st.integers(0, 3)
look = st.tuples(st.just("look"), writer, st.integers(0, 60), st.booleans())
write = st.tuples(st.just("write"), writer, pick)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("flush"), which, st.integers(1, 3)),
        st.tuples(st.just("gap"), which),
        st.tuples(st.just("zombie"), which, st.integers(1, 4)),
        look,
        write,
        look,
        write,
        st.tuples(st.just("die"), writer, st.sampled_from(DEATHS)),
        st.tuples(st.just("expire"), st.integers(0, 2)),
        st.tuples(st.just("archive")),
    ),
    max_size=30,
)


class MortalLake(LocalLake):
    """Whoever writes here may die at a named point."""

    death: str | None = None
    deletes: int | None = None

    @contextmanager
    def creating(self, key):
        with super().creating(key) as sink:
            self._may_die("while it reads")
            yield sink
            self._may_die("before the name")
        self._may_die("after the name")

    def delete(self, key):
        if self.deletes == 0:
            raise Killed
        self.deletes = None if self.deletes is None else self.deletes - 1
        super().delete(key)

    def _may_die(self, where):
        if self.death == where:
            raise Killed


@dataclass
class World:
    """A lake, what its log held, and two archive writers between their steps."""

    folder: Path
    records: dict[tuple, list[str | None]] = field(default_factory=dict)
    """Chain -> event id of each offset; None where there is a reject, a gap where the log lost it."""
    lost: set[tuple] = field(default_factory=set)
    looks: dict[int, tuple] = field(default_factory=dict)
    freed: dict[tuple, list[int]] = field(default_factory=dict)
    hours: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.lake = MortalLake(self.folder / "lake")
        self.lake.put_new(LAKE_JSON, LakeFormat(1, 60, 1800, "gap", START.date()).to_json())
        self.index = RawIndex(self.lake, self.folder / "state")

    def end(self, where):
        """Where a writer of this chain goes on (R3)."""
        own = topic_chain(*where)
        return chain.resume(files.last_link(self.lake, own), Parts(self.lake).of(own))

    def flush(self, number, count):
        """An object that begins an hour after the one before it; every third record is a reject."""
        where = CHAINS[number]
        known = self.records.setdefault(where, [])
        start = self.end(where)
        assert start == len(known), "a chain goes on where it ended, whatever was archived"
        known += [f"0f8fad5b-d9cb-469f-a165-{number:04x}{len(known) + at:08x}" if (start + at) % 3 else None for at in range(count)]
        self.put(where, start, start + count)
        self.hours[where] += 1

    def put(self, where, start, end):
        received = START + timedelta(hours=4 * self.hours[where])
        records = [rows.Record(offset, received, None, self.payload(where, offset, received)) for offset in range(start, end)]
        batch = rows.build(rows.Coordinates(*where), records, WINDOW, 60)
        files.write(self.lake, topic_chain(*where), start, end, batch)

    def payload(self, where, offset, received):
        event_id = self.records[where][offset]
        if event_id is None:
            return b"{"
        return json.dumps({"event_id": event_id, "user_id": "u", "event_type": "tap", "timestamp": received.isoformat()}).encode()

    def gap(self, number):
        where = CHAINS[number]
        start = self.end(where)
        self.records.setdefault(where, []).append(None)
        self.lost.add((where, start))
        files.write_gap(self.lake, topic_chain(*where), start, start + 1)

    def zombie(self, number, count):
        """A writer that slept since before an expired object was written: its PUT succeeds, with another end."""
        where = CHAINS[number]
        for start in self.freed.pop(where, [])[:1]:
            self.put(where, start, min(start + count, len(self.records[where])))

    def look(self, number, hours, small):
        """Sees the lake some hours after its beginning; what is closed then is due, in parts of one object or of a day."""
        now = START + timedelta(hours=hours)
        size = 1 if small else 1 << 30
        run = archive.Run(self.lake, RawIndex(self.lake), (), now, timedelta(minutes=1), size, silent)
        self.looks[number] = (run, *run.look())

    def write(self, number, pick=0):
        """Writes a part that was due when it looked, however long ago; nothing or all of it."""
        run, due, seen = self.looks.pop(number, (None, (), None))
        if due:
            run.write(due[pick % len(due)], seen)

    def die(self, number, where):
        self.lake.death = where
        with suppress(Killed):
            self.write(number)
        self.lake.death = None

    def expire(self, most):
        """Deletes what may go, and dies after so many."""
        before = {(entry.key) for entry in self.lake.list("raw")}
        self.lake.deletes = most
        with suppress(Killed):
            expiry.expire(self.lake, grace=timedelta(days=1), now=self.lake.clock() + timedelta(days=2), index=self.index)
        self.lake.deletes = None
        gone = before - {entry.key for entry in self.lake.list("raw")}
        for where in CHAINS:
            for start in range(len(self.records.get(where, ()))):
                if topic_chain(*where).key(start) in gone:
                    self.freed.setdefault(where, []).append(start)

    def archive(self):
        archive_helpers.archive(self.lake, self.index)

    def check(self, *, anew=False):
        """An index that followed all along and one that begins now see the same, and each record once."""
        expected = sorted(
            (where[1], offset, event_id or "")
            for where, known in self.records.items()
            for offset, event_id in enumerate(known)
            if (where, offset) not in self.lost
        )
        partitions = Counter((topic_id, offset, event_id) for topic_id, offset, event_id in expected)
        for index in (self.index, *([RawIndex(self.lake)] if anew else [])):
            found = Counter((topic_id, offset, event_id or "") for topic_id, offset, event_id in read_through_index(index))
            assert found == partitions
            told = audit.audit(index)
            assert not told.findings, told.findings
            assert sum(gap.offsets for _, gap in told.gaps) == len(self.lost)
            assert sum(index.good_rows().values()) == sum(bool(event_id) for *_, event_id in expected)
            for slot, ends in index.touched().items():
                for source in index.touching(slot):
                    assert source.upto(slot) <= ends[source.chain.label]

    def close(self):
        self.index.close()


def walk(steps, folder):
    world = World(Path(folder))
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
        world.check()
    world.archive()
    world.expire(10**6)
    world.check(anew=True)
    world.close()


@settings(deadline=None, max_examples=int(os.environ.get("ARCHIVE_CASES", "40")))
@given(STEPS)
@example([("flush", 0, 1), ("flush", 0, 1), ("look", 0, 60, False), ("look", 1, 60, True), ("write", 0, 0), ("write", 1, 0)])
@example([("flush", 0, 1)] * 3 + [("look", 0, 60, True), ("write", 0, 1), ("look", 0, 60, False), ("write", 0, 0), ("flush", 0, 1)])
@example([("flush", 0, 1)] * 3 + [("archive",), ("expire", 1), ("flush", 0, 1), ("zombie", 0, 3), ("look", 0, 60, False), ("write", 0, 0)])
@example([("flush", 0, 1)] * 2 + [("look", 0, 60, False), ("archive",), ("expire", 9), ("zombie", 0, 2), ("write", 0, 0), ("flush", 0, 1)])
def test_readers_see_every_record_exactly_once(steps):
    with tempfile.TemporaryDirectory() as folder:
        walk(steps, folder)
