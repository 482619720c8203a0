"""A writer: the product's own state machine, its buffer, and everything that can happen between two of its steps.

Stalls need no move: any other process may go on between any two moves. Waiting times after trouble are left out (a
writer may try again at once); readings of the clock are kept relative to now and no longer than the machine looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from engagement.ingest import protocol as machine
from engagement.ingest.protocol import (
    ArchiveListed,
    AskLog,
    AskTopic,
    Claiming,
    Close,
    Closing,
    Confirming,
    Event,
    Identified,
    ListArchive,
    Listed,
    ListRaw,
    Located,
    LogIs,
    Looking,
    Lost,
    OutOfRange,
    Put,
    RawListed,
    Reading,
    State,
    Taken,
    Took,
    TopicIs,
    Trouble,
    Written,
)
from engagement.raw.chain import AheadOfLog, Link
from model.lake import WIDTH, Lake, Obj, Shared, bit, bits, span, with_raw

NOW = 0.0


class Writer(NamedTuple):
    """`state` None: the partition is not ours. `list_read`: length of the erasure list its rows are built under."""

    state: State | None = None
    rows: int = 0
    list_read: int | None = None
    listing: tuple[Obj, ...] | None = None
    """What was there when a listing that is torn began."""


Moved = tuple[str, Writer, Shared]


def topic_id(topic: int) -> str:
    return f"{topic:032x}"


def topic_of(text: str) -> int:
    return int(text, 16)


class Writers:
    """The moves of one writer; the first one listed is what happens when nothing goes wrong."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.protocol, self.size, self.rules = lake, lake.rules.protocol, lake.size, lake.rules
        self.oldest = -self.protocol.grace_seconds / 2

    def first(self) -> Writer:
        return Writer(Looking())

    def older(self, writer: Writer) -> Writer:
        """One tick later."""
        return writer if self.rules.clock_stops else writer._replace(state=self._normal(writer.state, 1.0))

    def moves(self, writer: Writer, shared: Shared) -> Iterator[Moved]:
        if writer.state is None:
            yield "is assigned the partition", self.first(), shared
            return
        match self.protocol.wants(writer.state):
            case AskTopic() if self.size.one_look and isinstance(writer.state, Looking):
                yield self._looks(writer, shared)
            case AskTopic():
                yield self._told(writer, shared, "asks for the topic's id", TopicIs(topic_id(shared.topic), NOW))
            case ListRaw(name):
                yield from self._lists(writer, shared, topic_of(name))
            case ListArchive(name):
                covered = self.lake.covered(shared, topic_of(name))
                ranges = " ".join(map(_shown, covered.ranges)) or "nothing"
                yield self._told(writer, shared, f"lists archives: {ranges} covered", ArchiveListed(covered))
            case AskLog():
                yield self._asks_log(writer, shared)
            case Put() as put:
                yield from self._puts(writer, shared, put)
            case None:
                yield from self._reads(writer, shared)
        if self.size.faults:
            yield from self._faults(writer, shared)

    def _faults(self, writer: Writer, shared: Shared) -> Iterator[Moved]:
        yield "crashes and starts again", self.first(), shared
        yield self._told(writer, shared, "loses the partition", Lost())
        if not isinstance(writer.state, Reading):
            yield self._told(writer, shared, "is revoked and leaves", Close("revoked", leave=True))
            yield self._told(writer, shared, "meets trouble", Trouble("broker_away", NOW))

    def _lists(self, writer: Writer, shared: Shared, topic: int) -> Iterator[Moved]:
        if self.rules.torn_listing and writer.listing is None:
            yield "begins to list raw", writer._replace(listing=shared.raw), shared
            return
        stayed = set(shared.raw) & set(shared.raw if writer.listing is None else writer.listing)
        last = self.lake.last(shared._replace(raw=tuple(stayed)), topic)
        passing = {Link(one.start, one.end) for one in {*shared.raw, *(writer.listing or ())} - stayed if one.topic == topic}
        for found in (last, *sorted(one for one in passing if last is None or one.start > last.start)):
            yield self._told(writer, shared, f"lists raw: last is {_shown(found)}", RawListed(found))

    def _looks(self, writer: Writer, shared: Shared) -> Moved:
        """The four steps of a look at one moment."""
        covered = self.lake.covered(shared, shared.topic)
        for event in (TopicIs(topic_id(shared.topic), NOW), RawListed(self.lake.last(shared, shared.topic)), ArchiveListed(covered)):
            _, writer, shared = self._told(writer, shared, "", event)
        return "looks: " + (found := self._asks_log(writer, shared))[0], *found[1:]

    def _asks_log(self, writer: Writer, shared: Shared) -> Moved:
        told = f"asks the log: [{shared.low},{shared.high})"
        try:
            return self._told(writer, shared, told, LogIs(shared.low, shared.high))
        except AheadOfLog:
            return self._told(writer, shared, f"{told}, which is behind the lake", Trouble("ahead_of_log", NOW))

    def _reads(self, writer: Writer, shared: Shared) -> Iterator[Moved]:
        state = writer.state
        assert isinstance(state, Reading)
        left = bits(self.lake.available(shared) & ~span(shared.topic, 0, state.end))
        if not shared.low <= state.end <= shared.high:
            yield self._told(writer, shared, f"is told that offset {state.end} is out of range", OutOfRange())
        elif left:
            offset = left[0] % WIDTH
            read = writer._replace(rows=writer.rows | bit(shared.topic, offset))
            yield self._told(read, shared, f"reads offset {offset}{chr(39) * shared.topic}", Took(offset + 1))
        elif state.end < shared.high:
            yield self._told(writer, shared, f"meets the log's end at {shared.high}", Took(shared.high))
        if state.end > state.start:
            yield self._told(writer, shared, "closes its buffer", Close("age"))
        if self.rules.asks_while_reading:
            yield self._told(writer, shared, "asks for the topic's id while it reads", TopicIs(topic_id(shared.topic), NOW))
        if self.size.faults:
            yield self._told(writer, shared, "is revoked", Close("revoked", leave=True))

    def _puts(self, writer: Writer, shared: Shared, put: Put) -> Iterator[Moved]:
        if self.size.personal and writer.list_read is None:
            yield f"builds its rows under an erasure list of {shared.listed}", writer._replace(list_read=shared.listed), shared
            return
        rows = 0 if put.gap else writer.rows
        personal = rows & self.size.personal if not writer.list_read else 0
        claim = Obj(topic_of(put.topic_id), put.start, put.end, rows, put.gap, personal, writer.list_read or 0)
        unknown = Trouble("unknown_outcome", NOW)
        if self.lake.free(shared, claim):
            after = with_raw(shared, claim)
            yield self._told(writer, after, f"PUTs {claim}", Written(NOW, NOW))
            if self.size.faults:
                yield self._told(writer, after, f"PUTs {claim}, the answer is lost", unknown)
            if len(shared.under_way) < self.size.late_puts:
                late = shared._replace(under_way=tuple(sorted((*shared.under_way, claim))))
                yield self._told(writer, late, f"gives up its PUT of {claim}, which is still under way", unknown)
        else:
            yield self._told(writer, shared, f"PUTs {claim}: exists already", Taken())

    def _told(self, writer: Writer, shared: Shared, what: str, event: Event) -> Moved:
        """The machine takes the event; the shell keeps the records that the new state holds and no others."""
        old = writer.state
        assert old is not None
        state = self._normal(self.protocol.advance(old, event).state)
        if isinstance(old, Located) and isinstance(state, Reading) and state.start > old.offset >= 0:
            beside = Obj(topic_of(old.topic_id), old.offset, state.start, 0, gap=True)
            shared = shared._replace(beside=tuple(sorted({*shared.beside, beside})))
        held = machine.holds(state)
        kept = 0 if held is None else span(0, held.start, held.end) | span(1, held.start, held.end)
        return what, Writer(state, writer.rows & kept, writer.list_read if isinstance(state, Claiming) else None), shared

    def _normal(self, state: State | None, later: float = 0.0) -> State | None:  # noqa: PLR0911 - one line a state
        """The state with its clock readings `later` seconds further back, no more than matter."""
        match state:
            case Looking():
                return replace(state, not_before=0.0, delay=0.0)
            case Identified() | Listed() | Located():
                return replace(state, at=max(state.at - later, self.oldest), delay=0.0)
            case Reading():
                return replace(state, known_at=max(state.known_at - later, self.oldest), delay=0.0)
            case Closing(reading):
                return replace(state, reading=self._normal(reading, later), why="")
            case Claiming(closing):
                return replace(state, closing=self._normal(closing, later))
            case Confirming(closing, issued_at):
                return replace(state, closing=self._normal(closing, later), issued_at=max(issued_at - later, self.oldest))
        return None


def _shown(link: Link | None) -> str:
    return "none" if link is None else f"[{link.start},{link.end})"
