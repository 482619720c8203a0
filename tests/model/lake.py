"""What the modelled processes share: the log of one partition, the lake, and what can be derived from both.

The questions "where does the chain go on" and "what do readers see" are answered by the product's own `raw.chain`; a
`Rules` value says which answer is asked, so that a planted bug is another `Rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from engagement.ingest.protocol import Protocol
from engagement.raw import chain
from engagement.raw.chain import Coverage, Link

WIDTH = 8
"""Bits a topic has in a mask of rows: offset 2 of the second topic is bit 10."""


class Obj(NamedTuple):
    """A raw object, or its copy inside an archive part."""

    topic: int
    start: int
    end: int
    rows: int
    """Mask of the records in it, whatever their topic really was."""
    gap: bool = False
    personal: int = 0
    """Mask of the rows in which the user who asked to be forgotten can still be read."""
    begun: int = 0
    """Length of the erasure list when the reading of its records began."""

    def __str__(self) -> str:
        rows = ",".join(str(bit % WIDTH) + "'" * (bit // WIDTH) for bit in bits(self.rows)) or "gap"
        return f"{self.start}{chr(39) * self.topic}=[{self.start},{self.end}) {{{rows}}}"


class Part(NamedTuple):
    """An archive part: whole raw objects of one day. `age` in ticks, no older than the grace."""

    day: int
    number: int
    objects: tuple[Obj, ...]
    age: int = 0
    begun: int = 0
    """Length of the erasure list that its writer had read."""


class Shared(NamedTuple):
    """Everything outside the processes. The log of `topic` holds [low, high) without the `dead` offsets."""

    topic: int
    low: int
    high: int
    dead: int
    raw: tuple[Obj, ...] = ()
    parts: tuple[Part, ...] = ()
    under_way: tuple[Obj, ...] = ()
    """PUTs whose client has given up; they may still arrive."""
    beside: tuple[Obj, ...] = ()
    """Gap records that are no claims: only a planted bug writes them."""
    retired: int = 0
    """Mask of rows that the archive's own retention deleted on purpose."""
    listed: int = 0
    """Length of the erasure list: 1 once the user asked."""
    forgotten: bool = False
    """`forget` has ended."""


def bits(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def bit(topic: int, offset: int) -> int:
    return 1 << topic * WIDTH + offset


def span(topic: int, start: int, end: int) -> int:
    """Mask of the offsets [start, end)."""
    return ((1 << max(end - start, 0)) - 1) << topic * WIDTH + start


@dataclass(frozen=True)
class Size:
    """The bounds of one searched world."""

    offsets: tuple[int, ...] = (3,)
    """Records a topic has; a second number lets the topic be deleted and created again with that many."""
    appended: int = 0
    """How many records of the first topic are produced only while the search runs."""
    holes: int = 0
    """Mask of offsets that never appear."""
    compacted: int = 0
    """Mask of offsets that may vanish from the log at any time."""
    hours: tuple[int, ...] = (0,) * WIDTH
    """Log-append hour of each offset; an archive part holds one hour here."""
    retention: bool = True
    writers: int = 2
    faults: bool = True
    """Unknown outcomes, failing calls, lost partitions and crashes; stalls need no switch."""
    one_look: bool = False
    """A writer's look (topic id, raw, archives, log) is one move: smaller, for worlds where it is not in question."""
    late_puts: int = 0
    archivers: int = 0
    expirers: int = 0
    readers: int = 0
    parts: int = 2
    grace: int = 2
    """Ticks an archived raw object stays at least; half of it is the writers' limit."""
    already: tuple[int, ...] = ()
    """Ends of raw objects that are there at the beginning, all of them in one part whose grace is over."""
    personal: int = 0
    """Mask of the records of the user who asks to be forgotten; 0 for no erasure."""


def greatest_start(links: Iterable[Obj]) -> Obj | None:
    return max(links, key=lambda link: link.start, default=None)


def by_claim(found: Obj, _hour: int) -> tuple:
    return (found.topic, found.start)


def whole_ranges(parts: Iterable[Part], topic: int) -> Coverage:
    return Coverage.of(Link(held.start, held.end) for part in parts for held in part.objects if held.topic == topic)


def start_uncovered(found: Obj, covered: Coverage) -> bool:
    return bool(chain.visible([Link(found.start, found.end)], covered))


@dataclass(frozen=True)
class Rules:
    """R2, R3 and R5 as the model asks them; the defaults are the product's."""

    protocol: Protocol = field(default_factory=lambda: Protocol(grace_seconds=2.0))
    key: Callable[[Obj, int], tuple] = by_claim
    last: Callable[[Iterable[Obj]], Obj | None] = greatest_start
    coverage: Callable[[Iterable[Part], int], Coverage] = whole_ranges
    seen: Callable[[Obj, Coverage], bool] = start_uncovered
    archive: str = "next number, only if absent"
    expiry: str = "start covered for a grace"
    raw_first: bool = True
    pinned: bool = True
    """A reader or archive writer reads the very version that it listed, or lists again."""
    clock_stops: bool = False
    """A stalled writer's clock stands still."""
    retires: str = ""
    """What the archive's retention deletes of an old part: nothing, its "rows", or the "part" with all that it covers."""
    torn_listing: bool = False
    """A listing takes time: of what comes or goes meanwhile it shows any half."""
    asks_while_reading: bool = True
    """A writer asks for the topic's id now and then, also when nothing comes."""
    erasure: str = "fence, then wait"
    progress: bool = True
    """Whether it is also asked that somebody can go on; planted bugs that double rows often stop somebody first."""


class Lake:
    """Answers about a `Shared`, remembered."""

    def __init__(self, size: Size, rules: Rules) -> None:
        self.size, self.rules = size, rules
        self._covered: dict[tuple[tuple[Part, ...], int], Coverage] = {}

    def first(self) -> Shared:
        raw = tuple(Obj(0, start, end, span(0, start, end)) for start, end in pairwise((0, *self.size.already)))
        parts = (Part(0, 0, raw, self.size.grace),) if raw else ()
        return Shared(0, 0, self.size.offsets[0] - self.size.appended, self.size.holes, raw, parts)

    def key(self, found: Obj) -> tuple:
        return self.rules.key(found, self.hour(found))

    def hour(self, found: Obj) -> int:
        """Hour of the first record; a gap has the hour of the first offset that it claims."""
        first = bits(found.rows)[0] % WIDTH if found.rows else found.start
        return self.size.hours[first]

    def covered(self, shared: Shared, topic: int) -> Coverage:
        key = (shared.parts, topic)
        if key not in self._covered:
            self._covered[key] = self.rules.coverage(shared.parts, topic)
        return self._covered[key]

    def last(self, shared: Shared, topic: int) -> Link | None:
        found = self.rules.last(claim for claim in shared.raw if claim.topic == topic)
        return found and Link(found.start, found.end)

    def resume(self, shared: Shared, topic: int) -> int:
        return chain.resume(self.last(shared, topic), self.covered(shared, topic))

    def free(self, shared: Shared, found: Obj) -> bool:
        key = self.key(found)
        return all(self.key(other) != key for other in shared.raw)

    def uncovered(self, shared: Shared, raw: Iterable[Obj] | None = None) -> list[Obj]:
        """The raw objects that readers see."""
        return [one for one in (shared.raw if raw is None else raw) if self.rules.seen(one, self.covered(shared, one.topic))]

    def objects(self, shared: Shared) -> list[Obj]:
        """What one reader sees who lists everything at one moment."""
        return self.uncovered(shared) + [held for part in shared.parts for held in part.objects]

    def available(self, shared: Shared) -> int:
        """Mask of what the present log can still give."""
        return span(shared.topic, shared.low, shared.high) & ~shared.dead


def union(objects: Iterable[Obj]) -> tuple[int, int]:
    """The rows of all, and those that are there twice."""
    once = twice = 0
    for held in objects:
        twice |= once & held.rows
        once |= held.rows
    return once, twice


def with_raw(shared: Shared, found: Obj) -> Shared:
    return shared._replace(raw=tuple(sorted((*shared.raw, found))))


def without_raw(shared: Shared, found: Obj) -> Shared:
    return shared._replace(raw=tuple(other for other in shared.raw if other != found))
