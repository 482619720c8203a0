"""The traces on the real thing: the machine, what performs its actions, a lake on disk; only the broker is made of lists.

Here too the order of steps is the test's own: `step` does one thing, so that anything can come between two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from engagement.contract import TimeWindow
from engagement.ingest import protocol
from engagement.ingest.perform import Performer
from engagement.ingest.protocol import Claiming, Close, Closing, Confirming, Looking, OutOfRange, Protocol, Put, Reading, State, Took, holds
from engagement.lake import LAKE_JSON, LakeFormat, LocalLake
from engagement.progress import silent
from engagement.raw import archive, expiry, files, rows, sources
from engagement.raw import chain as chains
from engagement.raw.chain import Link
from engagement.raw.choosing import Planned
from engagement.raw.coverage import Parts
from engagement.raw.footers import RawFile
from engagement.raw.index import RawIndex
from engagement.raw.names import Chain, topic_chain

TOPIC, OLD_ID, NEW_ID = "session", "5e" * 16, "0a" * 16
START = datetime(2026, 3, 11, 10, tzinfo=UTC)
WINDOW = TimeWindow.of(START.date(), 10**9, None)
GRACE = 600.0


@dataclass
class Log:
    """What the broker holds of the one partition; `hours` is each record's append hour."""

    topic_id: str = OLD_ID
    low: int = 0
    hours: dict[int, int] = field(default_factory=dict)
    high: int = 0

    def ids(self, topics: list[str]) -> dict[str, str]:
        return dict.fromkeys(topics, self.topic_id)

    def log_range(self, _topic: str, _number: int) -> tuple[int, int]:
        return self.low, self.high


class Scene:
    """A log, a lake, a clock, and the keepers of R5 as the rules want them."""

    def __init__(self, folder: Path, records: int, hours: tuple[int, ...] = ()) -> None:
        self.now = 0.0
        self.lake = ClockedLake(folder, lambda: self.now)
        self.lake.put_new(LAKE_JSON, LakeFormat(1, 60, 1800, "gap", START.date()).to_json())
        self.index = RawIndex(self.lake)
        self.log = Log(hours=dict(enumerate(hours or (0,) * records)), high=records)

    def writer(self) -> Writer:
        return Writer(self)

    def retention_deletes(self, below: int) -> None:
        self.log.low = below
        self.log.hours = {offset: hour for offset, hour in self.log.hours.items() if offset >= below}

    def topic_is_made_anew(self, records: int) -> None:
        self.log.topic_id, self.log.low, self.log.high = NEW_ID, 0, records
        self.log.hours = dict.fromkeys(range(records), 0)

    def chain(self, topic_id: str = OLD_ID) -> Chain:
        return topic_chain(TOPIC, topic_id, 0)

    def raw(self, topic_id: str = OLD_ID) -> list[Link]:
        return sorted(
            files.read_footer(self.lake, chain, start).link for chain, start in files.names(self.lake) if chain == self.chain(topic_id)
        )

    # Archive and expiry: the real ones, their steps apart.

    def archiver(self, part: int | None = None) -> Archiver:
        """An archive writer that looks now; with `part` one that saw so many parts of the day."""
        return Archiver(self, part)

    def archives(self, *starts: int) -> None:
        """An archive writer that nobody disturbs."""
        assert self.archiver().chooses(*starts).publishes()

    def _expiry(self, *, dry_run: bool) -> list[str]:
        grace = timedelta(seconds=GRACE)
        return [entry.key for entry in expiry.expire(self.lake, grace=grace, dry_run=dry_run).deleted]

    def may_expire(self, start: int) -> bool:
        """What the real expiry would do now."""
        return self.chain().key(start) in self._expiry(dry_run=True)

    def expires(self, start: int) -> None:
        """Expiry runs, and is killed once it has deleted this object, the first that may go."""
        self.lake.deletes = 1
        with suppress(Killed):
            assert self._expiry(dry_run=False) == [self.chain().key(start)]
        assert self.lake.stat(self.chain().key(start)) is None

    # Readers.

    def visible(self) -> list[tuple[str, int]]:
        """Topic id and offset of every row that a reader sees, raw listed before archives: step by step, and by the raw index."""
        listed = list(files.names(self.lake))
        found = self.read(listed)
        assert found == sorted((topic_id, offset) for topic_id, offset, _ in read_through_index(self.index))
        return found

    def read(self, listed: list[tuple[Chain, int]]) -> list[tuple[str, int]]:
        archive = Parts(self.lake).look()
        covered = archive.coverage()
        keys = [entry.key for entry in self.lake.list("archive")]
        for chain in sorted({chain for chain, _ in listed}):
            links = [files.read_footer(self.lake, chain, start).link for known, start in listed if known == chain]
            keys += [chain.key(link.start) for link in chains.visible(links, covered.get(chain.label, chains.NO_COVERAGE))]
        tables = [pq.ParquetFile(self.lake.path(key)).read(["kafka_topic_id", "kafka_offset"]) for key in keys]
        return sorted((row["kafka_topic_id"], row["kafka_offset"]) for table in tables for row in table.to_pylist())

    def offsets(self) -> list[int]:
        return [offset for _, offset in self.visible()]

    def gaps(self) -> list[tuple[int, int]]:
        found = [files.read_footer(self.lake, chain, start).gap for chain, start in files.names(self.lake)]
        return sorted(gap for gap in found if gap)


@dataclass
class Archiver:
    """An archive writer between its steps."""

    scene: Scene
    part: int | None
    planned: tuple[RawFile, ...] = ()

    def __post_init__(self) -> None:
        self.run = archive.Run(self.scene.lake, RawIndex(self.scene.lake), (), START + timedelta(days=99), timedelta(0), 1 << 30, silent)
        self.due, self.seen = self.run.look()
        if self.part is not None:
            self.seen = dict.fromkeys(self.seen, self.part) or {(TOPIC, START.date()): self.part}

    def chooses(self, *starts: int) -> Archiver:
        """These objects and no others, whatever else it saw."""
        chain = self.scene.chain()
        self.planned = tuple(files.read_footer(self.scene.lake, chain, start) for start in starts)
        entries = [self.scene.lake.stat(raw.key) for raw in self.planned]
        self.planned = tuple(replace(raw, size=entry.size, version=entry.version) for raw, entry in zip(self.planned, entries, strict=True))
        return self

    def publishes(self) -> bool:
        """Reads and PUTs; whether its name was free."""
        return self.run.write(Planned(TOPIC, START.date(), self.planned), self.seen) is not None


class Killed(BaseException):
    """The process is gone."""


class ClockedLake(LocalLake):
    """A store whose clock is the test's, and which lets a process die before its next deletion but so many."""

    deletes = 1 << 30

    def delete(self, key):
        if not self.deletes:
            raise Killed
        self.deletes -= 1
        super().delete(key)

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        super().__init__(root)
        self._clock, self._written = clock, {}

    @contextmanager
    def creating(self, key):
        with super().creating(key) as sink:
            yield sink
        self._written[key] = self.clock()

    def written_at(self, key):
        return self._written.get(key)

    def clock(self):
        return START + timedelta(seconds=self._clock())


def read_through_index(index: RawIndex) -> list[tuple[str, int, str | None]]:
    """Topic id, offset and event id of every row, as the product's readers find them."""
    index.sync()
    listed = index.sources()
    found = []
    for source in listed:
        with sources.opened(index._lake, source) as file:
            for batch in sources.batches(file, source, ["kafka_topic_id", "kafka_offset", "event_id"]):
                found += [(row["kafka_topic_id"], row["kafka_offset"], row["event_id"]) for row in batch.to_pylist()]
    sources.require_same(index._lake, sources.entries(listed))
    return found


@dataclass
class Writer:
    """A shell of the protocol whose every step is asked for."""

    scene: Scene
    protocol: Protocol = field(default_factory=lambda: Protocol(GRACE))
    state: State | None = field(default_factory=Looking)
    buffer: list[rows.Record] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    @property
    def performer(self) -> Performer:
        """One that remembers nothing of earlier steps."""
        return Performer(self.scene.log, self.scene.lake, lambda: self.scene.now)

    def tell(self, event) -> None:
        step = self.protocol.advance(self.state, event)
        self.state = step.state
        self.dropped += [step.dropped] if step.dropped else []
        held = holds(step.state)
        self.buffer = [record for record in self.buffer if held and held.start <= record.offset < held.end]

    def step(self) -> None:
        """The one thing that the state wants."""
        match self.protocol.wants(self.state):
            case protocol.AskTopic():
                self.tell(self.performer.ask_topic(TOPIC))
            case protocol.ListRaw(topic_id):
                self.tell(self.performer.list_raw(TOPIC, 0, topic_id))
            case protocol.ListArchive(topic_id):
                self.tell(self.performer.list_archive(TOPIC, 0, topic_id))
            case protocol.AskLog():
                self.tell(self.performer.ask_log(TOPIC, 0))
            case Put() as claim:
                batch = None if claim.gap else self._batch(claim)
                self.tell(self.performer.put(TOPIC, 0, claim, batch)[0])

    def _batch(self, claim: Put) -> rows.Batch:
        return rows.build(rows.Coordinates(TOPIC, claim.topic_id, 0), self.buffer, WINDOW, 60)

    def look(self) -> Writer:
        """Steps until there is something to read, or a gap to claim."""
        while not isinstance(self.state, Reading | Closing):
            self.step()
        return self

    def read(self, *offsets: int) -> Writer:
        """Fetches exactly these offsets; what the log no longer has is told as out of range."""
        for offset in offsets:
            if self.state.end < self.scene.log.low:
                self.tell(OutOfRange())
                return self
            hour = self.scene.log.hours[offset]
            self.buffer.append(rows.Record(offset, START + timedelta(hours=hour), None, b"{}"))
            self.tell(Took(offset + 1))
        return self

    def close(self) -> Writer:
        """Closes its buffer and asks for the topic's id: the PUT is next."""
        if isinstance(self.state, Reading):
            self.tell(Close("age"))
        while isinstance(self.state, Closing):
            self.step()
        return self

    def put(self) -> Writer:
        """The PUT and what it takes to know how to go on."""
        while isinstance(self.state, Claiming | Confirming):
            self.step()
        return self

    def write(self) -> Writer:
        return self.close().put()

    def finish(self) -> Writer:
        """Goes on alone to the log's end."""
        for _ in range(100):
            self.look()
            if isinstance(self.state, Closing):
                self.write()
                continue
            left = [offset for offset in self.scene.log.hours if offset >= self.state.end]
            if not left and not self.buffer:
                return self
            self.read(*left).write()
        raise AssertionError(self)
